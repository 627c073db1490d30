"""One life of the head-end: booted from the database alone, killed at any await.

`kill -9` leaves nothing behind but what was committed and what the wires carry. So a dead process
sends no statement and no frame any more, whatever its tasks still try while they are taken down.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import hmac
import random
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gateways.key_box import SchemeHolder
from gateways.mqtt_link import MqttLink
from gateways.turns import Priority
from headend.domain.commands import CommandKind
from headend.domain.limits import HardLimits, Rate
from headend.services import reconcile, seals
from headend.services.bulk_runner import BulkRunner
from headend.services.card_counter import CardCounter
from headend.services.lines import LineBook
from headend.services.looks import Missed, look
from headend.services.orders import Orders
from headend.services.patience import for_ever
from headend.services.sender import Rules, Sender
from headend.services.switching import last_check
from headend.store import places, readings
from headend.store.database import Database
from headend.store.errors import DatabaseAway, StoreError
from headend.store.places import KnownLine
from headend.trial.judge import CUTS_AT_MOST, RATE_SPAN, RESTORES_AT_MOST
from headend.trial.network import DIAL_IN_PORT
from headend.trial.roads import BROKER, CHIP_KEY, MqttProtocol
from headend.trial.steps import Sessions, StepDatabase
from headend.trial.world import World
from protocols.meter_type import MeterType
from protocols.reading import Origin, Reading

T = TypeVar("T")

# How often, at most, for one statement, one commit, one frame: a seed of some thousand steps is
# to have a handful of each.
DIES_MAX = 1 / 300
HANGS_UP_MAX = 1 / 400
LOSES_ANSWER_MAX = 1 / 60
DIES_AFTER_FRAME_MAX = 1 / 60
LOSES_NOTICE_MAX = 0.3
# A database that restarts is away for so long.
AWAY_S_MAX = 20.0
# A box finds a new head-end after so long.
REDIAL_S_MAX = 8.0
# Hard limits that five meters can meet; the judge counts by the same numbers.
LIMITS = HardLimits(
    rates={
        CommandKind.CUT: (Rate(CUTS_AT_MOST, RATE_SPAN),),
        CommandKind.RESTORE: (Rate(RESTORES_AT_MOST, RATE_SPAN),),
    }
)
# The sender finds by itself what a lost notice did not tell. Rarer than in the field, where a look
# every two seconds costs nothing: here it would be most of a seed.
SLOW_LOOK_S = 90.0
POLL_S = (30.0, 180.0)
BOOKS_S = (100.0, 900.0)
SOCKETS_MAX = 100  # of the boxes of a few roads, with those they forgot
# A task may catch its first cancellations for a last word; one that goes on for ever is a fault.
CANCELS_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Pains:
    """How often what happens to a process of this seed."""

    dies: float = 0.0
    dies_after_frame: float = 0.0
    hangs_up: float = 0.0
    loses_answer: float = 0.0
    loses_notice: float = 0.0

    @classmethod
    def drawn(cls, chance: random.Random) -> Pains:
        """About two thirds of them, each as often as this seed wants it."""

        def drawn(most: float) -> float:
            return chance.uniform(0.0, most) if chance.random() < 0.67 else 0.0

        return cls(
            dies=drawn(DIES_MAX),
            dies_after_frame=drawn(DIES_AFTER_FRAME_MAX),
            hangs_up=drawn(HANGS_UP_MAX),
            loses_answer=drawn(LOSES_ANSWER_MAX),
            loses_notice=drawn(LOSES_NOTICE_MAX),
        )


NO_PAINS = Pains()


class Died(Exception):
    """The head-end was killed while somebody waited for it. Nobody knows how far it came."""


def _chip_code(message: bytes) -> bytes:
    return hmac.new(CHIP_KEY, message, hashlib.sha256).digest()


def _hasty(line: KnownLine) -> KnownLine:
    """The quarantine is kept by the line: without it, its patience ends with the time-out."""
    place = line.place
    return replace(line, place=replace(place, reply_late_ms_max=place.reply_timeout_ms))


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def owned_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    **given: Any,
) -> asyncio.Task[Any]:
    """A task factory: every task knows the process it runs in, so that it dies with it."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **given)
    context = given.get("context")
    owner = _process.get() if context is None else context.get(_process)
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(lambda done: owner.tasks.pop(done, None))
    return task


OpensCounter = Callable[["Process", World, Mapping[str, MeterType]], CardCounter]


