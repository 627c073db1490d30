"""Pushed readings that nothing may be decided by: kept apart, the last ones of each meter."""

from __future__ import annotations

import enum
from typing import Any

from psycopg.types.json import Jsonb

from headend.store.database import Transaction
from protocols.reading import Reading

# A box with a broken clock pushes for years: two days of half hours are enough to see what it does.
KEPT_PER_METER_MAX = 100


class Doubt(enum.Enum):
    """Why a pushed reading is not believed."""

    FUTURE = "future"  # its instant lies after its arrival
    BROKEN_CLOCK = "broken_clock"  # its instant lies so far back that no box remembers it
    IMPLAUSIBLE = "implausible"  # its values cannot be the meter's


async def keep_doubtful(tx: Transaction, reading: Reading, doubt: Doubt, detail: str) -> bool:
    """Keep it for people; False when one of this instant is kept already."""
    new = await tx.execute(
        "INSERT INTO doubtful_reading (meter_id, at, received_at, doubt, detail, quantities)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        reading.meter_id,
        reading.at,
        reading.received_at,
        doubt.value,
        detail,
        Jsonb({quantity.value: value for quantity, value in reading.values.items()}),
    )
    await tx.execute(
        """
        DELETE FROM doubtful_reading WHERE meter_id = %s AND at IN (
            SELECT at FROM doubtful_reading WHERE meter_id = %s
            ORDER BY received_at DESC, at DESC OFFSET %s)""",
        reading.meter_id,
        reading.meter_id,
        KEPT_PER_METER_MAX,
    )
    return new == 1


async def doubtful_readings(tx: Transaction, *, limit: int = 100) -> list[dict[str, Any]]:
    """The newest ones of all meters, for the console and the API."""
    rows = await tx.rows(
        "SELECT name, at, received_at, doubt, detail, quantities"
        " FROM doubtful_reading JOIN meter USING (meter_id) ORDER BY received_at DESC LIMIT %s",
        limit,
    )
    return [
        {
            "meter": meter,
            "at": at.isoformat(),
            "received_at": received_at.isoformat(),
            "doubt": doubt,
            "detail": detail,
            "values": quantities,
        }
        for meter, at, received_at, doubt, detail, quantities in rows
    ]
