"""What a draft would have cost last month: a table, and the same as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Response

from headend.domain.what_if import Compared
from headend.services.services import Services
from headend.services.what_if import METERS_MAX, Row, WhatIf, month_before, what_if
from headend.store import price_readings, tariff_places, tariffs
from headend.store.tariffs import StoredVersion, Tariff
from headend.web import desk, words
from headend.web.common import Asked
from headend.web.desk import Viewer, Visitor
from headend.web.pages_prices import in_force, sites_of, tariff_for, today_of
from headend.web.texts import yuan_plain

router = APIRouter(include_in_schema=False)

COLUMNS: Final = (
    "site", "building", "room", "meter", "from", "to", "energy_wh", "before_yuan", "after_yuan",
    "change_yuan", "assumed",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfView:
    """A what-if and what was chosen for it."""

    tariff: Tariff
    version: StoredVersion | None  # None: there is no version to look at
    sites: Sequence[str]
    site: str  # empty: the meters of this tariff
    building: str
    month: date
    seen: WhatIf | None
    query: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Which meters, and which month as 2026-10."""

    site: str = ""
    building: str = ""
    month: str = ""


Chosen = Annotated[Choice, Depends()]


@router.get("/prices/{tariff_id}/what-if")
async def page(services: Asked, viewer: Viewer, tariff_id: int, choice: Chosen) -> Response:
    """The draft, or where there is none the newest version."""
    view = await _view(services, viewer, tariff_id, choice)
    return desk.show("what_if.html", viewer, services, view)


@router.get("/prices/{tariff_id}/what-if.csv")
async def as_csv(services: Asked, viewer: Viewer, tariff_id: int, choice: Chosen) -> Response:
    """For a spreadsheet: yuan with two decimals, a mark at the front for its Chinese."""
    view = await _view(services, viewer, tariff_id, choice)
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(COLUMNS)
    for row in view.seen.rows if view.seen else ():
        table.writerow(_cells(row, viewer))
    return Response(
        "\ufeff" + out.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers=dict(desk.HEADERS)
        | {"content-disposition": f'attachment; filename="what-if-{view.month:%Y-%m}.csv"'},
    )


def _cells(row: Row, viewer: Visitor) -> list[str]:
    named = [row.meter.site, row.meter.building or "", row.meter.room or "", row.meter.meter]
    named = [f"'{one}" if one[:1] in "=+-@\t\r" and one else one for one in named]
    match row.result:
        case Compared() as one:
            return [
                *named,
                one.begins.isoformat(),
                one.ends.isoformat(),
                str(one.energy_wh),
                *(yuan_plain(fen) for fen in (one.before_fen, one.after_fen, one.change_fen)),
                words.said(one.assumed.value, viewer.language),
            ]
        case why:
            return [*named, "", "", "", "", "", "", words.said(why.value, viewer.language)]


async def _view(services: Services, viewer: Visitor, tariff_id: int, choice: Choice) -> WhatIfView:
    today = today_of(services)
    mine = sites_of(services, viewer)
    site, building = choice.site if choice.site in mine else "", choice.building.replace("\0", "")
    begins = _month(choice.month, today)
    async with services.database.transaction() as tx:
        found = await tariff_for(tx, viewer, tariff_id)
        versions = await tariffs.versions(tx, tariff_id)
        draft = next((one for one in versions if one.state == "draft"), None)
        version = draft or in_force(versions, today) or next(iter(versions), None)
        seen = None
        if version is not None:
            of_tariff = None if site else await tariff_places.meters_of(tx, tariff_id, today)
            meters = await price_readings.chosen(
                tx, viewer.sites, meter_ids=of_tariff, site=site, building=building,
                limit=METERS_MAX + 1,
            )  # fmt: skip
            seen = await what_if(tx, version.terms, meters, begins)
    chosen = urlencode({"site": site, "building": building, "month": f"{begins:%Y-%m}"})
    return WhatIfView(
        tariff=found,
        version=version,
        sites=list(mine),
        site=site,
        building=building,
        month=begins,
        seen=seen,
        query=chosen,
    )


def _month(typed: str, today: date) -> date:
    """The month that was asked for; the last whole one where nothing sensible was."""
    try:
        found = date.fromisoformat(f"{typed}-01")
    except ValueError:
        return month_before(today)
    return found if date(2000, 1, 1) <= found <= today else month_before(today)
