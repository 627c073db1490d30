"""Meters: what they showed last, what they showed before, and a look right now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from headend.domain.problems import Problem
from headend.services.looks import Missed, as_record
from headend.store import clocks
from headend.store import readings as store
from headend.web.auth import Asker, Looker, meter_for
from headend.web.common import Asked
from headend.web.edits import BAD_CURSOR, AfterText, Page, cut

router = APIRouter(prefix="/api/v1", tags=["meters"])

READINGS_MAX = 10_000  # about a year of hourly readings
YEAR_MAX = 9999  # the last one a date can have


@router.get("/meters", summary="Every meter, its last reading and how wrong its clock is")
async def meters(
    services: Asked,
    looker: Looker,
    page: Page,
    site: Annotated[str | None, Query()] = None,
    line: Annotated[str | None, Query()] = None,
) -> list[dict[str, Any]]:
    """By name. The last reading comes with its instant and origin, so its age can be seen."""
    wanted = [
        meter
        for meter in services.lines.meters.values()
        if site in (None, meter.known.site)
        and line in (None, meter.known.line)
        and looker.may_touch_meter(meter.known)
    ]
    shown = page.of(wanted, key=lambda meter: meter.known.name)
    numbers = [meter.known.meter_id for meter in shown]
    async with services.database.transaction() as tx:
        last = await store.last_readings(tx, numbers)
        checks = await clocks.last_checks(tx, numbers)
    return [
        meter.record()
        | {"last": last.get(meter.known.meter_id), "clock": checks.get(meter.known.meter_id)}
        for meter in shown
    ]


@router.get("/meters/{meter}/readings", summary="The readings of one meter")
async def readings(
    request: Request,
    response: Response,
    services: Asked,
    looker: Looker,
    meter: str,
    since: Annotated[datetime | None, Query(description="with an offset; default: 7 days")] = None,
    until: Annotated[datetime | None, Query(description="with an offset; default: now")] = None,
    after: AfterText = "",
    limit: Annotated[int, Query(ge=1, le=READINGS_MAX)] = READINGS_MAX,
) -> list[dict[str, Any]]:
    """Oldest first. Every value keeps its origin."""
    known = meter_for(services, looker, meter).known
    until = until or services.clock.now()
    since = since or until - timedelta(days=7)
    if since.tzinfo is None or until.tzinfo is None:
        raise Problem("bad-request", detail="since and until need an offset, e.g. +08:00")
    if after:
        since = max(since, _past(after))
    async with services.database.transaction() as tx:
        found = await store.series(tx, known.meter_id, since, until, limit=limit + 1)
    last = found[limit - 1]["at"] if len(found) > limit else None
    return cut(request, response, found, last, limit)


def _past(after: str) -> datetime:
    """A meter has one reading an instant: the next one is later than the last of the page."""
    try:
        at = datetime.fromisoformat(after)
    except ValueError as error:
        raise Problem("bad-request", detail=BAD_CURSOR) from error
    if at.tzinfo is None or at.year >= YEAR_MAX:
        raise Problem("bad-request", detail=BAD_CURSOR)
    return at + timedelta(microseconds=1)


@router.post("/meters/{meter}/read", summary="Read one meter now")
async def read(services: Asked, asker: Asker, meter: str) -> dict[str, Any]:
    """Goes before every waiting poll of its line, never into the middle of one."""
    at_work = meter_for(services, asker, meter)
    outcome = await services.nights.read_now(at_work)
    if isinstance(outcome, Missed):
        raise Problem("meter-not-read", meter=meter, detail=outcome.detail)
    return at_work.record() | as_record(outcome)
