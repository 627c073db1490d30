"""Where the meters of a demonstration stand now, and where its books begin a month before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Stands:
    """One meter as it was last read; None: it does not tell, or was never read."""

    meter_id: int
    meter: str
    site_id: int
    room: str | None
    energy_wh: int | None
    volume_l: int | None
    credit_fen: int | None
    purchase_count: int | None
    total_purchased_fen: int | None


async def stands(tx: Transaction, site_id: int) -> list[Stands]:
    """Every meter of a site, in the order of their names."""
    rows = await tx.rows(
        """
        SELECT meter.meter_id, meter.name, meter.site_id, room.name, last.energy_wh,
            (reading.extra ->> 'volume_l')::bigint, last.remaining_credit_fen,
            last.purchase_count, last.total_purchased_fen
        FROM meter LEFT JOIN room USING (room_id)
        LEFT JOIN meter_last AS last ON last.meter_id = meter.meter_id
        LEFT JOIN reading ON reading.meter_id = last.meter_id AND reading.at = last.at
        WHERE meter.site_id = %s AND meter.retired_at IS NULL ORDER BY meter.name""",
        site_id,
    )
    return [
        Stands(
            meter_id=row[0],
            meter=row[1],
            site_id=row[2],
            room=row[3],
            energy_wh=row[4],
            volume_l=row[5],
            credit_fen=row[6],
            purchase_count=row[7],
            total_purchased_fen=row[8],
        )
        for row in rows
    ]


async def begins(
    tx: Transaction, meter_id: int, *, at: datetime, purchase_count: int, total_purchased_fen: int
) -> None:
    """The books of a meter begin at what it showed then."""
    await tx.execute(
        "INSERT INTO meter_opening (meter_id, opened_at, purchase_count, total_purchased_fen,"
        " booked_count, booked_fen, reason) VALUES (%s, %s, %s, %s, 0, 0, 'the books begin')",
        meter_id,
        at,
        purchase_count,
        total_purchased_fen,
    )


async def has_books(tx: Transaction) -> bool:
    """Whether anything was booked or sealed: then there is a history already."""
    found: bool = await tx.value(
        "SELECT EXISTS (SELECT FROM transfer) OR EXISTS (SELECT FROM day_seal)"
    )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What stands in the database, counted."""

    days_sealed: int
    nights: int
    gaps: int  # cells of past nights with a reason
    sales: int
    cuts: int
    customers: int


async def counted(tx: Transaction) -> History:
    """What stands now."""
    row = await tx.row(
        """
        SELECT (SELECT count(*) FROM day_seal),
            (SELECT count(*) FROM night WHERE closed_at IS NOT NULL),
            (SELECT count(*) FROM night_cell JOIN night USING (night_id)
                WHERE closed_at IS NOT NULL AND reason IS NOT NULL),
            (SELECT count(*) FROM sale WHERE state = 'landed'),
            (SELECT count(*) FROM command WHERE kind = 'cut' AND state = 'confirmed'),
            (SELECT count(*) FROM customer)"""
    )
    assert row is not None
    return History(
        days_sealed=row[0],
        nights=row[1],
        gaps=row[2],
        sales=row[3],
        cuts=row[4],
        customers=row[5],
    )
