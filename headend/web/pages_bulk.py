"""Switching many meters: dry run with the spared, a second person, canary, ramp, stop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response

from headend.domain.bulk import RUNNING, ItemState, Job, JobState, Refused
from headend.domain.commands import CommandKind
from headend.domain.problems import Problem
from headend.services import bulk
from headend.services.bulk import BulkWish, Preview
from headend.services.services import Services
from headend.store import bulk as store
from headend.store import bulk_items, people
from headend.store.bulk_items import Item
from headend.store.database import Transaction
from headend.web import desk, forms
from headend.web.common import Asked
from headend.web.desk import Approver, Form, PageProblem, Switcher, Viewer, Visitor
from headend.web.told import said

router = APIRouter(include_in_schema=False)

LISTED: Final = 50
J = JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsView:
    """The newest jobs."""

    jobs: Sequence[Job]


@router.get("/bulk")
async def jobs(services: Asked, viewer: Viewer) -> Response:
    """Planned, running and ended."""
    async with services.database.transaction() as tx:
        found = [
            job
            for job in await store.list_jobs(tx, limit=LISTED)
            if await _in_scope(services, tx, viewer, job.bulk_id)
        ]
    return desk.show("bulk_jobs.html", viewer, services, JobsView(jobs=found))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """A wish and its dry run. `bulk_id` is in the address: the same form twice is one job."""

    bulk_id: UUID
    sites: Sequence[str]
    form: Form
    seen: Preview | None = None


@router.get("/bulk/new")
async def new(switcher: Switcher) -> Response:
    """A fresh id, then its form."""
    return desk.go(f"/bulk/new/{uuid4()}")


@router.get("/bulk/new/{bulk_id}")
async def plan_form(
    request: Request, services: Asked, switcher: Switcher, bulk_id: UUID
) -> Response:
    """Where the job stands already, on to it."""
    async with services.database.transaction() as tx:
        if await store.find_job(tx, bulk_id) is not None:
            return desk.go(f"/bulk/{bulk_id}")
    view = PlanView(
        bulk_id=bulk_id,
        sites=_sites(services, switcher),
        form=Form({"action": "cut", "below": "0"} | dict(request.query_params)),
    )
    return desk.show("bulk_plan.html", switcher, services, view)


@router.post("/bulk/new/{bulk_id}")
async def plan(request: Request, services: Asked, switcher: Switcher, bulk_id: UUID) -> Response:
    """A dry run; with `plan` the list is fixed and stored. Nothing is sent by either."""
    form = desk.form_of(await request.form())
    wish = _wish(services, switcher, bulk_id, form)
    seen: Preview | None = None
    status = 200 if wish is not None else 422
    if wish is not None:
        async with services.database.transaction() as tx:
            if form.get("step") == "plan":
                done = await bulk.plan(tx, wish, services.clock.now())
                if isinstance(done, Job):
                    return desk.go(f"/bulk/{bulk_id}")
                problem = Problem(done.why.value, meter="", detail=done.detail)
                form.wrong("form", said(problem, switcher.language))
                status = problem.kind.http_status
            seen = await bulk.preview(tx, wish, services.clock.now())
    view = PlanView(bulk_id=bulk_id, sites=_sites(services, switcher), form=form, seen=seen)
    return desk.show("bulk_plan.html", switcher, services, view, status=status)


def _sites(services: Services, visitor: Visitor) -> list[str]:
    assert visitor.caller is not None
    return [
        name
        for name, site in services.lines.sites.items()
        if visitor.caller.may_touch(site.site_id)
    ]


def _wish(services: Services, switcher: Visitor, bulk_id: UUID, form: Form) -> BulkWish | None:
    say = desk.gettext(switcher)
    why = forms.reason(form, switcher)
    action = CommandKind.RESTORE if form.get("action") == "restore" else CommandKind.CUT
    names = [name.strip() for name in form.get("meters").replace(",", "\n").split("\n")]
    meter_ids: list[int] | None = None
    site_id: int | None = None
    if any(names):
        meter_ids = []
        assert switcher.caller is not None
        for name in filter(None, names):
            meter = services.lines.meters.get(name)
            if meter is None or not switcher.caller.may_touch_meter(meter.known):
                form.wrong("meters", said(Problem("no-such-meter", meter=name), switcher.language))
                continue
            meter_ids.append(meter.known.meter_id)
    elif form.get("site") in _sites(services, switcher):
        site_id = services.lines.sites[form.get("site")].site_id
    else:
        form.wrong("site", say("Choose a property, or name meters below."))
    below = None
    if action is CommandKind.CUT and meter_ids is None:
        below = forms.threshold_fen(form, switcher, "below")
    if form.errors:
        return None
    return BulkWish(
        bulk_id=bulk_id,
        action=action,
        by=switcher.operator_id,
        reason=why,
        site_id=site_id,
        meter_ids=meter_ids,
        cut_below_fen=below,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One job: its list, where it is, and what may be pressed now."""

    job: Job
    planned_by: str
    approved_by: str | None
    items: Sequence[Item]
    counts: Mapping[ItemState, int]
    mine: bool  # the visitor planned it, so somebody else approves
    undo_id: UUID = field(default_factory=uuid4)
    form: Form = field(default_factory=Form)

    @property
    def may_approve(self) -> bool:
        return self.job.state is J.PLANNED and self.job.needs_approval

    @property
    def may_start(self) -> bool:
        return self.job.state is J.APPROVED or (
            self.job.state is J.PLANNED and not self.job.needs_approval
        )

    @property
    def may_go_on(self) -> bool:
        return self.job.state is J.WATCHING

    @property
    def may_stop(self) -> bool:
        return self.job.state in RUNNING | {J.PLANNED, J.APPROVED}

    @property
    def may_undo(self) -> bool:
        return self.job.action is CommandKind.CUT and self.job.state not in (
            J.PLANNED,
            J.APPROVED,
            J.CANCELLED,
        )

    @property
    def runs(self) -> bool:
        return self.job.state in RUNNING


