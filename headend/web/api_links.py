"""Links for tenants over HTTP: made, listed, revoked. A link is a key, shown once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.problems import Problem
from headend.store import accounts, tenant_links
from headend.store.tenant_links import TenantLink
from headend.web.auth import Seller, meter_for
from headend.web.common import Asked
from headend.web.edits import NUMBER_MAX, After, Limit, cut

router = APIRouter(prefix="/api/v1/meters/{meter}/links", tags=["accounts"])

DAYS_MAX = 1_095


class NewLink(BaseModel):
    """How long it opens the page, and whether the links before it end."""

    model_config = ConfigDict(extra="forbid", strict=True)
    days: int = Field(default=365, ge=1, le=DAYS_MAX)
    revoke_old: bool = False


def link_record(link: TenantLink) -> dict[str, Any]:
    """A link for programs: never its secret."""
    return {
        "link_id": link.link_id,
        "customer": link.customer,
        "meter": link.meter,
        "created_at": link.created_at.isoformat(),
        "created_by": link.created_by,
        "expires_at": link.expires_at.isoformat(),
        "revoked_at": None if link.revoked_at is None else link.revoked_at.isoformat(),
        "opened_at": None if link.opened_at is None else link.opened_at.isoformat(),
    }


@router.get("", summary="The links of a meter's tenants")
async def listed(
    request: Request,
    response: Response,
    services: Asked,
    seller: Seller,
    meter: str,
    after: After = 0,
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """The newest first, those that are over too."""
    number = meter_for(services, seller, meter).known.meter_id
    async with services.database.transaction() as tx:
        found = await tenant_links.of_meter(tx, number, before=after or None, limit=limit + 1)
    last = found[limit - 1].link_id if len(found) > limit else None
    return [link_record(one) for one in cut(request, response, found, last, limit)]


@router.post("", summary="Make a link for the tenant", status_code=201)
async def make(
    request: Request, services: Asked, seller: Seller, meter: str, wish: NewLink
) -> dict[str, Any]:
    """`url` is the address of the tenant's page, shown this once: whoever has it sees the page."""
    number, at = meter_for(services, seller, meter).known.meter_id, services.clock.now()
    by = seller.operator.operator_id
    async with services.database.transaction() as tx:
        customer = await accounts.customer_of_meter(tx, number, at)
        if customer.closed_at is not None:
            raise Problem("account-closed", meter=meter, detail="")
        if wish.revoke_old:
            await tenant_links.revoke_of_account(tx, customer.account_id, by=by, at=at)
        secret = await tenant_links.make(
            tx, customer.account_id, by=by, at=at, expires_at=at + timedelta(days=wish.days)
        )
        (made,) = await tenant_links.of_meter(tx, number, limit=1)
    base = services.public_url or str(request.base_url)
    return link_record(made) | {"url": f"{base.rstrip('/')}/t/{secret}"}


@router.post("/{link_id}/revoke", summary="A link opens nothing any more")
async def revoke(
    services: Asked,
    seller: Seller,
    meter: str,
    link_id: Annotated[int, Path(ge=0, le=NUMBER_MAX - 1)],
) -> dict[str, Any]:
    """For good; make another one instead."""
    number = meter_for(services, seller, meter).known.meter_id
    async with services.database.transaction() as tx:
        nearest = await tenant_links.of_meter(tx, number, before=link_id + 1, limit=1)
        done = None
        if nearest and nearest[0].link_id == link_id:
            done = await tenant_links.revoke(
                tx, link_id, None, by=seller.operator.operator_id, at=services.clock.now()
            )
    if done is None:
        raise Problem("no-such-link")
    return {"link_id": link_id, "revoked": True}
