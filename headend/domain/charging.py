"""What energy costs: exact costs, the one rounding rule, energy by rate, fen and Wh. Pure.

THE ROUNDING RULE. A cost is exact in 1/100,000 fen. When it is booked, whole fen are taken and the
fraction is carried to the next line of the same meter (`booked_fen`). So nothing is lost or gained
by splitting a period: the lines of any split add up to the line of the whole, to the fen, and
nobody pays a fraction early.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from headend.domain.tariffs import Rate, Terms

FEN: Final = 100_000  # in 1/100,000 fen
# Registers of 0.01 kWh are cut off one by one: five rates and a total may differ by so much.
REGISTERS_OFF_WH_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class Part:
    """One line of a bill: energy at a price, and its exact cost."""

    what: str  # a rate's name, or "tier above_wh"
    energy_wh: int
    price_x4: int

    @property
    def cost_fen_x5(self) -> int:
        """Exact."""
        return self.energy_wh * self.price_x4


@dataclass(frozen=True, slots=True)
class Cost:
    """What some energy costs, line by line."""

    parts: tuple[Part, ...]
    fee_fen: int  # fixed fees of whole days

    @property
    def total_fen_x5(self) -> int:
        """Exact, in 1/100,000 fen."""
        return sum(part.cost_fen_x5 for part in self.parts) + self.fee_fen * FEN


def cost_of(
    terms: Terms, by_rate_wh: Mapping[Rate, int], *, used_before_wh: int = 0, days: int = 0
) -> Cost:
    """The cost of energy by rate, Wh. `used_before_wh`: since the yearly reset of the tiers.

    Energy below zero (of a correction's smaller half) costs as much less.
    """
    parts = [
        Part(rate.value, by_rate_wh[rate], terms.price_x4(rate))
        for rate in Rate
        if by_rate_wh.get(rate)
    ]
    total_wh = sum(by_rate_wh.values())
    after_wh = used_before_wh + total_wh
    for number, tier in enumerate(terms.tiers):
        ends = terms.tiers[number + 1].above_wh if number + 1 < len(terms.tiers) else None
        inside_wh = _above(after_wh, tier.above_wh, ends) - _above(
            used_before_wh, tier.above_wh, ends
        )
        if inside_wh:
            parts.append(Part(f"tier {tier.above_wh}", inside_wh, tier.extra_x4))
    return Cost(tuple(parts), terms.fee_fen_per_day * days)


def _above(energy_wh: int, begins_wh: int, ends_wh: int | None) -> int:
    inside = max(0, energy_wh - begins_wh)
    return inside if ends_wh is None else min(inside, ends_wh - begins_wh)


def booked_fen(carry_fen_x5: int, cost_fen_x5: int) -> tuple[int, int]:
    """The rounding rule: whole fen to book now, and the fraction carried on (0 to FEN - 1)."""
    assert 0 <= carry_fen_x5 < FEN
    return divmod(carry_fen_x5 + cost_fen_x5, FEN)


def shares(whole: int, weights: Sequence[int]) -> list[int]:
    """A whole number in parts by weight; they always add up to it. All weights zero: the last gets
    everything."""
    total, given, run = sum(weights), 0, 0
    if total == 0:
        return [0] * (len(weights) - 1) + [whole]
    parts = []
    for weight in weights:
        run += weight
        upto = whole * run // total
        parts.append(upto - given)
        given = upto
    return parts


def instant(day: date, minute: int, zone: tzinfo) -> datetime:
    """The first instant, UTC, at which the wall clock of `zone` shows this minute or a later one.

    Where clocks go forward over it, that is the moment they do; where they go back, the first time.
    """
    wall = datetime.combine(day, time()) + timedelta(minutes=minute)
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == wall:
        return first
    low, high = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), first
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).replace(tzinfo=None) >= wall:
            high = middle
        else:
            low = middle
    return high


def seconds_by_rate(
    terms: Terms, begins: datetime, ends: datetime, zone: tzinfo
) -> dict[Rate, int]:
    """How many seconds of each rate lie between two instants, by the tariff's own hours.

    They add up to the whole, whatever the clocks of the zone do in between.
    """
    found: dict[Rate, int] = {}
    day = begins.astimezone(zone).date()
    at, rate = begins, terms.hours_of(day).slots[0].rate
    while day <= ends.astimezone(zone).date():
        for slot in terms.hours_of(day).slots:
            change = min(max(instant(day, slot.minute, zone), at), ends)
            found[rate] = found.get(rate, 0) + _seconds(at, change)
            at, rate = change, slot.rate
        day += timedelta(days=1)
    found[rate] = found.get(rate, 0) + _seconds(at, ends)
    return {rate: seconds for rate, seconds in found.items() if seconds}


def _seconds(since: datetime, until: datetime) -> int:
    # Whole seconds of the epoch on both sides, so that parts add up to the whole.
    return int(until.timestamp()) - int(since.timestamp())


@dataclass(frozen=True, slots=True)
class Point:
    """A reading as the bill looks at it: its instant, its total, and its registers by rate."""

    at: datetime
    energy_wh: int
    by_rate_wh: Mapping[Rate, int] | None = None  # None: it shows a total only


def registers_between(before: Point, after: Point) -> dict[Rate, int] | None:
    """Energy by rate from the meter's own registers; None where they do not tell all of it.

    The bill is the total: what registers that are cut off one by one leave open goes to the flat
    rate, or to the largest where the meter counts no flat one.
    """
    if before.by_rate_wh is None or after.by_rate_wh is None:
        return None
    if before.by_rate_wh.keys() != after.by_rate_wh.keys():
        return None
    used = {rate: after.by_rate_wh[rate] - wh for rate, wh in before.by_rate_wh.items()}
    open_wh = after.energy_wh - before.energy_wh - sum(used.values())
    if not used or min(used.values()) < 0 or abs(open_wh) > REGISTERS_OFF_WH_MAX:
        return None
    taker = max(used, key=lambda rate: (rate is Rate.FLAT and used[rate] > 0, used[rate]))
    used[taker] += open_wh
    return {rate: wh for rate, wh in used.items() if wh} if used[taker] >= 0 else None


def spread(terms: Terms, points: Sequence[Point], zone: tzinfo) -> dict[Rate, int]:
    """Energy by rate where only totals exist: evenly over the time between each two readings.

    That is an assumption, and whoever shows it says so. Where a total fell in between, only the
    first and the last count.
    """
    assert len(points) >= 2
    totals = [point.energy_wh for point in points]
    if any(later < earlier for earlier, later in itertools.pairwise(totals)):
        points = [points[0], points[-1]]
    found: dict[Rate, int] = {}
    for before, after in itertools.pairwise(points):
        seconds = seconds_by_rate(terms, before.at, after.at, zone)
        rates = list(seconds) or [Rate.FLAT]
        used_wh = after.energy_wh - before.energy_wh
        weights = list(seconds.values()) or [1]
        for rate, wh in zip(rates, shares(used_wh, weights), strict=True):
            found[rate] = found.get(rate, 0) + wh
    return {rate: wh for rate, wh in found.items() if wh}


class Basis(enum.Enum):
    """How energy was told apart by rate; every line of a bill says it."""

    ONE_PRICE = "one_price"  # all hours cost the same: nothing to tell apart
    REGISTERS = "registers"  # the meter's own registers by rate
    SPREAD = "spread"  # only totals: evenly over the time between readings, an assumption


def energy_by_rate(
    terms: Terms, points: Sequence[Point], zone: tzinfo
) -> tuple[dict[Rate, int], Basis]:
    """The energy between the first and the last of these readings by rate, and how it is known.

    A meter's registers know nothing of weekends and holidays, so they are not asked where those
    have hours of their own, nor where they count a rate that has no price.
    """
    first, last = points[0], points[-1]
    if terms.one_price_x4 is not None:
        used_wh = last.energy_wh - first.energy_wh
        rate = min(terms.rates, key=lambda one: one.value)
        return ({rate: used_wh} if used_wh else {}), Basis.ONE_PRICE
    told = registers_between(first, last)
    if (
        told is not None
        and told.keys() <= terms.prices_x4.keys()
        and all(season.rest is None for season in terms.seasons)
    ):
        return told, Basis.REGISTERS
    return spread(terms, points, zone), Basis.SPREAD


def wh_for(terms: Terms, amount_fen: int, *, used_before_wh: int = 0) -> int | None:
    """How many Wh this money buys, whole, rounded down; None where the price depends on the hour.

    Fixed daily fees are left out: they are not bought.
    """
    price = terms.one_price_x4
    if price is None:
        return None
    left, at_wh, bought = amount_fen * FEN, used_before_wh, 0
    steps = [tier for tier in terms.tiers if tier.above_wh > used_before_wh]
    for tier in steps:
        here = price + _extra(terms, at_wh)
        room = tier.above_wh - at_wh
        if here == 0 or left < room * here:
            break
        left, at_wh, bought = left - room * here, tier.above_wh, bought + room
    here = price + _extra(terms, at_wh)
    return None if here == 0 else bought + left // here


def fen_for(terms: Terms, energy_wh: int, *, used_before_wh: int = 0) -> int | None:
    """What this energy costs in whole fen, rounded up, so that the money buys no less than asked.

    None where the price depends on the hour.
    """
    if terms.one_price_x4 is None:
        return None
    rate = next(iter(terms.rates))
    cost = cost_of(terms, {rate: energy_wh}, used_before_wh=used_before_wh)
    return -(-cost.total_fen_x5 // FEN)


def _extra(terms: Terms, at_wh: int) -> int:
    return next((t.extra_x4 for t in reversed(terms.tiers) if t.above_wh <= at_wh), 0)