@router.get("/bulk/{bulk_id}")
async def one(services: Asked, viewer: Viewer, bulk_id: UUID) -> Response:
    """Who is switched, who is spared and by which rule, and the steps."""
    async with services.database.transaction() as tx:
        view = await _view(services, tx, viewer, bulk_id)
    return desk.show("bulk_job.html", viewer, services, view)


@router.get("/bulk/{bulk_id}/live")
async def live(request: Request, services: Asked, viewer: Viewer, bulk_id: UUID) -> Response:
    """Progress, until it has ended or waits for a person."""

    async def look() -> JobView:
        async with services.database.transaction() as tx:
            return await _view(services, tx, viewer, bulk_id)

    await look()

    async def pieces() -> AsyncIterator[str | None]:
        async with desk.bell(request).watched() as watch:
            while True:
                view = await look()
                yield desk.rendered("bulk_now.html", viewer, services, view)
                if not view.runs:
                    yield None
                    return
                await watch.wait()

    return desk.stream(pieces())


@router.post("/bulk/{bulk_id}/approve")
async def approve(request: Request, services: Asked, approver: Approver, bulk_id: UUID) -> Response:
    """Exactly the list that was shown, by its hash."""
    form = desk.form_of(await request.form())
    async with services.database.transaction() as tx:
        await _view(services, tx, approver, bulk_id)
        done = await bulk.approve(
            tx, bulk_id, form.get("sha256"), by=approver.operator_id, now=services.clock.now()
        )
    return await _answer(services, approver, bulk_id, done, form)


@router.post("/bulk/{bulk_id}/{step}")
async def move(
    request: Request, services: Asked, switcher: Switcher, bulk_id: UUID, step: str
) -> Response:
    """Start, go on, stop, or take back what was done."""
    form = desk.form_of(await request.form())
    by, now = switcher.operator_id, services.clock.now()
    done: Job | Refused
    async with services.database.transaction() as tx:
        await _view(services, tx, switcher, bulk_id)
        if step == "start":
            done = await bulk.start(tx, bulk_id, by=by, now=now)
        elif step == "go-on":
            done = await bulk.go_on(tx, bulk_id, by=by, now=now)
        elif step == "stop":
            why = form.get("reason") or desk.gettext(switcher)("stopped at the desk")
            done = await bulk.stop(tx, bulk_id, by=by, reason=why, now=now)
        elif step == "undo":
            why = form.get("reason") or desk.gettext(switcher)("taken back at the desk")
            undo_id = UUID(form.get("undo_id")) if form.get("undo_id") else uuid4()
            done = await bulk.undo(tx, undo_id, undo_of=bulk_id, by=by, reason=why, now=now)
        else:
            raise PageProblem(switcher, Problem("no-such-page"))
    where = done.bulk_id if isinstance(done, Job) else bulk_id
    return await _answer(services, switcher, where, done, form)


async def _answer(
    services: Services, visitor: Visitor, bulk_id: UUID, done: Job | Refused, form: Form
) -> Response:
    if isinstance(done, Job):
        return desk.go(f"/bulk/{bulk_id}")
    problem = Problem(done.why.value, meter="", detail=done.detail)
    form.wrong("form", said(problem, visitor.language))
    async with services.database.transaction() as tx:
        view = await _view(services, tx, visitor, bulk_id, form)
    return desk.show("bulk_job.html", visitor, services, view, status=problem.kind.http_status)


async def _view(
    services: Services, tx: Transaction, viewer: Visitor, bulk_id: UUID, form: Form | None = None
) -> JobView:
    job = await store.find_job(tx, bulk_id)
    if job is None or not await _in_scope(services, tx, viewer, bulk_id):
        raise PageProblem(viewer, Problem("no-such-job", detail=bulk_id, meter=""))
    items = await bulk_items.items(tx, bulk_id)
    planner = await people.operator(tx, job.planned_by)
    approver = None if job.approved_by is None else await people.operator(tx, job.approved_by)
    assert planner is not None
    assert viewer.caller is not None
    counts: dict[ItemState, int] = {}
    for item in items:
        counts[item.state] = counts.get(item.state, 0) + 1
    return JobView(
        job=job,
        planned_by=planner.name,
        approved_by=approver.name if approver else None,
        items=items,
        counts={state: counts[state] for state in ItemState if state in counts},
        mine=planner.person == viewer.caller.operator.person,
        form=form or Form(),
    )


async def _in_scope(services: Services, tx: Transaction, viewer: Visitor, bulk_id: UUID) -> bool:
    sites = viewer.sites
    return sites is None or await store.is_within(tx, bulk_id, sites)
