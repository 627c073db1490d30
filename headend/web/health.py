"""Is it running, and what waits: for a person, a load balancer and a monitoring system."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from headend.store.errors import DatabaseAway
from headend.web.common import Asked

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """`status`: ok, or degraded with the reasons in `problems`. `mqtt`: up, down or off, and
    `mqtt_detail` why."""

    status: str
    version: str
    uptime_s: int
    database: str
    lines_up: int
    lines_down: int
    readings_waiting: int
    readings_spooled_bytes: int
    readings_stored: int
    mqtt: str
    mqtt_detail: str | None
    problems: list[str]


@router.get("/health", summary="Is the head-end well?")
async def health(services: Asked, response: Response) -> Health:
    """200 while nights can be collected and stored; 503 while the database is away.

    A line that is down is a fact about the field, not an illness of the head-end: it is counted
    here and explained under /api/v1/lines. MQTT that is not up is an illness where a line needs it.
    """
    problems: list[str] = []
    try:
        await services.database.check()
    except DatabaseAway as error:
        problems.append(str(error))
        response.status_code = 503
    database = "away" if problems else "ok"
    mqtt = services.mqtt
    if mqtt.state != "up" and mqtt.is_needed:
        problems.append(mqtt.told)
    state = services.sink.state()
    lines = services.lines.lines.values()
    return Health(
        status="degraded" if problems else "ok",
        version=services.version,
        uptime_s=int((services.clock.now() - services.started_at).total_seconds()),
        database=database,
        lines_up=sum(at_work.line.is_up for at_work in lines),
        lines_down=sum(not at_work.line.is_up for at_work in lines),
        readings_waiting=state.waiting,
        readings_spooled_bytes=state.spooled_bytes,
        readings_stored=state.stored,
        mqtt=mqtt.state,
        mqtt_detail=mqtt.detail,
        problems=problems,
    )
