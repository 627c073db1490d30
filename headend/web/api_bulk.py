"""Switching many meters: dry run, approval by a second person, canary, ramp, stop, undo."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.bulk import Job, Refused
from headend.domain.commands import CommandKind
from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services import bulk
from headend.services.bulk import BulkWish
from headend.services.services import Services
from headend.store import bulk as store
from headend.store import bulk_items
from headend.store.database import Transaction
from headend.web.auth import Approver, IdempotencyKey, Switcher, Viewer, meter_for
from headend.web.common import Asked, Because, Reason
from headend.web.edits import AfterText, Limit, Page, cursor, cut, instant_and_id
from headend.web.shown import job_record

# No balance of a meter is beyond it: its register has 32 bits.
FEN_MAX = 2**31
router = APIRouter(prefix="/api/v1/bulk", tags=["bulk"])


class Wish(BaseModel):
    """Which meters: a whole site by its arrears, or a list by name."""

    model_config = ConfigDict(extra="forbid")
    action: CommandKind = Field(description="cut or restore", examples=["cut"])
    site: str | None = None
    meters: list[str] | None = None
    cut_below_fen: int | None = Field(
        default=0, ge=-FEN_MAX, le=FEN_MAX, description="null: by name, whatever they owe"
    )
    reason: Reason


class Approval(BaseModel):
    """Exactly this list."""

    model_config = ConfigDict(extra="forbid")
    sha256: str = Field(min_length=64, max_length=64)


def _wish(services: Services, caller: Caller, bulk_id: UUID, wish: Wish) -> BulkWish:
    if wish.action not in (CommandKind.CUT, CommandKind.RESTORE):
        raise Problem("bad-request", detail="action is cut or restore")
    if (wish.site is None) == (wish.meters is None):
        raise Problem("bad-request", detail="name either a site or meters")
    site_id = None
    if wish.site is not None:
        site = services.lines.sites.get(wish.site)
        if site is None or not caller.may_touch(site.site_id):
            raise Problem("no-such-site", site=wish.site)
        site_id = site.site_id
    names = wish.meters
    return BulkWish(
        bulk_id=bulk_id,
        action=wish.action,
        by=caller.operator.operator_id,
        reason=wish.reason,
        site_id=site_id,
        meter_ids=None
        if names is None
        else [meter_for(services, caller, name).known.meter_id for name in names],
        cut_below_fen=wish.cut_below_fen,
    )


@router.post("/preview", summary="Dry run: who, who not and why, and the largest damage")
async def preview(services: Asked, switcher: Switcher, wish: Wish) -> dict[str, Any]:
    """Nothing is stored and nothing is sent."""
    async with services.database.transaction() as tx:
        seen = await bulk.preview(
            tx, _wish(services, switcher, uuid4(), wish), services.clock.now()
        )
    return {
        "switched": [meter.meter for meter in seen.plan.switched],
        "spared": [
            {"meter": s.meter.meter, "rule": s.rule.value, "detail": s.detail}
            for s in seen.plan.spared
        ],
        "damage": seen.damage,
        "needs_approval": seen.needs_approval,
    }


@router.post("", summary="Plan a job: the list is fixed, nothing is sent", status_code=201)
async def plan(
    services: Asked, switcher: Switcher, key: IdempotencyKey, wish: Wish
) -> dict[str, Any]:
    """The answer's `sha256` is what a second person approves."""
    async with services.database.transaction() as tx:
        planned = await bulk.plan(tx, _wish(services, switcher, key, wish), services.clock.now())
    return _answer(planned)


