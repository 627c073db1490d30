"""Who may not be cut and where nobody may switch: protections, lock-outs, a site's calendar."""

from __future__ import annotations

import dataclasses
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from headend.domain.friendly_hours import Calendar, FriendlyHours
from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services.services import Services
from headend.store import protections, supply
from headend.store.places import KnownSite
from headend.web.auth import LockOuter, Protector, Viewer, meter_for
from headend.web.common import Asked, Because, Reason, Words
from headend.web.edits import (
    PAGE_MAX,
    AfterText,
    IfMatch,
    Limit,
    cursor,
    fingerprint,
    paged,
    same,
    tag,
)

router = APIRouter(prefix="/api/v1", tags=["supply rules"])

# A protection has an end, so that somebody looks again. A lifetime is none.
PROTECTED_AT_MOST = timedelta(days=3653)
Weekday = Annotated[int, Field(ge=0, le=6)]


class Protection(BaseModel):
    """A meter that must not be cut until a day, and why."""

    model_config = ConfigDict(extra="forbid")
    meter: str
    reason: Reason = Field(examples=["oxygen concentrator"])
    expires_at: AwareDatetime


class LockOut(BaseModel):
    """Somebody works on this meter's circuit: nothing is switched, cut or restore."""

    model_config = ConfigDict(extra="forbid")
    meter: str
    reason: Reason


class Hours(BaseModel):
    """Wall-clock hours without cuts; over midnight when they end before they begin."""

    begins: time
    ends: time
    weekdays: list[Weekday] = Field(
        default_factory=lambda: list(range(7)), description="0 is Monday"
    )

    @model_validator(mode="after")
    def _last(self) -> Hours:
        if self.begins == self.ends:
            raise ValueError("hours that end when they begin are none, or a whole day: say which")
        return self


class CalendarWish(BaseModel):
    """When nobody is cut on a site."""

    model_config = ConfigDict(extra="forbid")
    friendly_hours: list[Hours]
    spare_weekends: bool = True
    holidays: dict[date, Words] = Field(default_factory=dict)
    working_days: list[date] = Field(default_factory=list)


@router.get("/protections", summary="Who is protected, until when, and why")
async def protected(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: AfterText = "",
    limit: Limit = PAGE_MAX,
) -> list[dict[str, Any]]:
    """The one that ends first comes first."""
    async with services.database.transaction() as tx:
        found = await protections.protections(tx, services.clock.now(), viewer.operator.scope)
    page = paged(
        request,
        response,
        found,
        key=lambda one: cursor(one.expires_at, f"{one.protection_id:012}"),
        after=after,
        limit=limit,
    )
    return [dataclasses.asdict(one) for one in page]


@router.post("/protections", summary="Protect a meter from being cut", status_code=201)
async def protect(services: Asked, protector: Protector, wish: Protection) -> dict[str, Any]:
    """Held against every list and looked at once more right before a cut is sent."""
    known = meter_for(services, protector, wish.meter).known
    now = services.clock.now()
    if wish.expires_at <= now:
        raise Problem("bad-request", detail="expires_at has passed")
    if wish.expires_at > now + PROTECTED_AT_MOST:
        raise Problem("bad-request", detail="expires_at is more than ten years away")
    async with services.database.transaction() as tx:
        number = await protections.protect(
            tx,
            reason=wish.reason,
            expires_at=wish.expires_at,
            by=protector.operator.operator_id,
            now=services.clock.now,
            meter_id=known.meter_id,
        )
    return {"protection_id": number}


@router.post("/protections/{number}/lift", summary="End a protection early")
async def lift(
    services: Asked, protector: Protector, number: int, because: Because
) -> dict[str, Any]:
    """It stays on record, with who ended it and why."""
    async with services.database.transaction() as tx:
        scope = protector.operator.scope
        theirs = await protections.protections(tx, services.clock.now(), scope)
        if number not in {one.protection_id for one in theirs}:
            raise Problem("no-such-number", number=number)
        lifted = await protections.lift_protection(
            tx,
            number,
            reason=because.reason,
            by=protector.operator.operator_id,
            at=services.clock.now(),
        )
    if not lifted:
        raise Problem("no-such-number", number=number)
    return {"protection_id": number, "lifted": True}


