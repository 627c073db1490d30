"""One meter: what it shows and how old that is, its curve, its money, its orders, its clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response

from headend.domain.books import Booked
from headend.domain.commands import Accepted, CommandKind
from headend.domain.customers import Customer
from headend.domain.problems import Problem
from headend.services import books
from headend.services.books import Wish
from headend.services.looks import MeterAtWork, Missed
from headend.services.orders import SwitchOrder
from headend.services.services import Services
from headend.services.switching import spared
from headend.store import (
    accounts,
    clocks,
    commands,
    customers,
    desk_days,
    desk_guards,
    desk_readings,
    desk_rooms,
    protections,
    reconcile,
    sales,
)
from headend.store.accounts import Account, Balance
from headend.store.clocks import ClockCheck
from headend.store.desk_days import Line, Order
from headend.store.desk_rooms import RoomMeter
from headend.store.reconcile import Difference
from headend.store.sales import Freeze
from headend.web import desk, forms, words
from headend.web.common import Asked
from headend.web.desk import Form, Reader, Switcher, Taker, Viewer, Visitor, meter_for
from headend.web.told import said

router = APIRouter(include_in_schema=False)

CHART_DAYS: Final = 31
LISTED: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterView:
    """Everything about one meter on one page."""

    at_work: MeterAtWork
    line_up: bool
    seen: RoomMeter
    last: Mapping[str, Any] | None
    last_at: datetime | None
    received_at: datetime | None
    clock: ClockCheck | None
    customer: Account
    named: Customer | None  # whose account it is; None: nobody was named
    balance: Balance
    freeze: Freeze | None
    differences: Sequence[Difference]
    orders: Sequence[Order]
    money: Sequence[Line]
    protected: bool  # by a protection of its own
    locked_out: bool  # by a lock-out of its own
    on_their_way: Sequence[UUID]  # switching orders that left before the lock-out
    spared_from_cut: str  # the rule that would spare it now
    chart_energy: dict[str, Any] | None
    chart_credit: dict[str, Any] | None
    command_id: UUID = field(default_factory=uuid4)  # of the order a form on this page gives
    form: Form = field(default_factory=Form)
    done: str = ""


@router.get("/meters/{meter}")
async def page(services: Asked, viewer: Viewer, meter: str, done: str = "") -> Response:
    """The meter inside the visitor's scope; elsewhere there is none."""
    view = await _view(services, viewer, meter, done=done if done == "read" else "")
    return desk.show("meter.html", viewer, services, view)


async def shown(
    services: Services, visitor: Visitor, name: str, form: Form, *, status: int
) -> Response:
    """The meter's page with what is wrong beside its fields; for forms of other modules too."""
    view = await _view(services, visitor, name, form=form)
    return desk.show("meter.html", visitor, services, view, status=status)


async def _view(
    services: Services, viewer: Visitor, name: str, *, form: Form | None = None, done: str = ""
) -> MeterView:
    meter = meter_for(services, viewer, name)
    number, now, zone = meter.known.meter_id, services.clock.now(), desk.zone_of(services)
    say = desk.gettext(viewer)
    async with services.database.transaction() as tx:
        seen = await desk_rooms.of_meter(tx, viewer.scope, now, number)
        if seen is None:
            raise desk.PageProblem(viewer, Problem("no-such-meter", meter=name))
        last = await desk_readings.last(tx, number)
        customer = await accounts.customer_of_meter(tx, number, now)
        rule = await spared(tx, number, CommandKind.CUT, services.clock, None)
        checks = await clocks.checks_of(tx, number, now - timedelta(days=CHART_DAYS))
        days = await desk_readings.days(tx, number, now - timedelta(days=CHART_DAYS), str(zone))
        credit = await desk_readings.credit(tx, number, now - timedelta(days=CHART_DAYS))
        locks = await desk_guards.lock_outs_of(tx, number)
        return MeterView(
            at_work=meter,
            line_up=services.lines.lines[meter.known.line].line.is_up,
            seen=seen,
            last=last.values if last else None,
            last_at=last.at if last else None,
            received_at=last.received_at if last else None,
            clock=checks[-1] if checks else None,
            customer=customer,
            named=await customers.of_meter(tx, number),
            balance=await accounts.balance(tx, customer.account_id),
            freeze=await sales.frozen(tx, number),
            differences=[
                one
                for one in await reconcile.differences_of_meter(tx, number)
                if one.closed_at is None
            ],
            orders=await desk_days.orders(tx, viewer.scope, meter_id=number, limit=LISTED),
            money=await desk_days.ledger_lines(tx, viewer.scope, meter_id=number, limit=LISTED),
            protected=bool(await desk_guards.protections_of(tx, number, now)),
            locked_out=bool(locks),
            on_their_way=[
                order for lock in locks for order in await protections.on_their_way(tx, lock)
            ],
            spared_from_cut="" if rule is None else words.said(rule.rule, viewer.language),
            chart_energy=_chart(
                [desk.noon_s(day) for day, _ in days],
                [wh / 1000 for _, wh in days],
                say("Day"),
                {"label": say("Used, kWh"), "colour": "--accent", "bars": True},
            ),
            chart_credit=_chart(
                [int(at.timestamp()) for at, _ in credit],
                [fen / 100 for _, fen in credit],
                say("Time"),
                {"label": say("Credit, yuan"), "colour": "--good"},
            ),
            form=form or Form(),
            done=done,
        )


