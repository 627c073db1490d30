"""A small shop for tests: meters on a real socket whose frames can be lost one by one, a database,
operators, paid customers, and a sender that can be killed."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from headend.domain.commands import Accepted, Command, CommandKind, CommandState, Rejected
from headend.domain.ledger import Operation
from headend.domain.places import MeterPlace
from headend.domain.purchases import Sale
from headend.services.decisions import Decisions
from headend.services.orders import Orders, SwitchOrder, TopUpOrder
from headend.services.sender import Sender
from headend.store import accounts, attempts, command_events, commands, ledger, sales
from headend.store.attempts import Attempt
from headend.store.command_events import CommandEvent
from headend.store.database import Database
from headend.store.readings import store_readings
from protocols.catalog import load_meter_types
from protocols.reading import Origin, Quantity, Reading
from simulators.dtu import Dtu
from simulators.line_command import LineWish
from simulators.metering import Meter
from simulators.modbus_meter import Bus
from simulators.modbus_tcp import ModbusTcpLine
from simulators.mqtt_gateway import PassThroughGateway
from simulators.tcp_slave import TcpLine
from tests.headend.house import House, ddsy, site_on, small_house

PATIENCE_S = 20.0
WRITES = frozenset({0x10, 0x20})  # function codes


class Fate(enum.Enum):
    """What becomes of one frame."""

    LOSE = "lose"  # the meter never hears it
    MUTE = "mute"  # the meter does it, the answer is lost
    REFUSE = "refuse"  # the meter says no: illegal value
    IGNORE = "ignore"  # the meter answers as if all were well, and does nothing


Script = Callable[[bytes], Fate | None]


@dataclass
class ScriptedBus(Bus):
    """Meters on one pair of wires, and what is to become of each frame."""

    script: Script | None = None
    heard: list[bytes] = field(default_factory=list)

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus.units)
        self.script = None
        self.heard = []

    def answer(self, frame: bytes) -> bytes | None:
        self.heard.append(frame)
        fate = self.script(frame) if self.script is not None else None
        if fate is Fate.LOSE:
            return None
        if fate is Fate.REFUSE:
            return _sealed(bytes((frame[0], frame[1] | 0x80, 3)))
        if fate is Fate.IGNORE:
            return _sealed(frame[:6] + (bytes(7) if frame[1] == 0x20 else b""))
        answered = super().answer(frame)
        return None if fate is Fate.MUTE else answered

    def writes(self, unit: int | None = None) -> list[bytes]:
        return [f for f in self.heard if f[1] in WRITES and unit in (None, f[0])]


def _sealed(body: bytes) -> bytes:
    crc = 0xFFFF
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return body + crc.to_bytes(2, "little")


def once(fate: Fate, *, write: bool) -> Script:
    """The next write (or read) meets this fate, everything after it is well."""
    left = [fate]

    def script(frame: bytes) -> Fate | None:
        is_it = (frame[1] in WRITES) is write
        return left.pop() if is_it and left else None

    return script


def always(fate: Fate, *, write: bool | None = None) -> Script:
    """Every write (or read, or both with None) meets this fate."""

    def script(frame: bytes) -> Fate | None:
        return fate if write is None or (frame[1] in WRITES) is write else None

    return script


class RunningClock:
    """Runs with the event loop; tests move it forward."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        starts_at = datetime(2026, 3, 20, 2, 0, tzinfo=UTC)
        self._begins = starts_at - timedelta(seconds=self._loop.time())

    def now(self) -> datetime:
        return self._begins + timedelta(seconds=self._loop.time())

    def later(self, **step: float) -> None:
        self._begins += timedelta(**step)


