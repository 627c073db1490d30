"""Tables as Acrel meters keep them: days, dates, hours of supply (spec acrel.md 2.5, 2.6)."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.settings import (
    DATE_ZONES_MAX,
    DAY_SLOTS_MAX,
    SWITCH_POINTS_MAX,
    DatePlan,
    DayTable,
    SwitchPoint,
)

TRIPLE_BYTES = 3
DAY_TABLE_WORDS = DAY_SLOTS_MAX * TRIPLE_BYTES // 2
DATE_PLAN_WORDS = DATE_ZONES_MAX * TRIPLE_BYTES // 2
SWITCH_POINTS_BYTES = SWITCH_POINTS_MAX * TRIPLE_BYTES

# Two sources disagree about the order inside a date zone; which holds is read on the display.
TABLE_DAY_MONTH = "table_day_month"
MONTH_DAY_TABLE = "month_day_table"


def day_table_bytes(table: DayTable) -> bytes:
    """Triples of rate, minute, hour; zeros where none is."""
    triples = ((slot.rate, *_minute_hour(slot.minute_of_day)) for slot in table.slots)
    return _triples(triples, DAY_SLOTS_MAX)


def date_plan_bytes(plan: DatePlan, order: str) -> bytes:
    """Triples in one of the two orders; zeros where none is."""
    assert order in (TABLE_DAY_MONTH, MONTH_DAY_TABLE)
    triples = ((zone.table, zone.day, zone.month) for zone in plan.zones)
    if order == MONTH_DAY_TABLE:
        triples = ((zone.month, zone.day, zone.table) for zone in plan.zones)
    return _triples(triples, DATE_ZONES_MAX)


def switch_points_bytes(points: Iterable[SwitchPoint]) -> bytes:
    """Triples of state, minute, hour; zeros where none is."""
    triples = ((int(point.on), *_minute_hour(point.minute_of_day)) for point in points)
    return _triples(triples, SWITCH_POINTS_MAX)


def rest_day_bits(days: Iterable[int]) -> int:
    """Monday 02H to Sunday 80H: one bit for each ISO weekday."""
    return sum(1 << day for day in days)


def words_of(data: bytes) -> tuple[int, ...]:
    """Bytes as the registers that carry them."""
    assert len(data) % 2 == 0
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))


def _minute_hour(minute_of_day: int) -> tuple[int, int]:
    return minute_of_day % 60, minute_of_day // 60


def _triples(triples: Iterable[tuple[int, int, int]], count: int) -> bytes:
    data = b"".join(bytes(triple) for triple in triples)
    assert len(data) <= count * TRIPLE_BYTES
    return data.ljust(count * TRIPLE_BYTES, b"\0")