@router.get("/lock-outs", summary="Where somebody works")
async def locked(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: AfterText = "",
    limit: Limit = PAGE_MAX,
) -> list[dict[str, Any]]:
    """Oldest first."""
    async with services.database.transaction() as tx:
        found = await protections.lock_outs(tx, viewer.operator.scope)
    page = paged(
        request,
        response,
        found,
        key=lambda one: cursor(one.locked_at, f"{one.lock_out_id:012}"),
        after=after,
        limit=limit,
    )
    return [dataclasses.asdict(one) for one in page]


@router.post("/lock-outs", summary="Lock a circuit out while working on it", status_code=201)
async def lock(services: Asked, worker: LockOuter, wish: LockOut) -> dict[str, Any]:
    """Wins over every order, a restore included.

    `on_their_way` lists orders that left before: wait for their end before touching the circuit.
    """
    known = meter_for(services, worker, wish.meter).known
    async with services.database.transaction() as tx:
        number = await protections.lock_out(
            tx,
            reason=wish.reason,
            by=worker.operator.operator_id,
            now=services.clock.now,
            meter_id=known.meter_id,
        )
        on_their_way = await protections.on_their_way(tx, number)
    return {"lock_out_id": number, "on_their_way": [str(one) for one in on_their_way]}


@router.post("/lock-outs/{number}/lift", summary="The work is over")
async def unlock(
    services: Asked, worker: LockOuter, number: int, because: Because
) -> dict[str, Any]:
    """Orders that waited may go on."""
    async with services.database.transaction() as tx:
        theirs = await protections.lock_outs(tx, worker.operator.scope)
        if number not in {one.lock_out_id for one in theirs}:
            raise Problem("no-such-number", number=number)
        lifted = await protections.lift_lock_out(
            tx,
            number,
            reason=because.reason,
            by=worker.operator.operator_id,
            at=services.clock.now(),
        )
    if not lifted:
        raise Problem("no-such-number", number=number)
    return {"lock_out_id": number, "lifted": True}


@router.get("/sites/{site}/calendar", summary="When nobody is cut on a property")
async def calendar(services: Asked, viewer: Viewer, site: str, response: Response) -> CalendarWish:
    """What is in force, the usual one where none was set; as PUT takes it."""
    known = _site(services, viewer, site)
    async with services.database.transaction() as tx:
        record = _calendar_record((await supply.calendars(tx))[known.site_id])
    tag(response, fingerprint(record.model_dump()))
    return record


def _calendar_record(known: Calendar) -> CalendarWish:
    return CalendarWish(
        friendly_hours=[
            Hours(begins=one.begins, ends=one.ends, weekdays=sorted(one.weekdays))
            for one in known.friendly_hours
        ],
        spare_weekends=known.spare_weekends,
        holidays=dict(sorted(known.holidays.items())),
        working_days=sorted(known.working_days),
    )


@router.put("/sites/{site}/calendar", summary="Friendly hours, weekends, holidays")
async def set_calendar(
    services: Asked,
    protector: Protector,
    site: str,
    wish: CalendarWish,
    version: IfMatch,
    response: Response,
) -> dict[str, Any]:
    """In force at once; the one before stays on record."""
    known = _site(services, protector, site)
    wished = Calendar(
        time_zone=known.place.time_zone,
        friendly_hours=tuple(
            FriendlyHours(begins=h.begins, ends=h.ends, weekdays=frozenset(h.weekdays))
            for h in wish.friendly_hours
        ),
        spare_weekends=wish.spare_weekends,
        holidays=wish.holidays,
        working_days=frozenset(wish.working_days),
    )
    at: datetime = services.clock.now()
    async with services.database.transaction() as tx:
        await supply.lock_calendar(tx, known.site_id)
        before = _calendar_record((await supply.calendars(tx))[known.site_id])
        same(version, fingerprint(before.model_dump()))
        await supply.set_calendar(
            tx, known.site_id, wished, by=protector.operator.operator_id, at=at
        )
        now = _calendar_record((await supply.calendars(tx))[known.site_id])
    tag(response, fingerprint(now.model_dump()))
    return {"site": site, "in_force_since": at.isoformat()}


def _site(services: Services, caller: Caller, name: str) -> KnownSite:
    site = services.lines.sites.get(name)
    if site is None or not caller.may_touch(site.site_id):
        raise Problem("no-such-site", site=name)
    return site