@dataclass
class Shop:
    """Meters M1, M2 … at units 1, 2 …; Li sells, Wang approves."""

    house: House
    database: Database
    clock: RunningClock
    bus: ScriptedBus
    wire: TcpLine | Dtu | ModbusTcpLine | PassThroughGateway
    orders: Orders
    decisions: Decisions
    sender: Sender | None = None
    ids: dict[str, int] = field(default_factory=dict)
    li: int = 0
    wang: int = 0

    def meter(self, unit: int = 1) -> Meter:
        """The simulated meter itself: the witness."""
        return self.bus.units[unit].meter

    def credited(self, unit: int = 1) -> list[int]:
        """Amounts this meter really took since the shop opened."""
        return [a.amount_fen for a in self.meter(unit).applied]

    async def read_once(self) -> None:
        """Last night's readings, without the wire: every meter that exists is known."""
        at = self.clock.now()
        readings = []
        for meter in self.house.book.by_id.values():
            known: Any = meter.known.address or meter.known.unit
            if (unit := self.bus.units.get(known)) is None:
                continue
            look = unit.meter.look()
            values = {
                Quantity.PURCHASE_COUNT: look.purchase_count,
                Quantity.TOTAL_PURCHASED: look.total_purchased_fen,
                Quantity.REMAINING_CREDIT: look.remaining_fen,
                Quantity.RELAY_CLOSED: int(look.relay_closed),
            }
            readings.append(
                Reading(
                    meter_id=meter.known.meter_id,
                    at=at,
                    received_at=at,
                    origin=Origin.POLLED,
                    values=values,
                )
            )
        async with self.database.transaction() as tx:
            await store_readings(tx, readings)
        self.clock.later(minutes=1)

    async def open_sender(self, **given: Any) -> Sender:
        """The program starts."""
        assert self.sender is None
        self.sender = Sender(self.database, self.house.book, self.clock, **given)
        await self.sender.start()
        return self.sender

    async def kill_sender(self) -> None:
        """The program dies between two instructions."""
        assert self.sender is not None
        await self.sender.stop()
        self.sender = None

    def later(self, **step: float) -> None:
        """Time passes, and the sender looks."""
        self.clock.later(**step)
        if self.sender is not None:
            self.sender.wake(self.house.book.lines["L1"].known.line_id)

    async def unplug(self) -> None:
        await self.wire.unplug()

    async def plug(self) -> None:
        await self.wire.plug()

    async def pay(self, amount_fen: int, unit: int = 1) -> None:
        """A customer brings money."""
        async with self.database.transaction() as tx:
            now = self.clock.now()
            await ledger.direct(
                tx,
                Operation.PAYMENT,
                transfer_id=uuid4(),
                debit=(await accounts.till_of(tx, self.li, now)).account_id,
                credit=(await self.customer(tx, unit)).account_id,
                amount_fen=amount_fen,
                operator_id=self.li,
                at=now,
            )

    async def customer(self, tx: Any, unit: int = 1) -> accounts.Account:
        return await accounts.customer_of_meter(tx, self.ids[f"M{unit}"], self.clock.now())

    async def order(
        self, amount_fen: int, unit: int = 1, command_id: UUID | None = None
    ) -> Accepted | Rejected:
        """A top-up is wished."""
        async with self.database.transaction() as tx:
            return await self.orders.top_up(
                tx,
                TopUpOrder(
                    command_id=command_id or uuid4(),
                    meter_id=self.ids[f"M{unit}"],
                    amount_fen=amount_fen,
                    operator_id=self.li,
                ),
            )

    async def sell(self, amount_fen: int, unit: int = 1) -> UUID:
        """Paid and accepted; returns the command."""
        await self.pay(amount_fen, unit)
        accepted = await self.order(amount_fen, unit)
        assert isinstance(accepted, Accepted), accepted
        return accepted.command.command_id

    async def switch(self, kind: CommandKind, unit: int = 1) -> Accepted | Rejected:
        async with self.database.transaction() as tx:
            return await self.orders.switch(
                tx,
                SwitchOrder(
                    command_id=uuid4(),
                    meter_id=self.ids[f"M{unit}"],
                    kind=kind,
                    operator_id=self.li,
                    reason="overdue",
                ),
            )

    async def switched(self, kind: CommandKind, unit: int = 1) -> UUID:
        """Ordered and accepted; returns the command."""
        accepted = await self.switch(kind, unit)
        assert isinstance(accepted, Accepted), accepted
        return accepted.command.command_id

    async def restored(self) -> None:
        """Ordered, proved, and the relay let go of by the order that follows."""
        restore_id = await self.switched(CommandKind.RESTORE)
        await self.reaches(restore_id, CommandState.CONFIRMED)
        release = await self.follower(restore_id, CommandKind.RELEASE)
        assert release is not None
        await self.reaches(release.command_id, CommandState.CONFIRMED)

    async def command(self, command_id: UUID) -> Command:
        async with self.database.transaction() as tx:
            found = await commands.find(tx, command_id)
        assert found is not None
        return found

    async def reaches(self, command_id: UUID, *states: CommandState) -> Command:
        """Wait until the command is in one of these states."""
        async with asyncio.timeout(PATIENCE_S):
            while (command := await self.command(command_id)).state not in states:
                await asyncio.sleep(0.01)
        return command

    async def follower(self, cause_id: UUID, kind: CommandKind) -> Command | None:
        """The order that followed from another, if there is one."""
        async with self.database.transaction() as tx:
            found = [c for c in await commands.listing(tx, kinds=[kind]) if c.cause_id == cause_id]
        return found[0] if found else None

    async def attempts(self, command_id: UUID) -> list[Attempt]:
        async with self.database.transaction() as tx:
            return await attempts.of_command(tx, command_id)

    async def events(self, command_id: UUID) -> list[CommandEvent]:
        async with self.database.transaction() as tx:
            return await command_events.events_of(tx, command_id)

    async def sale(self, command: Command) -> Sale:
        assert command.sale_id is not None
        async with self.database.transaction() as tx:
            found = await sales.find(tx, command.sale_id)
        assert found is not None
        return found

    async def books(self, unit: int = 1) -> tuple[int, int, int]:
        """What the books say: in the meter, available to the customer, reserved (fen)."""
        async with self.database.transaction() as tx:
            now = self.clock.now()
            credited = await accounts.account_of_meter(tx, self.ids[f"M{unit}"], now)
            in_meter = await accounts.balance(tx, credited.account_id)
            held = await accounts.balance(tx, (await self.customer(tx, unit)).account_id)
        return in_meter.posted_fen, held.available_fen, held.reserved_fen


