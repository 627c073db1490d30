"""The books: named operations with a reason, differences against the meters, clocks.

Above the limit an operation needs a second person: their own token in the header X-Approver-Token.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.books import Booked, NotBooked
from headend.domain.commands import Accepted
from headend.domain.roles import Caller
from headend.services import books, restore_clock
from headend.services.books import Wish, asker
from headend.services.reconcile import accept_meter
from headend.services.services import Services
from headend.store import accounts, reconcile
from headend.store.database import Transaction
from headend.web.api_orders import refusal
from headend.web.auth import Approval, Decider, IdempotencyKey, Seller, Taker, Viewer, meter_for
from headend.web.common import Asked, Because, Words
from headend.web.edits import PAGE_MAX, AfterText, Limit, cursor, paged
from headend.web.shown import command_record

router = APIRouter(prefix="/api/v1", tags=["books"])


class Money(BaseModel):
    """An amount for a meter, and why."""

    model_config = ConfigDict(extra="forbid", strict=True)
    meter: str = Field(examples=["A-101"])
    amount_fen: int = Field(examples=[5000])
    reason: Words = ""


class Move(Money):
    """From the wrong meter's books to the right one's customer."""

    to_meter: str


def _wish(caller: Caller, approver: Caller | None, key: UUID, money: Money) -> Wish:
    return Wish(
        transfer_id=key,
        amount_fen=money.amount_fen,
        operator_id=caller.operator.operator_id,
        approver_id=None if approver is None else approver.operator.operator_id,
        reason=money.reason,
    )


async def _booked(outcome: Awaitable[Booked | NotBooked], meter: str) -> dict[str, Any]:
    done = await outcome
    if isinstance(done, NotBooked):
        raise refusal(done, meter)
    moved = done.transfer
    return {
        "transfer_id": str(moved.transfer_id),
        "operation": moved.operation.value,
        "amount_fen": moved.amount_fen,
        "at": moved.at.isoformat(),
        "repeated": done.repeated,
    }


@router.post("/payments", summary="Take money that waits as balance", status_code=201)
async def payment(
    services: Asked, seller: Seller, key: IdempotencyKey, money: Money
) -> dict[str, Any]:
    """For instance while another sale to this meter is open; sold later with `from_balance`."""
    meter = meter_for(services, seller, money.meter)
    async with services.database.transaction() as tx:
        wish = _wish(seller, None, key, money)
        paid = books.payment(tx, wish, services.clock, meter_id=meter.known.meter_id)
        return await _booked(paid, money.meter)


@router.post("/refunds", summary="Pay back what waits as balance", status_code=201)
async def refund(
    services: Asked, taker: Taker, approver: Approval, key: IdempotencyKey, money: Money
) -> dict[str, Any]:
    """What is reserved for a sale is not touched: cancel or burn that first."""
    meter = meter_for(services, taker, money.meter)
    async with services.database.transaction() as tx:
        wish = _wish(taker, approver, key, money)
        given = books.refund(tx, wish, services.clock, meter_id=meter.known.meter_id)
        return await _booked(given, money.meter)


@router.post("/moves", summary="Money was sold to the wrong meter", status_code=201)
async def move(
    services: Asked, decider: Decider, approver: Approval, key: IdempotencyKey, wanted: Move
) -> dict[str, Any]:
    """The right customer's balance grows; the wrong meter keeps its credit."""
    wrong = meter_for(services, decider, wanted.meter)
    right = meter_for(services, decider, wanted.to_meter)
    async with services.database.transaction() as tx:
        moved = books.move(
            tx,
            _wish(decider, approver, key, wanted),
            services.clock,
            from_meter_id=wrong.known.meter_id,
            to_meter_id=right.known.meter_id,
        )
        return await _booked(moved, wanted.meter)


