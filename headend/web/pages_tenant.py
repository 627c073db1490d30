"""The tenant's page: one account on a telephone, opened by its link, read-only, without signing in.

Everything shown is asked for by the account behind the link. Who guesses links is slowed down; a
link that is unknown, revoked or over is one and the same page.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from headend.domain.commands import Command
from headend.domain.tariffs import Rate, Terms
from headend.domain.tenant_page import (
    PACE_DAYS,
    Bill,
    Look,
    bill,
    days_left,
    used_on_last_day,
)
from headend.services.services import Services
from headend.services.tenant_bill import PlatformBill, platform_bill
from headend.store import (
    accounts,
    attempts,
    command_events,
    commands,
    desk_rooms,
    tariff_places,
    tenant_links,
)
from headend.store.database import Transaction
from headend.store.tenant_links import Tenancy
from headend.web import desk, texts
from headend.web.common import Asked
from headend.web.desk import Visitor
from headend.web.stages import Stage, stages

router = APIRouter(include_in_schema=False)

TOP_UPS: Final = 5
CHART_DAYS: Final = 31
MINUTE_S: Final = 60.0
# One household looks now and then; a house behind one address looks more.
LOOKS_A_MINUTE: Final = 60
WRONG_A_MINUTE: Final = 10
ADDRESSES_MAX: Final = 10_000
HEADERS: Final = {
    **desk.HEADERS,
    "referrer-policy": "no-referrer",  # the address is the key
    "x-robots-tag": "noindex",
}


class Gate:
    """How often an address may look, and how often at nothing."""

    def __init__(self) -> None:
        self._looks: dict[tuple[str, bool], deque[float]] = {}

    def lets(self, address: str, now_s: float, *, wrong: bool = False) -> bool:
        """Whether one more is within its minute; with `wrong` it is counted among wrong ones."""
        if len(self._looks) > ADDRESSES_MAX:
            self._looks.clear()  # forgetting is cheaper than remembering everybody
        seen = self._looks.setdefault((address, wrong), deque())
        while seen and seen[0] <= now_s - MINUTE_S:
            seen.popleft()
        if len(seen) >= (WRONG_A_MINUTE if wrong else LOOKS_A_MINUTE):
            return False
        seen.append(now_s)
        return True

    def has_guessed(self, address: str, now_s: float) -> bool:
        """Whether this address has opened nothing too often within the last minute."""
        wrong = self._looks.get((address, True), deque())
        return sum(at > now_s - MINUTE_S for at in wrong) >= WRONG_A_MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUpView:
    """One top-up with its four stages."""

    command: Command
    stages: Sequence[Stage]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceView:
    """What a kilowatt-hour costs now: the rate of this hour and its price, 1/10,000 yuan; in the
    platform with the service fee and the tier that is reached."""

    rate: Rate
    price_x4: int
    terms: Terms
    one_price: bool

    @property
    def yuan(self) -> str:
        """As people say it: 0.5469."""
        return f"{self.price_x4 // 10_000}.{self.price_x4 % 10_000:04}"

    @property
    def rates(self) -> Sequence[tuple[Rate, str]]:
        """Every rate of the tariff with its price."""
        return [
            (rate, f"{price // 10_000}.{price % 10_000:04}")
            for rate in Rate
            if rate in self.terms.rates
            for price in (self.terms.price_x4(rate),)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantView:
    """Everything on the page."""

    tenancy: Tenancy
    credit_fen: int | None
    seen_at: datetime | None
    platform: PlatformBill | None  # None: the money is in the meter
    waits_fen: int  # paid, not yet in the meter
    dark: bool
    days_left: int | None
    used_day: date | None
    used_wh: int | None
    is_today: bool
    price: PriceView | None
    month: Bill | None
    top_ups: Sequence[TopUpView]
    chart: dict[str, Any] | None
    other_language: str


@router.get("/t/{secret}")
async def page(request: Request, services: Asked, secret: str, lang: str = "") -> HTMLResponse:
    """The page behind a link; the same refusal for every link that opens nothing."""
    visitor = desk.nobody(request)
    if lang in texts.LANGUAGES:
        visitor = replace(visitor, language=lang)
    gate, address = _gate(request), request.client.host if request.client else ""
    now_s = services.clock.now().timestamp()
    if gate.has_guessed(address, now_s) or not gate.lets(address, now_s):
        return _shown("tenant_no.html", visitor, services, {"busy": True}, 429)
    async with services.database.transaction() as tx:
        tenancy = await tenant_links.tenancy_of(tx, secret, services.clock.now())
        if tenancy is None:
            gate.lets(address, now_s, wrong=True)
            return _shown("tenant_no.html", visitor, services, {"busy": False}, 404)
        view = await _view(tx, services, tenancy, visitor)
    return _shown("tenant.html", visitor, services, view, 200)


def _gate(request: Request) -> Gate:
    state = request.app.state
    if not hasattr(state, "tenant_gate"):
        state.tenant_gate = Gate()
    found = state.tenant_gate
    assert isinstance(found, Gate)
    return found


def _shown(
    template: str, visitor: Visitor, services: Services, view: object, status: int
) -> HTMLResponse:
    body = desk.rendered(template, visitor, services, view)
    return HTMLResponse(body, status_code=status, headers=dict(HEADERS))


async def _view(
    tx: Transaction, services: Services, tenancy: Tenancy, visitor: Visitor
) -> TenantView:
    now, zone = services.clock.now(), ZoneInfo(tenancy.time_zone)
    seen = await desk_rooms.of_meter(tx, None, now, tenancy.meter_id)
    held = await accounts.balance(tx, tenancy.account_id)
    begins = now.astimezone(zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    platform = await platform_bill(tx, tenancy, now, begins)
    looks = await tenant_links.looks(tx, tenancy, now - timedelta(days=CHART_DAYS))
    if platform is not None:
        credit_fen, lasts = platform.facts.balance_fen, platform.facts.days_left
        seen_at = platform.facts.balance_at
    else:
        pace = await _bill(tx, tenancy, looks, now - timedelta(days=PACE_DAYS))
        credit_fen = seen.credit_fen if seen else None
        lasts, seen_at = days_left(credit_fen, pace), seen.seen_at if seen else None
    used = used_on_last_day(looks, zone)
    return TenantView(
        tenancy=tenancy,
        credit_fen=credit_fen,
        seen_at=seen_at,
        platform=platform,
        waits_fen=0 if platform else held.available_fen,
        dark=seen.dark if seen else False,
        days_left=lasts,
        used_day=None if used is None else used[0],
        used_wh=None if used is None else used[1],
        is_today=used is not None and used[0] == now.astimezone(zone).date(),
        price=await _price(tx, tenancy, now.astimezone(zone), platform),
        month=platform.month if platform else await _bill(tx, tenancy, looks, begins),
        top_ups=[] if platform else await _top_ups(tx, tenancy),
        chart=_chart(looks, zone, visitor),
        other_language="en" if visitor.language == "zh" else "zh",
    )


async def _bill(
    tx: Transaction, tenancy: Tenancy, looks: Sequence[Look], since: datetime
) -> Bill | None:
    """Between the last look before an instant, or the first one after it, and the newest."""
    told = [look for look in looks if look.credit_fen is not None]
    before = [look for look in told if look.at <= since]
    first = before[-1] if before else told[0] if told else None
    if first is None:
        return None
    last = told[-1]
    credited_fen = await tenant_links.credited_fen(tx, tenancy, first.at, last.at)
    return bill(first, last, credited_fen)


async def _price(
    tx: Transaction, tenancy: Tenancy, wall: datetime, platform: PlatformBill | None
) -> PriceView | None:
    book = (await tariff_places.books_of(tx, [tenancy.meter_id])).get(tenancy.meter_id)
    version = None if book is None else book.version_on(wall.date())
    if version is None:
        return None
    rate, price_x4 = version.terms.price_at_x4(wall.replace(tzinfo=None))
    if platform is not None and platform.facts.price_x4 is not None:
        price_x4 = platform.facts.price_x4
    return PriceView(
        rate=rate,
        price_x4=price_x4,
        terms=version.terms,
        one_price=version.terms.one_price_x4 is not None,
    )


async def _top_ups(tx: Transaction, tenancy: Tenancy) -> list[TopUpView]:
    found = []
    for command_id in await tenant_links.top_ups(tx, tenancy, limit=TOP_UPS):
        command = await commands.find(tx, command_id)
        assert command is not None
        events = await command_events.events_of(tx, command_id)
        newest = await attempts.newest(tx, command_id)
        steps = stages(command, events, newest.after if newest else None)
        found.append(TopUpView(command=command, stages=steps))
    return found


def _chart(looks: Sequence[Look], zone: ZoneInfo, visitor: Visitor) -> dict[str, Any] | None:
    say = desk.gettext(visitor)
    known = [look for look in looks if look.energy_wh is not None]
    bars = [
        (
            desk.noon_s(one.at.astimezone(zone).date()),
            (one.energy_wh or 0) - (before.energy_wh or 0),
        )
        for before, one in itertools.pairwise(known)
    ]
    if len(bars) < 2:
        return None
    return {
        "x": say("Day"),
        "series": [{"label": say("Used, kWh"), "colour": "--accent", "bars": True}],
        "data": [[x for x, _ in bars], [max(0, wh) / 1000 for _, wh in bars]],
    }
