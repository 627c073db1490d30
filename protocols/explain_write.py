"""One line of meaning for a write to an Acrel meter, by register or masked (spec acrel.md 3)."""

from __future__ import annotations

from collections.abc import Callable

from protocols.acrel_adf_driver import NEW_PURCHASE_AT, SWITCH_AT
from protocols.acrel_adf_settings import PRICES_AT
from protocols.acrel_cabinet import CLOCK_AT as ADF_CLOCK_AT
from protocols.acrel_cipher import padded
from protocols.acrel_tables import words_of
from protocols.acrel_write import (
    ALL_CIRCUITS,
    CLOCK_AT,
    FORCED_AT,
    FORCED_BY_PHASE_AT,
    LOAD_CONTROL_AT,
    LOAD_TRIPS_AT,
    MASKED_WRITE,
    PURCHASE_AT,
    REPLY_BYTES,
    SETTINGS_AT,
    TIME_CONTROL_AT,
    failed_boards,
)
from protocols.numbers import dial_time

HEX_BYTES_MAX = 16  # of data nobody can name: enough to compare two frames by eye
HEADER_BYTES = 9  # unit, function, register, count, byte count, checksum
FORCED_BY_PHASE_BYTES = 11  # the maker's tool declares one less
# A purchase and prepaid settings, as they look when they are enciphered.
ENCIPHERED_BYTES = {
    padded(HEADER_BYTES + 8): "purchase",
    padded(HEADER_BYTES + 60): "prepaid settings",
}
FORCED_WORDS: dict[tuple[int, ...], str] = {
    (1, 1): "trip",
    (1, 0): "close",
    (0, 0): "release",
    (0, 1): "release",
}


def explain_write(frame: bytes, request: bytes | None) -> str:
    """What a frame with function 16 or 0x20 says: it asks, or it answers. Never raises."""
    unit, address = frame[0], int.from_bytes(frame[2:4], "big")
    masked = frame[1] == MASKED_WRITE
    name = "masked write" if masked else "write"
    count = int.from_bytes(frame[4:6], "big")
    if len(frame) == 8 and not masked:
        return f"unit {unit} has written {address:#06x}+{count}"
    if masked and request is not None and request != frame and request[:2] == frame[:2]:
        return _masked_answer(frame, request)
    if len(frame) >= HEADER_BYTES and _fits(frame, address, masked):
        data = frame[7:-2]
        known = (_MASKED if masked else _BY_REGISTER).get(address)
        meaning = known(data) if known else ""
        return f"{name} {address:#06x}+{count} of unit {unit}: {meaning or shown_hex(data)}"
    if masked and len(frame) == REPLY_BYTES:
        return f"unit {unit} answers a masked write, which proves nothing: {shown_hex(frame[2:-2])}"
    return f"unit {unit}, {name}, {len(frame)} bytes: {shown_hex(frame[2:-2])}"


def explain_unsealed(size: int) -> str:
    """What a frame without a good checksum may be, by its length."""
    what = ENCIPHERED_BYTES.get(size)
    return f" (as long as an enciphered {what})" if what else ""


def shown_hex(data: bytes) -> str:
    """The first bytes, for comparing two frames by eye."""
    shown = data[:HEX_BYTES_MAX].hex(" ")
    return f"{shown} …" if len(data) > HEX_BYTES_MAX else shown or "empty"


def shown_yuan(fen: int) -> str:
    """An amount with its point, without floats."""
    sign, yuan, rest = "-" if fen < 0 else "", abs(fen) // 100, abs(fen) % 100
    return f"{sign}{yuan}.{rest:02}"


def _fits(frame: bytes, address: int, masked: bool) -> bool:
    if masked and address == FORCED_BY_PHASE_AT:
        return len(frame) == HEADER_BYTES + FORCED_BY_PHASE_BYTES
    return len(frame) == HEADER_BYTES + frame[6]