@asynccontextmanager
async def shop(
    database: Database,
    folder: Path,
    *meters: str,
    places: tuple[MeterPlace, ...] | None = None,
) -> AsyncIterator[Shop]:
    """A shop whose meters were read once, so that their counts are known. No sender runs yet."""
    units = meters or ("ddsy:1-2",)
    wish = LineWish.parse(
        meters=list(units),
        pty=None,
        tcp="127.0.0.1:0",
        baud=1_000_000,
        bits=10,
        turnaround_s=0.0,
        seed=1,
        faults="{}",
    )
    bus = ScriptedBus(wish.bus())
    wire = TcpLine(bus, timing=wish.timing)
    await wire.plug()
    async with small_house(database, folder) as house:
        await house.move_in(site_on(wire.port, places or (ddsy(1), ddsy(2))))
        async with opened_shop(house, database, bus, wire) as opened:
            yield opened
    await wire.unplug()


@asynccontextmanager
async def opened_shop(
    house: House,
    database: Database,
    bus: ScriptedBus,
    wire: TcpLine | Dtu | ModbusTcpLine | PassThroughGateway,
) -> AsyncIterator[Shop]:
    """A shop in a house whose meters are behind this wire."""
    clock = RunningClock()
    opened = Shop(
        house, database, clock, bus, wire, Orders(clock, load_meter_types()), Decisions(clock)
    )
    async with database.transaction() as tx:
        opened.li, opened.wang = [
            number
            for (number,) in await tx.rows(
                "INSERT INTO operator (name, person, role, all_sites, created_at)"
                " VALUES ('li', 'Li', 'cashier', true, now()),"
                " ('wang', 'Wang', 'manager', true, now()) RETURNING operator_id"
            )
        ]
    opened.ids = {name: m.known.meter_id for name, m in house.book.meters.items()}
    await opened.read_once()
    for unit in bus.units.values():
        unit.meter.applied.clear()
    bus.heard.clear()
    try:
        yield opened
    finally:
        if opened.sender is not None:
            await opened.sender.stop()
