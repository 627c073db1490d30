"""Takes bulk jobs from batch to batch. All it knows is in the database, so any restart goes on.

A step locks its job, learns what became of its orders, halts if it must, and orders a few meters
more. Between two steps nothing is held: a stop gets in after at most FEED_MAX orders, and takes
back those that have not left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from headend.domain.bulk import (
    RUNNING,
    ItemState,
    Job,
    JobState,
    Tally,
    item_state_of,
    why_halt,
)
from headend.domain.clock import Clock
from headend.domain.commands import Accepted, CommandKind, CommandState, Rejected, Why
from headend.domain.limits import TOGGLE_GAP
from headend.domain.supply import MeterFacts, Rule, Spared
from headend.services.bulk import halt, plan_for
from headend.services.orders import SwitchOrder
from headend.services.patience import for_ever
from headend.store import bulk as store
from headend.store import bulk_items, supply
from headend.store.database import Database, Transaction
from headend.store.errors import DatabaseAway

log = logging.getLogger(__name__)

# Orders in one transaction: about a tenth of a second for which a stop waits.
FEED_MAX = 200
# How often a job is looked at while its orders are on their way, and how often jobs are looked for.
LOOK_S = 1.0
IDLE_LOOK_S = 5.0
# A restore that waits for another order of its meter is tried again after this.
RETRY_AFTER = timedelta(seconds=10)

_AT_ONCE = timedelta(0)
_LOOK = timedelta(seconds=LOOK_S)
# What an order is refused for by a rule, as opposed to by a mistake.
_SPARING = frozenset(
    {Why.PROTECTED, Why.LOCKED_OUT, Why.TOGGLED_RECENTLY, Why.METER_HAS_NO_SUCH_WRITE}
)
# A restore is not given up for these: it waits.
_PASSING = frozenset({Rule.COMMAND_OPEN, Rule.TOGGLED_RECENTLY})


# services/orders.py Orders.switch_many: the same id twice is one order.
SwitchMany = Callable[[Transaction, Sequence[SwitchOrder]], Awaitable[list[Accepted | Rejected]]]


def command_id_of(job: Job, meter_id: int) -> UUID:
    """The id of a meter's order in a job: the same after every restart."""
    return uuid5(job.bulk_id, f"meter {meter_id}")