def _masked_answer(frame: bytes, request: bytes) -> str:
    unit, address = frame[0], int.from_bytes(request[2:4], "big")
    said = f"unit {unit} answers the masked write {address:#06x}"
    if address & 0xFF != ALL_CIRCUITS:
        return f"{said}, which proves nothing: {shown_hex(frame[2:-2])}"
    failed = failed_boards(frame[2:-2])
    boards = ", ".join(map(str, failed)) if failed else "none"
    return f"{said} for all circuits; boards that failed: {boards}"


def _purchase(data: bytes) -> str:
    if len(data) not in (6, 8):
        return ""
    amount, count = _ints(data[:4])[0], int.from_bytes(data[4:6], "big")
    return (
        f"burn of count {count}"
        if not amount
        else f"purchase {shown_yuan(amount)} under count {count}"
    )


def _prices(data: bytes) -> str:
    return f"prices {_amounts(data)}" if len(data) == 16 else ""


def _settings(data: bytes) -> str:
    """The enabled groups of the prepaid settings (spec 3.2)."""
    if len(data) != 60:
        return ""
    said = [say(data[at + 1 : at + 1 + size]) for at, size, say in _GROUPS if data[at]]
    return ", ".join(said) or "nothing enabled"


def _amounts(data: bytes) -> str:
    return "/".join(map(shown_yuan, _ints(data)))


def _ints(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]


_GROUPS: tuple[tuple[int, int, Callable[[bytes], str]], ...] = (
    (0, 1, lambda d: f"prepaid {_on(d[0])}"),
    (2, 4, lambda d: f"credit {shown_yuan(int.from_bytes(d, 'big', signed=True))}"),
    (7, 2, lambda d: f"purchase count {int.from_bytes(d, 'big')}"),
    (10, 4, lambda d: f"total purchased {_amounts(d)}"),
    (15, 4, lambda d: f"base amount {_amounts(d)}"),
    (20, 8, lambda d: f"alarms {_amounts(d)}"),
    (29, 16, lambda d: f"prices {_amounts(d)}"),
    (46, 4, lambda d: f"overdraft {_amounts(d)}"),
    (51, 1, lambda d: f"byte 52 = {d[0]}"),
    (53, 6, lambda d: f"meter number {d.hex()}"),
)


def _on(value: int) -> str:
    return "on" if value else "off"


def _clock(data: bytes) -> str:
    if len(data) < 7:
        return ""
    second, minute, hour, _week, day, month, year = data[:7]
    dial = dial_time(bytes((year, month, day, hour, minute, second)))
    return f"dial {dial:%Y-%m-%d %H:%M:%S}" if dial else ""


def _control(name: str, phase: int) -> Callable[[bytes], str]:
    def say(data: bytes) -> str:
        if len(data) < 2:
            return ""
        return f"{name} of L{phase} {_on(data[1]) if data[0] else 'left as it is'}"

    return say


def _forced_by_phase(data: bytes) -> str:
    return ", ".join(
        f"L{at // 3 + 1} {f'forced to state {data[at + 2]}' if data[at + 1] else 'released'}"
        for at in range(0, 9, 3)
        if data[at]
    )


_MASKED: dict[int, Callable[[bytes], str]] = {
    PURCHASE_AT: _purchase,
    SETTINGS_AT: _settings,
    CLOCK_AT: _clock,
    FORCED_BY_PHASE_AT: _forced_by_phase,
    LOAD_TRIPS_AT: lambda _: "count of load trips",
    **{at: _control("time control", n) for n, at in enumerate(TIME_CONTROL_AT, start=1)},
    **{at: _control("load control", n) for n, at in enumerate(LOAD_CONTROL_AT, start=1)},
}
_BY_REGISTER: dict[int, Callable[[bytes], str]] = {
    FORCED_AT: lambda data: FORCED_WORDS.get(words_of(data), "") if len(data) == 4 else "",
    ADF_CLOCK_AT: _clock,
    **dict.fromkeys(NEW_PURCHASE_AT.values(), _purchase),
    **dict.fromkeys((at + PRICES_AT for at in SWITCH_AT.values()), _prices),
}
