"""One line of meaning for a frame, for `headend trace` and its ring of frames.

A frame of DL/T 645 tells what it is. Of a Modbus RTU frame the direction is unknown: the same eight
bytes may ask or answer. Given the request, an answer can be read in full; alone, it says what it
looks like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocols.acrel_adf_maps import PURCHASE, SINGLE_PHASE, THREE_PHASE
from protocols.acrel_blocks import (
    LIVE_AT,
    LIVE_WORDS_4_RATES,
    LIVE_WORDS_8_RATES,
    PREPAID_AT,
    PREPAID_WORDS,
    decode_live,
    decode_prepaid,
    sane,
)
from protocols.acrel_driver import TYPE_NAMES
from protocols.acrel_write import MASKED_WRITE
from protocols.exchange import ProtocolError
from protocols.explain_dlt645 import explain_dlt645
from protocols.explain_write import explain_unsealed, explain_write, shown_hex
from protocols.modbus import READ_HOLDING, READ_INPUT, WRITE_REGISTERS, crc_ok
from protocols.reading import Alarm, Control, Quantity, Values, meter_dial
from protocols.registers import Register, decode_registers

Q = Quantity

REFUSALS = {
    1: "no such function",
    2: "no such address",
    3: "no such count or value",
    4: "device failure",
    5: "accepted, still working",
    6: "busy",
    7: "cannot",
    8: "memory error",
    10: "gateway has no path",
    11: "gateway gets no answer",
}
READS = (READ_HOLDING, READ_INPUT)


@dataclass(frozen=True, slots=True)
class _Read:
    """A read request taken apart."""

    unit: int
    function: int
    address: int
    count: int


def explain(frame: bytes, request: bytes | None = None) -> str:
    """What a frame says. `request` is the last frame sent on its line, if known. Never raises."""
    if len(frame) < 4:
        return f"{len(frame)} bytes, too short for a frame: {shown_hex(frame)}"
    if (said := explain_dlt645(frame)) is not None:
        return said
    if not crc_ok(frame):
        maybe = explain_unsealed(len(frame))
        return f"{len(frame)} bytes without a good checksum{maybe}: {shown_hex(frame)}"
    asked = _as_read(request)
    if asked is not None and request != frame and frame[:2] == bytes((asked.unit, asked.function)):
        return _read_answer(frame, asked)
    return _alone(frame, request)


def _alone(frame: bytes, request: bytes | None) -> str:
    """A frame with a good checksum that is no answer to a read."""
    unit, function = frame[0], frame[1]
    if function & 0x80 and len(frame) == 5:
        why = REFUSALS.get(frame[2], "unknown")
        return f"unit {unit} refuses function {function & 0x7F:#04x}: code {frame[2]}, {why}"
    if (read := _as_read(frame)) is not None:
        return f"read {read.address:#06x}+{read.count} of unit {unit}"
    if function in READS and len(frame) == frame[2] + 5:
        return _read_answer(frame, None)
    if function in (WRITE_REGISTERS, MASKED_WRITE):
        return explain_write(frame, request)
    return f"unit {unit}, function {function:#04x}, {len(frame)} bytes: {shown_hex(frame[2:-2])}"


def _as_read(frame: bytes | None) -> _Read | None:
    """A frame as a read request, if it is one."""
    if frame is None or len(frame) != 8 or frame[1] not in READS or not crc_ok(frame):
        return None
    count = int.from_bytes(frame[4:6], "big")
    return _Read(frame[0], frame[1], int.from_bytes(frame[2:4], "big"), count)


def _read_answer(frame: bytes, asked: _Read | None) -> str:
    payload = frame[3:-2]
    said = f"answer of unit {frame[0]}: {len(payload)} bytes"
    if len(payload) != frame[2]:
        return f"{said}, but its byte count says {frame[2]}: {shown_hex(payload)}"
    if asked is None:
        return f"{said}: {shown_hex(payload)}"
    if len(payload) != 2 * asked.count:
        return f"{said}, but {2 * asked.count} were asked for: {shown_hex(payload)}"
    known = _KNOWN_BLOCKS.get((asked.address, asked.count))
    try:
        meaning = known(payload) if known else f"from {asked.address:#06x}: {shown_hex(payload)}"
    except ProtocolError as error:
        meaning = str(error)
    return f"{said}, {meaning}"


def _live(payload: bytes) -> str:
    live = decode_live(payload)
    name = TYPE_NAMES.get(live.type_code, f"unknown ({live.type_code})")
    return ", ".join((f"live block: type {name}", *_say(live.values)))


def _prepaid(payload: bytes) -> str:
    return f"prepaid block: {', '.join(_say(decode_prepaid(payload)))}"


def _purchases(registers: tuple[Register, ...]) -> Callable[[bytes], str]:
    """The purchase registers of an ADF user, whichever of the two maps they lie in."""

    def say(payload: bytes) -> str:
        values = sane(decode_registers(registers, payload, registers[0].address))
        return f"purchases: {', '.join(_say(values))}"

    return say


def _purchase_blocks() -> dict[tuple[int, int], Callable[[bytes], str]]:
    groups = (tuple(r for r in map_ if r.group == PURCHASE) for map_ in (SINGLE_PHASE, THREE_PHASE))
    return {(g[0].address, g[-1].end - g[0].address): _purchases(g) for g in groups}


_KNOWN_BLOCKS: dict[tuple[int, int], Callable[[bytes], str]] = {
    **_purchase_blocks(),
    (LIVE_AT, LIVE_WORDS_4_RATES): _live,
    (LIVE_AT, LIVE_WORDS_8_RATES): _live,
    (PREPAID_AT, PREPAID_WORDS): _prepaid,
}


def _say(values: Values) -> list[str]:
    """The values a technician looks for, in his units."""
    said = [_SPOKEN[q](values[q]) for q in _SPOKEN if q in values]
    return [text for text in said if text]


def _scaled(value: int, digits: int) -> str:
    """An integer with its point moved left, without floats: (-5, 2) is "-0.05"."""
    text = str(abs(value)).rjust(digits + 1, "0")
    return f"{'-' if value < 0 else ''}{text[:-digits]}.{text[-digits:]}"


def _flags(kind: type[Alarm] | type[Control], bits: int, title: str) -> str:
    names = [flag.name.lower() for flag in kind if flag & bits and flag.name]
    return f"{title} {'+'.join(names)}" if names else ""


_SPOKEN: dict[Quantity, Callable[[int], str]] = {
    Q.VOLTAGE_L1: lambda v: f"{_scaled(v, 1)} V",
    Q.CURRENT_L1: lambda v: f"{_scaled(v, 3)} A",
    Q.POWER: lambda v: f"{v} W",
    Q.ENERGY: lambda v: f"{_scaled(v // 10, 2)} kWh",
    Q.REMAINING_CREDIT: lambda v: f"credit {_scaled(v, 2)}",
    Q.PURCHASE_COUNT: lambda v: f"purchase count {v}",
    Q.TOTAL_PURCHASED: lambda v: f"total purchased {_scaled(v, 2)}",
    Q.RELAY_CLOSED: lambda v: f"relay {v:03b}",
    Q.ALARMS: lambda v: _flags(Alarm, v, "alarms"),
    Q.CONTROLS: lambda v: _flags(Control, v, "controls"),
    Q.CLOCK: lambda v: f"dial {meter_dial(v):%Y-%m-%d %H:%M:%S}",
}
