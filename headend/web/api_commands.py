"""Commands: where each is, what proves it, and what a person may decide about it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from headend.domain.commands import Accepted, Command, CommandState, Rejected
from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services.decisions import Verdict
from headend.services.services import Services
from headend.store import attempts, command_events, commands
from headend.store.database import Transaction
from headend.web.api_orders import refusal
from headend.web.auth import Approval, Decider, Taker, Viewer, meter_for
from headend.web.common import Asked, Because
from headend.web.edits import AfterText, Limit, cursor, cut, instant_and_id
from headend.web.shown import attempt_records, command_record, event_record

router = APIRouter(prefix="/api/v1/commands", tags=["commands"])

# A stream asks the database itself this often: a notice may be lost with its connection.
STREAM_LOOK_S = 1.0


class Decision(Because):
    """What a person found out about an escalated command."""

    carried_out: bool = Field(description="the meter did as ordered")


async def _visible(
    services: Services, tx: Transaction, caller: Caller, command_id: UUID
) -> Command:
    command = await commands.find(tx, command_id)
    meter = services.lines.by_id.get(command.meter_id) if command else None
    if command is None or meter is None or not caller.may_touch_meter(meter.known):
        raise Problem("no-such-command", detail=command_id)
    return command


@router.get("", summary="Commands, the newest first")
async def listing(  # which, and which page of them
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: AfterText = "",
    limit: Limit = 100,
    meter: Annotated[str | None, Query()] = None,
    state: Annotated[CommandState | None, Query()] = None,
) -> list[dict[str, Any]]:
    """Open and ended; `state=unknown` and `state=escalated` are the ones to look at."""
    known = services.lines.by_id
    mine = [one for one, at_work in known.items() if viewer.may_touch_meter(at_work.known)]
    if meter is not None:
        mine = [meter_for(services, viewer, meter).known.meter_id]
    async with services.database.transaction() as tx:
        found = await commands.listing(
            tx,
            meter_ids=mine,
            states=None if state is None else {state},
            before=instant_and_id(after),
            limit=limit + 1,
        )
    last = None
    if len(found) > limit:
        last = cursor(found[limit - 1].ordered_at, found[limit - 1].command_id)
    return [
        command_record(services.lines, one) for one in cut(request, response, found, last, limit)
    ]


@router.get("/events", summary="What becomes of commands, as server-sent events")
async def events(
    services: Asked,
    viewer: Viewer,
    last_event_id: Annotated[int | None, Header()] = None,
    after: Annotated[int | None, Query(description="as Last-Event-ID; 0: all")] = None,
) -> StreamingResponse:
    """One event for each change of state. `stage` is paid, sent, in_meter or light_on.

    Reconnect with Last-Event-ID and nothing is missed; without it the stream begins now.
    """
    begin = last_event_id if last_event_id is not None else after
    if begin is None:
        async with services.database.transaction() as tx:
            begin = await command_events.last_event_id(tx)
    return StreamingResponse(
        _stream(services, viewer, begin),
        media_type="text/event-stream",
        headers={"cache-control": "no-store"},
    )


async def _stream(services: Services, viewer: Caller, after: int) -> AsyncIterator[str]:
    while True:
        async with services.database.transaction() as tx:
            found = await command_events.events(tx, after)
        for event in found:
            after = event.event_id
            meter = services.lines.by_id.get(event.meter_id)
            if meter is None or not viewer.may_touch_meter(meter.known):
                continue
            record = event_record(event) | {"meter": meter.known.name}
            text = json.dumps(record, ensure_ascii=False)
            yield f"id: {event.event_id}\nevent: command\ndata: {text}\n\n"
        if not found:
            yield ": still here\n\n"
            await asyncio.sleep(STREAM_LOOK_S)


@router.get("/{command_id}", summary="One command with its evidence")
async def one(services: Asked, viewer: Viewer, command_id: UUID) -> dict[str, Any]:
    """Its states with instants, each try with what the meter showed before and after, frames."""
    async with services.database.transaction() as tx:
        command = await _visible(services, tx, viewer, command_id)
        tries = await attempts.of_command(tx, command_id)
        history = await command_events.events_of(tx, command_id)
    return command_record(services.lines, command) | {
        "tries": attempt_records(tries),
        "events": [event_record(event) for event in history],
    }


@router.post("/{command_id}/cancel", summary="Take back an order that still waits")
async def cancel(
    services: Asked, taker: Taker, approver: Approval, command_id: UUID, because: Because
) -> dict[str, Any]:
    """The money of a top-up returns to the balance as soon as no copy of it can land any more."""
    async with services.database.transaction() as tx:
        await _visible(services, tx, taker, command_id)
        outcome = await services.decisions.cancel(
            tx,
            command_id,
            operator_id=taker.operator.operator_id,
            reason=because.reason,
            approver_id=None if approver is None else approver.operator.operator_id,
        )
    return _answer(services, command_id, outcome)


@router.post("/{command_id}/decide", summary="End an escalated command by a person's word")
async def decide(
    services: Asked, decider: Decider, approver: Approval, command_id: UUID, said: Decision
) -> dict[str, Any]:
    """After looking at the meter: both looks and the frames are under `tries`."""
    async with services.database.transaction() as tx:
        await _visible(services, tx, decider, command_id)
        outcome = await services.decisions.decide(
            tx,
            Verdict(
                command_id=command_id,
                carried_out=said.carried_out,
                operator_id=decider.operator.operator_id,
                reason=said.reason,
                approver_id=None if approver is None else approver.operator.operator_id,
            ),
        )
    return _answer(services, command_id, outcome)


def _answer(services: Services, command_id: UUID, outcome: Accepted | Rejected) -> dict[str, Any]:
    if isinstance(outcome, Rejected):
        raise refusal(outcome, str(command_id))
    return command_record(services.lines, outcome.command)
