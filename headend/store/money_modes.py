"""Where a meter's money is: in the meter itself, or in the platform (spec acrel.md 3.0)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from psycopg.types.json import Jsonb

from headend.domain.charging import Point
from headend.domain.money import yuan
from headend.domain.tariffs import Rate
from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformMeter:
    """A meter whose consumption the head-end bills."""

    meter_id: int
    zone: ZoneInfo
    anchor: Point  # billing began with this reading
    anchor_day: date
    set_by: int  # who put it into this mode, and answers for what is booked by itself
    billed_day: date
    billed_at: datetime
    doubt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterPlace:
    """What a push of prices has to know of a meter."""

    meter_id: int
    meter_type: str
    cabinet_id: int | None
    today: date  # on its own site's calendar
    platform: bool


async def set_mode(
    tx: Transaction,
    meter_id: int,
    *,
    anchor: Point | None,
    anchor_day: date | None,
    at: datetime,
    by: int,
    approver: int | None,
    reason: str,
) -> None:
    """Into platform mode from this reading on; without one, back to the meter's own account."""
    rates = None if anchor is None or anchor.by_rate_wh is None else rates_record(anchor.by_rate_wh)
    await tx.execute(
        """
        INSERT INTO meter_mode (meter_id, mode, set_at, set_by, approved_by, reason, anchor_at,
            anchor_wh, anchor_rates, anchor_day)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        meter_id,
        "meter" if anchor is None else "platform",
        at,
        by,
        approver,
        reason,
        anchor.at if anchor else None,
        anchor.energy_wh if anchor else None,
        None if rates is None else Jsonb(rates),
        anchor_day,
    )


def rates_record(by_rate_wh: Mapping[Rate, int]) -> dict[str, int]:
    """Energy by rate as JSON."""
    return {rate.value: wh for rate, wh in by_rate_wh.items()}


async def platform_meter(tx: Transaction, meter_id: int) -> PlatformMeter | None:
    """A meter in platform mode; None: its money is in the meter."""
    row = await tx.row(
        """
        SELECT time_zone, anchor_at, anchor_wh, anchor_rates, anchor_day, set_by, billed_day,
            billed_at, doubt
        FROM platform_meter JOIN meter_mode USING (mode_id)
        JOIN meter ON meter.meter_id = platform_meter.meter_id JOIN site USING (site_id)
        WHERE platform_meter.meter_id = %s""",
        meter_id,
    )
    if row is None:
        return None
    zone, at, wh, rates, day, set_by, billed_day, billed_at, doubt = row
    by_rate = None if rates is None else {Rate(name): value for name, value in rates.items()}
    return PlatformMeter(
        meter_id=meter_id,
        zone=ZoneInfo(zone),
        anchor=Point(at, wh, by_rate),
        anchor_day=day,
        set_by=set_by,
        billed_day=billed_day,
        billed_at=billed_at,
        doubt=doubt,
    )


async def is_platform(tx: Transaction, meter_id: int) -> bool:
    """Whether its money is in the platform."""
    row = await tx.row("SELECT FROM platform_meter WHERE meter_id = %s", meter_id)
    return row is not None


async def places(
    tx: Transaction, meter_ids: Collection[int], now: datetime
) -> dict[int, MeterPlace]:
    """Type, cabinet, mode and local date of living meters."""
    rows = await tx.rows(
        """
        SELECT meter.meter_id, meter_type, cabinet_id, (%s AT TIME ZONE time_zone)::date,
            platform_meter.meter_id IS NOT NULL
        FROM meter JOIN site USING (site_id) LEFT JOIN platform_meter USING (meter_id)
        WHERE meter.meter_id = ANY(%s) AND meter.retired_at IS NULL ORDER BY meter.meter_id""",
        now,
        list(meter_ids),
    )
    return {
        meter_id: MeterPlace(
            meter_id=meter_id,
            meter_type=meter_type,
            cabinet_id=cabinet_id,
            today=today,
            platform=platform,
        )
        for meter_id, meter_type, cabinet_id, today, platform in rows
    }


async def day_ended_by(tx: Transaction, meter_id: int, at: datetime) -> date:
    """The day a reading of this instant ends: that of the newest night that had opened, and at
    least the day before on the site's calendar. The next day is the first to be billed."""
    found: date = await tx.value(
        """
        SELECT greatest(
            (SELECT max(night) FROM night WHERE night.site_id = meter.site_id AND opens_at <= %s),
            (%s AT TIME ZONE time_zone)::date - 1)
        FROM meter JOIN site USING (site_id) WHERE meter_id = %s""",
        at,
        at,
        meter_id,
    )
    return found


async def money_in_meter(tx: Transaction, meter_id: int) -> str:
    """What of the customer's money the meter itself still has, in words; empty: nothing."""
    row = await tx.row(
        """
        SELECT remaining_credit_fen, EXISTS (
            SELECT FROM sale WHERE sale.meter_id = meter.meter_id AND state = 'open')
        FROM meter LEFT JOIN meter_last USING (meter_id) WHERE meter_id = %s""",
        meter_id,
    )
    credit_fen, has_sale = row or (None, False)
    if has_sale:
        return "a sale that has not landed"
    return f"{yuan(credit_fen)} yuan" if credit_fen is not None and credit_fen > 0 else ""
