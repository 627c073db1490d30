"""Reports by themselves, and files that are made by and by."""

from __future__ import annotations

import re
from datetime import date, time
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.problems import Problem
from headend.domain.reports import GROUPINGS, Cadence, Grouping, ReportKind
from headend.domain.roles import Caller, Permission
from headend.services.report_files import MEDIA_TYPES
from headend.services.reports import FOLDER
from headend.services.services import Services
from headend.store import report_schedules
from headend.store.database import Transaction
from headend.store.report_schedules import NewSchedule, Run, Schedule
from headend.web.api_reports import asked_report
from headend.web.auth import IdempotencyKey, Reporter, Viewer
from headend.web.common import Asked, Words
from headend.web.edits import (
    AfterText,
    IfMatch,
    Limit,
    cursor,
    cut,
    fingerprint,
    instant_and_id,
    paged,
    same,
    tag,
)

router = APIRouter(prefix="/api/v1", tags=["reports"])

_MAIL = re.compile(r"[^\s@,;<>\"]{1,64}@[^\s@,;<>\"]{1,190}\.[^\s@,;<>\"]{2,}")
ScheduleId = Annotated[int, Path(ge=0, le=2**31 - 1)]


class ScheduleWish(BaseModel):
    """A report by itself: each day, each Monday, each first of a month."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[Words, Field(min_length=1, max_length=60)] = Field(examples=["Morning sales"])
    kind: ReportKind = Field(examples=["turnover"])
    by: Grouping | None = Field(default=None, examples=["day"])
    site: str | None = Field(default=None, description="null: all the owner may see")
    format: Literal["csv", "xlsx"] = "xlsx"
    language: Literal["zh", "en"] = "zh"
    cadence: Cadence = Field(examples=["day"])
    at_time: time = Field(examples=["07:00"])
    folder: Words = Field(default="", description="one folder name under that of the reports")
    mail_to: list[str] = Field(default_factory=list, max_length=10)


class FileWish(BaseModel):
    """Which report, over which days, as which file."""

    model_config = ConfigDict(extra="forbid")
    kind: ReportKind = Field(examples=["turnover"])
    by: Grouping | None = Field(default=None, examples=["day"])
    first: date = Field(examples=["2026-03-01"])
    last: date = Field(examples=["2026-03-31"])
    site: str | None = None
    format: Literal["csv", "xlsx"] = "xlsx"
    language: Literal["zh", "en"] = "zh"


def _schedule_record(services: Services, one: Schedule) -> dict[str, Any]:
    return {
        "schedule_id": one.schedule_id,
        "name": one.name,
        "kind": one.kind.value,
        "by": None if one.grouping is None else one.grouping.value,
        "site": _site_name(services, one.site_id),
        "format": one.format,
        "language": one.language,
        "cadence": one.cadence.value,
        "at_time": one.at_time.isoformat("minutes"),
        "folder": one.folder,
        "mail_to": list(one.mail_to),
        "owner": one.owner,
        "created_at": one.created_at.isoformat(),
    }


def _run_record(services: Services, run: Run) -> dict[str, Any]:
    return {
        "run_id": str(run.run_id),
        "schedule": run.schedule,
        "kind": run.kind.value,
        "by": None if run.grouping is None else run.grouping.value,
        "site": _site_name(services, run.site_id),
        "first": run.first.isoformat(),
        "last": run.last.isoformat(),
        "format": run.format,
        "language": run.language,
        "state": run.state,
        "rows": run.rows,
        "note": run.note,
        "operator": run.operator,
        "asked_at": run.asked_at.isoformat(),
        "ended_at": None if run.ended_at is None else run.ended_at.isoformat(),
    }


@router.get("/report-schedules", summary="Reports that are made by themselves")
async def listed(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: AfterText = "",
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """By name: your own, and those about a property you may see."""
    async with services.database.transaction() as tx:
        found = await report_schedules.schedules(tx, _sites(viewer), viewer.operator.operator_id)
    page = paged(request, response, found, key=lambda one: one.name, after=after, limit=limit)
    return [_schedule_record(services, one) for one in page]


@router.post("/report-schedules", summary="Have a report made by itself", status_code=201)
async def add(
    services: Asked, reporter: Reporter, wish: ScheduleWish, response: Response
) -> dict[str, Any]:
    """Into a folder, and by mail where a mail server is set. 409 where the name is taken."""
    new = _wanted(services, reporter, wish)
    async with services.database.transaction() as tx:
        number = await report_schedules.add_schedule(tx, new, services.clock.now())
        if number is None:
            raise Problem("schedule-name-taken", name=wish.name)
        made = await _schedule(tx, reporter, number)
    return _tagged(services, response, made)


@router.get("/report-schedules/{schedule_id}", summary="One report that is made by itself")
async def one(
    services: Asked, viewer: Viewer, schedule_id: ScheduleId, response: Response
) -> dict[str, Any]:
    """With its ETag."""
    async with services.database.transaction() as tx:
        found = await _schedule(tx, viewer, schedule_id)
    return _tagged(services, response, found)


@router.post("/report-schedules/{schedule_id}/end", summary="It is made no more")
async def end(
    services: Asked, reporter: Reporter, schedule_id: ScheduleId, version: IfMatch
) -> dict[str, Any]:
    """Its files stay. To change one: end it and make another."""
    async with services.database.transaction() as tx:
        found = await _schedule(tx, reporter, schedule_id)
        same(version, _version(services, found))
        ended = await report_schedules.end_schedule(
            tx,
            schedule_id,
            _sites(reporter),
            by=reporter.operator.operator_id,
            at=services.clock.now(),
        )
    if not ended:
        raise Problem("no-such-report")
    return {"schedule_id": schedule_id, "ended": True}


@router.get("/report-files", summary="Files that were asked for, the newest first")
async def files(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: AfterText = "",
    limit: Limit = 50,
) -> list[dict[str, Any]]:
    """Your own; everybody's for who audits all properties."""
    async with services.database.transaction() as tx:
        found = await report_schedules.runs(
            tx,
            viewer.operator.operator_id,
            see_all=_sees_all(viewer),
            before=instant_and_id(after),
            limit=limit + 1,
        )
    last = None
    if len(found) > limit:
        last = cursor(found[limit - 1].asked_at, found[limit - 1].run_id)
    return [_run_record(services, run) for run in cut(request, response, found, last, limit)]


