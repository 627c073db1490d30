"""Meters: what they showed last, what they showed before, and a look right now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query

from headend.domain.problems import Problem
from headend.services.looks import Missed, as_record
from headend.store import clocks
from headend.store import readings as store
from headend.web.common import Asked

router = APIRouter(prefix="/api/v1", tags=["meters"])

READINGS_MAX = 10_000  # about a year of hourly readings


@router.get("/meters", summary="Every meter, its last reading and how wrong its clock is")
async def meters(
    services: Asked,
    site: Annotated[str | None, Query()] = None,
    line: Annotated[str | None, Query()] = None,
) -> list[dict[str, Any]]:
    """The last reading comes with its instant and origin, so its age can be seen."""
    async with services.database.transaction() as tx:
        last = await store.last_readings(tx)
        checks = await clocks.last_checks(tx)
    return [
        meter.record()
        | {"last": last.get(meter.known.meter_id), "clock": checks.get(meter.known.meter_id)}
        for meter in services.lines.meters.values()
        if site in (None, meter.known.site) and line in (None, meter.known.line)
    ]


@router.get("/meters/{meter}/readings", summary="The readings of one meter")
async def readings(
    services: Asked,
    meter: str,
    since: Annotated[datetime | None, Query(description="with an offset; default: 7 days")] = None,
    until: Annotated[datetime | None, Query(description="with an offset; default: now")] = None,
) -> list[dict[str, Any]]:
    """Oldest first. Every value keeps its origin."""
    known = services.lines.find_meter(meter).known
    until = until or services.clock.now()
    since = since or until - timedelta(days=7)
    if since.tzinfo is None or until.tzinfo is None:
        raise Problem("bad-request", detail="since and until need an offset, e.g. +08:00")
    async with services.database.transaction() as tx:
        return await store.series(tx, known.meter_id, since, until, limit=READINGS_MAX)


@router.post("/meters/{meter}/read", summary="Read one meter now")
async def read(services: Asked, meter: str) -> dict[str, Any]:
    """Goes before every waiting poll of its line, never into the middle of one."""
    at_work = services.lines.find_meter(meter)
    outcome = await services.nights.read_now(at_work)
    if isinstance(outcome, Missed):
        raise Problem("meter-not-read", meter=meter, detail=outcome.detail)
    return at_work.record() | as_record(outcome)
