"""Closure and transfer: what a meter still holds is settled with who leaves, to the fen.

Both begin with a look at the meter. Closing clears the meter's own account by an order where its
type can, and settles what the meter showed right before that order; elsewhere what the look showed.
A transfer touches nothing in the meter: its credit changes hands in the books, paid for or carried.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from headend.domain.cases import Case, CaseKind, CaseWhy, Seen, Step, Stopped
from headend.domain.clock import Clock
from headend.domain.commands import Rejected, Why
from headend.domain.customers import Person
from headend.domain.ledger import SECOND_PERSON_ABOVE_FEN
from headend.domain.money import yuan
from headend.services.account_opening import customer_for
from headend.services.case_work import (
    Asked,
    Till,
    Untaken,
    Untold,
    is_fresh,
    keeps_account,
    see,
)
from headend.services.looks import MeterAtWork, Missed
from headend.services.orders import ConfigureOrder
from headend.services.persons import same_person
from headend.services.services import Services
from headend.store import account_cases, accounts, attempts, customers, debts, sales
from headend.store.accounts import Account
from headend.store.database import Transaction
from protocols.settings import ClearAccount


class Credit(enum.Enum):
    """What becomes of the credit in a meter at a transfer."""

    SETTLED = "settled"  # paid out to who leaves, paid for by who comes
    CARRIED = "carried"  # it stays with the meter, and no money moves for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a settlement comes to, from a look, the balance and what is owed."""

    credit_fen: int  # in the meter; below zero: overdrawn
    balance_fen: int  # waits in the books
    owed_fen: int

    @property
    def repaid_fen(self) -> int:
        """Debts are paid from it first."""
        return min(self.owed_fen, max(0, self.credit_fen + self.balance_fen))

    @property
    def refund_fen(self) -> int:
        """What is paid out."""
        return max(0, self.credit_fen + self.balance_fen) - self.repaid_fen

    @property
    def to_pay_fen(self) -> int:
        """What who leaves has to pay: more was used than was bought."""
        return max(0, -self.credit_fen - self.balance_fen)

    @property
    def needs_second_person(self) -> bool:
        """Whether one of its movements is above the limit."""
        return max(abs(self.credit_fen), self.refund_fen) > SECOND_PERSON_ABOVE_FEN


async def look_again(services: Services, meter: MeterAtWork, case: Case) -> Case | Missed | Stopped:
    """A newer look, before anything is settled."""
    seen = await see(services, meter)
    if isinstance(seen, Missed):
        return seen
    async with services.database.transaction() as tx:
        await sales.lock_meter(tx, case.meter_id)
        found = await account_cases.find(tx, case.case_id, lock=True)
        assert found is not None, "a case is never deleted"
        if found.step is not Step.CONFIRM:
            return Stopped(CaseWhy.NOT_AT_THIS_STEP, found.step.value)
        return await account_cases.move(
            tx, found, Step.CONFIRM, at=services.clock.now(), facts={"look": seen.record()}
        )


