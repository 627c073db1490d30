"""What customers owe: booked once, paid back at sales or by hand, or let off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

from headend.domain.deductions import OpenDebt
from headend.domain.ledger import AccountKind
from headend.store import accounts
from headend.store.database import Row, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """One debt with what is left of it."""

    debt_id: UUID
    customer_id: int
    account_id: int
    amount_fen: int
    left_fen: int
    share_permille: int  # taken from each payment
    reason: str
    booked_at: datetime
    booked_by: str
    let_off_at: datetime | None
    let_off_reason: str | None


_DEBT: Final[LiteralString] = """
    SELECT debt_id, debt.customer_id, account_id, amount_fen, left_fen, share_permille, reason,
        booked_at, operator.name, let_off_at, let_off_reason
    FROM debt JOIN debt_left USING (debt_id) JOIN operator ON operator_id = booked_by"""


async def book(
    tx: Transaction,
    *,
    debt_id: UUID,
    customer_id: int,
    site_id: int,
    amount_fen: int,
    share_permille: int,
    reason: str,
    by: int,
    approver_id: int | None,
    at: datetime,
) -> bool:
    """Book a debt; False when this id stands already."""
    if await tx.value("SELECT true FROM debt WHERE debt_id = %s", debt_id):
        return False
    account = await accounts.open_account(tx, AccountKind.DEBT, reason[:80], at=at, site_id=site_id)
    await tx.execute(
        "INSERT INTO debt (debt_id, customer_id, account_id, amount_fen, share_permille, reason,"
        " booked_by, approver_id, booked_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        debt_id,
        customer_id,
        account.account_id,
        amount_fen,
        share_permille,
        reason,
        by,
        approver_id,
        at,
    )
    return True


async def find(tx: Transaction, debt_id: UUID) -> Debt | None:
    """One debt."""
    row = await tx.row(_DEBT + " WHERE debt_id = %s", debt_id)
    return _debt(row) if row else None


async def of_customer(tx: Transaction, customer_id: int) -> Sequence[Debt]:
    """All debts of a customer, those with something left first, then the oldest."""
    rows = await tx.rows(
        _DEBT + " WHERE debt.customer_id = %s ORDER BY left_fen = 0, booked_at, debt_id",
        customer_id,
    )
    return [_debt(row) for row in rows]


async def open_of_customer(tx: Transaction, customer_id: int) -> tuple[OpenDebt, ...]:
    """What is still owed, the oldest first: the order in which it is paid back."""
    return tuple(
        OpenDebt(debt.debt_id, debt.account_id, debt.left_fen, debt.share_permille)
        for debt in await of_customer(tx, customer_id)
        if debt.left_fen > 0
    )


async def set_share(tx: Transaction, debt_id: UUID, share_permille: int) -> None:
    """Another share of each payment from now on."""
    await tx.execute(
        "UPDATE debt SET share_permille = %s WHERE debt_id = %s", share_permille, debt_id
    )


async def let_off(tx: Transaction, debt_id: UUID, *, by: int, reason: str, at: datetime) -> None:
    """What is left is owed no more."""
    await tx.execute(
        "UPDATE debt SET let_off_at = %s, let_off_by = %s, let_off_reason = %s"
        " WHERE debt_id = %s AND let_off_at IS NULL",
        at,
        by,
        reason,
        debt_id,
    )


def _debt(row: Row) -> Debt:
    return Debt(
        debt_id=row[0],
        customer_id=row[1],
        account_id=row[2],
        amount_fen=row[3],
        left_fen=row[4],
        share_permille=row[5],
        reason=row[6],
        booked_at=row[7],
        booked_by=row[8],
        let_off_at=row[9],
        let_off_reason=row[10],
    )
