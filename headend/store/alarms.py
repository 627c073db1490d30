"""Alarms: what a person has to see, raised once and cleared when it is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that lasts and that somebody has to look into."""

    alarm_id: int
    code: str
    meter_id: int | None
    detail: str
    raised_at: datetime


async def raise_alarm(
    tx: Transaction, code: str, meter_id: int | None, detail: str, at: datetime
) -> bool:
    """Raise it unless it stands already; False when it did."""
    touched = await tx.execute(
        "INSERT INTO alarm (code, meter_id, detail, raised_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (code, (coalesce(meter_id, 0))) WHERE cleared_at IS NULL DO NOTHING",
        code,
        meter_id,
        detail,
        at,
    )
    return touched == 1


async def clear_alarm(tx: Transaction, code: str, meter_id: int | None, at: datetime) -> bool:
    """It is over; False when it did not stand."""
    touched = await tx.execute(
        "UPDATE alarm SET cleared_at = %s"
        " WHERE code = %s AND meter_id IS NOT DISTINCT FROM %s AND cleared_at IS NULL",
        at,
        code,
        meter_id,
    )
    return touched == 1


async def standing(tx: Transaction) -> list[Alarm]:
    """Every alarm that is not over, oldest first."""
    rows = await tx.rows(
        "SELECT alarm_id, code, meter_id, detail, raised_at FROM alarm"
        " WHERE cleared_at IS NULL ORDER BY raised_at, alarm_id"
    )
    return [
        Alarm(alarm_id=number, code=code, meter_id=meter_id, detail=detail, raised_at=raised_at)
        for number, code, meter_id, detail, raised_at in rows
    ]
