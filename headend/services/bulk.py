"""Switching many meters, as people order it: plan, approve, start, go on, stop, take back.

Every function works in the caller's transaction and answers with the job, or with why not. What
happens between start and end is services/bulk_runner.py.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from headend.domain.bulk import (
    APPROVAL_VALID,
    RUNNING,
    BulkLimits,
    Damage,
    Job,
    JobState,
    NotNow,
    Refused,
    damage,
    list_sha256,
    needs_second_person,
    over_lines,
)
from headend.domain.commands import Command, CommandKind
from headend.domain.supply import (
    CutRules,
    MeterFacts,
    SwitchPlan,
    last_check,
    plan_cut,
    plan_restore,
)
from headend.store import bulk as store
from headend.store import bulk_items, people, sales, supply
from headend.store.bulk import NewItem
from headend.store.database import Transaction

log = logging.getLogger(__name__)

# Taking back is never halted by itself and asks nobody: light must not wait. It still ramps.
UNDO_LIMITS = BulkLimits(
    size_max=100_000,
    go_on_by_person=False,
    pause_s=10,
    failed_permille_max=1000,
    unknown_permille_max=1000,
    spared_permille_max=1000,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkWish:
    """What somebody wants switched. Exactly one of `site_id` and `meter_ids` says where."""

    bulk_id: UUID  # made by who wants it; the same id twice is one job
    action: CommandKind  # CUT or RESTORE
    by: int  # operator
    reason: str
    site_id: int | None = None
    meter_ids: Sequence[int] | None = None
    #: of CUT: fen; whoever is below is in arrears. None: by name, whatever their balance
    cut_below_fen: int | None = 0
    limits: BulkLimits = field(default_factory=BulkLimits)

    def __post_init__(self) -> None:
        assert self.action in {CommandKind.CUT, CommandKind.RESTORE}
        assert (self.site_id is None) != (self.meter_ids is None)
        assert self.reason


@dataclass(frozen=True, slots=True)
class Preview:
    """A dry run: who, who not and why, and the largest damage."""

    plan: SwitchPlan
    damage: Damage
    needs_approval: bool


async def preview(tx: Transaction, wish: BulkWish, now: datetime) -> Preview:
    """What the wish would do now. Nothing is stored."""
    meters = await supply.facts(tx, now, meter_ids=wish.meter_ids, site_id=wish.site_id)
    planned = plan_for(wish.action, meters, wish.cut_below_fen, now)
    if wish.action is CommandKind.CUT:
        # Within a line the deepest in arrears first: the canary meets who is surely meant.
        by_arrears = sorted(planned.switched, key=lambda meter: meter.credit_fen or 0)
        planned = replace(planned, switched=tuple(over_lines(by_arrears)))
    else:
        planned = replace(planned, switched=tuple(over_lines(planned.switched)))
    size = len(planned.switched)
    worst = damage(planned, await supply.standing(tx, {meter.site for meter in meters}))
    return Preview(planned, worst, needs_second_person(size, undo=False))


def plan_for(
    action: CommandKind,
    meters: Sequence[MeterFacts],
    cut_below_fen: int | None,
    now: datetime,
    ordered_at: datetime | None = None,
) -> SwitchPlan:
    """The plan of one action over these facts."""
    rules = CutRules(cut_below_fen=cut_below_fen, ordered_at=ordered_at)
    planner = plan_cut if action is CommandKind.CUT else plan_restore
    return planner(meters, rules, now)


def spread(meters: Sequence[MeterFacts]) -> list[MeterFacts]:
    """One of each line, then the next of each, in the order given: a canary on five lines tells
    more than one on a single wire, and a batch does not wait for the end of one long line."""
    turns: Counter[int] = Counter()
    ranked = []
    for meter in meters:
        ranked.append((turns[meter.line_id], meter))
        turns[meter.line_id] += 1
    return [meter for _, meter in sorted(ranked, key=lambda pair: pair[0])]


async def plan(tx: Transaction, wish: BulkWish, now: datetime) -> Job | Refused:
    """Store a dry run as a job. Nothing is sent before it is approved and started."""
    await store.one_wish_at_a_time(tx, wish.bulk_id)
    known = await store.find_job(tx, wish.bulk_id)
    if known is not None:
        same = (known.action, known.planned_by, known.reason) == (wish.action, wish.by, wish.reason)
        return known if same else Refused(NotNow.ID_REUSED)
    previewed = await preview(tx, wish, now)
    size = len(previewed.plan.switched)
    if size == 0:
        return Refused(NotNow.NOTHING_TO_DO, f"{len(previewed.plan.spared)} meters are spared")
    if size > wish.limits.size_max:
        return Refused(NotNow.LIST_TOO_LONG, f"{size} meters, at most {wish.limits.size_max}")
    items = [
        NewItem(meter_id=meter.meter_id, position=position)
        for position, meter in enumerate(spread(previewed.plan.switched))
    ] + [
        NewItem(meter_id=s.meter.meter_id, position=None, rule=s.rule, detail=s.detail)
        for s in previewed.plan.spared
    ]
    job = _new_job(wish, previewed.damage, [m.meter_id for m in previewed.plan.switched], now)
    await store.insert_job(tx, job, items)
    return job


def _new_job(
    wish: BulkWish,
    worst: Damage,
    meter_ids: Sequence[int],
    now: datetime,
    undo_of: UUID | None = None,
) -> Job:
    threshold = wish.cut_below_fen if wish.action is CommandKind.CUT else None
    return Job(
        bulk_id=wish.bulk_id,
        action=wish.action,
        state=JobState.PLANNED,
        cut_below_fen=threshold,
        reason=wish.reason,
        planned_by=wish.by,
        planned_at=now,
        sha256=list_sha256(wish.bulk_id, wish.action, threshold, meter_ids),
        needs_approval=needs_second_person(len(meter_ids), undo=undo_of is not None),
        approved_by=None,
        approved_at=None,
        limits=wish.limits,
        damage=worst,
        undo_of=undo_of,
        batch=0,
        batch_began_at=None,
        batch_ended_at=None,
        halted_by=None,
        halt_reason="",
    )


async def take_off(
    tx: Transaction,
    bulk_id: UUID,
    meter_ids: Collection[int],
    *,
    by: int,
    reason: str,
    now: datetime,
) -> Job | Refused:
    """Spare some meters of a list that has not begun. It is another list then: an approval is void.

    The damage stays as planned: it is the largest there can be.
    """
    job = await store.lock_job(tx, bulk_id)
    if job is None:
        return Refused(NotNow.NO_SUCH_JOB)
    if job.state not in {JobState.PLANNED, JobState.APPROVED}:
        return Refused(NotNow.WRONG_STATE, job.state.value)
    if await bulk_items.take_off(tx, bulk_id, meter_ids, reason, now):
        changed = await _list_sha256(tx, job)
        await store.list_changed(tx, bulk_id, changed, by=by, at=now)
    return await find(tx, bulk_id)


async def approve(
    tx: Transaction, bulk_id: UUID, sha256: str, *, by: int, now: datetime
) -> Job | Refused:
    """A second person approves exactly the list with this hash."""
    job = await store.lock_job(tx, bulk_id)
    if job is None:
        return Refused(NotNow.NO_SUCH_JOB)
    if job.state is JobState.APPROVED and (job.approved_by, job.sha256) == (by, sha256):
        return job
    if job.state is not JobState.PLANNED:
        return Refused(NotNow.WRONG_STATE, job.state.value)
    if await people.is_same_person(tx, job.planned_by, by):
        return Refused(NotNow.SAME_PERSON)
    if sha256 != job.sha256 or sha256 != await _list_sha256(tx, job):
        return Refused(NotNow.LIST_CHANGED)
    await store.approve(tx, bulk_id, sha256, by=by, at=now)
    return await find(tx, bulk_id)


async def start(tx: Transaction, bulk_id: UUID, *, by: int, now: datetime) -> Job | Refused:
    """Let the canary go. The list must still be the one that was approved, and not long ago."""
    job = await store.lock_job(tx, bulk_id)
    if job is None:
        return Refused(NotNow.NO_SUCH_JOB)
    if job.state in RUNNING:
        return job
    refused = await _why_not_start(tx, job, now)
    if refused is not None:
        return refused
    if job.state is JobState.PLANNED:
        await store.to_state(tx, bulk_id, JobState.APPROVED, at=now, by=by)
    await store.to_state(tx, bulk_id, JobState.CANARY, at=now, by=by)
    return await find(tx, bulk_id)


async def _why_not_start(tx: Transaction, job: Job, now: datetime) -> Refused | None:
    if job.state not in {JobState.PLANNED, JobState.APPROVED}:
        return Refused(NotNow.WRONG_STATE, job.state.value)
    if job.state is JobState.PLANNED and job.needs_approval:
        return Refused(NotNow.SECOND_PERSON_NEEDED)
    if await _list_sha256(tx, job) != job.sha256:
        return Refused(NotNow.LIST_CHANGED)
    if now - (job.approved_at or job.planned_at) > APPROVAL_VALID:
        return Refused(NotNow.APPROVAL_TOO_OLD)
    return None


async def go_on(tx: Transaction, bulk_id: UUID, *, by: int, now: datetime) -> Job | Refused:
    """A person has looked at the canary and lets the ramp go."""
    job = await store.lock_job(tx, bulk_id)
    if job is None:
        return Refused(NotNow.NO_SUCH_JOB)
    if job.state is JobState.RAMP:
        return job
    if job.state is not JobState.WATCHING:
        return Refused(NotNow.WRONG_STATE, job.state.value)
    await store.to_state(tx, bulk_id, JobState.RAMP, at=now, by=by)
    return await find(tx, bulk_id)


async def stop(
    tx: Transaction, bulk_id: UUID, *, by: int, reason: str, now: datetime
) -> Job | Refused:
    """The one button. Nothing of this job leaves from here on, whatever is restarted.

    What has left already cannot be called back; it ends and is told. Repeats are harmless.
    """
    job = await store.lock_job(tx, bulk_id)
    if job is None:
        return Refused(NotNow.NO_SUCH_JOB)
    if job.state in RUNNING:
        await halt(tx, job, by=by, reason=reason, now=now)
    elif job.state in {JobState.PLANNED, JobState.APPROVED}:
        await bulk_items.leave_waiting(tx, bulk_id, reason, now)
        await store.to_state(tx, bulk_id, JobState.CANCELLED, at=now, by=by)
    return await find(tx, bulk_id)


async def halt(tx: Transaction, job: Job, *, by: int | None, reason: str, now: datetime) -> None:
    """End a running job: queued orders are taken back, the rest of the list is left alone.

    The caller has locked the job. `by` None: it halts by itself.
    """
    await store.to_state(tx, job.bulk_id, JobState.HALTED, at=now, by=by, halt_reason=reason)
    why = f"The bulk job halted: {reason}"
    taken_back = await bulk_items.cancel_queued(tx, job.bulk_id, why, now)
    left = await bulk_items.leave_waiting(tx, job.bulk_id, why, now)
    log.warning(
        "bulk job %s halted: %s %d orders taken back, %d meters left alone",
        job.bulk_id,
        reason,
        taken_back,
        left,
    )


async def undo(
    tx: Transaction, bulk_id: UUID, *, undo_of: UUID, by: int, reason: str, now: datetime
) -> Job | Refused:
    """The other button: stop the job if it runs, and restore exactly what it has cut.

    The last one first, some of each line at a time. Meters whose cut is still unproved are on the
    list too: once their order has ended, those that turn out to be lit are left alone. Started at
    once; the same `bulk_id` twice is one undo.
    """
    await store.one_wish_at_a_time(tx, bulk_id)
    known = await store.find_job(tx, bulk_id)
    if known is not None:
        return known if known.undo_of == undo_of else Refused(NotNow.ID_REUSED)
    stopped = await stop(tx, undo_of, by=by, reason=reason, now=now)
    if isinstance(stopped, Refused):
        return stopped
    if stopped.action is not CommandKind.CUT:
        return Refused(NotNow.WRONG_STATE, "only cuts are taken back")
    meter_ids = await bulk_items.to_undo(tx, undo_of)
    if not meter_ids:
        return Refused(NotNow.NOTHING_TO_DO)
    meters = await supply.facts(tx, now, meter_ids=meter_ids)
    wish = BulkWish(
        bulk_id=bulk_id,
        action=CommandKind.RESTORE,
        by=by,
        reason=reason,
        meter_ids=meter_ids,
        limits=UNDO_LIMITS,
    )
    standing = await supply.standing(tx, {meter.site for meter in meters})
    worst = damage(SwitchPlan(tuple(meters), ()), standing)
    job = _new_job(wish, worst, meter_ids, now, undo_of)
    await store.insert_job(
        tx, job, [NewItem(meter_id=meter_id, position=i) for i, meter_id in enumerate(meter_ids)]
    )
    return await start(tx, bulk_id, by=by, now=now)


async def last_look(tx: Transaction, command: Command, now: datetime) -> str | None:
    """Why this switching order must not be sent now, in one sentence; None: go on.

    For the sender, in the transaction that records the intent. An order of a bulk job is not sent
    once the job halted; a cut for arrears needs them still; nothing moves on a locked-out circuit.
    """
    threshold = command.details.get("cut_below_fen")
    if command.bulk_id is not None:
        job = await store.find_job(tx, command.bulk_id)
        if job is not None and job.state is JobState.HALTED:
            return f"The bulk job halted, so its order was not sent: {job.halt_reason}"
        if job is not None and job.state is JobState.DONE and command.kind is CommandKind.CUT:
            # It was unproved when the job ended, and did not arrive. Nobody watches it any more: a
            # cut that goes out again now could follow a stop, or its own taking back.
            return "The bulk job is over, so a cut that had not arrived was not sent once more."
        threshold = job.cut_below_fen if job is not None else threshold
    # Whoever protects this meter or locks it out meanwhile waits for this, or this for them.
    if await sales.lock_meter(tx, command.meter_id) is None:
        return "The meter is no longer in service: nothing was sent."
    found = await supply.facts(tx, now, meter_ids=[command.meter_id], command_id=command.command_id)
    rules = CutRules(cut_below_fen=threshold, ordered_at=command.ordered_at)
    return last_check(command.kind, found[0], rules, now)


async def find(tx: Transaction, bulk_id: UUID) -> Job:
    """A job that is known to exist."""
    job = await store.find_job(tx, bulk_id)
    assert job is not None, f"there is no bulk job {bulk_id}"
    return job


async def _list_sha256(tx: Transaction, job: Job) -> str:
    meter_ids = await bulk_items.meters_waiting(tx, job.bulk_id)
    return list_sha256(job.bulk_id, job.action, job.cut_below_fen, meter_ids)
