"""Taking back: exactly what was cut, last first, some of each line at a time, lock-outs first."""

from __future__ import annotations

from datetime import timedelta

import pytest

from headend.domain.bulk import BulkLimits, ItemState, Job, JobState, NotNow, Refused
from headend.domain.commands import Command, CommandKind, CommandState
from headend.store import commands, protections
from headend.store.database import Database
from tests.headend.supply.estate import DEBT_FEN, Estate, open_estate

S = CommandState
CUT, RESTORE = CommandKind.CUT, CommandKind.RESTORE
BY_ITSELF = BulkLimits(go_on_by_person=False)


@pytest.fixture
async def estate(database: Database) -> Estate:
    """Twelve lines of five rooms."""
    return await open_estate(database, lines=12, meters_a_line=5)


async def test_undo_stops_and_restores_exactly_what_was_cut_last_first(estate: Estate) -> None:
    dark_before = "M12-5"
    await estate.read(DEBT_FEN, dark_before, relay=0)
    estate.later(minutes=1)
    await estate.read(DEBT_FEN, dark_before, relay=0)
    job = await estate.started(limits=BY_ITSELF)
    while len(estate.switched) < 15:
        await estate.runner.step(job.bulk_id)
        if not await estate.obey():
            estate.later(seconds=1)
    undone = await estate.undo(job)
    assert isinstance(undone, Job)
    assert (await estate.job(job)).state is JobState.HALTED
    assert (undone.undo_of, undone.needs_approval) == (job.bulk_id, False)
    assert (await estate.work(undone)).state is JobState.DONE
    await estate.runner.step(job.bulk_id)  # a halted job still learns what became of its orders
    by_position = sorted(
        (i for i in (await estate.items(job)).values() if i.state is ItemState.DONE),
        key=lambda item: -(item.position or 0),
    )
    restored = [meter_id for kind, meter_id in estate.switched if kind is RESTORE]
    assert sorted(restored) == sorted(item.meter_id for item in by_position)
    undo_items = (await estate.items(undone)).values()
    assert [i.meter_id for i in undo_items] == [item.meter_id for item in by_position]
    assert estate.meters[dark_before] not in restored
    # Nothing is left to take back, and nothing is taken back twice.
    assert await estate.undo(job) == Refused(NotNow.NOTHING_TO_DO)


async def test_undo_waits_for_the_relays_and_never_toggles_twice_in_ten_minutes(
    estate: Estate,
) -> None:
    job = await estate.started()
    await estate.work(job)
    cut_at = estate.now
    undone = await estate.undo(job)
    assert isinstance(undone, Job)
    await estate.work(undone)
    assert [kind for kind, _ in estate.switched] == [CUT] * 5 + [RESTORE] * 5
    async with estate.transaction() as tx:
        first = await tx.value("SELECT min(sent_at) FROM attempt WHERE kind = 'restore'")
    assert timedelta(minutes=9) < first - cut_at < timedelta(minutes=12)


async def test_undo_comes_back_for_what_was_unproved(estate: Estate) -> None:
    """One cut had no proof when everything was taken back; it is proved applied later."""
    job = await estate.started(limits=BY_ITSELF)
    first = next(iter(await estate.items(job)))

    def end(command: Command) -> CommandState:
        return S.UNKNOWN if command.meter_id == estate.meters[first] else S.CONFIRMED

    while len(estate.switched) < 4:
        await estate.runner.step(job.bulk_id)
        await estate.obey(end)
    await estate.runner.step(job.bulk_id)
    undone = await estate.undo(job)
    assert isinstance(undone, Job)
    for _ in range(60):
        await estate.runner.step(undone.bulk_id)
        await estate.obey()
        estate.later(seconds=20)
    assert await estate.states(undone) == {"done": 4, "waiting": 1}
    await estate.settle(first, "applied")
    await estate.runner.step(job.bulk_id)
    estate.later(minutes=10)
    assert (await estate.work(undone)).state is JobState.DONE
    assert estate.switched[-1] == (RESTORE, estate.meters[first])


