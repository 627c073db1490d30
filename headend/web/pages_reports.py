"""Reports: on a page with a chart, as a file now, as a file by and by, and by schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from headend.domain.problems import Problem
from headend.domain.reports import (
    DAYS_MAX,
    GROUPINGS,
    OF_NOW,
    TITLES,
    BadReport,
    Cadence,
    Grouping,
    Report,
    ReportKind,
)
from headend.domain.roles import Permission
from headend.services.report_files import FORMATS, MEDIA_TYPES, Totals
from headend.services.reports import ReportDesk
from headend.services.services import Services
from headend.store import report_schedules, reports
from headend.store.report_schedules import Run, Schedule
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Viewer, Visitor
from headend.web.report_views import ROWS_SHOWN, CellView, cell, charts, totals_row

router = APIRouter(include_in_schema=False)

DAYS: Final = 31
RUNS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportsView:
    """What can be asked, what is made by itself, what was made."""

    kinds: Sequence[tuple[ReportKind, str]]
    groupings: Sequence[Grouping]
    schedules: Sequence[Schedule]
    runs: Sequence[Run]
    titles: dict[str, str]
    sites: Sequence[tuple[int, str]]
    cadences: Sequence[Cadence]
    mails: bool
    may_schedule: bool
    done: bool = False
    form: Form = field(default_factory=Form)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportView:
    """One report. `query`: the same question, for a file."""

    report: Report
    title: str
    groupings: Sequence[Grouping]
    of_now: bool
    sites: Sequence[tuple[int, str]]
    titles: Sequence[CellView]
    rows: Sequence[Sequence[CellView]]
    totals: Sequence[CellView]
    count: int
    more: bool
    charts: Sequence[tuple[str, dict[str, Any]]]
    query: str
    run_id: UUID


def report_desk(services: Services) -> ReportDesk:
    """Where files are made. Raises Problem where this program makes none."""
    if services.reports is None:
        raise Problem("no-such-report")
    return services.reports


def title_of(kind: ReportKind, language: str) -> str:
    """What a report is called."""
    return TITLES[kind][1 if language == "zh" else 0]


@router.get("/reports")
async def overview(services: Asked, viewer: Viewer, done: str = "") -> Response:
    """Everything about reports on one page."""
    view = await overview_view(services, viewer, done=done == "scheduled")
    return desk.show("reports.html", viewer, services, view)


async def overview_view(
    services: Services, viewer: Visitor, *, form: Form | None = None, done: bool = False
) -> ReportsView:
    """The page with what is wrong beside its fields; for forms of other modules too."""
    made = report_desk(services)
    sites = _eyes(viewer)
    async with services.database.transaction() as tx:
        schedules = await report_schedules.schedules(tx, viewer.sites, viewer.operator_id)
        runs = await report_schedules.runs(
            tx, viewer.operator_id, see_all=_sees_all(viewer), limit=RUNS
        )
        known = await reports.sites_of(tx, sites)
    return ReportsView(
        kinds=[(kind, title_of(kind, viewer.language)) for kind in ReportKind],
        groupings=list(Grouping),
        schedules=schedules,
        runs=runs,
        titles={kind.value: title_of(kind, viewer.language) for kind in ReportKind},
        sites=known,
        cadences=list(Cadence),
        mails=made.mailer is not None,
        may_schedule=viewer.may(Permission.REPORT),
        done=done,
        form=form or Form(),
    )


def _sees_all(viewer: Visitor) -> bool:
    """Whoever audits everything sees everybody's files."""
    return viewer.sites is None and viewer.may(Permission.AUDIT)


def _eyes(viewer: Visitor) -> tuple[int, ...] | None:
    return None if viewer.sites is None else tuple(viewer.sites)


