"""What a kilowatt-hour costs, and when: the terms of one version of a tariff. Pure, integers.

Units. A price is in 1/10,000 yuan per kWh, the suffix is `_x4`: 0.5469 yuan is 5469. Energy is Wh.
So Wh times price is a whole number of 1/100,000 fen, the suffix is `_fen_x5`; nothing is rounded
before an amount is booked (domain/charging.py says how).

Terms travel as JSON: to_record() and from_record(), which answers in one sentence what is wrong.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

PRICE_X4_MAX: Final = 1_000_000  # 100 yuan a kWh: ten times the dearest tariff anybody has seen
FEE_FEN_MAX: Final = 100_000  # 1,000 yuan a day
SLOTS_MAX: Final = 14  # what a meter's day table holds (spec acrel.md 2.5)
SEASONS_MAX: Final = 12
TIERS_MAX: Final = 6
TIER_WH_MAX: Final = 10**12
DATES_MAX: Final = 100
MINUTES_OF_DAY: Final = 24 * 60
A_LEAP_YEAR: Final = 2000  # in which every date of a plan exists


class BadTerms(ValueError):
    """Terms no tariff can have. `where`: the field it is about, as the editor calls it.

    `sentence` with `facts` in its places is what is wrong; the catalogue has its Chinese.
    """

    def __init__(self, where: str, sentence: str, *facts: object) -> None:
        self.where = where
        self.sentence = sentence
        self.facts = facts
        super().__init__(sentence % facts if facts else sentence)


def _check_int(where: str, value: object, high: int) -> None:
    # A bool is an int in Python, but no price.
    if type(value) is not int or not 0 <= value <= high:
        raise BadTerms(where, "%s is not a whole number from 0 to %s", value, high)


def _check_date(where: str, month: int, day: int) -> None:
    try:
        date(A_LEAP_YEAR, month, day)
    except (ValueError, TypeError) as error:
        raise BadTerms(where, "no year has a day %s-%s", month, day) from error


class Rate(enum.Enum):
    """The kinds of hours; the value is the name in records. Never change one."""

    SHARP = "sharp"
    PEAK = "peak"
    FLAT = "flat"
    VALLEY = "valley"
    DEEP_VALLEY = "deep_valley"


#: The number of each rate in a meter's day table (spec acrel.md 2.5).
RATE_NUMBER: Final[Mapping[Rate, int]] = {rate: number for number, rate in enumerate(Rate, 1)}


@dataclass(frozen=True, slots=True)
class Slot:
    """From this minute of the day on (0 to 1439), this rate."""

    minute: int
    rate: Rate


@dataclass(frozen=True, slots=True)
class Hours:
    """The rates of one kind of day: ascending, the first slot at 00:00."""

    slots: tuple[Slot, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.slots) <= SLOTS_MAX:
            raise BadTerms("hours", "a day has 1 to %s stretches", SLOTS_MAX)
        if self.slots[0].minute != 0:
            raise BadTerms("hours", "the first stretch of a day begins at 00:00")
        minutes = [slot.minute for slot in self.slots]
        if any(not 0 <= minute < MINUTES_OF_DAY for minute in minutes):
            raise BadTerms("hours", "a stretch begins between 00:00 and 23:59")
        if any(later <= earlier for earlier, later in itertools.pairwise(minutes)):
            raise BadTerms("hours", "the stretches of a day are in order, each time once")

    def rate_at(self, minute: int) -> Rate:
        """The rate of a minute of the day."""
        return next(slot.rate for slot in reversed(self.slots) if slot.minute <= minute)

    @property
    def rates(self) -> frozenset[Rate]:
        """The rates that occur."""
        return frozenset(slot.rate for slot in self.slots)


ALL_FLAT: Final = Hours((Slot(0, Rate.FLAT),))


@dataclass(frozen=True, slots=True)
class Season:
    """From this date of the year on. `rest`: the hours of weekends and holidays, if they differ."""

    month: int
    day: int
    hours: Hours
    rest: Hours | None = None

    def __post_init__(self) -> None:
        _check_date("season", self.month, self.day)


@dataclass(frozen=True, slots=True)
class Tier:
    """What is used above this energy since the yearly reset costs so much more, whatever its hour.

    An addition and not a price of its own: so it does not matter which hours of a day fell into
    which tier, and nobody has to guess it.
    """

    above_wh: int
    extra_x4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One version of a tariff. Raises BadTerms when made of what does not fit together."""

    prices_x4: Mapping[Rate, int]  # of each rate that occurs
    seasons: tuple[Season, ...] = (Season(1, 1, ALL_FLAT),)  # ascending by date
    rest_weekdays: frozenset[int] = frozenset()  # ISO: Saturday 6, Sunday 7
    holidays: frozenset[date] = frozenset()  # as rest days
    working_days: frozenset[date] = frozenset()  # weekends worked in exchange for a holiday
    tiers: tuple[Tier, ...] = ()  # ascending
    tier_reset: tuple[int, int] = (1, 1)  # month and day on which the year of the tiers begins
    service_x4: int = 0  # a service fee on each kWh
    fee_fen_per_day: int = 0  # a fixed fee, whatever is used

    def __post_init__(self) -> None:
        _check_prices(self)
        _check_seasons(self)
        _check_tiers(self)
        _check_int("service", self.service_x4, PRICE_X4_MAX)
        _check_int("fee", self.fee_fen_per_day, FEE_FEN_MAX)
        if any(not 1 <= day <= 7 for day in self.rest_weekdays):
            raise BadTerms("rest_weekdays", "a weekday is 1 (Monday) to 7 (Sunday)")
        if len(self.holidays) + len(self.working_days) > DATES_MAX:
            raise BadTerms("holidays", "at most %s holidays and working days", DATES_MAX)

    def season_of(self, day: date) -> Season:
        """The season a date falls into; before the first one of a year the last one goes on."""
        begun = [one for one in self.seasons if (one.month, one.day) <= (day.month, day.day)]
        return begun[-1] if begun else self.seasons[-1]

    def is_rest_day(self, day: date) -> bool:
        """Whether the hours of weekends and holidays hold."""
        if day in self.working_days:
            return False
        return day in self.holidays or day.isoweekday() in self.rest_weekdays

    def hours_of(self, day: date) -> Hours:
        """The hours of one date."""
        season = self.season_of(day)
        return season.rest if season.rest is not None and self.is_rest_day(day) else season.hours

    def price_x4(self, rate: Rate) -> int:
        """What a kWh of this rate costs below every tier, service fee included."""
        return self.prices_x4[rate] + self.service_x4

    def price_at_x4(self, wall: datetime) -> tuple[Rate, int]:
        """The rate and price of a naive wall-clock time, below every tier."""
        assert wall.tzinfo is None, "a wall clock has no time zone"
        rate = self.hours_of(wall.date()).rate_at(wall.hour * 60 + wall.minute)
        return rate, self.price_x4(rate)

    @property
    def rates(self) -> frozenset[Rate]:
        """The rates that occur on any day."""
        return frozenset().union(
            *(one.hours.rates | (one.rest.rates if one.rest else set()) for one in self.seasons)
        )

    @property
    def one_price_x4(self) -> int | None:
        """The price of every kWh below the tiers, where there is only one; None: by the hour."""
        prices = {self.price_x4(rate) for rate in self.rates}
        return prices.pop() if len(prices) == 1 else None

    def year_of(self, day: date) -> tuple[date, date]:
        """The year of the tiers around a date: its first day, and the first of the next one."""
        first = _reset_in(day.year, self.tier_reset)
        if first > day:
            return _reset_in(day.year - 1, self.tier_reset), first
        return first, _reset_in(day.year + 1, self.tier_reset)


