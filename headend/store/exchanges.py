"""Another device under the name of a meter: its place changes, what hung there stays on record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from headend.store.database import Transaction
from headend.store.places import PLACES_CHANGED

_DEVICE: Final[LiteralString] = "meter_type, unit, address, meter_number, energy_multiplier"


async def device(tx: Transaction, meter_id: int) -> dict[str, Any]:
    """What hangs under a meter's name now."""
    row = await tx.row(f"SELECT {_DEVICE} FROM meter WHERE meter_id = %s", meter_id)
    assert row is not None, "the case is about a meter"
    return dict(zip(_DEVICE.split(", "), row, strict=True))


async def taken_by(tx: Transaction, meter_id: int, *, unit: int | None, address: str | None) -> str:
    """Which other live meter of its line answers there; empty: none."""
    name: str | None = await tx.value(
        """
        SELECT other.name FROM meter JOIN meter AS other USING (line_id)
        WHERE meter.meter_id = %s AND other.meter_id <> meter.meter_id
            AND other.retired_at IS NULL AND (other.unit = %s OR other.address = %s)""",
        meter_id,
        unit,
        address,
    )
    return name or ""


async def hang(
    tx: Transaction, meter_id: int, case_id: UUID, new: Mapping[str, Any], at: datetime
) -> None:
    """The new device hangs there from now on; a running head-end follows."""
    old = await device(tx, meter_id)
    await tx.execute(
        "UPDATE meter SET meter_type = %(meter_type)s, unit = %(unit)s, address = %(address)s,"
        " meter_number = %(meter_number)s, energy_multiplier = %(energy_multiplier)s"
        " WHERE meter_id = %(meter_id)s",
        named={**new, "meter_id": meter_id},
    )
    await tx.execute(
        "INSERT INTO meter_exchange (meter_id, at, case_id, old_device, new_device)"
        " VALUES (%s, %s, %s, %s, %s)",
        meter_id,
        at,
        case_id,
        Jsonb(old),
        Jsonb(dict(new)),
    )
    await tx.execute(
        "SELECT pg_notify(%s, (SELECT site.name FROM site JOIN meter USING (site_id)"
        " WHERE meter_id = %s))",
        PLACES_CHANGED,
        meter_id,
    )
