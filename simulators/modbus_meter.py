"""A Modbus slave made of register areas: what can be read, what can be written, what is refused.

Knows nothing of any one meter type; the maps live in acrel_meter.py and adf_cabinet.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from simulators import rtu
from simulators.metering import Look, Meter
from simulators.rtu import No

Written = No | None  # None: accepted


@dataclass(frozen=True, slots=True)
class Area:
    """Registers that can be read, as bytes made from a look at the meter."""

    start: int
    words: int
    read: Callable[[Look], bytes]

    def covers(self, register: int) -> bool:
        return self.start <= register < self.start + self.words


@dataclass(frozen=True, slots=True)
class Order:
    """Registers that can be written; `write` gets the first register's offset and the bytes."""

    start: int
    words: int
    write: Callable[[int, bytes], Written]

    def covers(self, register: int, words: int) -> bool:
        return self.start <= register and register + words <= self.start + self.words


@dataclass(frozen=True, slots=True)
class Records:
    """Numbered records: the register is the index and one read brings one whole record."""

    start: int
    count: int
    words: int  # of one record
    read: Callable[[Look, int], bytes]


class Memory:
    """Registers that simply keep what is written to them."""

    def __init__(
        self, start: int, data: bytes, accept: Callable[[bytes], bool] = lambda _: True
    ) -> None:
        assert len(data) % 2 == 0
        self.data = data
        self._accept = accept
        self.area = Area(start, len(data) // 2, lambda _: self.data)
        self.order = Order(start, len(data) // 2, self._write)

    def _write(self, offset: int, data: bytes) -> Written:
        patched = self.data[: 2 * offset] + data + self.data[2 * offset + len(data) :]
        if not self._accept(patched):
            return No.VALUE
        self.data = patched
        return None


@dataclass(slots=True, kw_only=True)
class Unit:
    """One unit id on the wires."""

    meter: Meter
    areas: list[Area]
    orders: list[Order] = field(default_factory=list)
    records: list[Records] = field(default_factory=list)
    # Acrel's masked writes by their register (spec acrel.md 3.1): data in, refusal or None out.
    masked: Mapping[int, Callable[[bytes], Written]] = field(default_factory=dict)
    read_words_max: int = rtu.READ_WORDS_MAX  # some firmware answers less at once
    version: int = 112

    def answer(self, frame: bytes) -> bytes:
        """The reply to a request with a good checksum for this unit."""
        unit, function, body = frame[0], frame[1], frame[2:-2]
        reply: bytes | No
        if function == rtu.READ_HOLDING:
            reply = self._read(body)
        elif function == rtu.WRITE_ONE and len(body) == 4:
            refused = self._write(int.from_bytes(body[:2], "big"), body[2:])
            reply = body if refused is None else refused
        elif function == rtu.WRITE_MANY:
            reply = self._write_many(body)
        elif function == rtu.MASKED_WRITE:
            reply = self._masked_write(body)
        elif function == rtu.REPORT_VERSION:
            # 15 bytes on the wire, the version at reply bytes 7 and 8 (spec acrel.md 3.6).
            reply = bytes(5) + self.version.to_bytes(2, "big") + bytes(4)
        else:
            reply = No.FUNCTION
        if isinstance(reply, No):
            return rtu.exception(unit, function, reply)
        return rtu.sealed(bytes((unit, function)) + reply)

    def _read(self, body: bytes) -> bytes | No:
        if len(body) != 4:
            return No.VALUE
        register, words = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:], "big")
        if not 1 <= words <= self.read_words_max:
            return No.VALUE
        data = self.read_registers(register, words)
        return data if isinstance(data, No) else bytes((len(data),)) + data

    def read_registers(self, register: int, words: int) -> bytes | No:
        """The bytes of so many registers, all of one look; a hole among them refuses the whole."""
        look = self.meter.look()
        for records in self.records:
            index = register - records.start
            if 0 <= index < records.count:
                return records.read(look, index) if words == records.words else No.VALUE
        data = b""
        end = register + words
        while register < end:
            area = next((a for a in self.areas if a.covers(register)), None)
            if area is None:
                return No.ADDRESS
            image = area.read(look)
            assert len(image) == 2 * area.words, f"area {area.start:04X} has a wrong size"
            until = min(end, area.start + area.words)
            data += image[2 * (register - area.start) : 2 * (until - area.start)]
            register = until
        return data

    def _write_many(self, body: bytes) -> bytes | No:
        if len(body) < 7:
            return No.VALUE
        register, words = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
        data = body[5:]
        if not words or body[4] != 2 * words or len(data) != 2 * words:
            return No.VALUE
        refused = self._write(register, data)
        return body[:4] if refused is None else refused

    def _write(self, register: int, data: bytes) -> Written:
        words = len(data) // 2
        for order in self.orders:
            if order.covers(register, words):
                return order.write(register - order.start, data)
        return No.ADDRESS

    def _masked_write(self, body: bytes) -> bytes | No:
        if len(body) < 5 or body[4] != 2 * int.from_bytes(body[2:4], "big"):
            return No.VALUE
        handler = self.masked.get(int.from_bytes(body[:2], "big"))
        if handler is None:
            return No.ADDRESS
        refused = handler(body[5:])
        # 15 bytes on the wire; what stands between is not published (spec acrel.md 3.1).
        return body[:4] + bytes(7) if refused is None else refused


class Bus:
    """Everything that answers on one pair of wires."""

    def __init__(self, units: Mapping[int, Unit] | None = None) -> None:
        self.units: dict[int, Unit] = dict(units or {})

    def add(self, units: Mapping[int, Unit]) -> None:
        """Wire more units; two of one address are a mistake in the plan."""
        clash = self.units.keys() & units.keys()
        assert not clash, f"units {sorted(clash)} are there twice"
        self.units.update(units)

    def is_whole(self, data: bytes) -> bool:
        """Whether these bytes are exactly one request."""
        return rtu.is_whole_request(data)

    def party(self, frame: bytes) -> int:
        """Whom a request is for, as one number."""
        return frame[0]

    def answer(self, frame: bytes) -> bytes | None:
        """The answer of whoever feels addressed; None is silence: wrong checksum, broadcast or
        nobody there."""
        if not rtu.is_sealed(frame):
            return None
        unit = self.units.get(frame[0])
        return None if unit is None else unit.answer(frame)
