"""Selling: find the room, see what it will be, take the money once, watch it reach the meter.

The order's id is in the address of the form, so a reload, the back button, a double click and a
copied tab all mean the same order, and its address finds the sale again after anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response

from headend.domain.commands import Accepted, Command, CommandKind, CommandState
from headend.domain.deductions import (
    Split,
    Terms,
    credit_of_energy_fen,
    over_the_limit_fen,
    payment_for,
)
from headend.domain.ledger import AMOUNT_FEN_MAX
from headend.domain.problems import Problem
from headend.services.selling import SaleWish, part, sell
from headend.services.services import Services
from headend.services.terms import terms_of
from headend.store import (
    accounts,
    attempts,
    command_events,
    commands,
    desk_rooms,
    money_modes,
    sales,
)
from headend.store.accounts import Account
from headend.store.attempts import Attempt
from headend.store.database import Transaction
from headend.store.desk_rooms import Found, RoomMeter
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Seller, Viewer, Visitor, meter_for
from headend.web.stages import Stage, ended, in_the_dark, stages
from headend.web.texts import yuan
from headend.web.told import said
from protocols.meter_type import Write

router = APIRouter(include_in_schema=False)

_QUICK_YUAN: Final = (20, 50, 100, 200, 500)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindView:
    """What was looked for, and what was found."""

    q: str
    found: Sequence[Found]


@router.get("/vend")
async def find(services: Asked, seller: Seller, q: str = "", meter: str = "") -> Response:
    """By room, name, telephone or meter. A meter by its name goes straight to its form."""
    if meter:
        meter_for(services, seller, meter)
        return desk.go(f"/vend/new/{uuid4()}?" + urlencode({"meter": meter}))
    found: Sequence[Found] = ()
    if q.strip():
        async with services.database.transaction() as tx:
            found = await desk_rooms.search(tx, seller.scope, q.strip())
    return desk.show("vend_find.html", seller, services, FindView(q=q, found=found))


@dataclass(frozen=True, slots=True, kw_only=True)
class FormView:
    """The form of one sale, with everything that is known before it."""

    command_id: UUID
    meter: str
    meter_number: str | None
    seen: RoomMeter
    customer: Account
    waiting_fen: int  # paid earlier, not yet sold
    last: Command | None  # the newest sale of this meter
    blocked: str  # why nothing can be sold now
    provable: bool  # the meter shows a count or a total to prove it by
    terms: Terms
    form: Form = field(default_factory=Form)
    quick: Sequence[int] = _QUICK_YUAN

    @property
    def after(self) -> str:
        """Which sale was the newest when this form was made."""
        return str(self.last.command_id) if self.last else ""

    def parts(self, amount_fen: int | None) -> Split | None:
        """What becomes of this much money; None: no amount is understood yet."""
        if amount_fen is None:
            return None
        return part(amount_fen, self.terms, from_balance=bool(self.form.get("from_balance")))

    def over_fen(self, amount_fen: int | None) -> int:
        """By how much this much money would go beyond the hoarding limit."""
        parts = self.parts(amount_fen)
        return 0 if parts is None else over_the_limit_fen(parts.credit_fen, self.terms)


@router.get("/vend/new/{command_id}")
async def form_page(
    request: Request, services: Asked, seller: Seller, command_id: UUID, meter: str = ""
) -> Response:
    """The form of one order; where the order stands already, on to it."""
    async with services.database.transaction() as tx:
        if await commands.find(tx, command_id) is not None:
            return desk.go(f"/vend/{command_id}")
        form = Form(dict(request.query_params))
        view = await _form_view(tx, services, seller, command_id=command_id, name=meter, form=form)
        if await money_modes.is_platform(tx, meter_for(services, seller, meter).known.meter_id):
            return desk.go(f"/pay/{command_id}?" + urlencode({"meter": meter}))
    return desk.show("vend_form.html", seller, services, view)


@router.get("/vend/new/{command_id}/preview")
async def preview(
    request: Request, services: Asked, seller: Seller, command_id: UUID, meter: str = ""
) -> Response:
    """What the credit will be, while the amount is typed."""
    form = Form(dict(request.query_params))
    async with services.database.transaction() as tx:
        view = await _form_view(tx, services, seller, command_id=command_id, name=meter, form=form)
    amount = _amount_fen(form, seller, view.terms) if _is_typed(form) else None
    return desk.show("vend_preview.html", seller, services, {"form": view, "amount_fen": amount})


@router.post("/vend/new/{command_id}")
async def take(request: Request, services: Asked, seller: Seller, command_id: UUID) -> Response:
    """Book and order, once for this id. A "no" books nothing and keeps what was typed."""
    form = desk.form_of(await request.form())
    meter = meter_for(services, seller, form.get("meter"))
    async with services.database.transaction() as tx:
        known = await commands.find(tx, command_id)
        view = await _form_view(
            tx, services, seller, command_id=command_id, name=meter.known.name, form=form
        )
    if known is not None:
        return desk.go(f"/vend/{command_id}")
    amount = _amount_fen(form, seller, view.terms)
    if view.after != form.get("after") and view.last is not None:
        form.wrong(
            "form",
            desk.gettext(seller)(
                "Since this page was opened, %s yuan were sold to this meter. Nothing was booked "
                "now: if this is another sale, press the button once more."
            )
            % yuan(view.last.amount_fen),
        )
    if form.errors or amount is None:
        return desk.show("vend_form.html", seller, services, view, status=422)
    outcome = await sell(
        services.database,
        services.orders,
        services.clock,
        SaleWish(
            command_id=command_id,
            meter_id=meter.known.meter_id,
            amount_fen=amount,
            operator_id=seller.operator_id,
            from_balance=bool(form.get("from_balance")),
            credit_fen_shown=_shown_fen(form, amount),
        ),
    )
    if isinstance(outcome, Accepted):
        return desk.go(f"/vend/{command_id}")
    problem = Problem(outcome.why.value, meter=meter.known.name, detail=outcome.detail)
    beside = "amount" if outcome.why.value in _BESIDE_AMOUNT else "form"
    form.wrong(beside, said(problem, seller.language))
    return desk.show("vend_form.html", seller, services, view, status=problem.kind.http_status)


_BESIDE_AMOUNT: Final = ("amount-out-of-range", "not-paid", "payment-eaten-up", "hoarding-limit")


def _is_typed(form: Form) -> bool:
    return bool(form.get("energy") if form.get("by") == "energy" else form.get("amount"))


def _amount_fen(form: Form, seller: Visitor, terms: Terms) -> int | None:
    """What is paid: typed as yuan, or from kWh at the price the meter was proved to hold.

    None: the field says what is wrong.
    """
    if form.get("by") != "energy":
        return forms.amount_fen(form, seller)
    say = desk.gettext(seller)
    energy_wh = forms.energy_wh(form, seller, "energy")
    if terms.price_fen is None:
        form.wrong("energy", say("The price in this meter is not known, or not one all day."))
    if energy_wh is None or terms.price_fen is None:
        return None
    credit_fen = credit_of_energy_fen(energy_wh, terms.price_fen)
    paid_fen = credit_fen if form.get("from_balance") else payment_for(credit_fen, terms)
    if paid_fen > AMOUNT_FEN_MAX:
        form.wrong("energy", say("At most %s yuan.") % yuan(AMOUNT_FEN_MAX))
        return None
    return paid_fen


def _shown_fen(form: Form, paid_fen: int) -> int | None:
    """What the preview said would go into the meter of this much money; None: it said nothing."""
    paid, _, credit = form.get("credit_shown").partition(":")
    return int(credit) if paid == str(paid_fen) and credit.isdecimal() else None


async def _form_view(
    tx: Transaction,
    services: Services,
    seller: Visitor,
    *,
    command_id: UUID,
    name: str,
    form: Form,
) -> FormView:
    meter = meter_for(services, seller, name)
    number, now = meter.known.meter_id, services.clock.now()
    seen = await desk_rooms.of_meter(tx, seller.scope, now, number)
    if seen is None:
        raise PageProblem(seller, Problem("no-such-meter", meter=name))
    last = await commands.listing(tx, meter_ids=[number], kinds={CommandKind.TOP_UP}, limit=1)
    customer = await accounts.customer_of_meter(tx, number, now)
    return FormView(
        command_id=command_id,
        meter=name,
        meter_number=meter.known.meter_number,
        seen=seen,
        customer=customer,
        waiting_fen=await accounts.available_fen(tx, customer.account_id),
        last=last[0] if last else None,
        blocked=await _blocked(tx, services, seller, number, name),
        provable=Write.TOP_UP in meter.meter_type.writes,
        terms=await terms_of(tx, number, now, whole=True),
        form=form,
    )


async def _blocked(
    tx: Transaction, services: Services, seller: Visitor, meter_id: int, name: str
) -> str:
    frozen = await sales.frozen(tx, meter_id)
    if frozen is not None:
        problem = Problem("sales-frozen", meter=name, detail=frozen.reason)
        return said(problem, seller.language)
    still_open = await sales.open_of_meter(tx, meter_id)
    if still_open is not None:
        say = desk.gettext(seller)
        return say("A sale of %s yuan to this meter has not ended yet.") % yuan(
            still_open.amount_fen
        )
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleView:
    """One sale on its way, with its proof."""

    command: Command
    meter: str
    room: str | None
    customer: str
    stages: Sequence[Stage]
    proof: Attempt | None
    over: bool
    refused: bool
    dark: bool  # the tenant paid in the dark: the time until the light is counted
    light_at: datetime | None
    seen_at: datetime


@router.get("/vend/{command_id}")
async def sale(services: Asked, viewer: Viewer, command_id: UUID) -> Response:
    """Paid, sent, in meter, light on."""
    view = await _sale_view(services, viewer, command_id)
    return desk.show("sale.html", viewer, services, view)


@router.get("/vend/{command_id}/live")
async def live(request: Request, services: Asked, viewer: Viewer, command_id: UUID) -> Response:
    """The stages as they come, until the last."""
    await _sale_view(services, viewer, command_id)

    async def pieces() -> AsyncIterator[str | None]:
        async with desk.bell(request).watched() as watch:
            while True:
                view = await _sale_view(services, viewer, command_id)
                yield desk.rendered("sale_now.html", viewer, services, view)
                if view.over:
                    yield None
                    return
                await watch.wait()

    return desk.stream(pieces())


async def _sale_view(services: Services, viewer: Visitor, command_id: UUID) -> SaleView:
    async with services.database.transaction() as tx:
        command = await commands.find(tx, command_id)
        if command is None or command.kind is not CommandKind.TOP_UP:
            raise PageProblem(viewer, Problem("no-such-command", detail=command_id))
        now = services.clock.now()
        seen = await desk_rooms.of_meter(tx, viewer.scope, now, command.meter_id)
        if seen is None or seen.meter is None:
            raise PageProblem(viewer, Problem("no-such-command", detail=command_id))
        events = await command_events.events_of(tx, command_id)
        newest = await attempts.newest(tx, command_id)
        customer = await accounts.customer_of_meter(tx, command.meter_id, now)
    steps = stages(command, events, newest.after if newest else None)
    return SaleView(
        command=command,
        meter=seen.meter,
        room=seen.room,
        customer=customer.name,
        stages=steps,
        proof=newest,
        over=ended(command, steps),
        refused=command.state
        in (CommandState.REFUSED, CommandState.EXPIRED, CommandState.CANCELLED),
        dark=in_the_dark(command, events),
        light_at=steps[-1].at,
        seen_at=now,
    )