@router.post("/meters/{meter}/burn", summary="End the open sale without crediting it")
async def burn(
    services: Asked, taker: Taker, approver: Approval, meter: str, because: Because
) -> dict[str, Any]:
    """Its count is sent once more with amount 0; when the meter proves it, the money is balance."""
    known = meter_for(services, taker, meter).known
    async with services.database.transaction() as tx:
        outcome = await services.decisions.burn(
            tx,
            known.meter_id,
            operator_id=taker.operator.operator_id,
            reason=because.reason,
            approver_id=None if approver is None else approver.operator.operator_id,
        )
    if not isinstance(outcome, Accepted):
        raise refusal(outcome, meter)
    return command_record(services.lines, outcome.command)


@router.get("/meters/{meter}/account", summary="What a customer has paid and not yet in the meter")
async def account(services: Asked, viewer: Viewer, meter: str) -> dict[str, Any]:
    """`available_fen` may be sold or refunded; the rest is reserved for an open sale."""
    known = meter_for(services, viewer, meter).known
    async with services.database.transaction() as tx:
        at = services.clock.now()
        customer = await accounts.customer_of_meter(tx, known.meter_id, at)
        held = await accounts.balance(tx, customer.account_id)
        credited = await accounts.account_of_meter(tx, known.meter_id, at)
        posted_fen = await accounts.balance_fen(tx, credited.account_id)
    return {
        "meter": meter,
        "balance_fen": held.posted_fen,
        "available_fen": held.available_fen,
        "posted_fen": posted_fen,
    }


@router.get("/differences", summary="Where the meters and the books tell different stories")
async def differences(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: AfterText = "",
    limit: Limit = PAGE_MAX,
) -> list[dict[str, Any]]:
    """Typed and aged, the oldest first; a meter ahead of the books has its sales frozen."""
    async with services.database.transaction() as tx:
        found = await reconcile.open_differences(tx)
    mine = [one for one in found if _may_see(services, viewer, one.meter_id)]
    page = paged(
        request,
        response,
        mine,
        key=lambda one: cursor(one.first_seen_at, f"{one.difference_id:012}"),
        after=after,
        limit=limit,
    )
    return [
        {
            "meter": one.meter,
            "kind": one.kind.value,
            "detail": one.detail,
            "first_seen_at": one.first_seen_at.isoformat(),
            "last_seen_at": one.last_seen_at.isoformat(),
        }
        for one in page
    ]


def _may_see(services: Services, caller: Caller, meter_id: int) -> bool:
    meter = services.lines.by_id.get(meter_id)
    return meter is not None and caller.may_touch_meter(meter.known)


@router.post("/meters/{meter}/accept", summary="What the meter shows is right: sell again")
async def accept(
    services: Asked, decider: Decider, approver: Approval, meter: str, because: Because
) -> dict[str, Any]:
    """Its books begin anew at what it shows now. No money moves; book a correction for that."""
    known = meter_for(services, decider, meter).known
    async with services.database.transaction() as tx:
        refused = await accept_meter(
            tx,
            known.meter_id,
            services.clock,
            asked_by=await asker(tx, decider.operator.operator_id),
            approved_by=await _second(tx, approver),
            reason=because.reason,
        )
        if refused is not None:
            raise refusal(refused, meter)
    return {"meter": meter, "accepted": True}


async def _second(tx: Transaction, approver: Caller | None) -> Any:
    return None if approver is None else await asker(tx, approver.operator.operator_id)


@router.get("/restore-clocks", summary="Who has paid and is still dark, since when")
async def clocks(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: AfterText = "",
    limit: Limit = PAGE_MAX,
) -> list[dict[str, Any]]:
    """From money received to light on, longest first; a silent meter escalates at stated times."""
    async with services.database.transaction() as tx:
        running = await restore_clock.restore_clocks(tx, services.clock.now())
    page = paged(
        request,
        response,
        [one for one in running if _may_see(services, viewer, one.chain.meter_id)],
        key=lambda one: cursor(one.chain.paid_at, one.chain.command_id),
        after=after,
        limit=limit,
    )
    return [
        {
            "command_id": str(one.chain.command_id),
            "meter": one.chain.meter,
            "amount_fen": one.chain.amount_fen,
            "paid_at": one.chain.paid_at.isoformat(),
            "stage": one.stage,
            "running_s": one.running_s,
            "waits_for": one.chain.waits_for,
        }
        for one in page
    ]
