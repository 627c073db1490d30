"""Cards: the desk carries commands to its reader, we make them. No key ever leaves the key service.

Work begins with an idempotency key of the desk's own, which is the id of the session and of what is
sold in it: the same key again is the same purchase.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.cards import MAY_ISSUE
from headend.domain.commands import Accepted, Rejected
from headend.domain.problems import Problem
from headend.domain.roles import Caller, Permission
from headend.services.card_bearers import BearerWish
from headend.services.card_counter import AtDesk, CardCounter, Work, issue_record
from headend.services.card_sessions import Step
from headend.services.cards import CardSale
from headend.services.services import Services
from headend.store import cards
from headend.web.auth import Approval, IdempotencyKey, Seller, Taker, Viewer, meter_for, who_may
from headend.web.common import Asked
from headend.web.edits import Page
from headend.web.shown import command_record
from protocols.card_image import CardKind

router = APIRouter(prefix="/api/v1/cards", tags=["cards"])

Action = Literal[
    "read", "make", "opening", "purchase", "make_up", "finish", "replacement", "take_back",
    "clear_card", "parameter", "preset", "clear", "check",
]  # fmt: skip
_SALES = {"opening", "purchase", "make_up"}
_RIGHTS = {
    "read": Permission.READ_METER,
    "make": Permission.SELL,
    "finish": Permission.SELL,
    "take_back": Permission.TAKE_BACK,
    "clear_card": Permission.SELL,
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Wish(_Strict):
    """What is to be done with the card on the reader."""

    action: Action
    meter: str = Field(examples=["A-101"])
    amount_fen: int = 0
    alarm_1_fen: int = 0
    alarm_2_fen: int = 0
    days: int = Field(default=1, description="how long a bearer card is good")
    whole_area: bool = Field(default=False, description="a bearer card for every meter")
    from_balance: bool = False
    new_card: bool = Field(default=False, description="a blank card is made ours first")
    reason: str = ""


class Said(_Strict):
    """What the card said, or that it was pulled."""

    answer: str | None = Field(default=None, description="hex: data and status")
    gone: bool = False


class Paper(_Strict):
    """A card sale that goes another way."""

    meter: str
    reason: str = Field(min_length=1)


def _counter(services: Services) -> CardCounter:
    if services.cards is None:
        raise Problem("cards-off")
    return services.cards


def _shown(key: UUID, step: Step) -> dict[str, Any]:
    if step.command is not None:
        return {
            "session": str(key),
            "apdu": step.command.command.hex(),
            "label": step.command.label,
        }
    return {"session": str(key), "done": step.done}


def right_for(action: str) -> Permission:
    """What somebody needs who begins this work."""
    return _RIGHTS.get(action) or MAY_ISSUE[CardKind[action.upper()]]


Reading = Annotated[Caller, Depends(who_may(Permission.READ_METER))]


@router.post("/sessions", summary="Begin work with the card on a reader")
async def begin(
    services: Asked, caller: Reading, approval: Approval, key: IdempotencyKey, wish: Wish
) -> dict[str, Any]:
    """A command for the card (`apdu`), or the end (`done`). 409 with a code says why not."""
    counter = _counter(services)
    right = right_for(wish.action)
    if not caller.may(right):
        raise Problem(
            "not-allowed",
            operator=caller.operator.name,
            role=caller.operator.role.value,
            action=right.value,
        )
    meter = meter_for(services, caller, wish.meter)
    at = AtDesk(
        operator_id=caller.operator.operator_id,
        approver_id=None if approval is None else approval.operator.operator_id,
        meter_id=meter.known.meter_id,
        meter=wish.meter,
        meter_type=meter.known.meter_type,
    )
    work = work_of(counter, at, wish, key)
    return _shown(key, await counter.sessions.begin(caller.operator.operator_id, key, work))


def work_of(counter: CardCounter, at: AtDesk, wish: Wish, key: UUID) -> Work:
    """The work that a wish asks for; `key` is the id of whatever it makes."""
    if wish.action in _SALES or wish.action == "replacement":
        sale = CardSale(
            issue_id=key,
            meter_id=at.meter_id,
            serial=b"",
            amount_fen=wish.amount_fen,
            key_version=0,
            operator_id=at.operator_id,
            approver_id=at.approver_id,
            reason=wish.reason,
            kind=CardKind[wish.action.upper()],
        )
        if wish.action == "replacement":
            return counter.replaced(at, sale)
        return counter.sell(at, sale, from_balance=wish.from_balance, new_card=wish.new_card)
    simple = {
        "read": counter.read,
        "make": counter.make,
        "finish": counter.finished,
        "clear_card": counter.cleared,
    }
    if wish.action in simple:
        return simple[wish.action](at)
    if wish.action == "take_back":
        return counter.taken_back(at, wish.reason)
    return counter.bearer(
        at,
        BearerWish(
            issue_id=key,
            serial=b"",
            kind=CardKind[wish.action.upper()],
            key_version=0,
            operator_id=at.operator_id,
            approver_id=at.approver_id,
            meter_id=None if wish.whole_area else at.meter_id,
            reason=wish.reason,
            days=wish.days,
            amount_fen=wish.amount_fen,
            alarm_1_fen=wish.alarm_1_fen,
            alarm_2_fen=wish.alarm_2_fen,
        ),
    )


@router.post("/sessions/{session}", summary="What the card answered; the next command or the end")
async def answer(services: Asked, caller: Reading, session: UUID, said: Said) -> dict[str, Any]:
    """`gone` when the card was pulled: what it holds is then found out by reading it again."""
    try:
        raw = None if said.gone or said.answer is None else bytes.fromhex(said.answer)
    except ValueError:
        raise Problem("bad-request", detail="answer is not hex") from None
    counter = _counter(services)
    step = await counter.sessions.answer(caller.operator.operator_id, session, raw)
    return _shown(session, step)


@router.get("/desk", summary="Work that was begun in a browser and waits for this desk's reader")
async def desk_work(services: Asked, caller: Reading) -> dict[str, Any]:
    """Waits up to 20 s. `session` null: nothing came. Else the first command of that session."""
    found = await _counter(services).works.next_for(caller.operator.operator_id)
    if found is None or found.waiting is None:
        return {"session": None}
    return _shown(found.session, Step(command=found.waiting))


@router.post("/lost", summary="The tenant's card is gone: it is never written again")
async def lost(services: Asked, seller: Seller, wish: Paper) -> dict[str, Any]:
    """A sale on it stays open: whoever finds the card may use it. Reissue, move or burn it."""
    meter_id = meter_for(services, seller, wish.meter).known.meter_id
    async with services.database.transaction() as tx:
        outcome = await _counter(services).returns.report_loss(tx, meter_id, reason=wish.reason)
    if isinstance(outcome, Rejected):
        raise Problem(outcome.why.value, meter=wish.meter, detail=outcome.detail)
    return {"meter": wish.meter, "serial": outcome.serial.hex()}


@router.get("/out", summary="Cards that are out: whoever holds one may still use it")
async def out(
    services: Asked, caller: Viewer, page: Page, meter: str | None = None
) -> list[dict[str, Any]]:
    """Longest first; all of the caller's sites, or of one meter."""
    wanted = None if meter is None else meter_for(services, caller, meter).known.meter_id
    async with services.database.transaction() as tx:
        found = await cards.out(tx, meter_id=wanted)
    mine = [issue for issue in found if _may_see(services, caller, issue.meter_id)]
    return [
        issue_record(issue) for issue in page.of(mine, key=lambda one: f"{one.issue_number:012}")
    ]


