"""Who may not be cut and where nobody may switch: protections, lock-outs, a site's calendar."""

from __future__ import annotations

import dataclasses
from datetime import date, datetime, time
from typing import Any

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from headend.domain.friendly_hours import Calendar, FriendlyHours
from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services.services import Services
from headend.store import protections, supply
from headend.store.places import KnownSite
from headend.web.auth import LockOuter, Protector, Viewer, meter_for
from headend.web.common import Asked, Because

router = APIRouter(prefix="/api/v1", tags=["supply rules"])


class Protection(BaseModel):
    """A meter that must not be cut until a day, and why."""

    model_config = ConfigDict(extra="forbid")
    meter: str
    reason: str = Field(min_length=1, examples=["oxygen concentrator"])
    expires_at: AwareDatetime


class LockOut(BaseModel):
    """Somebody works on this meter's circuit: nothing is switched, cut or restore."""

    model_config = ConfigDict(extra="forbid")
    meter: str
    reason: str = Field(min_length=1)


class Hours(BaseModel):
    """Wall-clock hours without cuts; over midnight when they end before they begin."""

    begins: time
    ends: time
    weekdays: list[int] = Field(default_factory=lambda: list(range(7)), description="0 is Monday")


class CalendarWish(BaseModel):
    """When nobody is cut on a site."""

    model_config = ConfigDict(extra="forbid")
    friendly_hours: list[Hours]
    spare_weekends: bool = True
    holidays: dict[date, str] = Field(default_factory=dict)
    working_days: list[date] = Field(default_factory=list)


@router.get("/protections", summary="Who is protected, until when, and why")
async def protected(services: Asked, viewer: Viewer) -> list[dict[str, Any]]:
    """The one that ends first comes first."""
    async with services.database.transaction() as tx:
        found = await protections.protections(tx, services.clock.now())
    return [
        dataclasses.asdict(one)
        for one in found
        if (site := services.lines.sites.get(one.site)) and viewer.may_touch(site.site_id)
    ]


@router.post("/protections", summary="Protect a meter from being cut", status_code=201)
async def protect(services: Asked, protector: Protector, wish: Protection) -> dict[str, Any]:
    """Held against every list and looked at once more right before a cut is sent."""
    known = meter_for(services, protector, wish.meter).known
    now = services.clock.now()
    if wish.expires_at <= now:
        raise Problem("bad-request", detail="expires_at has passed")
    async with services.database.transaction() as tx:
        number = await protections.protect(
            tx,
            reason=wish.reason,
            expires_at=wish.expires_at,
            by=protector.operator.operator_id,
            at=now,
            meter_id=known.meter_id,
        )
    return {"protection_id": number}


@router.post("/protections/{number}/lift", summary="End a protection early")
async def lift(
    services: Asked, protector: Protector, number: int, because: Because
) -> dict[str, Any]:
    """It stays on record, with who ended it and why."""
    async with services.database.transaction() as tx:
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
async def locked(services: Asked, viewer: Viewer) -> list[dict[str, Any]]:
    """Oldest first."""
    async with services.database.transaction() as tx:
        return [dataclasses.asdict(one) for one in await protections.lock_outs(tx)]


@router.post("/lock-outs", summary="Lock a circuit out while working on it", status_code=201)
async def lock(services: Asked, worker: LockOuter, wish: LockOut) -> dict[str, Any]:
    """Wins over every order, a restore included."""
    known = meter_for(services, worker, wish.meter).known
    async with services.database.transaction() as tx:
        number = await protections.lock_out(
            tx,
            reason=wish.reason,
            by=worker.operator.operator_id,
            at=services.clock.now(),
            meter_id=known.meter_id,
        )
    return {"lock_out_id": number}


@router.post("/lock-outs/{number}/lift", summary="The work is over")
async def unlock(
    services: Asked, worker: LockOuter, number: int, because: Because
) -> dict[str, Any]:
    """Orders that waited may go on."""
    async with services.database.transaction() as tx:
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


@router.put("/sites/{site}/calendar", summary="Friendly hours, weekends, holidays")
async def set_calendar(
    services: Asked, protector: Protector, site: str, wish: CalendarWish
) -> dict[str, Any]:
    """In force at once; the one before stays on record."""
    known = _site(services, protector, site)
    calendar = Calendar(
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
        await supply.set_calendar(
            tx, known.site_id, calendar, by=protector.operator.operator_id, at=at
        )
    return {"site": site, "in_force_since": at.isoformat()}


def _site(services: Services, caller: Caller, name: str) -> KnownSite:
    site = services.lines.sites.get(name)
    if site is None or not caller.may_touch(site.site_id):
        raise Problem("no-such-site", site=name)
    return site
