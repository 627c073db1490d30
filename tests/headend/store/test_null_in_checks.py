"""A CHECK that is NULL passes: for every one of them, that may only happen where it is meant to."""

from __future__ import annotations

import itertools
import re
from typing import Any

import psycopg
import pytest

# Each may be NULL, and why that is right: the column says "not yet", "nobody" or "not this kind".
MEANT = {
    "a_hoarding_limit_is_positive",  # no limit
    "an_attempt_has_a_known_outcome",  # not ended
    "a_count_is_not_negative",  # the shift is open
    "a_meter_is_not_its_own_master",  # it has none
    "a_unit_id_is_1_to_247",  # it answers to an address
    "an_address_is_digits",  # it answers to a unit id
    "a_gap_has_a_known_reason",  # no gap
    "terminal_clash_settled_how_check",  # not settled
    # Nobody approved; that somebody must is said by other rules.
    "a_case_is_approved_by_somebody_else",
    "who_asks_does_not_approve",
    "a_debt_is_approved_by_somebody_else",
    "an_opening_is_approved_by_somebody_else",
    # Still open; whether all its parts are there together is a comparison that is never NULL.
    "who_closes_says_why",
    "a_debt_let_off_says_by_whom_and_why",
    "a_closed_difference_says_why",
    "a_work_order_is_closed_by_somebody_for_a_reason",
}
_NUMBERS = ("-1", "0", "1", "100", "70000", "9999999")
_VALUES: dict[str, tuple[str, ...]] = {
    "integer": _NUMBERS,
    "bigint": _NUMBERS,
    "boolean": ("true", "false"),
    "timestamp with time zone": ("'2026-01-01'", "'2026-01-02'"),
    "date": ("'2026-01-01'", "'2026-01-02'"),
    "uuid": ("'00000000-0000-0000-0000-000000000001'",),
    "bytea": (r"'\x00'",),
    "jsonb": ("'{}'",),
}


def _is_null_somewhere(db: psycopg.Connection[Any], rule: str, columns: list[Any]) -> bool:
    tables = []
    for number, (name, kind, never_null) in enumerate(columns):
        if kind == "text":
            values = [f"'{word}'" for word in {*re.findall(r"'([^']*)'::text", rule), "x", ""}]
        else:
            values = list(_VALUES[kind])
        values += [] if never_null else ["NULL"]
        typed = ", ".join(f"({value}::{kind})" for value in values)
        tables.append(f"(VALUES {typed}) AS t{number} ({name})")
    query = f"SELECT EXISTS (SELECT FROM {', '.join(tables)} WHERE ({rule}) IS NULL)"
    row = db.execute(query.encode()).fetchone()
    assert row is not None
    return bool(row[0])


def test_no_check_passes_by_being_null_unless_that_is_meant(dsn: str) -> None:
    with psycopg.connect(dsn) as db:
        rows = db.execute(
            """
            SELECT conname, pg_get_expr(conbin, conrelid), attname,
                format_type(atttypid, atttypmod), attnotnull
            FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
            JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY(conkey)
            WHERE contype = 'c' AND NOT relispartition ORDER BY conrelid, conname, attnum"""
        ).fetchall()
        found = set()
        for (name, rule), group in itertools.groupby(rows, key=lambda row: row[:2]):
            columns = [row[2:] for row in group]
            if not all(column[2] for column in columns) and _is_null_somewhere(db, rule, columns):
                found.add(name)
    assert len(rows) > 150
    assert found == MEANT


def test_a_converter_without_a_port_is_no_gateway(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as db:
        site = db.execute(
            "INSERT INTO site (name, time_zone, night_opens, night_closes)"
            " VALUES ('court', 'Asia/Shanghai', '00:05', '06:00') RETURNING site_id"
        ).fetchone()
        for kind, host, port in (
            ("tcp", "10.0.0.5", None),
            ("modbus_tcp", "10.0.0.5", None),
            ("tcp", None, 502),
            ("tcp", "10.0.0.5", 0),
        ):
            with pytest.raises(psycopg.errors.CheckViolation, match="says_where_it_is"):
                db.execute(
                    "INSERT INTO gateway (site_id, name, kind, host, port, heartbeat_s)"
                    " VALUES (%s, 'G', %s, %s, %s, 60)",
                    (site and site[0], kind, host, port),
                )


TABLES = ("command", "meter_opening", "debt", "account_case", "terminal_cap", "meter_mode")


def test_every_approver_is_another_person(dsn: str) -> None:
    """Where a table has an approver, a trigger of it asks for another person."""
    with psycopg.connect(dsn, autocommit=True) as db:
        found = db.execute(
            "SELECT DISTINCT relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
            " WHERE tgname = 'another_person_approves' ORDER BY 1"
        ).fetchall()
        assert [name for (name,) in found] == sorted(TABLES)
        people = [
            row[0]
            for row in db.execute(
                "INSERT INTO operator (name, person, role, all_sites, created_at) VALUES"
                " ('li', 'Li', 'manager', true, now()), ('li2', 'Li', 'manager', true, now()),"
                " ('wu', 'Wu', 'manager', true, now()) RETURNING operator_id"
            ).fetchall()
        ]
        cap = (
            "INSERT INTO terminal_cap (terminal, day, card_fen, total_fen, first_sequence,"
            " valid_until, issued_at, issued_by, approved_by, reason)"
            " VALUES ('T1', '2026-11-27', 100, 100, 1, now() + interval '1 day', now(), %s, %s,"
            " 'x')"
        )
        with pytest.raises(psycopg.errors.CheckViolation, match="one person"):
            db.execute(cap, people[:2])
        db.execute(cap, (people[0], people[2]))
        opening = (
            "INSERT INTO meter_opening (meter_id, opened_at, booked_count, booked_fen,"
            " operator_id, approver_id, reason) VALUES (1, now(), 0, 0, %s, %s, 'x')"
        )
        for asks in (people[0], None):
            with pytest.raises(psycopg.errors.CheckViolation, match="one person"):
                db.execute(opening, (asks, people[1]))


def test_a_card_without_credit_names_no_sale(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as db:
        rule = db.execute(
            "SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint"
            " WHERE conname = 'a_card_without_credit_has_no_sale'"
        ).fetchone()
        assert rule is not None
        for kind, sale, holds in (
            ("parameter", "NULL::uuid", True),
            ("parameter", "gen_random_uuid()", False),
            ("purchase", "gen_random_uuid()", True),
        ):
            query = (
                f"SELECT {rule[0]} FROM (SELECT '{kind}'::text AS kind, {sale} AS sale_id,"
                " NULL::integer AS purchase_count) AS card_issue"
            )
            row = db.execute(query.encode()).fetchone()
            assert row == (holds,)
