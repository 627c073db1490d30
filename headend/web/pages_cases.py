"""Transfer, closure and meter exchange, step by step; and every case with its proof.

The id of a case is in the address of its form, as with a sale: whatever a browser does, it is one
piece of work, and its page finds it again after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import quote
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Request, Response

from headend.domain.cases import BY_ITSELF, Case, CaseKind, Seen, Step
from headend.domain.customers import Customer
from headend.domain.problems import Problem
from headend.domain.roles import Permission
from headend.services import account_ending, case_work, meter_exchange
from headend.services.account_ending import Confirmation, Credit, Plan
from headend.services.case_work import Asked as Work
from headend.services.case_work import CannotLook, Untold
from headend.services.looks import MeterAtWork, Missed
from headend.services.meter_exchange import Device
from headend.services.services import Services
from headend.store import account_cases, commands, customers, desk_rooms
from headend.store.account_cases import CaseEvent, Photo
from headend.store.desk_rooms import RoomMeter
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Viewer, Visitor, meter_for
from headend.web.pages_accounts import number_of, person_of
from headend.web.pages_opening import told
from headend.web.told import said
from protocols.catalog import load_meter_types
from protocols.meter_type import Addressing

router = APIRouter(include_in_schema=False)

MAY: Final = {
    CaseKind.OPENING: Permission.SELL,
    CaseKind.TRANSFER: Permission.TAKE_BACK,
    CaseKind.CLOSURE: Permission.TAKE_BACK,
    CaseKind.EXCHANGE: Permission.CONFIGURE,
}
_KINDS: Final = {kind.value: kind for kind in CaseKind if kind is not CaseKind.OPENING}


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginView:
    """Before the work begins: what is known of the meter, how old that is."""

    case_id: UUID
    kind: CaseKind
    meter: str
    seen: RoomMeter
    customer: Customer | None
    form: Form = field(default_factory=Form)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which work on which meter, by somebody who may do it there."""

    case_id: UUID
    kind: CaseKind
    meter: MeterAtWork
    by: Visitor


def _wanted(services: Services, viewer: Visitor, meter: str, kind: str, case_id: UUID) -> Wanted:
    at_work = meter_for(services, viewer, meter)
    wanted = _KINDS.get(kind)
    if wanted is None:
        raise PageProblem(viewer, Problem("no-such-page"))
    desk.must(viewer, MAY[wanted])
    return Wanted(case_id=case_id, kind=wanted, meter=at_work, by=viewer)


async def _new_work(services: Asked, viewer: Viewer, meter: str, kind: str) -> Wanted:
    return _wanted(services, viewer, meter, kind, uuid4())


async def _this_work(
    services: Asked, viewer: Viewer, meter: str, kind: str, case_id: UUID
) -> Wanted:
    return _wanted(services, viewer, meter, kind, case_id)


@router.get("/meters/{meter}/work/{kind}")
async def start(services: Asked, wanted: Annotated[Wanted, Depends(_new_work)]) -> Response:
    """A fresh id for this work; where the meter has open work already, on to that."""
    async with services.database.transaction() as tx:
        case = await account_cases.open_of_meter(tx, wanted.meter.known.meter_id)
    if case is not None:
        return desk.go(f"/cases/{case.case_id}")
    where = f"/meters/{quote(wanted.meter.known.name)}/work/{wanted.kind.value}"
    return desk.go(f"{where}/{wanted.case_id}")


@router.get("/meters/{meter}/work/{kind}/{case_id}")
async def begin_page(
    request: Request, services: Asked, wanted: Annotated[Wanted, Depends(_this_work)]
) -> Response:
    """The form that begins it; where it stands already, on to it."""
    async with services.database.transaction() as tx:
        if await account_cases.find(tx, wanted.case_id) is not None:
            return desk.go(f"/cases/{wanted.case_id}")
    return await _begin_shown(services, wanted, Form(dict(request.query_params)))


@router.post("/meters/{meter}/work/{kind}/{case_id}")
async def begin(
    request: Request, services: Asked, wanted: Annotated[Wanted, Depends(_this_work)]
) -> Response:
    """Look at the meter and hold its sales. A dead meter's credit two persons say."""
    form, viewer = desk.form_of(await request.form()), wanted.by
    why = forms.reason(form, viewer)
    dead = None
    if form.get("dead"):
        credit_fen = forms.threshold_fen(form, viewer, "estimate")
        dead = None if credit_fen is None else CannotLook(credit_fen=credit_fen)
    second = await forms.second_person(request, services, viewer, form)
    status = 422
    if not form.errors:
        work = Work(
            case_id=wanted.case_id,
            operator_id=viewer.operator_id,
            reason=why,
            approver_id=second.operator_id,
        )
        outcome = await case_work.begin_looked(services, wanted.meter, wanted.kind, work, dead)
        if isinstance(outcome, Case):
            return desk.go(f"/cases/{wanted.case_id}")
        status = _not_begun(form, viewer, outcome, wanted.meter.known.name)
    return await _begin_shown(services, wanted, form, status=status)


