"""What holds after books came from a backup: nothing is sold or sent before it was looked at.

The books are of an earlier moment. A meter may have been credited since, an order may have been
sent since. So every meter is frozen until it was read and agrees, and every order that was open
waits for a person or is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from headend.domain.alarms import AlarmKind
from headend.store import alarms
from headend.store.database import Transaction

NOTE = "open in a backup that was restored: it may have been carried out since"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What a restore stopped."""

    meters_frozen: int
    orders_for_a_person: int
    orders_taken_back: int
    jobs_halted: int


async def mark(tx: Transaction, *, made_at: datetime, restored_at: datetime, file: str) -> Marked:
    """Say that these books were restored, and stop whatever would go on from them by itself."""
    restore_id = await tx.value(
        "INSERT INTO restored_books (made_at, restored_at, file) VALUES (%s, %s, %s)"
        " RETURNING restore_id",
        made_at,
        restored_at,
        file,
    )
    frozen = await tx.execute(
        """
        INSERT INTO sales_freeze (meter_id, frozen_at, reason, restore_id, seen_count, seen_fen)
        SELECT meter.meter_id, %s, %s, %s, purchase_count, total_purchased_fen
        FROM meter LEFT JOIN meter_last USING (meter_id)
        WHERE retired_at IS NULL
            AND meter.meter_id NOT IN (SELECT meter_id FROM platform_meter)
        ON CONFLICT (meter_id) WHERE thawed_at IS NULL DO NOTHING""",
        restored_at,
        f"the books were restored from a backup of {made_at:%Y-%m-%d %H:%M} UTC: read this meter",
        restore_id,
    )
    for_a_person = await _escalate(tx, restored_at)
    taken_back = await tx.execute(
        "UPDATE command SET state = 'cancelled', changed_at = %s, outcome = %s"
        " WHERE state = 'queued' AND kind NOT IN ('top_up', 'burn')",
        restored_at,
        NOTE,
    )
    halted = await _halt(tx, restored_at)
    detail = f"from {file}, of {made_at:%Y-%m-%d %H:%M} UTC: meters are sold to once they were read"
    await alarms.raise_alarm(tx, AlarmKind.BOOKS_RESTORED, None, detail, restored_at)
    return Marked(
        meters_frozen=frozen,
        orders_for_a_person=for_a_person,
        orders_taken_back=taken_back,
        jobs_halted=halted,
    )


async def _escalate(tx: Transaction, at: datetime) -> int:
    """What had left or was about to, and money: a person decides after a look at the meter.

    One order at most holds a meter, so money that waits behind another order stays queued; it is
    not sent while its meter is frozen.
    """
    await tx.execute(
        "UPDATE command SET state = 'unknown', look_again_at = %s, changed_at = %s, outcome = %s"
        " WHERE state = 'sent'",
        at,
        at,
        NOTE,
    )
    await tx.execute(
        """
        UPDATE command SET state = 'claimed', changed_at = %s
        WHERE state = 'queued' AND kind IN ('top_up', 'burn') AND command_id IN (
            SELECT DISTINCT ON (meter_id) command_id FROM command AS first
            WHERE state = 'queued' AND kind IN ('top_up', 'burn') AND NOT EXISTS (
                SELECT FROM command AS other WHERE other.meter_id = first.meter_id
                    AND other.state IN ('claimed', 'sent', 'unknown', 'escalated'))
            ORDER BY meter_id, ordered_at)""",
        at,
    )
    return await tx.execute(
        "UPDATE command SET state = 'escalated', look_again_at = NULL, changed_at = %s,"
        " outcome = %s WHERE state IN ('claimed', 'unknown')",
        at,
        NOTE,
    )


async def _halt(tx: Transaction, at: datetime) -> int:
    """Work on many meters never goes on by itself from an older list."""
    halted = await tx.execute(
        "UPDATE bulk_job SET state = 'halted', halt_reason = %s, changed_at = %s, changed_by = NULL"
        " WHERE state IN ('canary', 'watching', 'ramp')",
        NOTE,
        at,
    )
    halted += await tx.execute(
        "UPDATE bulk_job SET state = 'cancelled', changed_at = %s, changed_by = NULL"
        " WHERE state IN ('planned', 'approved')",
        at,
    )
    return halted + await tx.execute(
        "UPDATE tariff_push SET state = 'stopped', halt_reason = %s, changed_at = %s"
        " WHERE state IN ('waits', 'runs')",
        NOTE,
        at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSince:
    """A meter frozen by a restore that was read after it. `has_account`: it is in the books."""

    meter_id: int
    has_account: bool
    seen_count: int | None
    seen_fen: int | None
    count: int | None
    fen: int | None


async def read_since(tx: Transaction) -> list[ReadSince]:
    """Meters whose sales a restore stopped and that have answered since."""
    rows = await tx.rows(
        """
        SELECT sales_freeze.meter_id, EXISTS (SELECT FROM account
                WHERE account.meter_id = sales_freeze.meter_id AND account.kind = 'meter'),
            seen_count, seen_fen, purchase_count, total_purchased_fen
        FROM sales_freeze JOIN restored_books USING (restore_id) JOIN meter_last USING (meter_id)
        WHERE thawed_at IS NULL AND origin = 'polled' AND meter_last.at > restored_at"""
    )
    return [
        ReadSince(
            meter_id=row[0],
            has_account=row[1],
            seen_count=row[2],
            seen_fen=row[3],
            count=row[4],
            fen=row[5],
        )
        for row in rows
    ]


async def release(tx: Transaction, meter_id: int, count: int, at: datetime) -> bool:
    """The meter agrees with the restored books: sell to it again."""
    touched = await tx.execute(
        "UPDATE sales_freeze SET thawed_at = %s, count_agreed = %s,"
        " thaw_reason = 'read after the restore: meter and books agree'"
        " WHERE meter_id = %s AND thawed_at IS NULL AND restore_id IS NOT NULL",
        at,
        count,
        meter_id,
    )
    return touched == 1


async def still_frozen(tx: Transaction) -> int:
    """How many meters a restore still holds."""
    count: int = await tx.value(
        "SELECT count(*) FROM sales_freeze WHERE restore_id IS NOT NULL AND thawed_at IS NULL"
    )
    return count


async def was_restored(tx: Transaction) -> bool:
    """Whether these books ever came from a backup."""
    found: bool = await tx.value("SELECT EXISTS (SELECT FROM restored_books)")
    return found
