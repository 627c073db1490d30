"""What a meter's energy costs: the price now, the bill explained, payments into the platform."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.books import NotBooked
from headend.domain.problems import Problem
from headend.domain.what_if import Compared
from headend.services import billing, platform_money
from headend.services.billing import CorrectionWish
from headend.services.books import Wish
from headend.services.case_work import see
from headend.services.platform_money import ModeWish
from headend.services.price_facts import explained, price_facts, sale_price
from headend.services.what_if import METERS_MAX, month_before, what_if
from headend.store import charges, price_readings, tariff_places, tariffs
from headend.web.api_tariffs import today_of
from headend.web.auth import (
    Approval,
    Configurer,
    Decider,
    IdempotencyKey,
    Seller,
    Viewer,
    meter_for,
)
from headend.web.common import Asked, Reason, Words
from headend.web.edits import BAD_CURSOR, PAGE_MAX, AfterText, Limit, cut

router = APIRouter(prefix="/api/v1", tags=["bills"])

FEN_MAX = 5_000_000


class Payment(BaseModel):
    """Money taken for a meter whose money is in the platform."""

    model_config = ConfigDict(extra="forbid", strict=True)
    meter: str = Field(examples=["A-101"])
    amount_fen: int = Field(description="whole fen: 5000 is 50 yuan", examples=[5000])
    reason: Words = ""


class Correction(BaseModel):
    """A day costs so much more (above 0) or less (below 0)."""

    model_config = ConfigDict(extra="forbid")
    day: date
    amount_fen: int = Field(ge=-FEN_MAX, le=FEN_MAX)
    reason: Reason


class Mode(BaseModel):
    """Where the money of a meter is."""

    model_config = ConfigDict(extra="forbid")
    mode: Literal["meter", "platform"]
    reason: Reason


@router.get("/meters/{meter}/price", summary="The price now, and how long the money lasts")
async def price(
    services: Asked,
    viewer: Viewer,
    meter: str,
    amount_fen: Annotated[int | None, Query(ge=1, le=FEN_MAX)] = None,
    energy_wh: Annotated[int | None, Query(ge=1, le=10**9)] = None,
) -> dict[str, Any]:
    """With `amount_fen` or `energy_wh`: what the one is in the other, where the price is one."""
    number, now = meter_for(services, viewer, meter).known.meter_id, services.clock.now()
    async with services.database.transaction() as tx:
        facts = await price_facts(tx, number, now)
        sold = await sale_price(tx, number, now)
    return {
        "money_in": "platform" if facts.platform else "meter",
        "tariff": facts.tariff,
        "version": facts.version.number if facts.version else None,
        "rate": facts.rate,
        "price_x4": facts.price_x4,
        "changes_at": facts.changes_at,
        "used_this_year_wh": facts.used_this_year_wh,
        "balance_fen": facts.balance_fen,
        "balance_at": facts.balance_at,
        "days_left": facts.days_left,
        "cost_per_day_fen": facts.cost_per_day_fen,
        "billed_day": facts.billed_day,
        "doubt": facts.doubt,
        "amount_buys_wh": sold.energy_wh(amount_fen) if sold and amount_fen else None,
        "energy_costs_fen": sold.amount_fen(energy_wh) if sold and energy_wh else None,
    }


@router.get("/meters/{meter}/charges", summary="The bill explained")
async def lines(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    meter: str,
    since: date | None = None,
    until: date | None = None,
    after: AfterText = "",
    limit: Limit = PAGE_MAX,
) -> list[dict[str, Any]]:
    """Newest first: from reading to reading, kWh by rate times price, tiers, fee."""
    number = meter_for(services, viewer, meter).known.meter_id
    async with services.database.transaction() as tx:
        found = await charges.lines(
            tx,
            number,
            since=since or date(1970, 1, 1),
            until=until or date(9999, 12, 31),
            before=_day_and_number(after),
            limit=limit + 1,
        )
    last = None
    if len(found) > limit:
        last = f"{found[limit - 1].day.isoformat()}~{found[limit - 1].seq}"
    return [explained(line) for line in cut(request, response, found, last, limit)]


def _day_and_number(after: str) -> tuple[date, int] | None:
    if not after:
        return None
    day, _, number = after.partition("~")
    try:
        return date.fromisoformat(day), int(number[:9])
    except ValueError as error:
        raise Problem("bad-request", detail=BAD_CURSOR) from error


@router.post("/platform-payments", summary="Pay into the platform", status_code=201)
async def pay(
    services: Asked, seller: Seller, key: IdempotencyKey, wish: Payment, response: Response
) -> dict[str, Any]:
    """Counts at once. A meter that is dark and has credit again gets light in the same step."""
    meter = meter_for(services, seller, wish.meter)
    async with services.database.transaction() as tx:
        done = await platform_money.pay(
            tx,
            Wish(
                transfer_id=key,
                amount_fen=wish.amount_fen,
                operator_id=seller.operator.operator_id,
                reason=wish.reason,
            ),
            services.clock,
            meter_id=meter.known.meter_id,
        )
    if isinstance(done, NotBooked):
        code = "meter-money" if done.why.value == "wrong-accounts" else done.why.value
        raise Problem(code, meter=wish.meter, detail=done.detail)
    return {
        "payment_id": done.transfer.transfer_id,
        "amount_fen": done.transfer.amount_fen,
        "balance_fen": done.balance_fen,
        "restore_id": done.restore_id,
    }


@router.post("/meters/{meter}/charges/corrections", summary="Correct a day", status_code=201)
async def correct(
    services: Asked,
    decider: Decider,
    key: IdempotencyKey,
    meter: str,
    wish: Correction,
    approver: Approval,
) -> dict[str, Any]:
    """A line more, never a line changed; above a limit with X-Approver-Token."""
    number = meter_for(services, decider, meter).known.meter_id
    async with services.database.transaction() as tx:
        done = await billing.correct(
            tx,
            CorrectionWish(
                correction_id=key,
                meter_id=number,
                day=wish.day,
                amount_fen=wish.amount_fen,
                operator_id=decider.operator.operator_id,
                approver_id=approver.operator.operator_id if approver else None,
                reason=wish.reason,
            ),
            services.clock.now(),
        )
    if done is None:
        raise Problem("no-such-charge", meter=meter, detail=wish.day.isoformat())
    if isinstance(done, NotBooked):
        raise Problem(done.why.value, meter=meter, detail=done.detail)
    return explained(done)


@router.put("/meters/{meter}/money-mode", summary="Money into the platform, or into the meter")
async def mode(
    services: Asked, configurer: Configurer, key: IdempotencyKey, meter: str, wish: Mode
) -> dict[str, Any]:
    """Billing begins with the newest reading; the meter's own account is turned off or on.

    Back into the meter it is read first, and what it used up to then is charged; a meter that does
    not answer stays.
    """
    at_work = meter_for(services, configurer, meter)
    number = at_work.known.meter_id
    if wish.mode == "meter":
        await see(services, at_work)
    async with services.database.transaction() as tx:
        refused = await platform_money.set_mode(
            tx,
            services.orders,
            ModeWish(
                meter_id=number,
                platform=wish.mode == "platform",
                operator_id=configurer.operator.operator_id,
                approver_id=None,
                reason=wish.reason,
                command_id=key,
            ),
            services.clock.now(),
        )
    if refused is not None:
        raise Problem(refused[0], meter=meter, detail=refused[1])
    return {"meter": meter, "money_in": wish.mode}


@router.get("/tariffs/{tariff_id}/what-if", summary="What the draft would have cost")
async def compared(
    services: Asked,
    viewer: Viewer,
    tariff_id: int,
    site: Words = "",
    building: Words = "",
    month: Annotated[str | None, Query(pattern=r"^20\d\d-(0[1-9]|1[0-2])$")] = None,
) -> dict[str, Any]:
    """The draft, else the newest version, with the energy of a month; last month by itself."""
    sites = None if viewer.operator.sites is None else sorted(viewer.operator.sites)
    today = today_of(services)
    begins = month_before(today) if month is None else date.fromisoformat(f"{month}-01")
    async with services.database.transaction() as tx:
        found = await tariffs.find(tx, tariff_id, sites) if 0 <= tariff_id < 2**31 else None
        versions = await tariffs.versions(tx, tariff_id) if found else []
        if not versions:
            raise Problem("no-such-tariff", tariff=tariff_id)
        shown = next((one for one in versions if one.state == "draft"), versions[0])
        of_tariff = None if site else await tariff_places.meters_of(tx, tariff_id, today)
        meters = await price_readings.chosen(
            tx, sites, meter_ids=of_tariff, site=site, building=building, limit=METERS_MAX + 1
        )
        seen = await what_if(tx, shown.terms, meters, begins)
    return {
        "version": shown.number,
        "month": f"{begins:%Y-%m}",
        "before_fen": seen.before_fen,
        "after_fen": seen.after_fen,
        "dearer": seen.dearer,
        "cheaper": seen.cheaper,
        "cut_short": seen.cut_short,
        "meters": [
            {"meter": row.meter.meter, "room": row.meter.room}
            | (
                dataclasses.asdict(row.result) | {"change_fen": row.result.change_fen}
                if isinstance(row.result, Compared)
                else {"no_row": row.result}
            )
            for row in seen.rows
        ],
    }