def _reset_in(year: int, reset: tuple[int, int]) -> date:
    month, day = reset
    # 29 February begins on 1 March where there is none.
    return date(year, month, 28) + timedelta(days=1) if reset == (2, 29) else date(year, month, day)


def _check_prices(terms: Terms) -> None:
    for rate, price in terms.prices_x4.items():
        _check_int(rate.value, price, PRICE_X4_MAX)
    for rate in terms.rates:
        if rate not in terms.prices_x4:
            raise BadTerms(rate.value, "this kind of hours occurs in the day and has no price")


def _check_seasons(terms: Terms) -> None:
    if not 1 <= len(terms.seasons) <= SEASONS_MAX:
        raise BadTerms("season", "a year has 1 to %s seasons", SEASONS_MAX)
    begins = [(one.month, one.day) for one in terms.seasons]
    if any(later <= earlier for earlier, later in itertools.pairwise(begins)):
        raise BadTerms("season", "the seasons of a year are in order, each date once")
    days_off = terms.rest_weekdays or terms.holidays
    if any(one.rest is not None for one in terms.seasons) and not days_off:
        raise BadTerms("rest_weekdays", "hours of rest days are given, and no day is a rest day")


def _check_tiers(terms: Terms) -> None:
    if len(terms.tiers) > TIERS_MAX:
        raise BadTerms("tiers", "at most %s tiers", TIERS_MAX)
    for tier in terms.tiers:
        if type(tier.above_wh) is not int or not 0 < tier.above_wh <= TIER_WH_MAX:
            raise BadTerms("tiers", "a tier begins above 0 kWh")
        _check_int("tiers", tier.extra_x4, PRICE_X4_MAX)
    steps = [tier.above_wh for tier in terms.tiers]
    if any(later <= earlier for earlier, later in itertools.pairwise(steps)):
        raise BadTerms("tiers", "the tiers are in order, each energy once")
    _check_date("tier_reset", *terms.tier_reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a tariff as published: what holds from the first minute of a date on."""

    version_id: int
    tariff_id: int
    number: int  # 1, 2, 3 … within its tariff
    valid_from: date
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A tariff for a place from a date on. `tariff_id` None: nothing of its own any more."""

    assignment_id: int
    depth: int  # 0 site, 1 building, 2 room, 3 meter: the nearer one counts
    from_day: date
    tariff_id: int | None


@dataclass(frozen=True, slots=True)
class Book:
    """All that decides what one meter's energy costs on any day."""

    assignments: tuple[Assignment, ...] = ()
    versions: tuple[Version, ...] = field(default=())

    def tariff_on(self, day: date) -> int | None:
        """The tariff of a date: of the nearest place that has one; there the newest word counts."""
        nearest: dict[int, Assignment] = {}
        for one in sorted(self.assignments, key=lambda a: (a.from_day, a.assignment_id)):
            if one.from_day <= day:
                nearest[one.depth] = one
        for depth in sorted(nearest, reverse=True):
            if nearest[depth].tariff_id is not None:
                return nearest[depth].tariff_id
        return None

    def version_on(self, day: date) -> Version | None:
        """The version in force on a date; None: no tariff, or none published yet."""
        tariff_id = self.tariff_on(day)
        begun = [v for v in self.versions if v.tariff_id == tariff_id and v.valid_from <= day]
        return max(begun, key=lambda v: (v.valid_from, v.number), default=None)
