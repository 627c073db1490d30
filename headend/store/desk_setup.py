"""How far a property is: what the steps of setting it up ask of the database."""

from __future__ import annotations

from dataclasses import dataclass

from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One property, counted."""

    lines: int
    meters: int
    rooms: int
    roomless_meters: int
    meters_read: int  # at least once
    sales: int
    priced: bool  # a published tariff is for the property or something in it


_PROGRESS = """
    SELECT
        (SELECT count(*) FROM line WHERE site_id = %(site)s AND retired_at IS NULL),
        count(meter_id),
        (SELECT count(*) FROM room WHERE site_id = %(site)s AND retired_at IS NULL),
        count(meter_id) FILTER (WHERE room_id IS NULL),
        count(last.meter_id),
        (SELECT count(*) FROM (
            SELECT FROM sale JOIN meter AS sold USING (meter_id)
            WHERE sold.site_id = %(site)s LIMIT 1000) AS sold_here),
        EXISTS (SELECT FROM tariff_assignment AS said JOIN tariff_version USING (tariff_id)
            LEFT JOIN building ON building.building_id = said.building_id
            LEFT JOIN room ON room.room_id = said.room_id
            LEFT JOIN meter AS one ON one.meter_id = said.meter_id
            WHERE state = 'published' AND %(site)s IN (said.site_id, building.site_id,
                room.site_id, one.site_id))
    FROM meter LEFT JOIN meter_last AS last USING (meter_id)
    WHERE site_id = %(site)s AND retired_at IS NULL"""


async def progress(tx: Transaction, site_id: int) -> Progress:
    """Sales are counted up to 1,000: what matters is whether there is one."""
    cursor = await tx.connection.execute(_PROGRESS, {"site": site_id})
    row = await cursor.fetchone()
    assert row is not None, "aggregates always give a row"
    lines, meters, rooms, roomless, read, sales, priced = row
    return Progress(
        lines=lines,
        meters=meters,
        rooms=rooms,
        roomless_meters=roomless,
        meters_read=read,
        sales=sales,
        priced=priced,
    )


async def rooms(tx: Transaction, site_id: int) -> set[str]:
    """The names of the rooms of a property."""
    found = await tx.rows(
        "SELECT name FROM room WHERE site_id = %s AND retired_at IS NULL", site_id
    )
    return {name for (name,) in found}


async def unread_meters(tx: Transaction, site_id: int) -> list[str]:
    """Meters nobody has read yet, by name."""
    return [
        name
        for (name,) in await tx.rows(
            "SELECT name FROM meter LEFT JOIN meter_last AS last USING (meter_id)"
            " WHERE site_id = %s AND retired_at IS NULL AND last.meter_id IS NULL ORDER BY name",
            site_id,
        )
    ]