async def plan_of(tx: Transaction, case: Case, credit_fen: int | None = None) -> Plan:
    """What a case would settle now; `credit_fen`: another credit than its look's."""
    seen = Seen.from_record(case.facts["look"])
    owed_fen = 0
    if case.customer_id is not None:
        owed_fen = sum(d.left_fen for d in await debts.open_of_customer(tx, case.customer_id))
    return Plan(
        credit_fen=(seen.credit_fen or 0) if credit_fen is None else credit_fen,
        balance_fen=await accounts.available_fen(tx, case.facts["account_id"]),
        owed_fen=owed_fen,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A person agrees with what the page shows; what changed meanwhile stops it."""

    asked: Asked
    credit_fen_shown: int
    balance_fen_shown: int
    clear_meter: bool = True  # closure: by the meter's own order, where the type can
    credit: Credit = Credit.CARRIED  # transfer
    customer_no: str = ""  # transfer: of the tenant in, who is there; else the number wished for
    person: Person | None = None  # transfer: the tenant in, when new


async def confirm(services: Services, meter: MeterAtWork, given: Confirmation) -> Case | Untold:
    """Close or transfer as agreed: booked and ordered in one transaction, or nothing."""
    try:
        async with services.database.transaction() as tx:
            await sales.lock_meter(tx, meter.known.meter_id)
            case = await account_cases.find(tx, given.asked.case_id, lock=True)
            if case is None or case.meter_id != meter.known.meter_id:
                return Stopped(CaseWhy.NO_SUCH_CASE, str(given.asked.case_id))
            if case.step is not Step.CONFIRM:
                return case  # it was confirmed before: a second click
            plan = await _agreed(tx, services.clock, case, given)
            if case.kind is CaseKind.CLOSURE:
                can_clear = given.clear_meter and keeps_account(meter)
                return await _close(tx, services, case, given, plan=plan, can_clear=can_clear)
            return await _transfer(tx, services, case, given, plan)
    except Untaken as untaken:
        return untaken.why


async def _agreed(tx: Transaction, clock: Clock, case: Case, given: Confirmation) -> Plan:
    # Who began the work asked for it: somebody else approves, whoever presses the last button.
    if refused := await same_person(tx, case.operator_id, given.asked.approver_id):
        raise Untaken(refused)
    seen = Seen.from_record(case.facts["look"])
    if seen.credit_fen is None or not is_fresh(seen, clock.now()):
        raise Untaken(Stopped(CaseWhy.LOOK_NEEDED, f"the look is of {seen.at:%Y-%m-%d %H:%M}"))
    plan = await plan_of(tx, case)
    shown = (given.credit_fen_shown, given.balance_fen_shown)
    if (plan.credit_fen, plan.balance_fen) != shown:
        raise Untaken(
            Stopped(
                CaseWhy.CHANGED,
                f"credit {yuan(plan.credit_fen)} yuan, balance {yuan(plan.balance_fen)} yuan",
            )
        )
    return plan


def _till(tx: Transaction, services: Services, case: Case, asked: Asked) -> Till:
    return Till(tx, case, services.clock, asked.operator_id, asked.approver_id or case.approver_id)


async def _close(
    tx: Transaction,
    services: Services,
    case: Case,
    given: Confirmation,
    *,
    plan: Plan,
    can_clear: bool,
) -> Case:
    account = await _account(tx, case)
    till = _till(tx, services, case, given.asked)
    tries = int(case.facts.get("tries", 0)) + 1
    await till.take(account, plan.to_pay_fen, f"payment {tries}")
    facts: dict[str, Any] = {"tries": tries, "closed_by": given.asked.operator_id}
    if not can_clear or _is_estimated(case):
        settled = await settle_closure(tx, till, case, plan.credit_fen)
        return await account_cases.move(
            tx,
            case,
            Step.DONE,
            at=services.clock.now(),
            facts={**facts, **settled},
            holds_sales=False,
            approver_id=given.asked.approver_id,
        )
    if plan.needs_second_person and till.approver_id is None:
        # It will be asked for once the meter is cleared: then nobody could go back any more.
        raise Untaken(
            Rejected(Why.SECOND_PERSON_NEEDED, f"above {yuan(SECOND_PERSON_ABOVE_FEN)} yuan")
        )
    ordered = await services.orders.configure(
        tx,
        ConfigureOrder(
            command_id=case.id_of(f"clear {tries}"),
            meter_id=case.meter_id,
            setting=ClearAccount(),
            operator_id=given.asked.operator_id,
            approver_id=given.asked.approver_id,
            reason=case.reason,
        ),
    )
    if isinstance(ordered, Rejected):
        raise Untaken(ordered)
    return await account_cases.move(
        tx,
        case,
        Step.ORDERED,
        at=services.clock.now(),
        facts=facts,
        approver_id=given.asked.approver_id,
    )


def _is_estimated(case: Case) -> bool:
    return Seen.from_record(case.facts["look"]).estimated


async def _account(tx: Transaction, case: Case) -> Account:
    found = await accounts.account(tx, case.facts["account_id"])
    assert found is not None, "the case began with it"
    return found


async def settle_closure(
    tx: Transaction, till: Till, case: Case, credit_fen: int
) -> Mapping[str, Any]:
    """Give the credit back, pay debts, pay out, close the account; what came of it, for the facts.

    What was used between the look that was agreed on and the clearing, and is not covered, the
    property bears. Raises Untaken.
    """
    account = await _account(tx, case)
    plan = await plan_of(tx, case, credit_fen)
    await till.bear(account, plan.to_pay_fen, "borne")
    await till.give_back(account, credit_fen, "settlement")
    repaid_fen = 0
    if case.customer_id is not None:
        repaid_fen = await till.repay(account, case.customer_id)
    refund_fen = await till.pay_out(account, "refund")
    ended = await till.close(account, case.customer_id)
    return {
        "credit_fen": credit_fen,
        "borne_fen": plan.to_pay_fen,
        "repaid_fen": repaid_fen,
        "refund_fen": refund_fen,
        "customer_closed": ended,
    }


async def credit_before_clearing(tx: Transaction, case: Case) -> int | None:
    """What the meter showed right before it was cleared: the intent of that order says it."""
    attempt = await attempts.newest(tx, case.id_of(f"clear {case.facts['tries']}"))
    return None if attempt is None else attempt.before.remaining_credit_fen


async def _transfer(
    tx: Transaction, services: Services, case: Case, given: Confirmation, plan: Plan
) -> Case:
    at = services.clock.now()
    out = await _account(tx, case)
    till = _till(tx, services, case, given.asked)
    settled = given.credit is Credit.SETTLED
    leaves = (
        plan
        if settled
        else Plan(credit_fen=0, balance_fen=plan.balance_fen, owed_fen=plan.owed_fen)
    )
    await till.take(out, leaves.to_pay_fen, "payment out")
    if settled:
        await till.give_back(out, plan.credit_fen, "settlement out")
    repaid_fen = 0
    if case.customer_id is not None:
        repaid_fen = await till.repay(out, case.customer_id)
    refund_fen = await till.pay_out(out, "refund")
    ended = await till.close(out, case.customer_id)
    site_id = await customers.site_of_meter(tx, case.meter_id)
    assert site_id is not None, "the case is about a meter"
    comes = await customer_for(tx, services, site_id, given.customer_no, given.person)
    if comes.customer_id == case.customer_id:
        raise Untaken(Stopped(CaseWhy.HAS_CUSTOMER, comes.customer_no))
    into = await customers.give_account(tx, comes, case.meter_id, at=at)
    assert into is not None, "the account before it was closed just now"
    if settled:
        await till.take(into, max(0, plan.credit_fen), "payment in")
        await till.take_over(into, plan.credit_fen, "settlement in")
    return await account_cases.move(
        tx,
        case,
        Step.DONE,
        at=at,
        holds_sales=False,
        approver_id=given.asked.approver_id,
        to_customer_id=comes.customer_id,
        wish={"credit": given.credit.value},
        facts={
            "credit_fen": plan.credit_fen,
            "paid_out_fen": leaves.to_pay_fen,
            "repaid_fen": repaid_fen,
            "refund_fen": refund_fen,
            "customer_closed": ended,
            "paid_in_fen": max(0, plan.credit_fen) if settled else 0,
            "account_in": into.account_id,
        },
    )


async def cancel(services: Services, case_id: UUID, note: str) -> Case | Stopped:
    """Nothing was settled: sales go on."""
    async with services.database.transaction() as tx:
        case = await account_cases.find(tx, case_id, lock=True)
        if case is None:
            return Stopped(CaseWhy.NO_SUCH_CASE, str(case_id))
        if case.step is Step.CANCELLED:
            return case
        if case.step not in (Step.CONFIRM, Step.NEW_METER):
            return Stopped(CaseWhy.NOT_AT_THIS_STEP, case.step.value)
        return await account_cases.move(
            tx, case, Step.CANCELLED, at=services.clock.now(), note=note, holds_sales=False
        )