@router.get("", summary="Jobs, the newest first")
async def listed(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: AfterText = "",
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """Those all meters of which the caller may see."""
    async with services.database.transaction() as tx:
        found = await store.list_jobs(
            tx, whose=viewer.operator.scope, before=instant_and_id(after), limit=limit + 1
        )
    last = None
    if len(found) > limit:
        last = cursor(found[limit - 1].planned_at, found[limit - 1].bulk_id)
    return [job_record(job) for job in cut(request, response, found, last, limit)]


@router.get("/{bulk_id}", summary="A job and each of its meters")
async def one(services: Asked, viewer: Viewer, bulk_id: UUID, page: Page) -> dict[str, Any]:
    """Where it is, who was switched, who was spared and by which rule. `items`: by turn, the
    spared last, page by page."""
    async with services.database.transaction() as tx:
        job = await _visible(services, tx, viewer, bulk_id)
        items = await bulk_items.items(tx, bulk_id)
    numbered = list(enumerate(items))  # their turns never change
    shown = page.of(numbered, key=lambda one: f"{one[0]:08}")
    return job_record(job) | {"items": [item for _, item in shown]}


@router.post("/{bulk_id}/approve", summary="A second person approves exactly this list")
async def approve(
    services: Asked, approver: Approver, bulk_id: UUID, approval: Approval
) -> dict[str, Any]:
    """Another list has another hash: an approval of a changed list is void."""
    async with services.database.transaction() as tx:
        await _visible(services, tx, approver, bulk_id)
        done = await bulk.approve(
            tx,
            bulk_id,
            approval.sha256,
            by=approver.operator.operator_id,
            now=services.clock.now(),
        )
    return _answer(done)


@router.post("/{bulk_id}/start", summary="Let the canary go")
async def start(services: Asked, switcher: Switcher, bulk_id: UUID) -> dict[str, Any]:
    """Five first; then it waits for `go-on`."""
    async with services.database.transaction() as tx:
        await _visible(services, tx, switcher, bulk_id)
        by = switcher.operator.operator_id
        done = await bulk.start(tx, bulk_id, by=by, now=services.clock.now())
    return _answer(done)


@router.post("/{bulk_id}/go-on", summary="The canary is well: ramp up")
async def go_on(services: Asked, switcher: Switcher, bulk_id: UUID) -> dict[str, Any]:
    """Batches double, with pauses; it halts by itself when too many fail."""
    async with services.database.transaction() as tx:
        await _visible(services, tx, switcher, bulk_id)
        by = switcher.operator.operator_id
        done = await bulk.go_on(tx, bulk_id, by=by, now=services.clock.now())
    return _answer(done)


@router.post("/{bulk_id}/stop", summary="The one button: nothing more leaves")
async def stop(
    services: Asked, switcher: Switcher, bulk_id: UUID, because: Because
) -> dict[str, Any]:
    """Survives a restart. Safe to press twice."""
    async with services.database.transaction() as tx:
        await _visible(services, tx, switcher, bulk_id)
        by, now = switcher.operator.operator_id, services.clock.now()
        done = await bulk.stop(tx, bulk_id, by=by, reason=because.reason, now=now)
    return _answer(done)


@router.post("/{bulk_id}/undo", summary="Restore exactly what the job has cut", status_code=201)
async def undo(
    services: Asked, switcher: Switcher, key: IdempotencyKey, bulk_id: UUID, because: Because
) -> dict[str, Any]:
    """A job of its own, started at once; asks no second person, since light must not wait."""
    async with services.database.transaction() as tx:
        await _visible(services, tx, switcher, bulk_id)
        done = await bulk.undo(
            tx,
            key,
            undo_of=bulk_id,
            by=switcher.operator.operator_id,
            reason=because.reason,
            now=services.clock.now(),
        )
    return _answer(done)


async def _visible(services: Services, tx: Transaction, caller: Caller, bulk_id: UUID) -> Job:
    job = await store.find_job(tx, bulk_id)
    if job is None or not await _in_scope(services, tx, caller, bulk_id):
        raise Problem("no-such-job", detail=bulk_id, meter="")
    return job


async def _in_scope(services: Services, tx: Transaction, caller: Caller, bulk_id: UUID) -> bool:
    if caller.operator.sites is None:
        return True
    known = services.lines.by_id
    return all(
        item.meter_id in known and caller.may_touch_meter(known[item.meter_id].known)
        for item in await bulk_items.items(tx, bulk_id)
    )


def _answer(outcome: Job | Refused) -> dict[str, Any]:
    if isinstance(outcome, Refused):
        raise Problem(outcome.why.value, meter="", detail=outcome.detail)
    return job_record(outcome)
