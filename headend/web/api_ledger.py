"""The ledger over HTTP: its rows, a day's takings, the seals, and who did what."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from headend.domain.problems import Problem
from headend.domain.roles import Caller, Permission
from headend.services.seals import verify_database
from headend.store import desk_days, seals
from headend.store.desk_days import Line
from headend.web.auth import Auditor, Viewer, meter_for
from headend.web.common import Asked, Words
from headend.web.desk import zone_of
from headend.web.edits import BAD_CURSOR, After, AfterText, Limit, cursor, cut

router = APIRouter(prefix="/api/v1", tags=["books"])


async def _of_everything(auditor: Auditor) -> Caller:
    """The chain runs through all properties: who may see some of them may not see it."""
    if auditor.operator.sites is not None:
        raise Problem(
            "not-allowed",
            operator=auditor.operator.name,
            role=auditor.operator.role.value,
            action=Permission.AUDIT.value,
        )
    return auditor


WholeAuditor = Annotated[Caller, Depends(_of_everything)]


def line_record(line: Line) -> dict[str, Any]:
    """A row of the books for programs."""
    return {
        "entry_no": line.entry_no,
        "at": line.at.isoformat(),
        "operation": line.operation.value,
        "phase": line.phase.value,
        "meter": line.meter,
        "room": line.room,
        "amount_fen": line.amount_fen,
        "operator": line.operator,
        "approver": line.approver,
        "reason": line.reason,
        "command_id": None if line.command_id is None else str(line.command_id),
    }


@router.get("/ledger", summary="Rows of the books, the newest first")
async def lines(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: After = 0,
    limit: Limit = 100,
    meter: str | None = None,
) -> list[dict[str, Any]]:
    """Those about the meters the caller may see; nothing in the books is ever changed."""
    number = None if meter is None else meter_for(services, viewer, meter).known.meter_id
    async with services.database.transaction() as tx:
        found = await desk_days.ledger_lines(
            tx, viewer.operator.scope, before=after or None, meter_id=number, limit=limit + 1
        )
    last = found[limit - 1].entry_no if len(found) > limit else None
    return [line_record(line) for line in cut(request, response, found, last, limit)]


@router.get("/takings", summary="What each operator took and gave back on a day")
async def takings(
    services: Asked,
    viewer: Viewer,
    day: Annotated[date | None, Query(description="default: today")] = None,
) -> dict[str, Any]:
    """The daily close, fen. `posted_fen`: of their orders, what is proved in meters."""
    zone = zone_of(services)
    shown = day or services.clock.now().astimezone(zone).date()
    if shown >= date.max:
        raise Problem("bad-request", detail="day: no such day")
    begins = datetime.combine(shown, time(), tzinfo=zone)
    ends = datetime.combine(shown + timedelta(days=1), time(), tzinfo=zone)
    async with services.database.transaction() as tx:
        found = await desk_days.takings(tx, viewer.operator.scope, begins, ends)
    return {"day": shown.isoformat(), "takings": [asdict(one) for one in found]}


@router.get("/audit", summary="Who did what, the newest first")
async def audit(
    request: Request,
    response: Response,
    services: Asked,
    _auditor: WholeAuditor,
    after: AfterText = "",
    limit: Limit = 100,
    operator: Words = "",
) -> list[dict[str, Any]]:
    """Orders, money, bulk jobs and the desk, of one operator or all."""
    newest, given = _stopped_at(after) or (services.clock.now(), 0)
    async with services.database.transaction() as tx:
        found = await desk_days.who_did_what(
            tx,
            before=newest + timedelta(microseconds=1),
            operator=operator or None,
            limit=given + limit + 1,
        )
    rows = found[given:]
    last = None
    if len(rows) > limit:
        # Many things may bear one instant: the cursor says how many of them were given out.
        at = rows[limit - 1].at
        last = cursor(at, sum(one.at == at for one in found[: given + limit]))
    return [
        asdict(one) | {"at": one.at.isoformat()}
        for one in cut(request, response, rows, last, limit)
    ]


def _stopped_at(after: str) -> tuple[datetime, int] | None:
    if not after:
        return None
    at, _, given = after.partition("~")
    try:
        instant = datetime.fromisoformat(at)
    except ValueError as error:
        raise Problem("bad-request", detail=BAD_CURSOR) from error
    if instant.tzinfo is None or not (given.isascii() and given.isdecimal() and len(given) < 7):
        raise Problem("bad-request", detail=BAD_CURSOR)
    return instant, int(given)


@router.get("/seals", summary="Days of the books that are sealed")
async def sealed(
    request: Request,
    response: Response,
    services: Asked,
    _auditor: WholeAuditor,
    after: Annotated[date, Query(description="the last day of the page before")] = date.min,
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """In the order of days; each holds yesterday's seal."""
    async with services.database.transaction() as tx:
        found = await seals.sealed_days(tx, after=after, limit=limit + 1)
    last = found[limit - 1].day.isoformat() if len(found) > limit else None
    return [
        {
            "day": one.day.isoformat(),
            "last_position": one.last_position,
            "seal_sha256": one.seal_sha256.hex(),
        }
        for one in cut(request, response, found, last, limit)
    ]


@router.post("/audit/verify", summary="Recompute every link and every seal")
async def verify(services: Asked, _auditor: WholeAuditor) -> dict[str, Any]:
    """It only reads; `fault` says where the books are not as they were made."""
    report = await verify_database(services.database)
    return {
        "is_sound": report.is_sound,
        "transfers": report.transfers,
        "events": report.events,
        "seals": report.seals,
        "fault": None if report.fault is None else str(report.fault),
    }
