"""Reports for programs: the same rows as JSON, CSV or XLSX, inside the scope of the token."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from headend.domain.problems import Problem
from headend.domain.reports import GROUPINGS, BadReport, Grouping, Report, ReportKind, Value
from headend.domain.roles import Caller
from headend.services.report_files import MEDIA_TYPES
from headend.services.reports import eyes_of
from headend.services.services import Services
from headend.store import reports
from headend.web.auth import Viewer
from headend.web.common import Asked

router = APIRouter(prefix="/api/v1", tags=["reports"])

# More rows than this are a file.
ROWS_MAX = 10_000


@router.get("/reports/{kind}", summary="One report", response_model=None)
async def report(
    services: Asked,
    viewer: Viewer,
    kind: ReportKind,
    first: Annotated[date, Query(description="first day", examples=["2026-03-01"])],
    last: Annotated[date, Query(description="last day, included", examples=["2026-03-31"])],
    by: Annotated[Grouping | None, Query(description="what a row stands for")] = None,
    site: Annotated[str | None, Query(description="one property")] = None,
    format: Literal["json", "csv", "xlsx"] = "json",  # noqa: A002  # the word of the address
) -> dict[str, Any] | Response:
    """Money in fen, energy in Wh, shares per mille; files write yuan, kWh and shares of one.

    What stands now (arrears, cards-out, unknown) does not look at the days.
    """
    asked = asked_report(services, viewer, kind, by=by, first=first, last=last, site=site)
    if format != "json":
        return await _file(services, asked, format)
    found: list[list[Any]] = []
    more = False
    async with services.database.transaction() as tx:
        async for row in reports.rows(tx, asked):
            more = len(found) == ROWS_MAX
            if more:
                break
            found.append([_plain(value) for value in row])
    return {
        "kind": kind.value,
        "by": None if asked.grouping is None else asked.grouping.value,
        "first": asked.first.isoformat(),
        "last": asked.last.isoformat(),
        "columns": [column.name for column in asked.columns],
        "rows": found,
        "more": more,
    }


def asked_report(
    services: Services,
    viewer: Caller,
    kind: ReportKind,
    *,
    by: Grouping | None,
    first: date,
    last: date,
    site: str | None,
) -> Report:
    """What somebody asks for, inside their scope. Raises Problem."""
    usual = GROUPINGS.get(kind)
    site_id = None
    if site is not None:
        known = services.lines.sites.get(site)
        if known is None or not viewer.may_touch(known.site_id):
            raise Problem("no-such-site", site=site)
        site_id = known.site_id
    try:
        return Report(
            kind=kind,
            grouping=(by or usual[0]) if usual else by,
            first=first,
            last=last,
            sites=eyes_of(viewer.operator),
            site_id=site_id,
        )
    except BadReport as error:
        raise Problem("bad-report", detail=error) from error


async def _file(services: Services, asked: Report, kind: str) -> FileResponse:
    if services.reports is None:
        raise Problem("no-such-report")
    path = services.reports.folder / "now" / f"{uuid4()}.{kind}"
    await services.reports.write(asked, kind, "en", path)
    return FileResponse(
        path,
        filename=f"{asked.name}.{kind}",
        media_type=MEDIA_TYPES[kind],
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def _plain(value: Value) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value
