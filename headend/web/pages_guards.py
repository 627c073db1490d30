"""Around one meter: who lives there, what protects it from a cut, and who works on its circuit."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from fastapi import APIRouter, Request, Response

from headend.domain.problems import Problem
from headend.store import accounts, desk_guards, desk_sessions, protections
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import LockOuter, PageProblem, Protector, Seller, meter_for
from headend.web.pages_meter import shown

router = APIRouter(include_in_schema=False)

NAME_MAX: Final = 80
# A protection has an end, or nobody would ever look at it again.
PROTECTED_DAYS_MAX: Final = 366


@router.post("/meters/{meter}/customer")
async def customer(request: Request, services: Asked, seller: Seller, meter: str) -> Response:
    """Name and telephone of who pays: what the cashier finds them by."""
    form, say = desk.form_of(await request.form()), desk.gettext(seller)
    number = meter_for(services, seller, meter).known.meter_id
    name, contact = form.get("customer"), form.get("contact")
    if not 1 <= len(name) <= NAME_MAX:
        form.wrong("customer", say("A name of 1 to 80 characters."))
    if len(contact) > NAME_MAX:
        form.wrong("contact", say("At most 80 characters."))
    if form.errors:
        return await shown(services, seller, meter, form, status=422)
    at = services.clock.now()
    async with services.database.transaction() as tx:
        known = await accounts.customer_of_meter(tx, number, at)
        if known.closed_at is not None:
            raise PageProblem(seller, Problem("account-closed", meter=meter))
        await desk_guards.name_customer(tx, known.account_id, name, contact)
        await desk_sessions.tell(
            tx,
            "customer-changed",
            at=at,
            operator_id=seller.operator_id,
            subject=f"{meter}: {known.name} → {name}",
        )
    return desk.go(f"/meters/{meter}")


@router.post("/meters/{meter}/protect")
async def protect(request: Request, services: Asked, protector: Protector, meter: str) -> Response:
    """Nobody cuts it until that day, looked at once more right before a cut is sent."""
    form, say = desk.form_of(await request.form()), desk.gettext(protector)
    number, now = meter_for(services, protector, meter).known.meter_id, services.clock.now()
    why = forms.reason(form, protector, "protect_reason")
    days = int(form.get("days")) if form.get("days").isdecimal() else 0
    if not 1 <= days <= PROTECTED_DAYS_MAX:
        form.wrong("days", say("From 1 to 366 days."))
    if form.errors:
        return await shown(services, protector, meter, form, status=422)
    async with services.database.transaction() as tx:
        await protections.protect(
            tx,
            reason=why,
            expires_at=_ends(now, days),
            by=protector.operator_id,
            now=services.clock.now,
            meter_id=number,
        )
    return desk.go(f"/meters/{meter}")


def _ends(now: datetime, days: int) -> datetime:
    return now + timedelta(days=days)


@router.post("/meters/{meter}/lock-out")
async def lock_out(request: Request, services: Asked, worker: LockOuter, meter: str) -> Response:
    """Somebody works on this circuit: nothing is switched, a restore neither."""
    form = desk.form_of(await request.form())
    number = meter_for(services, worker, meter).known.meter_id
    why = forms.reason(form, worker, "lock_reason")
    if form.errors:
        return await shown(services, worker, meter, form, status=422)
    async with services.database.transaction() as tx:
        await protections.lock_out(
            tx, reason=why, by=worker.operator_id, now=services.clock.now, meter_id=number
        )
    return desk.go(f"/meters/{meter}")


@router.post("/meters/{meter}/lift-protection")
async def lift_protection(
    request: Request, services: Asked, protector: Protector, meter: str
) -> Response:
    """It stays on record, with who ended it and why."""
    form = desk.form_of(await request.form())
    number, now = meter_for(services, protector, meter).known.meter_id, services.clock.now()
    why = forms.reason(form, protector, "lift_reason")
    if form.errors:
        return await shown(services, protector, meter, form, status=422)
    async with services.database.transaction() as tx:
        for one in await desk_guards.protections_of(tx, number, now):
            await protections.lift_protection(tx, one, reason=why, by=protector.operator_id, at=now)
    return desk.go(f"/meters/{meter}")


@router.post("/meters/{meter}/lift-lock-out")
async def lift_lock_out(
    request: Request, services: Asked, worker: LockOuter, meter: str
) -> Response:
    """The work on this meter is over; a lock-out of its cabinet or line is lifted there."""
    form = desk.form_of(await request.form())
    number, now = meter_for(services, worker, meter).known.meter_id, services.clock.now()
    why = forms.reason(form, worker, "lift_reason")
    if form.errors:
        return await shown(services, worker, meter, form, status=422)
    async with services.database.transaction() as tx:
        for one in await desk_guards.lock_outs_of(tx, number):
            await protections.lift_lock_out(tx, one, reason=why, by=worker.operator_id, at=now)
    return desk.go(f"/meters/{meter}")
