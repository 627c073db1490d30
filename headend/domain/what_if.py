"""What a tariff would have cost: the same energy at two terms, meter by meter. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from headend.domain.charging import FEN, Basis, Point, cost_of, energy_by_rate
from headend.domain.tariffs import Terms


class Assumed(enum.Enum):
    """What a row rests on, from the surest to the least sure."""

    NOTHING = "nothing"  # one price at all hours on both sides
    REGISTERS = "registers"  # the meter's registers by rate, and the hours are the same
    SAME_HABITS = "same_habits"  # its registers count by hours that the draft changes
    SPREAD = "spread"  # totals only: evenly over the time between readings


class NoRow(enum.Enum):
    """Why a meter has no row."""

    NO_TARIFF = "no_tariff"
    TOO_FEW_READINGS = "too_few_readings"
    COUNTER_FELL = "counter_fell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One meter: the energy between two readings, and what it costs before and after."""

    begins: datetime
    ends: datetime
    energy_wh: int
    before_fen: int
    after_fen: int
    assumed: Assumed

    @property
    def change_fen(self) -> int:
        """Above 0: dearer."""
        return self.after_fen - self.before_fen


def compare(
    before: Terms,
    after: Terms,
    points: Sequence[Point],
    zone: tzinfo,
    *,
    used_before_wh: tuple[int, int] = (0, 0),
    days: int,
) -> Compared | NoRow:
    """The energy between the first and the last point at both terms.

    `used_before_wh`: since the yearly reset of the tiers, of each. Each side is cut off to whole
    fen once.
    """
    if len(points) < 2:
        return NoRow.TOO_FEW_READINGS
    if points[-1].energy_wh < points[0].energy_wh:
        return NoRow.COUNTER_FELL
    costs, bases = [], []
    for terms, used_wh in zip((before, after), used_before_wh, strict=True):
        by_rate, basis = energy_by_rate(terms, points, zone)
        cost = cost_of(terms, by_rate, used_before_wh=used_wh, days=days)
        costs.append(cost.total_fen_x5 // FEN)
        bases.append(basis)
    return Compared(
        begins=points[0].at,
        ends=points[-1].at,
        energy_wh=points[-1].energy_wh - points[0].energy_wh,
        before_fen=costs[0],
        after_fen=costs[1],
        assumed=_assumed(before, after, bases),
    )


def _assumed(before: Terms, after: Terms, bases: Sequence[Basis]) -> Assumed:
    if Basis.SPREAD in bases:
        return Assumed.SPREAD
    if Basis.REGISTERS not in bases:
        return Assumed.NOTHING
    by_hour = [terms for terms in (before, after) if terms.one_price_x4 is None]
    same = all(terms.seasons == by_hour[0].seasons for terms in by_hour)
    # With one side by the hour only, whose hours the meter counts by is that side's.
    return Assumed.REGISTERS if same and before in by_hour else Assumed.SAME_HABITS


def stretch(points: Sequence[Point], begins: datetime, ends: datetime) -> list[Point]:
    """The points from the first at or after `begins` to the first at or after `ends`; where there
    is none that late, to the last."""
    inside = [point for point in points if point.at >= begins]
    for number, point in enumerate(inside):
        if point.at >= ends:
            return inside[: number + 1]
    return inside