def _not_begun(form: Form, viewer: Visitor, outcome: Missed | Untold, meter: str) -> int:
    if not isinstance(outcome, Missed):
        return told(form, viewer, outcome, meter)
    problem = Problem("meter-not-read", meter=meter, detail=outcome.detail)
    form.wrong("form", said(problem, viewer.language))
    return problem.kind.http_status


async def _begin_shown(
    services: Services, wanted: Wanted, form: Form, *, status: int = 200
) -> Response:
    known = wanted.meter.known
    async with services.database.transaction() as tx:
        seen = await desk_rooms.of_meter(tx, None, services.clock.now(), known.meter_id)
        customer = await customers.of_meter(tx, known.meter_id)
    if seen is None:
        raise PageProblem(wanted.by, Problem("no-such-meter", meter=known.name))
    view = BeginView(
        case_id=wanted.case_id,
        kind=wanted.kind,
        meter=known.name,
        seen=seen,
        customer=customer,
        form=form,
    )
    return desk.show("case_begin.html", wanted.by, services, view, status=status)


# ---- a case ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView:
    """One piece of work: where it is, what proves it, and what a person may do next."""

    case: Case
    meter: str
    known: MeterAtWork | None
    look: Seen | None
    new_look: Seen | None
    customer: Customer | None
    to_customer: Customer | None
    plan: Plan | None
    events: Sequence[CaseEvent]
    photos: Sequence[Photo]
    order: UUID | None  # the newest order of this case
    can_clear: bool
    may: bool
    by_itself: bool
    types: Sequence[tuple[str, str]]
    file_lines: str
    seen_at: datetime
    form: Form = field(default_factory=Form)


@router.get("/cases/{case_id}")
async def page(services: Asked, viewer: Viewer, case_id: UUID) -> Response:
    """The case inside the visitor's scope; elsewhere there is none."""
    return await case_shown(services, viewer, case_id, Form())


async def case_shown(
    services: Services, viewer: Visitor, case_id: UUID, form: Form, *, status: int = 200
) -> Response:
    """The case's page with what is wrong beside its fields; for forms of other modules too."""
    case, meter = await found_case(services, viewer, case_id)
    async with services.database.transaction() as tx:
        events = await account_cases.events(tx, case_id)
        pictures = await account_cases.photos(tx, case_id)
        waits = case.step is Step.CONFIRM
        plan = await account_ending.plan_of(tx, case) if waits else None
        parties = [
            None if number is None else await customers.get(tx, number)
            for number in (case.customer_id, case.to_customer_id)
        ]
        order = None
        for what in _orders_of(case):
            found = await commands.find(tx, case.id_of(what))
            order = found.command_id if found is not None else order
    exchanged = case.kind is CaseKind.EXCHANGE and "device" in case.wish
    view = CaseView(
        case=case,
        meter=meter.known.name,
        known=meter,
        look=_look(case, "look"),
        new_look=_look(case, "new_look"),
        customer=parties[0],
        to_customer=parties[1],
        plan=plan,
        events=events,
        photos=pictures,
        order=order,
        can_clear=case_work.keeps_account(meter),
        may=viewer.may(MAY[case.kind]),
        by_itself=case.step in BY_ITSELF,
        types=[
            (name, kind.title)
            for name, kind in load_meter_types().items()
            if kind.addressing is meter.meter_type.addressing
        ],
        file_lines=meter_exchange.file_lines(meter, case) if exchanged else "",
        seen_at=services.clock.now(),
        form=form,
    )
    return desk.show("case.html", viewer, services, view, status=status)


def _look(case: Case, name: str) -> Seen | None:
    record = case.facts.get(name)
    return None if record is None else Seen.from_record(record)


def _orders_of(case: Case) -> list[str]:
    tries = int(case.facts.get("tries", 0))
    return ["open", "open 1", *(f"clear {one}" for one in range(1, tries + 1)), "top-up"]


async def found_case(
    services: Services, viewer: Visitor, case_id: UUID
) -> tuple[Case, MeterAtWork]:
    """A case inside the visitor's scope; elsewhere there is none."""
    async with services.database.transaction() as tx:
        case = await account_cases.find(tx, case_id)
    assert viewer.caller is not None
    meter = None if case is None else services.lines.by_id.get(case.meter_id)
    if case is None or meter is None or not viewer.caller.may_touch_meter(meter.known):
        raise PageProblem(viewer, Problem("no-such-case", detail=case_id))
    return case, meter


