"""Who may not be cut, and where nothing may be switched: granted, lifted once, never deleted.

Granting waits for the intents that are being recorded for its meters, and those wait for it (the
sender's last look holds the meter too): whoever is told "protected" or "locked out" knows that no
order which had not left by then will leave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from headend.domain.roles import Whose, scope_of
from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """A meter, or all meters of a room, that nobody may cut until `expires_at`."""

    protection_id: int
    meter: str | None
    room: str | None
    site: str
    reason: str
    granted_at: datetime
    granted_by: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LockOut:
    """Somebody works on a meter's circuit, on a cabinet or on a whole line."""

    lock_out_id: int
    place: str
    reason: str
    locked_at: datetime
    locked_by: str


async def protect(
    tx: Transaction,
    *,
    reason: str,
    expires_at: datetime,
    by: int,
    now: Callable[[], datetime],
    meter_id: int | None = None,
    room_id: int | None = None,
) -> int:
    """Protect one meter or one room; returns the protection's number. Raises DatabaseRefused."""
    await _hold(tx, meter_id=meter_id, room_id=room_id)
    number: int = await tx.value(
        "INSERT INTO protection (meter_id, room_id, reason, granted_at, granted_by, expires_at)"
        " VALUES (%s, %s, %s, %s, %s, %s) RETURNING protection_id",
        meter_id,
        room_id,
        reason,
        now(),
        by,
        expires_at,
    )
    return number


async def _hold(tx: Transaction, **place: int | None) -> None:
    """Wait until no intent of these meters is being recorded, and keep it so."""
    named = {"meter_id": None, "room_id": None, "cabinet_id": None, "line_id": None} | place
    await tx.execute(
        """
        SELECT FROM meter WHERE meter_id = %(meter_id)s::integer OR room_id = %(room_id)s::integer
            OR cabinet_id = %(cabinet_id)s::integer OR line_id = %(line_id)s::integer
        ORDER BY meter_id FOR NO KEY UPDATE""",
        named=named,
    )


async def lift_protection(
    tx: Transaction, protection_id: int, *, reason: str, by: int, at: datetime
) -> bool:
    """End a protection early; False when there is none that holds under this number."""
    return (
        await tx.execute(
            "UPDATE protection SET lifted_at = %s, lifted_by = %s, lifted_reason = %s"
            " WHERE protection_id = %s AND lifted_at IS NULL",
            at,
            by,
            reason,
            protection_id,
        )
        == 1
    )


async def protections(tx: Transaction, now: datetime, whose: Whose = None) -> list[Protection]:
    """Those that hold now; the one that ends first comes first. `whose`: in this scope alone."""
    rows = await tx.rows(
        """
        SELECT protection_id, meter.name, room.name, site.name, reason, granted_at, operator.name,
            expires_at
        FROM protection JOIN operator ON operator_id = granted_by
        LEFT JOIN meter ON meter.meter_id = protection.meter_id
        LEFT JOIN room ON room.room_id = protection.room_id
        JOIN site ON site.site_id = coalesce(meter.site_id, room.site_id)
        WHERE lifted_at IS NULL AND expires_at > %(now)s
            AND (%(sites)s::integer[] IS NULL OR site.site_id = ANY(%(sites)s)
                OR (SELECT building_id FROM room AS its
                    WHERE its.room_id = coalesce(meter.room_id, room.room_id))
                    = ANY(%(buildings)s))
        ORDER BY expires_at, protection_id""",
        named={**scope_of(whose).named(), "now": now},
    )
    names = ("protection_id", "meter", "room", "site", "reason", "granted_at", "granted_by")
    return [Protection(**dict(zip((*names, "expires_at"), row, strict=True))) for row in rows]


async def lock_out(
    tx: Transaction,
    *,
    reason: str,
    by: int,
    now: Callable[[], datetime],
    meter_id: int | None = None,
    cabinet_id: int | None = None,
    line_id: int | None = None,
) -> int:
    """Lock one meter, cabinet or line out of any switching; returns the lock-out's number.

    What left before may still be on its way: `on_their_way` names it.
    """
    await _hold(tx, meter_id=meter_id, cabinet_id=cabinet_id, line_id=line_id)
    number: int = await tx.value(
        "INSERT INTO lock_out (meter_id, cabinet_id, line_id, reason, locked_at, locked_by)"
        " VALUES (%s, %s, %s, %s, %s, %s) RETURNING lock_out_id",
        meter_id,
        cabinet_id,
        line_id,
        reason,
        now(),
        by,
    )
    return number


async def on_their_way(tx: Transaction, lock_out_id: int) -> list[UUID]:
    """Switching orders in this lock-out that left before it and have not ended: wait for them."""
    rows = await tx.rows(
        """
        SELECT command_id FROM lock_out JOIN meter
            ON meter.meter_id = lock_out.meter_id OR meter.cabinet_id = lock_out.cabinet_id
            OR meter.line_id = lock_out.line_id
        JOIN command ON command.meter_id = meter.meter_id
        WHERE lock_out_id = %s AND kind IN ('cut', 'restore', 'release')
            AND state IN ('sent', 'unknown', 'escalated')
        ORDER BY ordered_at""",
        lock_out_id,
    )
    return [command_id for (command_id,) in rows]


async def lift_lock_out(
    tx: Transaction, lock_out_id: int, *, reason: str, by: int, at: datetime
) -> bool:
    """The work is over; False when there is none that holds under this number."""
    return (
        await tx.execute(
            "UPDATE lock_out SET lifted_at = %s, lifted_by = %s, lifted_reason = %s"
            " WHERE lock_out_id = %s AND lifted_at IS NULL",
            at,
            by,
            reason,
            lock_out_id,
        )
        == 1
    )


async def lock_outs(tx: Transaction, whose: Whose = None) -> list[LockOut]:
    """Those that hold now, oldest first. `whose`: in this scope alone."""
    rows = await tx.rows(
        """
        SELECT lock_out_id, coalesce(meter.name, cabinet.name, line.name), lock_out.reason,
            locked_at, operator.name
        FROM lock_out JOIN operator ON operator_id = locked_by
        LEFT JOIN meter ON meter.meter_id = lock_out.meter_id
        LEFT JOIN cabinet ON cabinet.cabinet_id = lock_out.cabinet_id
        LEFT JOIN line ON line.line_id = lock_out.line_id
        WHERE lifted_at IS NULL
            AND (%(sites)s::integer[] IS NULL
                OR coalesce(meter.site_id, cabinet.site_id, line.site_id) = ANY(%(sites)s)
                OR (SELECT building_id FROM room WHERE room.room_id = meter.room_id)
                    = ANY(%(buildings)s))
        ORDER BY locked_at, lock_out_id""",
        named=scope_of(whose).named(),
    )
    return [
        LockOut(lock_out_id=number, place=place, reason=reason, locked_at=at, locked_by=by)
        for number, place, reason, at, by in rows
    ]
