"""CJ/T 188 meters at the far end of a wire: water with or without a valve, and heat.

Written from the frame table of spec field_protocols.md B, not from the master's codec. A Bus188 has
the three methods a SlaveLine asks for: is_whole, party, answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

HEAD, TAIL = 11, 2  # bytes in front of the data, and behind
ANYBODY = "A" * 14


@dataclass
class Unit188:
    """One meter. `number`: its fourteen digits. What it shows is set from outside."""

    number: str
    kind: int = 0x10  # T: 10 water, 20 heat
    litres: int = 12_340
    settled_litres: int = 12_000
    heat_wh: int = 0
    watts: int = 0
    litres_per_hour: int = 0
    supply_cdeg: int = 0
    return_cdeg: int = 0
    hours: int = 0
    has_valve: bool = False
    valve_open: bool = True
    valve_stuck: bool = False
    battery_low: bool = False
    low_first: bool = True  # takes a data item as 1F 90; else as 90 1F, and nothing else
    high_bits: bool = False  # valve in the status bits 6 and 7, battery in bit 5
    free_words: bool = False  # 66 and 77 instead of 55 and 99
    moves_after_looks: int = 0  # a motor turns while so many looks come
    clock: Callable[[], str] = lambda: "20260320100000"  # YYYYMMDDhhmmss on its dial
    switched: list[bool] = field(default_factory=list)  # each order it obeyed
    _turning: list[bool] = field(default_factory=list)

    def said(self, control: int, data: bytes) -> tuple[int, bytes] | None:
        """Control byte and data of its answer; None: not a word."""
        item = data[:2] if not self.low_first else data[1::-1]
        if control == 0x03:
            return 0x83, data
        if control == 0x01 and item == b"\x90\x1f":
            self._turn()
            return 0x81, data[:3] + (self._heat() if self.kind >= 0x20 else self._water())
        if control == 0x04 and item == b"\xa0\x17" and self.has_valve and len(data) == 4:
            return self._valve(data)
        if control in (0x01, 0x04) and item in (b"\x90\x1f", b"\xa0\x17"):
            return control | 0xC0, data[2:3] + b"\x01"
        return None

    def _valve(self, data: bytes) -> tuple[int, bytes]:
        opens, closes = (0x66, 0x77) if self.free_words else (0x55, 0x99)
        word = data[3]
        if word in (opens, closes):
            self.switched.append(word == opens)
            if not self.valve_stuck:
                self._turning = [word == opens]
                if not self.moves_after_looks:
                    self._turn()
        elif word != 0:
            return 0xC4, data[2:3] + b"\x02"
        return 0x84, data[:3] + self._status()

    def _turn(self) -> None:
        if self._turning:
            if self.moves_after_looks:
                self.moves_after_looks -= 1
                return
            self.valve_open = self._turning.pop()

    def _status(self) -> bytes:
        valve = 3 if self.valve_stuck else 0 if self.valve_open else 1
        first = valve << 6 | self.battery_low << 5 if self.high_bits else valve
        if not self.high_bits and self.battery_low:
            first |= 4
        return bytes((first, 0))

    def _dial(self) -> bytes:
        return bytes.fromhex(self.clock())[::-1]

    def _water(self) -> bytes:
        totals = _bcd(self.litres // 10, 4) + b"\x2c" + _bcd(self.settled_litres // 10, 4) + b"\x2c"
        return totals + self._dial() + self._status()

    def _heat(self) -> bytes:
        return (
            _bcd(self.heat_wh // 10, 4)
            + b"\x05"
            + _bcd(self.heat_wh // 10, 4)
            + b"\x05"
            + _bcd(self.watts // 10, 4)
            + b"\x17"
            + _bcd(self.litres_per_hour * 10, 4)
            + b"\x35"
            + _bcd(self.litres // 10, 4)
            + b"\x2c"
            + _bcd(self.supply_cdeg, 3)
            + _bcd(self.return_cdeg, 3)
            + _bcd(self.hours, 3)
            + self._dial()
            + self._status()
        )


class Bus188:
    """Every CJ/T 188 meter on one pair of wires."""

    def __init__(self, units: Iterable[Unit188]) -> None:
        self.units = {unit.number: unit for unit in units}
        self.heard: list[bytes] = []

    def is_whole(self, data: bytes) -> bool:
        """Whether these bytes are one whole request, its preamble included."""
        return _opened(data) is not None

    def party(self, frame: bytes) -> int:
        """A number that is the same for every frame to one meter."""
        opened = _opened(frame)
        return int(opened[1], 16) if opened else 0

    def answer(self, frame: bytes) -> bytes | None:
        """The answer of whoever is addressed; None is silence."""
        opened = _opened(frame)
        if opened is None or opened[2] & 0x80:
            return None
        self.heard.append(frame)
        _kind, number, control, data = opened
        if number == ANYBODY and len(self.units) == 1:
            (unit,) = self.units.values()
        elif number in self.units:
            unit = self.units[number]
        else:
            return None
        said = unit.said(control, data) if len(data) >= 3 else None
        if said is None:
            return None
        head = bytes((0x68, unit.kind)) + bytes.fromhex(unit.number)[::-1]
        body = head + bytes((said[0], len(said[1]))) + said[1]
        return b"\xfe\xfe" + body + bytes((sum(body) % 256, 0x16))


def _bcd(number: int, size: int) -> bytes:
    return bytes.fromhex(f"{number:0{2 * size}d}"[-2 * size :])[::-1]


def _opened(data: bytes) -> tuple[int, str, int, bytes] | None:
    """T, number, control byte and data of a sound frame behind any preamble."""
    frame = data.lstrip(b"\xfe")
    if len(frame) < HEAD + TAIL or frame[0] != 0x68 or len(frame) != HEAD + frame[10] + TAIL:
        return None
    if frame[-1] != 0x16 or sum(frame[:-2]) % 256 != frame[-2]:
        return None
    return frame[1], frame[8:1:-1].hex().upper(), frame[9], frame[HEAD:-2]
