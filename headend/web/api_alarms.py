"""Alarms over HTTP: what stands, who looks after it, and from when on it is an alarm."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.alarms import AlarmKind, AlarmRules, AlarmState, Severity
from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services.services import Services
from headend.services.tending import Tending
from headend.store import alarm_looks, alarms
from headend.store.alarms import Alarm, AlarmFilter
from headend.web.auth import Configurer, Tender, Viewer, meter_for
from headend.web.common import Asked, Because, Words
from headend.web.edits import NUMBER_MAX, After, IfMatch, Limit, cut, same, tag

router = APIRouter(prefix="/api/v1", tags=["alarms"])

AlarmId = Annotated[int, Path(ge=0, le=NUMBER_MAX)]


class Noted(BaseModel):
    """A word about it, or none."""

    model_config = ConfigDict(extra="forbid")
    note: Words = Field(default="", examples=["the fuse of the box, I am on my way"])


class Assigned(Noted):
    """Whose it is from now on; an empty name is nobody's."""

    operator: Words = Field(examples=["zhang"])


USUAL = AlarmRules()


class Rules(BaseModel):
    """Thresholds of one property; what is left out has its usual value."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [dataclasses.asdict(USUAL)]},
    )
    low_credit_fen: int = USUAL.low_credit_fen
    very_low_credit_fen: int = USUAL.very_low_credit_fen
    arrears_fen: int = USUAL.arrears_fen
    meter_offline_min: int = USUAL.meter_offline_min
    gateway_offline_min: int = USUAL.gateway_offline_min
    clock_drift_s: int = USUAL.clock_drift_s
    unknown_min: int = USUAL.unknown_min
    loss_permille: int = USUAL.loss_permille


def alarm_record(alarm: Alarm) -> dict[str, Any]:
    """An alarm for programs; `version` is its ETag."""
    return {
        "alarm_id": alarm.alarm_id,
        "code": alarm.code,
        "severity": alarm.severity.value,
        "state": alarm.state.value,
        "meter": alarm.meter,
        "room": alarm.room,
        "gateway": alarm.gateway,
        "command_id": None if alarm.command_id is None else str(alarm.command_id),
        "detail": alarm.detail,
        "raised_at": alarm.raised_at.isoformat(),
        "last_seen_at": alarm.last_seen_at.isoformat(),
        "seen_count": alarm.seen_count,
        "acknowledged_by": alarm.acknowledged_by,
        "assigned_to": alarm.assigned_to,
        "note": alarm.note,
        "closed_at": None if alarm.closed_at is None else alarm.closed_at.isoformat(),
        "closed_by": alarm.closed_by,
        "closed_reason": alarm.closed_reason,
        "at_risk_fen": alarm.at_risk_fen,
        "version": alarm.version,
    }


@router.get(
    "/alarms",
    summary="What stands and wants somebody",
    responses={
        200: {"headers": {"Link": {"description": 'rel="next": the next page, where there is one'}}}
    },
)
async def listed(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: After = 0,
    limit: Limit = 100,
    state: Annotated[AlarmState | None, Query(description="without it: what is not closed")] = None,
    code: AlarmKind | None = None,
    severity: Severity | None = None,
    meter: str | None = None,
    assigned_to: str | None = None,
) -> list[dict[str, Any]]:
    """Raised once, however often it is seen; closed when its cause is gone or by a person."""
    wanted = AlarmFilter(
        whose=viewer.operator.scope,
        open_only=state is None,
        state=state,
        code=code and code.value,
        severity=severity,
        assigned_to=_known_text(assigned_to),
        meter_id=None if meter is None else meter_for(services, viewer, meter).known.meter_id,
    )
    async with services.database.transaction() as tx:
        found = await alarms.page(tx, wanted, after=after, count=limit + 1)
    last = found[limit - 1].alarm_id if len(found) > limit else None
    return [alarm_record(one) for one in cut(request, response, found, last, limit)]


@router.get("/alarms/{alarm_id}", summary="One alarm, with its ETag")
async def one(
    services: Asked, viewer: Viewer, alarm_id: AlarmId, response: Response
) -> dict[str, Any]:
    """Closed ones too."""
    async with services.database.transaction() as tx:
        return _tagged(response, await _tending(services, viewer).alarm(tx, alarm_id))


@router.post("/alarms/{alarm_id}/acknowledge", summary="Somebody has seen it")
async def acknowledge(
    services: Asked,
    tender: Tender,
    alarm_id: AlarmId,
    noted: Noted,
    version: IfMatch,
    response: Response,
) -> dict[str, Any]:
    """Once more changes nothing."""
    async with services.database.transaction() as tx:
        done = await _tending(services, tender).acknowledge(tx, alarm_id, noted.note, version)
    return _tagged(response, done)


@router.post("/alarms/{alarm_id}/assign", summary="Give it to somebody")
async def assign(
    services: Asked,
    tender: Tender,
    alarm_id: AlarmId,
    to: Assigned,
    version: IfMatch,
    response: Response,
) -> dict[str, Any]:
    """Somebody who looks after alarms of that property."""
    async with services.database.transaction() as tx:
        tending = _tending(services, tender)
        done = await tending.assign_alarm(tx, alarm_id, to.operator, to.note, version)
    return _tagged(response, done)


@router.post("/alarms/{alarm_id}/close", summary="End it by your word")
async def close(
    services: Asked,
    tender: Tender,
    alarm_id: AlarmId,
    because: Because,
    version: IfMatch,
    response: Response,
) -> dict[str, Any]:
    """Where its cause still stands after a day it is raised anew. No money is thawed by it."""
    async with services.database.transaction() as tx:
        done = await _tending(services, tender).close_alarm(tx, alarm_id, because.reason, version)
    return _tagged(response, done)


@router.get("/alarm-rules/{site}", summary="From when on something is an alarm")
async def rules(services: Asked, viewer: Viewer, site: str, response: Response) -> dict[str, Any]:
    """Amounts in fen, waits in minutes."""
    site_id = _site(services, viewer, site)
    async with services.database.transaction() as tx:
        known = (await alarm_looks.rules_of_sites(tx))[site_id]
    tag(response, known.rule_id)
    return dataclasses.asdict(known.rules)


@router.put("/alarm-rules/{site}", summary="Set from when on something is an alarm")
async def set_rules(
    services: Asked,
    configurer: Configurer,
    site: str,
    wanted: Rules,
    version: IfMatch,
    response: Response,
) -> dict[str, Any]:
    """In force from the next look on; what held before is kept."""
    site_id = _site(services, configurer, site)
    try:
        given = AlarmRules(**wanted.model_dump())
    except ValueError as error:
        raise Problem("bad-alarm-rules", detail=error) from error
    async with services.database.transaction() as tx:
        await alarm_looks.lock_rules(tx, site_id)
        same(version, (await alarm_looks.rules_of_sites(tx))[site_id].rule_id)
        number = await alarm_looks.set_rules(
            tx, site_id, given, by=configurer.operator.operator_id, at=services.clock.now()
        )
    tag(response, number)
    return dataclasses.asdict(given)


def _tending(services: Services, caller: Caller) -> Tending:
    return Tending(caller.operator, services.clock)


def _tagged(response: Response, alarm: Alarm) -> dict[str, Any]:
    tag(response, alarm.version)
    return alarm_record(alarm)


def _site(services: Services, caller: Caller, name: str) -> int:
    site = services.lines.sites.get(name)
    if site is None or not caller.may_touch(site.site_id):
        raise Problem("no-such-site", site=name)
    return site.site_id


def _known_text(text: str | None) -> str | None:
    """A zero byte is in no name, and the database would refuse the question."""
    return text if text is None or "\0" not in text else ""
