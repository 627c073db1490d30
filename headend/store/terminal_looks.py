"""What people are shown of a recharge terminal, and how one is taken out of the places."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from headend.store.database import Transaction
from headend.store.places import PLACES_CHANGED, lock_places


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """One tap or purchase at a terminal and what became of its order."""

    at: datetime
    serial: bytes
    meter: str
    room: str | None
    command_id: UUID
    state: str  # of the order
    amount_fen: int
    purchase_count: int | None


async def gateway_id(tx: Transaction, gateway: str) -> int | None:
    """The number of a terminal's gateway in the places."""
    found: int | None = await tx.value(
        "SELECT gateway_id FROM gateway WHERE name = %s AND retired_at IS NULL", gateway
    )
    return found


async def taps(tx: Transaction, gateway: str, *, limit: int = 20) -> list[Tap]:
    """The last taps at a terminal that led to an order, newest first."""
    rows = await tx.rows(
        """
        SELECT terminal_tap.at, serial, meter.name, room.name, command.command_id, command.state,
            command.amount_fen, command.purchase_count
        FROM terminal_tap JOIN command USING (command_id)
            JOIN meter ON meter.meter_id = command.meter_id LEFT JOIN room USING (room_id)
        WHERE terminal = %s ORDER BY terminal_tap.at DESC, tap_id LIMIT %s""",
        gateway,
        limit,
    )
    return [
        Tap(
            at=at,
            serial=bytes(serial),
            meter=meter,
            room=room,
            command_id=command_id,
            state=state,
            amount_fen=amount_fen,
            purchase_count=count,
        )
        for at, serial, meter, room, command_id, state, amount_fen, count in rows
    ]


async def last_taps(tx: Transaction, gateways: Iterable[str]) -> dict[str, datetime]:
    """When somebody last tapped, by terminal; without those where nobody ever did."""
    rows = await tx.rows(
        "SELECT terminal, max(at) FROM terminal_tap WHERE terminal = ANY(%s) GROUP BY terminal",
        list(gateways),
    )
    return dict(rows)


async def false_cards(tx: Transaction, gateways: Iterable[str]) -> dict[str, int]:
    """How many cards could not prove themselves, by terminal, as the alarms counted them."""
    rows = await tx.rows(
        """
        SELECT gateway.name, sum(seen_count)::bigint FROM alarm JOIN gateway USING (gateway_id)
        WHERE code = 'false-card' AND gateway.name = ANY(%s) GROUP BY gateway.name""",
        list(gateways),
    )
    return {name: int(count) for name, count in rows}


async def forget(tx: Transaction, gateway: str) -> list[str]:
    """Take a terminal and its line out of the places; what it sold and told stays.

    The names of meters that still hang behind it: then nothing was done.
    """
    await lock_places(tx)
    left = await tx.rows(
        """
        SELECT meter.name FROM meter JOIN line USING (line_id) JOIN gateway USING (gateway_id)
        WHERE gateway.name = %s AND gateway.retired_at IS NULL AND meter.retired_at IS NULL
        ORDER BY meter.name""",
        gateway,
    )
    if left:
        return [name for (name,) in left]
    await tx.execute(
        "UPDATE line SET retired_at = now() WHERE retired_at IS NULL AND gateway_id ="
        " (SELECT gateway_id FROM gateway WHERE name = %s AND retired_at IS NULL)",
        gateway,
    )
    await tx.execute(
        "UPDATE gateway SET retired_at = now() WHERE name = %s AND retired_at IS NULL", gateway
    )
    await tx.execute("SELECT pg_notify(%s, %s)", PLACES_CHANGED, gateway)
    return []
