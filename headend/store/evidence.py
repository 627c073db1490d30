"""What goes into an evidence pack, gathered in one transaction, and the packs that were made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from headend.domain.seals import BookedRow, DaySeal
from headend.store import readings, seals
from headend.store.database import Row, Transaction

# Readings this near an order belong to its story.
NEAR: Final = timedelta(hours=6)
READINGS_MAX: Final = 20_000
COMMANDS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose pack it is: one account of one meter, and as long as it lived."""

    meter_id: int
    account_id: int
    meter_account_id: int | None
    record: dict[str, Any]  # account.json
    opened_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Rows of the books about it, each with the chain value before it, and names of accounts."""

    rows: list[tuple[BookedRow, bytes | None]]
    accounts: dict[int, dict[str, Any]]
    seals: list[DaySeal]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadePack:
    """One that was made."""

    made_at: datetime
    made_by: str | None
    since: datetime
    until: datetime
    sha256: bytes
    fingerprint: str


async def subject(tx: Transaction, meter_id: int, account_id: int | None = None) -> Subject | None:
    """The account of that number on this meter; without one, whose it is now, or was last."""
    row = await tx.row(
        """
        SELECT customer.account_id, customer.name, customer.contact, customer.opened_at,
            customer.closed_at, credited.account_id, meter.name, meter.meter_number,
            meter.meter_type, site.name, site.time_zone, building.name, room.name,
            balance.posted_fen, balance.reserved_fen
        FROM account AS customer JOIN meter ON meter.meter_id = customer.meter_id
        JOIN site ON site.site_id = meter.site_id
        JOIN account_balance AS balance ON balance.account_id = customer.account_id
        LEFT JOIN room ON room.room_id = meter.room_id
        LEFT JOIN building ON building.building_id = room.building_id
        LEFT JOIN account AS credited ON credited.meter_id = meter.meter_id
            AND credited.kind = 'meter'
        WHERE customer.kind = 'customer' AND customer.meter_id = %(meter_id)s
            AND (%(account_id)s::integer IS NULL OR customer.account_id = %(account_id)s)
        ORDER BY customer.closed_at DESC NULLS FIRST LIMIT 1""",
        named={"meter_id": meter_id, "account_id": account_id},
    )
    if row is None:
        return None
    openings = await tx.rows(
        "SELECT opened_at, epoch, purchase_count, total_purchased_fen, booked_count, booked_fen,"
        " reason FROM meter_opening WHERE meter_id = %s ORDER BY opening_id",
        meter_id,
    )
    differences = await tx.rows(
        "SELECT kind, ahead_count, ahead_fen, detail, first_seen_at, last_seen_at, closed_at,"
        " closed_reason FROM meter_difference WHERE meter_id = %s ORDER BY difference_id",
        meter_id,
    )
    return Subject(
        meter_id=meter_id,
        account_id=row[0],
        meter_account_id=row[5],
        opened_at=row[3],
        closed_at=row[4],
        record={
            "customer": {
                "account_id": row[0],
                "name": row[1],
                "contact": row[2],
                "opened_at": plain(row[3]),
                "closed_at": plain(row[4]),
                "posted_fen": row[13],
                "reserved_fen": row[14],
            },
            "meter": {"name": row[6], "number": row[7], "type": row[8]},
            "place": {
                "site": row[9],
                "time_zone": row[10],
                "building": row[11],
                "room": row[12],
            },
            "openings": _records(_OPENING, openings),
            "differences": _records(_DIFFERENCE, differences),
        },
    )


_OPENING: Final = (
    "opened_at", "epoch", "purchase_count", "total_purchased_fen", "booked_count", "booked_fen",
    "reason",
)  # fmt: skip
_DIFFERENCE: Final = (
    "kind", "ahead_count", "ahead_fen", "detail", "first_seen_at", "last_seen_at", "closed_at",
    "closed_reason",
)  # fmt: skip
_COMMAND: Final = (
    "command_id", "kind", "state", "amount_fen", "purchase_count", "sale_id", "details",
    "ordered_by", "approved_by", "reason", "cause_id", "bulk_id", "ordered_at", "expires_at",
    "changed_at", "attempts", "outcome",
)  # fmt: skip
_ATTEMPT: Final = (
    "attempt_no", "began_at", "sent_at", "ended_at", "before", "after", "looks", "frames",
    "outcome",
)  # fmt: skip
_OPERATOR: Final = ("operator_id", "name", "person", "role", "created_at", "disabled_at")


async def commands(
    tx: Transaction, meter_id: int, since: datetime, until: datetime
) -> list[dict[str, Any]]:
    """Orders to the meter with each try: both looks, the frames. Oldest first."""
    rows = await tx.rows(
        """
        SELECT command_id, kind, state, amount_fen, purchase_count, sale_id, details, ordered_by,
            approved_by, reason, cause_id, bulk_id, ordered_at, expires_at, changed_at, attempts,
            outcome
        FROM command WHERE meter_id = %s AND ordered_at >= %s AND ordered_at < %s
        ORDER BY ordered_at, command_id LIMIT %s""",
        meter_id,
        since,
        until,
        COMMANDS_MAX,
    )
    found = _records(_COMMAND, rows)
    tries: dict[UUID, list[Row]] = {}
    for row in await tx.rows(
        """
        SELECT command_id, attempt_no, began_at, sent_at, ended_at, before, after, looks, frames,
            outcome
        FROM attempt WHERE command_id = ANY(%s) ORDER BY command_id, attempt_no""",
        [row[0] for row in rows],
    ):
        tries.setdefault(row[0], []).append(row[1:])
    for row, record in zip(rows, found, strict=True):
        record["tries"] = _records(_ATTEMPT, tries.get(row[0], []))
    return found


async def lines(
    tx: Transaction, about: Subject, since: datetime, until: datetime, orders: Collection[UUID]
) -> Lines:
    """Transfers of the account, corrections of its meter while it lived, events of its orders."""
    transfers = await tx.rows(
        """
        SELECT entry_no FROM transfer
        WHERE at >= %(since)s AND at < %(until)s AND (
            %(account_id)s IN (debit, credit)
            OR (operation = 'correction' AND %(meter_account_id)s::integer IN (debit, credit)
                AND at >= %(opened_at)s
                AND (%(closed_at)s::timestamptz IS NULL OR at <= %(closed_at)s)))
        ORDER BY entry_no""",
        named={
            "since": since,
            "until": until,
            "account_id": about.account_id,
            "meter_account_id": about.meter_account_id,
            "opened_at": about.opened_at,
            "closed_at": about.closed_at,
        },
    )
    events = await tx.rows(
        "SELECT event_id FROM command_event WHERE command_id = ANY(%s) ORDER BY event_id",
        list(orders),
    )
    rows = await seals.with_links(
        tx, [number for (number,) in transfers], [number for (number,) in events]
    )
    numbers = {
        row.entry[side] for row, _ in rows if row.entry for side in ("debit", "credit")
        if side in row.entry
    }  # fmt: skip
    accounts = await tx.rows(
        "SELECT account_id, kind, name FROM account WHERE account_id = ANY(%s) ORDER BY account_id",
        [number for number in numbers if isinstance(number, int)],
    )
    return Lines(
        rows=rows,
        accounts={number: {"kind": kind, "name": name} for number, kind, name in accounts},
        seals=await seals.sealed_days(tx),
    )


async def looks(
    tx: Transaction, meter_id: int, since: datetime, until: datetime
) -> list[dict[str, Any]]:
    """Readings of the nights and around the orders."""
    return await readings.around_orders(tx, meter_id, since, until, near=NEAR, limit=READINGS_MAX)


async def operators(tx: Transaction, numbers: Collection[int]) -> list[dict[str, Any]]:
    """Who these are: two accounts of one person are one person."""
    rows = await tx.rows(
        "SELECT operator_id, name, person, role, created_at, disabled_at FROM operator"
        " WHERE operator_id = ANY(%s) ORDER BY operator_id",
        sorted(numbers),
    )
    return _records(_OPERATOR, rows)


async def keep_pack(
    tx: Transaction,
    about: Subject,
    *,
    since: datetime,
    until: datetime,
    made_at: datetime,
    made_by: int | None,
    size: int,
    sha256: bytes,
    fingerprint: str,
) -> None:
    """Remember that this pack left the house."""
    await tx.execute(
        """
        INSERT INTO evidence_pack (meter_id, account_id, since, until, made_at, made_by, bytes,
            sha256, fingerprint) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        about.meter_id,
        about.account_id,
        since,
        until,
        made_at,
        made_by,
        size,
        sha256,
        fingerprint,
    )


async def packs_of(tx: Transaction, meter_id: int, *, limit: int = 20) -> list[MadePack]:
    """Those made about a meter, newest first."""
    rows = await tx.rows(
        """
        SELECT made_at, operator.name, since, until, sha256, fingerprint
        FROM evidence_pack LEFT JOIN operator ON operator_id = made_by
        WHERE meter_id = %s ORDER BY pack_id DESC LIMIT %s""",
        meter_id,
        limit,
    )
    return [
        MadePack(
            made_at=row[0],
            made_by=row[1],
            since=row[2],
            until=row[3],
            sha256=row[4],
            fingerprint=row[5],
        )
        for row in rows
    ]


def _records(names: tuple[str, ...], rows: Collection[Row]) -> list[dict[str, Any]]:
    return [{name: plain(value) for name, value in zip(names, row, strict=True)} for row in rows]


def plain(value: Any) -> Any:
    """A column as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
