"""A manager who cuts a list of meters at once: plan, another one's approval, canary, ramp, stop.

Some days he tries to approve his own list, or lets a list go that somebody has changed since; some
days he presses stop in the middle, perhaps just as the head-end dies, and takes back what was done.
What he was told is kept for the judge.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from headend.domain import bulk as rules
from headend.domain.bulk import BulkLimits, Job, JobState, Refused
from headend.domain.commands import CommandKind
from headend.services import bulk, bulk_runner
from headend.services.bulk import BulkWish
from headend.store.database import Transaction
from headend.trial.ground import Ground
from headend.trial.technician import Counter
from headend.trial.world import World

_IDS = UUID("0b1c5a2e-5f0c-4c7e-8a55-2c8f3d1d7a10")
REASON = "arrears"
# Five meters are few: a canary of one, and every list wants a second person.
CANARY, SIZE_MAX, ALONE_MAX = 1, 4, 0
PAUSE_S, PATIENCE_S = 20, 900
CUT_BELOW_FEN = (1_000, 1_000_000, None)
# How often the runner looks while nothing tells it anything. Rarer than in the field, as the
# sender's SLOW_LOOK_S is in crashes.py.
LOOK_S = 30.0
IDLE_LOOK_S = 120.0

CAREFUL_SHARE = 0.25
BOLD = {"failed_permille_max": 1000, "unknown_permille_max": 1000, "spared_permille_max": 1000}
OWN_APPROVAL_SHARE = 0.3
CHANGED_SHARE = 0.3
TOO_LONG_SHARE = 0.15
STOP_SHARE = 0.4
UNDO_SHARE = 0.6  # of jobs that ended or were stopped
GO_ON_BY_PERSON_SHARE = 0.6
WATCHES_S = (15.0, 240.0)  # how long somebody watches the canary
STOPS_AFTER_S = (1.0, 400.0)
LOOKS_EVERY_S = 15.0
GIVES_UP_AFTER_S = 40_000.0


@contextmanager
def few_meters() -> Iterator[None]:
    """The product's own rules at the size of a trial."""
    changed = {
        (rules, "ALONE_MAX"): ALONE_MAX,
        (bulk_runner, "IDLE_LOOK_S"): IDLE_LOOK_S,
        (bulk_runner, "_LOOK"): timedelta(seconds=LOOK_S),
    }
    before = {(owner, name): getattr(owner, name) for owner, name in changed}
    for (owner, name), value in changed.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name), value in before.items():
            setattr(owner, name, value)


@dataclass
class BulkPromise:
    """What was asked about one job, and what was answered when."""

    bulk_id: UUID
    limits: BulkLimits
    own_approval_accepted: bool = False
    changed_list_accepted: bool = False
    too_long_accepted: bool = False
    #: whether anybody said go on, and when at the latest it was asked
    went_on_at: datetime | None = None
    stopped_at: datetime | None = None  # when the stop was answered
    undo_id: UUID | None = None
    answers: list[str] = field(default_factory=list)


