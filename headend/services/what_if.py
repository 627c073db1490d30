"""A draft held against last month: who would have paid more, who less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from headend.domain.charging import Point, instant
from headend.domain.tariffs import Book, Terms
from headend.domain.what_if import Compared, NoRow, compare, stretch
from headend.store import price_readings, tariff_places
from headend.store.database import Transaction
from headend.store.price_readings import Chosen

METERS_MAX: Final = 2_000
# A reading may end a month some hours late.
LATE: Final = timedelta(hours=36)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One meter of a what-if."""

    meter: Chosen
    result: Compared | NoRow


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """All of it, the dearest change first."""

    month: date  # its first day
    rows: Sequence[Row]
    cut_short: bool  # there are more meters than METERS_MAX

    @property
    def compared(self) -> list[Compared]:
        """The meters that have a row with numbers."""
        return [row.result for row in self.rows if isinstance(row.result, Compared)]

    @property
    def before_fen(self) -> int:
        """All meters together, as it is."""
        return sum(one.before_fen for one in self.compared)

    @property
    def after_fen(self) -> int:
        """All meters together, as it would be."""
        return sum(one.after_fen for one in self.compared)

    @property
    def dearer(self) -> int:
        """How many would pay more."""
        return sum(one.change_fen > 0 for one in self.compared)

    @property
    def cheaper(self) -> int:
        """How many would pay less."""
        return sum(one.change_fen < 0 for one in self.compared)


def month_before(today: date) -> date:
    """The first day of the last whole month; pure."""
    return (today.replace(day=1) - timedelta(days=1)).replace(day=1)


def _month_after(month: date) -> date:
    return (month.replace(day=28) + timedelta(days=4)).replace(day=1)


async def what_if(tx: Transaction, draft: Terms, meters: Sequence[Chosen], month: date) -> WhatIf:
    """The draft against the terms in force on the last day of the month, for each meter."""
    kept = meters[:METERS_MAX]
    books = await tariff_places.books_of(tx, [one.meter_id for one in kept])
    rows = [
        Row(meter=one, result=await _one(tx, draft, one, books[one.meter_id], month))
        for one in kept
    ]
    rows.sort(
        key=lambda row: -row.result.change_fen if isinstance(row.result, Compared) else 10**12
    )
    return WhatIf(month=month, rows=rows, cut_short=len(meters) > METERS_MAX)


async def _one(
    tx: Transaction, draft: Terms, meter: Chosen, book: Book, month: date
) -> Compared | NoRow:
    zone = ZoneInfo(meter.zone)
    after = _month_after(month)
    version = book.version_on(after - timedelta(days=1))
    if version is None:
        return NoRow.NO_TARIFF
    begins, ends = instant(month, 0, zone), instant(after, 0, zone)
    points = await price_readings.points(tx, meter.meter_id, begins, ends + LATE)
    points = stretch(points, begins, ends)
    if len(points) < 2:
        return NoRow.TOO_FEW_READINGS
    days = max(1, round((points[-1].at - points[0].at) / timedelta(days=1)))
    used = [
        await _used_before(tx, meter, terms, month, points[0]) for terms in (version.terms, draft)
    ]
    return compare(version.terms, draft, points, zone, used_before_wh=(used[0], used[1]), days=days)


async def _used_before(
    tx: Transaction, meter: Chosen, terms: Terms, month: date, first: Point
) -> int:
    """Energy since the yearly reset of the tiers, as far back as there are readings."""
    if not terms.tiers:
        return 0
    begins, _ = terms.year_of(month)
    at: datetime = instant(begins, 0, ZoneInfo(meter.zone))
    earliest = await price_readings.first_energy_wh(tx, meter.meter_id, at, first.at)
    return 0 if earliest is None else max(0, first.energy_wh - earliest)
