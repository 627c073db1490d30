"""Links for tenants: made, opened, revoked; and what the page behind one shows of its account.

A link is looked up by the SHA-256 of its secret and leads to one customer account. Everything the
page shows is asked for by that account and its meter, so nothing else can be reached from there.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from headend.domain.tenant_page import Look
from headend.store.database import Row, Transaction

SECRET_BYTES: Final = 32
# That somebody looks is not worth a write each time.
SEEN_EVERY: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLink:
    """A link as the desk lists it: never its secret."""

    link_id: int
    customer: str
    meter: str
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None
    opened_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """Whose page it is."""

    account_id: int
    meter_id: int
    meter: str
    site: str
    time_zone: str
    building: str | None
    room: str | None
    customer: str
    since: datetime  # the account's opening: what was before is somebody else's


async def make(
    tx: Transaction,
    account_id: int,
    *,
    by: int,
    at: datetime,
    expires_at: datetime,
    sheet_id: UUID | None = None,
) -> str:
    """A new link's secret, given back this once."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    await tx.execute(
        """
        INSERT INTO tenant_link (account_id, sha256, sheet_id, created_at, created_by, expires_at)
        VALUES (%s, %s, %s, %s, %s, %s)""",
        account_id,
        digest(secret),
        sheet_id,
        at,
        by,
        expires_at,
    )
    return secret


