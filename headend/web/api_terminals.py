"""Recharge terminals: which there are, what they may sell alone, what they sold, what clashes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.problems import Problem
from headend.services.services import Services
from headend.services.terminal_caps import CapWish
from headend.services.terminal_facts import (
    TerminalFacts,
    forget_terminal,
    terminal_details,
    terminal_facts,
    terminal_place,
    terminal_places,
)
from headend.services.terminals import Terminals, recharges_of
from headend.store import terminals
from headend.store.terminal_looks import Tap
from headend.store.terminals import IssuedCap, StandingClash, TakenSale
from headend.web.auth import Approval, Configurer, Decider, Viewer, meter_for
from headend.web.common import Asked
from headend.web.edits import Page

router = APIRouter(prefix="/api/v1/terminals", tags=["cards"])


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewCap(_Strict):
    """What a terminal may sell while nobody answers it, until the end of its site's day."""

    card_fen: int = Field(description="at most this much to one card")
    total_fen: int = Field(description="at most this much in all")
    reason: str


class Settlement(_Strict):
    """What a person found out about a clash."""

    book: bool = Field(description="true: book the sale if its meter proves it; false: dismiss it")
    reason: str = Field(min_length=1)


@router.get("", summary="Every recharge terminal: on-line, last seen, cap, clashes that stand")
async def listing(services: Asked, caller: Viewer, page: Page) -> list[dict[str, Any]]:
    """One row a terminal. `records`: the number of the last record taken over; `cap`: its newest,
    null when it may sell nothing alone; `false_cards`: cards that could not prove themselves."""
    found = page.of(await terminal_facts(services, caller), key=lambda one: one.name)
    return [_facts_record(one) for one in found]


@router.get("/of/{terminal}", summary="One terminal: its caps, taps, clashes, the end of its log")
async def show(services: Asked, caller: Viewer, terminal: str) -> dict[str, Any]:
    """The row of the list; caps, records and taps are newest first, twenty of each."""
    details = await terminal_details(services, caller, terminal)
    return _facts_record(details.facts) | {
        "caps": [_cap_record(one) for one in details.caps],
        "log": [_sale_record(one) for one in details.log],
        "taps": [_tap_record(one) for one in details.taps],
        "standing": [_clash_record(one) for one in details.clashes],
    }


@router.post("/of/{terminal}/forget", summary="Take a terminal out of the places")
async def forget(services: Asked, caller: Configurer, terminal: str) -> dict[str, Any]:
    """It is answered no more; what it sold stays in the books. Not while meters are behind it."""
    await forget_terminal(services, caller, terminal)
    return {"terminal": terminal, "forgotten": True}


@router.post("/of/{terminal}/caps", summary="Issue a cap; needs a second person", status_code=201)
async def issue_cap(
    services: Asked, caller: Decider, approver: Approval, terminal: str, wish: NewCap
) -> dict[str, Any]:
    """It is sealed by the key service and sent at once, or when the terminal is back."""
    place, time_zone = terminal_place(services, caller, terminal)
    if approver is None:
        raise Problem("second-person-needed", meter=terminal, detail="a cap is money")
    if approver.operator.person == caller.operator.person:
        raise Problem("same-person", meter=terminal, detail="")
    service = _service(services)
    cap = await service.caps.issue(
        CapWish(
            terminal=place.registration or "",
            time_zone=time_zone,
            card_fen=wish.card_fen,
            total_fen=wish.total_fen,
            operator_id=caller.operator.operator_id,
            approver_id=approver.operator.operator_id,
            reason=wish.reason,
        )
    )
    return {"number": cap.number, "day": cap.day, "sent": await service.send_cap(place.name)}


@router.get("/recharges/{meter}", summary="The last twenty recharges of a meter")
async def recharges(services: Asked, caller: Viewer, meter: str) -> list[dict[str, Any]]:
    """As a terminal shows them, newest first."""
    at_work = meter_for(services, caller, meter)
    async with services.database.transaction() as tx:
        return await recharges_of(tx, at_work.known.meter_id)


@router.get("/clashes", summary="What nobody has settled yet, oldest first")
async def clashes(services: Asked, caller: Viewer, page: Page) -> list[dict[str, Any]]:
    """Every clash of a terminal the caller may see."""
    mine = {place.registration for place, _ in terminal_places(services, caller)}
    async with services.database.transaction() as tx:
        found = await terminals.clashes(tx)
    theirs = [one for one in found if one.terminal in mine]
    return [_clash_record(one) for one in page.of(theirs, key=lambda one: f"{one.clash_id:012}")]


@router.post("/clashes/{clash_id}/settle", summary="Book what the meter proves, or dismiss")
async def settle(
    services: Asked, caller: Decider, clash_id: int, wish: Settlement
) -> dict[str, Any]:
    """The clash stays in the books with who settled it and why."""
    mine = {place.registration for place, _ in terminal_places(services, caller)}
    async with services.database.transaction() as tx:
        found = await terminals.clash(tx, clash_id)
    if found is None or found.terminal not in mine:
        raise Problem("no-such-clash", clash=clash_id)
    await _service(services).merge.settle(
        clash_id, book=wish.book, reason=wish.reason, by=caller.operator.operator_id
    )
    return {"clash": clash_id, "settled": "booked" if wish.book else "dismissed"}


def _service(services: Services) -> Terminals:
    assert services.terminals is not None, "made at the start of every head-end"
    return services.terminals


def _facts_record(one: TerminalFacts) -> dict[str, Any]:
    return {
        "terminal": one.name,
        "site": one.site,
        "online": one.online,
        "last_seen_at": _text(one.last_seen_at),
        "last_tap_at": _text(one.last_tap_at),
        "records": one.records,
        "clashes": one.clashes,
        "false_cards": one.false_cards,
        "cap": None if one.cap is None else _cap_record(one.cap),
    }


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _tap_record(one: Tap) -> dict[str, Any]:
    return {
        "at": one.at.isoformat(),
        "card": one.serial.hex(),
        "meter": one.meter,
        "room": one.room,
        "command_id": str(one.command_id),
        "state": one.state,
        "amount_fen": one.amount_fen,
        "purchase_count": one.purchase_count,
    }


def _cap_record(one: IssuedCap) -> dict[str, Any]:
    cap = one.cap
    return {
        "number": cap.number,
        "day": cap.day,
        "card_fen": cap.card_fen,
        "total_fen": cap.total_fen,
        "first_sequence": cap.first_sequence,
        "valid_until_s": cap.valid_until_s,
        "issued_at": one.issued_at.isoformat(),
    }


def _sale_record(one: TakenSale) -> dict[str, Any]:
    sale = one.sale
    return {
        "sequence": sale.sequence,
        "cap": sale.cap,
        "card": sale.serial.hex(),
        "meter_number": sale.meter_number,
        "purchase_count": sale.purchase_count,
        "amount_fen": sale.amount_fen,
        "state": one.state,
        "taken_at": one.taken_at.isoformat(),
    }


def _clash_record(one: StandingClash) -> dict[str, Any]:
    return {
        "clash": one.clash_id,
        "terminal": one.terminal,
        "sequence": one.sequence,
        "code": one.code,
        "detail": one.detail,
        "found_at": one.found_at.isoformat(),
    }
