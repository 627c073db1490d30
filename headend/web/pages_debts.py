"""Debts of a customer, and the rules of a property: what a sale pays, what a meter may hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from fastapi import APIRouter, Request, Response

from headend.domain.books import NotBooked
from headend.domain.customers import Customer
from headend.domain.ledger import AMOUNT_FEN_MAX
from headend.domain.money import yuan
from headend.domain.problems import Problem
from headend.services import debts as services_of_debts
from headend.services.books import Wish
from headend.services.debts import NewDebt
from headend.services.services import Services
from headend.store import account_rules, customers, debts, desk_accounts, desk_sessions
from headend.store.account_rules import Rules
from headend.store.database import Transaction
from headend.store.debts import Debt
from headend.web import desk, forms, texts
from headend.web.common import Asked
from headend.web.desk import Decider, Form, PageProblem, Seller, Viewer, Visitor
from headend.web.pages_accounts import customer_for, shown
from headend.web.told import said
from protocols.settings import AlarmAmounts, BadSetting, OpenAccount, Prices, to_record

router = APIRouter(include_in_schema=False)

FEE_FEN_MAX: Final = 100_000
_RATES: Final = ("sharp", "peak", "flat", "valley")


@router.post("/accounts/{customer_no}/debts")
async def book(request: Request, services: Asked, decider: Decider, customer_no: str) -> Response:
    """A debt with its share of each payment; above the limit with a second person."""
    form = desk.form_of(await request.form())
    async with services.database.transaction() as tx:
        customer = await customer_for(tx, decider, customer_no)
    amount = forms.amount_fen(form, decider, "debt")
    share = forms.share_permille(form, decider, "share")
    why = forms.reason(form, decider, "debt_reason")
    second = await forms.second_person(request, services, decider, form)
    debt_id, status = forms.id_of(form), 422
    if not form.errors and amount is not None and debt_id is not None:
        wish = NewDebt(
            debt_id=debt_id,
            amount_fen=amount,
            share_permille=share,
            reason=why,
            operator_id=decider.operator_id,
            approver_id=second.operator_id,
        )
        async with services.database.transaction() as tx:
            done = await services_of_debts.book(tx, customer, wish, services.clock)
            if not isinstance(done, NotBooked):
                await _tell(
                    services, tx, decider, "debt-booked", f"{customer_no}: {yuan(amount)} yuan"
                )
                return desk.go(f"/accounts/{customer_no}")
        status = _told(form, decider, done, customer_no, "debt")
    return await shown(services, decider, customer_no, form, status=status)


async def _tell(
    services: Services, tx: Transaction, visitor: Visitor, action: str, subject: str
) -> None:
    await desk_sessions.tell(
        tx,
        action,
        at=services.clock.now(),
        operator_id=visitor.operator_id,
        subject=subject,
    )


def _told(form: Form, visitor: Visitor, told: NotBooked, whose: str, beside: str) -> int:
    problem = Problem(told.why.value, meter=whose, detail=told.detail)
    where = "approver" if "person" in told.why.value else beside
    form.wrong(where, said(problem, visitor.language))
    return problem.kind.http_status


async def _debt(services: Services, visitor: Visitor, debt_id: UUID) -> tuple[Debt, Customer]:
    async with services.database.transaction() as tx:
        debt = await debts.find(tx, debt_id)
        customer = None if debt is None else await customers.get(tx, debt.customer_id)
        if (
            debt is None
            or customer is None
            or not await desk_accounts.is_in_scope(tx, debt.customer_id, visitor.scope)
        ):
            raise PageProblem(visitor, Problem("no-such-debt", detail=debt_id))
    return debt, customer


@router.post("/debts/{debt_id}/repay")
async def repay(request: Request, services: Asked, seller: Seller, debt_id: UUID) -> Response:
    """Money over the counter for this debt alone."""
    form = desk.form_of(await request.form())
    debt, customer = await _debt(services, seller, debt_id)
    amount, transfer_id, status = forms.amount_fen(form, seller), forms.id_of(form), 422
    async with services.database.transaction() as tx:
        held = await desk_accounts.held_by(tx, customer.customer_id, seller.scope)
        mine = [one for one in held if one.closed_at is None]
        if not mine:
            problem = Problem("meter-has-no-customer", meter=customer.customer_no)
            form.wrong("repay", said(problem, seller.language))
        elif not form.errors and amount is not None and transfer_id is not None:
            wish = Wish(transfer_id=transfer_id, amount_fen=amount, operator_id=seller.operator_id)
            done = await services_of_debts.repay(tx, debt, mine[0].meter_id, services.clock, wish)
            if not isinstance(done, NotBooked):
                return desk.go(f"/accounts/{customer.customer_no}")
            status = _told(form, seller, done, customer.customer_no, "repay")
    if "amount" in form.errors:
        form.wrong("repay", form.errors["amount"])
    return await shown(services, seller, customer.customer_no, form, status=status)


@router.post("/debts/{debt_id}/share")
async def share(request: Request, services: Asked, decider: Decider, debt_id: UUID) -> Response:
    """Another share of each payment from now on."""
    form = desk.form_of(await request.form())
    debt, customer = await _debt(services, decider, debt_id)
    permille = forms.share_permille(form, decider, "share")
    if form.errors:
        form = Form({}, {"share_row": form.errors["share"]})
        return await shown(services, decider, customer.customer_no, form, status=422)
    async with services.database.transaction() as tx:
        if debt.let_off_at is None:
            await debts.set_share(tx, debt_id, permille)
            subject = f"{customer.customer_no}: {permille} permille"
            await _tell(services, tx, decider, "debt-share-set", subject)
    return desk.go(f"/accounts/{customer.customer_no}")


@router.post("/debts/{debt_id}/let-off")
async def let_off(request: Request, services: Asked, decider: Decider, debt_id: UUID) -> Response:
    """What is left is owed no more."""
    form = desk.form_of(await request.form())
    _, customer = await _debt(services, decider, debt_id)
    why = forms.reason(form, decider, "let_off_reason")
    if form.errors:
        return await shown(services, decider, customer.customer_no, form, status=422)
    async with services.database.transaction() as tx:
        at = services.clock.now()
        await debts.let_off(tx, debt_id, by=decider.operator_id, reason=why, at=at)
        await _tell(services, tx, decider, "debt-let-off", f"{customer.customer_no}: {why}")
    return desk.go(f"/accounts/{customer.customer_no}")


# ---- the rules of a property ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesView:
    """What holds, as it would be typed."""

    site: str
    rules: Rules
    form: Form = field(default_factory=Form)
    done: bool = False


@router.get("/account-rules/{site}")
async def rules_page(services: Asked, viewer: Viewer, site: str, done: str = "") -> Response:
    """The rules of one property."""
    return await _rules_shown(services, viewer, site, None, done=bool(done))


async def _rules_shown(
    services: Services,
    viewer: Visitor,
    site: str,
    form: Form | None,
    *,
    done: bool = False,
    status: int = 200,
) -> Response:
    site_id = _site(services, viewer, site)
    async with services.database.transaction() as tx:
        rules = await account_rules.of_site(tx, site_id)
    view = RulesView(site=site, rules=rules, form=form or _typed(rules), done=done)
    return desk.show("account_rules.html", viewer, services, view, status=status)


def _site(services: Services, viewer: Visitor, name: str) -> int:
    site = services.lines.sites.get(name)
    assert viewer.caller is not None
    if site is None or not viewer.caller.may_touch(site.site_id):
        raise PageProblem(viewer, Problem("no-such-site", site=name))
    return site.site_id


def _typed(rules: Rules) -> Form:
    plain = texts.yuan_plain
    typed = {
        "opening_fee": plain(rules.opening_fee_fen),
        "sale_fee": plain(rules.sale_fee_fen),
        "hoarding": "" if rules.hoarding_limit_fen is None else plain(rules.hoarding_limit_fen),
    }
    if rules.opening is not None:
        opening = rules.opening
        typed |= {rate: plain(opening["prices"][f"{rate}_fen"]) for rate in _RATES}
        typed["alarm_1"] = plain(opening["alarms"]["alarm_1_fen"])
        typed["alarm_2"] = plain(opening["alarms"]["alarm_2_fen"])
        typed["overdraft"] = plain(opening["overdraft_fen"])
        typed["opens"] = "1"
    return Form(typed)


@router.post("/account-rules/{site}")
async def set_rules(request: Request, services: Asked, decider: Decider, site: str) -> Response:
    """New rules from now on; the ones before stay on record."""
    form = desk.form_of(await request.form())
    site_id, say = _site(services, decider, site), desk.gettext(decider)
    fees = {name: forms.amount_or_none_fen(form, decider, name) for name in _FEES}
    for name, fen in fees.items():
        if fen > FEE_FEN_MAX:
            form.wrong(name, say("At most 1,000 yuan."))
    hoarding = forms.amount_or_none_fen(form, decider, "hoarding")
    opening = None
    if form.get("opens"):
        parts = {
            name: forms.cash_fen(form, decider, name) or 0
            for name in (*_RATES, "alarm_1", "alarm_2", "overdraft")
        }
        try:
            opening = OpenAccount(
                prices=Prices(**{f"{rate}_fen": parts[rate] for rate in _RATES}),
                alarms=AlarmAmounts(alarm_1_fen=parts["alarm_1"], alarm_2_fen=parts["alarm_2"]),
                overdraft_fen=parts["overdraft"],
            )
        except BadSetting as bad:
            form.wrong("opens", str(bad))
    if form.errors:
        return await _rules_shown(services, decider, site, form, status=422)
    rules = Rules(
        opening_fee_fen=fees["opening_fee"],
        sale_fee_fen=fees["sale_fee"],
        hoarding_limit_fen=min(hoarding, AMOUNT_FEN_MAX) or None,
        opening=None if opening is None else to_record(opening),
    )
    async with services.database.transaction() as tx:
        at = services.clock.now()
        await account_rules.set_for_site(tx, site_id, rules, by=decider.operator_id, at=at)
        await _tell(services, tx, decider, "rules-set", site)
    return desk.go(f"/account-rules/{site}?done=1")


_FEES: Final = ("opening_fee", "sale_fee")