def _chart(
    xs: Sequence[int], ys: Sequence[float], x: str, series: dict[str, Any]
) -> dict[str, Any] | None:
    return {"x": x, "series": [series], "data": [xs, ys]} if len(xs) > 1 else None


@router.post("/meters/{meter}/read")
async def read(services: Asked, reader: Reader, meter: str) -> Response:
    """Ask the meter now, before every waiting poll."""
    at_work = meter_for(services, reader, meter)
    outcome = await services.nights.read_now(at_work)
    if isinstance(outcome, Missed):
        form = Form()
        form.wrong(
            "read",
            said(Problem("meter-not-read", meter=meter, detail=outcome.detail), reader.language),
        )
        view = await _view(services, reader, meter, form=form)
        return desk.show("meter.html", reader, services, view, status=504)
    return desk.go(f"/meters/{at_work.known.name}?done=read")


@router.post("/meters/{meter}/switch")
async def switch(request: Request, services: Asked, switcher: Switcher, meter: str) -> Response:
    """Cut or restore by name, with a reason; a rule that spares the meter is named."""
    form = desk.form_of(await request.form())
    number = meter_for(services, switcher, meter).known.meter_id
    why = forms.reason(form, switcher)
    kind = CommandKind.RESTORE if form.get("kind") == "restore" else CommandKind.CUT
    command_id = forms.id_of(form)
    status = 422
    if not form.errors and command_id is not None:
        async with services.database.transaction() as tx:
            rule = None
            if kind is CommandKind.CUT and await commands.find(tx, command_id) is None:
                rule = await spared(tx, number, kind, services.clock, None)
            if rule is not None:
                problem = Problem(
                    "spared",
                    meter=meter,
                    rule=words.said(rule.rule, switcher.language),
                    detail=rule.detail,
                )
            else:
                outcome = await services.orders.switch(
                    tx,
                    SwitchOrder(
                        command_id=command_id,
                        meter_id=number,
                        kind=kind,
                        operator_id=switcher.operator_id,
                        reason=why,
                    ),
                )
                if isinstance(outcome, Accepted):
                    return desk.go(f"/commands/{outcome.command.command_id}")
                problem = Problem(outcome.why.value, meter=meter, detail=outcome.detail)
        form.wrong("reason", said(problem, switcher.language))
        status = problem.kind.http_status
    view = await _view(services, switcher, meter, form=form)
    return desk.show("meter.html", switcher, services, view, status=status)


@router.post("/meters/{meter}/refund")
async def refund(request: Request, services: Asked, taker: Taker, meter: str) -> Response:
    """Pay back what waits as balance; above a limit with a second person."""
    form = desk.form_of(await request.form())
    number = meter_for(services, taker, meter).known.meter_id
    amount, why = forms.amount_fen(form, taker), forms.reason(form, taker, "refund_reason")
    second = await forms.second_person(request, services, taker, form)
    transfer_id, status = forms.id_of(form), 422
    if not form.errors and transfer_id is not None and amount is not None:
        async with services.database.transaction() as tx:
            done = await books.refund(
                tx,
                Wish(
                    transfer_id=transfer_id,
                    amount_fen=amount,
                    operator_id=taker.operator_id,
                    approver_id=second.operator_id,
                    reason=why,
                ),
                services.clock,
                meter_id=number,
            )
        if isinstance(done, Booked):
            return desk.go(f"/meters/{meter}")
        problem = Problem(done.why.value, meter=meter, detail=done.detail)
        beside = "approver" if "person" in done.why.value else "amount"
        form.wrong(beside, said(problem, taker.language))
        status = problem.kind.http_status
    view = await _view(services, taker, meter, form=form)
    return desk.show("meter.html", taker, services, view, status=status)
