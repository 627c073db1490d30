"""Work orders, and the forms by which alarms are looked after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from headend.domain.problems import Problem
from headend.services.services import Services
from headend.services.tending import Tending, may_own
from headend.store import alarms, people, work_orders
from headend.store.database import Transaction
from headend.store.work_orders import Step, WorkOrder
from headend.web import desk, forms, pages_alarms
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Tender, Viewer, Visitor, meter_for
from headend.web.edits import NUMBER_MAX
from headend.web.told import said

router = APIRouter(include_in_schema=False)

Number = Annotated[int, Path(ge=0, le=NUMBER_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadgeView:
    """How many alarms nobody has seen yet."""

    raised: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdersView:
    """What is to be done."""

    orders: Sequence[WorkOrder]
    mine: bool
    refused: str = ""
    form: Form = field(default_factory=Form)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """One work order and what was done about it."""

    order: WorkOrder
    steps: Sequence[Step]
    tenders: Sequence[str]
    refused: str = ""
    form: Form = field(default_factory=Form)


@router.get("/alarms/badge")
async def badge(services: Asked, viewer: Viewer) -> Response:
    """A piece of every page, asked for again and again."""
    async with services.database.transaction() as tx:
        raised = await alarms.count_raised(tx, viewer.scope)
    return desk.show("alarm_badge.html", viewer, services, BadgeView(raised=raised))


Act = Callable[[Tending, Transaction, int, Form], Awaitable[Any]]


def _version(form: Form) -> int | None:
    """What the page showed: an edit of something that changed meanwhile is refused."""
    typed = form.get("version")
    return int(typed) if typed.isdecimal() and len(typed) < 10 else None


ON_ALARM: Final[Mapping[str, Act]] = {
    "acknowledge": lambda t, tx, n, f: t.acknowledge(tx, n, "", _version(f)),
    "assign": lambda t, tx, n, f: t.assign_alarm(tx, n, f.get("to"), "", _version(f)),
    "close": lambda t, tx, n, f: t.close_alarm(tx, n, f.get("reason"), _version(f)),
    "work-order": lambda t, tx, n, f: t.open_from_alarm(tx, n, f.get("reason"), ""),
}
ON_ORDER: Final[Mapping[str, Act]] = {
    "assign": lambda t, tx, n, f: t.assign_order(tx, n, f.get("to"), _version(f)),
    "comment": lambda t, tx, n, f: t.comment(tx, n, f.get("reason")),
    "close": lambda t, tx, n, f: t.close_order(tx, n, f.get("reason"), _version(f)),
}
# What keeps a sentence for ever, and so needs one.
WITH_REASON: Final = frozenset({"close", "comment", "work-order"})


@router.post("/alarms/{alarm_id}/{step}")
async def on_alarm(
    request: Request, services: Asked, tender: Tender, alarm_id: Number, step: str
) -> Response:
    """Acknowledge, assign, close, open a work order."""
    form = desk.form_of(await request.form())
    refused = await _act(services, tender, acts=ON_ALARM, step=step, number=alarm_id, form=form)
    if refused is None:
        return desk.go("/work-orders" if step == "work-order" else "/alarms")
    status, sentence = refused
    view = await pages_alarms.view_of(request, services, tender, refused=sentence)
    return desk.show("alarms.html", tender, services, view, status=status)


@router.get("/work-orders")
async def listed(request: Request, services: Asked, viewer: Viewer) -> Response:
    """The technician's list."""
    view = await _orders(services, viewer, mine="mine" in request.query_params)
    return desk.show("work_orders.html", viewer, services, view)


@router.post("/work-orders")
async def by_hand(request: Request, services: Asked, tender: Tender) -> Response:
    """A work order about a meter."""
    form = desk.form_of(await request.form())
    title = forms.reason(form, tender)
    known = services.lines.meters.get(form.get("meter"))
    assert tender.caller is not None, "whoever tends is signed in"
    if known is None or not tender.caller.may_touch_meter(known.known):
        form.wrong(
            "meter", said(Problem("no-such-meter", meter=form.get("meter")), tender.language)
        )
    if form.errors:
        view = await _orders(services, tender, form=form)
        return desk.show("work_orders.html", tender, services, view, status=422)
    meter = meter_for(services, tender, form.get("meter")).known
    async with services.database.transaction() as tx:
        made = await _tending(services, tender).open_order(
            tx, site_id=meter.site_id, title=title, to="", meter_id=meter.meter_id
        )
    return desk.go(f"/work-orders/{made.work_order_id}")


@router.get("/work-orders/{work_order_id}")
async def one(services: Asked, viewer: Viewer, work_order_id: Number) -> Response:
    """What was done about it."""
    view = await _order(services, viewer, work_order_id)
    return desk.show("work_order.html", viewer, services, view)


@router.post("/work-orders/{work_order_id}/{step}")
async def on_order(
    request: Request, services: Asked, tender: Tender, work_order_id: Number, step: str
) -> Response:
    """Assign, comment, close."""
    form = desk.form_of(await request.form())
    refused = await _act(
        services, tender, acts=ON_ORDER, step=step, number=work_order_id, form=form
    )
    if refused is None:
        return desk.go(f"/work-orders/{work_order_id}")
    status, sentence = refused
    view = await _order(services, tender, work_order_id, refused=sentence, form=form)
    return desk.show("work_order.html", tender, services, view, status=status)


async def _act(
    services: Services,
    tender: Visitor,
    *,
    acts: Mapping[str, Act],
    step: str,
    number: int,
    form: Form,
) -> tuple[int, str] | None:
    """None when done; else the status and the sentence. What is not there is a page of its own."""
    if step not in acts:
        raise PageProblem(tender, Problem("no-such-page"))
    if step in WITH_REASON:
        forms.reason(form, tender)
    sentence = "".join(form.errors.values())
    try:
        async with services.database.transaction() as tx:
            if sentence:  # whether it is there at all is said first
                find = Tending.alarm if acts is ON_ALARM else Tending.work_order
                await find(_tending(services, tender), tx, number)
                return 422, sentence
            await acts[step](_tending(services, tender), tx, number, form)
    except Problem as problem:
        if problem.kind.http_status in (404, 503):
            raise PageProblem(tender, problem) from problem
        return problem.kind.http_status, said(problem, tender.language)
    return None


def _tending(services: Services, visitor: Visitor) -> Tending:
    assert visitor.caller is not None
    return Tending(visitor.caller.operator, services.clock)


async def _orders(
    services: Services, visitor: Visitor, *, mine: bool = False, form: Form | None = None
) -> OrdersView:
    owner = visitor.operator_id if mine else None
    async with services.database.transaction() as tx:
        found = await work_orders.open_ones(tx, visitor.scope, assigned_to=owner)
    return OrdersView(orders=found, mine=mine, form=form or Form())


async def _order(
    services: Services,
    visitor: Visitor,
    number: int,
    *,
    refused: str = "",
    form: Form | None = None,
) -> OrderView:
    async with services.database.transaction() as tx:
        try:
            order = await _tending(services, visitor).work_order(tx, number)
        except Problem as problem:
            raise PageProblem(visitor, problem) from problem
        return OrderView(
            order=order,
            steps=await work_orders.steps(tx, number),
            tenders=[
                one.name
                for one in await people.list_operators(tx)
                if may_own(one, order.site_id, order.building_id)
            ],
            refused=refused,
            form=form or Form(),
        )
