"""An office for tests: a whole head-end, two meters that answer, a cashier and a manager."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from headend.domain.cases import Case, Step
from headend.domain.customers import Customer, Person
from headend.domain.roles import Role
from headend.services import account_opening, selling
from headend.services.account_opening import Opening
from headend.services.case_work import Asked
from headend.services.looks import MeterAtWork
from headend.services.services import Services
from headend.store import account_cases, account_rules, accounts, commands, customers, people
from headend.store.account_rules import Rules
from headend.store.database import Transaction
from protocols.settings import AlarmAmounts, OpenAccount, Prices, to_record
from simulators.metering import Meter
from tests.headend.test_api import Served, served

OPENING = to_record(
    OpenAccount(
        prices=Prices(sharp_fen=60, peak_fen=60, flat_fen=60, valley_fen=60),
        alarms=AlarmAmounts(alarm_1_fen=2000, alarm_2_fen=500),
    )
)
ZHANG = Person(name="Zhang San", phone="138 0000 0001", address="A-101")
LI = Person(name="李四", phone="13800000002")


@dataclass
class Office:
    served: Served
    cashier: int
    manager: int

    @property
    def services(self) -> Services:
        return self.served.head_end.services

    def at_work(self, name: str = "M1") -> MeterAtWork:
        return self.services.lines.find_meter(name)

    def device(self, unit: int = 1) -> Meter:
        """The simulated meter itself: the witness."""
        found: Meter = self.served.wire.line.bus.units[unit].meter
        return found

    def asked(self, *, approved: bool = False, case_id: UUID | None = None) -> Asked:
        return Asked(
            case_id=case_id or uuid4(),
            operator_id=self.cashier,
            reason="a test",
            approver_id=self.manager if approved else None,
        )

    async def rules(self, rules: Rules) -> None:
        async with self.services.database.transaction() as tx:
            site = self.services.lines.sites["court"].site_id
            await account_rules.set_for_site(
                tx, site, rules, by=self.manager, at=self.services.clock.now()
            )

    async def opened(self, name: str = "M1", person: Person = ZHANG, fen: int = 5000) -> Case:
        wish = Opening(asked=self.asked(), person=person, amount_fen=fen)
        case = await account_opening.open_account(self.services, self.at_work(name), wish)
        assert isinstance(case, Case), case
        return await self.reaches(case.case_id, Step.DONE)

    async def sold(self, fen: int, name: str = "M1") -> None:
        command_id = uuid4()
        wish = selling.SaleWish(
            command_id=command_id,
            meter_id=self.at_work(name).known.meter_id,
            amount_fen=fen,
            operator_id=self.cashier,
        )
        s = self.services
        await selling.sell(s.database, s.orders, s.clock, wish)
        async with asyncio.timeout(60):
            while True:
                async with s.database.transaction() as tx:
                    command = await commands.find(tx, command_id)
                assert command is not None
                if command.state.value == "confirmed":
                    return
                await asyncio.sleep(0.05)

    async def reaches(self, case_id: UUID, step: Step) -> Case:
        """The case once it is there."""
        async with asyncio.timeout(60):
            while True:
                async with self.services.database.transaction() as tx:
                    case = await account_cases.find(tx, case_id)
                assert case is not None
                if case.step is step:
                    return case
                await asyncio.sleep(0.05)

    async def customer(self, name: str = "M1") -> Customer | None:
        async with self.services.database.transaction() as tx:
            return await customers.of_meter(tx, self.at_work(name).known.meter_id)

    async def available_fen(self, account_id: int) -> int:
        async with self.services.database.transaction() as tx:
            return await accounts.available_fen(tx, account_id)

    async def till_fen(self) -> int:
        """What the cashier's till has taken, less what it paid out."""
        async with self.services.database.transaction() as tx:
            till = await accounts.till_of(tx, self.cashier, self.services.clock.now())
            return -await accounts.balance_fen(tx, till.account_id)

    async def sound(self) -> None:
        """The books sum to zero whatever was done."""
        async with self.services.database.transaction() as tx:
            assert await accounts.sum_of_balances_fen(tx) == 0

    async def count(self, tx: Transaction, operation: str) -> int:
        found: int = await tx.value(
            "SELECT count(*) FROM transfer WHERE operation = %s AND phase IN ('direct', 'post')",
            operation,
        )
        return found


@asynccontextmanager
async def office(dsn: str, folder: Path, *units: str) -> AsyncIterator[Office]:
    async with served(dsn, folder, *(units or ("ddsy:1-3",))) as up:
        services = up.head_end.services
        at = services.clock.now()
        async with services.database.transaction() as tx:
            cashier = await people.add_operator(tx, "wang", Role.CASHIER, at=at)
            manager = await people.add_operator(tx, "zhao", Role.MANAGER, at=at)
        assert cashier is not None
        assert manager is not None
        assert await services.lines.lines["L1"].wait_up(30)
        for name in ("M1", "M2"):
            await services.nights.read_now(services.lines.find_meter(name))
        await services.sink.flush()
        yield Office(up, cashier.operator_id, manager.operator_id)
