"""A property of many rooms for tests of bulk switching: a real database and real orders.

Only the sender is played: `obey` does to the queued orders what a sender does to them, and the
meters always do as they are told unless the test says otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from headend.domain.bulk import BulkLimits, Job, Refused
from headend.domain.commands import Command, CommandKind, CommandState
from headend.domain.places import Building, Gateway, GatewayKind, LinePlace, MeterPlace, Room, Site
from headend.services import bulk
from headend.services.bulk import BulkWish
from headend.services.bulk_runner import BulkRunner
from headend.services.orders import Orders
from headend.store import attempts, bulk_items, commands, supply
from headend.store.bulk_items import Item
from headend.store.database import Database, Transaction
from headend.store.readings import make_partitions, store_readings
from protocols.catalog import load_meter_types
from protocols.exchange import Evidence
from protocols.reading import Origin, Quantity, Reading
from tests.headend.house import TestClock
from tests.headend.store.places_for_tests import imported
from tests.headend.supply.cases import NEVER, NOON, SHANGHAI

S = CommandState
DEBT_FEN = -1_200


def confirmed(_command: Command) -> CommandState:
    return S.CONFIRMED


def rooms_on(lines: int, meters_a_line: int) -> Site:
    """Meter M<line>-<unit> in room R<line>-<unit>; a building for each line."""
    places = [(line, unit) for line in range(1, lines + 1) for unit in range(1, meters_a_line + 1)]
    return Site(
        name="estate",
        time_zone=SHANGHAI,
        buildings=tuple(Building(name=f"B{line}") for line in range(1, lines + 1)),
        rooms=tuple(Room(name=f"R{line}-{unit}", building=f"B{line}") for line, unit in places),
        gateways=tuple(
            Gateway(name=f"G{line}", kind=GatewayKind.TCP, host="127.0.0.1", port=line)
            for line in range(1, lines + 1)
        ),
        lines=tuple(LinePlace(name=f"L{line}", gateway=f"G{line}") for line in range(1, lines + 1)),
        cabinets=(),
        meters=tuple(
            MeterPlace(
                name=f"M{line}-{unit}",
                line=f"L{line}",
                meter_type="acrel_ddsy1352",
                unit=unit,
                room=f"R{line}-{unit}",
            )
            for line, unit in places
        ),
    )


@dataclass
class Estate:
    """The property, its people, its bulk jobs and the played sender."""

    database: Database
    clock: TestClock
    meters: dict[str, int]  # by name
    site_id: int
    manager: int
    colleague: int
    twin: int  # the manager's second account
    runner: BulkRunner
    steps_max: int = 500
    switched: list[tuple[CommandKind, int]] = field(default_factory=list)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self.database.transaction() as tx:
            yield tx

    @property
    def now(self) -> datetime:
        return self.clock.instant

    def later(self, **step: float) -> None:
        self.clock.instant += timedelta(**step)

    def new_runner(self) -> None:
        """The program was killed and started: nothing but the database is left."""
        orders = Orders(self.clock, load_meter_types())
        self.runner = BulkRunner(self.database, orders.switch_many, self.clock)

    async def read(self, credit_fen: int = DEBT_FEN, *names: str, relay: int = 1) -> None:
        """Every meter, or these, show this credit and relay now."""
        readings = [
            Reading(
                meter_id=self.meters[name],
                at=self.now,
                received_at=self.now,
                origin=Origin.POLLED,
                values={
                    Quantity.ENERGY: 1000,
                    Quantity.REMAINING_CREDIT: credit_fen,
                    Quantity.RELAY_CLOSED: relay,
                    Quantity.POWER: 100,
                },
            )
            for name in names or self.meters
        ]
        async with self.transaction() as tx:
            await store_readings(tx, readings)

    def wish(self, *names: str, limits: BulkLimits | None = None, **more: object) -> BulkWish:
        """A cut of these meters, or of the whole site, for arrears."""
        given: dict[str, object] = {
            "bulk_id": uuid4(),
            "action": CommandKind.CUT,
            "by": self.manager,
            "reason": "arrears of February",
            "site_id": None if names else self.site_id,
            "meter_ids": [self.meters[name] for name in names] if names else None,
            "limits": limits or BulkLimits(),
        }
        return BulkWish(**given | more)  # type: ignore[arg-type]

    async def plan(self, wish: BulkWish) -> Job | Refused:
        async with self.transaction() as tx:
            return await bulk.plan(tx, wish, self.now)

    async def planned(self, *names: str, limits: BulkLimits | None = None) -> Job:
        job = await self.plan(self.wish(*names, limits=limits))
        assert isinstance(job, Job), job
        return job

    async def approved(self, *names: str, limits: BulkLimits | None = None) -> Job:
        job = await self.planned(*names, limits=limits)
        async with self.transaction() as tx:
            answer = await bulk.approve(
                tx, job.bulk_id, job.sha256, by=self.colleague, now=self.now
            )
        assert isinstance(answer, Job), answer
        return answer

    async def started(self, *names: str, limits: BulkLimits | None = None) -> Job:
        job = await self.approved(*names, limits=limits)
        return await self.start(job)

    async def start(self, job: Job) -> Job:
        async with self.transaction() as tx:
            answer = await bulk.start(tx, job.bulk_id, by=self.manager, now=self.now)
        assert isinstance(answer, Job), answer
        return answer

    async def go_on(self, job: Job) -> Job | Refused:
        async with self.transaction() as tx:
            return await bulk.go_on(tx, job.bulk_id, by=self.manager, now=self.now)

    async def stop(self, job: Job) -> Job | Refused:
        async with self.transaction() as tx:
            return await bulk.stop(
                tx, job.bulk_id, by=self.colleague, reason="wrong list.", now=self.now
            )

    async def undo(self, job: Job) -> Job | Refused:
        async with self.transaction() as tx:
            return await bulk.undo(
                tx, uuid4(), undo_of=job.bulk_id, by=self.manager, reason="wrong", now=self.now
            )

    async def job(self, job: Job) -> Job:
        async with self.transaction() as tx:
            return await bulk.find(tx, job.bulk_id)

    async def items(self, job: Job) -> dict[str, Item]:
        async with self.transaction() as tx:
            return {item.meter: item for item in await bulk_items.items(tx, job.bulk_id)}

    async def states(self, job: Job) -> dict[str, int]:
        """How many items are in which state."""
        counts: dict[str, int] = {}
        for item in (await self.items(job)).values():
            counts[item.state.value] = counts.get(item.state.value, 0) + 1
        return counts

    async def queued(self) -> list[Command]:
        async with self.transaction() as tx:
            return await commands.listing(tx, states=[S.QUEUED], limit=10_000)

    async def obey(
        self, end: Callable[[Command], CommandState] = confirmed, bulk_id: UUID | None = None
    ) -> int:
        """Play the sender for all that is queued and due; returns how many orders were taken."""
        taken = 0
        for command in sorted(await self.queued(), key=lambda command: command.ordered_at):
            if command.not_before > self.now or bulk_id not in {None, command.bulk_id}:
                continue
            taken += 1
            async with self.transaction() as tx:
                await self.send(tx, command, end(command))
        return taken

    async def send(self, tx: Transaction, command: Command, state: CommandState) -> None:
        await commands.move(tx, command.command_id, S.QUEUED, S.CLAIMED, self.now)
        objection = await bulk.last_look(tx, command, self.now)
        if objection is not None:
            await commands.move(
                tx, command.command_id, S.CLAIMED, S.REFUSED, self.now, outcome=objection
            )
            return
        before = Evidence()
        await attempts.begin(tx, command, began_at=self.now, at=self.now, before=before)
        if state is S.SENT:
            return
        if state is S.UNKNOWN:
            await commands.move(
                tx, command.command_id, S.SENT, state, self.now, look_again_at=self.now
            )
            return
        applied = state is S.CONFIRMED
        await attempts.end(tx, command.command_id, self.now, "applied" if applied else "refused")
        await commands.move(tx, command.command_id, S.SENT, state, self.now, outcome="The end.")
        if applied:
            self.switched.append((command.kind, command.meter_id))

    async def settle(self, meter: str, outcome: str) -> None:
        """The unknown order of a meter is proved: "applied" or "not_applied"."""
        async with self.transaction() as tx:
            (command,) = await commands.listing(
                tx, meter_ids=[self.meters[meter]], states=[S.UNKNOWN]
            )
            await attempts.end(tx, command.command_id, self.now, outcome)
            after = S.CONFIRMED if outcome == "applied" else S.QUEUED
            await commands.move(tx, command.command_id, S.UNKNOWN, after, self.now)

    async def work(
        self, job: Job, end: Callable[[Command], CommandState] = confirmed, *, obeys: bool = True
    ) -> Job:
        """Steps and orders, each wait over at once, until the job rests or waits for a person."""
        for _ in range(self.steps_max):
            wait = await self.runner.step(job.bulk_id)
            taken = await self.obey(end) if obeys else 0
            known = await self.job(job)
            if wait is None or (known.state.value == "watching" and not taken):
                return known
            if wait and not taken:
                self.later(seconds=wait.total_seconds())
        raise AssertionError(f"no end after {self.steps_max} steps: {await self.states(job)}")


async def open_estate(database: Database, *, lines: int, meters_a_line: int) -> Estate:
    """Everybody was read an hour ago and owes 12 yuan; it is Friday noon and any hour will do."""
    await imported(database, rooms_on(lines, meters_a_line))
    clock = TestClock(NOON - timedelta(hours=1))
    async with database.transaction() as tx:
        await make_partitions(tx, clock.instant)
        meters: dict[str, int] = dict(
            await tx.rows("SELECT name, meter_id FROM meter ORDER BY meter_id")
        )
        site_id = await tx.value("SELECT site_id FROM site")
        manager, colleague, twin = [
            await tx.value(
                "INSERT INTO operator (name, person, role, all_sites, created_at)"
                " VALUES (%s, %s, 'manager', true, %s) RETURNING operator_id",
                name,
                person,
                clock.instant,
            )
            for name, person in (("wang", "Wang Wei"), ("zhao", "Zhao Yi"), ("wang2", "Wang Wei"))
        ]
        await supply.set_calendar(tx, site_id, NEVER, by=manager, at=clock.instant)
    orders = Orders(clock, load_meter_types())
    runner = BulkRunner(database, orders.switch_many, clock)
    estate = Estate(database, clock, meters, site_id, manager, colleague, twin, runner)
    await estate.read()
    estate.later(hours=1)
    return estate
