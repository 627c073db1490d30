"""What prices ask of readings and names: one meter's last credit, its points, chosen meters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from headend.domain.charging import Point
from headend.store.charges import point_of
from headend.store.database import Transaction


async def zone_of(tx: Transaction, meter_id: int) -> str:
    """The time zone of a meter's site."""
    name: str = await tx.value(
        "SELECT time_zone FROM meter JOIN site USING (site_id) WHERE meter_id = %s", meter_id
    )
    return name


async def tariff_name(tx: Transaction, tariff_id: int) -> str:
    """The name of a tariff."""
    name: str = await tx.value("SELECT name FROM tariff WHERE tariff_id = %s", tariff_id)
    return name


async def credit(tx: Transaction, meter_id: int) -> tuple[int | None, datetime | None]:
    """The credit a meter showed, and when."""
    row = await tx.row(
        "SELECT remaining_credit_fen, at FROM meter_last WHERE meter_id = %s", meter_id
    )
    return (row[0], row[1]) if row else (None, None)


async def points(tx: Transaction, meter_id: int, since: datetime, until: datetime) -> list[Point]:
    """The readings of a stretch of time, oldest first."""
    rows = await tx.rows(
        """
        SELECT at, energy_wh, energy_sharp_wh, energy_peak_wh, energy_flat_wh, energy_valley_wh,
            energy_deep_valley_wh
        FROM reading WHERE meter_id = %s AND at >= %s AND at < %s AND energy_wh IS NOT NULL
        ORDER BY at LIMIT 10000""",
        meter_id,
        since,
        until,
    )
    return [point_of(at, wh, rates) for at, wh, *rates in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A meter of a what-if."""

    meter_id: int
    meter: str
    room: str | None
    building: str | None
    site: str
    zone: str


async def chosen(
    tx: Transaction,
    sites: Collection[int] | None,
    *,
    meter_ids: Sequence[int] | None = None,
    site: str = "",
    building: str = "",
    limit: int,
) -> list[Chosen]:
    """Living meters by number, or of a site or building, inside the scope."""
    rows = await tx.rows(
        """
        SELECT meter_id, meter.name, room.name, building.name, site.name, time_zone
        FROM meter JOIN site USING (site_id) LEFT JOIN room USING (room_id)
        LEFT JOIN building ON building.building_id = room.building_id
        WHERE meter.retired_at IS NULL
            AND (%(meter_ids)s::integer[] IS NULL OR meter_id = ANY(%(meter_ids)s))
            AND (%(site)s = '' OR site.name = %(site)s)
            AND (%(building)s = '' OR building.name = %(building)s)
            AND (%(sites)s::integer[] IS NULL OR site.site_id = ANY(%(sites)s))
        ORDER BY site.name, building.name, room.name, meter.name LIMIT %(limit)s""",
        named={
            "meter_ids": None if meter_ids is None else list(meter_ids),
            "site": site,
            "building": building,
            "sites": None if sites is None else list(sites),
            "limit": limit,
        },
    )
    return [
        Chosen(meter_id=number, meter=meter, room=room, building=house, site=place, zone=zone)
        for number, meter, room, house, place, zone in rows
    ]


async def first_energy_wh(
    tx: Transaction, meter_id: int, since: datetime, until: datetime
) -> int | None:
    """The total of the first reading of a stretch of time."""
    found: int | None = await tx.value(
        "SELECT energy_wh FROM reading WHERE meter_id = %s AND at >= %s AND at < %s"
        " AND energy_wh IS NOT NULL ORDER BY at LIMIT 1",
        meter_id,
        since,
        until,
    )
    return found
