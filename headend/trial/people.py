"""Clerks, managers, a technician, and somebody elsewhere: who wants what, and what they were told.

A person whose page broke presses again, with the same id, until there is an answer. What was
answered once is a promise the judge holds the head-end to.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid5

import psycopg

from headend.domain.commands import Accepted, CommandKind
from headend.services.decisions import Decisions
from headend.services.orders import ConfigureOrder, Orders, SwitchOrder
from headend.services.selling import NotSold, SaleWish, sell
from headend.store import protections
from headend.store.database import Database, Transaction
from headend.store.errors import DatabaseAway
from headend.trial.bulk_office import BulkOffice
from headend.trial.card_people import CardPeople
from headend.trial.crashes import Died, Process
from headend.trial.ground import Ground
from headend.trial.link import Box
from headend.trial.settings import a_setting
from headend.trial.technician import Technician
from headend.trial.world import TrialMeter, World
from protocols.meter_type import MeterType
from protocols.settings import Setting

T = TypeVar("T")
Answer = Accepted | NotSold
Wish = tuple[float, Callable[[], Awaitable[None]]]  # when, and what

SALES = (3, 7)  # fewest and most in one seed
SWITCHES = (1, 4)
FOREIGN_SHARE = 0.12  # of sales around which somebody else sells to the same meter
WORST_MOMENT_SHARE = 0.25  # of lost tries after which somebody else sells before the next one
PAYS_SHARE = 0.4  # of switching orders around which the tenant comes to pay
PROTECTED_SHARE = 0.2  # of switching orders around which the meter becomes protected
SETTINGS = (0, 0, 1, 2)  # how many in one seed
EXCHANGE_SHARE = 0.12  # of seeds in which a meter is exchanged
ODD_FEN = 3  # of what an exchanged meter says it was sold: nothing else ends like that
OUTAGE_SHARE = 0.1  # of seeds in which one line loses its network
OUTAGE_S = (600.0, 9_000.0)  # long enough for some to outlast a cut's deadline
LONG_S = (7_300.0, 9_000.0)
SOON_S_MAX = 60.0  # "around" is from shortly before to so much later
CANCEL_SHARE = 0.15  # of sales
FROM_BALANCE_SHARE = 0.15  # of sales; most are refused, because nothing waits in the account
AMOUNT_TENS_MAX = 4_000  # amounts are whole ten fen, and no foreign one is: the judge tells them
FOREIGN_FEN = 7
AGAIN_S_MAX = 20.0  # a person presses again after at most so long
# An order accepted by Orders is for people with a right to it; here everybody has.
REASON = "trial"
_IDS = UUID("8a4e8c1c-3f0e-4d5b-9a55-6f7a3f1f9c11")


@dataclass(slots=True)
class Promise:
    """One order of one person: its id is made once and kept over every repeat."""

    command_id: UUID
    meter: str
    kind: CommandKind
    amount_fen: int | None
    from_balance: bool = False
    setting: Setting | None = None
    answers: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        return "accepted" in self.answers


class HasProcess(Protocol):
    """Where the head-end of the moment is found."""

    process: Process


class People:
    """Everybody around one seed."""

    def __init__(
        self,
        world: World,
        ground: Ground,
        house: HasProcess,
        meter_types: Mapping[str, MeterType],
    ) -> None:
        self.promises: list[Promise] = []
        self.paid_fen: dict[str, int] = {}
        self._world = world
        self._ground = ground
        self._house = house
        self._chance = random.Random(f"{world.seed} people")
        self._orders = Orders(world.clock, meter_types)
        self._decisions = Decisions(world.clock)
        self.technician = Technician(world, ground, self)
        self.office = BulkOffice(world, ground, self)
        self.cards = CardPeople(world, ground, self)
        self._working: set[asyncio.Task[Any]] = set()

    @property
    def all_answered(self) -> bool:
        """Whether nobody waits for an answer any more. Raises what went wrong for somebody."""
        for task in [task for task in self._working if task.done()]:
            self._working.discard(task)
            task.result()
        return not self._working

    # ---- the day --------------------------------------------------------------------------------

    async def day(self, length_s: float) -> None:
        """Everything that is wanted in one seed, at instants that the seed decides."""
        loop = asyncio.get_running_loop()
        # In the order of time; what is wanted at the same instant keeps its place in the list.
        for at_s, what in sorted(self._wishes(0.8 * length_s), key=lambda wish: wish[0]):
            await asyncio.sleep(max(0.0, at_s - loop.time()))
            self._working.add(asyncio.ensure_future(what()))
        await asyncio.sleep(max(0.0, length_s - loop.time()))

    def _wishes(self, until_s: float) -> Iterator[Wish]:
        chance, meters = self._chance, list(self._world.meters.values())
        for _ in range(chance.randint(*SALES)):
            meter, at_s = chance.choice(meters), chance.uniform(0.0, until_s)
            yield at_s, self._a_sale(meter)
            if chance.random() < FOREIGN_SHARE:
                yield self._around(at_s), self._elsewhere(meter)
        for _ in range(chance.randint(*SWITCHES)):
            meter, at_s = chance.choice(meters), chance.uniform(0.0, until_s)
            yield at_s, self._a_switch(meter)
            if chance.random() < PAYS_SHARE:
                yield self._around(at_s), self._a_sale(meter)
            if chance.random() < PROTECTED_SHARE:
                yield self._around(at_s), self._a_protection(meter)
        for _ in range(chance.choice(SETTINGS)):
            yield chance.uniform(0.0, until_s), self._a_setting(chance.choice(meters))
        if self._world.exchanges or chance.random() < EXCHANGE_SHARE:
            yield from self._an_exchange(chance.choice(meters), until_s)
        yield from self.cards.wishes(until_s)
        if self._world.has_bulk:
            yield chance.uniform(0.0, until_s), self.office.cut_a_list
        if self._world.long_outages or chance.random() < OUTAGE_SHARE:
            box = chance.choice(list(self._world.boxes.values()))
            within_s = until_s / 4 if self._world.long_outages else until_s
            yield chance.uniform(0.0, within_s), self._an_outage(box)

    def _an_exchange(self, meter: TrialMeter, until_s: float) -> Iterator[Wish]:
        """A device fails and another takes its place; somebody accepts it, and it is sold to."""
        chance = self._chance
        at_s = chance.uniform(until_s / 4, until_s / 2)
        yield chance.uniform(0.0, at_s / 2), self._a_sale(meter)
        back_by, total_fen = chance.randint(1, 4), 10 * chance.randrange(0, 100_000) + ODD_FEN

        async def exchange() -> None:
            self._world.history.say("technician", f"exchanges {meter.name}")
            meter.exchange(back_by, total_fen)

        async def accept() -> None:
            await self.technician.accept(meter.name)

        yield at_s, exchange
        accepted_s = at_s + chance.uniform(1.0, 120.0)
        yield accepted_s, accept
        for _ in range(chance.randint(1, 3)):
            yield chance.uniform(accepted_s, until_s), self._a_sale(meter)

    def _around(self, at_s: float) -> float:
        return max(0.0, at_s + self._chance.uniform(-5.0, SOON_S_MAX))

    def _a_sale(self, meter: TrialMeter) -> Callable[[], Awaitable[None]]:
        """One clerk or two, who press once, three times at once, or again and again."""
        chance = self._chance
        clerks = 2 if chance.random() < 0.2 else 1
        wanted = [self._promise(meter, CommandKind.TOP_UP) for _ in range(clerks)]
        wanted[-1].from_balance = chance.random() < FROM_BALANCE_SHARE
        presses = chance.choice((1, 1, 1, 3))
        repeats = chance.choice((0, 0, 0, 2))
        pause_s = chance.uniform(1.0, AGAIN_S_MAX)
        cancelled_after_s = chance.uniform(0.0, 60.0) if chance.random() < CANCEL_SHARE else None

        async def sell() -> None:
            for _ in range(1 + repeats):
                await asyncio.gather(
                    *(self._sell(promise) for promise in wanted for _ in range(presses))
                )
                await asyncio.sleep(pause_s)
            if cancelled_after_s is not None:
                await asyncio.sleep(cancelled_after_s)
                await self._cancel(wanted[0])

        return sell

    def _a_switch(self, meter: TrialMeter) -> Callable[[], Awaitable[None]]:
        kind = self._chance.choice((CommandKind.CUT, CommandKind.CUT, CommandKind.RESTORE))
        promise = self._promise(meter, kind)
        presses = self._chance.choice((1, 2))

        async def switch() -> None:
            await asyncio.gather(*(self._switch(promise) for _ in range(presses)))

        return switch

    def _a_setting(self, meter: TrialMeter) -> Callable[[], Awaitable[None]]:
        promise = self._promise(meter, CommandKind.CONFIGURE)
        promise.setting = a_setting(self._chance)
        presses = self._chance.choice((1, 2))

        async def configure() -> None:
            await asyncio.gather(*(self._configure(promise) for _ in range(presses)))

        return configure

    async def watch(self) -> None:
        """Somebody elsewhere who sells at the worst moment: between a try that was lost and the
        next one of the same purchase. Runs until cancelled."""
        events = self._ground.sessions.follow("command_events")
        while True:
            number = await events.get()
            row = self._ground.sessions.admin.execute(
                "SELECT meter.name FROM command_event JOIN meter USING (meter_id)"
                " WHERE event_id = %s AND kind = 'top_up'"
                " AND old_state = 'unknown' AND new_state = 'queued'",
                (int(number),),
            ).fetchone()
            if row is not None and self._chance.random() < WORST_MOMENT_SHARE:
                await self._elsewhere(self._world.meters[row[0]])()

    def _a_protection(self, meter: TrialMeter) -> Callable[[], Awaitable[None]]:
        async def protect() -> None:
            now = self._world.clock.now()
            await self.decided(
                functools.partial(
                    protections.protect,
                    reason="somebody needs it to breathe",
                    expires_at=now + timedelta(days=30),
                    by=self._ground.operators["manager"],
                    now=self._world.clock.now,
                    meter_id=self._ground.meter_ids[meter.name],
                )
            )
            self._world.history.say("manager", f"protects {meter.name}")

        return protect

    def _an_outage(self, box: Box) -> Callable[[], Awaitable[None]]:
        for_s = self._chance.uniform(*(LONG_S if self._world.long_outages else OUTAGE_S))

        async def fall_silent() -> None:
            self._world.history.say(box.name, f"has no network for {for_s:.0f} s")
            box.fall_silent(for_s)

        return fall_silent

    def _elsewhere(self, meter: TrialMeter) -> Callable[[], Awaitable[None]]:
        amount_fen = 10 * self._chance.randrange(10, AMOUNT_TENS_MAX) + FOREIGN_FEN

        async def buy() -> None:
            self._world.history.say("elsewhere", f"{amount_fen} fen into {meter.name}")
            meter.buy_elsewhere(amount_fen)

        return buy

    def _promise(self, meter: TrialMeter, kind: CommandKind) -> Promise:
        amount_fen = None
        if kind is CommandKind.TOP_UP:
            amount_fen = 10 * self._chance.randrange(10, AMOUNT_TENS_MAX)
        number = len(self.promises)
        promise = Promise(uuid5(_IDS, f"{self._world.seed} {number}"), meter.name, kind, amount_fen)
        self.promises.append(promise)
        return promise

    # ---- what they ask --------------------------------------------------------------------------

    async def _sell(self, promise: Promise) -> None:
        """Take the money, or what waits in the account, and put it into the meter."""
        assert promise.amount_fen is not None
        wish = SaleWish(
            command_id=promise.command_id,
            meter_id=self._ground.meter_ids[promise.meter],
            amount_fen=promise.amount_fen,
            operator_id=self._ground.operators["cashier"],
            from_balance=promise.from_balance,
        )
        answer = await self._until_answered(
            lambda database: sell(database, self._orders, self._world.clock, wish)
        )
        sold = isinstance(answer, Accepted) and not promise.accepted
        if sold and not promise.from_balance:
            paid_fen = self.paid_fen.get(promise.meter, 0)
            self.paid_fen[promise.meter] = paid_fen + promise.amount_fen
        self._told(promise, answer)

    async def _switch(self, promise: Promise) -> None:
        order = SwitchOrder(
            command_id=promise.command_id,
            meter_id=self._ground.meter_ids[promise.meter],
            kind=promise.kind,
            operator_id=self._ground.operators["manager"],
            reason=REASON,
        )
        self._told(promise, await self.decided(lambda tx: self._orders.switch(tx, order)))

    async def _configure(self, promise: Promise) -> None:
        assert promise.setting is not None
        order = ConfigureOrder(
            command_id=promise.command_id,
            meter_id=self._ground.meter_ids[promise.meter],
            setting=promise.setting,
            operator_id=self._ground.operators["manager"],
            reason=REASON,
        )
        self._told(promise, await self.decided(lambda tx: self._orders.configure(tx, order)))

    async def _cancel(self, promise: Promise) -> None:
        answer = await self.decided(
            lambda tx: self._decisions.cancel(
                tx,
                promise.command_id,
                operator_id=self._ground.operators["manager"],
                reason=REASON,
            )
        )
        self._world.history.say("manager", f"cancels {promise.command_id}: {_short(answer)}")

    async def decided(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """One answer to what fits into one transaction."""

        async def in_one(database: Database) -> T:
            async with database.transaction() as tx:
                return await work(tx)

        return await self._until_answered(in_one)

    async def asked(self, work: Callable[[Process, Database], Coroutine[Any, Any, T]]) -> T:
        """One answer to what takes its time, of whichever process answers at last."""
        while True:
            process = self._house.process
            if process.is_up:
                with contextlib.suppress(Died, DatabaseAway):
                    return await process.request(functools.partial(work, process))
            await asyncio.sleep(self._chance.uniform(0.5, AGAIN_S_MAX))

    async def _until_answered(self, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
        while True:
            process = self._house.process
            try:
                return await process.request(work)
            except (Died, DatabaseAway):
                await asyncio.sleep(self._chance.uniform(0.5, AGAIN_S_MAX))

    def _told(self, promise: Promise, answer: Answer) -> None:
        said = _short(answer)
        promise.answers.append(said)
        what = f"{promise.kind.value} {promise.amount_fen or ''} to {promise.meter}"
        self._world.history.say("clerk", f"{what}: {said} ({promise.command_id})")

    # ---- promises -------------------------------------------------------------------------------

    def broken_promises(self, connection: psycopg.Connection[Any]) -> list[str]:
        """Orders that were accepted and are not there, or are not what was ordered."""
        found = []
        for promise in self.promises:
            row = connection.execute(
                "SELECT meter.name, kind, amount_fen FROM command JOIN meter USING (meter_id)"
                " WHERE command_id = %s",
                (promise.command_id,),
            ).fetchone()
            ordered = (promise.meter, promise.kind.value, promise.amount_fen)
            if promise.accepted and row != ordered:
                found.append(f"{promise.meter}: accepted {ordered}, stored {row}")
            if not promise.accepted and promise.answers and row is not None:
                found.append(f"{promise.meter}: refused {ordered}, stored all the same")
            if promise.accepted and promise.answers[-1] != "accepted":
                found.append(f"{promise.meter}: accepted, then told {promise.answers[-1]}")
        return found


def _short(answer: Answer) -> str:
    return "accepted" if isinstance(answer, Accepted) else f"rejected: {answer.why.value}"
