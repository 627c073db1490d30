"""What a meter is told of a tariff, and what it cannot be told. Pure.

An Acrel meter holds four prices in whole fen a kWh, two day tables and four date zones
(spec acrel.md 2.5, 3.5). Whatever does not fit is named, never bent; only prices are rounded, half
up to the fen, and the page says by how much.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from headend.domain.tariffs import RATE_NUMBER, Hours, Rate, Terms
from protocols.meter_type import Write
from protocols.settings import DatePlan, DateZone, DayTable, Prices, Setting, TariffSlot

FEN_X4: Final = 100  # a fen a kWh, in 1/10,000 yuan
DAY_TABLES_HELD: Final = 2
DATE_ZONES_HELD: Final = 4
_HELD: Final = (Rate.SHARP, Rate.PEAK, Rate.FLAT, Rate.VALLEY)  # in the order of the registers


class CannotHold(ValueError):
    """One sentence: why a meter cannot hold these terms."""


def meter_fen(price_x4: int) -> int:
    """A price as the meter keeps it: whole fen a kWh, rounded half up."""
    return (price_x4 + FEN_X4 // 2) // FEN_X4


def as_held(terms: Terms) -> Terms | None:
    """The one price as a meter with its own ledger asks it; None where it depends on the hour."""
    price = terms.one_price_x4
    return None if price is None else Terms(prices_x4={Rate.FLAT: meter_fen(price) * FEN_X4})


def rounded_x4(terms: Terms) -> dict[Rate, int]:
    """By how much the meter's price of each rate is above the tariff's; only those that differ."""
    off = {
        rate: meter_fen(terms.price_x4(rate)) * FEN_X4 - terms.price_x4(rate)
        for rate in terms.rates
    }
    return {rate: by for rate, by in off.items() if by}


def settings_for(
    terms: Terms, writes: Collection[Write], *, own_ledger: bool, tables: bool = True
) -> list[Setting]:
    """The settings that put these terms into a meter, in the order in which they are written.

    Tables first, prices last: until the last one is proved the meter still asks the old price.
    `own_ledger`: the meter deducts by itself; else prices are only for its display, and only its
    hours matter. `tables` False: another circuit of its cabinet carries them. Raises CannotHold.
    """
    found: list[Setting] = []
    if own_ledger:
        _check_own_ledger(terms, writes)
    by_hour = terms.one_price_x4 is None
    if by_hour and tables:
        if not {Write.DAY_TABLES, Write.DATE_PLAN} <= set(writes):
            raise CannotHold("its type takes no day tables, so it cannot tell hours apart")
        found += _tables(terms)
    if Write.PRICES in writes and Rate.DEEP_VALLEY not in terms.rates:
        found.append(_prices(terms))
    return found


def _check_own_ledger(terms: Terms, writes: Collection[Write]) -> None:
    if Write.PRICES not in writes:
        raise CannotHold("its type takes no prices")
    if Rate.DEEP_VALLEY in terms.rates:
        raise CannotHold("it has four prices and none for deep valley")
    if terms.tiers:
        raise CannotHold("a meter with its own ledger knows no tiers; bill it from the platform")
    if terms.fee_fen_per_day:
        raise CannotHold(
            "a meter with its own ledger takes no daily fee; bill it from the platform"
        )


def _prices(terms: Terms) -> Prices:
    """Where all hours cost the same, whatever hours the meter keeps; a rate that does not occur
    gets the dearest price, so that a table gone wrong sells nothing too cheap."""
    dearest = max(terms.price_x4(rate) for rate in terms.rates)
    one = terms.one_price_x4
    sharp, peak, flat, valley = (
        meter_fen(terms.price_x4(rate) if one is None and rate in terms.rates else one or dearest)
        for rate in _HELD
    )
    return Prices(sharp_fen=sharp, peak_fen=peak, flat_fen=flat, valley_fen=valley)


def _tables(terms: Terms) -> list[Setting]:
    if any(season.rest is not None for season in terms.seasons):
        raise CannotHold("it knows no weekends or holidays, and this tariff has hours for them")
    if len(terms.seasons) > DATE_ZONES_HELD:
        raise CannotHold("it has four date zones, and this tariff more seasons")
    kinds: list[Hours] = []
    for season in terms.seasons:
        if season.hours not in kinds:
            kinds.append(season.hours)
    if len(kinds) > DAY_TABLES_HELD:
        raise CannotHold("it has two day tables, and this tariff more kinds of days")
    zones = tuple(
        DateZone(month=one.month, day=one.day, table=kinds.index(one.hours) + 1)
        for one in terms.seasons
    )
    tables: list[Setting] = [
        DayTable(
            number=number,
            slots=tuple(
                TariffSlot(rate=RATE_NUMBER[slot.rate], minute_of_day=slot.minute)
                for slot in hours.slots
            ),
        )
        for number, hours in enumerate(kinds, 1)
    ]
    return [*tables, DatePlan(zones=zones)]
