"""Account opening: who it is, which meter, the first credit. The id of the work is in the address,
so a reload, a second click and a second tab are one account."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response

from headend.domain.cases import Case, CaseWhy, Stopped
from headend.domain.problems import Problem
from headend.services import account_opening
from headend.services.account_opening import Opening, orders_opening
from headend.services.case_work import Asked as Work
from headend.services.case_work import Untold
from headend.services.services import Services
from headend.store import account_cases, account_rules, accounts, customers, desk_rooms
from headend.store.account_rules import Rules
from headend.store.desk_rooms import RoomMeter
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Seller, Visitor, meter_for
from headend.web.pages_accounts import number_of, person_of
from headend.web.told import said

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningView:
    """The form with everything that is known before it."""

    case_id: UUID
    meter: str
    seen: RoomMeter
    rules: Rules
    can_open_meter: bool
    waiting_fen: int
    form: Form = field(default_factory=Form)


@router.get("/openings")
async def start(services: Asked, seller: Seller, meter: str = "", customer: str = "") -> Response:
    """A fresh id for this account; with it the form."""
    meter_for(services, seller, meter)
    asked = {"meter": meter} | ({"customer_no": customer, "who": "known"} if customer else {})
    return desk.go(f"/openings/{uuid4()}?" + urlencode(asked))


@router.get("/openings/{case_id}")
async def form_page(
    request: Request, services: Asked, seller: Seller, case_id: UUID, meter: str = ""
) -> Response:
    """The form; where the work stands already, on to it."""
    if await _stands(services, case_id):
        return desk.go(f"/cases/{case_id}")
    form = Form(dict(request.query_params))
    return await _show(services, seller, case_id, meter, form)


async def _stands(services: Services, case_id: UUID) -> bool:
    async with services.database.transaction() as tx:
        return await account_cases.find(tx, case_id) is not None


async def _show(
    services: Services,
    seller: Visitor,
    case_id: UUID,
    name: str,
    form: Form,
    *,
    status: int = 200,
) -> Response:
    meter = meter_for(services, seller, name)
    now = services.clock.now()
    async with services.database.transaction() as tx:
        seen = await desk_rooms.of_meter(tx, None, now, meter.known.meter_id)
        if seen is None:
            raise PageProblem(seller, Problem("no-such-meter", meter=name))
        rules = await account_rules.of_site(tx, meter.known.site_id)
        customer = await customers.of_meter(tx, meter.known.meter_id)
        account = await accounts.customer_of_meter(tx, meter.known.meter_id, now)
        waiting_fen = await accounts.available_fen(tx, account.account_id)
    if customer is not None and not form.errors:
        detail = f"{customer.customer_no} {customer.person.name}"
        problem = Problem("meter-has-customer", meter=name, detail=detail)
        form.wrong("form", said(problem, seller.language))
    view = OpeningView(
        case_id=case_id,
        meter=name,
        seen=seen,
        rules=rules,
        can_open_meter=orders_opening(meter, rules),
        waiting_fen=waiting_fen,
        form=form,
    )
    return desk.show("opening.html", seller, services, view, status=status)


@router.post("/openings/{case_id}")
async def take(request: Request, services: Asked, seller: Seller, case_id: UUID) -> Response:
    """Book and order, once for this id. A "no" books nothing and keeps what was typed."""
    form = desk.form_of(await request.form())
    meter = meter_for(services, seller, form.get("meter"))
    if await _stands(services, case_id):
        return desk.go(f"/cases/{case_id}")
    say = desk.gettext(seller)
    known = form.get("who") == "known"
    number = number_of(form, seller)
    person = None if known else person_of(form, seller)
    if known and not number:
        form.wrong("customer_no", say("Enter the customer number."))
    amount_fen = forms.amount_or_none_fen(form, seller, "amount")
    status = 422
    if not form.errors:
        wish = Opening(
            asked=Work(case_id=case_id, operator_id=seller.operator_id, reason=say("Opening")),
            customer_no=number,
            person=person,
            amount_fen=amount_fen,
            open_meter=bool(form.get("open_meter")),
        )
        outcome = await account_opening.open_account(services, meter, wish)
        if isinstance(outcome, Case):
            return desk.go(f"/cases/{case_id}")
        status = told(form, seller, outcome, form.get("meter"))
    return await _show(services, seller, case_id, form.get("meter"), form, status=status)


_BESIDE = {
    CaseWhy.NUMBER_TAKEN: "customer_no",
    CaseWhy.NO_SUCH_CUSTOMER: "customer_no",
    CaseWhy.OTHER_SITE: "customer_no",
    CaseWhy.CUSTOMER_CLOSED: "customer_no",
    CaseWhy.CLASH: "unit",
}


def told(form: Form, visitor: Visitor, outcome: Untold, meter: str) -> int:
    """Say a "no" beside the field it is about; the status of the answer."""
    problem = Problem(outcome.why.value, meter=meter, detail=outcome.detail)
    beside = "form"
    if isinstance(outcome, Stopped):
        beside = _BESIDE.get(outcome.why, "form")
    elif "person" in outcome.why.value:
        beside = "approver"
    form.wrong(beside, said(problem, visitor.language))
    return problem.kind.http_status