class Process:
    """The services of one head-end; also the fate of its database sessions."""

    def __init__(
        self,
        number: int,
        world: World,
        sessions: Sessions,
        meter_types: Mapping[str, MeterType],
        *,
        rules: Rules,
        pains: Pains,
        opens_counter: OpensCounter,
    ) -> None:
        self.number = number
        # In the order of their birth: they die in it, and whoever waits for them hears it so.
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.dead = False
        self.is_up = False
        self.pains = pains
        self._world = world
        self._chance = random.Random(f"{world.seed} process {number}")
        self._rules = rules
        self._opens_counter = opens_counter
        self._away_until_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._context.run(_process.set, self)
        self.killed = asyncio.Event()
        self.database = StepDatabase(sessions, self)
        self.book = LineBook(meter_types, clock=world.clock, key_holder=SchemeHolder(_chip_code))
        self._meter_types = meter_types

    # ---- life and death -------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something inside this process: it dies with it."""
        return self._loop.create_task(work, context=self._context)

    async def request(self, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
        """What somebody outside asks of this process.

        Raises Died, and whatever the work raises: DatabaseAway among them.
        """
        if self.dead:
            raise Died
        task = self.run(work(self.database))
        await asyncio.wait([task])
        if task.cancelled():
            raise Died
        return task.result()

    async def boot(self) -> bool:
        """As the program starts. False: it could not, and ended itself."""
        task = self.run(self._boot())
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            return True
        if not task.cancelled() and not isinstance(task.exception(), StoreError):
            raise task.exception() or AssertionError("neither done nor failed")
        self.kill("it could not start")
        return False

    async def _boot(self) -> None:
        async with self.database.transaction() as tx:
            await places.one_moment(tx)
            drawn = self._world.boxes
            lines = [one for one in await places.load_lines(tx) if one.place.name in drawn]
            await self.book.reload(
                await places.load_sites(tx),
                lines if self._rules.quarantine else [_hasty(line) for line in lines],
                [one for one in await places.load_meters(tx) if one.line in drawn],
                await readings.last_energies_wh(tx),
            )
        await self.book.listen("trial", DIAL_IN_PORT, sockets_max=SOCKETS_MAX)
        self._world.network.listen(lambda: MqttProtocol("mqtt", self._attach_mqtt), BROKER)
        self.cards = self._opens_counter(self, self._world, self._meter_types)
        # Whoever stands at the counter may ask from here on.
        self.is_up = True
        self.sender = Sender(
            self.database,
            self.book,
            self._world.clock,
            limits=LIMITS,
            last_check=last_check(self._world.clock),
            rules=self._rules,
            slow_look_s=SLOW_LOOK_S,
        )
        await self.sender.start()
        asyncio.create_task(self._poll())  # noqa: RUF006  kept in self.tasks
        asyncio.create_task(for_ever("the books", self._keep_books))  # noqa: RUF006
        if self._world.has_bulk:
            orders = Orders(self._world.clock, self._meter_types)
            BulkRunner(self.database, orders.switch_many, self._world.clock).start()
        for box in self._world.boxes.values():
            box.serve(self._frame_leaves, self._chance.uniform(0.1, REDIAL_S_MAX))

    async def _poll(self) -> None:
        """Meters are read between the commands, so that a line is never theirs alone."""
        meters = list(self.book.by_id.values())
        while True:
            await asyncio.sleep(self._chance.uniform(*POLL_S))
            meter = self._chance.choice(meters)
            line = self.book.lines[meter.known.line].line
            seen = await look(line, meter, self._world.clock, priority=Priority.NIGHTLY)
            if isinstance(seen, Missed):
                continue
            reading = Reading(
                meter_id=meter.known.meter_id,
                at=seen.at,
                received_at=self._world.clock.now(),
                origin=Origin.POLLED,
                values=seen.values,
            )
            with contextlib.suppress(StoreError):
                async with self.database.transaction() as tx:
                    await readings.store_readings(tx, [reading])

    async def _keep_books(self) -> None:
        """Chain what was booked, and compare the meters with the books: of each process, and then
        ever again. Begun by the product every minute and every hour."""
        while True:
            await asyncio.sleep(self._chance.uniform(*BOOKS_S))
            with contextlib.suppress(DatabaseAway):
                await seals.chain(self.database)
                found = await reconcile.reconcile_all(self.database, self._world.clock)
                at = self._world.clock.now()
                self._world.named += [(at, no, d.kind) for no, d in found.differences.items()]

    def _attach_mqtt(self, link: MqttLink) -> None:
        self.book.lines["mqtt"].line.attach(link)

    def kill(self, why: str) -> None:
        """`kill -9`: from now on nothing of it reaches the database or a wire."""
        if self.dead:
            return
        self.dead, self.is_up = True, False
        self._world.history.say(f"process {self.number}", f"killed: {why}")
        self._world.lose_head_end()
        self.killed.set()
        self._loop.call_soon(self._drop)

    def _drop(self) -> None:
        for task in tuple(self.tasks):
            task.cancel()

    async def bury(self) -> None:
        """Take down what is left of a dead process. Raises AssertionError for a task that stays."""
        assert self.dead
        for _ in range(CANCELS_MAX):
            if not self.tasks:
                return
            self._drop()
            await asyncio.wait(tuple(self.tasks), timeout=0.001)
        raise AssertionError(f"cannot be cancelled: {self.tasks}")

    def calm_down(self) -> None:
        """From now on nothing happens to it."""
        self.pains = NO_PAINS

    # ---- Fate -----------------------------------------------------------------------------------

    @property
    def database_away(self) -> bool:
        return self._loop.time() < self._away_until_s

    async def step(self) -> None:
        """Let others run; maybe die here."""
        await asyncio.sleep(0)
        if not self.dead and self._hit(self.pains.dies):
            self.kill("between two statements")
            await asyncio.get_running_loop().create_future()

    def hangs_up(self) -> bool:
        """A server that restarts ends a session and is away for a while."""
        if not self._hit(self.pains.hangs_up):
            return False
        away_s = self._chance.uniform(0.0, AWAY_S_MAX)
        self._world.history.say(f"process {self.number}", f"database away for {away_s:.1f} s")
        self._away_until_s = self._loop.time() + away_s
        return True

    def loses_the_answer(self) -> bool:
        """The commit arrived, its answer did not."""
        hit = self._hit(self.pains.loses_answer)
        if hit:
            self._world.history.say(f"process {self.number}", "the answer of a commit is lost")
        return hit

    def loses_a_notice(self) -> bool:
        """Notices are a comfort: a lost one may only cost time."""
        return self._hit(self.pains.loses_notice)

    def _frame_leaves(self, frame: bytes) -> bool:
        if self.dead:
            return False
        self._world.history.say(f"process {self.number}", f"says {frame.hex()}")
        if self._hit(self.pains.dies_after_frame):
            self.kill("as a frame left")
        return True

    def _hit(self, probability: float) -> bool:
        return bool(probability) and self._chance.random() < probability
