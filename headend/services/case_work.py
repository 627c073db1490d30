"""What every case shares: whether its meter is quiet, a fresh look, settlements, a new epoch.

A step that cannot be taken is said as a value and leaves nothing behind: `Untaken` rolls the
transaction back and carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from headend.domain.alarms import AlarmKind
from headend.domain.books import NotBooked
from headend.domain.cases import Case, CaseKind, CaseWhy, Seen, Step, Stopped
from headend.domain.clock import Clock
from headend.domain.commands import FINAL, CommandState, Rejected, Why
from headend.domain.ledger import SECOND_PERSON_ABOVE_FEN, AccountKind, Operation
from headend.domain.money import yuan
from headend.services import books
from headend.services.books import Wish
from headend.services.looks import Looked, MeterAtWork, Missed
from headend.services.persons import same_person
from headend.services.services import Services
from headend.store import (
    account_cases,
    accounts,
    alarms,
    cards,
    commands,
    customers,
    debts,
    exchanges,
    money_modes,
    reconcile,
    sales,
)
from headend.store.accounts import Account
from headend.store.database import Transaction
from protocols.meter_type import Write
from protocols.reading import Quantity as Q

# A look older than this settles nothing: the tenant may have used what it shows.
LOOK_MAX: Final = timedelta(minutes=30)

Untold = Stopped | Rejected | NotBooked


class Untaken(Exception):
    """Rolls back what was begun; carries why."""

    def __init__(self, why: Untold) -> None:
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who wants a step, for which case, and why."""

    case_id: UUID
    operator_id: int
    reason: str
    approver_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotLook:
    """The meter cannot be looked at: what a person says it held, and why. Two persons say so."""

    credit_fen: int


async def see(services: Services, meter: MeterAtWork) -> Seen | Missed:
    """A look at a meter now, in front of every poll, that the database has too."""
    outcome = await services.nights.read_now(meter)
    if isinstance(outcome, Missed):
        return outcome
    await services.sink.flush()
    return seen_of(outcome)


def seen_of(looked: Looked) -> Seen:
    """What a case keeps of a look."""
    return Seen(
        at=looked.at,
        credit_fen=looked.values.get(Q.REMAINING_CREDIT),
        purchase_count=looked.values.get(Q.PURCHASE_COUNT),
        total_purchased_fen=looked.values.get(Q.TOTAL_PURCHASED),
        energy_wh=looked.values.get(Q.ENERGY),
    )


def estimated(credit_fen: int, at: datetime) -> Seen:
    """What a person says a dead meter held."""
    return Seen(
        at=at,
        credit_fen=credit_fen,
        purchase_count=None,
        total_purchased_fen=None,
        energy_wh=None,
        estimated=True,
    )


def is_fresh(seen: Seen, now: datetime) -> bool:
    """Whether a look may still settle something. An estimate does not age: the meter is dead."""
    return seen.estimated or now - seen.at <= LOOK_MAX


def keeps_account(meter: MeterAtWork) -> bool:
    """Whether this type's own account can be opened and cleared by an order."""
    return Write.ACCOUNT in meter.meter_type.writes


def may_open(case: Case | None, kind: CaseKind, meter_id: int) -> Stopped | None:
    """Whether an id that stands already belongs to the same work."""
    if case is None or (case.kind, case.meter_id) == (kind, meter_id):
        return None
    return Stopped(CaseWhy.ID_REUSED, str(case.case_id))


async def begin_looked(
    services: Services,
    meter: MeterAtWork,
    kind: CaseKind,
    asked: Asked,
    cannot_look: CannotLook | None = None,
) -> Case | Missed | Untold:
    """A case that begins with a look at its meter; from here on nothing is sold to it.

    Missed: the meter does not answer, and nothing began.
    """
    try:
        async with services.database.transaction() as tx:
            if there := await _standing(tx, kind, asked, meter.known.meter_id):
                return there
        seen = await _first_look(services, meter, kind, asked, cannot_look)
        if isinstance(seen, Missed):
            return seen
        async with services.database.transaction() as tx:
            return await _begin_looked(tx, services, meter, kind, asked=asked, seen=seen)
    except Untaken as untaken:
        return untaken.why


async def _standing(tx: Transaction, kind: CaseKind, asked: Asked, meter_id: int) -> Case | None:
    there = await account_cases.find(tx, asked.case_id)
    if refused := may_open(there, kind, meter_id):
        raise Untaken(refused)
    return there


