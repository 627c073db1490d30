"""A sale over the counter: money taken, taken apart and ordered, in one transaction or not at all.

Of money that is taken now the fee and the debt share are booked with the sale; what is left goes
into the meter. What waits as balance goes into the meter whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid5

from headend.domain.books import BooksWhy, NotBooked
from headend.domain.clock import Clock
from headend.domain.commands import Accepted, Command, Rejected
from headend.domain.deductions import Split, Terms, over_the_limit_fen, split
from headend.domain.ledger import AMOUNT_FEN_MAX, AMOUNT_FEN_MIN, AccountKind, Operation
from headend.domain.money import yuan
from headend.services import books
from headend.services.books import Wish
from headend.services.orders import Orders, TopUpOrder
from headend.services.terms import AgainstTerms, TermsWhy, terms_of
from headend.store import accounts, commands, customers, ledger, sales
from headend.store.database import Database, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleWish:
    """Fifty yuan for room 101. The id is the caller's: the same id twice is one sale."""

    command_id: UUID
    meter_id: int
    amount_fen: int  # what is paid; from balance: what goes into the meter
    operator_id: int
    reason: str = ""
    #: the money waits as balance already (an earlier payment); False: it is taken now
    from_balance: bool = False
    #: what was shown to go into the meter; None: nobody was shown anything
    credit_fen_shown: int | None = None


NotSold = Rejected | NotBooked | AgainstTerms


class _NotSold(Exception):
    """Rolls the payment back; carries why."""

    def __init__(self, why: NotSold) -> None:
        self.why = why


async def sell(
    database: Database, orders: Orders, clock: Clock, wish: SaleWish
) -> Accepted | NotSold:
    """Take the money and order the top-up. A "no" to either books and sends nothing."""
    try:
        async with database.transaction() as tx:
            # First the meter, then its accounts, as everybody who orders: sellers come in turn.
            await sales.lock_meter(tx, wish.meter_id)
            known = await commands.find(tx, wish.command_id)
            if known is not None:
                return await _again(tx, orders, wish, known)
            if not (type(wish.amount_fen) is int and 1 <= wish.amount_fen <= AMOUNT_FEN_MAX):
                # Before anything is divided by it.
                return NotBooked(
                    BooksWhy.AMOUNT_OUT_OF_RANGE,
                    f"{yuan(AMOUNT_FEN_MIN)} to {yuan(AMOUNT_FEN_MAX)} yuan, not "
                    f"{yuan(wish.amount_fen)}",
                )
            terms = await terms_of(tx, wish.meter_id, clock.now())
            parts = part(wish.amount_fen, terms, from_balance=wish.from_balance)
            if not wish.from_balance:
                await _pay(tx, wish, clock)
            _check(wish, parts, terms)
            ordered = await orders.top_up(tx, _order(wish, parts.credit_fen))
            if isinstance(ordered, Rejected):
                raise _NotSold(ordered)
            await _deduct(tx, wish, parts, clock)
            return ordered
    except _NotSold as refused:
        return refused.why


def part(paid_fen: int, terms: Terms, *, from_balance: bool) -> Split:
    """What becomes of this much money; what waits as balance has paid fee and share before."""
    if from_balance:
        return Split(fee_fen=0, repayments=(), credit_fen=paid_fen)
    return split(paid_fen, terms)


async def _again(
    tx: Transaction, orders: Orders, wish: SaleWish, known: Command
) -> Accepted | Rejected:
    """The same id: the same sale whatever its terms would be today, or another order's id."""
    paid_fen = known.amount_fen or 0
    if known.sale_id is not None and not wish.from_balance:
        paid_fen += sum(await ledger.beside_sale_fen(tx, known.sale_id))
    same = wish.amount_fen == paid_fen
    return await orders.top_up(tx, _order(wish, known.amount_fen or 0 if same else wish.amount_fen))


def _order(wish: SaleWish, credit_fen: int) -> TopUpOrder:
    return TopUpOrder(
        command_id=wish.command_id,
        meter_id=wish.meter_id,
        amount_fen=credit_fen,
        operator_id=wish.operator_id,
        reason=wish.reason,
    )


async def _pay(tx: Transaction, wish: SaleWish, clock: Clock) -> None:
    paid = await books.payment(
        tx,
        Wish(
            transfer_id=uuid5(wish.command_id, "payment"),
            amount_fen=wish.amount_fen,
            operator_id=wish.operator_id,
            reason=wish.reason,
        ),
        clock,
        meter_id=wish.meter_id,
    )
    if isinstance(paid, NotBooked):
        raise _NotSold(paid)


def _check(wish: SaleWish, parts: Split, terms: Terms) -> None:
    if parts.credit_fen < 1:
        taken = f"{yuan(parts.fee_fen + parts.repaid_fen)} of {yuan(wish.amount_fen)} yuan"
        raise _NotSold(AgainstTerms(TermsWhy.EATEN_UP, taken))
    if wish.credit_fen_shown not in (None, parts.credit_fen):
        changed = (
            f"{yuan(parts.credit_fen)} yuan go into the meter, not {yuan(wish.credit_fen_shown)}"
        )
        raise _NotSold(AgainstTerms(TermsWhy.CHANGED, changed))
    if over_fen := over_the_limit_fen(parts.credit_fen, terms):
        limit = f"{yuan(over_fen)} yuan above {yuan(terms.hoarding_limit_fen)} yuan"
        raise _NotSold(AgainstTerms(TermsWhy.HOARDING, limit))


async def _deduct(tx: Transaction, wish: SaleWish, parts: Split, clock: Clock) -> None:
    """Book the fee and what is paid back, each beside the sale it belongs to."""
    at = clock.now()
    customer = await accounts.customer_of_meter(tx, wish.meter_id, at)
    to_book = []
    if parts.fee_fen:
        site_id = await customers.site_of_meter(tx, wish.meter_id)
        assert site_id is not None, "it was sold to"
        fees = await customers.site_account(tx, AccountKind.FEE, site_id, at)
        to_book.append((Operation.FEE, "fee", fees, parts.fee_fen))
    for debt, fen in parts.repayments:
        taker = await accounts.account(tx, debt.account_id)
        assert taker is not None, "a debt has its account"
        to_book.append((Operation.REPAYMENT, str(debt.debt_id), taker, fen))
    for operation, what, taker, fen in to_book:
        booked = await books.book(
            tx,
            operation,
            Wish(
                transfer_id=uuid5(wish.command_id, what),
                amount_fen=fen,
                operator_id=wish.operator_id,
                sale_id=uuid5(wish.command_id, "sale"),
            ),
            clock,
            debit=customer,
            credit=taker,
        )
        if isinstance(booked, NotBooked):
            raise _NotSold(booked)
