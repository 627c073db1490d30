"""Alarms over a real database: one for each kind and subject, each rise and fall once."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from headend.domain.alarms import AlarmKind, AlarmRules, AlarmState, MeterLook
from headend.domain.problems import Problem
from headend.domain.reconciliation import DifferenceKind, Finding
from headend.services.alarm_watch import watch
from headend.services.tending import Tending
from headend.store import alarm_looks, alarms, line_events, people, readings, reconcile, work_orders
from headend.store.alarms import Alarm, AlarmFilter
from headend.store.database import Transaction
from protocols.reading import Origin, Quantity, Reading
from tests.headend.house import TestClock
from tests.headend.ledger.shop import Shop

K, Q = AlarmKind, Quantity


class Watcher:
    """A shop that is watched at instants of the test's own."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.clock = shop, TestClock(instant=shop.now())

    async def look(self, **values: int) -> None:
        """A reading of M1 now."""
        at = self.clock.now()
        async with self.shop.transaction() as tx:
            named = {Q[name.upper()]: value for name, value in values.items()}
            one = Reading(meter_id=self.shop.meters[0], at=at, received_at=at,
                          origin=Origin.POLLED, values=named)  # fmt: skip
            await readings.store_readings(tx, [one])

    async def watch(self, **later: float) -> tuple[int, int]:
        self.clock.instant += timedelta(**later)
        seen = await watch(self.shop.database, self.clock)
        return seen.raised, seen.ended

    async def codes(self) -> list[str]:
        return [one.code for one in await self.standing()]

    async def standing(self) -> list[Alarm]:
        async with self.shop.transaction() as tx:
            return await alarms.standing(tx)

    async def tending(self, name: str = "wang") -> Tending:
        async with self.shop.transaction() as tx:
            operator = await people.find_operator(tx, name)
        assert operator is not None
        return Tending(operator, self.clock)


@pytest.fixture
def watcher(shop: Shop) -> Watcher:
    return Watcher(shop)