async def _first_look(
    services: Services,
    meter: MeterAtWork,
    kind: CaseKind,
    asked: Asked,
    cannot_look: CannotLook | None,
) -> Seen | Missed:
    if cannot_look is None:
        seen = await see(services, meter)
    elif asked.approver_id is None:
        raise Untaken(Rejected(Why.SECOND_PERSON_NEEDED, "nobody can look at a dead meter"))
    else:
        seen = estimated(cannot_look.credit_fen, services.clock.now())
    if isinstance(seen, Missed) or kind is not CaseKind.EXCHANGE:
        return seen
    # An exchange is settled when the new meter answers, and nobody can be asked then.
    if abs(seen.credit_fen or 0) > SECOND_PERSON_ABOVE_FEN and asked.approver_id is None:
        detail = f"above {yuan(SECOND_PERSON_ABOVE_FEN)} yuan"
        raise Untaken(Rejected(Why.SECOND_PERSON_NEEDED, detail))
    return seen


async def _begin_looked(
    tx: Transaction,
    services: Services,
    meter: MeterAtWork,
    kind: CaseKind,
    *,
    asked: Asked,
    seen: Seen,
) -> Case:
    number, at = meter.known.meter_id, services.clock.now()
    await sales.lock_meter(tx, number)
    if there := await _standing(tx, kind, asked, number):
        return there
    # What froze the sales of a meter that is exchanged belongs to the old device.
    exchanged = kind is CaseKind.EXCHANGE
    refused: Untold | None = await same_person(tx, asked.operator_id, asked.approver_id)
    if refused or (refused := await not_quiet(tx, number, frozen_is_fine=exchanged)):
        raise Untaken(refused)
    if await money_modes.is_platform(tx, number):
        raise Untaken(Stopped(CaseWhy.IN_PLATFORM, meter.known.name))
    account = await accounts.customer_of_meter(tx, number, at)
    if account.closed_at is not None and not exchanged:
        raise Untaken(Stopped(CaseWhy.HAS_NO_CUSTOMER, meter.known.name))
    customer = await customers.of_meter(tx, number)
    case = Case(
        case_id=asked.case_id,
        kind=kind,
        step=Step.NEW_METER if exchanged else Step.CONFIRM,
        meter_id=number,
        customer_id=None if customer is None else customer.customer_id,
        to_customer_id=None,
        holds_sales=True,
        wish={},
        facts={
            "look": seen.record(),
            "account_id": account.account_id,
            "balance_fen": await accounts.available_fen(tx, account.account_id),
            "device": await exchanges.device(tx, number),
        },
        note="",
        operator_id=asked.operator_id,
        approver_id=asked.approver_id,
        reason=asked.reason,
        began_at=at,
        changed_at=at,
    )
    await account_cases.begin(tx, case)
    return case


async def not_quiet(tx: Transaction, meter_id: int, *, frozen_is_fine: bool) -> Stopped | None:
    """What has to end first: another case, a sale, an order, a freeze. The meter is locked."""
    other = await account_cases.open_of_meter(tx, meter_id)
    if other is not None:
        return Stopped(CaseWhy.CASE_OPEN, str(other.case_id))
    sale = await sales.open_of_meter(tx, meter_id)
    if sale is not None:
        detail = f"a sale of {yuan(sale.amount_fen)} yuan under count {sale.purchase_count} is open"
        return Stopped(CaseWhy.SALES_STAND_STILL, detail)
    open_states = frozenset(CommandState) - FINAL
    flying = await commands.listing(tx, meter_ids=[meter_id], states=open_states, limit=1)
    if flying:
        detail = f"order {flying[0].command_id} ({flying[0].kind.value}) has not ended"
        return Stopped(CaseWhy.SALES_STAND_STILL, detail)
    freeze = await sales.frozen(tx, meter_id)
    if freeze is not None and not frozen_is_fine:
        return Stopped(CaseWhy.SALES_STAND_STILL, freeze.reason)
    return None


