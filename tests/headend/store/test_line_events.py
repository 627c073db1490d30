"""A line's falls and rises: one row each, however often it is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from headend.store.database import Database
from headend.store.line_events import LineEvent, events_since, record_event
from headend.store.places import load_lines
from tests.headend.store.places_for_tests import imported, small_site

AT = datetime(2026, 3, 20, 16, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


async def test_only_changes_are_kept(database: Database) -> None:
    await imported(database, small_site())
    async with database.transaction() as tx:
        (line,) = await load_lines(tx)
        told = [
            (False, "unplugged"),
            (False, "still unplugged"),
            (True, ""),
            (True, ""),
            (False, "x"),
        ]
        kept = [
            await record_event(tx, line.line_id, AT + n * MINUTE, is_up=is_up, reason=reason)
            for n, (is_up, reason) in enumerate(told)
        ]
        assert kept == [True, False, True, False, True]
        events = await events_since(tx, AT)
    assert events == [
        LineEvent(line="L1", at=AT, is_up=False, reason="unplugged"),
        LineEvent(line="L1", at=AT + 2 * MINUTE, is_up=True, reason=""),
        LineEvent(line="L1", at=AT + 4 * MINUTE, is_up=False, reason="x"),
    ]
