"""Tariffs: drafts, versions, where they hold, and which meters hold them."""

from __future__ import annotations

import dataclasses
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.domain.tariff_records import from_record, to_record
from headend.domain.tariffs import BadTerms, Terms
from headend.services import tariff_push
from headend.services import tariffs as service
from headend.services.services import Services
from headend.services.tariffs import AssignWish, NotDone
from headend.store import tariff_places, tariff_pushes, tariffs
from headend.store.database import Transaction
from headend.store.tariff_pushes import Push
from headend.store.tariffs import StoredVersion, Tariff
from headend.web.auth import Approval, Configurer, Viewer
from headend.web.common import Asked, Because, Reason, Words
from headend.web.desk import zone_of
from headend.web.edits import IfMatch, Page, same, tag
from headend.web.pages_prices import in_force

router = APIRouter(prefix="/api/v1", tags=["prices"])

NUMBER_MAX = 2**31


class NewTariff(BaseModel):
    """A name; without a site it is for every property."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[Words, Field(min_length=1, max_length=80)] = Field(examples=["Shops 2027"])
    site: str | None = None


class Draft(BaseModel):
    """Terms of the draft. Prices in 1/10,000 yuan a kWh, energy in Wh."""

    model_config = ConfigDict(extra="forbid")
    terms: dict[str, Any] = Field(
        examples=[
            {
                "prices_x4": {"peak": 8300, "valley": 3400},
                "seasons": [{"from": "01-01", "hours": [["00:00", "valley"], ["08:00", "peak"]]}],
            }
        ]
    )
    note: Annotated[Words, Field(max_length=200)] = ""


class Publication(BaseModel):
    """From the first minute of this day on, on the wall clock of each site."""

    model_config = ConfigDict(extra="forbid")
    valid_from: date


class Assignment(BaseModel):
    """A tariff for a place; `end` takes the place's own tariff away."""

    model_config = ConfigDict(extra="forbid")
    place: Literal["site", "building", "room", "meter"]
    site: Words
    name: Words = ""
    from_day: date
    reason: Reason
    end: bool = False


@router.get("/tariffs", summary="Every tariff, and what holds now")
async def listing(services: Asked, viewer: Viewer, page: Page) -> list[dict[str, Any]]:
    """By name."""
    async with services.database.transaction() as tx:
        found = await tariffs.listing(tx, _sites(viewer), today_of(services))
    return [
        {
            "tariff_id": one.tariff.tariff_id,
            "name": one.tariff.name,
            "site": one.site,
            "version": one.now,
            "next_from": one.next_from,
            "has_draft": one.has_draft,
        }
        for one in page.of(found, key=lambda one: f"{one.tariff.name}/{one.tariff.tariff_id}")
    ]


@router.post("/tariffs", summary="Make a tariff", status_code=201)
async def add(services: Asked, configurer: Configurer, wish: NewTariff) -> dict[str, Any]:
    """It has no version before a draft of it is published."""
    site_id = None
    if wish.site is not None:
        site = services.lines.sites.get(wish.site)
        if site is None or not configurer.may_touch(site.site_id):
            raise Problem("no-such-site", site=wish.site)
        site_id = site.site_id
    elif configurer.operator.sites is not None:
        raise Problem("no-such-site", site="*")
    async with services.database.transaction() as tx:
        made = await service.add(
            tx,
            wish.name,
            site_id=site_id,
            by=configurer.operator.operator_id,
            at=services.clock.now(),
        )
    if isinstance(made, NotDone):
        raise _problem(made)
    return {"tariff_id": made.tariff_id, "name": made.name}


@router.get("/tariffs/{tariff_id}", summary="One tariff with its versions and places")
async def one(
    services: Asked, viewer: Viewer, tariff_id: int, response: Response
) -> dict[str, Any]:
    """Its draft's ETag is what PUT wants back."""
    async with services.database.transaction() as tx:
        found = await _tariff(tx, viewer, tariff_id)
        versions = await tariffs.versions(tx, tariff_id)
        places = await tariff_places.places_of(tx, tariff_id, _sites(viewer))
    draft = next((v for v in versions if v.state == "draft"), None)
    tag(response, draft.edits if draft else 0)
    return {
        "tariff_id": found.tariff_id,
        "name": found.name,
        "versions": [_version(v) for v in versions],
        "places": [dataclasses.asdict(place) for place in places],
    }


