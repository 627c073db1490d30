"""Gateways: how each does, and how each meter behind it answers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services.adopting import AdoptionWish, adopt
from headend.services.gateway_health import gateway_records, meter_records
from headend.services.services import Services
from headend.web.auth import Configurer, Looker, sites_for
from headend.web.common import Asked
from headend.web.edits import Page
from protocols.catalog import load_meter_types

router = APIRouter(prefix="/api/v1/gateways", tags=["lines"])


@router.get("", summary="Every gateway: signal, reconnects, errors, bytes, last seen")
async def gateways(services: Asked, looker: Looker, page: Page) -> list[dict[str, Any]]:
    """`state`: up, down, or partly (some of its lines). `error_permille` and `error_reason` are
    about the last exchanges of its lines; what a kind of box does not tell is null."""
    return page.of(_records(services, looker), key=lambda row: str(row["gateway"]))


def _records(services: Services, looker: Caller) -> list[dict[str, Any]]:
    sites = sites_for(services, looker)
    rows = gateway_records(services.lines, services.facts, services.clock)
    return [row for row in rows if row["site"] in sites]


class Adoption(BaseModel):
    """A box that dialled in and nobody knew, and what it is to be from now on."""

    model_config = ConfigDict(extra="forbid", strict=True)
    stranger: str = Field(description="its registration, or the beginning of its sample as hex")
    site: str
    kind: str | None = Field(
        default=None, description='"mqtt": the stranger is a device id that has not called yet'
    )
    name: str = Field(description="of the gateway and its line")
    registration: str | None = Field(default=None, description="where it told none, or a better")
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1
    options: dict[str, str] = Field(
        default_factory=dict, description="of the gateway", examples=[{"secret": "file:/etc/g1"}]
    )
    meter: str | None = Field(default=None, description="its meter's name; the gateway's if null")
    meter_type: str | None = Field(default=None, description="given: its meter is made too")
    address: str | None = Field(default=None, description="unit id or number of the meter")


@router.post("/adopt", summary="Make a stranger a gateway", status_code=201)
async def adopt_stranger(services: Asked, caller: Configurer, wish: Adoption) -> dict[str, Any]:
    """The gateway, its line and, with `meter_type`, its meter are in the site at once; the box is
    known when it calls next. `fragment` belongs into the site's file: an import without it retires
    what was adopted."""
    site = services.lines.sites.get(wish.site)
    if site is None or not caller.may_touch(site.site_id):
        raise Problem("no-such-site", site=wish.site)
    adopted = await adopt(
        services.database,
        services.strangers(),
        site,
        AdoptionWish(**wish.model_dump()),
        load_meter_types(),
    )
    return {"gateway": adopted.gateway, "site": wish.site, "fragment": adopted.fragment}


@router.get("/of/{gateway}", summary="One gateway, its lines and how each meter answers")
async def gateway(services: Asked, looker: Looker, gateway: str) -> dict[str, Any]:
    """The row of the list, with `line_records` and `meter_records`."""
    rows = _records(services, looker)
    row = next((row for row in rows if row["gateway"] == gateway), None)
    if row is None:
        raise Problem("no-such-gateway", gateway=gateway)
    lines = [services.lines.find_line(name) for name in row["lines"]]
    return row | {
        "line_records": [at_work.record() for at_work in lines],
        "meter_records": [record for at_work in lines for record in meter_records(at_work)],
    }
