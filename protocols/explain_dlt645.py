"""One line of meaning for a DL/T 645 frame, for `headend trace` (spec field_protocols.md A).

A 645 frame names its meter, its direction and, except where it is refused or only accepted, its
data item: so it is read without the request. Passwords, ciphertexts and MACs are left out.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.dlt645 import (
    ABNORMAL,
    ALL_METERS,
    BROADCAST_TIME,
    FROM_METER,
    FUNCTION,
    MORE,
    READ_ADDRESS,
    READ_NEXT,
    SECURITY,
    START,
    SWITCH,
    WRITE,
    take_frame,
)
from protocols.explain_dlt645_items import in_order, say_dial, say_item
from protocols.explain_write import shown_hex, shown_yuan

DI_BYTES = {0x01: 2, 0x02: 2, 0x04: 2, 0x03: 4, 0x11: 4, 0x12: 4, 0x14: 4}  # 1997: two bytes
PASSWORDS = "04000C"  # data items that hold one
AUTHORITY_BYTES = 8  # password with its level, operator code

FUNCTIONS = {
    0x01: "read (1997)",
    0x02: "read the next part (1997)",
    0x03: "security",
    0x04: "write (1997)",
    0x08: "broadcast time",
    0x11: "read",
    0x12: "read the next part",
    0x13: "read address",
    0x14: "write",
    0x15: "write address",
    0x16: "freeze",
    0x17: "change baud rate",
    0x18: "change password",
    0x19: "clear demand",
    0x1A: "clear meter",
    0x1B: "clear events",
    0x1C: "switch",
    0x1D: "change output",
}
# Bits of the error byte (spec A2).
ERRORS = (
    "other error",
    "no such data",
    "wrong password or no right",
    "baud rate cannot change",
    "too many year zones",
    "too many day slots",
    "too many tariffs",
)
# Bits of the security error word (spec A5).
SECURITY_ERRORS = (
    "other error",
    "repeated top-up",
    "security check failed",
    "no security session",
    "another customer number",
    "purchase count out of step",
    "over the hoarding limit",
    "flash address",
    "suspended",
)
# Bits of the two-byte refusal of a switch order (spec A3).
SWITCH_ERRORS = (
    "suspended",
    "wrong MAC",
    "wrong password",
    "no security session",
    "expired by the meter's clock",
    "supply protection",
    "recovery failed",
    "recovery failed",
    "recovery failed",
)
SWITCHES = {
    0x1A: "trip",
    0x1B: "allow closing",
    0x1C: "close",
    0x1D: "trip, close again by itself",
    0x1E: "trip, allow closing again by itself",
    0x2A: "alarm on",
    0x2B: "alarm off",
    0x3A: "supply protection on",
    0x3B: "supply protection off",
}
CIPHERED = 0x98  # level of a switch order that is ciphertext


def explain_dlt645(frame: bytes) -> str | None:
    """What a 645 frame says; None for bytes that are none. Never raises."""
    body = frame.lstrip(b"\xfe")
    found, after = take_frame(body)
    if found is None or after or body[0] != START:
        return None
    if not found.control & FROM_METER:
        return _request(found.address, found.function, found.data)
    if found.control & ABNORMAL:
        return _refusal(found.address, found.function, found.data)
    return _answer(found.address, found.control, found.data)


def _name(function: int) -> str:
    return FUNCTIONS.get(function, f"function {function:02X}H")


def _split(function: int, data: bytes) -> tuple[str, bytes]:
    """The data item a frame names, as people write it, and what follows; "" where it names none."""
    size = DI_BYTES.get(function, 0)
    if not size or len(data) < size:
        return "", data
    return in_order(data[:size]).hex().upper(), data[size:]


def _request(address: str, function: int, data: bytes) -> str:
    item, rest = _split(function, data)
    name = _name(function)
    whom = "all meters" if address == ALL_METERS else address
    if function == SECURITY and item:
        said = _say_security(item, rest, asked=True)
    elif function == WRITE and item and len(rest) >= AUTHORITY_BYTES:
        value = "" if item.startswith(PASSWORDS) else f" {say_item(item, rest[AUTHORITY_BYTES:])}"
        said = f"write {item}, level {rest[0]:02X}:{value or ' a password'}"
    elif function == SWITCH and len(data) > AUTHORITY_BYTES:
        said = _say_switch(data)
    elif function == BROADCAST_TIME:
        said = f"{name} {say_dial(in_order(data), 'YMDhms')}"
    elif function == READ_NEXT and item and len(rest) == 1:
        said = f"read {item}, part {rest[0] + 1}"
    else:
        shown = shown_hex(rest) if rest and function not in _SECRET else ""
        said = " ".join(part for part in (name, item, shown) if part)
    return f"to {whom}: {said}"


# Their data hold a password: never shown.
_SECRET = frozenset((0x04, 0x0F, 0x14, 0x18, 0x19, 0x1A, 0x1B, 0x1C))


def _answer(address: str, control: int, data: bytes) -> str:
    function = control & FUNCTION
    item, rest = _split(function, data)
    if function == SECURITY and item:
        said = f"answers {_say_security(item, rest, asked=False)}"
    elif function == READ_ADDRESS and len(data) == 6:
        said = f"is here: {in_order(data).hex().upper()}"
    elif function == SWITCH and not data:
        said = "accepts the order to switch, which proves nothing"
    elif item:
        said = f"answers {item}{_say_value(control, item, rest)}"
    else:
        said = f"answers {_name(function)}: {shown_hex(data) if data else 'done'}"
    return f"{address} {said}{', more follows' if control & MORE else ''}"


def _say_value(control: int, item: str, rest: bytes) -> str:
    """What follows the data item; a part of a longer answer is not taken for a whole one."""
    if item.startswith(PASSWORDS):
        return ": a password"
    if control & FUNCTION == READ_NEXT and rest:
        return f", part {rest[-1] + 1}: {shown_hex(rest[:-1])}"
    return f", {shown_hex(rest) if control & MORE else say_item(item, rest)}"


def _refusal(address: str, function: int, data: bytes) -> str:
    bits = int.from_bytes(data[:2], "little")
    known: tuple[str, ...] = ERRORS
    if function == SECURITY and len(data) == 2:
        known = SECURITY_ERRORS
    elif function == SWITCH and len(data) == 2:
        known = SWITCH_ERRORS
    names = [name for bit, name in enumerate(known) if bits >> bit & 1]
    why = " + ".join(dict.fromkeys(names)) or "unknown reason"
    code = in_order(data[:2]).hex().upper() or "none"
    return f"{address} refuses {_name(function)}: code {code}, {why}"


def _say_switch(data: bytes) -> str:
    level, order = data[0], data[AUTHORITY_BYTES:]
    if level == CIPHERED or len(order) != 8:
        return f"switch, level {level:02X}, enciphered ({len(order)} bytes)"
    what = SWITCHES.get(order[0], f"order {order[0]:02X}H")
    until = say_dial(in_order(order[2:]), "YMDhms")
    return f"switch {what}, level {level:02X}, valid until {until}"


def _say_security(item: str, rest: bytes, *, asked: bool) -> str:
    """A frame of the prepaid extension. Its money and counts are binary, lowest byte first."""
    name, size_asked, size_answered, say = _SECURITY.get(item, ("", -1, -1, None))
    title = f"{item}, {name}" if name else f"security {item}"
    if asked:
        rest = rest[4:]  # the operator code
    if say is None or len(rest) != (size_asked if asked else size_answered):
        return title  # the rest is MACs and ciphertext, or a dialect of a maker
    return f"{title}: {say(rest)}"


def _purchase(rest: bytes) -> str:
    amount, count = _binary(rest[:4]), _binary(rest[4:8])
    customer = in_order(rest[12:18]).hex().upper()
    return f"{shown_yuan(amount)} under count {count}, customer {customer}"


def _status(rest: bytes) -> str:
    credit, count = _binary(rest[:4]), _binary(rest[8:12])
    customer = in_order(rest[16:22]).hex().upper()
    return f"credit {shown_yuan(credit)}, purchase count {count}, customer {customer}"


def _session_end(rest: bytes) -> str:
    credit, count = _binary(rest[6:10]), _binary(rest[10:14])
    return f"credit {shown_yuan(credit)}, purchase count {count}"


def _binary(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


# Name, bytes after the operator code of a request, bytes of an answer, and how to say those.
_SECURITY: dict[str, tuple[str, int, int, Callable[[bytes], str] | None]] = {
    "070000FF": ("authenticate", -1, -1, None),
    "070001FF": ("set session minutes", -1, -1, None),
    "070002FF": ("end session", -1, 18, _session_end),
    "070101FF": ("open account", 22, -1, _purchase),
    "070102FF": ("top-up", 22, -1, _purchase),
    "070103FF": ("initialise wallet", -1, -1, None),
    "078001FF": ("read file", -1, -1, None),
    "078102FF": ("prepaid status", -1, 26, _status),
}
