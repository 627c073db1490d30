"""Completeness by night: how many meters were read, and why the others were not."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from headend.domain.nights import Cell, CellState, Completeness, GapReason
from headend.domain.problems import Problem
from headend.services.back_fills import BackFill
from headend.store import nights as store
from headend.web.auth import Asker, Looker, meter_for, sites_for
from headend.web.common import Asked, Words
from headend.web.edits import Page

router = APIRouter(prefix="/api/v1", tags=["nights"])

# A year of nights fits one answer.
NIGHTS_MAX = 400


@router.get("/nights", summary="Completeness of the last nights, newest first")
async def nights(
    services: Asked,
    looker: Looker,
    page: Page,
    site: Annotated[str | None, Query(description="one site; all without it")] = None,
    count: Annotated[int, Query(ge=1, le=NIGHTS_MAX, description="nights of each site")] = 7,
) -> list[Completeness]:
    """One row for each site and night, with the number of cells without a reading by reason."""
    sites = sites_for(services, looker)
    if site is not None and site not in sites:
        raise Problem("no-such-site", site=site)
    async with services.database.transaction() as tx:
        found = await store.completeness(tx, site=site, count=count)
    mine = (row for row in found if row.site in sites)
    return page.of(mine, key=lambda one: f"{_DAYS - one.night.toordinal():08}/{one.site}")


_DAYS = date.max.toordinal()


@router.get("/nights/{site}/{night}", summary="The cells of one night")
async def cells(
    services: Asked,
    looker: Looker,
    page: Page,
    site: str,
    night: date,
    state: Annotated[CellState | None, Query(description="only cells in this state")] = None,
    reason: Annotated[GapReason | None, Query(description="only gaps of this reason")] = None,
    line: Annotated[str | None, Query(description="only meters on this line")] = None,
) -> list[Cell]:
    """One row for each meter of the site that night, by line. Gaps carry reason and last try."""
    found = None
    if site in sites_for(services, looker):
        async with services.database.transaction() as tx:
            found = await store.cells(tx, site=site, night=night)
    if found is None:
        raise Problem("no-such-night", site=site, night=night)
    wanted = (
        cell
        for cell in found
        if state in (None, cell.state)
        and reason in (None, cell.reason)
        and line in (None, cell.line)
    )
    return page.of(wanted, key=lambda cell: f"{cell.line}/{cell.meter}")


class Which(BaseModel):
    """Which cells of the night."""

    model_config = ConfigDict(extra="forbid")
    meter: Words | None = None  # None: every cell of the night without a reading


@router.post("/nights/{site}/{night}/back-fill", summary="Back-fill a night now", status_code=202)
async def back_fill(
    services: Asked, asker: Asker, site: str, night: date, which: Which
) -> dict[str, Any]:
    """Begins now instead of at the next tick, at the same low priority, and is answered at once;
    the same call with GET tells what became of it. Asked again while it goes on, it is the same
    back-fill. Each value that comes keeps its origin: `frozen` from the meter's memory, `polled`
    where the night still reaches to this moment."""
    meter = None if which.meter is None else meter_for(services, asker, which.meter)
    if meter is not None and meter.known.site != site:
        raise Problem("no-such-meter", meter=which.meter)
    fill: BackFill | None = None
    if site in sites_for(services, asker):
        fills = services.nights.back_fills
        fill = await fills.begin(services.lines.sites[site], night, meter)
    if fill is None:
        raise Problem("no-such-night", site=site, night=night)
    return fill.record()


@router.get("/nights/{site}/{night}/back-fill", summary="What became of the last back-fill")
async def back_filled(
    services: Asked, looker: Looker, site: str, night: date
) -> dict[str, Any] | None:
    """Each meter that was to be asked: `waiting`, `filled`, `missed` with its reason, or `not_kept`
    where the night is over and the meter keeps no value of its midnight. null: nobody asked since
    this program began. `ended_at` is null while it goes on."""
    if site not in sites_for(services, looker):
        raise Problem("no-such-night", site=site, night=night)
    fill = services.nights.back_fills.of(site, night)
    return None if fill is None else fill.record()
