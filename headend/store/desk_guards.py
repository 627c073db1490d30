"""What guards meters: protections and lock-outs, inside a scope."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from headend.domain.roles import Whose, scope_of
from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A protection or a lock-out: of what, why, by whom, since and until when."""

    place: str
    reason: str
    by: str
    since: datetime
    until: datetime | None


async def protections(tx: Transaction, sites: Whose, now: datetime) -> list[Guard]:
    """Those that hold now; the one that ends first comes first."""
    rows = await tx.rows(
        """
        SELECT coalesce(room.name, meter.name), reason, operator.name, granted_at, expires_at
        FROM protection JOIN operator ON operator_id = granted_by
        LEFT JOIN meter USING (meter_id)
        LEFT JOIN room ON room.room_id = coalesce(protection.room_id, meter.room_id)
        WHERE lifted_at IS NULL AND expires_at > %(now)s AND (%(sites)s::integer[] IS NULL
            OR coalesce(meter.site_id, room.site_id) = ANY(%(sites)s)
            OR room.building_id = ANY(%(buildings)s))
        ORDER BY expires_at""",
        named={**scope_of(sites).named(), "now": now},
    )
    return [Guard(place=r[0], reason=r[1], by=r[2], since=r[3], until=r[4]) for r in rows]


async def lock_outs(tx: Transaction, sites: Whose) -> list[Guard]:
    """Where somebody works, the oldest first."""
    rows = await tx.rows(
        """
        SELECT coalesce(meter.name, cabinet.name, line.name), reason, operator.name, locked_at
        FROM lock_out JOIN operator ON operator_id = locked_by
        LEFT JOIN meter USING (meter_id)
        LEFT JOIN cabinet ON cabinet.cabinet_id = lock_out.cabinet_id
        LEFT JOIN line ON line.line_id = lock_out.line_id
        WHERE lifted_at IS NULL AND (%(sites)s::integer[] IS NULL
            OR coalesce(meter.site_id, cabinet.site_id, line.site_id) = ANY(%(sites)s)
            OR (SELECT building_id FROM room WHERE room.room_id = meter.room_id)
                = ANY(%(buildings)s))
        ORDER BY locked_at""",
        named=scope_of(sites).named(),
    )
    return [Guard(place=r[0], reason=r[1], by=r[2], since=r[3], until=None) for r in rows]


async def protections_of(tx: Transaction, meter_id: int, now: datetime) -> list[int]:
    """The numbers of what protects this meter itself now; a room's protection is not among them."""
    rows = await tx.rows(
        "SELECT protection_id FROM protection"
        " WHERE meter_id = %s AND lifted_at IS NULL AND expires_at > %s",
        meter_id,
        now,
    )
    return [number for (number,) in rows]


async def lock_outs_of(tx: Transaction, meter_id: int) -> list[int]:
    """The numbers of the lock-outs of this meter itself."""
    rows = await tx.rows(
        "SELECT lock_out_id FROM lock_out WHERE meter_id = %s AND lifted_at IS NULL", meter_id
    )
    return [number for (number,) in rows]


async def name_customer(tx: Transaction, account_id: int, name: str, contact: str) -> None:
    """How a customer is called and reached; nothing else of an account ever changes."""
    await tx.execute(
        "UPDATE account SET name = %s, contact = %s WHERE account_id = %s",
        name,
        contact,
        account_id,
    )
