"""A meter's days, from its readings: who used how much on which day, at which price. Pure.

The reading of a night ends the day the night is named by. Where nights in between have none, the
energy between the two readings around the gap is told apart by rule: by rate as the meter's own
registers say and over the days by the time of that rate, else evenly by time. A reading that comes
later makes the days more exact; what differs from what was booked is a correction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo

from headend.domain.charging import (
    FEN,
    Basis,
    Cost,
    Part,
    Point,
    energy_by_rate,
    instant,
    registers_between,
    seconds_by_rate,
    shares,
)
from headend.domain.tariffs import Book, Rate, Terms, Version


@dataclass(frozen=True, slots=True)
class Night:
    """The reading that ends a day."""

    day: date
    point: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What was used on one day, and the two readings it follows from."""

    day: date
    split: bool  # several days lie between the two readings
    before: Night
    after: Night
    version: Version
    by_rate_wh: Mapping[Rate, int]
    basis: Basis

    @property
    def energy_wh(self) -> int:
        """All rates together."""
        return sum(self.by_rate_wh.values())


class CannotBill(ValueError):
    """One sentence: why the days between two readings cannot be billed by themselves."""


def days_between(
    before: Night, after: Night, between: Sequence[Point], book: Book, zone: tzinfo
) -> list[Day]:
    """The days after `before` up to and with `after`. `between`: readings in the middle of a day.

    The energy of the days adds up to that between the two readings. Raises CannotBill.
    """
    if after.point.energy_wh < before.point.energy_wh:
        raise CannotBill(
            f"the counter fell from {before.point.energy_wh} Wh to {after.point.energy_wh} Wh"
        )
    windows = list(_windows(before, after, zone))
    versions = [_version(book, day) for day, _, _ in windows]
    if len(windows) == 1:
        points = [before.point, *between, after.point]
        told = [energy_by_rate(versions[0].terms, points, zone)]
    else:
        told = _split(before.point, after.point, windows, [v.terms for v in versions], zone)
    return [
        Day(
            day=day,
            split=len(windows) > 1,
            before=before,
            after=after,
            version=version,
            by_rate_wh=by_rate,
            basis=basis,
        )
        for (day, _, _), version, (by_rate, basis) in zip(windows, versions, told, strict=True)
    ]


_Window = tuple[date, datetime, datetime]


def _windows(before: Night, after: Night, zone: tzinfo) -> Iterator[_Window]:
    """Each day with the instants between which it lies: midnights inside, readings at the ends."""
    at, day = before.point.at, before.day
    while day < after.day:
        day += timedelta(days=1)
        ends = after.point.at
        if day < after.day:
            ends = min(max(instant(day + timedelta(days=1), 0, zone), at), after.point.at)
        yield day, at, ends
        at = ends


def _version(book: Book, day: date) -> Version:
    found = book.version_on(day)
    if found is None:
        raise CannotBill(f"no tariff holds on {day.isoformat()}")
    return found


def _split(
    before: Point,
    after: Point,
    windows: Sequence[_Window],
    terms: Sequence[Terms],
    zone: tzinfo,
) -> list[tuple[dict[Rate, int], Basis]]:
    told = registers_between(before, after)
    usable = told is not None and all(
        told.keys() <= one.prices_x4.keys() and all(s.rest is None for s in one.seasons)
        for one in terms
    )
    if told is not None and usable:
        return _by_registers(told, windows, terms, zone)
    weights = [int((ends - begins).total_seconds()) for _, begins, ends in windows]
    found = []
    for (_, begins, ends), one, wh in zip(
        windows, terms, shares(after.energy_wh - before.energy_wh, weights), strict=True
    ):
        found.append(energy_by_rate(one, [Point(begins, 0), Point(ends, wh)], zone))
    return found


def _by_registers(
    told: Mapping[Rate, int],
    windows: Sequence[_Window],
    terms: Sequence[Terms],
    zone: tzinfo,
) -> list[tuple[dict[Rate, int], Basis]]:
    seconds = [
        seconds_by_rate(one, begins, ends, zone)
        for (_, begins, ends), one in zip(windows, terms, strict=True)
    ]
    whole = [sum(one.values()) for one in seconds]
    found: list[dict[Rate, int]] = [{} for _ in windows]
    for rate, wh in told.items():
        weights = [one.get(rate, 0) for one in seconds]
        # A rate the tariff's own hours do not know, such as of an hour that was half an hour off.
        for day, part in zip(found, shares(wh, weights if any(weights) else whole), strict=True):
            if part:
                day[rate] = part
    return [
        (day, Basis.ONE_PRICE if one.one_price_x4 is not None else Basis.REGISTERS)
        for day, one in zip(found, terms, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Booked:
    """What is booked for a day so far, its corrections included; decided ones left out."""

    energy_wh: int = 0
    parts: Mapping[tuple[str, int], int] = field(default_factory=dict)  # (what, price_x4): Wh
    fee_fen: int = 0


def booked_of(lines: Sequence[tuple[Sequence[Part], int]]) -> Booked:
    """All lines of a day as one: (parts, fee) of each."""
    parts: dict[tuple[str, int], int] = {}
    energy_wh = 0
    for line, _ in lines:
        for part in line:
            key = (part.what, part.price_x4)
            parts[key] = parts.get(key, 0) + part.energy_wh
            energy_wh += 0 if part.what.startswith("tier") else part.energy_wh
    return Booked(energy_wh, parts, sum(fee for _, fee in lines))


def difference(cost: Cost, booked: Booked) -> Cost:
    """The line that turns what is booked into what it should be; both together are `cost`."""
    wanted = {(part.what, part.price_x4): part.energy_wh for part in cost.parts}
    keys = [*wanted, *(key for key in booked.parts if key not in wanted)]
    parts = [Part(key[0], wanted.get(key, 0) - booked.parts.get(key, 0), key[1]) for key in keys]
    return Cost(tuple(part for part in parts if part.energy_wh), cost.fee_fen - booked.fee_fen)


def days_left(balance_fen: int, costs_fen: Sequence[int]) -> int | None:
    """Whole days the money lasts if the next days cost what the last ones did; None: not known."""
    spent = sum(costs_fen)
    if not costs_fen or spent <= 0:
        return None
    return max(0, balance_fen) * len(costs_fen) // spent


def exact_fen_x5(amount_fen: int) -> int:
    """Whole fen as an exact cost."""
    return amount_fen * FEN
