"""Files of reports that are made by and by, and the schedules that have them made."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import time
from typing import Final
from uuid import UUID

from fastapi import APIRouter, Request, Response

from headend.domain.problems import Problem
from headend.domain.reports import GROUPINGS, Cadence, Grouping, ReportKind
from headend.domain.roles import Permission
from headend.services.report_files import FORMATS
from headend.services.reports import FOLDER
from headend.services.services import Services
from headend.store import report_schedules
from headend.store.report_schedules import NewSchedule, Run
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Reporter, Viewer, Visitor
from headend.web.pages_reports import overview_view, report_desk, sent, title_of

router = APIRouter(include_in_schema=False)

LOOK_S: Final = 0.5
NAME_MAX: Final = 60
MAILS_MAX: Final = 10
_MAIL: Final = re.compile(r"[^\s@,;<>\"]{1,64}@[^\s@,;<>\"]{1,190}\.[^\s@,;<>\"]{2,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One file, made or being made."""

    run: Run
    title: str
    over: bool


@router.get("/report-files/{run_id}")
async def page(services: Asked, viewer: Viewer, run_id: UUID) -> Response:
    """How far it is, then where it is."""
    view = await _view(services, viewer, run_id)
    return desk.show("report_file.html", viewer, services, view)


@router.get("/report-files/{run_id}/live")
async def live(services: Asked, viewer: Viewer, run_id: UUID) -> Response:
    """The same as it goes on, until it has ended."""
    await _view(services, viewer, run_id)

    async def pieces() -> AsyncIterator[str | None]:
        while True:
            view = await _view(services, viewer, run_id)
            yield desk.rendered("report_file_now.html", viewer, services, view)
            if view.over:
                yield None
                return
            await asyncio.sleep(LOOK_S)

    return desk.stream(pieces())


@router.get("/report-files/{run_id}/file")
async def file(services: Asked, viewer: Viewer, run_id: UUID) -> Response:
    """The file itself."""
    view = await _view(services, viewer, run_id)
    folder = report_desk(services).folder
    if view.run.file is None or not (folder / view.run.file).is_file():
        raise PageProblem(viewer, Problem("no-such-report"))
    path = folder / view.run.file
    return sent(path, path.name.removeprefix(f"{run_id}-"))


async def _view(services: Services, viewer: Visitor, run_id: UUID) -> RunView:
    """One's own; whoever audits all properties sees everybody's."""
    async with services.database.transaction() as tx:
        run = await report_schedules.run(tx, run_id)
    sees_all = viewer.sites is None and viewer.may(Permission.AUDIT)
    if run is None or not (run.asked_by == viewer.operator_id or sees_all):
        raise PageProblem(viewer, Problem("no-such-report"))
    return RunView(
        run=run,
        title=title_of(run.kind, viewer.language),
        over=run.state in ("done", "failed"),
    )


@router.post("/report-schedules")
async def schedule(request: Request, services: Asked, reporter: Reporter) -> Response:
    """A report by itself: each day, each Monday, each first of a month."""
    form = desk.form_of(await request.form())
    new = _wanted(form, services, reporter)
    if new is not None:
        async with services.database.transaction() as tx:
            added = await report_schedules.add_schedule(tx, new, services.clock.now())
        if added is not None:
            return desk.go("/reports?done=scheduled")
        form.wrong("name", desk.gettext(reporter)("A schedule of this name is there already."))
    view = await overview_view(services, reporter, form=form)
    return desk.show("reports.html", reporter, services, view, status=422)


def _wanted(form: Form, services: Services, reporter: Visitor) -> NewSchedule | None:
    """The schedule somebody typed; None: the fields say what is wrong."""
    say = desk.gettext(reporter)
    name, folder = form.get("name"), form.get("folder")
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        form.wrong("name", say("Give it a name of at most 60 letters."))
    if folder and FOLDER.fullmatch(folder) is None:
        form.wrong("folder", say("One folder name of letters, digits, spaces and hyphens."))
    mails = [part for part in re.split(r"[\s,;]+", form.get("mail_to")) if part]
    if len(mails) > MAILS_MAX or any(_MAIL.fullmatch(one) is None for one in mails):
        form.wrong("mail_to", say("At most ten mail addresses, apart by commas."))
    elif mails and report_desk(services).mailer is None:
        form.wrong("mail_to", say("No mail server is set: leave this empty."))
    try:
        at_time = time.fromisoformat(form.get("at_time"))
    except ValueError:
        form.wrong("at_time", say("A time of day, for instance 07:00."))
        at_time = time()
    kind, grouping = _kind(form, say("Choose a report."))
    cadence = next((one for one in Cadence if one.value == form.get("cadence")), None)
    site = form.get("site")
    outside = bool(site) and not (site.isdigit() and _may_see(reporter, int(site)))
    if cadence is None or form.get("format") not in FORMATS or outside or at_time.tzinfo:
        form.wrong("kind", say("Choose a report."))
    if form.errors or kind is None or cadence is None:
        return None
    return NewSchedule(
        name=name,
        kind=kind,
        grouping=grouping,
        site_id=int(site) if site else None,
        format=form.get("format"),
        language=reporter.language,
        cadence=cadence,
        at_time=at_time,
        folder=folder,
        mail_to=mails,
        owner_id=reporter.operator_id,
    )


def _may_see(reporter: Visitor, site_id: int) -> bool:
    return reporter.sites is None or site_id in reporter.sites


def _kind(form: Form, what: str) -> tuple[ReportKind | None, Grouping | None]:
    """ "turnover by day" as the form's one field gives it: "turnover:day"."""
    kind_name, _, by = form.get("kind").partition(":")
    try:
        kind = ReportKind(kind_name)
        grouping = Grouping(by) if by else None
    except ValueError:
        form.wrong("kind", what)
        return None, None
    if grouping not in GROUPINGS.get(kind, (None,)):
        form.wrong("kind", what)
    return kind, grouping


@router.post("/report-schedules/{schedule_id}/end")
async def end(services: Asked, reporter: Reporter, schedule_id: int) -> Response:
    """It is made no more; its files stay."""
    async with services.database.transaction() as tx:
        ended = await report_schedules.end_schedule(
            tx,
            schedule_id,
            reporter.sites,
            by=reporter.operator_id,
            at=services.clock.now(),
        )
    if not ended:
        raise PageProblem(reporter, Problem("no-such-report"))
    return desk.go("/reports")