class BulkOffice:
    """At most one job in a seed, and its undo."""

    def __init__(self, world: World, ground: Ground, counter: Counter) -> None:
        self.promises: list[BulkPromise] = []
        self._world = world
        self._ground = ground
        self._counter = counter
        self._chance = random.Random(f"{world.seed} bulk")
        self._loop = asyncio.get_running_loop()

    async def cut_a_list(self) -> None:
        """From the dry run to the end of the job, whatever happens on the way."""
        chance = self._chance
        # On such wires a canary of one often gives no proof at once, and a careful job halts there.
        shares = {} if chance.random() < CAREFUL_SHARE else BOLD
        limits = BulkLimits(
            size_max=SIZE_MAX,
            canary=CANARY,
            sample_min=CANARY,
            go_on_by_person=chance.random() < GO_ON_BY_PERSON_SHARE,
            pause_s=PAUSE_S,
            batch_patience_s=PATIENCE_S,
            **shares,
        )
        bulk_id = uuid5(_IDS, f"{self._world.seed} job")
        promise = BulkPromise(bulk_id, limits)
        self.promises.append(promise)
        if chance.random() < TOO_LONG_SHARE:
            await self._plan_too_long(promise)
        job = await self._do(promise, "plans", bulk.plan, wish=self._wish(bulk_id, limits))
        if not isinstance(job, Job):
            return
        if not await self._approved(promise, job):
            await self._stop(promise)
            return
        if not isinstance(await self._do(promise, "starts", bulk.start, bulk_id=bulk_id), Job):
            return
        stops_at_s = None
        if chance.random() < STOP_SHARE:
            stops_at_s = self._loop.time() + chance.uniform(*STOPS_AFTER_S)
        await self._follow(promise, stops_at_s)
        if chance.random() < UNDO_SHARE:
            await self._undo(promise)

    def _wish(self, bulk_id: UUID, limits: BulkLimits, **given: Any) -> BulkWish:
        meter_ids = self._meter_ids()
        wished: dict[str, Any] = {
            "bulk_id": bulk_id,
            "action": CommandKind.CUT,
            "by": self._ground.operators["manager"],
            "reason": REASON,
            "meter_ids": meter_ids[: limits.size_max],
            "cut_below_fen": self._chance.choice(CUT_BELOW_FEN),
            "limits": limits,
        }
        return BulkWish(**{**wished, **given})

    def _meter_ids(self) -> list[int]:
        """Of the meters on the roads of this seed."""
        return [self._ground.meter_ids[name] for name in self._world.meters]

    async def _plan_too_long(self, promise: BulkPromise) -> None:
        limits = BulkLimits(size_max=1, canary=CANARY, sample_min=CANARY)
        too_long = self._wish(
            uuid5(promise.bulk_id, "too long"),
            limits,
            meter_ids=self._meter_ids(),
            cut_below_fen=None,
        )
        planned = await self._do(promise, "plans too many", bulk.plan, wish=too_long)
        promise.too_long_accepted = isinstance(planned, Job) and planned.damage.meters > 1

    async def _approved(self, promise: BulkPromise, job: Job) -> bool:
        bulk_id, sha256 = promise.bulk_id, job.sha256
        if self._chance.random() < OWN_APPROVAL_SHARE:
            own = await self._do(
                promise, "approves his own", bulk.approve, bulk_id=bulk_id, sha256=sha256
            )
            promise.own_approval_accepted = isinstance(own, Job)
        if self._chance.random() < CHANGED_SHARE and job.damage.meters > 1:
            spared = self._chance.choice(self._meter_ids())
            await self._do(
                promise,
                "takes one off",
                bulk.take_off,
                bulk_id=bulk_id,
                meter_ids=[spared],
                reason="asked for time",
            )
            changed = await self._do(
                promise,
                "approves the old list",
                bulk.approve,
                "admin",
                bulk_id=bulk_id,
                sha256=sha256,
            )
            newest = await self._counter.decided(functools.partial(bulk.find, bulk_id=bulk_id))
            promise.changed_list_accepted = isinstance(changed, Job) and newest.sha256 != sha256
            sha256 = newest.sha256
            if newest.state is JobState.APPROVED:  # that one was not on the list
                return True
        approved = await self._do(
            promise, "approves", bulk.approve, "admin", bulk_id=bulk_id, sha256=sha256
        )
        return isinstance(approved, Job)

    async def _follow(self, promise: BulkPromise, stops_at_s: float | None) -> None:
        """Until the job has ended. Somebody looks at the canary, and says go on."""
        patience_ends_s = self._loop.time() + GIVES_UP_AFTER_S
        while self._loop.time() < patience_ends_s:
            if stops_at_s is not None and self._loop.time() >= stops_at_s:
                await self._stop(promise)
                return
            state = self._state(promise.bulk_id)
            if state not in rules.RUNNING:
                return
            if state is JobState.WATCHING:
                await asyncio.sleep(self._chance.uniform(*WATCHES_S))
                promise.went_on_at = promise.went_on_at or self._world.clock.now()
                await self._do(promise, "says go on", bulk.go_on, bulk_id=promise.bulk_id)
            await asyncio.sleep(LOOKS_EVERY_S)

    async def _stop(self, promise: BulkPromise) -> None:
        await self._do(promise, "stops", bulk.stop, bulk_id=promise.bulk_id, reason="enough")
        promise.stopped_at = self._world.clock.now()

    async def _undo(self, promise: BulkPromise) -> None:
        undo_id = uuid5(promise.bulk_id, "undo")
        done = await self._do(
            promise,
            "takes back",
            bulk.undo,
            bulk_id=undo_id,
            undo_of=promise.bulk_id,
            reason="wrong tariff",
        )
        promise.stopped_at = promise.stopped_at or self._world.clock.now()
        if isinstance(done, Job):
            promise.undo_id = undo_id

    def _state(self, bulk_id: UUID) -> JobState:
        """As anybody sees it on the screen."""
        row = self._ground.sessions.admin.execute(
            "SELECT state FROM bulk_job WHERE bulk_id = %s", (bulk_id,)
        ).fetchone()
        assert row is not None
        return JobState(row[0])

    async def _do(
        self,
        promise: BulkPromise,
        what: str,
        step: Callable[..., Awaitable[Job | Refused]],
        role: str = "manager",
        **given: Any,
    ) -> Job | Refused:
        """One press of a button, pressed again until there is an answer."""

        async def pressed(tx: Transaction) -> Job | Refused:
            now = self._world.clock.now()
            if "wish" in given:
                return await step(tx, now=now, **given)
            return await step(tx, by=self._ground.operators[role], now=now, **given)

        done: Job | Refused = await self._counter.decided(pressed)
        said = done.why.value if isinstance(done, Refused) else done.state.value
        promise.answers.append(f"{what}: {said}")
        self._world.history.say(role, f"bulk job: {what}: {said}")
        return done

    @property
    def has_ended(self) -> bool:
        """Whether no job is on its way any more."""
        running = [state.value for state in rules.RUNNING]
        row = self._ground.sessions.admin.execute(
            "SELECT NOT EXISTS (SELECT FROM bulk_job WHERE state = ANY(%s))", (running,)
        ).fetchone()
        return row == (True,)