@router.post("/cases/{case_id}/look")
async def look_again(services: Asked, viewer: Viewer, case_id: UUID) -> Response:
    """A newer look before anything is settled."""
    case, meter = await found_case(services, viewer, case_id)
    desk.must(viewer, MAY[case.kind])
    outcome = await account_ending.look_again(services, meter, case)
    if isinstance(outcome, Case):
        return desk.go(f"/cases/{case_id}")
    form = Form()
    status = _not_begun(form, viewer, outcome, meter.known.name)
    return await case_shown(services, viewer, case_id, form, status=status)


@router.post("/cases/{case_id}/confirm")
async def confirm(request: Request, services: Asked, viewer: Viewer, case_id: UUID) -> Response:
    """Settle as shown: close, or hand over to the tenant who comes."""
    form = desk.form_of(await request.form())
    case, meter = await found_case(services, viewer, case_id)
    desk.must(viewer, MAY[case.kind])
    person, number = None, ""
    if case.kind is CaseKind.TRANSFER:
        number = number_of(form, viewer)
        if form.get("who") == "known":
            if not number:
                say = desk.gettext(viewer)
                form.wrong("customer_no", say("Enter the customer number."))
        else:
            person = person_of(form, viewer)
    second = await forms.second_person(request, services, viewer, form)
    status = 422
    if not form.errors:
        given = Confirmation(
            asked=Work(
                case_id=case_id,
                operator_id=viewer.operator_id,
                reason=case.reason,
                approver_id=second.operator_id,
            ),
            credit_fen_shown=_shown_fen(form, "credit_shown"),
            balance_fen_shown=_shown_fen(form, "balance_shown"),
            clear_meter=bool(form.get("clear_meter")),
            credit=Credit.SETTLED if form.get("credit") == "settled" else Credit.CARRIED,
            customer_no=number,
            person=person,
        )
        outcome = await account_ending.confirm(services, meter, given)
        if isinstance(outcome, Case):
            return desk.go(f"/cases/{case_id}")
        status = told(form, viewer, outcome, meter.known.name)
    return await case_shown(services, viewer, case_id, form, status=status)


def _shown_fen(form: Form, name: str) -> int:
    """What the page showed, as it wrote it itself; anything else fits nothing."""
    text = form.get(name)
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 12 else -(10**9)


@router.post("/cases/{case_id}/device")
async def device(request: Request, services: Asked, viewer: Viewer, case_id: UUID) -> Response:
    """What hangs there now."""
    form = desk.form_of(await request.form())
    case, meter = await found_case(services, viewer, case_id)
    desk.must(viewer, MAY[case.kind])
    found = _device_of(form, viewer, meter)
    status = 422
    if found is not None:
        outcome = await meter_exchange.hang(services, meter, case_id, found)
        if isinstance(outcome, Case):
            return desk.go(f"/cases/{case_id}")
        status = told(form, viewer, outcome, meter.known.name)
    return await case_shown(services, viewer, case_id, form, status=status)


def _device_of(form: Form, viewer: Visitor, meter: MeterAtWork) -> Device | None:
    say = desk.gettext(viewer)
    kind = load_meter_types().get(form.get("meter_type"))
    if kind is None:
        form.wrong("meter_type", say("Choose the type of the new meter."))
        return None
    by_unit = kind.addressing is Addressing.UNIT
    typed = form.get("unit")
    unit = int(typed) if by_unit and typed.isdecimal() and len(typed) < 4 else None
    number = form.get("meter_number")
    found = Device(
        meter_type=kind.name,
        unit=unit,
        address=None if by_unit else typed,
        meter_number=number or None,
        energy_multiplier=meter.known.energy_multiplier,
    )
    if number and not (number.isascii() and number.isdecimal() and len(number) == 12):
        form.wrong("meter_number", say("A meter number has 12 digits."))
    wrong = meter_exchange.bad_place(kind, found)
    if wrong == "unit":
        form.wrong("unit", say("A unit id is a number from 1 to 247."))
    elif wrong:
        form.wrong("unit", say("An address has %d digits.") % kind.address_digits)
    return None if form.errors else found


@router.post("/cases/{case_id}/cancel")
async def cancel(request: Request, services: Asked, viewer: Viewer, case_id: UUID) -> Response:
    """Nothing was settled yet: leave everything as it was."""
    form = desk.form_of(await request.form())
    case, meter = await found_case(services, viewer, case_id)
    desk.must(viewer, MAY[case.kind])
    why = forms.reason(form, viewer, "cancel_reason")
    status = 422
    if not form.errors:
        outcome = await account_ending.cancel(services, case_id, why)
        if isinstance(outcome, Case):
            return desk.go(f"/cases/{case_id}")
        status = told(form, viewer, outcome, meter.known.name)
    return await case_shown(services, viewer, case_id, form, status=status)
