"""Transfers, as statements. Accounts are store/accounts.py, named operations services/books.py.

Everything here runs in the caller's transaction, so that an order, its sale and its money are one.
What the database refuses (an overdrawn account, a second resolution, a closed account) leaves as a
DatabaseRefused with the database's sentence: whoever wants a friendly answer looks first.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from headend.domain.ledger import Operation, Phase, Transfer
from headend.store.database import Row, Transaction
from headend.store.errors import DatabaseRefused

# A resolution's id follows from what it resolves, so that a repeat meets itself.
_RESOLUTIONS: Final = UUID("6f1c2a52-6a0f-5b57-9d6a-3f0b8b6c3f11")


class AlreadyResolved(DatabaseRefused):
    """The pending transfer was posted or voided before; money moves once."""


class TransferIdReused(DatabaseRefused):
    """The id belongs to another transfer."""


async def under_grants(tx: Transaction) -> bool:
    """Give up, until this transaction ends, the right to change or delete what is booked.

    False where the server did not let us make the role: then the triggers stand alone.
    """
    row = await tx.row(
        "SELECT set_config('role', rolname, true) FROM pg_roles"
        " WHERE rolname = 'headend_books' AND pg_has_role(oid, 'MEMBER')"
    )
    return row is not None


async def pending(
    tx: Transaction,
    *,
    transfer_id: UUID,
    debit: int,
    credit: int,
    amount_fen: int,
    operator_id: int,
    at: datetime,
    command_id: UUID | None = None,
    sale_id: UUID | None = None,
    approver_id: int | None = None,
    reason: str = "",
) -> Transfer:
    """Reserve a top-up's money: customer → meter. The same id and content twice is one transfer.

    Raises TransferIdReused, and DatabaseRefused when the customer has less than that available.
    """
    return await _book(
        tx,
        Transfer(
            transfer_id=transfer_id,
            phase=Phase.PENDING,
            operation=Operation.TOP_UP,
            debit=debit,
            credit=credit,
            amount_fen=amount_fen,
            pending_id=None,
            command_id=command_id,
            sale_id=sale_id,
            operator_id=operator_id,
            approver_id=approver_id,
            reason=reason,
            at=at,
        ),
    )


async def direct(
    tx: Transaction,
    operation: Operation,
    *,
    transfer_id: UUID,
    debit: int,
    credit: int,
    amount_fen: int,
    operator_id: int,
    at: datetime,
    command_id: UUID | None = None,
    sale_id: UUID | None = None,
    approver_id: int | None = None,
    reason: str = "",
) -> Transfer:
    """Move money at once. The same id and content twice is one transfer.

    Raises TransferIdReused, and DatabaseRefused for whatever domain/books.py forbids.
    """
    return await _book(
        tx,
        Transfer(
            transfer_id=transfer_id,
            phase=Phase.DIRECT,
            operation=operation,
            debit=debit,
            credit=credit,
            amount_fen=amount_fen,
            pending_id=None,
            command_id=command_id,
            sale_id=sale_id,
            operator_id=operator_id,
            approver_id=approver_id,
            reason=reason,
            at=at,
        ),
    )


async def post(
    tx: Transaction,
    pending_id: UUID,
    *,
    at: datetime,
    operator_id: int | None = None,
    approver_id: int | None = None,
    reason: str = "",
) -> Transfer:
    """Make a pending transfer real, once. By whoever reserved it unless a person decided.

    Raises AlreadyResolved when it was posted or voided before.
    """
    return await _resolve(
        tx,
        pending_id,
        phase=Phase.POST,
        operation=Operation.TOP_UP,
        at=at,
        operator_id=operator_id,
        approver_id=approver_id,
        reason=reason,
    )


async def void(
    tx: Transaction,
    pending_id: UUID,
    *,
    at: datetime,
    operation: Operation = Operation.TOP_UP,
    operator_id: int | None = None,
    approver_id: int | None = None,
    reason: str = "",
) -> Transfer:
    """Let a pending transfer go, once: the money stays with the customer.

    `operation` is REVERSAL when a person took the sale back; that needs a reason. Raises
    AlreadyResolved when it was posted or voided before.
    """
    return await _resolve(
        tx,
        pending_id,
        phase=Phase.VOID,
        operation=operation,
        at=at,
        operator_id=operator_id,
        approver_id=approver_id,
        reason=reason,
    )


async def _resolve(
    tx: Transaction,
    pending_id: UUID,
    *,
    phase: Phase,
    operation: Operation,
    at: datetime,
    operator_id: int | None,
    approver_id: int | None,
    reason: str,
) -> Transfer:
    row = await tx.row(
        f"""
        INSERT INTO transfer (transfer_id, phase, operation, debit, credit, amount_fen, pending_id,
            command_id, sale_id, operator_id, approver_id, reason, at)
        SELECT %(transfer_id)s, %(phase)s, %(operation)s, debit, credit, amount_fen, transfer_id,
            command_id, sale_id, coalesce(%(operator_id)s, operator_id), %(approver_id)s,
            %(reason)s, %(at)s
        FROM transfer WHERE transfer_id = %(pending_id)s AND phase = 'pending'
        ON CONFLICT DO NOTHING
        RETURNING {_TRANSFER}""",
        named={
            "transfer_id": uuid5(_RESOLUTIONS, str(pending_id)),
            "phase": phase.value,
            "operation": operation.value,
            "operator_id": operator_id,
            "approver_id": approver_id,
            "reason": reason,
            "at": at,
            "pending_id": pending_id,
        },
    )
    if row is None:
        raise AlreadyResolved(
            f"The transfer {pending_id} cannot be resolved: it was posted or voided before, "
            "or was never reserved."
        )
    return _transfer(row)


_TRANSFER: Final = (
    "transfer_id, phase, operation, debit, credit, amount_fen, pending_id,"
    " command_id, sale_id, operator_id, approver_id, reason, at"
)


async def _book(tx: Transaction, wanted: Transfer) -> Transfer:
    row = await tx.row(
        f"""
        INSERT INTO transfer (transfer_id, phase, operation, debit, credit, amount_fen,
            command_id, sale_id, operator_id, approver_id, reason, at)
        SELECT %(transfer_id)s, %(phase)s, %(operation)s, %(debit)s, %(credit)s, %(amount_fen)s,
            %(command_id)s, %(sale_id)s, %(operator_id)s, %(approver_id)s, %(reason)s, %(at)s
        WHERE NOT EXISTS (SELECT FROM transfer WHERE transfer_id = %(transfer_id)s)
        ON CONFLICT DO NOTHING
        RETURNING {_TRANSFER}""",
        named={
            "transfer_id": wanted.transfer_id,
            "phase": wanted.phase.value,
            "operation": wanted.operation.value,
            "debit": wanted.debit,
            "credit": wanted.credit,
            "amount_fen": wanted.amount_fen,
            "command_id": wanted.command_id,
            "sale_id": wanted.sale_id,
            "operator_id": wanted.operator_id,
            "approver_id": wanted.approver_id,
            "reason": wanted.reason,
            "at": wanted.at,
        },
    )
    if row is not None:
        return _transfer(row)
    there = await transfer(tx, wanted.transfer_id)
    if there is None or not same_wish(there, wanted):
        raise TransferIdReused(f"The id {wanted.transfer_id} belongs to another transfer.")
    return there


def same_wish(one: Transfer, other: Transfer) -> bool:
    """Whether two transfers say the same, whenever they were asked for."""
    return (one.phase, one.operation, one.debit, one.credit, one.amount_fen) == (
        other.phase,
        other.operation,
        other.debit,
        other.credit,
        other.amount_fen,
    ) and (one.command_id, one.sale_id) == (other.command_id, other.sale_id)


async def transfer(tx: Transaction, transfer_id: UUID) -> Transfer | None:
    """One transfer by its id."""
    row = await tx.row(f"SELECT {_TRANSFER} FROM transfer WHERE transfer_id = %s", transfer_id)
    return _transfer(row) if row else None


async def pending_of_sale(tx: Transaction, sale_id: UUID) -> Transfer | None:
    """The reservation of this sale that is neither posted nor voided, if there is one."""
    row = await tx.row(
        f"""
        SELECT {_TRANSFER} FROM transfer WHERE sale_id = %s AND phase = 'pending'
            AND NOT EXISTS (SELECT FROM transfer AS resolution
                WHERE resolution.pending_id = transfer.transfer_id)""",
        sale_id,
    )
    return _transfer(row) if row else None


async def beside_sale_fen(tx: Transaction, sale_id: UUID) -> tuple[int, int]:
    """Fee and debt share that were booked with a sale."""
    row = await tx.row(
        "SELECT coalesce(sum(amount_fen) FILTER (WHERE operation = 'fee'), 0)::bigint,"
        " coalesce(sum(amount_fen) FILTER (WHERE operation = 'repayment'), 0)::bigint"
        " FROM transfer WHERE sale_id = %s AND phase = 'direct'",
        sale_id,
    )
    assert row is not None, "an aggregate has a row"
    return row[0], row[1]


async def transfers_of_account(
    tx: Transaction, account_id: int, *, since: datetime, limit: int = 1000
) -> list[Transfer]:
    """What happened to one account, newest first."""
    rows = await tx.rows(
        f"""
        SELECT {_TRANSFER} FROM transfer
        WHERE (debit = %(account_id)s OR credit = %(account_id)s) AND at >= %(since)s
        ORDER BY entry_no DESC LIMIT %(limit)s""",
        named={"account_id": account_id, "since": since, "limit": limit},
    )
    return [_transfer(row) for row in rows]


def _transfer(row: Row) -> Transfer:
    transfer_id, phase, operation, debit, credit, amount_fen, pending_id = row[:7]
    command_id, sale_id, operator_id, approver_id, reason, at = row[7:]
    return Transfer(
        transfer_id=transfer_id,
        phase=Phase(phase),
        operation=Operation(operation),
        debit=debit,
        credit=credit,
        amount_fen=amount_fen,
        pending_id=pending_id,
        command_id=command_id,
        sale_id=sale_id,
        operator_id=operator_id,
        approver_id=approver_id,
        reason=reason,
        at=at,
    )