async def test_undo_leaves_alone_what_was_never_cut(estate: Estate) -> None:
    job = await estate.started(limits=BY_ITSELF)
    first = next(iter(await estate.items(job)))

    def end(command: Command) -> CommandState:
        return S.UNKNOWN if command.meter_id == estate.meters[first] else S.CONFIRMED

    while len(estate.switched) < 4:
        await estate.runner.step(job.bulk_id)
        await estate.obey(end)
    undone = await estate.undo(job)
    assert isinstance(undone, Job)
    await estate.settle(first, "not_applied")  # proved: its cut goes back to the queue …
    await estate.obey()  # … and the last look refuses it, because the job halted
    assert (await estate.work(undone)).state is JobState.DONE
    await estate.runner.step(job.bulk_id)
    assert (await estate.items(job))[first].state is ItemState.FAILED
    assert (await estate.items(undone))[first].rule == "already-on"
    assert estate.meters[first] not in [meter_id for _, meter_id in estate.switched]


async def test_light_comes_back_a_few_of_each_line_at_a_time(database: Database) -> None:
    estate = await open_estate(database, lines=1, meters_a_line=30)
    wish = BulkLimits(canary=20, batch_max=20, sample_min=5, go_on_by_person=False)
    job = await estate.started(limits=wish)
    await estate.work(job)
    estate.later(minutes=11)
    undone = await estate.undo(job)
    assert isinstance(undone, Job)
    assert (await estate.work(undone)).state is JobState.DONE
    batches: dict[int | None, int] = {}
    for item in (await estate.items(undone)).values():
        batches[item.batch] = batches.get(item.batch, 0) + 1
    assert max(batches.values()) == undone.limits.per_line_max
    assert sum(batches.values()) == 30


async def test_a_lock_out_wins_over_taking_back(estate: Estate) -> None:
    job = await estate.started()
    await estate.work(job)
    done = [i.meter for i in (await estate.items(job)).values() if i.state is ItemState.DONE]
    async with estate.transaction() as tx:
        line_id = (await estate.items(job))[done[0]].line_id
        number = await protections.lock_out(
            tx, line_id=line_id, reason="new busbar", by=estate.colleague, now=estate.clock.now
        )
    undone = await estate.undo(job)
    assert isinstance(undone, Job)
    await estate.work(undone)
    assert (await estate.items(undone))[done[0]].rule == "locked-out"
    assert estate.meters[done[0]] not in [m for kind, m in estate.switched if kind is RESTORE]
    # When the work is over, the button takes back the one that is left.
    async with estate.transaction() as tx:
        assert await protections.lift_lock_out(
            tx, number, reason="done", by=estate.colleague, at=estate.now
        )
    again = await estate.undo(job)
    assert isinstance(again, Job)
    await estate.work(again)
    assert [i.meter for i in (await estate.items(again)).values()] == [done[0]]
    assert estate.switched[-1] == (RESTORE, estate.meters[done[0]])


async def test_a_cut_that_had_not_arrived_when_its_job_was_done_stays_away(estate: Estate) -> None:
    """Found by seed 130 of a trial: it was sent once more after everything had been taken back."""
    names = ("M1-1", "M2-1", "M3-1", "M4-1", "M5-1")
    job = await estate.started(*names, limits=BY_ITSELF)
    unproved = estate.meters[names[2]]

    def end(command: Command) -> CommandState:
        return S.UNKNOWN if command.meter_id == unproved else S.CONFIRMED

    while (await estate.job(job)).state is not JobState.DONE:
        await estate.runner.step(job.bulk_id)
        await estate.obey(end)
        estate.later(seconds=1)
    assert (await estate.items(job))[names[2]].state is ItemState.UNKNOWN
    assert isinstance(await estate.undo(job), Job)
    await estate.settle(names[2], "not_applied")
    await estate.obey(bulk_id=job.bulk_id)
    assert (CUT, unproved) not in estate.switched
    async with estate.transaction() as tx:
        (cut,) = await commands.listing(tx, meter_ids=[unproved], kinds=[CUT])
    assert cut.state is S.REFUSED
    assert "is over" in cut.outcome