def _may_see(services: Services, caller: Caller, meter_id: int | None) -> bool:
    if meter_id is None:
        return caller.operator.sites is None
    meter = services.lines.by_id.get(meter_id)
    return meter is not None and caller.may_touch_meter(meter.known)


@router.post("/move", summary="Offer an open card sale on the line too", status_code=202)
async def move(services: Asked, seller: Seller, wish: Paper) -> dict[str, Any]:
    """The same count, the same amount: whichever comes first credits, the other does nothing."""
    meter_id = meter_for(services, seller, wish.meter).known.meter_id
    async with services.database.transaction() as tx:
        outcome = await _counter(services).returns.move_to_remote(
            tx, meter_id, operator_id=seller.operator.operator_id, reason=wish.reason
        )
    return _ordered(services, outcome, wish.meter)


@router.post("/burn", summary="End an open card sale: its count with amount 0", status_code=202)
async def burn(services: Asked, taker: Taker, approval: Approval, wish: Paper) -> dict[str, Any]:
    """Its money is free once the meter has taken the count; if the card came first, it was sold."""
    meter_id = meter_for(services, taker, wish.meter).known.meter_id
    async with services.database.transaction() as tx:
        outcome = await _counter(services).returns.burn(
            tx,
            meter_id,
            operator_id=taker.operator.operator_id,
            reason=wish.reason,
            approver_id=None if approval is None else approval.operator.operator_id,
        )
    return _ordered(services, outcome, wish.meter)


@router.post("/{issue_id}/revoke", summary="A bearer card is not to be accepted any more")
async def revoke(services: Asked, taker: Taker, issue_id: UUID, wish: Paper) -> dict[str, Any]:
    """In the books; meters need a new key version of the area."""
    meter_for(services, taker, wish.meter)
    async with services.database.transaction() as tx:
        outcome = await _counter(services).bearers.revoke(tx, issue_id, wish.reason)
    if isinstance(outcome, Rejected):
        raise Problem(outcome.why.value, meter=wish.meter, detail=outcome.detail)
    return issue_record(outcome)


def _ordered(services: Services, outcome: Accepted | Rejected, meter: str) -> dict[str, Any]:
    if isinstance(outcome, Rejected):
        raise Problem(outcome.why.value, meter=meter, detail=outcome.detail)
    return command_record(services.lines, outcome.command) | {"repeated": outcome.repeated}
