"""The overview: what the manager has to know at eight in the morning, each with the way to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Response

from headend.domain.commands import CommandState
from headend.domain.nights import Completeness
from headend.domain.roles import Permission
from headend.domain.rooms import RoomState
from headend.services import restore_clock
from headend.services.restore_clock import RestoreClock
from headend.services.safety import Safety, safety
from headend.services.services import Services
from headend.store import desk_days, desk_rooms, nights
from headend.store.desk_days import Order
from headend.store.desk_rooms import RoomMeter
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import Viewer, Visitor

router = APIRouter(include_in_schema=False)

SHOWN = 6  # of each list: the rest is one press away
SALES_DAYS = 30
_LISTS = (RoomState.SILENT, RoomState.LOW, RoomState.ARREARS, RoomState.DARK)
_DOUBTFUL = (CommandState.UNKNOWN, CommandState.ESCALATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewView:
    """Numbers first, then the few that matter most."""

    meters: int
    nights: Sequence[Completeness]  # the last of each site
    silent: tuple[int, Sequence[RoomMeter]]
    low: tuple[int, Sequence[RoomMeter]]
    arrears: tuple[int, Sequence[RoomMeter]]
    dark: tuple[int, Sequence[RoomMeter]]
    open_commands: dict[CommandState, int]
    unknown: Sequence[Order]
    clocks: Sequence[RestoreClock]
    lines_up: int
    lines_down: Sequence[str]
    sold_today_fen: int
    sales_today: int
    chart: dict[str, Any] | None
    #: None: not for whoever looks
    safe: Safety | None

    @property
    def doubtful(self) -> int:
        """Orders of which nobody knows yet what became of them."""
        return sum(self.open_commands.get(state, 0) for state in _DOUBTFUL)


@router.get("/")
async def overview(services: Asked, viewer: Viewer) -> Response:
    """Last night, who is silent, who runs out, who is dark, what is not known."""
    return desk.show("overview.html", viewer, services, await _view(services, viewer))


async def _view(services: Services, viewer: Visitor) -> OverviewView:
    now, zone, sites = services.clock.now(), desk.zone_of(services), viewer.scope
    caller = viewer.caller
    assert caller is not None
    async with services.database.transaction() as tx:
        found = await nights.completeness(tx, count=1)
        lists = await desk_rooms.worst(tx, sites, now, _LISTS, limit=SHOWN)
        open_commands = await desk_days.open_by_state(tx, sites)
        unknown = await desk_days.orders(tx, sites, states=_DOUBTFUL, limit=SHOWN)
        clocks = await restore_clock.restore_clocks(tx, now)
        safe = None
        if viewer.may(Permission.SUBSCRIBE) and caller.operator.sites is None:
            safe = await safety(tx, services)
        days = await desk_days.sales_by_day(tx, sites, now - timedelta(days=SALES_DAYS), str(zone))
    lines = [
        at_work
        for at_work in services.lines.lines.values()
        if caller.may_touch(at_work.known.site_id)
    ]
    mine = {site.name for site in services.lines.sites.values() if caller.may_touch(site.site_id)}
    today = [day for day in days if day.day == now.astimezone(zone).date()]
    say = desk.gettext(viewer)
    return OverviewView(
        meters=sum(len(at_work.meters) for at_work in lines),
        nights=[night for night in found if night.site in mine],
        silent=lists[RoomState.SILENT],
        low=lists[RoomState.LOW],
        arrears=lists[RoomState.ARREARS],
        dark=lists[RoomState.DARK],
        open_commands=open_commands,
        unknown=unknown,
        clocks=[
            one
            for one in clocks
            if (meter := services.lines.by_id.get(one.chain.meter_id))
            and caller.may_touch_meter(meter.known)
        ],
        lines_up=sum(at_work.line.is_up for at_work in lines),
        lines_down=[at_work.name for at_work in lines if not at_work.line.is_up],
        sold_today_fen=sum(day.amount_fen for day in today),
        sales_today=sum(day.sales for day in today),
        chart=_chart(days, say("Day"), say("Sold, yuan")),
        safe=safe,
    )


def _chart(days: Sequence[desk_days.Day], x: str, label: str) -> dict[str, Any] | None:
    if len(days) < 2:
        return None
    return {
        "x": x,
        "series": [{"label": label, "colour": "--accent", "bars": True}],
        "data": [
            [desk.noon_s(day.day) for day in days],
            [day.amount_fen / 100 for day in days],
        ],
    }