def digest(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


async def sheet_exists(tx: Transaction, sheet_id: UUID) -> bool:
    """Whether this sheet was printed before: its secrets are nowhere any more."""
    found: bool = await tx.value(
        "SELECT EXISTS (SELECT FROM tenant_link WHERE sheet_id = %s)", sheet_id
    )
    return found


async def tenancy_of(tx: Transaction, secret: str, now: datetime) -> Tenancy | None:
    """Whose link this is; None when it is nobody's, or no longer."""
    row = await tx.row(
        """
        SELECT account.account_id, meter.meter_id, meter.name, site.name, site.time_zone,
            building.name, room.name, account.name, account.opened_at, link_id,
            tenant_link.opened_at
        FROM tenant_link JOIN account USING (account_id)
        JOIN meter ON meter.meter_id = account.meter_id
        JOIN site ON site.site_id = meter.site_id
        LEFT JOIN room ON room.room_id = meter.room_id
        LEFT JOIN building ON building.building_id = room.building_id
        WHERE sha256 = %s AND revoked_at IS NULL AND expires_at > %s
            AND account.closed_at IS NULL AND account.kind = 'customer'
            AND meter.retired_at IS NULL""",
        digest(secret),
        now,
    )
    if row is None:
        return None
    if row[10] is None or now - row[10] > SEEN_EVERY:
        await tx.execute("UPDATE tenant_link SET opened_at = %s WHERE link_id = %s", now, row[9])
    return Tenancy(
        account_id=row[0],
        meter_id=row[1],
        meter=row[2],
        site=row[3],
        time_zone=row[4],
        building=row[5],
        room=row[6],
        customer=row[7],
        since=row[8],
    )


async def revoke(
    tx: Transaction, link_id: int, sites: Sequence[int] | None, *, by: int, at: datetime
) -> str | None:
    """From now on it opens nothing; the meter's name, None when there is none in that scope."""
    found: str | None = await tx.value(
        """
        UPDATE tenant_link SET revoked_at = %(at)s, revoked_by = %(by)s
        FROM account JOIN meter USING (meter_id)
        WHERE account.account_id = tenant_link.account_id AND link_id = %(link_id)s
            AND revoked_at IS NULL
            AND (%(sites)s::integer[] IS NULL OR meter.site_id = ANY(%(sites)s))
        RETURNING meter.name""",
        named={"at": at, "by": by, "link_id": link_id, "sites": sites},
    )
    return found


async def revoke_of_account(tx: Transaction, account_id: int, *, by: int, at: datetime) -> int:
    """Every link of an account ends; returns how many."""
    return await tx.execute(
        "UPDATE tenant_link SET revoked_at = %s, revoked_by = %s"
        " WHERE account_id = %s AND revoked_at IS NULL",
        at,
        by,
        account_id,
    )


async def of_meter(
    tx: Transaction, meter_id: int, *, before: int | None = None, limit: int = 20
) -> list[TenantLink]:
    """The links about a meter, newest first; `before`: with numbers below it."""
    rows = await tx.rows(
        """
        SELECT link_id, account.name, meter.name, tenant_link.created_at, operator.name, expires_at,
            revoked_at, tenant_link.opened_at
        FROM tenant_link JOIN account USING (account_id) JOIN meter USING (meter_id)
        JOIN operator ON operator.operator_id = tenant_link.created_by
        WHERE account.meter_id = %s AND link_id < coalesce(%s::bigint, 9223372036854775807)
        ORDER BY link_id DESC LIMIT %s""",
        meter_id,
        before,
        limit,
    )
    return [_link(row) for row in rows]


def _link(row: Row) -> TenantLink:
    link_id, customer, meter, created_at, created_by, expires_at, revoked_at, opened_at = row
    return TenantLink(
        link_id=link_id,
        customer=customer,
        meter=meter,
        created_at=created_at,
        created_by=created_by,
        expires_at=expires_at,
        revoked_at=revoked_at,
        opened_at=opened_at,
    )


async def meters_of_building(
    tx: Transaction, sites: Sequence[int] | None, site: str, building: str
) -> list[tuple[int, str, str]]:
    """(meter, its name, its room) of a building, by room; masters and the unhoused are nobody's."""
    rows = await tx.rows(
        """
        SELECT meter_id, meter.name, room.name
        FROM meter JOIN room USING (room_id) JOIN building USING (building_id)
        JOIN site ON site.site_id = meter.site_id
        WHERE site.name = %(site)s AND building.name = %(building)s AND meter.retired_at IS NULL
            AND (%(sites)s::integer[] IS NULL OR meter.site_id = ANY(%(sites)s))
        ORDER BY room.name, meter.name""",
        named={"sites": sites, "site": site, "building": building},
    )
    return [(number, name, room) for number, name, room in rows]


async def looks(tx: Transaction, tenancy: Tenancy, since: datetime) -> list[Look]:
    """The last reading of each day since, or since the account was opened; oldest first."""
    rows = await tx.rows(
        """
        SELECT DISTINCT ON ((at AT TIME ZONE %(zone)s)::date) at, energy_wh, remaining_credit_fen
        FROM reading WHERE meter_id = %(meter_id)s AND at >= greatest(%(since)s, %(opened)s)
        ORDER BY (at AT TIME ZONE %(zone)s)::date, at DESC""",
        named={
            "zone": tenancy.time_zone,
            "meter_id": tenancy.meter_id,
            "since": since,
            # The look at the handover is where both accounts begin and end.
            "opened": tenancy.since - timedelta(days=1),
        },
    )
    return [Look(at=at, energy_wh=wh, credit_fen=fen) for at, wh, fen in rows]


async def credited_fen(tx: Transaction, tenancy: Tenancy, since: datetime, until: datetime) -> int:
    """What top-ups brought into the meter after `since` and up to `until`, fen."""
    found: int = await tx.value(
        """
        SELECT coalesce(sum(amount_fen), 0)::bigint FROM transfer
        WHERE debit = %s AND phase = 'post' AND at > %s AND at <= %s""",
        tenancy.account_id,
        since,
        until,
    )
    return found


async def top_ups(tx: Transaction, tenancy: Tenancy, *, limit: int) -> list[UUID]:
    """The last top-ups of this account over the line, newest first."""
    rows = await tx.rows(
        """
        SELECT command_id FROM command WHERE meter_id = %s AND kind = 'top_up' AND ordered_at >= %s
        ORDER BY ordered_at DESC, command_id LIMIT %s""",
        tenancy.meter_id,
        tenancy.since,
        limit,
    )
    return [number for (number,) in rows]


@dataclass(frozen=True, slots=True)
class Paid:
    """Money that came into an account."""

    at: datetime
    amount_fen: int


async def payments(tx: Transaction, tenancy: Tenancy, *, limit: int) -> list[Paid]:
    """The last payments into this account, newest first."""
    rows = await tx.rows(
        "SELECT at, amount_fen FROM transfer WHERE credit = %s AND operation = 'payment'"
        " ORDER BY entry_no DESC LIMIT %s",
        tenancy.account_id,
        limit,
    )
    return [Paid(at, fen) for at, fen in rows]


async def moved_since(
    tx: Transaction, tenancy: Tenancy, since: datetime, day: date
) -> tuple[int, int, int]:
    """(came in and not out again, charged: fen; charged Wh, of days from `day` on) of an account.

    Corrections that gave money back are charged less.
    """
    row = await tx.row(
        """
        SELECT
            coalesce(sum(moved.fen) FILTER (WHERE NOT of_bill), 0)::bigint,
            coalesce(-sum(moved.fen) FILTER (WHERE of_bill), 0)::bigint,
            (SELECT coalesce(sum(energy_wh), 0)::bigint FROM charge
                WHERE meter_id = %(meter)s AND day >= %(day)s)
        FROM transfer CROSS JOIN LATERAL (
            SELECT CASE credit WHEN %(account)s THEN amount_fen ELSE -amount_fen END AS fen,
                EXISTS (SELECT FROM charge WHERE charge.meter_id = %(meter)s
                    AND charge.transfer_id = transfer.transfer_id) AS of_bill
        ) AS moved
        WHERE (debit = %(account)s OR credit = %(account)s) AND phase IN ('direct', 'post')
            AND at > %(since)s""",
        named={
            "account": tenancy.account_id,
            "meter": tenancy.meter_id,
            "since": since,
            "day": day,
        },
    )
    assert row is not None, "sums always are"
    return row[0], row[1], row[2]
