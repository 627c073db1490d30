"""Time-of-use: which of the meter's rates counts at a time of its own dial."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from simulators.load import DAY_MS, HOUR_MS, MINUTE_MS

SLOTS_MAX = 14  # a day table has so many places (spec acrel.md 2.5)
_TABLE_BYTES = 3 * SLOTS_MAX


class Rate(enum.IntEnum):
    """The numbers used in a day table (spec acrel.md 2.5)."""

    SHARP = 1
    PEAK = 2
    FLAT = 3
    VALLEY = 4
    DEEP_VALLEY = 5  # eight-rate firmware only


@dataclass(frozen=True, slots=True)
class Slot:
    """From this minute of the day on, this rate."""

    minute: int  # 0 to 1439
    rate: Rate


@dataclass(frozen=True, slots=True)
class DayTable:
    """The slots of a day, ascending. Before the first one the last one still counts."""

    slots: tuple[Slot, ...]

    def __post_init__(self) -> None:
        assert 1 <= len(self.slots) <= SLOTS_MAX
        minutes = [slot.minute for slot in self.slots]
        assert minutes == sorted(set(minutes)), "slots must ascend"
        assert minutes[0] >= 0
        assert minutes[-1] < 24 * 60

    def rate(self, dial_ms: int) -> Rate:
        """The rate in force when the dial shows this."""
        minute = dial_ms % DAY_MS // MINUTE_MS
        current = self.slots[-1].rate
        for slot in self.slots:
            if slot.minute > minute:
                break
            current = slot.rate
        return current

    def next_change_ms(self, dial_ms: int) -> int:
        """The first dial time after this one at which a slot begins or a day ends."""
        midnight = dial_ms - dial_ms % DAY_MS
        for slot in self.slots:
            start = midnight + slot.minute * MINUTE_MS
            if start > dial_ms:
                return start
        return midnight + DAY_MS

    def encode(self) -> bytes:
        """The 42 bytes of the register table: (rate, minute, hour) each, unused places zero."""
        triples = b"".join(bytes((s.rate, s.minute % 60, s.minute // 60)) for s in self.slots)
        return triples.ljust(_TABLE_BYTES, b"\0")


def decode_day_table(data: bytes) -> DayTable | None:
    """The table in 42 register bytes; None when a meter would refuse them."""
    if len(data) != _TABLE_BYTES:
        return None
    slots: list[Slot] = []
    for at in range(0, _TABLE_BYTES, 3):
        rate, minute, hour = data[at : at + 3]
        if rate == 0:
            break
        start = hour * 60 + minute
        if rate > Rate.DEEP_VALLEY or minute > 59 or hour > 23:
            return None
        if slots and start <= slots[-1].minute:
            return None
        slots.append(Slot(start, Rate(rate)))
    return DayTable(tuple(slots)) if slots else None


def _at(hour: int, rate: Rate) -> Slot:
    return Slot(hour * HOUR_MS // MINUTE_MS, rate)


# A common commercial day: two peaks with a sharp hour inside, a night valley.
COMMON_DAY = DayTable(
    (
        _at(0, Rate.VALLEY),
        _at(7, Rate.FLAT),
        _at(9, Rate.PEAK),
        _at(11, Rate.SHARP),
        _at(13, Rate.FLAT),
        _at(18, Rate.PEAK),
        _at(20, Rate.SHARP),
        _at(21, Rate.FLAT),
        _at(23, Rate.VALLEY),
    )
)
DEEP_VALLEY_DAY = DayTable(
    (
        _at(0, Rate.VALLEY),
        _at(2, Rate.DEEP_VALLEY),
        _at(5, Rate.VALLEY),
        _at(7, Rate.FLAT),
        _at(9, Rate.PEAK),
        _at(12, Rate.FLAT),
        _at(18, Rate.PEAK),
        _at(20, Rate.SHARP),
        _at(22, Rate.FLAT),
        _at(23, Rate.VALLEY),
    )
)
