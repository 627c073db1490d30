"""A property office for tests of the books: two meters that were read once, and its people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg

from headend.domain.ledger import Operation, Transfer
from headend.store import accounts, ledger
from headend.store.accounts import Account
from headend.store.database import Database, Transaction
from headend.store.readings import make_partitions, store_readings
from protocols.reading import Origin, Quantity, Reading
from tests.headend.store.places_for_tests import imported, small_site

MORNING = datetime(2026, 3, 20, 2, 0, tzinfo=UTC)  # ten in Shanghai


@dataclass
class Shop:
    """The office. Amounts in fen, instants as minutes after MORNING."""

    database: Database
    meters: list[int]
    cashier: int
    manager: int
    twin: int  # a second account of the cashier's own person
    integrator: int
    minutes: int = 0

    def now(self) -> datetime:
        """Each asking is a minute later."""
        self.minutes += 1
        return MORNING + timedelta(minutes=self.minutes)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self.database.transaction() as tx:
            yield tx

    async def till(self) -> Account:
        async with self.database.transaction() as tx:
            return await accounts.till_of(tx, self.cashier, self.now())

    async def customer(self, meter: int = 0) -> Account:
        async with self.database.transaction() as tx:
            return await accounts.customer_of_meter(tx, self.meters[meter], self.now())

    async def meter_account(self, meter: int = 0) -> Account:
        async with self.database.transaction() as tx:
            return await accounts.account_of_meter(tx, self.meters[meter], self.now())

    async def pay(
        self, amount_fen: int, meter: int = 0, transfer_id: UUID | None = None
    ) -> Transfer:
        """Cash over the counter: it waits as the customer's balance."""
        till, customer = await self.till(), await self.customer(meter)
        async with self.database.transaction() as tx:
            return await ledger.direct(
                tx,
                Operation.PAYMENT,
                transfer_id=transfer_id or uuid4(),
                debit=till.account_id,
                credit=customer.account_id,
                amount_fen=amount_fen,
                operator_id=self.cashier,
                at=self.now(),
            )

    async def reserve(
        self, amount_fen: int, meter: int = 0, sale_id: UUID | None = None
    ) -> Transfer:
        customer, account = await self.customer(meter), await self.meter_account(meter)
        async with self.database.transaction() as tx:
            return await ledger.pending(
                tx,
                transfer_id=uuid4(),
                debit=customer.account_id,
                credit=account.account_id,
                amount_fen=amount_fen,
                operator_id=self.cashier,
                at=self.now(),
                sale_id=sale_id,
            )

    async def post(self, reserved: Transfer) -> Transfer:
        async with self.database.transaction() as tx:
            return await ledger.post(tx, reserved.transfer_id, at=self.now())

    async def balance_fen(self, account: Account) -> tuple[int, int]:
        """(posted, available)"""
        async with self.database.transaction() as tx:
            held = await accounts.balance(tx, account.account_id)
        return held.posted_fen, held.available_fen

    async def look(self, count: int | None, total_fen: int | None, meter: int = 0) -> datetime:
        """A reading of the meter's purchase registers, now."""
        at = self.now()
        values = {Quantity.PURCHASE_COUNT: count, Quantity.TOTAL_PURCHASED: total_fen}
        async with self.database.transaction() as tx:
            await store_readings(
                tx,
                [
                    Reading(
                        meter_id=self.meters[meter],
                        at=at,
                        received_at=at,
                        origin=Origin.POLLED,
                        values={q: v for q, v in values.items() if v is not None},
                    )
                ],
            )
        return at


async def open_shop(database: Database) -> Shop:
    """Meters M1 and M2 stand at count 3 and 100.00 yuan."""
    report = await imported(database, small_site())
    assert report.site_is_new
    async with database.transaction() as tx:
        await make_partitions(tx, MORNING)
        meters = [row[0] for row in await tx.rows("SELECT meter_id FROM meter ORDER BY name")]
        people = [
            await tx.value(
                "INSERT INTO operator (name, person, role, all_sites, created_at)"
                " VALUES (%s, %s, %s, true, %s) RETURNING operator_id",
                name,
                person,
                role,
                MORNING,
            )
            for name, person, role in (
                ("li", "Li Na", "cashier"),
                ("wang", "Wang Wei", "manager"),
                ("li2", "Li Na", "manager"),
                ("kiosk", "Kiosk Ltd", "integrator"),
            )
        ]
    shop = Shop(database, meters, *people)
    await shop.look(3, 10_000, 0)
    await shop.look(3, 10_000, 1)
    return shop


def as_attacker(conninfo: str, *statements: str) -> None:
    """Somebody with all rights, who also knows how to switch triggers and keys off."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement.encode())
