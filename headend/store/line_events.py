"""When each line fell and when it rose again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEvent:
    """A line's link went away or came back, and why."""

    line: str
    at: datetime
    is_up: bool
    reason: str


async def record_event(
    tx: Transaction, line_id: int, at: datetime, *, is_up: bool, reason: str
) -> bool:
    """Store a fall or a rise; False when the line was in that state already."""
    touched = await tx.execute(
        """
        INSERT INTO line_event (line_id, at, state, reason)
        SELECT %(line_id)s, %(at)s, %(state)s, %(reason)s
        WHERE %(state)s IS DISTINCT FROM (
            SELECT state FROM line_event WHERE line_id = %(line_id)s ORDER BY at DESC LIMIT 1)
        ON CONFLICT DO NOTHING""",
        named={"line_id": line_id, "at": at, "state": "up" if is_up else "down", "reason": reason},
    )
    return touched == 1


async def events_since(tx: Transaction, since: datetime) -> list[LineEvent]:
    """Falls and rises of all lines, oldest first."""
    rows = await tx.rows(
        "SELECT name, at, state, reason FROM line_event JOIN line USING (line_id)"
        " WHERE at >= %s ORDER BY at, name",
        since,
    )
    return [
        LineEvent(line=line, at=at, is_up=state == "up", reason=reason)
        for line, at, state, reason in rows
    ]
