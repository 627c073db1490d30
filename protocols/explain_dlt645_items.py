"""The data items of DL/T 645 in words, for people (spec field_protocols.md A4, A6)."""

from __future__ import annotations

import re
from collections.abc import Callable

from protocols.explain_write import shown_hex
from protocols.numbers import bcd_digits

NO_VALUE = "no value"


def in_order(raw: bytes) -> bytes:
    """Bytes of the wire, which has the lowest first, highest first as people write them."""
    return raw[::-1]


def say_item(item: str, raw: bytes) -> str:
    """What a data item's bytes mean; in hex where it is not known. Never raises."""
    for pattern, say in _ITEMS:
        if re.fullmatch(pattern, item):
            return say(raw)
    return shown_hex(raw)


def say_dial(ordered: bytes, letters: str) -> str:
    """A time in BCD; `letters` says what each byte is, out of Y M D W h m s."""
    digits = bcd_digits(ordered)
    if digits is None or len(ordered) != len(letters):
        return NO_VALUE
    part = {letter: digits[2 * n : 2 * n + 2] for n, letter in enumerate(letters)}
    date = "-".join(f"20{part[x]}" if x == "Y" else part[x] for x in "YMD" if x in part)
    time = ":".join(part[x] for x in "hms" if x in part)
    return " ".join(text for text in (date, time) if text)


def _scaled(size: int, digits: int, unit: str, *, signed: bool = False) -> Callable[[bytes], str]:
    """One number or a block of them, `size` bytes each, with its point `digits` from the right."""

    def one(raw: bytes) -> str:
        ordered = in_order(raw)
        negative = signed and bool(ordered[0] & 0x80)
        if negative:
            ordered = bytes((ordered[0] & 0x7F,)) + ordered[1:]
        text = bcd_digits(ordered)
        if text is None:
            return NO_VALUE
        whole, rest = (text[:-digits], text[-digits:]) if digits else (text, "")
        number = (whole.lstrip("0") or "0") + (f".{rest}" if rest else "")
        return f"{'-' if negative else ''}{number}"

    def say(raw: bytes) -> str:
        if not raw or len(raw) % size:
            return shown_hex(raw)
        numbers = [one(raw[at : at + size]) for at in range(0, len(raw), size)]
        known = any(number != NO_VALUE for number in numbers)
        return " / ".join(numbers) + (f" {unit}" if unit and known else "")

    return say


def _titled(title: str, say: Callable[[bytes], str]) -> Callable[[bytes], str]:
    return lambda raw: f"{title} {say(raw)}"


def _demand(raw: bytes) -> str:
    if len(raw) != 8:
        return shown_hex(raw)
    return f"demand {_scaled(3, 4, 'kW')(raw[:3])} at {say_dial(in_order(raw[3:]), 'YMDhm')}"


def _dial(letters: str) -> Callable[[bytes], str]:
    return lambda raw: f"dial {say_dial(in_order(raw), letters)}"


def _digits(raw: bytes) -> str:
    return f"number {bcd_digits(in_order(raw)) or NO_VALUE}"


def _text(raw: bytes) -> str:
    text = in_order(raw).decode("ascii", "replace").rstrip("\0 ")
    return text if text.isprintable() else shown_hex(raw)


# Bits of status word 3 a technician looks for; the relay and its order are said either way.
_STATUS_3 = (
    (7, "warned before a trip"),
    (12, "supply protection"),
    (13, "session"),
    (15, "no account opened"),
)


def _status_3(raw: bytes) -> str:
    if len(raw) != 2:
        return shown_hex(raw)
    bits = int.from_bytes(raw, "little")
    relay = "open" if bits >> 4 & 1 else "closed"
    order = "trip" if bits >> 6 & 1 else "close"
    names = [name for bit, name in _STATUS_3 if bits >> bit & 1]
    return ", ".join((f"relay {relay}", f"ordered to {order}", *names))


# The first pattern that fits. Energies keep their blocks: total first, then each rate.
_ITEMS: tuple[tuple[str, Callable[[bytes], str]], ...] = (
    (r"0000.{4}", _titled("combined energy", _scaled(4, 2, "kWh", signed=True))),
    (r"0001.{4}|901[0-9A-F]", _titled("forward energy", _scaled(4, 2, "kWh"))),
    (r"0002.{4}|902[0-9A-F]", _titled("reverse energy", _scaled(4, 2, "kWh"))),
    (r"0003.{4}|0004.{4}", _titled("reactive energy", _scaled(4, 2, "kvarh", signed=True))),
    (r"000[5-8].{4}", _titled("reactive energy", _scaled(4, 2, "kvarh"))),
    (r"00900100", _titled("remaining energy", _scaled(4, 2, "kWh"))),
    (r"00900101", _titled("overdraft", _scaled(4, 2, "kWh"))),
    (r"00900200", _titled("credit", _scaled(4, 2, "yuan"))),
    (r"00900201", _titled("overdraft", _scaled(4, 2, "yuan"))),
    (r"010[12].{4}", _demand),
    (r"0201..00", _scaled(2, 1, "V")),
    (r"0202..00", _scaled(3, 3, "A", signed=True)),
    (r"0203..00", _scaled(3, 4, "kW", signed=True)),
    (r"0204..00", _scaled(3, 4, "kvar", signed=True)),
    (r"0205..00", _scaled(3, 4, "kVA", signed=True)),
    (r"0206..00", _titled("power factor", _scaled(2, 3, "", signed=True))),
    (r"0207..00", _titled("phase angle", _scaled(2, 1, "degrees"))),
    (r"02800002", _scaled(2, 2, "Hz")),
    (r"0330..00", _titled("count", _scaled(3, 0, ""))),
    (r"1[DE]000001", _titled("count", _scaled(3, 0, ""))),
    (r"033[23]01..", _dial("YMDhm")),
    (r"033[23]02..", _titled("purchase count", _scaled(2, 0, ""))),
    (r"03330[3-6]..", _titled("purchase record", _scaled(4, 2, "yuan"))),
    (r"03320[3-6]..", _titled("purchase record", _scaled(4, 2, "kWh"))),
    (r"04000101", _dial("YMDW")),
    (r"04000102", _dial("hms")),
    (r"0400010C", _dial("YMDWhms")),
    (r"04000401|04000402|0400040E", _digits),
    (r"0400040[3-8]", _text),
    (r"04000503", _status_3),
    (r"05..00..", _dial("YMDhm")),
    (r"05(?!08)..01..", _titled("frozen forward energy", _scaled(4, 2, "kWh"))),
    (r"05(?!08)..02..", _titled("frozen reverse energy", _scaled(4, 2, "kWh"))),
    (r"B61[1-3]", _scaled(2, 0, "V")),
    (r"B62[1-3]", _scaled(2, 2, "A")),
    (r"B63[0-3]", _scaled(3, 4, "kW")),
)
