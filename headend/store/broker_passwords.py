"""Passwords of MQTT gateways on our own broker: only their hashes, and who gave and took them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headend.domain.places import GatewayKind
from headend.store.database import Transaction

# Notified with each change: whoever owns the broker lets its users in anew.
BROKER_USERS_CHANGED: Final = "broker_users_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttGateway:
    """A live gateway that speaks MQTT."""

    gateway_id: int
    site_id: int
    name: str
    kind: GatewayKind
    registration: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPassword:
    """A password as people see it afterwards."""

    gateway: str
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    revoked_by: str | None


async def find_gateway(tx: Transaction, name: str) -> MqttGateway | None:
    """The live gateway of that name, whatever it speaks."""
    row = await tx.row(
        "SELECT gateway_id, site_id, name, kind, registration FROM gateway"
        " WHERE name = %s AND retired_at IS NULL",
        name,
    )
    if row is None:
        return None
    gateway_id, site_id, its_name, kind, registration = row
    return MqttGateway(
        gateway_id=gateway_id,
        site_id=site_id,
        name=its_name,
        kind=GatewayKind(kind),
        registration=registration,
    )


async def give(tx: Transaction, gateway_id: int, hash_: str, *, at: datetime, by: int) -> None:
    """A new password; the one it had, if any, ends with it."""
    await revoke(tx, gateway_id, at=at, by=by)
    await tx.execute(
        "INSERT INTO mqtt_password (gateway_id, hash, created_at, created_by)"
        " VALUES (%s, %s, %s, %s)",
        gateway_id,
        hash_,
        at,
        by,
    )
    await tx.execute("SELECT pg_notify(%s, '')", BROKER_USERS_CHANGED)


async def revoke(tx: Transaction, gateway_id: int, *, at: datetime, by: int) -> bool:
    """From now on it lets nobody in. False: it had none."""
    touched = await tx.execute(
        "UPDATE mqtt_password SET revoked_at = %s, revoked_by = %s"
        " WHERE gateway_id = %s AND revoked_at IS NULL",
        at,
        by,
        gateway_id,
    )
    await tx.execute("SELECT pg_notify(%s, '')", BROKER_USERS_CHANGED)
    return touched == 1


async def standing_hashes(tx: Transaction) -> Mapping[str, str]:
    """By gateway name, the hash of the password it has now."""
    rows = await tx.rows(
        "SELECT name, hash FROM mqtt_password JOIN gateway USING (gateway_id)"
        " WHERE revoked_at IS NULL AND retired_at IS NULL"
    )
    return dict(rows)


async def listing(tx: Transaction, gateway_id: int) -> list[GivenPassword]:
    """Every password this gateway ever had, the newest first."""
    rows = await tx.rows(
        """
        SELECT gateway.name, mqtt_password.created_at, giver.name, revoked_at, taker.name
        FROM mqtt_password JOIN gateway USING (gateway_id)
        JOIN operator AS giver ON giver.operator_id = mqtt_password.created_by
        LEFT JOIN operator AS taker ON taker.operator_id = revoked_by
        WHERE gateway_id = %s ORDER BY password_id DESC""",
        gateway_id,
    )
    return [
        GivenPassword(
            gateway=name,
            created_at=created_at,
            created_by=giver,
            revoked_at=revoked_at,
            revoked_by=taker,
        )
        for name, created_at, giver, revoked_at, taker in rows
    ]