@router.get("/reports/{kind}")
async def one(  # noqa: PLR0917  # one question
    services: Asked,
    viewer: Viewer,
    kind: str,
    by: str = "",
    first: date | None = None,
    last: date | None = None,
    site: str = "",
) -> Response:
    """The first rows, their sums over all rows, and a chart."""
    report = asked_report(services, viewer, kind, by=by, first=first, last=last, site=site)
    zone, language = desk.zone_of(services), viewer.language
    totals, shown = Totals(report.columns), []
    async with services.database.transaction() as tx:
        sites = await reports.sites_of(tx, report.sites)
        async for row in reports.rows(tx, report):
            totals.add(row)
            if totals.rows <= ROWS_SHOWN:
                shown.append(row)
    query = {"by": by, "first": report.first, "last": report.last, "site": site}
    view = ReportView(
        report=report,
        title=title_of(report.kind, language),
        groupings=GROUPINGS.get(report.kind, ()),
        of_now=report.kind in OF_NOW,
        sites=sites,
        titles=[cell(column.title(language), column, language, zone) for column in report.columns],
        rows=[
            [cell(v, c, language, zone) for v, c in zip(row, report.columns, strict=True)]
            for row in shown
        ],
        totals=totals_row(totals, report, language, zone) if shown else [],
        count=totals.rows,
        more=totals.rows > ROWS_SHOWN,
        charts=charts(report, shown, language, zone),
        query=urlencode({name: str(value) for name, value in query.items() if value}),
        run_id=uuid4(),
    )
    return desk.show("report.html", viewer, services, view)


def asked_report(
    services: Services,
    viewer: Visitor,
    kind: str,
    *,
    by: str,
    first: date | None,
    last: date | None,
    site: str,
) -> Report:
    """The question of an address. Raises PageProblem."""
    today = report_desk(services).today()
    last = min(last or today, today)
    first = first or last - timedelta(days=DAYS - 1)
    try:
        wanted = ReportKind(kind)
        usual = GROUPINGS.get(wanted)
        # The longest that can be answered, rather than an error at a slip of the finger.
        first = max(min(first, last), last - timedelta(days=DAYS_MAX - 1))
        return Report(
            kind=wanted,
            grouping=None if usual is None else Grouping(by) if by else usual[0],
            first=first,
            last=last,
            sites=_eyes(viewer),
            site_id=int(site) if site else None,
        )
    except (BadReport, ValueError) as error:
        raise PageProblem(viewer, Problem("no-such-report")) from error


@router.get("/reports/{kind}/file")
async def file(  # noqa: PLR0917  # one question
    services: Asked,
    viewer: Viewer,
    kind: str,
    format: str = "csv",  # noqa: A002  # the word of the address
    by: str = "",
    first: date | None = None,
    last: date | None = None,
    site: str = "",
) -> Response:
    """The whole report as a file, now."""
    report = asked_report(services, viewer, kind, by=by, first=first, last=last, site=site)
    if format not in FORMATS:
        raise PageProblem(viewer, Problem("no-such-report"))
    made = report_desk(services)
    path = made.folder / "now" / f"{uuid4()}.{format}"
    # On disk first: a slow browser holds no connection to the database.
    await made.write(report, format, viewer.language, path)
    return sent(path, f"{report.name}.{format}", BackgroundTask(path.unlink, missing_ok=True))


def sent(path: Path, name: str, background: BackgroundTask | None = None) -> FileResponse:
    """A file that a browser keeps, and never shows as a page."""
    return FileResponse(
        path,
        filename=name,
        media_type=MEDIA_TYPES[name.rpartition(".")[2]],
        headers=dict(desk.HEADERS),
        background=background,
    )


@router.post("/reports/{kind}/ask")
async def ask(request: Request, services: Asked, viewer: Viewer, kind: str) -> Response:
    """Have a long report made; its page shows how far it is."""
    form = desk.form_of(await request.form())
    try:
        first, last = date.fromisoformat(form.get("first")), date.fromisoformat(form.get("last"))
        run_id, kind_of_file = UUID(form.get("run_id")), form.get("format")
    except ValueError as error:
        raise PageProblem(viewer, Problem("no-such-report")) from error
    report = asked_report(
        services, viewer, kind, by=form.get("by"), first=first, last=last, site=form.get("site")
    )
    if kind_of_file not in FORMATS:
        raise PageProblem(viewer, Problem("no-such-report"))
    async with services.database.transaction() as tx:
        await report_schedules.add_run(
            tx,
            run_id=run_id,
            asked_by=viewer.operator_id,
            kind=report.kind,
            grouping=report.grouping,
            site_id=report.site_id,
            first=report.first,
            last=report.last,
            format=kind_of_file,
            language=viewer.language,
            at=services.clock.now(),
        )
    report_desk(services).ask()
    return desk.go(f"/report-files/{run_id}")