@router.put("/tariffs/{tariff_id}/draft", summary="Keep the draft")
async def keep(
    services: Asked,
    configurer: Configurer,
    tariff_id: int,
    wish: Draft,
    response: Response,
    version: IfMatch,
) -> dict[str, Any]:
    """With the draft's ETag, without one for a new draft: 412 when there is another one by now;
    422 names the field that is wrong."""
    edits = min(version or 0, NUMBER_MAX - 1)
    try:
        terms: Terms = from_record(wish.terms)
    except BadTerms as bad:
        raise Problem("bad-terms", detail=str(bad), field=bad.where) from bad
    async with services.database.transaction() as tx:
        await _tariff(tx, configurer, tariff_id, to_change=True)
        kept = await service.keep_draft(
            tx,
            tariff_id,
            terms,
            note=wish.note,
            by=configurer.operator.operator_id,
            at=services.clock.now(),
            edits=edits,
        )
    if isinstance(kept, NotDone):
        raise _problem(kept)
    tag(response, edits + 1)
    return {"version_id": kept, "terms": to_record(terms)}


@router.delete("/tariffs/{tariff_id}/draft", summary="Let the draft go")
async def drop(
    services: Asked, configurer: Configurer, tariff_id: int, version: IfMatch
) -> dict[str, Any]:
    """It stays on record. With If-Match only the draft that was seen."""
    async with services.database.transaction() as tx:
        await _tariff(tx, configurer, tariff_id, to_change=True)
        await _same_draft(tx, tariff_id, version)
        if not await tariffs.drop_draft(tx, tariff_id):
            raise Problem("no-draft")
    return {"tariff_id": tariff_id, "dropped": True}


@router.post("/tariffs/{tariff_id}/publish", summary="Publish the draft")
async def publish(
    services: Asked,
    configurer: Configurer,
    tariff_id: int,
    wish: Publication,
    version: IfMatch,
    approver: Approval,
) -> dict[str, Any]:
    """For ever; with If-Match only the draft that was seen. Many meters, or a price that moves by
    more than a tenth, need X-Approver-Token."""
    async with services.database.transaction() as tx:
        await _tariff(tx, configurer, tariff_id, to_change=True)
        await _same_draft(tx, tariff_id, version)
        done = await service.publish(
            tx,
            tariff_id,
            valid_from=wish.valid_from,
            by=configurer.operator.operator_id,
            approver=approver.operator.operator_id if approver else None,
            at=services.clock.now(),
            today=today_of(services),
        )
    if isinstance(done, NotDone):
        raise _problem(done)
    return _version(done)


@router.post("/tariffs/{tariff_id}/assignments", summary="Assign to a place", status_code=201)
async def assign(
    services: Asked, configurer: Configurer, tariff_id: int, wish: Assignment
) -> dict[str, Any]:
    """From a day on, not one that has passed. The nearest place counts, there the newest word."""
    async with services.database.transaction() as tx:
        found = await _tariff(tx, configurer, tariff_id)
        site = services.lines.sites.get(wish.site)
        if site is None or found.site_id not in (None, site.site_id):
            raise Problem("no-such-site", site=wish.site)
        refused = await service.assign(
            tx,
            None if wish.end else tariff_id,
            AssignWish(
                place=wish.place,
                site=wish.site,
                name=wish.name,
                from_day=wish.from_day,
                reason=wish.reason,
            ),
            sites=_sites(configurer),
            by=configurer.operator.operator_id,
            at=services.clock.now(),
            today=today_of(services),
        )
    if refused is not None:
        raise _problem(refused)
    return {"tariff_id": tariff_id, "from_day": wish.from_day}