async def test_a_site_that_comes_during_a_look_is_looked_at(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its meters were there and its rules were not: the whole watch met a fault."""
    look = alarm_looks.meter_looks

    async def meanwhile(tx: Transaction) -> list[tuple[int, int, MeterLook]]:
        async with watcher.shop.transaction() as other:
            site_id = await other.value(
                "INSERT INTO site (name, time_zone, night_opens, night_closes) SELECT 'new',"
                " time_zone, night_opens, night_closes FROM site LIMIT 1 RETURNING site_id"
            )
            await other.execute(
                "UPDATE meter SET site_id = %s, room_id = NULL WHERE meter_id = %s",
                site_id,
                watcher.shop.meters[0],
            )
        return await look(tx)

    monkeypatch.setattr(alarm_looks, "meter_looks", meanwhile)
    await watcher.look(remaining_credit=1_900)
    assert await watcher.watch() == (1, 0)


async def test_low_credit_comes_in_two_steps_and_goes_with_the_top_up(watcher: Watcher) -> None:
    await watcher.look(remaining_credit=1_900)
    assert await watcher.watch() == (1, 0)
    await watcher.look(remaining_credit=2_050)
    assert await watcher.watch(minutes=5) == (0, 0), "in the band: the same alarm"
    await watcher.look(remaining_credit=400)
    assert await watcher.watch(minutes=5) == (1, 0)
    assert await watcher.codes() == ["low-credit", "very-low-credit"]
    watcher.clock.instant += timedelta(minutes=5)
    await watcher.look(remaining_credit=-1_250)
    assert await watcher.watch() == (1, 0)
    (debt,) = [one for one in await watcher.standing() if one.code == "arrears"]
    assert (debt.detail, debt.at_risk_fen) == ("arrears of 12.50 yuan", 1_250)
    watcher.clock.instant += timedelta(minutes=5)
    await watcher.look(remaining_credit=9_000)
    assert await watcher.watch() == (0, 3)
    assert await watcher.codes() == []


async def test_what_lasts_is_counted_and_not_raised_again(watcher: Watcher) -> None:
    await watcher.watch(hours=31)  # both meters were last heard a moment ago
    assert await watcher.codes() == ["meter-offline"] * 2
    for _ in range(3):
        assert await watcher.watch(minutes=10) == (0, 0)
    assert {one.seen_count for one in await watcher.standing()} == {1}, "seen an hour ago at most"
    await watcher.watch(hours=1)
    assert {one.seen_count for one in await watcher.standing()} == {2}


async def test_the_database_lets_no_second_alarm_stand(watcher: Watcher) -> None:
    await watcher.look(remaining_credit=1_900)
    await watcher.watch()
    with (
        psycopg.connect(watcher.shop.database.conninfo) as connection,
        pytest.raises(psycopg.errors.UniqueViolation, match="an_alarm_is_raised_once"),
    ):
        connection.execute(
            "INSERT INTO alarm (code, meter_id, detail, raised_at, last_seen_at)"
            " SELECT code, meter_id, detail, raised_at, last_seen_at FROM alarm"
        )


async def test_a_gateway_is_missed_after_a_while_and_back_when_it_stays(watcher: Watcher) -> None:
    async def line(*, is_up: bool) -> None:
        async with watcher.shop.transaction() as tx:
            line_id = await tx.value("SELECT line_id FROM line")
            await line_events.record_event(
                tx, line_id, watcher.clock.now(), is_up=is_up, reason="unplugged"
            )

    await line(is_up=False)
    assert await watcher.watch(minutes=14) == (0, 0)
    assert await watcher.watch(minutes=2) == (1, 0)
    assert [one.gateway for one in await watcher.standing()] == ["G1"]
    await line(is_up=True)
    assert await watcher.watch(minutes=1) == (0, 0), "not back before it stays"
    assert await watcher.watch(minutes=2) == (0, 1)


async def test_an_outcome_that_stays_unknown_is_about_its_command(watcher: Watcher) -> None:
    command_id, at = uuid4(), watcher.clock.now()
    with psycopg.connect(watcher.shop.database.conninfo) as connection:
        connection.execute(
            "INSERT INTO command (command_id, meter_id, kind, details, ordered_by, reason,"
            " ordered_at, not_before, expires_at, changed_at)"
            " VALUES (%s, %s, 'cut', '{}', %s, 'r', %s, %s, %s, %s)",
            (command_id, watcher.shop.meters[0], watcher.shop.manager, at, at,
             at + timedelta(days=9), at),
        )  # fmt: skip
        for state, extra in (
            ("claimed", "look_again_at"), ("sent", "look_again_at"), ("unknown", "ordered_at"),
        ):  # fmt: skip
            connection.execute(
                f"UPDATE command SET state = '{state}', look_again_at = {extra}".encode()
            )
    assert await watcher.watch(minutes=29) == (0, 0)
    assert await watcher.watch(minutes=2) == (1, 0)
    (one,) = await watcher.standing()
    assert (one.code, one.command_id, one.meter) == ("unknown-too-long", command_id, "M1")
    with psycopg.connect(watcher.shop.database.conninfo) as connection:
        connection.execute("UPDATE command SET state = 'confirmed', look_again_at = NULL")
    assert await watcher.watch(minutes=1) == (0, 1)


async def test_a_purchase_the_books_never_sold_is_a_ghost(watcher: Watcher) -> None:
    found = Finding(DifferenceKind.FOREIGN_PURCHASE, 1, 5_000, "one purchase of 50.00 too many")
    async with watcher.shop.transaction() as tx:
        await reconcile.record(tx, watcher.shop.meters[0], found, watcher.clock.now())
    assert await watcher.watch() == (1, 0)
    (ghost,) = await watcher.standing()
    assert (ghost.code, ghost.at_risk_fen) == ("ghost-purchase", 5_000)
    async with watcher.shop.transaction() as tx:
        await reconcile.close(
            tx, watcher.shop.meters[0], closed_by=None, reason="agree", at=watcher.clock.now()
        )
    assert await watcher.watch() == (0, 1)


async def test_closed_by_hand_it_rests_a_day_and_comes_again_while_its_cause_stands(
    watcher: Watcher,
) -> None:
    await watcher.look(remaining_credit=1_900, relay_closed=0, power=500)
    await watcher.watch()
    tending = await watcher.tending()
    (tamper,) = [one for one in await watcher.standing() if one.code == "tamper"]
    async with watcher.shop.transaction() as tx:
        done = await tending.close_alarm(tx, tamper.alarm_id, "the heater of the lift", None)
    assert (done.state, done.closed_by) == (AlarmState.CLOSED, "wang")
    assert await watcher.watch(hours=23) == (0, 0), "looked at: not again at once"
    assert await watcher.watch(hours=2) == (1, 0), "the cause stands after a day"


async def test_closed_by_hand_and_then_over_it_is_a_new_alarm_at_once(watcher: Watcher) -> None:
    await watcher.look(relay_closed=0, power=500)
    await watcher.watch()
    tending = await watcher.tending()
    async with watcher.shop.transaction() as tx:
        (one,) = await alarms.standing(tx)
        await tending.close_alarm(tx, one.alarm_id, "switched off", None)
    watcher.clock.instant += timedelta(minutes=10)
    await watcher.look(relay_closed=0, power=0)
    assert await watcher.watch() == (0, 0)
    watcher.clock.instant += timedelta(minutes=10)
    await watcher.look(relay_closed=0, power=500)
    assert await watcher.watch() == (1, 0)


async def test_nobody_overwrites_what_they_never_saw(watcher: Watcher) -> None:
    await watcher.look(remaining_credit=1_900)
    await watcher.watch()
    tending = await watcher.tending()
    (one,) = await watcher.standing()
    async with watcher.shop.transaction() as tx:
        seen = await tending.acknowledge(tx, one.alarm_id, "on my way", one.version)
        assert (seen.state, seen.note) == (AlarmState.ACKNOWLEDGED, "on my way")
        with pytest.raises(Problem) as late:
            await tending.close_alarm(tx, one.alarm_id, "done", one.version)
        assert (late.value.code, late.value.kind.http_status) == ("changed-meanwhile", 412)
        with pytest.raises(Problem, match="li cannot be given this"):
            await tending.assign_alarm(tx, one.alarm_id, "li", "", seen.version)


async def test_work_orders_are_ranked_by_the_money_at_risk(watcher: Watcher) -> None:
    tending = await watcher.tending()
    await watcher.look(remaining_credit=-4_000)
    await watcher.watch()
    (debt,) = [one for one in await watcher.standing() if one.code == "arrears"]
    async with watcher.shop.transaction() as tx:
        site_id = debt.site_id
        assert site_id is not None
        dull = await tending.open_order(
            tx, site_id=site_id, title="paint", to="wang", meter_id=watcher.shop.meters[1]
        )
        dear = await tending.open_from_alarm(tx, debt.alarm_id, "look at the relay", "")
        todo = await work_orders.open_ones(tx, None)
        assert [one.work_order_id for one in todo] == [dear.work_order_id, dull.work_order_id]
        assert [one.at_risk_fen for one in todo] == [4_000, 0]
        mine = await work_orders.open_ones(tx, None, assigned_to=watcher.shop.manager)
        assert [one.title for one in mine] == ["paint"]
        with pytest.raises(Problem, match="has an open work order already"):
            await tending.open_from_alarm(tx, debt.alarm_id, "again", "")
        await tending.comment(tx, dear.work_order_id, "key at the gate")
        await tending.close_order(tx, dear.work_order_id, "relay replaced", None)
        with pytest.raises(Problem) as ended:
            await tending.close_order(tx, dear.work_order_id, "again", None)
        assert ended.value.code == "ended-already"
        steps = await work_orders.steps(tx, dear.work_order_id)
    assert [step.action for step in steps] == ["opened", "commented", "closed"]


async def test_rules_belong_to_a_site_and_pages_have_cursors(watcher: Watcher) -> None:
    async with watcher.shop.transaction() as tx:
        site_id = await tx.value("SELECT site_id FROM site")
        generous = AlarmRules(low_credit_fen=9_500, very_low_credit_fen=9_000)
        await alarm_looks.set_rules(tx, site_id, generous, by=None, at=watcher.clock.now())
    await watcher.look(remaining_credit=8_000)
    assert await watcher.watch() == (2, 0)
    async with watcher.shop.transaction() as tx:
        first = await alarms.page(tx, AlarmFilter(), count=1)
        second = await alarms.page(tx, AlarmFilter(), after=first[0].alarm_id, count=1)
        assert [one.code for one in first + second] == ["low-credit", "very-low-credit"]
        assert await alarms.page(tx, AlarmFilter(whose=[site_id + 1])) == []
        assert await alarms.count_raised(tx, [site_id]) == 2
