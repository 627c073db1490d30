"""How many top-ups can the books take a second, with every rule on?

Each posting is what a sale costs the books: a payment, a reservation and its posting, in three
committed transactions as in life, by several sellers at once; the database checks accounts, flows,
funds and resolutions each time. Afterwards the sums are checked: everything posted, nothing
reserved, all balances together zero, and the sealed chain verified row by row.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from bench._table import report
from headend.domain.ledger import Operation
from headend.services import seals
from headend.store import accounts, ledger
from headend.store.accounts import Account
from headend.store.database import Database
from headend.store.embedded import EmbeddedPostgres
from headend.store.migrate import migrate

METERS = 200
SELLERS = (1, 4, 10)  # at most the pool's connections
SALES = 3_000  # for each number of sellers
AMOUNT_FEN = 5_000
AT = datetime(2026, 3, 20, 2, 0, tzinfo=UTC)


class FixedClock:
    """The bench needs no time of its own."""

    def now(self) -> datetime:
        return AT


async def office(database: Database) -> tuple[int, list[Account], list[Account], Account]:
    """(operator, customers, meter accounts, till) of a small property."""
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO site (name, time_zone, night_opens, night_closes)"
            " VALUES ('bench', 'UTC', '23:55', '06:00')"
        )
        await tx.execute(
            "INSERT INTO gateway (site_id, name, kind, device, heartbeat_s)"
            " VALUES (1, 'G', 'serial', '/dev/null', 60)"
        )
        await tx.execute(
            "INSERT INTO line (site_id, gateway_id, name, baud, parity, stop_bits, turnaround_ms)"
            " VALUES (1, 1, 'L', 9600, 'N', 1, 0)"
        )
        await tx.execute(
            "INSERT INTO meter (site_id, line_id, name, meter_type, unit, energy_multiplier,"
            " options) SELECT 1, 1, 'M' || n, 'acrel_ddsy1352', n, 1, '{}'"
            " FROM generate_series(1, %s) AS n",
            METERS,
        )
        operator_id = await tx.value(
            "INSERT INTO operator (name, person, role, all_sites, created_at)"
            " VALUES ('li', 'Li Na', 'cashier', true, %s) RETURNING operator_id",
            AT,
        )
        meters = [row[0] for row in await tx.rows("SELECT meter_id FROM meter ORDER BY meter_id")]
        customers = [await accounts.customer_of_meter(tx, meter_id, AT) for meter_id in meters]
        credited = [await accounts.account_of_meter(tx, meter_id, AT) for meter_id in meters]
        till = await accounts.till_of(tx, operator_id, AT)
    return operator_id, customers, credited, till


async def sell(
    database: Database, operator_id: int, till: Account, customer: Account, meter: Account
) -> None:
    """One sale's money: taken, reserved, posted."""
    async with database.transaction() as tx:
        await ledger.direct(
            tx,
            Operation.PAYMENT,
            transfer_id=uuid4(),
            debit=till.account_id,
            credit=customer.account_id,
            amount_fen=AMOUNT_FEN,
            operator_id=operator_id,
            at=AT,
        )
    async with database.transaction() as tx:
        reserved = await ledger.pending(
            tx,
            transfer_id=uuid4(),
            debit=customer.account_id,
            credit=meter.account_id,
            amount_fen=AMOUNT_FEN,
            operator_id=operator_id,
            at=AT,
        )
    async with database.transaction() as tx:
        await ledger.post(tx, reserved.transfer_id, at=AT)


async def measure(conninfo: str) -> tuple[list[dict[str, int | float]], list[str]]:
    database = Database(conninfo)
    await database.open()
    operator_id, customers, credited, till = await office(database)
    rows: list[dict[str, int | float]] = []
    for sellers in SELLERS:
        waiting = iter(range(SALES))

        async def seller(waiting: Iterator[int] = waiting) -> None:
            for n in waiting:
                at = n % METERS
                await sell(database, operator_id, till, customers[at], credited[at])

        began = time.perf_counter()
        await asyncio.gather(*(seller() for _ in range(sellers)))
        seconds = time.perf_counter() - began
        rows.append(
            {
                "sellers": sellers,
                "sales": SALES,
                "sales/s": round(SALES / seconds),
                "transfers/s": round(3 * SALES / seconds),
            }
        )
    notes = await check(database, till, credited)
    await database.close()
    return rows, notes


async def check(database: Database, till: Account, credited: list[Account]) -> list[str]:
    """The sums, and the seal; fails when one is wrong."""
    taken_fen = len(SELLERS) * SALES * AMOUNT_FEN
    async with database.transaction() as tx:
        assert await accounts.sum_of_balances_fen(tx) == 0
        assert await accounts.balance_fen(tx, till.account_id) == -taken_fen
        in_meters = [await accounts.balance(tx, account.account_id) for account in credited]
        assert sum(balance.posted_fen for balance in in_meters) == taken_fen
        reserved = await tx.value("SELECT sum(reserved_fen) FROM account_balance")
        assert reserved == 0
    began = time.perf_counter()
    await seals.seal_day(database, AT.date(), FixedClock())
    sealed_s = time.perf_counter() - began
    began = time.perf_counter()
    verified = await seals.verify_database(database)
    verified_s = time.perf_counter() - began
    assert verified.is_sound
    return [
        "sums checked: all balances together 0, what the till took is in the meters",
        f"sealed {verified.transfers:,} rows at {verified.transfers / sealed_s:,.0f} rows/s, "
        f"verified them at {verified.transfers / verified_s:,.0f} rows/s",
    ]


async def run() -> tuple[list[dict[str, int | float]], list[str]]:
    with tempfile.TemporaryDirectory(prefix="headend-bench-") as folder:
        # As root the database's own user has to pass through.
        os.chmod(folder, 0o755 if os.geteuid() == 0 else 0o700)  # noqa: PTH101
        postgres = EmbeddedPostgres(Path(folder) / "database")
        conninfo = await postgres.start()
        try:
            await migrate(conninfo)
            return await measure(conninfo)
        finally:
            await postgres.stop()


def main() -> dict[str, object]:
    """Print the table, write it as JSON, and give it back."""
    logging.basicConfig(level=logging.WARNING)
    rows, notes = asyncio.run(run())
    report(
        "ledger", "Sales booked: payment, reservation and posting, all rules on", rows, notes=notes
    )
    return {"rows": rows, "notes": notes}


if __name__ == "__main__":
    main()
