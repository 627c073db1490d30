"""Readings of one meter as its page draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from headend.store import readings
from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class LastReading:
    """The newest whole reading: values by the names of quantities."""

    at: datetime
    received_at: datetime
    origin: str
    values: Mapping[str, Any]


async def last(tx: Transaction, meter_id: int) -> LastReading | None:
    """None: it was never read."""
    row = await tx.row(
        "SELECT at, received_at, origin FROM meter_last WHERE meter_id = %s", meter_id
    )
    if row is None:
        return None
    at, received_at, origin = row
    found = await readings.series(tx, meter_id, at, at + timedelta(milliseconds=1), limit=1)
    values = found[-1]["values"] if found else {}
    return LastReading(at=at, received_at=received_at, origin=origin, values=values)


async def days(
    tx: Transaction, meter_id: int, since: datetime, zone: str
) -> list[tuple[date, int]]:
    """Wh used on each day on the wall clock of `zone`, between the last readings of two days.

    A day without a reading has no bar; what was used meanwhile stands on the next one that has.
    """
    rows = await tx.rows(
        """
        SELECT day, energy_wh - lag(energy_wh) OVER (ORDER BY day) AS used_wh FROM (
            SELECT (at AT TIME ZONE %(zone)s)::date AS day, max(energy_wh) AS energy_wh
            FROM reading WHERE meter_id = %(meter_id)s AND at >= %(since)s
                AND energy_wh IS NOT NULL
            GROUP BY 1
        ) AS by_day ORDER BY day""",
        named={"meter_id": meter_id, "since": since, "zone": zone},
    )
    return [(day, used_wh) for day, used_wh in rows if used_wh is not None and used_wh >= 0]


async def credit(tx: Transaction, meter_id: int, since: datetime) -> list[tuple[datetime, int]]:
    """The remaining credit, fen, at most 400 looks, oldest first."""
    rows = await tx.rows(
        """
        SELECT at, remaining_credit_fen FROM (
            SELECT at, remaining_credit_fen, row_number() OVER (ORDER BY at) AS n,
                count(*) OVER () AS of FROM reading
            WHERE meter_id = %(meter_id)s AND at >= %(since)s
                AND remaining_credit_fen IS NOT NULL
        ) AS looks WHERE n %% greatest(1, of / 400) = 0 OR n = of ORDER BY at""",
        named={"meter_id": meter_id, "since": since},
    )
    return [(at, fen) for at, fen in rows]
