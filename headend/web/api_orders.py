"""Money and switching: every call needs a token and an idempotency key of the caller's own.

The key is the id of the command: the same key is the same order, however often it is sent.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.books import NotBooked
from headend.domain.cases import Stopped
from headend.domain.commands import Accepted, CommandKind, Rejected
from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services.orders import SwitchOrder
from headend.services.selling import SaleWish, sell
from headend.services.services import Services
from headend.services.switching import spared
from headend.services.terms import AgainstTerms
from headend.store import commands, sales
from headend.web.auth import IdempotencyKey, Seller, Switcher, meter_for
from headend.web.common import Asked, Reason, Words
from headend.web.shown import command_record

router = APIRouter(prefix="/api/v1", tags=["money and supply"])


class _Strict(BaseModel):
    """Unknown fields are refused: a misspelt `amount` must not become a default."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TopUp(_Strict):
    """A sale: money taken now, or the customer's balance."""

    meter: str = Field(examples=["A-101"])
    amount_fen: int = Field(description="whole fen: 5000 is 50 yuan", examples=[5000])
    from_balance: bool = Field(default=False, description="the money was paid earlier")
    reason: Words = ""


class Switch(_Strict):
    """Cut or restore one meter."""

    meter: str = Field(examples=["A-101"])
    reason: Reason = Field(examples=["unpaid since March"])


def refusal(told: Rejected | NotBooked | AgainstTerms | Stopped, meter: str) -> Problem:
    """A "no" of the services as the problem people are told."""
    return Problem(told.why.value, meter=meter, detail=told.detail)


@router.post("/topups", summary="Sell: put money into a meter", status_code=202)
async def topup(
    services: Asked, seller: Seller, key: IdempotencyKey, wish: TopUp, response: Response
) -> dict[str, Any]:
    """202: the sale is booked and the order stands; follow it under /commands/{id}.

    It is sent once, and proved from the meter's own registers. 409 with a code says why not;
    nothing is booked then.
    """
    meter = meter_for(services, seller, wish.meter)
    outcome = await sell(
        services.database,
        services.orders,
        services.clock,
        SaleWish(
            command_id=key,
            meter_id=meter.known.meter_id,
            amount_fen=wish.amount_fen,
            operator_id=seller.operator.operator_id,
            reason=wish.reason,
            from_balance=wish.from_balance,
        ),
    )
    if not isinstance(outcome, Accepted):
        raise refusal(outcome, wish.meter)
    return _accepted(services, outcome, response)


@router.post("/cuts", summary="Cut: open the relay of a meter", status_code=202)
async def cut(
    services: Asked, switcher: Switcher, key: IdempotencyKey, wish: Switch, response: Response
) -> dict[str, Any]:
    """Looked at again right before it is sent: protection, friendly hours, payment in flight."""
    return await _switch(services, switcher, key, wish, CommandKind.CUT, response)


@router.post("/restores", summary="Restore: close the relay of a meter", status_code=202)
async def restore(
    services: Asked, switcher: Switcher, key: IdempotencyKey, wish: Switch, response: Response
) -> dict[str, Any]:
    """Closes the relay, proves it, and gives it back to the meter's own controls."""
    return await _switch(services, switcher, key, wish, CommandKind.RESTORE, response)


@router.post("/pulses", summary="Pulse test: cut a circuit, then restore it", status_code=202)
async def pulse(
    services: Asked, switcher: Switcher, key: IdempotencyKey, wish: Switch, response: Response
) -> dict[str, Any]:
    """A cut by the rules of every cut. Light is ordered in the transaction that proves it, and
    goes out as soon as the relay may move again (ten minutes); its command has the cut's as cause.
    A meter that is dark already is spared as by every cut, so a test never lights it."""
    return await _switch(services, switcher, key, wish, CommandKind.CUT, response, pulse=True)


async def _switch(
    services: Services,
    caller: Caller,
    key: UUID,
    wish: Switch,
    kind: CommandKind,
    response: Response,
    *,
    pulse: bool = False,
) -> dict[str, Any]:
    meter = meter_for(services, caller, wish.meter)
    async with services.database.transaction() as tx:
        # The same id again is the same order: what it did meanwhile is no objection to it, not
        # even in the same instant.
        await sales.lock_meter(tx, meter.known.meter_id)
        if kind is CommandKind.CUT and await commands.find(tx, key) is None:
            objection = await spared(tx, meter.known.meter_id, kind, services.clock, None)
            if objection is not None:
                raise Problem(
                    "spared",
                    meter=wish.meter,
                    rule=objection.rule.value,
                    detail=objection.detail,
                )
        outcome = await services.orders.switch(
            tx,
            SwitchOrder(
                command_id=key,
                meter_id=meter.known.meter_id,
                kind=kind,
                operator_id=caller.operator.operator_id,
                reason=wish.reason,
                pulse=pulse,
            ),
        )
    if isinstance(outcome, Rejected):
        raise refusal(outcome, wish.meter)
    return _accepted(services, outcome, response)


def _accepted(services: Services, outcome: Accepted, response: Response) -> dict[str, Any]:
    if outcome.repeated:
        response.status_code = 200
    return command_record(services.lines, outcome.command) | {"repeated": outcome.repeated}
