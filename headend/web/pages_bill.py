"""A meter's bill: the price now, how long the money lasts, each line explained; and its mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response

from headend.domain.books import NotBooked
from headend.domain.problems import Problem
from headend.services import billing, platform_money
from headend.services.billing import CorrectionWish
from headend.services.case_work import see
from headend.services.platform_money import ModeWish
from headend.services.price_facts import PriceFacts, price_facts
from headend.services.services import Services
from headend.store import charges, money_modes
from headend.store.charges import Charge
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import Configurer, Decider, Form, Viewer, Visitor, meter_for
from headend.web.pages_prices import date_of
from headend.web.told import said

router = APIRouter(include_in_schema=False)

DAYS_SHOWN: Final = 62


@dataclass(frozen=True, slots=True, kw_only=True)
class BillView:
    """The bill of one meter."""

    meter: str
    facts: PriceFacts
    lines: Sequence[Charge]
    correction_id: UUID = field(default_factory=uuid4)
    form: Form = field(default_factory=Form)


@router.get("/meters/{meter}/bill")
async def page(services: Asked, viewer: Viewer, meter: str) -> Response:
    """The last two months, newest first."""
    return desk.show("bill.html", viewer, services, await _view(services, viewer, meter))


async def _view(
    services: Services, viewer: Visitor, name: str, form: Form | None = None
) -> BillView:
    number, now = meter_for(services, viewer, name).known.meter_id, services.clock.now()
    async with services.database.transaction() as tx:
        return BillView(
            meter=name,
            facts=await price_facts(tx, number, now),
            lines=await charges.lines(
                tx, number, since=(now - timedelta(days=DAYS_SHOWN)).date(), limit=400
            ),
            form=form or Form(),
        )


async def _told(
    services: Services, visitor: Visitor, meter: str, form: Form, *, status: int = 422
) -> Response:
    view = await _view(services, visitor, meter, form)
    return desk.show("bill.html", visitor, services, view, status=status)


@router.post("/meters/{meter}/bill/correct")
async def correct(request: Request, services: Asked, decider: Decider, meter: str) -> Response:
    """A line more on a day, by name and with a reason; above a limit with a second person."""
    form = desk.form_of(await request.form())
    number = meter_for(services, decider, meter).known.meter_id
    day = date_of(form, decider, "day")
    amount = forms.threshold_fen(form, decider, "amount")
    why = forms.reason(form, decider, "correct_reason")
    second = await forms.second_person(request, services, decider, form)
    correction_id = forms.id_of(form, "correction_id")
    if form.errors or day is None or amount is None or correction_id is None:
        return await _told(services, decider, meter, form)
    async with services.database.transaction() as tx:
        done = await billing.correct(
            tx,
            CorrectionWish(
                correction_id=correction_id,
                meter_id=number,
                day=day,
                amount_fen=amount,
                operator_id=decider.operator_id,
                approver_id=second.operator_id,
                reason=why,
            ),
            services.clock.now(),
        )
    if isinstance(done, Charge):
        return desk.go(f"/meters/{meter}/bill")
    if isinstance(done, NotBooked):
        problem = Problem(done.why.value, meter=meter, detail=done.detail)
        form.wrong("approver" if "person" in done.why.value else "amount",
                   said(problem, decider.language))  # fmt: skip
    else:
        problem = Problem("no-such-charge", meter=meter, detail=day.isoformat())
        form.wrong("day", said(problem, decider.language))
    return await _told(services, decider, meter, form)


@router.post("/meters/{meter}/bill/mode")
async def mode(request: Request, services: Asked, configurer: Configurer, meter: str) -> Response:
    """The money into the platform, or back into the meter."""
    form = desk.form_of(await request.form())
    number = meter_for(services, configurer, meter).known.meter_id
    why = forms.reason(form, configurer, "mode_reason")
    command_id = forms.id_of(form)
    if form.errors or command_id is None:
        return await _told(services, configurer, meter, form)
    if form.get("mode") != "platform":
        await see(services, meter_for(services, configurer, meter))  # the last one to be charged
    async with services.database.transaction() as tx:
        refused = await platform_money.set_mode(
            tx,
            services.orders,
            ModeWish(
                meter_id=number,
                platform=form.get("mode") == "platform",
                operator_id=configurer.operator_id,
                approver_id=None,
                reason=why,
                command_id=command_id,
            ),
            services.clock.now(),
        )
        is_platform = await money_modes.is_platform(tx, number)
    if refused is None:
        assert is_platform == (form.get("mode") == "platform")
        return desk.go(f"/meters/{meter}/bill")
    problem = Problem(refused[0], meter=meter, detail=refused[1])
    form.wrong("mode_reason", said(problem, configurer.language))
    return await _told(services, configurer, meter, form)
