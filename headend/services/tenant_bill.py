"""What a tenant whose money is in the platform has, used since, and was charged.

The balance is that of the account after the last charged day. What was used since stands in no book
yet: it is priced as the bill will price it and said beside the balance, never inside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from headend.domain.charging import FEN, cost_of, energy_by_rate
from headend.domain.tenant_page import Bill
from headend.services.price_facts import PriceFacts, price_facts
from headend.store import charges, money_modes, price_readings, tenant_links
from headend.store.charges import Charge
from headend.store.database import Transaction
from headend.store.money_modes import PlatformMeter
from headend.store.tenant_links import Paid, Tenancy

LINES: Final = 31
PAYMENTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedSince:
    """Use after the last charged day, and about what it will cost."""

    energy_wh: int
    cost_fen: int  # with the fixed fee of the days that have begun; rounded up
    read_at: datetime  # the reading it goes up to


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformBill:
    """The bill of one account in the platform at one moment."""

    facts: PriceFacts
    charged_until: date  # the last day that is charged
    since: UsedSince | None  # None: no reading since
    month: Bill
    lines: Sequence[Charge]
    paid: Sequence[Paid]

    @property
    def left_fen(self) -> int | None:
        """About what is left of the balance by now; None: no reading since the last charged day."""
        if self.facts.balance_fen is None or self.since is None:
            return None
        return self.facts.balance_fen - self.since.cost_fen


async def platform_bill(
    tx: Transaction, tenancy: Tenancy, now: datetime, month_begins: datetime
) -> PlatformBill | None:
    """Everything of it; None: the money of this meter is in the meter."""
    meter = await money_modes.platform_meter(tx, tenancy.meter_id)
    if meter is None:
        return None
    facts = await price_facts(tx, tenancy.meter_id, now)
    since = max(month_begins, tenancy.since, meter.anchor.at)
    day = since.astimezone(meter.zone).date()
    return PlatformBill(
        facts=facts,
        charged_until=meter.billed_day,
        since=await _used_since(tx, meter, facts, now),
        month=await _month(tx, tenancy, facts.balance_fen or 0, since=since, until=now),
        lines=await charges.lines(tx, tenancy.meter_id, since=day, limit=LINES),
        paid=await tenant_links.payments(tx, tenancy, limit=PAYMENTS),
    )


async def _used_since(
    tx: Transaction, meter: PlatformMeter, facts: PriceFacts, now: datetime
) -> UsedSince | None:
    points = await price_readings.points(tx, meter.meter_id, meter.billed_at, now)
    version = facts.version
    if version is None or len(points) < 2 or points[-1].energy_wh < points[0].energy_wh:
        return None
    zone: ZoneInfo = meter.zone
    by_rate, _ = energy_by_rate(version.terms, points, zone)
    cost = cost_of(
        version.terms,
        by_rate,
        used_before_wh=facts.used_this_year_wh or 0,
        days=max(0, (now.astimezone(zone).date() - meter.billed_day).days),
    )
    return UsedSince(
        energy_wh=points[-1].energy_wh - points[0].energy_wh,
        cost_fen=-(-cost.total_fen_x5 // FEN),
        read_at=points[-1].at,
    )


async def _month(
    tx: Transaction, tenancy: Tenancy, balance_fen: int, *, since: datetime, until: datetime
) -> Bill:
    """From the books alone: what was there, came in, was charged, and is there."""
    day = since.astimezone(ZoneInfo(tenancy.time_zone)).date()
    came_fen, charged_fen, charged_wh = await tenant_links.moved_since(tx, tenancy, since, day)
    return Bill(
        since=since,
        until=until,
        credit_before_fen=balance_fen - came_fen + charged_fen,
        credited_fen=came_fen,
        spent_fen=charged_fen,
        credit_after_fen=balance_fen,
        used_wh=charged_wh,
    )