class BulkRunner:
    """Follows every running job. `start` and `stop` it with the process; `step` is one move."""

    def __init__(self, database: Database, switch_many: SwitchMany, clock: Clock) -> None:
        self._database = database
        self._switch_many = switch_many
        self._clock = clock
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._away = False
        self._began_at = clock.now()

    def start(self) -> None:
        """Go on with whatever was running."""
        self._tasks = [
            asyncio.create_task(for_ever("the bulk runner", self._run), name="bulk jobs"),
            asyncio.create_task(
                for_ever("the bulk runner's ear", self._listen), name="bulk jobs, listening"
            ),
        ]

    async def stop(self) -> None:
        """Leave everything as it is; the next start goes on."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()

    async def _listen(self) -> None:
        async for _ in self._database.listen(store.BULK_CHANNEL):
            self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            wait_s = await self._round()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _round(self) -> float:
        """One step of every job that has something to follow; seconds until the next round."""
        try:
            async with self._database.transaction() as tx:
                jobs = await bulk_items.jobs_to_follow(tx)
            waits = [await self._step_or_halt(bulk_id) for bulk_id in jobs]
        except DatabaseAway as error:
            if not self._away:
                log.warning("bulk jobs wait for the database: %s", error)
            self._away = True
            return IDLE_LOOK_S
        if self._away:
            log.info("bulk jobs go on")
        self._away = False
        return min((wait.total_seconds() for wait in waits), default=IDLE_LOOK_S)

    async def _step_or_halt(self, bulk_id: UUID) -> timedelta:
        try:
            wait = await self.step(bulk_id)
        except DatabaseAway:
            raise
        except Exception as error:
            # A surprise: nothing more leaves until somebody has understood it.
            log.exception("bulk job %s stopped", bulk_id)
            await self._halt_after(bulk_id, error)
            wait = None
        return timedelta(seconds=IDLE_LOOK_S) if wait is None else wait

    async def _halt_after(self, bulk_id: UUID, error: Exception) -> None:
        async with self._database.transaction() as tx:
            job = await store.lock_job(tx, bulk_id)
            if job is not None and job.state in RUNNING:
                reason = f"An error of this program ({type(error).__name__}) came up."
                await halt(tx, job, by=None, reason=reason, now=self._clock.now())

    async def step(self, bulk_id: UUID) -> timedelta | None:
        """One move of one job, in one transaction; returns how long the next one may wait.

        None: the job does not run. Its orders on their way are followed all the same.
        """
        async with self._database.transaction() as tx:
            job = await store.lock_job(tx, bulk_id)
            if job is None:
                return None
            now = self._clock.now()
            await self._learn(tx, job, now)
            if job.state not in RUNNING:
                return None
            tally = await bulk_items.tally(tx, bulk_id)
            stalled = await self._is_stalled(tx, job, now)
            reason = why_halt(tally, job.limits, late=tally.ordered if stalled else 0)
            if reason is not None:
                await halt(tx, job, by=None, reason=reason, now=now)
                return None
            if job.state is JobState.WATCHING:
                return _LOOK
            return await self._advance(tx, job, tally, now, stalled=stalled)

    async def _is_stalled(self, tx: Transaction, job: Job, now: datetime) -> bool:
        """Nothing of the job has moved for so long that nobody waits for the rest."""
        moved_at = await bulk_items.moved_at(tx, job.bulk_id)
        if moved_at is None:
            return False
        # While this program did not run, nothing could move.
        since = max(moved_at, self._began_at)
        return now - since >= timedelta(seconds=job.limits.batch_patience_s)

    async def _learn(self, tx: Transaction, job: Job, now: datetime) -> None:
        """What became of the orders on their way."""
        moves = []
        for fate in await bulk_items.fates(tx, job.bulk_id):
            state = item_state_of(fate.command)
            if fate.command is CommandState.REFUSED and fate.untouched:
                state = ItemState.SPARED  # the last look objected: nothing was sent
            if state is not fate.item:
                rule = "last-look" if state is ItemState.SPARED else ""
                moves.append((fate.meter_id, state, rule, fate.outcome))
        await bulk_items.settle(tx, job.bulk_id, moves, now)

    async def _advance(
        self, tx: Transaction, job: Job, tally: Tally, now: datetime, *, stalled: bool
    ) -> timedelta | None:
        if job.batch_began_at is None or job.batch_ended_at is not None:
            return await self._next_batch(tx, job, now)
        ordered = await bulk_items.ordered_in(tx, job.bulk_id, job.batch)
        room = job.limits.batch_size(job.batch) - ordered
        if room > 0 and await self._feed(tx, job, room, now):
            return _AT_ONCE
        if tally.ordered and not stalled:
            return _LOOK
        if tally.waiting and not ordered:  # each is held back for its own reason
            free_at = await bulk_items.free_at(tx, job.bulk_id)
            return _LOOK if free_at is None else max(free_at - now, _LOOK)
        return await self._end_batch(tx, job, tally, now)

    async def _next_batch(self, tx: Transaction, job: Job, now: datetime) -> timedelta:
        """The first batch begins at once, every other after its pause."""
        if job.batch_ended_at is None:
            await store.begin_batch(tx, job.bulk_id, 0, now)
            return _AT_ONCE
        pause_ends = job.batch_ended_at + timedelta(seconds=job.limits.pause_s)
        if now < pause_ends:
            return min(pause_ends - now, _LOOK)
        await store.begin_batch(tx, job.bulk_id, job.batch + 1, now)
        return _AT_ONCE

    async def _end_batch(
        self, tx: Transaction, job: Job, tally: Tally, now: datetime
    ) -> timedelta | None:
        if not tally.waiting:
            if tally.ordered:
                return _LOOK  # on a dead line: it ends when its order expires
            await store.to_state(tx, job.bulk_id, JobState.DONE, at=now, by=None)
            log.info("bulk job %s is done: %d switched", job.bulk_id, tally.done)
            return None
        await store.end_batch(tx, job.bulk_id, now)
        if job.state is JobState.CANARY:
            after = JobState.WATCHING if job.limits.go_on_by_person else JobState.RAMP
            await store.to_state(tx, job.bulk_id, after, at=now, by=None)
        return _LOOK

    async def _feed(self, tx: Transaction, job: Job, room: int, now: datetime) -> bool:
        """Order the next few meters, each looked at anew; False when none is ready."""
        restoring = job.action is CommandKind.RESTORE
        meter_ids = await bulk_items.next_waiting(
            tx,
            job.bulk_id,
            now,
            batch=job.batch,
            limit=min(room, FEED_MAX),
            # Only what comes back pulls inrush from its feeder.
            per_line_max=job.limits.per_line_max if restoring else None,
        )
        if not meter_ids:
            return False
        facts = {m.meter_id: m for m in await supply.facts(tx, now, meter_ids=meter_ids)}
        meters = [facts[meter_id] for meter_id in meter_ids if meter_id in facts]
        planned = plan_for(job.action, meters, job.cut_below_fen, now, job.planned_at)
        moves = [
            (meter_id, ItemState.FAILED, "", "The meter is no longer in service.")
            for meter_id in meter_ids
            if meter_id not in facts
        ]
        moves += await self._order(tx, job, planned.switched, now)
        for spared in planned.spared:
            if restoring and spared.rule in _PASSING:
                until = _may_go_at(spared, now)
                await bulk_items.hold_back(tx, job.bulk_id, spared.meter.meter_id, until)
            else:
                meter_id, rule = spared.meter.meter_id, spared.rule.value
                moves.append((meter_id, ItemState.SPARED, rule, spared.detail))
        await bulk_items.settle(tx, job.bulk_id, moves, now)
        return True

    async def _order(
        self, tx: Transaction, job: Job, meters: Sequence[MeterFacts], now: datetime
    ) -> list[tuple[int, ItemState, str, str]]:
        """Order these meters; returns what must be said of those that were not accepted."""
        orders = [
            SwitchOrder(
                command_id=command_id_of(job, meter.meter_id),
                meter_id=meter.meter_id,
                kind=job.action,
                operator_id=job.planned_by,
                approver_id=job.approved_by,
                reason=job.reason,
                bulk_id=job.bulk_id,
            )
            for meter in meters
        ]
        accepted: dict[int, UUID] = {}
        moves: list[tuple[int, ItemState, str, str]] = []
        answers = await self._switch_many(tx, orders) if orders else []
        for meter, answer in zip(meters, answers, strict=True):
            match answer:
                case Accepted(command=command):
                    accepted[meter.meter_id] = command.command_id
                case Rejected(why=Why.TOGGLED_RECENTLY) if job.action is CommandKind.RESTORE:
                    until = now + RETRY_AFTER
                    await bulk_items.hold_back(tx, job.bulk_id, meter.meter_id, until)
                case Rejected(why=why, detail=detail):
                    state = ItemState.SPARED if why in _SPARING else ItemState.FAILED
                    moves.append((meter.meter_id, state, why.value, detail))
        await bulk_items.ordered(tx, job.bulk_id, accepted, batch=job.batch, at=now)
        return moves


def _may_go_at(spared: Spared, now: datetime) -> datetime:
    if spared.rule is Rule.TOGGLED_RECENTLY and spared.meter.switched_at is not None:
        return max(spared.meter.switched_at + TOGGLE_GAP, now + RETRY_AFTER)
    return now + RETRY_AFTER
