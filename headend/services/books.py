"""Money that moves by name: payment, refund, move, correction, fee.

Each is one transfer with an id that whoever wants it made, a reason where it is not everyday work,
and above a limit an approver who is another person. A "no" is a value and books nothing; what is
checked here the database checks once more.

The money of a top-up is reserved by its order (services/orders.py) and posted or voided with the
meter's proof (services/settling.py). Taking a sale back and burning its count are decisions about
orders (services/decisions.py); what they free is the customer's balance, and `refund` pays it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from headend.domain.books import (
    FLOWS,
    MAY_GO_BELOW_ZERO,
    Asker,
    Booked,
    BooksWhy,
    NotBooked,
    may_not_ask,
)
from headend.domain.clock import Clock
from headend.domain.ledger import Operation, Phase, Transfer
from headend.domain.money import yuan
from headend.store import accounts, ledger, people
from headend.store.accounts import Account
from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One movement of money as somebody wants it."""

    transfer_id: UUID  # made by who wants it, kept over their retries
    amount_fen: int
    operator_id: int
    reason: str = ""
    approver_id: int | None = None
    sale_id: UUID | None = None


async def payment(
    tx: Transaction, wish: Wish, clock: Clock, *, meter_id: int
) -> Booked | NotBooked:
    """Money was taken for a meter: it waits there as the customer's balance until it is sold.

    From the operator's till; from the channel where the operator is another system.
    """
    at = clock.now()
    till = await accounts.till_of(tx, wish.operator_id, at)
    customer = await accounts.customer_of_meter(tx, meter_id, at)
    return await book(tx, Operation.PAYMENT, wish, clock, debit=till, credit=customer)


async def refund(tx: Transaction, wish: Wish, clock: Clock, *, meter_id: int) -> Booked | NotBooked:
    """Pay back what waits as the customer's balance. What is reserved for a sale is not touched."""
    at = clock.now()
    customer = await accounts.customer_of_meter(tx, meter_id, at)
    till = await accounts.till_of(tx, wish.operator_id, at)
    return await book(tx, Operation.REFUND, wish, clock, debit=customer, credit=till)


async def move(
    tx: Transaction, wish: Wish, clock: Clock, *, from_meter_id: int, to_meter_id: int
) -> Booked | NotBooked:
    """Money was sold to the wrong meter: give it to the right one's customer, to be sold again.

    The wrong meter keeps its credit, which no command takes out of it; whoever lives there owes it
    to nobody in these books. Only what was posted to that meter can be moved.
    """
    at = clock.now()
    wrong = await accounts.account_of_meter(tx, from_meter_id, at)
    right = await accounts.customer_of_meter(tx, to_meter_id, at)
    if from_meter_id == to_meter_id:
        return NotBooked(BooksWhy.WRONG_ACCOUNTS, "the wrong meter and the right one are the same")
    return await book(tx, Operation.MOVE, wish, clock, debit=wrong, credit=right)


async def correction(
    tx: Transaction, wish: Wish, clock: Clock, *, debit_id: int, credit_id: int
) -> Booked | NotBooked:
    """Set right what the books did not know, such as a purchase made at the meter by hand.

    Between a till or channel on one side and a customer or meter on the other.
    """
    debit = await accounts.account(tx, debit_id)
    credit = await accounts.account(tx, credit_id)
    if debit is None or credit is None:
        missing = debit_id if debit is None else credit_id
        return NotBooked(BooksWhy.NO_SUCH_ACCOUNT, f"account {missing}")
    return await book(tx, Operation.CORRECTION, wish, clock, debit=debit, credit=credit)


async def fee(
    tx: Transaction, wish: Wish, clock: Clock, *, meter_id: int, fee_account_id: int
) -> Booked | NotBooked:
    """Take a fee from the customer's balance."""
    customer = await accounts.customer_of_meter(tx, meter_id, clock.now())
    taker = await accounts.account(tx, fee_account_id)
    if taker is None:
        return NotBooked(BooksWhy.NO_SUCH_ACCOUNT, f"account {fee_account_id}")
    return await book(tx, Operation.FEE, wish, clock, debit=customer, credit=taker)


async def book(
    tx: Transaction,
    operation: Operation,
    wish: Wish,
    clock: Clock,
    *,
    debit: Account,
    credit: Account,
) -> Booked | NotBooked:
    """One transfer, or why not, in the order of BooksWhy."""
    # Who spends from one account comes one after the other, so that what is seen stays true. A till
    # is not waited for: it may go below zero.
    if debit.kind not in MAY_GO_BELOW_ZERO:
        await accounts.lock(tx, debit.account_id)
    there = await ledger.transfer(tx, wish.transfer_id)
    if there is not None:
        return _repeated(there, operation, wish, debit, credit)
    asked_by = await asker(tx, wish.operator_id)
    approved_by = None if wish.approver_id is None else await asker(tx, wish.approver_id)
    refused = may_not_ask(operation, wish.amount_fen, wish.reason, asked_by, approved_by)
    if refused is None:
        refused = await _forbidden(tx, operation, wish, debit, credit)
    if refused is not None:
        return refused
    return Booked(
        await ledger.direct(
            tx,
            operation,
            transfer_id=wish.transfer_id,
            debit=debit.account_id,
            credit=credit.account_id,
            amount_fen=wish.amount_fen,
            operator_id=wish.operator_id,
            approver_id=wish.approver_id,
            reason=wish.reason,
            sale_id=wish.sale_id,
            at=clock.now(),
        )
    )


async def asker(tx: Transaction, operator_id: int) -> Asker:
    """The person behind an operator's number, which the caller has authenticated."""
    found = await people.operator(tx, operator_id)
    assert found is not None, "an operator is authenticated before they ask"
    return Asker(operator_id, found.person)


async def _forbidden(
    tx: Transaction, operation: Operation, wish: Wish, debit: Account, credit: Account
) -> NotBooked | None:
    if (debit.kind, credit.kind) not in FLOWS[operation]:
        return NotBooked(
            BooksWhy.WRONG_ACCOUNTS,
            f"a {operation.value} never moves money from a {debit.kind.value} to a "
            f"{credit.kind.value}",
        )
    for one in (debit, credit):
        if one.closed_at is not None:
            return NotBooked(BooksWhy.ACCOUNT_CLOSED, one.name)
    if debit.kind not in MAY_GO_BELOW_ZERO:
        available_fen = await accounts.available_fen(tx, debit.account_id)
        if available_fen < wish.amount_fen:
            return NotBooked(BooksWhy.BALANCE_TOO_LOW, f"{yuan(available_fen)} yuan are available")
    return None


def _repeated(
    there: Transfer, operation: Operation, wish: Wish, debit: Account, credit: Account
) -> Booked | NotBooked:
    same = (there.phase, there.operation, there.debit, there.credit, there.amount_fen) == (
        Phase.DIRECT,
        operation,
        debit.account_id,
        credit.account_id,
        wish.amount_fen,
    )
    if not same:
        return NotBooked(BooksWhy.ID_REUSED, str(wish.transfer_id))
    return Booked(there, repeated=True)