@router.post("/report-files", summary="Have a long report made into a file", status_code=202)
async def ask(
    services: Asked, viewer: Viewer, key: IdempotencyKey, wish: FileWish
) -> dict[str, Any]:
    """The key is its id: follow it under /report-files/{id}, then take it from there."""
    report = asked_report(
        services,
        viewer,
        wish.kind,
        by=wish.by,
        first=wish.first,
        last=wish.last,
        site=wish.site,
    )
    if services.reports is None:
        raise Problem("no-such-report")
    async with services.database.transaction() as tx:
        await report_schedules.add_run(
            tx,
            run_id=key,
            asked_by=viewer.operator.operator_id,
            kind=report.kind,
            grouping=report.grouping,
            site_id=report.site_id,
            first=report.first,
            last=report.last,
            format=wish.format,
            language=wish.language,
            at=services.clock.now(),
        )
    services.reports.ask()
    return _run_record(services, await _run(services, viewer, key))


@router.get("/report-files/{run_id}", summary="How far a file is")
async def run(services: Asked, viewer: Viewer, run_id: UUID) -> dict[str, Any]:
    """`state`: waiting, running, done or failed; `rows` grows meanwhile."""
    return _run_record(services, await _run(services, viewer, run_id))


@router.get(
    "/report-files/{run_id}/content", summary="The file itself", response_class=FileResponse
)
async def content(services: Asked, viewer: Viewer, run_id: UUID) -> FileResponse:
    """CSV or XLSX. 404 until it is done."""
    found = await _run(services, viewer, run_id)
    folder = None if services.reports is None else services.reports.folder
    if folder is None or found.file is None or not (folder / found.file).is_file():
        raise Problem("no-such-report")
    path = folder / found.file
    name = path.name.removeprefix(f"{run_id}-")
    return FileResponse(path, filename=name, media_type=MEDIA_TYPES[found.format])


def _wanted(services: Services, reporter: Caller, wish: ScheduleWish) -> NewSchedule:
    if not wish.name.isprintable():
        raise Problem("bad-request", detail="name: letters that can be printed")
    if wish.folder and FOLDER.fullmatch(wish.folder) is None:
        raise Problem("bad-request", detail="folder: letters, digits, spaces and hyphens")
    if any(_MAIL.fullmatch(one) is None for one in wish.mail_to):
        raise Problem("bad-request", detail="mail_to: mail addresses")
    if wish.mail_to and (services.reports is None or services.reports.mailer is None):
        raise Problem("bad-request", detail="mail_to: no mail server is set")
    if wish.at_time.tzinfo is not None:
        raise Problem("bad-request", detail="at_time: on the wall clock, without an offset")
    if wish.by not in GROUPINGS.get(wish.kind, (None,)):
        raise Problem("bad-report", detail=f"{wish.kind.value} by that")
    site_id = None
    if wish.site is not None:
        site = services.lines.sites.get(wish.site)
        if site is None or not reporter.may_touch(site.site_id):
            raise Problem("no-such-site", site=wish.site)
        site_id = site.site_id
    return NewSchedule(
        name=wish.name,
        kind=wish.kind,
        grouping=wish.by,
        site_id=site_id,
        format=wish.format,
        language=wish.language,
        cadence=wish.cadence,
        at_time=wish.at_time,
        folder=wish.folder,
        mail_to=wish.mail_to,
        owner_id=reporter.operator.operator_id,
    )


async def _schedule(tx: Transaction, caller: Caller, schedule_id: int) -> Schedule:
    seen = await report_schedules.schedules(tx, _sites(caller), caller.operator.operator_id)
    found = next((one for one in seen if one.schedule_id == schedule_id), None)
    if found is None:
        raise Problem("no-such-report")
    return found


async def _run(services: Services, viewer: Caller, run_id: UUID) -> Run:
    async with services.database.transaction() as tx:
        found = await report_schedules.run(tx, run_id)
    if found is None or not (found.asked_by == viewer.operator.operator_id or _sees_all(viewer)):
        raise Problem("no-such-report")
    return found


def _version(services: Services, one: Schedule) -> int:
    return fingerprint(_schedule_record(services, one))


def _tagged(services: Services, response: Response, one: Schedule) -> dict[str, Any]:
    tag(response, _version(services, one))
    return _schedule_record(services, one)


def _sites(caller: Caller) -> list[int] | None:
    return None if caller.operator.sites is None else sorted(caller.operator.sites)


def _sees_all(viewer: Caller) -> bool:
    return viewer.operator.sites is None and viewer.may(Permission.AUDIT)


def _site_name(services: Services, site_id: int | None) -> str | None:
    named = (site.name for site in services.lines.sites.values() if site.site_id == site_id)
    return next(named, None)
