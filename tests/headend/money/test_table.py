"""What the database refuses, whatever a program does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from headend.domain.commands import TRANSITIONS, CommandState
from headend.store.database import Database, Transaction
from headend.store.errors import DatabaseRefused
from tests.headend.store.places_for_tests import imported, small_site

NOW = datetime(2026, 3, 20, 2, 0, tzinfo=UTC)


async def furnish(database: Database) -> None:
    """Meters 1 and 2, operators 1 and 2."""
    await imported(database, small_site())
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO operator (name, person, role, all_sites, created_at)"
            " VALUES ('li', 'Li', 'cashier', true, now()), ('wang', 'Wang', 'admin', true, now())"
        )


async def put_sale(tx: Transaction, count: int, *, meter_id: int = 1) -> UUID:
    sale_id = uuid4()
    await tx.execute(
        "INSERT INTO sale (sale_id, meter_id, purchase_count, amount_fen, channel, opened_at)"
        " VALUES (%s, %s, %s, 5000, 'remote', %s)",
        sale_id,
        meter_id,
        count,
        NOW,
    )
    return sale_id


async def put_command(
    tx: Transaction, state: str = "queued", *, kind: str = "cut", meter_id: int = 1
) -> UUID:
    command_id = uuid4()
    await tx.execute(
        """
        INSERT INTO command (command_id, meter_id, kind, state, details, ordered_by, reason,
            ordered_at, changed_at, not_before, expires_at, look_again_at)
        VALUES (%s, %s, %s, %s, '{}', 1, '', %s, %s, %s, %s, %s)""",
        command_id,
        meter_id,
        kind,
        state,
        NOW,
        NOW,
        NOW,
        NOW + timedelta(hours=2),
        NOW if state == "unknown" else None,
    )
    return command_id


async def test_states_move_in_the_database_as_the_table_says_and_no_other_way(
    database: Database,
) -> None:
    await furnish(database)
    async with database.transaction() as tx:
        await tx.execute("ALTER TABLE command DISABLE TRIGGER command_begins")
        moves = {}
        rules = set()
        for old in CommandState:
            for new in CommandState:
                try:
                    async with tx.connection.transaction(force_rollback=True):
                        command_id = await put_command(tx, old.value)
                        await tx.execute(
                            "UPDATE command SET state = %s, look_again_at = %s, changed_at = %s"
                            " WHERE command_id = %s",
                            new.value,
                            NOW if new is CommandState.UNKNOWN else None,
                            NOW + timedelta(seconds=old is not new),
                            command_id,
                        )
                    moves[old, new] = True
                except psycopg.errors.CheckViolation as error:
                    moves[old, new] = False
                    rules.add(error.diag.constraint_name)
    assert rules == {"states_move_by_their_table"}
    assert len(moves) == len(CommandState) ** 2
    assert moves == {
        (old, new): new in TRANSITIONS[old] or new is old
        for old in CommandState
        for new in CommandState
    }


async def refused(database: Database, sql: str, sentence: str) -> None:
    """The statement is refused, and the rule that refuses it is this one."""
    try:
        async with database.transaction() as tx:
            await tx.execute(sql)
    except DatabaseRefused as error:
        cause = error.__cause__
        assert isinstance(cause, psycopg.Error)
        assert cause.diag.constraint_name == sentence
    else:
        pytest.fail(f"not refused: {sql}")


async def test_what_was_ordered_and_what_happened_is_never_changed(database: Database) -> None:
    await furnish(database)
    async with database.transaction() as tx:
        sale_id = await put_sale(tx, 7)
        command_id = await put_command(tx)
        await tx.execute(
            "INSERT INTO attempt"
            " (command_id, attempt_no, kind, meter_id, began_at, sent_at, before)"
            " VALUES (%s, 1, 'cut', 1, now(), now(), '{}')",
            command_id,
        )
        done = await put_sale(tx, 3, meter_id=2)
        await tx.execute(
            "UPDATE sale SET state = 'landed', closed_at = now() WHERE sale_id = %s", done
        )
    for sql, sentence in {
        "UPDATE command SET meter_id = 2": "an_order_stays_as_it_was_given",
        "UPDATE command SET expires_at = expires_at + '1 day'::interval": (
            "an_order_stays_as_it_was_given"
        ),
        "DELETE FROM command": "what_happened_stays_as_it_was_written",
        "UPDATE command_event SET note = 'x'": "what_happened_stays_as_it_was_written",
        "DELETE FROM command_event": "what_happened_stays_as_it_was_written",
        "TRUNCATE command_event": "what_happened_stays_as_it_was_written",
        "DELETE FROM attempt": "what_happened_stays_as_it_was_written",
        """UPDATE attempt SET before = '{"purchase_count": 1}'""": "evidence_stays_as_it_was_seen",
        "UPDATE sale SET purchase_count = 8 WHERE state = 'open'": "a_count_is_tied_to_its_amount",
        "UPDATE sale SET amount_fen = 1 WHERE state = 'open'": "a_count_is_tied_to_its_amount",
        "UPDATE sale SET state = 'open', closed_at = NULL WHERE state = 'landed'": (
            "a_closed_sale_stays_as_it_is"
        ),
        f"UPDATE sale SET copies_left = 1, state = 'reversed', closed_at = now()"
        f" WHERE sale_id = '{sale_id}'": "a_sale_that_may_still_land_is_not_reversed",
        "INSERT INTO sale SELECT gen_random_uuid(), 1, 8, 100, 'open', 'remote', 0, 0, now()": (
            "a_meter_has_one_open_sale"
        ),
        "INSERT INTO sale SELECT gen_random_uuid(), 2, 3, 100, 'open', 'remote', 0, 0, now()": (
            "a_purchase_count_belongs_to_one_sale"
        ),
        "UPDATE command SET approved_by = ordered_by": "an_order_stays_as_it_was_given",
    }.items():
        await refused(database, sql, sentence)


async def test_one_command_holds_a_meter(database: Database) -> None:
    await furnish(database)
    async with database.transaction() as tx:
        first, _second = await put_command(tx), await put_command(tx)
        await tx.execute("UPDATE command SET state = 'claimed' WHERE command_id = %s", first)
    await refused(
        database, "UPDATE command SET state = 'claimed'", "one_command_in_flight_per_meter"
    )


async def test_an_order_begins_queued_and_who_asks_does_not_approve(database: Database) -> None:
    await furnish(database)
    columns = (
        "command_id, meter_id, kind, state, approved_by, details, ordered_by, reason, ordered_at,"
        " changed_at, not_before, expires_at"
    )
    tail = "'{}', 1, '', now(), now(), now(), now() + '1 h'::interval"
    for values, sentence in {
        "'cut', 'sent', NULL": "a_command_begins_queued",
        "'cut', 'queued', 1": "an_approver_is_somebody_else",
        "'top_up', 'queued', NULL": "money_has_an_amount_a_count_and_a_sale",
    }.items():
        sql = f"INSERT INTO command ({columns}) SELECT gen_random_uuid(), 1, {values}, {tail}"
        await refused(database, sql, sentence)
