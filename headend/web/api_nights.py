"""Completeness by night: how many meters were read, and why the others were not."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from headend.domain.nights import Cell, CellState, Completeness, GapReason
from headend.domain.problems import Problem
from headend.store import nights as store
from headend.store import places
from headend.web.common import Asked

router = APIRouter(prefix="/api/v1", tags=["nights"])

# A year of nights fits one answer.
NIGHTS_MAX = 400


@router.get("/nights", summary="Completeness of the last nights, newest first")
async def nights(
    services: Asked,
    site: Annotated[str | None, Query(description="one site; all without it")] = None,
    count: Annotated[int, Query(ge=1, le=NIGHTS_MAX, description="nights of each site")] = 7,
) -> list[Completeness]:
    """One row for each site and night, with the number of cells without a reading by reason."""
    async with services.database.transaction() as tx:
        if site is not None and await places.site_id(tx, site) is None:
            raise Problem("no-such-site", site=site)
        return await store.completeness(tx, site=site, count=count)


@router.get("/nights/{site}/{night}", summary="The cells of one night")
async def cells(
    services: Asked,
    site: str,
    night: date,
    state: Annotated[CellState | None, Query(description="only cells in this state")] = None,
    reason: Annotated[GapReason | None, Query(description="only gaps of this reason")] = None,
    line: Annotated[str | None, Query(description="only meters on this line")] = None,
) -> list[Cell]:
    """One row for each meter of the site that night. Gaps carry the reason and the last try."""
    async with services.database.transaction() as tx:
        found = await store.cells(tx, site=site, night=night)
        if found is None:
            raise Problem("no-such-night", site=site, night=night)
    return [
        cell
        for cell in found
        if state in (None, cell.state)
        and reason in (None, cell.reason)
        and line in (None, cell.line)
    ]