@dataclass(frozen=True, slots=True)
class Till:
    """Books the money of one case: each movement once, under an id of the case."""

    tx: Transaction
    case: Case
    clock: Clock
    operator_id: int  # whose till pays and takes
    approver_id: int | None

    async def book(
        self, operation: Operation, what: str, amount_fen: int, *, debit: Account, credit: Account
    ) -> None:
        """One movement. Raises Untaken."""
        if not amount_fen:
            return
        booked = await books.book(
            self.tx,
            operation,
            Wish(
                transfer_id=self.case.id_of(what),
                amount_fen=amount_fen,
                operator_id=self.operator_id,
                approver_id=self.approver_id,
                reason=self.case.reason,
            ),
            self.clock,
            debit=debit,
            credit=credit,
        )
        if isinstance(booked, NotBooked):
            raise Untaken(booked)

    async def give_back(self, customer: Account, credit_fen: int, what: str) -> None:
        """Credit in the meter becomes balance of its customer; credit below zero is paid from it.

        What the books never sold to this meter the property bears.
        """
        at = self.clock.now()
        held = await accounts.account_of_meter(self.tx, self.case.meter_id, at)
        if credit_fen < 0:
            await self.book(Operation.SETTLEMENT, what, -credit_fen, debit=customer, credit=held)
            return
        short_fen = credit_fen - await accounts.available_fen(self.tx, held.account_id)
        if short_fen > 0:
            await self.book(
                Operation.BORNE,
                f"{what} borne",
                short_fen,
                debit=await self._property(customer),
                credit=held,
            )
        await self.book(Operation.SETTLEMENT, what, credit_fen, debit=held, credit=customer)

    async def take_over(self, customer: Account, credit_fen: int, what: str) -> None:
        """The inverse: what is in the meter is this customer's now, who pays for it."""
        at = self.clock.now()
        held = await accounts.account_of_meter(self.tx, self.case.meter_id, at)
        if credit_fen >= 0:
            await self.book(Operation.SETTLEMENT, what, credit_fen, debit=customer, credit=held)
        else:
            await self.book(Operation.SETTLEMENT, what, -credit_fen, debit=held, credit=customer)

    async def take(self, customer: Account, amount_fen: int, what: str) -> None:
        """Money over the counter, into the customer's account."""
        till = await accounts.till_of(self.tx, self.operator_id, self.clock.now())
        await self.book(Operation.PAYMENT, what, amount_fen, debit=till, credit=customer)

    async def bear(self, customer: Account, amount_fen: int, what: str) -> None:
        """The property pays what nobody else does."""
        giver = await self._property(customer)
        await self.book(Operation.BORNE, what, amount_fen, debit=giver, credit=customer)

    async def repay(self, customer: Account, customer_id: int) -> int:
        """Debts are paid back from what waits, the oldest first; returns how much."""
        repaid_fen = 0
        for debt in await debts.open_of_customer(self.tx, customer_id):
            waits_fen = await accounts.available_fen(self.tx, customer.account_id)
            fen = min(waits_fen, debt.left_fen)
            taker = await accounts.account(self.tx, debt.account_id)
            assert taker is not None, "a debt has its account"
            await self.book(
                Operation.REPAYMENT, f"debt {debt.debt_id}", fen, debit=customer, credit=taker
            )
            repaid_fen += fen
        return repaid_fen

    async def pay_out(self, customer: Account, what: str) -> int:
        """Everything that waits goes back over the counter; returns how much."""
        waits_fen = await accounts.available_fen(self.tx, customer.account_id)
        till = await accounts.till_of(self.tx, self.operator_id, self.clock.now())
        await self.book(Operation.REFUND, what, waits_fen, debit=customer, credit=till)
        return waits_fen

    async def close(self, customer: Account, customer_id: int | None) -> bool:
        """The account ends, its card with it; whether the customer had no other and ends too."""
        at = self.clock.now()
        await accounts.close_account(self.tx, customer.account_id, at)
        card = await cards.card_of_meter(self.tx, self.case.meter_id)
        if card is not None:
            await cards.end_card(self.tx, card.serial, "its account was closed", at)
        if customer_id is None:
            return False
        return await customers.close_if_left(self.tx, customer_id, at)

    async def _property(self, customer: Account) -> Account:
        site_id = await customers.site_of_meter(self.tx, self.case.meter_id)
        assert site_id is not None, f"account {customer.account_id} has a meter"
        return await customers.site_account(
            self.tx, AccountKind.PROPERTY, site_id, self.clock.now()
        )


async def begin_epoch(
    tx: Transaction,
    case: Case,
    clock: Clock,
    *,
    thaw: bool = True,
) -> Seen | None:
    """The registers of this meter are others from now on: its books begin anew at what it shows.

    What the meter was proved or seen to show is in the database already. None: it was never read.
    """
    await accounts.account_of_meter(tx, case.meter_id, clock.now())
    (shown,) = await reconcile.compared(tx, case.meter_id) or (None,)
    if shown is None or shown.look is None or shown.looked_at is None:
        return None
    await reconcile.begin_anew(
        tx,
        shown,
        epoch=shown.epoch + 1,
        operator_id=case.operator_id,
        approver_id=case.approver_id,
        reason=case.reason,
    )
    at = clock.now()
    await reconcile.close(tx, case.meter_id, closed_by=case.operator_id, reason=case.reason, at=at)
    await alarms.clear_alarm(tx, AlarmKind.BOOKS_DIFFER, case.meter_id, at)
    if thaw and shown.look.purchase_count is not None:
        await sales.thaw(
            tx,
            case.meter_id,
            operator_id=case.operator_id,
            reason=case.reason,
            count_agreed=shown.look.purchase_count,
            at=at,
        )
    return Seen(
        at=shown.looked_at,
        credit_fen=None,
        purchase_count=shown.look.purchase_count,
        total_purchased_fen=shown.look.total_purchased_fen,
        energy_wh=None,
    )
