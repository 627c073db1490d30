"""The room board: buildings by colour, then floor by floor, live; and every room in one state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from fastapi import APIRouter, Request, Response

from headend.domain.problems import Problem
from headend.domain.rooms import RoomState
from headend.services.services import Services
from headend.store import desk_rooms
from headend.store.desk_rooms import BuildingCount, RoomMeter
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import PageProblem, Viewer, Visitor

router = APIRouter(include_in_schema=False)

LIST_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildingsView:
    """Every building; `asked` and `rooms`: those in one state, the worst first."""

    buildings: Sequence[BuildingCount]
    asked: RoomState | None = None
    total: int = 0
    rooms: Sequence[RoomMeter] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorView:
    """One floor; a meter that hangs in a room of no floor comes under None."""

    floor: int | None
    rooms: Sequence[RoomMeter]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildingView:
    """One building, the highest floor first."""

    site: str
    building: str
    floors: Sequence[FloorView]
    counts: dict[RoomState, int]


@router.get("/rooms")
async def buildings(services: Asked, viewer: Viewer, state: str = "") -> Response:
    """Each building with its rooms by state."""
    now = services.clock.now()
    asked = next((one for one in RoomState if one.value == state), None)
    if asked is RoomState.EMPTY:
        asked = None
    async with services.database.transaction() as tx:
        total, rooms = 0, list[RoomMeter]()
        if asked is not None:
            found = []
            listed = await desk_rooms.worst(tx, viewer.scope, now, [asked], limit=LIST_MAX)
            total, rooms = listed[asked]
        else:
            found = await desk_rooms.buildings(tx, viewer.scope, now)
    view = BuildingsView(buildings=found, asked=asked, total=total, rooms=rooms)
    return desk.show("rooms.html", viewer, services, view)


@router.get("/rooms/{site}/{building}")
async def board(services: Asked, viewer: Viewer, site: str, building: str) -> Response:
    """One building, by floor, by colour."""
    view = await _building(services, viewer, site, building)
    return desk.show("board.html", viewer, services, view)


@router.get("/rooms/{site}/{building}/live")
async def live(
    request: Request, services: Asked, viewer: Viewer, site: str, building: str
) -> Response:
    """Rooms as they change, into the open board."""
    await _building(services, viewer, site, building)

    async def pieces() -> AsyncIterator[str]:
        shown: dict[str, RoomMeter] = {}
        async with desk.bell(request).watched() as watch:
            while True:
                view = await _building(services, viewer, site, building)
                rooms = {_key(room): room for floor in view.floors for room in floor.rooms}
                changed = [room for key, room in rooms.items() if shown and shown.get(key) != room]
                shown = rooms
                yield (
                    desk.rendered("board_changes.html", viewer, services, changed)
                    if changed
                    else ""
                )
                await watch.wait()

    return desk.stream(pieces())


def _key(room: RoomMeter) -> str:
    return f"{room.room}/{room.meter_id}"


async def _building(services: Services, viewer: Visitor, site: str, building: str) -> BuildingView:
    async with services.database.transaction() as tx:
        rooms = await desk_rooms.rooms_of(
            tx, viewer.scope, services.clock.now(), site=site, building=building
        )
    if not rooms:
        raise PageProblem(viewer, Problem("no-such-building", building=building))
    counts: dict[RoomState, int] = {}
    for room in rooms:
        counts[room.state] = counts.get(room.state, 0) + 1
    return BuildingView(
        site=site,
        building=building,
        floors=[
            FloorView(floor=floor, rooms=list(on_it))
            for floor, on_it in groupby(rooms, key=lambda room: room.floor)
        ],
        counts={state: counts[state] for state in RoomState if state in counts},
    )
