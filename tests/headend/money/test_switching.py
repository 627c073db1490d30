"""Cut, restore, release; the limits below every screen; from money received to light on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from headend.domain.commands import Accepted, CommandKind, CommandState, Rejected, Why
from headend.domain.limits import HardLimits, Rate
from headend.services.delivery import Held
from headend.services.orders import ConfigureOrder
from headend.services.restore_clock import LATE_AFTER_S, restore_chain, restore_clocks, tell
from headend.services.rules import Rules
from headend.store import command_events
from headend.store.database import Database
from protocols.exchange import Evidence
from protocols.settings import Overdraft
from simulators.metering import Forced
from tests.headend.money.shop import PATIENCE_S, Fate, always, once, shop

S, K = CommandState, CommandKind
HOUR = timedelta(hours=1)


async def test_a_cut_is_proved_by_the_relay(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        command_id = await s.switched(K.CUT)
        await s.reaches(command_id, S.CONFIRMED)
        assert s.meter().forced is Forced.OPEN
        (attempt,) = await s.attempts(command_id)
        assert attempt.before.relay_closed_bits
        assert attempt.after == Evidence(relay_closed_bits=0, forced=True)


@pytest.mark.parametrize("fate", [Fate.LOSE, Fate.MUTE])
async def test_a_relay_is_looked_at_before_it_is_ordered_again(
    database: Database, tmp_path: Path, fate: Fate
) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = once(fate, write=True)
        await s.open_sender()
        command = await s.reaches(await s.switched(K.CUT), S.CONFIRMED)
        assert s.meter().forced is Forced.OPEN
        assert command.attempts == (2 if fate is Fate.LOSE else 1)


async def test_paid_to_light_on_is_one_chain_and_ends_with_the_relay_released(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        await s.reaches(await s.switched(K.CUT), S.CONFIRMED)
        s.later(minutes=11)
        command_id = await s.sell(5_000)
        await s.reaches(command_id, S.CONFIRMED)
        restore = await s.follower(command_id, K.RESTORE)
        assert restore is not None, "ordered by the very transaction that posted the money"
        await s.reaches(restore.command_id, S.CONFIRMED)
        release = await s.follower(restore.command_id, K.RELEASE)
        assert release is not None
        await s.reaches(release.command_id, S.CONFIRMED)
        look = s.meter().look()
        assert (look.relay_closed, look.forced) == (True, Forced.RELEASED)
        stages = [e.stage for e in await s.events(command_id) if e.stage]
        assert stages == ["paid", "sent", "in_meter", "light_on"]
        async with database.transaction() as tx:
            chain = await restore_chain(tx, command_id)
            assert await restore_clocks(tx, s.clock.now()) == []
        assert chain is not None
        instants = [chain.paid_at, chain.sent_at, chain.in_meter_at, chain.light_on_at]
        assert instants == sorted(instants)  # type: ignore[type-var]


async def test_a_meter_that_cut_itself_ends_its_clock_by_itself(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        s.meter().set_account(remaining_fen=0)
        assert not s.meter().look().relay_closed
        await s.open_sender()
        command_id = await s.sell(5_000)
        await s.reaches(command_id, S.CONFIRMED)
        assert s.meter().look().relay_closed
        assert await s.follower(command_id, K.RESTORE) is None
        async with database.transaction() as tx:
            chain = await restore_chain(tx, command_id)
        assert chain is not None
        assert chain.light_on_at == chain.in_meter_at is not None


async def test_a_meter_with_light_gets_no_restore(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        command_id = await s.sell(5_000)
        await s.reaches(command_id, S.CONFIRMED)
        assert await s.follower(command_id, K.RESTORE) is None


async def test_too_little_money_brings_no_light(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        await s.reaches(await s.switched(K.CUT), S.CONFIRMED)
        s.later(minutes=11)
        s.meter().set_account(remaining_fen=-10_000)
        command_id = await s.sell(5_000)
        await s.reaches(command_id, S.CONFIRMED)
        assert await s.follower(command_id, K.RESTORE) is None


@pytest.mark.parametrize("on", [True, False])
async def test_no_relay_toggles_twice_in_ten_minutes(
    database: Database, tmp_path: Path, on: bool
) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender(rules=Rules(hard_limits=on))
        await s.reaches(await s.switched(K.CUT), S.CONFIRMED)
        restore_id = await s.switched(K.RESTORE)
        async with database.transaction() as tx:  # whatever the order says: the sender holds it
            await tx.execute("UPDATE command SET not_before = ordered_at WHERE state = 'queued'")
        s.sender.wake(s.house.book.lines["L1"].known.line_id)  # type: ignore[union-attr]
        if not on:
            await s.reaches(restore_id, S.CONFIRMED)
            return
        async with asyncio.timeout(PATIENCE_S):
            while "short while ago" not in (await s.command(restore_id)).outcome:
                await asyncio.sleep(0.01)
        assert s.meter().forced is Forced.OPEN
        s.later(minutes=10)
        await s.reaches(restore_id, S.CONFIRMED)
        rejected = await s.switch(K.CUT)
        assert isinstance(rejected, Rejected)
        assert rejected.why is Why.TOGGLED_RECENTLY


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("kind", [K.CUT, K.RESTORE])
async def test_more_than_the_limit_waits_whoever_asked(
    database: Database, tmp_path: Path, kind: CommandKind, on: bool
) -> None:
    async with shop(database, tmp_path) as s:
        limits = HardLimits(rates={kind: (Rate(1, HOUR),)})
        await s.open_sender(rules=Rules(hard_limits=on), limits=limits)
        await s.reaches(await s.switched(kind, 1), S.CONFIRMED)
        second = await s.switched(kind, 2)
        if not on:
            await s.reaches(second, S.CONFIRMED)
            return
        async with asyncio.timeout(PATIENCE_S):
            while "limit" not in (await s.command(second)).outcome:
                await asyncio.sleep(0.01)
        assert s.bus.writes(2) == []
        s.later(minutes=61)
        await s.reaches(second, S.CONFIRMED)


@pytest.mark.parametrize("on", [True, False])
async def test_a_payment_on_its_way_stops_a_cut_at_the_last_moment(
    database: Database, tmp_path: Path, on: bool
) -> None:
    async with shop(database, tmp_path) as s:
        cut_id = await s.switched(K.CUT)
        await s.sell(5_000)
        async with database.transaction() as tx:  # the money waits for some reason of its own
            await tx.execute(
                "UPDATE command SET not_before = not_before + interval '1 h' WHERE kind = 'top_up'"
            )
        await s.open_sender(rules=Rules(last_check=on))
        cut = await s.reaches(cut_id, S.REFUSED, S.CONFIRMED)
        assert (cut.state is S.REFUSED) is on
        assert (s.bus.writes() == []) is on
        if on:
            assert "on their way" in cut.outcome


async def test_a_last_check_sees_what_the_meter_shows_and_may_put_it_off(
    database: Database, tmp_path: Path
) -> None:
    seen: list[int | None] = []
    async with shop(database, tmp_path) as s:

        async def not_yet(_tx: object, _command: object, before: Evidence) -> Held | None:
            seen.append(before.remaining_credit_fen)
            if len(seen) > 1:
                return None
            return Held("somebody works on the circuit", s.clock.now() + HOUR)

        await s.open_sender(last_check=not_yet)
        cut_id = await s.switched(K.CUT)
        async with asyncio.timeout(PATIENCE_S):
            while not (await s.command(cut_id)).outcome:
                await asyncio.sleep(0.01)
        assert s.bus.writes() == []
        s.later(minutes=61)
        await s.reaches(cut_id, S.CONFIRMED)
        assert seen[0] == s.meter().remaining_fen


async def test_money_that_came_takes_back_a_cut_that_waits(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        cut_id = await s.switched(K.CUT)
        sold = await s.sell(5_000)
        await s.open_sender()  # money goes before cuts, whichever was ordered first
        await s.reaches(sold, S.CONFIRMED)
        assert (await s.command(cut_id)).state is S.CANCELLED
        assert s.meter().forced is Forced.RELEASED


async def test_a_cut_nobody_could_deliver_is_dropped_not_fired_at_dawn(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        cut_id = await s.switched(K.CUT)
        s.later(hours=3)
        await s.open_sender()
        await s.reaches(cut_id, S.EXPIRED)
        assert s.bus.writes() == []


async def test_a_newer_order_replaces_one_that_waits(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        cut_id = await s.switched(K.CUT)
        restore_id = await s.switched(K.RESTORE)
        assert (await s.command(cut_id)).state is S.CANCELLED
        assert (await s.command(restore_id)).state is S.QUEUED


async def test_a_cut_never_takes_back_light_that_was_paid_for(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        await s.reaches(await s.switched(K.CUT), S.CONFIRMED)
        sold = await s.sell(5_000)
        await s.reaches(sold, S.CONFIRMED)
        restore = await s.follower(sold, K.RESTORE)
        assert restore is not None
        assert restore.state is S.QUEUED, "the relay has just moved"
        cut_id = await s.switched(K.CUT)  # by somebody who does not know
        s.later(minutes=11)
        await s.reaches(restore.command_id, S.CONFIRMED)
        release = await s.follower(restore.command_id, K.RELEASE)
        assert release is not None
        await s.reaches(release.command_id, S.CONFIRMED)
        assert s.meter().forced is Forced.RELEASED
        assert (await s.command(cut_id)).attempts == 0


async def test_a_late_light_is_told_once_for_each_step(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        await s.reaches(await s.switched(K.CUT), S.CONFIRMED)
        await s.kill_sender()
        s.later(minutes=11)
        command_id = await s.sell(5_000)
        told = []
        for step_s in (0, *LATE_AFTER_S):
            s.later(seconds=step_s)
            for _ in range(2):
                async with database.transaction() as tx:
                    told.append(await tell(tx, s.clock.now()))
        assert told == [0, 0] + [1, 0] * len(LATE_AFTER_S)
        late = [e for e in await s.events(command_id) if e.new_state == command_events.LATE]
        assert len(late) == len(LATE_AFTER_S)
        assert "no light 2 minutes after" in late[0].note
        async with database.transaction() as tx:
            (clock,) = await restore_clocks(tx, s.clock.now())
        assert clock.stage == "paid"
        assert clock.running_s >= sum(LATE_AFTER_S)
        await s.open_sender()
        await s.reaches(command_id, S.CONFIRMED)
        restore = await s.follower(command_id, K.RESTORE)
        assert restore is not None
        await s.reaches(restore.command_id, S.CONFIRMED)
        async with database.transaction() as tx:
            assert await restore_clocks(tx, s.clock.now()) == []


async def test_events_come_in_order_and_a_young_hole_is_waited_for(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = always(Fate.LOSE)
        first = await s.switched(K.CUT, 1)
        async with database.transaction() as slow:
            await slow.execute(
                "SELECT nextval(pg_get_serial_sequence('command_event', 'event_id'))"
            )
            await s.switched(K.CUT, 2)
            async with database.transaction() as tx:
                seen = await command_events.events(tx, 0)
            assert [e.command_id for e in seen] == [first], "the next one may still be overtaken"
        async with database.transaction() as tx:
            await tx.execute("ALTER TABLE command_event DISABLE TRIGGER ALL")
            await tx.execute("UPDATE command_event SET stored_at = stored_at - interval '1 min'")
            assert len(await command_events.events(tx, 0)) == 2, "that hole stays"


@pytest.mark.parametrize("fate", [None, Fate.MUTE])
async def test_a_setting_is_proved_by_reading_it_back(
    database: Database, tmp_path: Path, fate: Fate | None
) -> None:
    async with shop(database, tmp_path) as s:
        s.bus.script = once(fate, write=True) if fate is not None else None
        await s.open_sender()
        order = ConfigureOrder(
            command_id=uuid4(),
            meter_id=s.ids["M1"],
            setting=Overdraft(overdraft_fen=1_000),
            operator_id=s.li,
            reason="credit agreed",
        )
        async with database.transaction() as tx:
            assert isinstance(await s.orders.configure(tx, order), Accepted)
        await s.reaches(order.command_id, S.CONFIRMED)
        assert s.meter().account.overdraft_fen == 1_000
        assert len(s.bus.writes()) == 1
