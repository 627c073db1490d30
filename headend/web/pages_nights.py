"""The collection board: nights with their completeness, meters with their gaps, each with why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from headend.domain.nights import Cell, CellState, Completeness, GapReason
from headend.domain.problems import Problem
from headend.services.back_fills import BackFill, FillState
from headend.services.services import Services
from headend.store import desk_nights, nights
from headend.store.desk_nights import GapRow
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import PageProblem, Reader, Viewer, Visitor, meter_for

router = APIRouter(include_in_schema=False)

NIGHTS: Final = 7
ROWS_MAX: Final = 60
CELLS_MAX: Final = 100
LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NightsView:
    """The last nights of one property, and which meters had gaps in them."""

    sites: Sequence[str]
    site: str
    nights: Sequence[Completeness]  # newest first
    rows: Sequence[GapRow]  # the worst first
    dates: Sequence[date]
    more: bool
    chart: dict[str, Any] | None


@router.get("/nights")
async def board(services: Asked, viewer: Viewer, site: str = "") -> Response:
    """One property at a time."""
    sites = _sites(services, viewer)
    site = site if site in sites else (sites[0] if sites else "")
    async with services.database.transaction() as tx:
        found = await nights.completeness(tx, site=site, count=NIGHTS) if site else []
        rows = await desk_nights.gaps(tx, site, nights=NIGHTS, limit=ROWS_MAX + 1) if site else []
    say = desk.gettext(viewer)
    chart = None
    shown = [night for night in reversed(found) if night.meters]
    if len(shown) > 1:
        chart = {
            "x": say("Night"),
            "series": [{"label": say("Complete, %"), "colour": "--good"}],
            "data": [
                [desk.noon_s(night.night) for night in shown],
                [
                    (night.read + night.back_filled) * 10_000 // night.meters / 100
                    for night in shown
                ],
            ],
        }
    view = NightsView(
        sites=sites,
        site=site,
        nights=found,
        rows=rows[:ROWS_MAX],
        dates=[night.night for night in found],
        more=len(rows) > ROWS_MAX,
        chart=chart,
    )
    return desk.show("nights.html", viewer, services, view)


def _sites(services: Services, viewer: Visitor) -> list[str]:
    assert viewer.caller is not None
    return [
        name for name, one in services.lines.sites.items() if viewer.caller.may_touch(one.site_id)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class NightView:
    """One night: its gaps by reason, then its cells."""

    site: str
    night: date
    cells: Sequence[Cell]
    total: int
    by_state: Mapping[CellState, int]
    by_reason: Mapping[GapReason, int]
    asked: GapReason | None
    fill: BackFill | None  # the one that goes on, or the last one
    fill_counts: Mapping[str, int]

    @property
    def filling(self) -> bool:
        """Whether meters are being asked for it now."""
        return self.fill is not None and self.fill.ended_at is None

    @property
    def holes(self) -> int:
        """Cells that want a reading."""
        return sum(self.by_state.get(state, 0) for state in EMPTY)


EMPTY: Final = (CellState.OPEN, CellState.MISSING, CellState.ESTIMATED)


@router.get("/nights/{site}/{night}")
async def one(
    services: Asked, viewer: Viewer, site: str, night: date, reason: str = ""
) -> Response:
    """Every meter of the property that night; the gaps first."""
    view = await _night(services, viewer, site, night, reason)
    return desk.show("night.html", viewer, services, view)


@router.get("/nights/{site}/{night}/live")
async def live(
    services: Asked, viewer: Viewer, site: str, night: date, reason: str = ""
) -> Response:
    """The same while it is being back-filled, until it is not."""
    await _night(services, viewer, site, night, reason)

    async def pieces() -> AsyncIterator[str | None]:
        while True:
            view = await _night(services, viewer, site, night, reason)
            yield desk.rendered("night_now.html", viewer, services, view)
            if not view.filling:
                yield None
                return
            await asyncio.sleep(LOOK_S)

    return desk.stream(pieces())


@router.post("/nights/{site}/{night}/back-fill")
async def back_fill(
    request: Request, services: Asked, reader: Reader, site: str, night: date
) -> Response:
    """Begin to fill a night's empty cells, or one meter's, now instead of at the next tick.

    Pressed again while it goes on, it is the same back-fill.
    """
    if site not in _sites(services, reader):
        raise PageProblem(reader, Problem("no-such-site", site=site))
    name = desk.form_of(await request.form()).get("meter")
    meter = meter_for(services, reader, name) if name else None
    if meter is not None and meter.known.site != site:
        raise PageProblem(reader, Problem("no-such-meter", meter=name))
    fills = services.nights.back_fills
    if await fills.begin(services.lines.sites[site], night, meter) is None:
        raise PageProblem(reader, Problem("no-such-night", site=site, night=night))
    return desk.go(f"/nights/{quote(site, safe='')}/{night}")


async def _night(
    services: Services, viewer: Visitor, site: str, night: date, reason: str
) -> NightView:
    if site not in _sites(services, viewer):
        raise PageProblem(viewer, Problem("no-such-site", site=site))
    asked = next((one for one in GapReason if one.value == reason), None)
    async with services.database.transaction() as tx:
        counts = await desk_nights.counted(tx, site, night)
        if not counts:
            raise PageProblem(viewer, Problem("no-such-night", site=site, night=night))
        cells = await desk_nights.cells(tx, site, night, reason=asked, limit=CELLS_MAX)
    states: dict[CellState, int] = {}
    reasons: dict[GapReason, int] = {}
    for state, why, count in counts:
        states[state] = states.get(state, 0) + count
        if why is not None:
            reasons[why] = reasons.get(why, 0) + count
    fill = services.nights.back_fills.of(site, night)
    return NightView(
        site=site,
        night=night,
        cells=cells,
        total=sum(states.values()) if asked is None else reasons.get(asked, 0),
        by_state=states,
        by_reason=dict(sorted(reasons.items(), key=lambda pair: -pair[1])),
        asked=asked,
        fill=fill,
        fill_counts={} if fill is None else {one.value: fill.count(one) for one in FillState},
    )
