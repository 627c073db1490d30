"""What a tenant asks: the price now, how long the money lasts, and why the bill is what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from headend.domain.billing import days_left
from headend.domain.charging import (
    FEN,
    Basis,
    Point,
    cost_of,
    energy_by_rate,
    fen_for,
    instant,
    wh_for,
)
from headend.domain.tariff_meter import FEN_X4, as_held, meter_fen
from headend.domain.tariffs import Rate, Terms, Version
from headend.store import accounts, charges, money_modes, price_readings, tariff_places
from headend.store.charges import Charge
from headend.store.database import Transaction

# A week holds each weekday once.
DAYS_LOOKED_AT: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceFacts:
    """The price of one meter at one moment."""

    platform: bool  # where the money is
    tariff: str | None  # None: no tariff holds
    version: Version | None
    rate: Rate | None
    price_x4: int | None  # with service fee and tier
    changes_at: datetime | None  # when the next kind of hours begins; None: not within a day
    used_this_year_wh: int | None  # of the tiers; only where the platform bills
    balance_fen: int | None  # in the platform, else as the meter showed it; below zero: arrears
    balance_at: datetime | None  # how old that is
    days_left: int | None  # None: not known
    cost_per_day_fen: int | None  # of the last days
    billed_day: date | None  # of a platform meter: the last day that is charged
    doubt: str  # why billing does not go on
    one_price: bool  # money can be said in kWh


async def price_facts(tx: Transaction, meter_id: int, now: datetime) -> PriceFacts:
    """Everything that is known; what is not is None."""
    zone = ZoneInfo(await price_readings.zone_of(tx, meter_id))
    wall = now.astimezone(zone)
    book = (await tariff_places.books_of(tx, [meter_id]))[meter_id]
    version = book.version_on(wall.date())
    meter = await money_modes.platform_meter(tx, meter_id)
    used_wh: int | None = None
    if meter is not None and version is not None:
        begins, _ = version.terms.year_of(wall.date())
        used_wh = await charges.used_wh(tx, meter_id, begins, wall.date() + timedelta(days=1))
    if meter is not None:
        customer = await accounts.customer_of_meter(tx, meter_id, now)
        balance_fen: int | None = await accounts.available_fen(tx, customer.account_id)
        balance_at: datetime | None = meter.billed_at
        costs = await _charged(tx, meter_id, meter.billed_day)
    else:
        balance_fen, balance_at = await price_readings.credit(tx, meter_id)
        costs = [] if version is None else await _used(tx, meter_id, version.terms, zone, now)
    rate = price = changes_at = None
    if version is not None:
        rate, price = version.terms.price_at_x4(wall.replace(tzinfo=None))
        price += _tier_x4(version.terms, used_wh)
        if meter is None:
            price = meter_fen(price) * FEN_X4  # the meter keeps whole fen
        changes_at = _next_change(version.terms, now, zone)
    return PriceFacts(
        platform=meter is not None,
        tariff=None if version is None else await price_readings.tariff_name(tx, version.tariff_id),
        version=version,
        rate=rate,
        price_x4=price,
        changes_at=changes_at,
        used_this_year_wh=used_wh if version is not None and version.terms.tiers else None,
        balance_fen=balance_fen,
        balance_at=balance_at,
        days_left=None if balance_fen is None else days_left(balance_fen, costs),
        cost_per_day_fen=sum(costs) // len(costs) if costs else None,
        billed_day=meter.billed_day if meter else None,
        doubt=meter.doubt if meter else "",
        one_price=version is not None and version.terms.one_price_x4 is not None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SalePrice:
    """What turns money into kWh at the counter."""

    terms: Terms  # with one price
    used_before_wh: int

    def energy_wh(self, amount_fen: int) -> int | None:
        """What this money buys, rounded down."""
        return wh_for(self.terms, amount_fen, used_before_wh=self.used_before_wh)

    def amount_fen(self, energy_wh: int) -> int | None:
        """What this energy costs, rounded up."""
        return fen_for(self.terms, energy_wh, used_before_wh=self.used_before_wh)


async def sale_price(tx: Transaction, meter_id: int, now: datetime) -> SalePrice | None:
    """The price money is turned into kWh by; None where there is none, or it depends on the hour.

    A meter with its own ledger asks whole fen a kWh, so that is what is sold.
    """
    facts = await price_facts(tx, meter_id, now)
    if facts.version is None or not facts.one_price:
        return None
    if facts.platform:
        used_wh = facts.used_this_year_wh or 0
        return SalePrice(terms=facts.version.terms, used_before_wh=used_wh)
    held = as_held(facts.version.terms)
    return None if held is None else SalePrice(terms=held, used_before_wh=0)


def _tier_x4(terms: Terms, used_wh: int | None) -> int:
    if used_wh is None:
        return 0
    return next((t.extra_x4 for t in reversed(terms.tiers) if t.above_wh <= used_wh), 0)


def _next_change(terms: Terms, now: datetime, zone: ZoneInfo) -> datetime | None:
    day = now.astimezone(zone).date()
    rate, _ = terms.price_at_x4(now.astimezone(zone).replace(tzinfo=None))
    for ahead in (day, day + timedelta(days=1)):
        for slot in terms.hours_of(ahead).slots:
            at = instant(ahead, slot.minute, zone)
            if at > now and slot.rate is not rate:
                return at
    return None


async def _charged(tx: Transaction, meter_id: int, last: date) -> list[int]:
    """What the last days cost, corrections included, fen a day."""
    since = last - timedelta(days=DAYS_LOOKED_AT - 1)
    by_day: dict[date, int] = {}
    for line in await charges.lines(tx, meter_id, since=since, until=last):
        if line.kind != "decided":
            by_day[line.day] = by_day.get(line.day, 0) + line.amount_fen
    return list(by_day.values())


async def _used(
    tx: Transaction, meter_id: int, terms: Terms, zone: ZoneInfo, now: datetime
) -> list[int]:
    """What the energy of the last days costs at these terms, fen a day."""
    points = await price_readings.points(tx, meter_id, now - timedelta(days=DAYS_LOOKED_AT), now)
    if len(points) < 2:
        return []
    days = max(1, round((points[-1].at - points[0].at) / timedelta(days=1)))
    by_rate, _ = _told(terms, points, zone)
    fen = cost_of(terms, by_rate).total_fen_x5 // FEN
    return [fen // days] * days


def _told(terms: Terms, points: Sequence[Point], zone: ZoneInfo) -> tuple[dict[Rate, int], Basis]:
    if points[-1].energy_wh < points[0].energy_wh:
        return {}, Basis.SPREAD
    return energy_by_rate(terms, points, zone)


def explained(line: Charge) -> dict[str, Any]:
    """One line of a bill, as anybody can check it: from reading A to reading B, kWh by rate times
    price, tiers, fee. Amounts exact in 1/100,000 fen, booked in fen."""
    return {
        "day": line.day,
        "kind": line.kind,
        "from": {"at": line.from_at, "energy_wh": line.from_wh},
        "to": {"at": line.to_at, "energy_wh": line.to_wh},
        "energy_wh": line.energy_wh,
        "told_apart": line.basis,
        "parts": [
            charges.part_record(part) | {"cost_fen_x5": part.cost_fen_x5} for part in line.parts
        ],
        "used_before_wh": line.used_before_wh,
        "fee_fen": line.fee_fen,
        "cost_fen_x5": line.cost_fen_x5,
        "carried_in_fen_x5": line.carry_before_x5,
        "carried_on_fen_x5": line.carry_after_x5,
        "amount_fen": line.amount_fen,
        "reason": line.reason,
        "booked_at": line.booked_at,
    }
