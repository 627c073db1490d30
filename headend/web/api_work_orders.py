"""Work orders over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.roles import Caller
from headend.services.services import Services
from headend.services.tending import Tending
from headend.store import work_orders
from headend.store.work_orders import Step, WorkOrder
from headend.web.auth import Tender, Viewer, meter_for
from headend.web.common import Asked, Because, Reason, Words
from headend.web.edits import NUMBER_MAX, After, IfMatch, Limit, cut, tag

router = APIRouter(prefix="/api/v1/work-orders", tags=["alarms"])

OrderId = Annotated[int, Path(ge=0, le=NUMBER_MAX)]


class NewOrder(BaseModel):
    """What is to be done: about an alarm, or about a meter."""

    model_config = ConfigDict(extra="forbid")
    title: Reason = Field(examples=["replace the fuse of box 3"])
    meter: str | None = Field(default=None, examples=["A-101"])
    alarm_id: int | None = Field(default=None, ge=0, le=NUMBER_MAX)
    assigned_to: Words = Field(default="", examples=["zhang"])


class Owner(BaseModel):
    """Whose it is from now on; an empty name is nobody's."""

    model_config = ConfigDict(extra="forbid")
    operator: Words = Field(examples=["zhang"])


class Comment(BaseModel):
    """What somebody saw or did."""

    model_config = ConfigDict(extra="forbid")
    text: Reason = Field(examples=["the box is locked, key at the gate"])


def order_record(order: WorkOrder) -> dict[str, Any]:
    """A work order for programs; `version` is its ETag."""
    return {
        "work_order_id": order.work_order_id,
        "alarm_id": order.alarm_id,
        "alarm": order.alarm_code,
        "meter": order.meter,
        "room": order.room,
        "gateway": order.gateway,
        "title": order.title,
        "opened_at": order.opened_at.isoformat(),
        "opened_by": order.opened_by,
        "assigned_to": order.assigned_to,
        "closed_at": None if order.closed_at is None else order.closed_at.isoformat(),
        "closed_by": order.closed_by,
        "closed_reason": order.closed_reason,
        "at_risk_fen": order.at_risk_fen,
        "version": order.version,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "at": step.at.isoformat(),
        "operator": step.operator,
        "action": step.action,
        "text": step.text,
    }


@router.get("", summary="Work orders, in the order they were opened")
async def listed(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    after: After = 0,
    limit: Limit = 100,
    closed: Annotated[bool, Query(description="closed ones too")] = False,
) -> list[dict[str, Any]]:
    """`at_risk_fen`: money nobody can be sure of until the work is done."""
    async with services.database.transaction() as tx:
        found = await work_orders.page(
            tx, viewer.operator.scope, after=after, count=limit + 1, open_only=not closed
        )
    last = found[limit - 1].work_order_id if len(found) > limit else None
    return [order_record(one) for one in cut(request, response, found, last, limit)]


@router.get("/to-do", summary="What is to be done, most money at risk first")
async def to_do(
    services: Asked,
    viewer: Viewer,
    mine: Annotated[bool, Query(description="only what is assigned to the caller")] = False,
) -> list[dict[str, Any]]:
    """The technician's list; 500 at most."""
    owner = viewer.operator.operator_id if mine else None
    async with services.database.transaction() as tx:
        found = await work_orders.open_ones(tx, viewer.operator.scope, assigned_to=owner)
    return [order_record(one) for one in found]


@router.post("", summary="Open a work order", status_code=201)
async def opened(
    services: Asked, tender: Tender, wanted: NewOrder, response: Response
) -> dict[str, Any]:
    """About an alarm (then its meter or gateway), else about a meter. An alarm has one open
    work order at most."""
    tending = _tending(services, tender)
    async with services.database.transaction() as tx:
        if wanted.alarm_id is not None:
            made = await tending.open_from_alarm(
                tx, wanted.alarm_id, wanted.title, wanted.assigned_to
            )
        else:
            known = meter_for(services, tender, wanted.meter or "").known
            made = await tending.open_order(
                tx,
                site_id=known.site_id,
                title=wanted.title,
                to=wanted.assigned_to,
                meter_id=known.meter_id,
                building_id=known.building_id,
            )
    return _tagged(response, made)


@router.get("/{work_order_id}", summary="One work order and what was done about it")
async def one(
    services: Asked, viewer: Viewer, work_order_id: OrderId, response: Response
) -> dict[str, Any]:
    """With its ETag."""
    async with services.database.transaction() as tx:
        found = await _tending(services, viewer).work_order(tx, work_order_id)
        steps = await work_orders.steps(tx, work_order_id)
    return _tagged(response, found) | {"steps": [_step(step) for step in steps]}


@router.post("/{work_order_id}/assign", summary="Give it to somebody")
async def assign(
    services: Asked,
    tender: Tender,
    work_order_id: OrderId,
    to: Owner,
    version: IfMatch,
    response: Response,
) -> dict[str, Any]:
    """Somebody who looks after alarms of that property."""
    async with services.database.transaction() as tx:
        tending = _tending(services, tender)
        done = await tending.assign_order(tx, work_order_id, to.operator, version)
    return _tagged(response, done)


@router.post("/{work_order_id}/comment", summary="Say something about it", status_code=201)
async def comment(
    services: Asked, tender: Tender, work_order_id: OrderId, said: Comment, response: Response
) -> dict[str, Any]:
    """Kept for ever."""
    async with services.database.transaction() as tx:
        done = await _tending(services, tender).comment(tx, work_order_id, said.text)
    return _tagged(response, done)


@router.post("/{work_order_id}/close", summary="It is done, or is not to be done")
async def close(
    services: Asked,
    tender: Tender,
    work_order_id: OrderId,
    because: Because,
    version: IfMatch,
    response: Response,
) -> dict[str, Any]:
    """For a reason. Its alarm ends by itself when its cause is gone."""
    async with services.database.transaction() as tx:
        tending = _tending(services, tender)
        done = await tending.close_order(tx, work_order_id, because.reason, version)
    return _tagged(response, done)


def _tending(services: Services, caller: Caller) -> Tending:
    return Tending(caller.operator, services.clock)


def _tagged(response: Response, order: WorkOrder) -> dict[str, Any]:
    tag(response, order.version)
    return order_record(order)
