"""The cashier's shift: open with a float, close with a count, and only then see over or short.

The count is blind: whoever knows what must be there finds it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response

from headend.domain.roles import Permission
from headend.services.services import Services
from headend.store import accounts, desk_sessions, shifts
from headend.store.shifts import Shift
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import Form, Seller, Visitor

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftView:
    """The visitor's shift, and the ones before; who approves sees everybody's."""

    current: Shift | None
    past: Sequence[Shift]
    of_all: bool
    shift_id: UUID = field(default_factory=uuid4)
    form: Form = field(default_factory=Form)


@router.get("/shift")
async def page(services: Asked, seller: Seller) -> Response:
    """Open one, or close the one that is open."""
    return desk.show("shift.html", seller, services, await _view(services, seller))


async def _view(services: Services, seller: Visitor, form: Form | None = None) -> ShiftView:
    of_all = seller.may(Permission.APPROVE) and seller.sites is None
    async with services.database.transaction() as tx:
        past = await shifts.listing(tx, None if of_all else seller.operator_id)
        return ShiftView(
            current=await shifts.current(tx, seller.operator_id),
            past=[one for one in past if one.closed_at is not None],
            of_all=of_all,
            form=form or Form(),
        )


@router.post("/shift/open")
async def begin(request: Request, services: Asked, seller: Seller) -> Response:
    """With what lies in the drawer now."""
    form = desk.form_of(await request.form())
    float_fen = forms.cash_fen(form, seller, "float")
    shift_id = forms.id_of(form, "shift_id")
    if float_fen is not None and shift_id is not None:
        at = services.clock.now()
        async with services.database.transaction() as tx:
            till = await accounts.till_of(tx, seller.operator_id, at)
            till_fen = await accounts.balance_fen(tx, till.account_id)
            begun = await shifts.begin(
                tx, shift_id, seller.operator_id, float_fen=float_fen, till_fen=till_fen, at=at
            )
            if begun:
                await desk_sessions.tell(tx, "shift-opened", at=at, operator_id=seller.operator_id)
        return desk.go("/shift")
    view = await _view(services, seller, form)
    return desk.show("shift.html", seller, services, view, status=422)


@router.post("/shift/close")
async def end(request: Request, services: Asked, seller: Seller) -> Response:
    """With what was counted; a note is welcome where it will not be the same."""
    form = desk.form_of(await request.form())
    counted_fen = forms.cash_fen(form, seller, "counted")
    shift_id = forms.id_of(form, "shift_id")
    if counted_fen is not None and shift_id is not None:
        at = services.clock.now()
        async with services.database.transaction() as tx:
            shift = await shifts.find(tx, shift_id)
            if shift is not None and shift.operator_id == seller.operator_id:
                till = await accounts.till_of(tx, seller.operator_id, at)
                ended = await shifts.end(
                    tx,
                    shift_id,
                    counted_fen=counted_fen,
                    till_fen=await accounts.balance_fen(tx, till.account_id),
                    note=form.get("note")[: forms.REASON_MAX],
                    at=at,
                )
                if ended:
                    await desk_sessions.tell(
                        tx, "shift-closed", at=at, operator_id=seller.operator_id
                    )
        return desk.go("/shift")
    view = await _view(services, seller, form)
    return desk.show("shift.html", seller, services, view, status=422)
