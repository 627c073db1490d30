"""What people do to a bulk job: dry run, second person, hash, start, stop. And what is refused."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from uuid import uuid4

import pytest

from headend.domain.bulk import (
    ITEM_TRANSITIONS,
    JOB_TRANSITIONS,
    BulkLimits,
    ItemState,
    Job,
    JobState,
    NotNow,
    Refused,
)
from headend.domain.commands import CommandKind
from headend.services import bulk
from headend.store import bulk as store
from headend.store import bulk_items, protections
from headend.store.database import Database
from headend.store.errors import DatabaseRefused
from tests.headend.supply.estate import Estate, open_estate


@pytest.fixture
async def estate(database: Database) -> Estate:
    """Four lines of three rooms."""
    return await open_estate(database, lines=4, meters_a_line=3)


async def protect(estate: Estate, meter: str, reason: str = "a dialysis machine") -> int:
    async with estate.transaction() as tx:
        return await protections.protect(
            tx,
            meter_id=estate.meters[meter],
            reason=reason,
            expires_at=estate.now + timedelta(days=30),
            by=estate.manager,
            now=estate.clock.now,
        )


async def approve(estate: Estate, job: Job, by: int, sha256: str | None = None) -> Job | Refused:
    async with estate.transaction() as tx:
        return await bulk.approve(tx, job.bulk_id, sha256 or job.sha256, by=by, now=estate.now)


async def try_start(estate: Estate, job: Job) -> Job | Refused:
    async with estate.transaction() as tx:
        return await bulk.start(tx, job.bulk_id, by=estate.manager, now=estate.now)


async def test_a_dry_run_says_who_who_not_and_the_largest_damage(estate: Estate) -> None:
    await protect(estate, "M1-1")
    await estate.read(500, "M2-1")  # has credit
    await estate.read(-3, "M2-2")
    async with estate.transaction() as tx:
        preview = await bulk.preview(tx, estate.wish(), estate.now)
    assert {s.meter.meter: s.rule.value for s in preview.plan.spared} == {
        "M1-1": "protected",
        "M2-1": "enough-credit",
    }
    worst = preview.damage
    assert (worst.meters, worst.rooms, worst.site_permille) == (10, 10, 833)
    assert (worst.arrears_fen, worst.arrears_fen_least) == (9 * 1_200 + 3, 3)
    assert worst.power_w == 1_000
    assert worst.buildings_dark == ("estate B3", "estate B4")
    assert worst.protected_spared == 1
    assert preview.needs_approval
    # One of each line in turn, within a line the deepest in arrears first.
    names = [meter.meter for meter in preview.plan.switched]
    assert sorted(name[:2] for name in names[:4]) == ["M1", "M2", "M3", "M4"]
    assert names.index("M2-3") < names.index("M2-2")
    async with estate.transaction() as tx:
        assert await store.list_jobs(tx) == []


async def test_a_list_by_name_is_measured_against_the_whole_property(estate: Estate) -> None:
    """One room of a house is not the house, and ten of a thousand meters are one per cent."""
    await estate.read()
    async with estate.transaction() as tx:
        one = await bulk.preview(tx, estate.wish("M1-1"), estate.now)
        house = await bulk.preview(tx, estate.wish("M1-1", "M1-2", "M1-3", "M2-1"), estate.now)
    assert (one.damage.site_permille, one.damage.buildings_dark) == (83, ())
    assert (house.damage.site_permille, house.damage.buildings_dark) == (333, ("estate B1",))
    estate.later(minutes=1)
    await estate.read(-1_200, "M1-2", relay=0)
    async with estate.transaction() as tx:
        rest = await bulk.preview(tx, estate.wish("M1-1", "M1-2", "M1-3"), estate.now)
    assert rest.damage.meters == 2
    assert rest.damage.buildings_dark == ("estate B1",), "who is dark already keeps no light"


async def test_a_plan_is_kept_with_its_spared_and_planned_once(estate: Estate) -> None:
    await protect(estate, "M1-1")
    wish = estate.wish()
    job = await estate.plan(wish)
    assert isinstance(job, Job)
    assert await estate.plan(wish) == job
    other = estate.wish(bulk_id=wish.bulk_id, reason="another")
    assert await estate.plan(other) == Refused(NotNow.ID_REUSED)
    items = await estate.items(job)
    assert (items["M1-1"].state, items["M1-1"].rule) == (ItemState.SPARED, "protected")
    assert items["M1-1"].detail.startswith("a dialysis machine, until ")
    assert sum(item.state is ItemState.WAITING for item in items.values()) == 11


async def test_a_list_beyond_its_cap_or_without_meters_is_refused(estate: Estate) -> None:
    tight = estate.wish(limits=BulkLimits(size_max=11))
    assert await estate.plan(tight) == Refused(NotNow.LIST_TOO_LONG, "12 meters, at most 11")
    await estate.read(500)
    nobody = await estate.plan(estate.wish())
    assert nobody == Refused(NotNow.NOTHING_TO_DO, "12 meters are spared")


async def test_only_another_person_approves_and_only_the_list_as_it_is(estate: Estate) -> None:
    job = await estate.planned()
    assert await try_start(estate, job) == Refused(NotNow.SECOND_PERSON_NEEDED)
    assert await approve(estate, job, estate.manager) == Refused(NotNow.SAME_PERSON)
    assert await approve(estate, job, estate.twin) == Refused(NotNow.SAME_PERSON)
    assert await approve(estate, job, estate.colleague, "0" * 64) == Refused(NotNow.LIST_CHANGED)
    approved = await approve(estate, job, estate.colleague)
    assert isinstance(approved, Job)
    assert (approved.state, approved.approved_by) == (JobState.APPROVED, estate.colleague)
    assert await approve(estate, job, estate.colleague) == approved  # twice is once


async def test_a_changed_list_makes_its_approval_void(estate: Estate) -> None:
    job = await estate.approved()
    async with estate.transaction() as tx:
        changed = await bulk.take_off(
            tx,
            job.bulk_id,
            [estate.meters["M3-1"]],
            by=estate.manager,
            reason="pays on Monday",
            now=estate.now,
        )
    assert isinstance(changed, Job)
    assert changed.state is JobState.PLANNED
    assert changed.sha256 != job.sha256
    assert await try_start(estate, job) == Refused(NotNow.SECOND_PERSON_NEEDED)
    # The hash that was approved is worth nothing any more; the new one is.
    assert await approve(estate, job, estate.colleague, job.sha256) == Refused(NotNow.LIST_CHANGED)
    assert isinstance(await approve(estate, changed, estate.colleague), Job)
    assert (await estate.items(job))["M3-1"].detail == "pays on Monday"


async def test_a_list_changed_behind_the_program_s_back_does_not_start(estate: Estate) -> None:
    job = await estate.approved()
    async with estate.transaction() as tx:
        await bulk_items.take_off(tx, job.bulk_id, [estate.meters["M1-1"]], "quietly", estate.now)
    assert await try_start(estate, job) == Refused(NotNow.LIST_CHANGED)


async def test_an_approval_nobody_used_grows_old(estate: Estate) -> None:
    job = await estate.approved()
    estate.later(hours=2, seconds=1)
    assert await try_start(estate, job) == Refused(NotNow.APPROVAL_TOO_OLD)


async def test_five_need_no_second_person_and_six_do(estate: Estate) -> None:
    five = await estate.planned("M1-1", "M1-2", "M1-3", "M2-1", "M2-2")
    assert isinstance(await try_start(estate, five), Job)
    six = await estate.planned("M2-3", "M3-1", "M3-2", "M3-3", "M4-1", "M4-2")
    assert await try_start(estate, six) == Refused(NotNow.SECOND_PERSON_NEEDED)


async def test_anybody_can_compute_the_hash_of_a_list(estate: Estate) -> None:
    job = await estate.planned("M1-1", "M2-1")
    text = f"bulk list 1\n{job.bulk_id}\ncut\n0\n{estate.meters['M1-1']}\n{estate.meters['M2-1']}"
    assert job.sha256 == hashlib.sha256(text.encode()).hexdigest()


async def test_a_plan_that_was_given_up_never_starts(estate: Estate) -> None:
    job = await estate.approved()
    stopped = await estate.stop(job)
    assert isinstance(stopped, Job)
    assert stopped.state is JobState.CANCELLED
    assert await try_start(estate, job) == Refused(NotNow.WRONG_STATE, "cancelled")
    assert await estate.states(job) == {"left": 12}
    assert await estate.stop(job) == stopped  # twice is once


async def test_jobs_that_do_not_exist_are_refused(estate: Estate) -> None:
    nowhere, by, now = uuid4(), estate.manager, estate.now
    none = Refused(NotNow.NO_SUCH_JOB)
    async with estate.transaction() as tx:
        assert await bulk.start(tx, nowhere, by=by, now=now) == none
        assert await bulk.go_on(tx, nowhere, by=by, now=now) == none
        assert await bulk.stop(tx, nowhere, by=by, reason="why", now=now) == none
        assert await bulk.approve(tx, nowhere, "0" * 64, by=by, now=now) == none
        assert await bulk.undo(tx, uuid4(), undo_of=nowhere, by=by, reason="why", now=now) == none


async def test_the_database_keeps_the_same_tables_of_moves(estate: Estate) -> None:
    async with estate.transaction() as tx:
        for before, allowed in JOB_TRANSITIONS.items():
            for after in JobState:
                moves = await tx.value("SELECT bulk_job_moves(%s, %s)", before.value, after.value)
                assert moves is (after in allowed), (before, after)
        for before_item, allowed_items in ITEM_TRANSITIONS.items():
            for after_item in ItemState:
                moves = await tx.value(
                    "SELECT bulk_item_moves(%s, %s)", before_item.value, after_item.value
                )
                assert moves is (after_item in allowed_items), (before_item, after_item)


async def test_whoever_writes_sql_meets_the_same_rules(estate: Estate) -> None:
    """Each statement is tried by itself; the database refuses every one."""
    planned = await estate.planned("M1-1", "M1-2", "M1-3", "M2-1", "M2-2", "M2-3")
    approved = await estate.approved("M3-1", "M3-2", "M3-3", "M4-1", "M4-2", "M4-3")
    await protect(estate, "M1-1")

    async def run(statement: str) -> None:
        async with estate.transaction() as tx:
            await tx.execute(statement)

    async def refused(job: Job, statement: str, *, says: str) -> None:
        text = statement.format(job=job.bulk_id, sha=job.sha256, **people)
        with pytest.raises(DatabaseRefused, match=says):
            await run(text)

    people = {"planner": estate.manager, "twin": estate.twin, "other": estate.colleague}
    approval = "INSERT INTO bulk_approval (bulk_id, sha256, approved_by, approved_at) VALUES "
    another = "by another person"
    await refused(planned, approval + "('{job}', '{sha}', {planner}, now())", says=another)
    await refused(planned, approval + "('{job}', '{sha}', {twin}, now())", says=another)
    await refused(planned, approval + f"('{{job}}', '{'0' * 64}', {{other}}, now())", says=another)
    job_to = "UPDATE bulk_job SET {} WHERE bulk_id = '{{job}}'"
    unapproved = job_to.format("state = 'approved', approved_by = {other}, approved_at = now()")
    await refused(planned, unapproved, says="second person")
    await refused(planned, job_to.format("state = 'ramp'"), says="cannot go")
    await refused(planned, job_to.format("needs_approval = false"), says="never changes")
    new_list = job_to.format(f"sha256 = '{'0' * 64}'")
    await refused(approved, new_list, says="planned again")
    item_to = "UPDATE bulk_item SET {} WHERE bulk_id = '{{job}}'"
    ordered = item_to.format("state = 'ordered', command_id = '{job}'")
    await refused(approved, ordered, says="orders nothing")
    grown = (
        "INSERT INTO bulk_item (bulk_id, meter_id, position, state)"
        f" VALUES ('{{job}}', {estate.meters['M1-1']}, 99, 'waiting')"
    )
    await refused(approved, grown, says="grows only")
    await refused(planned, item_to.format("position = position + 100"), says="keeps its meter")
    for table in ("bulk_item", "bulk_job", "bulk_approval", "bulk_event", "protection"):
        await refused(planned, f"DELETE FROM {table}", says="evidence")
    for table in ("bulk_approval", "bulk_event"):
        await refused(planned, f"UPDATE {table} SET sha256 = ''", says="evidence")
    longer = "UPDATE protection SET expires_at = expires_at + interval '1 day'"
    await refused(planned, longer, says="lifted once")


async def test_every_step_of_a_job_leaves_its_event(estate: Estate) -> None:
    job = await estate.started()
    await estate.stop(job)
    async with estate.transaction() as tx:
        rows = await tx.rows(
            "SELECT state_before, state_after, operator_id, detail FROM bulk_event"
            " WHERE bulk_id = %s ORDER BY event_id",
            job.bulk_id,
        )
    manager, colleague = estate.manager, estate.colleague
    assert rows == [
        (None, "planned", manager, "arrears of February"),
        ("planned", "approved", colleague, ""),
        ("approved", "canary", manager, ""),
        ("canary", "halted", colleague, "wrong list."),
    ]


async def test_a_restore_of_many_is_planned_and_approved_like_a_cut(estate: Estate) -> None:
    lit = "M1-1"
    await estate.read(500, relay=0)
    estate.later(minutes=1)
    await estate.read(500, lit)
    wish = estate.wish(action=CommandKind.RESTORE)
    job = await estate.plan(wish)
    assert isinstance(job, Job)
    assert job.needs_approval
    assert job.cut_below_fen is None
    assert (await estate.items(job))[lit].rule == "already-on"
