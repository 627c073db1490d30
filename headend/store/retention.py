"""What is no book and may go once it is old: deleted in small batches, each a transaction.

Never here: the ledger, sales, commands, attempts and their events, charges, cases, cards, nights,
readings, desk_event and whatever else `never_changed` guards: those are kept for ever.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, LiteralString

from headend.store.database import Transaction

#: Rows in one transaction: some milliseconds, so that nobody waits behind it.
BATCH: Final = 500

# An event goes with what became of its deliveries, unless one of them still waits for a webhook
# that is at work.
_EVENTS: Final[LiteralString] = """
    WITH old AS (
        SELECT position FROM outgoing_event WHERE position IS NOT NULL AND at < %(before)s
            AND NOT EXISTS (SELECT FROM webhook_delivery AS d JOIN webhook USING (webhook_id)
                WHERE d.position = outgoing_event.position AND d.state = 'waiting'
                    AND disabled_at IS NULL)
        ORDER BY position LIMIT %(batch)s
    ), told AS (
        DELETE FROM webhook_delivery WHERE position IN (SELECT position FROM old)
    )
    SELECT coalesce(array_agg(position), '{}') FROM old"""
_DELETE: Final[dict[str, LiteralString]] = {
    "letters": """
        DELETE FROM letter WHERE letter_id IN (
            SELECT letter_id FROM letter WHERE state <> 'waiting' AND made_at < %(before)s
            ORDER BY letter_no LIMIT %(batch)s)""",
    "sessions": """
        DELETE FROM desk_session WHERE sha256 IN (
            SELECT sha256 FROM desk_session WHERE coalesce(ended_at, expires_at) < %(before)s
            LIMIT %(batch)s)""",
    "sign-in tries": """
        DELETE FROM sign_in_try WHERE try_id IN (
            SELECT try_id FROM sign_in_try WHERE at < %(before)s
            ORDER BY try_id LIMIT %(batch)s)""",
    "doubtful readings": """
        DELETE FROM doubtful_reading WHERE (meter_id, at) IN (
            SELECT meter_id, at FROM doubtful_reading WHERE received_at < %(before)s
            LIMIT %(batch)s)""",
    # The newest of each line says how it is now, however long ago that began.
    "line events": """
        DELETE FROM line_event WHERE (line_id, at) IN (
            SELECT line_id, at FROM line_event AS old WHERE at < %(before)s AND EXISTS (
                SELECT FROM line_event AS newer
                WHERE newer.line_id = old.line_id AND newer.at > old.at)
            LIMIT %(batch)s)""",
    "clock checks": """
        DELETE FROM meter_clock WHERE (meter_id, checked_at) IN (
            SELECT meter_id, checked_at FROM meter_clock AS old WHERE checked_at < %(before)s
                AND EXISTS (SELECT FROM meter_clock AS newer
                    WHERE newer.meter_id = old.meter_id AND newer.checked_at > old.checked_at)
            LIMIT %(batch)s)""",
}
#: Kinds of rows that go by themselves; events and files of reports have more to them.
KINDS: Final = tuple(_DELETE)


async def delete_old(tx: Transaction, before: datetime, *, kind: str) -> list[None]:
    """One batch of rows of a kind that are older, an entry for each. Fewer than BATCH: no more."""
    return [None] * await tx.execute(_DELETE[kind], named={"before": before, "batch": BATCH})


async def delete_events(tx: Transaction, before: datetime) -> list[None]:
    """One batch of events that were told, with their deliveries, an entry for each."""
    positions = await tx.value(_EVENTS, named={"before": before, "batch": BATCH})
    # A statement of its own: within one, the deliveries would still be there to be referred to.
    await tx.execute("DELETE FROM outgoing_event WHERE position = ANY(%s)", positions)
    return [None] * len(positions)


async def delete_report_runs(tx: Transaction, before: datetime) -> list[str | None]:
    """One batch of reports that ended before; the file of each, None where it has none.

    The newest of each schedule stays: it says what was made last.
    """
    rows = await tx.rows(
        """
        DELETE FROM report_run WHERE run_id IN (
            SELECT run_id FROM report_run AS old WHERE ended_at < %(before)s
                AND (schedule_id IS NULL OR EXISTS (SELECT FROM report_run AS newer
                    WHERE newer.schedule_id = old.schedule_id AND newer.due_at > old.due_at))
            ORDER BY ended_at LIMIT %(batch)s)
        RETURNING file""",
        named={"before": before, "batch": BATCH},
    )
    return [file for (file,) in rows]
