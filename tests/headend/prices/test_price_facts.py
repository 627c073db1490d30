"""The price now, how long the money lasts, what a draft would have cost."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from headend.domain.billing import days_left
from headend.domain.charging import FEN, Point
from headend.domain.tariff_meter import CannotHold, as_held, meter_fen, settings_for
from headend.domain.tariffs import Hours, Rate, Season, Slot, Terms, Tier
from headend.domain.what_if import Assumed, Compared, NoRow, compare
from headend.services.billing_rounds import bill_all
from headend.services.price_facts import explained, price_facts, sale_price
from headend.services.what_if import month_before, what_if
from headend.store import price_readings
from protocols.meter_type import Write
from protocols.settings import DatePlan, DayTable, Prices
from tests.headend.house import TestClock
from tests.headend.prices.estate import FIRST, FLAT, SHANGHAI, Estate, end_of

DAY = Hours((Slot(0, Rate.VALLEY), Slot(720, Rate.PEAK)))
TOU = Terms(prices_x4={Rate.PEAK: 9000, Rate.VALLEY: 3000}, seasons=(Season(1, 1, DAY),))
NOON = datetime(2026, 3, 25, 12, 30, tzinfo=SHANGHAI)


async def test_the_price_now_of_a_meter_with_its_own_money(estate: Estate) -> None:
    await estate.tariff(TOU)
    async with estate.transaction() as tx:
        await estate.read(tx, NOON - timedelta(days=4), 0)
        await estate.read(tx, NOON, 40_000)
        await tx.execute("UPDATE meter_last SET remaining_credit_fen = 5000")
        facts = await price_facts(tx, estate.meter, NOON + timedelta(minutes=1))
        sold = await sale_price(tx, estate.meter, NOON)
    assert (facts.platform, facts.rate, facts.price_x4) == (False, Rate.PEAK, 9000)
    assert facts.changes_at == datetime(2026, 3, 26, tzinfo=SHANGHAI)
    assert facts.cost_per_day_fen == 10 * (90 + 30) // 2
    assert facts.days_left == 5000 // 600
    assert sold is None, "the price depends on the hour"


async def test_the_price_now_of_a_platform_meter_knows_its_tier(estate: Estate) -> None:
    terms = Terms(prices_x4={Rate.FLAT: 5000}, tiers=(Tier(10_000, 2500),), service_x4=100)
    await estate.tariff(terms)
    await estate.platform(0)
    await estate.night(FIRST + timedelta(days=1), 9_000)
    await estate.night(FIRST + timedelta(days=2), 12_000)
    await bill_all(estate.database, TestClock(NOON))
    await estate.shop.pay(10_000)
    async with estate.transaction() as tx:
        facts = await price_facts(tx, estate.meter, NOON)
        sold = await sale_price(tx, estate.meter, NOON)
    cost = (12_000 * 5100 + 2_000 * 2500) // FEN
    assert (facts.platform, facts.price_x4, facts.used_this_year_wh) == (True, 7600, 12_000)
    assert facts.balance_fen == 10_000 - cost
    assert facts.balance_at == end_of(FIRST + timedelta(days=2))
    assert facts.days_left == (10_000 - cost) * 2 // cost
    assert sold is not None
    assert sold.energy_wh(760) == 10_000, "in the dearer tier"
    assert sold.amount_fen(10_000) == 760


async def test_a_line_explains_itself(estate: Estate) -> None:
    await estate.tariff(FLAT)
    await estate.platform(1_000)
    await estate.night(FIRST + timedelta(days=1), 3_000)
    await bill_all(estate.database, TestClock(NOON))
    (line,) = await estate.bill()
    told = explained(line)
    assert told["from"]["energy_wh"] == 1_000
    assert told["to"]["energy_wh"] == 3_000
    total = sum(part["energy_wh"] * part["price_x4"] for part in told["parts"])
    booked = told["amount_fen"] * FEN + told["carried_on_fen_x5"] - told["carried_in_fen_x5"]
    assert total == told["cost_fen_x5"] == booked


async def test_a_meter_without_a_tariff_has_no_price(estate: Estate) -> None:
    async with estate.transaction() as tx:
        facts = await price_facts(tx, estate.meter, NOON)
        assert await sale_price(tx, estate.meter, NOON) is None
    assert (facts.tariff, facts.price_x4, facts.days_left) == (None, None, None)


@pytest.mark.parametrize(
    ("balance_fen", "costs", "days"),
    [(1000, [100, 300], 5), (-5, [100], 0), (1000, [], None), (1000, [0, 0], None), (99, [100], 0)],
)
def test_days_left(balance_fen: int, costs: list[int], days: int | None) -> None:
    assert days_left(balance_fen, costs) == days


# ---- what if -----------------------------------------------------------------------------------


def at(hour: int, wh: int, **rates: int) -> Point:
    moment = datetime(2026, 2, 28, 16, tzinfo=UTC) + timedelta(hours=hour)
    return Point(moment, wh, {Rate(n): v for n, v in rates.items()} or None)


OTHER = Terms(
    prices_x4=TOU.prices_x4, seasons=(Season(1, 1, Hours((Slot(0, Rate.PEAK),))),)
)  # fmt: skip
DEARER = Terms(prices_x4={Rate.PEAK: 10_000, Rate.VALLEY: 3000}, seasons=TOU.seasons)


@pytest.mark.parametrize(
    ("before", "after", "points", "assumed", "fen"),
    [
        (FLAT, Terms(prices_x4={Rate.FLAT: 6000}), [at(0, 0), at(24, 10_000)], Assumed.NOTHING,
         (546, 600)),
        (TOU, DEARER, [at(0, 0, peak=0, valley=0), at(24, 10_000, peak=8000, valley=2000)],
         Assumed.REGISTERS, (780, 860)),
        (FLAT, TOU, [at(0, 0, peak=0, valley=0), at(24, 10_000, peak=8000, valley=2000)],
         Assumed.SAME_HABITS, (546, 780)),
        (TOU, DEARER, [at(0, 0), at(24, 10_000)], Assumed.SPREAD, (600, 650)),
        (TOU, DEARER, [at(0, 0), at(12, 9_000), at(24, 10_000)], Assumed.SPREAD, (360, 370)),
    ],
)  # fmt: skip
def test_the_same_energy_at_two_terms_and_what_that_rests_on(
    before: Terms, after: Terms, points: list[Point], assumed: Assumed, fen: tuple[int, int]
) -> None:
    done = compare(before, after, points, SHANGHAI, days=1)
    assert isinstance(done, Compared)
    assert (done.assumed, (done.before_fen, done.after_fen)) == (assumed, fen)


def test_meters_that_tell_too_little_have_no_row() -> None:
    assert compare(FLAT, TOU, [at(0, 5)], SHANGHAI, days=1) is NoRow.TOO_FEW_READINGS
    assert compare(FLAT, TOU, [at(0, 5), at(1, 4)], SHANGHAI, days=1) is NoRow.COUNTER_FELL


async def test_a_draft_over_last_month(estate: Estate) -> None:
    await estate.tariff(FLAT)
    async with estate.transaction() as tx:
        begins = datetime(2026, 3, 1, 0, 5, tzinfo=SHANGHAI)
        for days in range(40):
            await estate.read(tx, begins + timedelta(days=days), 1_000 * days)
        meters = await price_readings.chosen(tx, None, site="North Court", limit=10)
        draft = Terms(prices_x4={Rate.FLAT: 6000}, fee_fen_per_day=10, tiers=(Tier(10_000, 1000),))
        seen = await what_if(tx, draft, meters, date(2026, 3, 1))
        assert await price_readings.chosen(tx, [], site="North Court", limit=10) == []
    two, one = seen.rows
    assert one.result is NoRow.TOO_FEW_READINGS, "the dearest change first, these last"
    assert two.meter.meter == "M1"
    assert isinstance(two.result, Compared)
    assert two.result.energy_wh == 31_000, "from the first reading of March to that of April"
    assert two.result.before_fen == 31_000 * 5469 // FEN
    assert two.result.after_fen == (31_000 * 6000 + 21_000 * 1000) // FEN + 310
    assert (seen.dearer, seen.cheaper) == (1, 0)
    assert seen.after_fen - seen.before_fen == two.result.change_fen


def test_last_month() -> None:
    assert month_before(date(2026, 1, 31)) == date(2025, 12, 1)
    assert month_before(date(2026, 3, 1)) == date(2026, 2, 1)


# ---- what a meter is told ----------------------------------------------------------------------


def test_a_meter_gets_tables_first_and_prices_last() -> None:
    summer = Hours((Slot(0, Rate.FLAT), Slot(1380, Rate.SHARP)))
    terms = Terms(
        prices_x4={Rate.SHARP: 12_349, Rate.PEAK: 8350, Rate.FLAT: 6251, Rate.VALLEY: 3000},
        seasons=(Season(1, 1, DAY), Season(7, 1, summer), Season(9, 1, DAY)), service_x4=100,
    )  # fmt: skip
    one, two, plan, prices = settings_for(terms, frozenset(Write), own_ledger=True)
    assert isinstance(one, DayTable)
    assert isinstance(two, DayTable)
    assert [(slot.rate, slot.minute_of_day) for slot in two.slots] == [(3, 0), (1, 1380)]
    assert isinstance(plan, DatePlan)
    assert [(zone.month, zone.table) for zone in plan.zones] == [(1, 1), (7, 2), (9, 1)]
    assert prices == Prices(sharp_fen=124, peak_fen=85, flat_fen=64, valley_fen=31)


def test_one_price_is_the_price_of_every_rate() -> None:
    (prices,) = settings_for(FLAT, frozenset(Write), own_ledger=True)
    assert prices == Prices(sharp_fen=55, peak_fen=55, flat_fen=55, valley_fen=55)
    held = as_held(FLAT)
    assert held is not None
    assert held.one_price_x4 == 5500
    assert as_held(TOU) is None
    assert [meter_fen(price) for price in (49, 50, 149, 150)] == [0, 1, 1, 2]


REST = Terms(
    prices_x4=TOU.prices_x4, seasons=(Season(1, 1, DAY, Hours((Slot(0, Rate.VALLEY),))),),
    rest_weekdays=frozenset({7}),
)  # fmt: skip
DEEP = Terms(
    prices_x4={Rate.DEEP_VALLEY: 100}, seasons=(Season(1, 1, Hours((Slot(0, Rate.DEEP_VALLEY),))),)
)
THREE = Terms(
    prices_x4=TOU.prices_x4,
    seasons=tuple(
        Season(month, 1, Hours((Slot(0, Rate.VALLEY), Slot(month * 60, Rate.PEAK))))
        for month in (1, 2, 3)
    ),
)
FIVE = Terms(prices_x4=TOU.prices_x4, seasons=tuple(Season(m, 1, DAY) for m in range(1, 6)))


@pytest.mark.parametrize(
    ("terms", "writes", "said"),
    [
        (REST, frozenset(Write), "weekends"),
        (DEEP, frozenset(Write), "deep valley"),
        (THREE, frozenset(Write), "two day tables"),
        (FIVE, frozenset(Write), "four date zones"),
        (Terms(prices_x4={Rate.FLAT: 1}, tiers=(Tier(1, 1),)), frozenset(Write), "tiers"),
        (Terms(prices_x4={Rate.FLAT: 1}, fee_fen_per_day=1), frozenset(Write), "daily fee"),
        (FLAT, frozenset[Write](), "no prices"),
        (TOU, frozenset({Write.PRICES}), "no day tables"),
    ],
)  # fmt: skip
def test_what_a_meter_cannot_be_told_is_named(
    terms: Terms, writes: frozenset[Write], said: str
) -> None:
    with pytest.raises(CannotHold, match=said):
        settings_for(terms, writes, own_ledger=True)