@router.get("/tariffs/{tariff_id}/push", summary="Which meters hold it")
async def push(services: Asked, viewer: Viewer, tariff_id: int, page: Page) -> dict[str, Any]:
    """Of the version in force; before there is one, of the next. `meters`: by name, page by
    page; `counts`: of all."""
    async with services.database.transaction() as tx:
        await _tariff(tx, viewer, tariff_id)
        found = await _push_of(tx, services, tariff_id)
        counts = await tariff_pushes.counts(tx, found.push_id)
        items = await tariff_pushes.items(tx, found.push_id, _sites(viewer), limit=None)
    return {
        "push_id": found.push_id,
        "valid_from": found.valid_from,
        "state": found.state,
        "halt_reason": found.halt_reason,
        "counts": counts,
        "meters": [
            dataclasses.asdict(item) for item in page.of(items, key=lambda item: item.meter)
        ],
    }


@router.post("/tariffs/{tariff_id}/push/stop", summary="Stop it")
async def stop(
    services: Asked, configurer: Configurer, tariff_id: int, because: Because
) -> dict[str, Any]:
    """Nothing more leaves; what is on its way is followed to its end."""
    async with services.database.transaction() as tx:
        await _tariff(tx, configurer, tariff_id, to_change=True)
        found = await _push_of(tx, services, tariff_id)
        by, at = configurer.operator.operator_id, services.clock.now()
        done = await tariff_push.stop(tx, found.push_id, by=by, reason=because.reason, at=at)
    if not done:
        raise Problem("no-such-push")
    return {"push_id": found.push_id, "state": "stopped"}


@router.post("/tariffs/{tariff_id}/push/go-on", summary="Go on")
async def go_on(services: Asked, configurer: Configurer, tariff_id: int) -> dict[str, Any]:
    """And give those that refused another try."""
    async with services.database.transaction() as tx:
        await _tariff(tx, configurer, tariff_id, to_change=True)
        found = await _push_of(tx, services, tariff_id)
        by, at = configurer.operator.operator_id, services.clock.now()
        done = await tariff_push.go_on(tx, found.push_id, by=by, at=at)
    if not done:
        raise Problem("no-such-push")
    return {"push_id": found.push_id, "state": "runs"}


async def _same_draft(tx: Transaction, tariff_id: int, version: int | None) -> None:
    """Nobody edits the draft before the transaction ends, and it is the one that was seen."""
    await tariffs.lock(tx, tariff_id)
    draft = next((v for v in await tariffs.versions(tx, tariff_id) if v.state == "draft"), None)
    same(version, draft.edits if draft else 0)


async def _push_of(tx: Transaction, services: Services, tariff_id: int) -> Push:
    versions = await tariffs.versions(tx, tariff_id)
    published = [v for v in versions if v.state == "published"]
    shown = in_force(versions, today_of(services)) or (published[0] if published else None)
    found: Push | None = None
    if shown is not None:
        found = await tariff_pushes.of_version(tx, shown.version_id)
    if found is None:
        raise Problem("no-such-push")
    return found


async def _tariff(
    tx: Transaction, caller: Caller, tariff_id: int, *, to_change: bool = False
) -> Tariff:
    sites = _sites(caller)
    found = await tariffs.find(tx, tariff_id, sites) if 0 <= tariff_id < NUMBER_MAX else None
    if found is None or (to_change and found.site_id is None and sites is not None):
        raise Problem("no-such-tariff", tariff=tariff_id)
    return found


def _sites(caller: Caller) -> list[int] | None:
    return None if caller.operator.sites is None else sorted(caller.operator.sites)


def _problem(refused: NotDone) -> Problem:
    return Problem(refused.why.value, detail=refused.detail, tariff=refused.detail)


def today_of(services: Services) -> date:
    """The day on the wall clock of the desk."""
    at: datetime = services.clock.now()
    return at.astimezone(zone_of(services)).date()


def _version(version: StoredVersion) -> dict[str, Any]:
    return {
        "version_id": version.version_id,
        "number": version.number,
        "state": version.state,
        "valid_from": version.valid_from,
        "terms": to_record(version.terms),
        "note": version.note,
        "published_by": version.published_by,
        "approved_by": version.approved_by,
    }
