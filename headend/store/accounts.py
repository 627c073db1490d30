"""Accounts and what they hold. Money moves between them in store/ledger.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from headend.domain.ledger import AccountKind
from headend.store.database import Row, Transaction
from headend.store.errors import DatabaseRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A place money can be."""

    account_id: int
    kind: AccountKind
    name: str
    contact: str
    site_id: int | None
    meter_id: int | None  # of METER and CUSTOMER
    operator_id: int | None  # of TILL and CHANNEL
    opened_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account holds. `posted_fen` is real, `reserved_fen` of it is promised away."""

    posted_fen: int
    reserved_fen: int

    @property
    def available_fen(self) -> int:
        return self.posted_fen - self.reserved_fen


_ACCOUNT: Final = (
    "account_id, kind, name, contact, site_id, meter_id, operator_id, opened_at, closed_at"
)


async def open_account(
    tx: Transaction,
    kind: AccountKind,
    name: str,
    *,
    at: datetime,
    contact: str = "",
    site_id: int | None = None,
    meter_id: int | None = None,
    operator_id: int | None = None,
) -> Account:
    """A new account. METER and CUSTOMER name their meter, TILL and CHANNEL their operator.

    Raises DatabaseRefused when that meter or operator has an open one already.
    """
    row = await tx.row(
        f"""
        INSERT INTO account (kind, name, contact, site_id, meter_id, operator_id, opened_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING {_ACCOUNT}""",
        kind.value,
        name,
        contact,
        site_id,
        meter_id,
        operator_id,
        at,
    )
    assert row is not None
    return _account(row)


async def account(tx: Transaction, account_id: int) -> Account | None:
    """One account by its number."""
    row = await tx.row(f"SELECT {_ACCOUNT} FROM account WHERE account_id = %s", account_id)
    return _account(row) if row else None


async def account_of_meter(tx: Transaction, meter_id: int, at: datetime) -> Account:
    """What was credited to this meter. Opened at its first use, with the meter's opening values."""
    found = await _find_or_open(tx, AccountKind.METER, meter_id, at)
    await tx.execute(
        """
        INSERT INTO meter_opening (meter_id, opened_at, purchase_count, total_purchased_fen,
            booked_count, booked_fen, reason)
        SELECT meter_id, at, purchase_count, total_purchased_fen, 0, 0, 'the books begin'
        FROM meter_last WHERE meter_id = %(meter_id)s
            AND (purchase_count IS NOT NULL OR total_purchased_fen IS NOT NULL)
            AND NOT EXISTS (SELECT FROM meter_opening WHERE meter_id = %(meter_id)s)
            AND NOT EXISTS (SELECT FROM transfer WHERE credit = %(account_id)s)""",
        named={"meter_id": meter_id, "account_id": found.account_id},
    )
    return found


async def customer_of_meter(tx: Transaction, meter_id: int, at: datetime) -> Account:
    """Who pays for this meter now. Opened at its first use; the closed one when none is open."""
    return await _find_or_open(tx, AccountKind.CUSTOMER, meter_id, at)


async def _find_or_open(tx: Transaction, kind: AccountKind, meter_id: int, at: datetime) -> Account:
    find: LiteralString = f"""
        SELECT {_ACCOUNT} FROM account WHERE meter_id = %s AND kind = %s
        ORDER BY closed_at DESC NULLS FIRST LIMIT 1"""
    row = await tx.row(find, meter_id, kind.value)
    if row is None:
        # Two first sales at once: one opens it, the other finds it. A meter's customer is named
        # after its room until somebody says better.
        await tx.execute(
            """
            INSERT INTO account (kind, name, site_id, meter_id, opened_at)
            SELECT %s, coalesce(room.name, meter.name), meter.site_id, meter_id, %s
            FROM meter LEFT JOIN room USING (room_id) WHERE meter_id = %s
            ON CONFLICT DO NOTHING""",
            kind.value,
            at,
            meter_id,
        )
        row = await tx.row(find, meter_id, kind.value)
    if row is None:
        raise DatabaseRefused(f"There is no meter with the number {meter_id}.")
    return _account(row)


async def till_of(tx: Transaction, operator_id: int, at: datetime) -> Account:
    """Where this operator's takings are booked: a till, for an integrator a channel.

    Opened at its first use.
    """
    find: LiteralString = f"SELECT {_ACCOUNT} FROM account WHERE operator_id = %s"
    row = await tx.row(find, operator_id)
    if row is None:
        await tx.execute(
            """
            INSERT INTO account (kind, name, operator_id, opened_at)
            SELECT CASE role WHEN 'integrator' THEN 'channel' ELSE 'till' END, name, operator_id, %s
            FROM operator WHERE operator_id = %s ON CONFLICT DO NOTHING""",
            at,
            operator_id,
        )
        row = await tx.row(find, operator_id)
    if row is None:
        raise DatabaseRefused(f"There is no operator with the number {operator_id}.")
    return _account(row)


async def close_account(tx: Transaction, account_id: int, at: datetime) -> bool:
    """No more money through this account; False when it was closed already.

    Raises DatabaseRefused while there is money in it.
    """
    touched = await tx.execute(
        "UPDATE account SET closed_at = %s WHERE account_id = %s AND closed_at IS NULL",
        at,
        account_id,
    )
    return touched == 1


async def balance(tx: Transaction, account_id: int) -> Balance:
    """What an account holds; all zero for a number that is none."""
    row = await tx.row(
        "SELECT posted_fen, reserved_fen FROM account_balance WHERE account_id = %s", account_id
    )
    return Balance(*row) if row else Balance(0, 0)


async def balance_fen(tx: Transaction, account_id: int) -> int:
    """Posted credits less posted debits; below zero for tills and channels, as they take money."""
    return (await balance(tx, account_id)).posted_fen


async def available_fen(tx: Transaction, account_id: int) -> int:
    """What may still be spent: the balance less what is reserved."""
    return (await balance(tx, account_id)).available_fen


async def lock(tx: Transaction, *account_ids: int) -> None:
    """Hold these accounts until the transaction ends, so that a look at them stays true.

    In the order of their numbers: two who lock the same ones do not wait for each other in turn.
    """
    await tx.execute(
        "SELECT FROM account WHERE account_id = ANY(%s) ORDER BY account_id FOR NO KEY UPDATE",
        list(account_ids),
    )


async def sum_of_balances_fen(tx: Transaction) -> int:
    """Always 0; anything else means that somebody changed the books from outside."""
    total: int = await tx.value("SELECT coalesce(sum(posted_fen), 0)::bigint FROM account_balance")
    return total


def _account(row: Row) -> Account:
    account_id, kind, name, contact, site_id, meter_id, operator_id, opened_at, closed_at = row
    return Account(
        account_id=account_id,
        kind=AccountKind(kind),
        name=name,
        contact=contact,
        site_id=site_id,
        meter_id=meter_id,
        operator_id=operator_id,
        opened_at=opened_at,
        closed_at=closed_at,
    )
