"""What is no book goes when it is old, in small batches; what is a book never does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import LiteralString

import pytest

from headend.app_parts import retention_of
from headend.services import housekeeping
from headend.services.housekeeping import tidy
from headend.services.importing import import_into
from headend.settings import Settings
from headend.store import retention
from headend.store.database import Database, Transaction
from tests.headend.house import TestClock, ddsy, site_on

RULES = retention_of(Settings())
OLD = timedelta(days=800)
YOUNG = timedelta(days=1)
# One of each, of an instant; the newest of a meter, a line and a schedule stays however old.
ROWS: tuple[LiteralString, ...] = (
    "INSERT INTO letter (road, recipient, subject, body, made_at, next_try_at, state, about)"
    " VALUES ('mail', 'a@b.example', '', '', %(at)s, %(at)s, 'sent', %(at)s::text)",
    "INSERT INTO letter (road, recipient, subject, body, made_at, next_try_at, about)"
    " VALUES ('mail', 'waits@b.example', '', '', %(at)s, %(at)s, %(at)s::text)",
    "INSERT INTO sign_in_try (name, address, at) VALUES ('li', '', %(at)s)",
    "INSERT INTO desk_session (sha256, operator_id, csrf, address, began_at, seen_at, expires_at)"
    " VALUES (sha256(%(at)s::text::bytea), (SELECT min(operator_id) FROM operator), '', '',"
    " %(at)s - interval '1 h', %(at)s, %(at)s)",
    "INSERT INTO doubtful_reading (meter_id, at, received_at, doubt, detail, quantities)"
    " VALUES ((SELECT min(meter_id) FROM meter), %(at)s, %(at)s, 'future', '', '{}')",
    "INSERT INTO line_event (line_id, at, state, reason)"
    " VALUES ((SELECT min(line_id) FROM line), %(at)s, 'up', '')",
    "INSERT INTO meter_clock (meter_id, checked_at, drift_s)"
    " VALUES ((SELECT min(meter_id) FROM meter), %(at)s, 0)",
    "INSERT INTO outgoing_event (kind, at, body, position) VALUES ('sale.opened', %(at)s, '{}',"
    " (SELECT coalesce(max(position), 0) + 1 FROM outgoing_event))",
    "INSERT INTO webhook_delivery (webhook_id, position, state) SELECT webhook_id,"
    " (SELECT max(position) FROM outgoing_event), 'dead' FROM webhook",
    # The books and what people did.
    "INSERT INTO desk_event (at, action) VALUES (%(at)s, 'signed-out')",
)
COUNTS = {
    "letter": "SELECT count(*) FROM letter WHERE state = 'sent'",
    "sign_in_try": "SELECT count(*) FROM sign_in_try",
    "desk_session": "SELECT count(*) FROM desk_session",
    "doubtful_reading": "SELECT count(*) FROM doubtful_reading",
    "line_event": "SELECT count(*) FROM line_event",
    "meter_clock": "SELECT count(*) FROM meter_clock",
    "outgoing_event": "SELECT count(*) FROM outgoing_event",
    "webhook_delivery": "SELECT count(*) FROM webhook_delivery",
}


async def _filled(tx: Transaction, clock: TestClock) -> None:
    await tx.execute(
        "INSERT INTO operator (name, person, role, all_sites, created_at)"
        " VALUES ('li', 'li', 'admin', true, now())"
    )
    await tx.execute(
        "INSERT INTO webhook (name, url, kinds, operator_id, created_at)"
        " VALUES ('w', 'http://127.0.0.1:1/', '{}', (SELECT max(operator_id) FROM operator), now())"
    )
    await tx.execute("DELETE FROM outgoing_event")
    for ago in (OLD, OLD - timedelta(hours=1), YOUNG):
        for row in ROWS:
            await tx.execute(row, named={"at": clock.now() - ago})


async def _counts(database: Database) -> dict[str, int]:
    async with database.transaction() as tx:
        return {name: await tx.value(text) for name, text in COUNTS.items()}


async def test_what_is_old_goes_and_what_waits_is_young_or_is_a_book_stays(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)  # many batches, each a transaction
    monkeypatch.setattr(housekeeping, "BETWEEN_BATCHES_S", 0)
    clock = TestClock()
    await import_into(database, site_on(1, (ddsy(1),)))
    async with database.transaction() as tx:
        await _filled(tx, clock)
    before = await _counts(database)
    assert set(before.values()) == {3}
    gone = await tidy(database, clock, RULES, None)
    assert gone == {
        "letters": 2, "sessions": 2, "sign-in tries": 2, "doubtful readings": 2,
        "line events": 2, "clock checks": 2, "events": 2,
    }  # fmt: skip
    assert set((await _counts(database)).values()) == {1}
    async with database.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM letter WHERE state = 'waiting'") == 3
        assert await tx.value("SELECT count(*) FROM desk_event") == 3, "the audit is kept"
    assert await tidy(database, clock, RULES, None) == {}

    # Once everything is old the newest of a line and of a meter still say how it is.
    clock.instant += OLD
    await tidy(database, clock, RULES, None)
    left = await _counts(database)
    assert {name for name, count in left.items() if count} == {"line_event", "meter_clock"}


async def test_an_event_that_waits_for_a_webhook_at_work_stays(database: Database) -> None:
    clock = TestClock()
    await import_into(database, site_on(1, (ddsy(1),)))
    async with database.transaction() as tx:
        await _filled(tx, clock)
        await tx.execute("UPDATE webhook_delivery SET state = 'waiting'")
    assert "events" not in await tidy(database, clock, RULES, None)
    async with database.transaction() as tx:
        await tx.execute("UPDATE webhook SET disabled_at = now()")
    assert (await tidy(database, clock, RULES, None))["events"] == 2


async def test_for_ever_is_for_ever(database: Database) -> None:
    clock = TestClock()
    kept = {f"keep_{name}_days": 0 for name in (
        "events", "letters", "sessions", "doubtful", "line_events", "report_files")}  # fmt: skip
    await import_into(database, site_on(1, (ddsy(1),)))
    async with database.transaction() as tx:
        await _filled(tx, clock)
    forever = retention_of(Settings(**kept))  # type: ignore[arg-type]
    assert await tidy(database, clock, forever, None) == {}
    assert set((await _counts(database)).values()) == {3}


async def test_a_report_goes_with_its_file_and_the_newest_of_a_schedule_stays(
    database: Database, tmp_path: Path
) -> None:
    clock = TestClock()
    await import_into(database, site_on(1, (ddsy(1),)))
    async with database.transaction() as tx:
        await _filled(tx, clock)
        schedule = await tx.value(
            "INSERT INTO report_schedule (name, kind, format, language, cadence, at_time,"
            " folder, mail_to, owner_id, created_at) VALUES ('s', 'arrears', 'csv', 'en',"
            " 'daily', '07:00', '', '{}', (SELECT max(operator_id) FROM operator), now())"
            " RETURNING schedule_id"
        )
        for name, scheduled, ago in (
            ("a.csv", True, OLD), ("b.csv", True, OLD - timedelta(days=1)),
            ("c.csv", False, OLD), ("d.csv", False, YOUNG), ("../e.csv", False, OLD),
        ):  # fmt: skip
            (tmp_path / "reports").mkdir(exist_ok=True)
            (tmp_path / "reports" / name).write_text("x")
            await tx.execute(
                "INSERT INTO report_run (run_id, schedule_id, due_at, asked_by, kind,"
                " first_day, last_day, format, language, state, file, asked_at, ended_at)"
                " VALUES (gen_random_uuid(), %(schedule)s, %(due)s,"
                " (SELECT max(operator_id) FROM operator), 'arrears', '2024-01-01',"
                " '2024-01-02', 'csv', 'en', 'done', %(file)s, %(at)s, %(at)s)",
                named={
                    "schedule": schedule if scheduled else None,
                    "due": clock.now() - ago if scheduled else None,
                    "file": name,
                    "at": clock.now() - ago,
                },
            )
    gone = await tidy(database, clock, RULES, tmp_path / "reports")
    assert gone["report files"] == 3
    left = {path.name for path in tmp_path.rglob("*.csv")}
    assert left == {"b.csv", "d.csv", "e.csv"}, "and nothing outside of the folder"
