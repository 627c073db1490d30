"""Properties: how far each is, the file that says it, and pieces added to it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import PlainTextResponse

from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services import setting_up
from headend.services.services import Services
from headend.store import desk_setup
from headend.store.places import KnownSite
from headend.web.auth import Configurer, Viewer
from headend.web.common import Asked
from headend.web.edits import Page
from protocols.catalog import load_meter_types

router = APIRouter(prefix="/api/v1/sites", tags=["sites"])

_PIECE = '[[rooms]]\nname = "A-103"\nbuilding = "A"\n'
_SITE = '[site]\nname = "Court"\ntime_zone = "Asia/Shanghai"\n\n[[buildings]]\nname = "A"\n'
Toml = Annotated[str, Body(media_type="application/toml", examples=[_PIECE])]


@router.get("", summary="Every property and how far it is set up")
async def sites(services: Asked, caller: Viewer, page: Page) -> list[dict[str, Any]]:
    """Counts of lines, meters, rooms; `meters_read`: at least once; `sales` counts up to 1,000."""
    mine = [site for site in services.lines.sites.values() if caller.may_touch(site.site_id)]
    known = page.of(mine, key=lambda site: site.name)
    async with services.database.transaction() as tx:
        return [
            {
                "site": site.name,
                "time_zone": site.place.time_zone.key,
                **asdict(await desk_setup.progress(tx, site.site_id)),
            }
            for site in known
        ]


@router.post("", summary="A new property", status_code=201)
async def found(
    services: Asked,
    caller: Configurer,
    text: Annotated[str, Body(media_type="application/toml", examples=[_SITE])],
) -> dict[str, str]:
    """The text of a site file. One that is there already is not changed: add to it instead. Only
    who may see all properties founds another."""
    if caller.operator.sites is not None:
        raise Problem(
            "not-allowed",
            operator=caller.operator.name,
            role=caller.operator.role.value,
            action="found a property",
        )
    return {
        "site": await setting_up.found_property(services.database, text, load_meter_types()),
    }


@router.get(
    "/{site}/file", summary="The site file of what is stored", response_class=PlainTextResponse
)
async def site_file(services: Asked, caller: Configurer, site: str) -> PlainTextResponse:
    """Importing it changes nothing."""
    known = _site(services, caller, site)
    async with services.database.transaction() as tx:
        text = await setting_up.property_file(tx, known)
    return PlainTextResponse(text, media_type="application/toml")


@router.post("/{site}/places", summary="Add a piece of a site file", status_code=201)
async def add(services: Asked, caller: Configurer, site: str, text: Toml) -> dict[str, Any]:
    """Tables of a site file without [site]: what they refer to may be stored or among them. All
    or nothing; nothing that is there is changed."""
    known = _site(services, caller, site)
    await setting_up.add_to_property(services.database, known, text, load_meter_types())
    async with services.database.transaction() as tx:
        return {"site": site, **asdict(await desk_setup.progress(tx, known.site_id))}


def _site(services: Services, caller: Caller, name: str) -> KnownSite:
    site = services.lines.sites.get(name)
    if site is None or not caller.may_touch(site.site_id):
        raise Problem("no-such-site", site=name)
    return site
