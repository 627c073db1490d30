"""From batch to batch: canary, a person, the ramp; halts, stops, restarts, and taking back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

import pytest

from headend.domain.bulk import BulkLimits, ItemState, Job, JobState, NotNow, Refused
from headend.domain.commands import Accepted, Command, CommandKind, CommandState, Rejected
from headend.services import bulk
from headend.services.bulk_runner import BulkRunner
from headend.services.orders import Orders, SwitchOrder
from headend.store import bulk_items, protections, supply
from headend.store.database import Database, Transaction
from protocols.catalog import load_meter_types
from tests.headend.supply.cases import SHANGHAI
from tests.headend.supply.estate import Estate, confirmed, open_estate

S = CommandState
CUT, RESTORE = CommandKind.CUT, CommandKind.RESTORE
BY_ITSELF = BulkLimits(go_on_by_person=False)


@pytest.fixture
async def estate(database: Database) -> Estate:
    """Twelve lines of five rooms."""
    return await open_estate(database, lines=12, meters_a_line=5)


# ---- canary and ramp ----------------------------------------------------------------------------


async def test_five_go_first_and_the_rest_waits_for_a_person(estate: Estate) -> None:
    job = await estate.started()
    watching = await estate.work(job)
    assert watching.state is JobState.WATCHING
    assert await estate.states(job) == {"done": 5, "waiting": 55}
    # Five different lines: a canary is no single riser.
    canary = [i for i in (await estate.items(job)).values() if i.state is ItemState.DONE]
    assert len({item.line_id for item in canary}) == 5
    estate.later(hours=1)
    assert (await estate.work(job)).state is JobState.WATCHING
    assert isinstance(await estate.go_on(job), Job)
    assert (await estate.work(job)).state is JobState.DONE
    assert await estate.states(job) == {"done": 60}
    assert [kind for kind, _ in estate.switched] == [CUT] * 60


async def test_batches_double_and_pause_between(estate: Estate) -> None:
    job = await estate.started(limits=BY_ITSELF)
    await estate.work(job)
    batches: dict[int | None, int] = {}
    for item in (await estate.items(job)).values():
        batches[item.batch] = batches.get(item.batch, 0) + 1
    assert batches == {0: 5, 1: 10, 2: 20, 3: 25}
    async with estate.transaction() as tx:
        begins = await tx.rows(
            "SELECT min(ordered_at), max(ordered_at) FROM command JOIN bulk_item USING (command_id)"
            " GROUP BY batch ORDER BY batch"
        )
    for (_, last), (first, _) in pairwise(begins):
        assert first - last >= timedelta(seconds=BY_ITSELF.pause_s)


async def test_a_batch_waits_for_the_one_before(estate: Estate) -> None:
    job = await estate.started(limits=BY_ITSELF)
    for _ in range(40):
        await estate.runner.step(job.bulk_id)
        estate.later(seconds=1)
    assert len(await estate.queued()) == 5


async def test_a_dead_line_holds_nobody_else_up(estate: Estate) -> None:
    """One of five gets no answer from its line: within what a canary bears, so the job goes on."""
    job = await estate.started(limits=BY_ITSELF)
    dead = "M3-1"

    def end(command: Command) -> CommandState:
        return S.SENT if command.meter_id == estate.meters[dead] else S.CONFIRMED

    for _ in range(200):
        await estate.runner.step(job.bulk_id)
        await estate.obey(end)
        estate.later(seconds=5)
    assert await estate.states(job) == {"done": 59, "ordered": 1}
    assert (await estate.job(job)).state is JobState.RAMP


# ---- halts --------------------------------------------------------------------------------------


async def test_a_wrong_tariff_yields_a_list_of_900_and_it_stops_at_five(
    database: Database,
) -> None:
    """A price ten times too high empties every balance overnight. Nobody presses anything."""
    estate = await open_estate(database, lines=30, meters_a_line=30)
    async with estate.transaction() as tx:
        preview = await bulk.preview(tx, estate.wish(), estate.now)
    assert preview.damage.meters == 900
    assert preview.damage.site_permille == 1000
    assert len(preview.damage.buildings_dark) == 30
    job = await estate.started()
    assert (await estate.work(job)).state is JobState.WATCHING
    for _ in range(50):
        estate.later(minutes=10)
        await estate.work(job)
    assert [kind for kind, _ in estate.switched] == [CUT] * 5
    undone = await estate.undo(job)
    assert isinstance(undone, Job)
    assert (await estate.work(undone)).state is JobState.DONE
    cut = [meter_id for kind, meter_id in estate.switched if kind is CUT]
    restored = [meter_id for kind, meter_id in estate.switched if kind is RESTORE]
    assert sorted(restored) == sorted(cut)
    assert await estate.states(job) == {"done": 5, "left": 895}


async def test_two_failures_of_five_halt_the_rest(estate: Estate) -> None:
    job = await estate.started(limits=BY_ITSELF)
    outcomes = iter([S.REFUSED, S.REFUSED, S.CONFIRMED, S.CONFIRMED, S.CONFIRMED])
    halted = await estate.work(job, lambda _: next(outcomes))
    assert halted.state is JobState.HALTED
    assert halted.halt_reason == "2 of 5 failed."
    assert halted.halted_by is None
    assert await estate.states(job) == {"done": 3, "failed": 2, "left": 55}


async def test_one_failure_of_five_may_be_a_dead_meter(estate: Estate) -> None:
    job = await estate.started()
    outcomes = iter([S.REFUSED, S.CONFIRMED, S.CONFIRMED, S.CONFIRMED, S.CONFIRMED])
    assert (await estate.work(job, lambda _: next(outcomes))).state is JobState.WATCHING


async def test_orders_without_proof_halt_the_rest(estate: Estate) -> None:
    job = await estate.started(limits=BY_ITSELF)
    outcomes = iter([S.UNKNOWN, S.UNKNOWN, S.CONFIRMED, S.CONFIRMED, S.CONFIRMED])
    halted = await estate.work(job, lambda _: next(outcomes))
    assert halted.halt_reason == "2 of 5 gave no proof."


async def test_orders_that_never_leave_halt_the_rest_after_patience(estate: Estate) -> None:
    job = await estate.started(limits=BY_ITSELF)
    halted = await estate.work(job, obeys=False)
    assert halted.halt_reason == "5 of 5 gave no proof."
    # What had not left is taken back with it.
    assert await estate.queued() == []
    await estate.runner.step(job.bulk_id)
    assert await estate.states(job) == {"left": 60}


async def test_failures_late_in_a_ramp_stop_what_is_queued_of_the_batch(estate: Estate) -> None:
    job = await estate.started(limits=BY_ITSELF)
    sent = 0

    def end(_command: Command) -> CommandState:
        nonlocal sent
        sent += 1
        return S.CONFIRMED if sent <= 35 else S.REFUSED

    for _ in range(300):
        wait = await estate.runner.step(job.bulk_id)
        if wait is None:
            break
        # The sender takes one order between two looks.
        queued = await estate.queued()
        if queued:
            await estate.obey(end, queued[0].bulk_id) if sent < 35 else await one(estate, end)
        else:
            estate.later(seconds=1)
    assert (await estate.job(job)).state is JobState.HALTED
    assert 35 < sent < 60
    assert await estate.queued() == []


async def one(estate: Estate, end: object) -> None:
    """Only the oldest queued order is taken."""
    first = min(await estate.queued(), key=lambda c: (c.ordered_at, c.command_id))
    taken = 0

    def only_first(command: Command) -> CommandState:
        nonlocal taken
        taken += command.command_id == first.command_id
        return end(command)  # type: ignore[operator,no-any-return]

    async with estate.transaction() as tx:
        await estate.send(tx, first, only_first(first))
    assert taken == 1


async def test_a_list_that_the_rules_now_spare_halts(estate: Estate) -> None:
    """Between approval and turn the price was put right, and every balance was read anew."""
    job = await estate.started(limits=BY_ITSELF)
    estate.later(minutes=1)
    await estate.read(90_000)
    halted = await estate.work(job)
    assert halted.state is JobState.HALTED
    assert halted.halt_reason == "A rule now spares 5 of 5: the list is out of date."
    assert estate.switched == []
    assert {i.rule for i in (await estate.items(job)).values() if i.rule} == {"enough-credit"}


async def test_a_surprise_halts_the_job(estate: Estate, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_tx: Transaction, _orders: Sequence[SwitchOrder]) -> list[Accepted | Rejected]:
        raise RuntimeError("a mistake in this program")

    job = await estate.started()
    estate.runner = BulkRunner(estate.database, broken, estate.clock)
    estate.runner.start()
    async with asyncio.timeout(30):
        while (await estate.job(job)).state is not JobState.HALTED:
            await asyncio.sleep(0.01)
    await estate.runner.stop()
    assert "RuntimeError" in (await estate.job(job)).halt_reason
    assert "a mistake in this program" in caplog.text


# ---- the rules at each turn ---------------------------------------------------------------------


async def test_each_meter_is_looked_at_again_when_its_turn_comes(estate: Estate) -> None:
    job = await estate.started(limits=BY_ITSELF)
    order = [i.meter for i in (await estate.items(job)).values()]
    estate.later(minutes=1)
    async with estate.transaction() as tx:
        await protections.lock_out(
            tx,
            meter_id=estate.meters[order[0]],
            reason="new breaker",
            by=estate.colleague,
            now=estate.clock.now,
        )
    await estate.read(1, order[1])
    await estate.work(job)
    items = await estate.items(job)
    assert (items[order[0]].rule, items[order[1]].rule) == ("locked-out", "enough-credit")
    assert items[order[0]].detail == "zhao works there: new breaker"
    assert await estate.states(job) == {"done": 58, "spared": 2}


async def test_night_falls_on_a_ramp_and_nobody_more_is_cut(estate: Estate) -> None:
    async with estate.transaction() as tx:
        from headend.domain.friendly_hours import usual_calendar

        await supply.set_calendar(
            tx, estate.site_id, usual_calendar(SHANGHAI), by=estate.manager, at=estate.now
        )
    job = await estate.started()
    await estate.work(job)
    estate.later(hours=8, minutes=1)  # 20:01
    await estate.go_on(job)
    halted = await estate.work(job)
    assert halted.state is JobState.HALTED
    assert len(estate.switched) == 5
    assert "friendly-hours" in {item.rule for item in (await estate.items(job)).values()}


async def test_the_last_look_objects_to_what_changed_in_the_queue(estate: Estate) -> None:
    job = await estate.started()
    while len(await estate.queued()) < 5:
        await estate.runner.step(job.bulk_id)
    protected = (await estate.queued())[0]
    async with estate.transaction() as tx:
        await protections.protect(
            tx,
            meter_id=protected.meter_id,
            reason="an oxygen concentrator",
            expires_at=estate.now + timedelta(days=1),
            by=estate.colleague,
            now=estate.clock.now,
        )
    await estate.obey()
    await estate.runner.step(job.bulk_id)
    spared = [i for i in (await estate.items(job)).values() if i.state is ItemState.SPARED]
    assert [item.meter_id for item in spared] == [protected.meter_id]
    assert spared[0].rule == "last-look"
    assert "an oxygen concentrator" in spared[0].detail
    assert len(estate.switched) == 4


# ---- stop, restart ------------------------------------------------------------------------------


async def test_stop_takes_back_what_has_not_left_and_survives_a_restart(estate: Estate) -> None:
    job = await estate.started()
    while len(await estate.queued()) < 5:
        await estate.runner.step(job.bulk_id)
    stopped = await estate.stop(job)
    assert isinstance(stopped, Job)
    assert (stopped.state, stopped.halted_by) == (JobState.HALTED, estate.colleague)
    assert await estate.queued() == []
    estate.new_runner()
    assert (await estate.work(job)).state is JobState.HALTED
    assert estate.switched == []
    assert await estate.states(job) == {"left": 60}
    assert await estate.go_on(job) == Refused(NotNow.WRONG_STATE, "halted")
    assert await estate.stop(job) == stopped


async def test_an_order_claimed_before_the_stop_is_not_sent_after_it(estate: Estate) -> None:
    job = await estate.started()
    while len(await estate.queued()) < 5:
        await estate.runner.step(job.bulk_id)
    (command, *_) = await estate.queued()
    await estate.stop(job)
    async with estate.transaction() as tx:
        objection = await bulk.last_look(tx, command, estate.now)
    assert objection == "The bulk job halted, so its order was not sent: wrong list."


async def test_a_stop_gets_in_between_two_orders_of_a_running_batch(estate: Estate) -> None:
    """The runner feeds a large batch; the stop waits for a few orders, not for all of them."""
    job = await estate.started(limits=BulkLimits(canary=60, batch_max=60, go_on_by_person=False))
    estate.runner.start()
    async with asyncio.timeout(30):
        while not await estate.queued():
            await asyncio.sleep(0.001)
    stopped = await estate.stop(job)
    await estate.runner.stop()
    assert isinstance(stopped, Job)
    assert stopped.state is JobState.HALTED
    assert await estate.queued() == []
    estate.new_runner()
    await estate.runner.step(job.bulk_id)
    assert await estate.states(job) == {"left": 60}


async def test_a_killed_runner_goes_on_where_it_was_and_orders_nothing_twice(
    estate: Estate,
) -> None:
    job = await estate.started(limits=BY_ITSELF)
    for _ in range(400):
        estate.new_runner()  # a new process for every single step
        wait = await estate.runner.step(job.bulk_id)
        if wait is None:
            break
        if not await estate.obey():
            estate.later(seconds=1)
    assert (await estate.job(job)).state is JobState.DONE
    assert len(estate.switched) == 60
    assert len({meter_id for _, meter_id in estate.switched}) == 60


async def test_two_runners_at_once_order_nothing_twice(estate: Estate) -> None:
    job = await estate.started(limits=BY_ITSELF)
    other = BulkRunner(
        estate.database, Orders(estate.clock, load_meter_types()).switch_many, estate.clock
    )
    for _ in range(100):
        waits = await asyncio.gather(estate.runner.step(job.bulk_id), other.step(job.bulk_id))
        if None in waits:
            break
        if not await estate.obey():
            estate.later(seconds=1)
    assert len(estate.switched) == 60
    assert len({meter_id for _, meter_id in estate.switched}) == 60


async def test_downtime_does_not_count_as_patience(estate: Estate) -> None:
    job = await estate.started(limits=BY_ITSELF)
    while len(await estate.queued()) < 5:
        await estate.runner.step(job.bulk_id)
    estate.later(minutes=30)  # the machine was off
    estate.new_runner()
    await estate.runner.step(job.bulk_id)
    assert (await estate.job(job)).state is JobState.CANARY
    assert len(await estate.queued()) == 5


async def test_the_running_runner_does_it_all_by_itself(estate: Estate) -> None:
    job = await estate.planned("M1-1", "M1-2", "M2-1")
    estate.runner.start()
    try:
        await estate.start(job)
        async with asyncio.timeout(60):
            while (await estate.job(job)).state is not JobState.DONE:
                await estate.obey(confirmed)
                await asyncio.sleep(0.01)
    finally:
        await estate.runner.stop()
    assert len(estate.switched) == 3
    async with estate.transaction() as tx:
        assert await bulk_items.jobs_to_follow(tx) == []
