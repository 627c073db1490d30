"""The room board over HTTP: buildings with their rooms by state, and each room of one of them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from headend.domain.problems import Problem
from headend.store import desk_rooms
from headend.store.desk_rooms import RoomMeter
from headend.web.auth import Viewer
from headend.web.common import Asked
from headend.web.edits import AfterText, Limit, paged

router = APIRouter(prefix="/api/v1", tags=["sites"])


def _room(room: RoomMeter) -> dict[str, Any]:
    return {
        "room": room.room,
        "floor": room.floor,
        "meter": room.meter,
        "state": room.state.value,
        "credit_fen": room.credit_fen,
        "power_w": room.power_w,
        "dark": room.dark,
        "waits": room.waits,
        "locked_out": room.locked_out,
        "seen_at": None if room.seen_at is None else room.seen_at.isoformat(),
    }


@router.get("/buildings", summary="Buildings, their rooms by state")
async def buildings(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: AfterText = "",
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """By property and name; `counts` leaves out states that no room is in."""
    async with services.database.transaction() as tx:
        found = await desk_rooms.buildings(tx, viewer.operator.scope, services.clock.now())
    page = paged(
        request,
        response,
        found,
        key=lambda one: f"{one.site}/{one.building}",
        after=after,
        limit=limit,
    )
    return [
        {
            "site": one.site,
            "building": one.building,
            "rooms": one.rooms,
            "counts": {state.value: count for state, count in one.counts.items()},
        }
        for one in page
    ]


@router.get("/buildings/{site}/{building}/rooms", summary="The rooms of one building")
async def rooms(  # where, and which page of it
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    site: str,
    building: str,
    after: AfterText = "",
    limit: Limit = 500,
) -> list[dict[str, Any]]:
    """By name, one row a meter; `seen_at` says how old credit, power and `dark` are."""
    async with services.database.transaction() as tx:
        found = await desk_rooms.rooms_of(
            tx, viewer.operator.scope, services.clock.now(), site=site, building=building
        )
    if not found:
        raise Problem("no-such-building", building=building)
    page = paged(
        request,
        response,
        found,
        key=lambda one: f"{one.room}/{one.meter or ''}",
        after=after,
        limit=limit,
    )
    return [_room(one) for one in page]
