"""Debts: booked by whoever decides, paid back at the counter, or let off. Each with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid5

from headend.domain.books import Booked, BooksWhy, NotBooked, may_not_ask
from headend.domain.clock import Clock
from headend.domain.customers import Customer
from headend.domain.ledger import Operation
from headend.domain.money import yuan
from headend.services import books
from headend.services.books import Wish, asker
from headend.store import accounts, debts, ledger
from headend.store.database import Transaction
from headend.store.debts import Debt


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDebt:
    """What somebody owes, and how it is paid back. The id is the caller's."""

    debt_id: UUID
    amount_fen: int
    share_permille: int
    reason: str
    operator_id: int
    approver_id: int | None = None


async def book(
    tx: Transaction, customer: Customer, wish: NewDebt, clock: Clock
) -> Debt | NotBooked:
    """A debt of a customer; above the limit a second person approves. The same id twice is one."""
    asked_by = await asker(tx, wish.operator_id)
    approved_by = None if wish.approver_id is None else await asker(tx, wish.approver_id)
    # A debt is asked for as a correction is: with a reason, above a limit by two persons.
    refused = may_not_ask(Operation.CORRECTION, wish.amount_fen, wish.reason, asked_by, approved_by)
    if refused is not None:
        return refused
    if customer.closed_at is not None:
        return NotBooked(BooksWhy.ACCOUNT_CLOSED, customer.customer_no)
    await debts.book(
        tx,
        debt_id=wish.debt_id,
        customer_id=customer.customer_id,
        site_id=customer.site_id,
        amount_fen=wish.amount_fen,
        share_permille=wish.share_permille,
        reason=wish.reason,
        by=wish.operator_id,
        approver_id=wish.approver_id,
        at=clock.now(),
    )
    found = await debts.find(tx, wish.debt_id)
    assert found is not None, "just booked, or before"
    if (found.customer_id, found.amount_fen) != (customer.customer_id, wish.amount_fen):
        return NotBooked(BooksWhy.ID_REUSED, str(wish.debt_id))
    return found


async def repay(
    tx: Transaction, debt: Debt, meter_id: int, clock: Clock, wish: Wish
) -> Booked | NotBooked:
    """Money over the counter, for a debt and nothing else; through the account on a meter."""
    customer = await accounts.customer_of_meter(tx, meter_id, clock.now())
    await accounts.lock(tx, customer.account_id, debt.account_id)
    taker = await accounts.account(tx, debt.account_id)
    assert taker is not None, "a debt has its account"
    repayment = Wish(
        transfer_id=uuid5(wish.transfer_id, "repayment"),
        amount_fen=wish.amount_fen,
        operator_id=wish.operator_id,
    )
    if await ledger.transfer(tx, repayment.transfer_id) is None:
        now = await debts.find(tx, debt.debt_id)
        left_fen = 0 if now is None else now.left_fen
        if left_fen < wish.amount_fen:
            return NotBooked(
                BooksWhy.AMOUNT_OUT_OF_RANGE, f"{yuan(left_fen)} yuan of this debt are left"
            )
        paid = await books.payment(tx, wish, clock, meter_id=meter_id)
        if isinstance(paid, NotBooked):
            return paid
    return await books.book(tx, Operation.REPAYMENT, repayment, clock, debit=customer, credit=taker)
