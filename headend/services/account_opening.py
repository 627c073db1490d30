"""Account opening: a customer, their account on a meter, the fee and the first credit.

Where the property has a rule for it and the meter's type can, the meter's own account is opened by
an order first: credit, count and total at zero, prices written. What was paid waits as balance
until the meter has proved it, and is sold then (services/case_keeper.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from headend.domain.cases import Case, CaseKind, CaseWhy, Step, Stopped
from headend.domain.commands import Rejected
from headend.domain.customers import Customer, Person
from headend.domain.ledger import AccountKind, Operation
from headend.services.case_work import (
    Asked,
    Till,
    Untaken,
    Untold,
    keeps_account,
    may_open,
    not_quiet,
)
from headend.services.looks import MeterAtWork
from headend.services.orders import ConfigureOrder, TopUpOrder
from headend.services.persons import same_person
from headend.services.services import Services
from headend.store import account_cases, account_rules, customers, money_modes, sales
from headend.store.account_rules import Rules
from headend.store.database import Transaction
from protocols.settings import from_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Open an account on a meter: for a customer who is there, or for a new one."""

    asked: Asked
    customer_no: str = ""  # of who is there; of a new one: the number wished for, or none
    person: Person | None = None  # None: the customer is there
    amount_fen: int = 0  # the first credit; the fee comes on top of it
    open_meter: bool = False  # by the meter's own order


def orders_opening(meter: MeterAtWork, rules: Rules) -> bool:
    """Whether this meter's own account can be opened by an order here."""
    return rules.opening is not None and keeps_account(meter)


async def open_account(services: Services, meter: MeterAtWork, wish: Opening) -> Case | Untold:
    """Everything is booked and ordered in one transaction, or nothing."""
    try:
        async with services.database.transaction() as tx:
            return await _open(tx, services, meter, wish)
    except Untaken as untaken:
        return untaken.why


async def _open(tx: Transaction, services: Services, meter: MeterAtWork, wish: Opening) -> Case:
    number, at = meter.known.meter_id, services.clock.now()
    await sales.lock_meter(tx, number)
    there = await account_cases.find(tx, wish.asked.case_id)
    if refused := may_open(there, CaseKind.OPENING, number):
        raise Untaken(refused)
    if there is not None:
        return there
    rules = await account_rules.of_site(tx, meter.known.site_id)
    open_meter = wish.open_meter and orders_opening(meter, rules)
    if same := await same_person(tx, wish.asked.operator_id, wish.asked.approver_id):
        raise Untaken(same)
    # An order that opens the meter's account also ends a freeze: it begins at zero.
    if refused := await not_quiet(tx, number, frozen_is_fine=open_meter):
        raise Untaken(refused)
    if (open_meter or wish.amount_fen) and await money_modes.is_platform(tx, number):
        raise Untaken(Stopped(CaseWhy.IN_PLATFORM, meter.known.name))
    mine = await customers.of_meter(tx, number)
    if mine is not None:
        whose = f"{mine.customer_no} {mine.person.name}"
        raise Untaken(Stopped(CaseWhy.HAS_CUSTOMER, whose))
    customer = await customer_for(tx, services, meter.known.site_id, wish.customer_no, wish.person)
    account = await customers.give_account(tx, customer, number, at=at)
    assert account is not None, "nobody has it: looked at under the lock of the meter"
    first_step = Step.SOLD if wish.amount_fen else Step.DONE
    case = Case(
        case_id=wish.asked.case_id,
        kind=CaseKind.OPENING,
        step=Step.ORDERED if open_meter else first_step,
        meter_id=number,
        customer_id=customer.customer_id,
        to_customer_id=None,
        holds_sales=open_meter,
        wish={"amount_fen": wish.amount_fen, "open_meter": open_meter},
        facts={
            "fee_fen": rules.opening_fee_fen,
            "paid_fen": wish.amount_fen + rules.opening_fee_fen,
            "account_id": account.account_id,
        },
        note="",
        operator_id=wish.asked.operator_id,
        approver_id=wish.asked.approver_id,
        reason=wish.asked.reason,
        began_at=at,
        changed_at=at,
    )
    await account_cases.begin(tx, case)
    till = Till(tx, case, services.clock, wish.asked.operator_id, wish.asked.approver_id)
    await till.take(account, wish.amount_fen + rules.opening_fee_fen, "payment")
    if rules.opening_fee_fen:
        fees = await customers.site_account(tx, AccountKind.FEE, meter.known.site_id, at)
        await till.book(Operation.FEE, "fee", rules.opening_fee_fen, debit=account, credit=fees)
    if open_meter:
        await order_opening(tx, services, case, rules, what="open")
    elif wish.amount_fen:
        await sell_credit(tx, services, case, wish.amount_fen)
    return case


async def customer_for(
    tx: Transaction, services: Services, site_id: int, customer_no: str, person: Person | None
) -> Customer:
    """The customer of that number, or a new one. Raises Untaken."""
    if person is not None:
        made = await customers.add(
            tx, site_id, person, at=services.clock.now(), customer_no=customer_no
        )
        if made is None:
            raise Untaken(Stopped(CaseWhy.NUMBER_TAKEN, customer_no))
        return made
    found = await customers.find(tx, customer_no)
    if found is None:
        raise Untaken(Stopped(CaseWhy.NO_SUCH_CUSTOMER, customer_no))
    if found.site_id != site_id:
        raise Untaken(Stopped(CaseWhy.OTHER_SITE, customer_no))
    if found.closed_at is not None:
        raise Untaken(Stopped(CaseWhy.CUSTOMER_CLOSED, customer_no))
    return found


async def order_opening(
    tx: Transaction, services: Services, case: Case, rules: Rules, *, what: str
) -> None:
    """The meter's own open-account order, under an id of the case. Raises Untaken."""
    assert rules.opening is not None, "offered only where there is a rule"
    ordered = await services.orders.configure(
        tx,
        ConfigureOrder(
            command_id=case.id_of(what),
            meter_id=case.meter_id,
            setting=from_record(rules.opening),
            operator_id=case.operator_id,
            approver_id=case.approver_id,
            reason=case.reason,
        ),
    )
    if isinstance(ordered, Rejected):
        raise Untaken(ordered)


async def sell_credit(tx: Transaction, services: Services, case: Case, amount_fen: int) -> None:
    """From the balance into the meter, under an id of the case. Raises Untaken."""
    ordered = await services.orders.top_up(
        tx,
        TopUpOrder(
            command_id=case.id_of("top-up"),
            meter_id=case.meter_id,
            amount_fen=amount_fen,
            operator_id=case.operator_id,
            reason=case.reason,
        ),
    )
    if isinstance(ordered, Rejected):
        raise Untaken(ordered)
