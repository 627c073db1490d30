"""Cashier shifts over HTTP: a float, a blind count, and only then over or short."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.ledger import AMOUNT_FEN_MAX
from headend.domain.problems import Problem
from headend.domain.roles import Caller, Permission
from headend.store import accounts, desk_sessions, shifts
from headend.store.shifts import Shift
from headend.web.auth import IdempotencyKey, Seller
from headend.web.common import Asked, Words
from headend.web.edits import AfterText, Limit, cursor, cut, instant_and_id

router = APIRouter(prefix="/api/v1/shifts", tags=["money and supply"])

# A drawer holds more than one sale; not more than this.
CASH_FEN_MAX = 100 * AMOUNT_FEN_MAX


class Float(BaseModel):
    """What lies in the drawer now."""

    model_config = ConfigDict(extra="forbid", strict=True)
    float_fen: int = Field(ge=0, le=CASH_FEN_MAX, examples=[20000])


class Count(BaseModel):
    """What was counted; a note is welcome where it will not be the same."""

    model_config = ConfigDict(extra="forbid", strict=True)
    counted_fen: int = Field(ge=0, le=CASH_FEN_MAX, examples=[125000])
    note: Words = Field(default="", max_length=200, examples=["a coin of 1 yuan was torn"])


def shift_record(shift: Shift) -> dict[str, Any]:
    """A shift for programs; what must be there is null until it is closed."""
    return {
        "shift_id": str(shift.shift_id),
        "operator": shift.operator,
        "opened_at": shift.opened_at.isoformat(),
        "float_fen": shift.float_fen,
        "taken_fen": shift.taken_fen,
        "expected_fen": shift.expected_fen,
        "counted_fen": shift.counted_fen,
        "over_fen": shift.over_fen,
        "closed_at": None if shift.closed_at is None else shift.closed_at.isoformat(),
        "note": shift.note,
    }


@router.get("", summary="Shifts, the newest first")
async def listed(
    request: Request,
    response: Response,
    services: Asked,
    seller: Seller,
    after: AfterText = "",
    limit: Limit = 30,
) -> list[dict[str, Any]]:
    """Your own; everybody's for who approves and sees all properties."""
    of_all = seller.may(Permission.APPROVE) and seller.operator.sites is None
    async with services.database.transaction() as tx:
        found = await shifts.listing(
            tx,
            None if of_all else seller.operator.operator_id,
            before=instant_and_id(after),
            limit=limit + 1,
        )
    last = None
    if len(found) > limit:
        last = cursor(found[limit - 1].opened_at, found[limit - 1].shift_id)
    return [shift_record(one) for one in cut(request, response, found, last, limit)]


@router.post("", summary="Open a shift", status_code=201)
async def begin(
    services: Asked, seller: Seller, key: IdempotencyKey, wish: Float
) -> dict[str, Any]:
    """The key is its id: the same key again is the same shift. One at a time for each cashier."""
    at, number = services.clock.now(), seller.operator.operator_id
    async with services.database.transaction() as tx:
        till = await accounts.till_of(tx, number, at)
        begun = await shifts.begin(
            tx,
            key,
            number,
            float_fen=wish.float_fen,
            till_fen=await accounts.balance_fen(tx, till.account_id),
            at=at,
        )
        if begun:
            await desk_sessions.tell(tx, "shift-opened", at=at, operator_id=number)
        found = await shifts.find(tx, key)
        if found is None:
            raise Problem("shift-open-already")
        if (found.operator_id, found.float_fen) != (number, wish.float_fen):
            raise Problem("id-reused", detail=key)
    return shift_record(found)


@router.get("/current", summary="The shift you are in")
async def current(services: Asked, seller: Seller) -> dict[str, Any]:
    """404 where none is open."""
    async with services.database.transaction() as tx:
        found = await shifts.current(tx, seller.operator.operator_id)
    if found is None:
        raise Problem("no-such-shift", shift="now")
    return shift_record(found)


@router.post("/{shift_id}/close", summary="Close a shift with what was counted")
async def end(services: Asked, seller: Seller, shift_id: UUID, wish: Count) -> dict[str, Any]:
    """The answer says over or short. Once closed it stays: the same count again is answered alike,
    another one is refused."""
    at = services.clock.now()
    async with services.database.transaction() as tx:
        found = _own(await shifts.find(tx, shift_id), seller, shift_id)
        till = await accounts.till_of(tx, found.operator_id, at)
        ended = await shifts.end(
            tx,
            shift_id,
            counted_fen=wish.counted_fen,
            till_fen=await accounts.balance_fen(tx, till.account_id),
            note=wish.note,
            at=at,
        )
        if ended:
            await desk_sessions.tell(tx, "shift-closed", at=at, operator_id=found.operator_id)
        closed = _own(await shifts.find(tx, shift_id), seller, shift_id)
    if closed.counted_fen != wish.counted_fen:
        raise Problem("ended-already")
    return shift_record(closed)


def _own(found: Shift | None, seller: Caller, shift_id: UUID) -> Shift:
    if found is None or found.operator_id != seller.operator.operator_id:
        raise Problem("no-such-shift", shift=shift_id)
    return found
