"""A stored site as a whole: the tree as its file would say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, LiteralString, TypeVar

from headend.domain.places import Building, Cabinet, Gateway, GatewayKind, MeterPlace, Room, Site
from headend.store.database import Transaction
from headend.store.places import KnownSite, load_lines

T = TypeVar("T")

# Columns are called as the fields of the domain.
_BUILDINGS: LiteralString = """
    SELECT name FROM building WHERE site_id = %s AND retired_at IS NULL ORDER BY building_id"""
_ROOMS: LiteralString = """
    SELECT room.name, building.name AS building, floor FROM room JOIN building USING (building_id)
    WHERE room.site_id = %s AND room.retired_at IS NULL ORDER BY room_id"""
_GATEWAYS: LiteralString = """
    SELECT name, kind, device, host, port, registration, heartbeat, heartbeat_s, options
    FROM gateway WHERE site_id = %s AND retired_at IS NULL ORDER BY gateway_id"""
_CABINETS: LiteralString = """
    SELECT cabinet.name, line.name AS line, meter_type, base_unit, size,
        ct_users, three_phase_users, single_phase_users,
        -- A cabinet's master is that of its circuits.
        (SELECT master.name FROM meter JOIN meter AS master ON master.meter_id = meter.master_id
        WHERE meter.cabinet_id = cabinet.cabinet_id AND meter.retired_at IS NULL LIMIT 1) AS master
    FROM cabinet JOIN line USING (line_id)
    WHERE cabinet.site_id = %s AND cabinet.retired_at IS NULL ORDER BY cabinet_id"""
_METERS: LiteralString = """
    SELECT meter.name, line.name AS line, meter.meter_type, meter.unit, meter.address,
        room.name AS room, cabinet.name AS cabinet, meter.meter_number, meter.energy_multiplier,
        master.name AS master, meter.options
    FROM meter JOIN line ON line.line_id = meter.line_id
    LEFT JOIN meter AS master ON master.meter_id = meter.master_id
    LEFT JOIN room ON room.room_id = meter.room_id
    LEFT JOIN cabinet ON cabinet.cabinet_id = meter.cabinet_id
    WHERE meter.site_id = %s AND meter.retired_at IS NULL
    -- The circuits of a cabinet are called by their number: CAB-07.
    ORDER BY meter.cabinet_id NULLS LAST,
        CASE WHEN meter.cabinet_id IS NOT NULL THEN meter.name END, meter.meter_id"""


async def load_whole_site(tx: Transaction, known: KnownSite) -> Site:
    """Everything of the site that is not retired, in the order in which it came."""

    async def every(sql: LiteralString, make: Callable[..., T]) -> tuple[T, ...]:
        cursor = await tx.connection.execute(sql, (known.site_id,))
        names = [column.name for column in cursor.description or ()]
        return tuple([make(**dict(zip(names, row, strict=True))) async for row in cursor])

    return replace(
        known.place,
        buildings=await every(_BUILDINGS, Building),
        rooms=await every(_ROOMS, Room),
        gateways=await every(_GATEWAYS, _gateway),
        lines=tuple(line.place for line in await load_lines(tx) if line.site_id == known.site_id),
        cabinets=await every(_CABINETS, Cabinet),
        meters=await every(_METERS, MeterPlace),
    )


def _gateway(kind: str, **rest: Any) -> Gateway:
    return Gateway(kind=GatewayKind(kind), **rest)
