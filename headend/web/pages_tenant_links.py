"""Links for tenants at the desk: made for a meter or printed for a building, listed, revoked.

The secret of a link is shown once, as its address and as a QR code, and is nowhere afterwards: a
lost one is revoked and made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import segno
from fastapi import APIRouter, Request, Response

from headend.domain.problems import Problem
from headend.services.services import Services
from headend.store import accounts, tenant_links
from headend.store.tenant_links import TenantLink
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Seller, Visitor, meter_for

router = APIRouter(include_in_schema=False)

DAYS_USUAL: Final = 365
DAYS_MAX: Final = 1_095
SHEET_MAX: Final = 400  # rooms of one building


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A link while its secret can still be seen."""

    room: str
    meter: str
    address: str
    qr: str  # as a data: address


@dataclass(frozen=True, slots=True, kw_only=True)
class LinksView:
    """The links of one meter; `made`: the one that was just made."""

    meter: str
    room: str | None
    links: Sequence[TenantLink]
    now: datetime
    made: MadeLink | None = None
    form: Form = field(default_factory=Form)


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetView:
    """The form of a sheet, or the sheet itself."""

    site: str
    building: str
    count: int
    sheet_id: UUID = field(default_factory=uuid4)
    made: Sequence[MadeLink] = ()
    expires_at: datetime | None = None
    form: Form = field(default_factory=Form)


@router.get("/meters/{meter}/links")
async def links(services: Asked, seller: Seller, meter: str) -> Response:
    """Which there are, and which still open something."""
    return desk.show("links.html", seller, services, await _links(services, seller, meter))


async def _links(
    services: Services,
    seller: Visitor,
    name: str,
    *,
    made: MadeLink | None = None,
    form: Form | None = None,
) -> LinksView:
    known = meter_for(services, seller, name).known
    async with services.database.transaction() as tx:
        found = await tenant_links.of_meter(tx, known.meter_id)
    return LinksView(
        meter=known.name,
        room=known.room,
        links=found,
        now=services.clock.now(),
        made=made,
        form=form or Form(),
    )


@router.post("/meters/{meter}/links")
async def make(request: Request, services: Asked, seller: Seller, meter: str) -> Response:
    """A new link, shown this once."""
    form = desk.form_of(await request.form())
    known = meter_for(services, seller, meter).known
    days = _days(form, seller)
    if days is None:
        view = await _links(services, seller, meter, form=form)
        return desk.show("links.html", seller, services, view, status=422)
    at = services.clock.now()
    async with services.database.transaction() as tx:
        customer = await accounts.customer_of_meter(tx, known.meter_id, at)
        if customer.closed_at is not None:
            raise PageProblem(seller, Problem("account-closed", meter=meter, detail=""))
        if form.get("revoke_old"):
            await tenant_links.revoke_of_account(
                tx, customer.account_id, by=seller.operator_id, at=at
            )
        secret = await tenant_links.make(
            tx,
            customer.account_id,
            by=seller.operator_id,
            at=at,
            expires_at=at + timedelta(days=days),
        )
    made = _made(services, request, known.room or known.name, known.name, secret)
    view = await _links(services, seller, meter, made=made)
    return desk.show("links.html", seller, services, view)


@router.post("/meters/{meter}/links/{link_id}/revoke")
async def revoke(services: Asked, seller: Seller, meter: str, link_id: int) -> Response:
    """It opens nothing any more."""
    known = meter_for(services, seller, meter).known
    async with services.database.transaction() as tx:
        ours = {one.link_id for one in await tenant_links.of_meter(tx, known.meter_id, limit=1000)}
        found = None
        if link_id in ours:
            found = await tenant_links.revoke(
                tx, link_id, seller.sites, by=seller.operator_id, at=services.clock.now()
            )
    if found is None:
        raise PageProblem(seller, Problem("no-such-link"))
    return desk.go(f"/meters/{known.name}/links")


@router.get("/rooms/{site}/{building}/links")
async def sheet_form(services: Asked, seller: Seller, site: str, building: str) -> Response:
    """How many codes a sheet of this building has."""
    view = await _sheet(services, seller, site, building)
    return desk.show("links_sheet.html", seller, services, view)


async def _sheet(
    services: Services, seller: Visitor, site: str, building: str, form: Form | None = None
) -> SheetView:
    async with services.database.transaction() as tx:
        found = await tenant_links.meters_of_building(tx, seller.sites, site, building)
    if not found:
        raise PageProblem(seller, Problem("no-such-building", building=building))
    return SheetView(site=site, building=building, count=len(found), form=form or Form())


@router.post("/rooms/{site}/{building}/links")
async def sheet(
    request: Request, services: Asked, seller: Seller, site: str, building: str
) -> Response:
    """A code for each room, to be printed and cut; a reload makes no second set."""
    form = desk.form_of(await request.form())
    days, at = _days(form, seller), services.clock.now()
    try:
        sheet_id = UUID(form.get("sheet_id"))
    except ValueError:
        sheet_id = uuid4()
    view = await _sheet(services, seller, site, building, form)
    if days is None:
        return desk.show("links_sheet.html", seller, services, view, status=422)
    made: list[MadeLink] = []
    async with services.database.transaction() as tx:
        if await tenant_links.sheet_exists(tx, sheet_id):
            form.wrong(
                "days",
                desk.gettext(seller)(
                    "This sheet was made already and cannot be shown again: make another one."
                ),
            )
            return desk.show("links_sheet.html", seller, services, view, status=409)
        found = await tenant_links.meters_of_building(tx, seller.sites, site, building)
        for meter_id, meter, room in found[:SHEET_MAX]:
            customer = await accounts.customer_of_meter(tx, meter_id, at)
            if customer.closed_at is not None:
                continue
            if form.get("revoke_old"):
                await tenant_links.revoke_of_account(
                    tx, customer.account_id, by=seller.operator_id, at=at
                )
            secret = await tenant_links.make(
                tx,
                customer.account_id,
                by=seller.operator_id,
                at=at,
                expires_at=at + timedelta(days=days),
                sheet_id=sheet_id,
            )
            made.append(_made(services, request, room, meter, secret))
    shown = SheetView(
        site=site,
        building=building,
        count=len(made),
        made=made,
        expires_at=at + timedelta(days=days),
    )
    return desk.show("links_sheet.html", seller, services, shown)


def _days(form: Form, seller: Visitor) -> int | None:
    typed = form.get("days") or str(DAYS_USUAL)
    if typed.isascii() and typed.isdigit() and 1 <= int(typed[:9]) <= DAYS_MAX:
        return int(typed)
    form.wrong("days", desk.gettext(seller)("From 1 to 1095 days."))
    return None


def _made(services: Services, request: Request, room: str, meter: str, secret: str) -> MadeLink:
    base = services.public_url or str(request.base_url)
    address = f"{base.rstrip('/')}/t/{secret}"
    qr = segno.make(address, error="m", micro=False).svg_data_uri(scale=4, border=2)
    return MadeLink(room, meter, address, qr)
