"""Each day of each meter is charged once, whatever happens; what changes is a line more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from headend.domain.alarms import AlarmKind
from headend.domain.books import NotBooked
from headend.domain.charging import FEN
from headend.domain.tariffs import Hours, Rate, Season, Slot, Terms, Tier
from headend.services import billing, billing_rounds
from headend.services.billing import CorrectionWish, bill_meter, correct
from headend.services.billing_rounds import bill_all
from headend.store import alarms, charges
from headend.store.charges import Charge
from headend.store.database import Database, Transaction
from headend.store.errors import StoreError
from headend.store.money_modes import PlatformMeter
from tests.headend.house import TestClock
from tests.headend.prices.estate import FIRST, FLAT, SHANGHAI, Estate, end_of

CLOCK = TestClock(datetime(2026, 3, 28, 8, 0, tzinfo=SHANGHAI))
TOU = Terms(
    prices_x4={Rate.PEAK: 9000, Rate.VALLEY: 3000},
    seasons=(Season(1, 1, Hours((Slot(0, Rate.VALLEY), Slot(720, Rate.PEAK)))),),
)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


async def billed(estate: Estate) -> int:
    return await bill_all(estate.database, CLOCK)


def total_fen(lines: list[Charge]) -> int:
    return sum(line.amount_fen for line in lines)


async def test_a_day_is_charged_once_from_reading_to_reading(estate: Estate) -> None:
    await estate.tariff(FLAT)
    await estate.platform(1_000)
    await estate.night(day(1), 4_210)
    await estate.night(day(2), 7_000)
    assert await billed(estate) == 2
    first, second = await estate.bill()
    assert (first.day, first.kind, first.from_wh, first.to_wh) == (day(1), "reading", 1000, 4210)
    assert first.cost_fen_x5 == 3_210 * 5469
    assert (first.amount_fen, first.carry_after_x5) == (175, 3_210 * 5469 - 175 * FEN)
    assert second.carry_before_x5 == first.carry_after_x5
    assert await estate.balance_fen() == -total_fen([first, second]) == -(6_000 * 5469 // FEN)
    assert await billed(estate) == 0, "nothing is left to bill"
    assert await estate.balance_fen() == -328


async def test_gap_days_are_split_by_time_and_conserve_energy_and_money(estate: Estate) -> None:
    await estate.tariff(FLAT)
    await estate.platform(0)
    for number in (1, 2):
        await estate.night(day(number), None)
    assert await billed(estate) == 0, "no reading, no charge"
    await estate.night(day(3), 9_001)
    assert await billed(estate) == 3
    lines = await estate.bill()
    assert [line.kind for line in lines] == ["split"] * 3
    assert sum(line.energy_wh for line in lines) == 9_001
    assert total_fen(lines) == 9_001 * 5469 // FEN
    # The reading is five minutes after midnight: the first window is that much shorter.
    assert [line.energy_wh for line in lines] == [2989, 3001, 3011]


async def test_a_back_filled_reading_gives_corrections_and_rewrites_nothing(
    estate: Estate,
) -> None:
    await estate.tariff(TOU)
    await estate.platform(0)
    await estate.night(day(1), None)
    await estate.night(day(2), 10_000)
    await billed(estate)
    before = await estate.bill()
    await estate.night(day(1), 8_000)
    assert await billed(estate) == 2, "a correction for each day around the reading"
    lines = await estate.bill()
    assert [one for one in lines if one.seq == 0] == before, "what was booked stays as it was"
    corrections = [one for one in lines if one.seq > 0]
    assert [one.kind for one in corrections] == ["correction"] * 2
    assert sum(one.energy_wh for one in corrections) == 0
    by_day = {n: sum(x.energy_wh for x in lines if x.day == day(n)) for n in (1, 2)}
    assert by_day == {1: 8_000, 2: 2_000}
    assert await estate.balance_fen() == -total_fen(lines)
    assert await billed(estate) == 0, "once"


async def test_registers_are_asked_before_the_clock(estate: Estate) -> None:
    await estate.tariff(TOU)
    await estate.platform(1_000, peak=400, valley=600)
    await estate.night(day(1), 5_000, peak=3_400, valley=1_600)
    await billed(estate)
    (line,) = await estate.bill()
    assert line.basis == "registers"
    assert {part.what: part.energy_wh for part in line.parts} == {"peak": 3000, "valley": 1000}
    assert line.cost_fen_x5 == 3000 * 9000 + 1000 * 3000


async def test_tiers_begin_anew_with_their_year_also_when_a_late_reading_moves_energy_across(
    estate: Estate,
) -> None:
    """Every day costs what it would have cost had all readings come in time."""
    terms = Terms(
        prices_x4={Rate.FLAT: 5000}, tiers=(Tier(10_000, 1000), Tier(15_000, 4000)),
        tier_reset=(3, 23),
    )  # fmt: skip
    await estate.tariff(terms)
    await estate.platform(0)
    await estate.night(day(1), 8_000)  # 21 March
    await estate.night(day(2), None)  # 22 March, the last of its year
    await estate.night(day(3), 20_000)  # 23 March
    await estate.night(day(4), 33_000)
    await billed(estate)
    await estate.night(day(2), 19_000)
    await billed(estate)
    lines = await estate.bill()
    cost = {n: sum(x.cost_fen_x5 for x in lines if x.day == day(n)) for n in (1, 2, 3, 4)}
    assert cost == {
        1: 8_000 * 5000,
        2: 11_000 * 5000 + 5_000 * 1000 + 4_000 * 4000,
        3: 1_000 * 5000,
        4: 13_000 * 5000 + 4_000 * 1000,
    }
    assert await billed(estate) == 0
    assert await estate.balance_fen() == -total_fen(lines)


async def test_two_workers_at_once_charge_once(estate: Estate) -> None:
    await estate.tariff(FLAT)
    await estate.platform(0)
    for number in range(1, 6):
        await estate.night(day(number), number * 2_345)
    booked = await asyncio.gather(*(billed(estate) for _ in range(8)))
    assert sum(booked) == 5
    assert [line.day for line in await estate.bill()] == [day(n) for n in range(1, 6)]
    assert await estate.balance_fen() == -(5 * 2_345 * 5469 // FEN)


async def test_a_crash_in_between_leaves_nothing_or_all(estate: Estate, dsn: str) -> None:
    """The server ends the session of a worker that has booked and not committed."""
    await estate.tariff(FLAT)
    await estate.platform(0)
    await estate.night(day(1), 2_000)
    dying = Database(dsn, application_name="dying")
    await dying.open()
    try:
        with pytest.raises((StoreError, psycopg.Error)):
            await _bill_and_die(dying, estate)
    finally:
        await dying.close()
    assert await estate.bill() == []
    assert await estate.balance_fen() == 0
    assert await billed(estate) == 1
    assert len(await estate.bill()) == 1


async def _bill_and_die(dying: Database, estate: Estate) -> None:
    async with dying.transaction() as tx:
        assert await bill_meter(tx, estate.meter, CLOCK.now()) == 1
        async with estate.transaction() as other:
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'dying'"
            )
        await tx.execute("SELECT 1")


async def test_the_database_refuses_a_line_that_does_not_follow(estate: Estate) -> None:
    await estate.tariff(FLAT)
    await estate.platform(0)
    await estate.night(day(1), 2_001)
    await billed(estate)
    (line,) = await estate.bill()
    assert line.carry_after_x5
    with pytest.raises(StoreError, match="does not follow"):
        async with estate.transaction() as tx:
            await charges.add(tx, estate.meter, replace(line, seq=1, carry_before_x5=0))
    for change in ("UPDATE charge SET amount_fen = 0", "DELETE FROM charge"):
        with pytest.raises(StoreError, match="only ever added to"):
            async with estate.transaction() as tx:
                await tx.execute(change)


@pytest.mark.parametrize(
    ("readings", "said"),
    [((9_000, 4_000), "the counter fell"), ((9_000, 10**13), "cannot be true")],
)
async def test_what_cannot_be_billed_waits_for_a_person_and_is_told_once(
    estate: Estate, readings: tuple[int, int], said: str
) -> None:
    await estate.tariff(FLAT)
    await estate.platform(0)
    for number, wh in enumerate(readings, 1):
        await estate.night(day(number), wh)
    assert await billed(estate) == 1, "the day before it is charged"
    assert await billed(estate) == 0
    async with estate.transaction() as tx:
        (alarm,) = [
            one for one in await alarms.standing(tx) if one.code == AlarmKind.BILLING_STUCK.value
        ]
    assert said in alarm.detail
    await estate.platform(readings[1], day(2))  # a person begins anew, after an exchange
    await estate.night(day(3), readings[1] + 1_000)
    assert await billed(estate) == 1
    async with estate.transaction() as tx:
        assert not [
            one for one in await alarms.standing(tx) if one.code == AlarmKind.BILLING_STUCK.value
        ]


async def test_without_a_tariff_nothing_is_charged_and_the_day_is_named(estate: Estate) -> None:
    await estate.platform(0)
    await estate.night(day(1), 1_000)
    assert await billed(estate) == 0
    async with estate.transaction() as tx:
        (stuck,) = await charges.doubts(tx, None)
    assert stuck[1] == f"{day(1)}: no tariff holds on {day(1)}"


async def test_a_new_version_holds_from_its_day_on(estate: Estate) -> None:
    tariff_id = await estate.tariff(FLAT)
    async with estate.transaction() as tx:
        await estate.version(tx, tariff_id, Terms(prices_x4={Rate.FLAT: 10_000}), day(2))
    await estate.platform(0)
    await estate.night(day(1), None)
    await estate.night(day(2), 4_000)
    await billed(estate)
    old, new = await estate.bill()
    assert [part.price_x4 for part in old.parts + new.parts] == [5469, 10_000]
    assert old.version_id != new.version_id


async def test_a_person_corrects_a_day_by_name_once_and_above_a_limit_with_another(
    estate: Estate,
) -> None:
    await estate.tariff(FLAT)
    await estate.platform(0)
    await estate.night(day(1), 2_000)
    await billed(estate)
    wish = CorrectionWish(
        correction_id=uuid4(), meter_id=estate.meter, day=day(1), amount_fen=-60_000,
        operator_id=estate.shop.manager, approver_id=None, reason="wrong price",
    )  # fmt: skip

    async def ask(one: CorrectionWish) -> Charge | NotBooked | None:
        async with estate.transaction() as tx:
            return await correct(tx, one, CLOCK.now())

    alone = await ask(wish)
    assert isinstance(alone, NotBooked)
    assert alone.why.value == "second-person-needed"
    approved = replace(wish, approver_id=estate.shop.twin)
    for _ in range(2):
        assert isinstance(await ask(approved), Charge)
    assert await estate.balance_fen() == 60_000 - 2_000 * 5469 // FEN
    assert [line.kind for line in await estate.bill()] == ["reading", "decided"]
    assert await ask(replace(wish, day=day(9), correction_id=uuid4())) is None
    assert isinstance(await ask(replace(wish, amount_fen=0)), NotBooked), "id reused"
    zero = replace(wish, amount_fen=0, correction_id=uuid4())
    assert isinstance(await ask(zero), NotBooked)
    assert isinstance(
        await ask(replace(wish, reason="", amount_fen=5, correction_id=uuid4())), NotBooked
    )


async def test_the_end_of_a_day_is_where_it_should_be() -> None:
    assert end_of(FIRST).isoformat() == "2026-03-21T00:05:00+08:00"


async def test_a_meter_whose_bill_fails_holds_no_other_up(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(estate, shop=replace(estate.shop, meters=estate.shop.meters[::-1]))
    assert other.meter > estate.meter
    await estate.tariff(FLAT)
    for one in (estate, other):
        await one.platform(1_000)
        await one.night(day(1), 4_210)
    post = billing._post

    async def fails_for_the_first(tx: Transaction, meter: PlatformMeter, *more: Any) -> Charge:
        if meter.meter_id == estate.meter:
            raise RuntimeError("a fault")
        return await post(tx, meter, *more)

    with monkeypatch.context() as broken:
        broken.setattr(billing, "_post", fails_for_the_first)
        broken.setattr(billing_rounds, "METERS_A_LOOK", 1)
        assert await billed(estate) == 1
    assert await estate.bill() == []
    assert total_fen(await other.bill()) == 175
    async with estate.transaction() as tx:
        stuck = [a for a in await alarms.standing(tx) if a.code == AlarmKind.BILLING_STUCK.value]
    assert [one.meter for one in stuck] == ["M1"]
    assert await billed(estate) == 1
    assert total_fen(await estate.bill()) == 175
