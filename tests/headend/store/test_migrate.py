"""Migrations: once each, whole or not at all, by whoever comes first."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from headend.store.errors import MigrationRefused
from headend.store.migrate import load_migrations, migrate, migration_session
from headend.store.readings import COLUMNS, IN_EXTRA, IN_INT4
from protocols.reading import Quantity

WAIT_S = 60  # far above what anything here needs
EVERYTHING = """
    SELECT 'column', table_name, column_name, data_type, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef, '', ''
    FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT 'function', proname, pg_get_functiondef(oid), '', '', ''
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
    ORDER BY 1, 2, 3"""


def rows(conninfo: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small migrations of our own."""
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE first (n integer);\n")
    (tmp_path / "0002_second.sql").write_text("CREATE TABLE second (n integer);\n")
    return tmp_path


async def test_step_by_step_ends_where_all_at_once_ends(empty_dsn: str, dsn: str) -> None:
    last = max(load_migrations())
    for version in range(1, last + 1):
        assert await migrate(empty_dsn, up_to=version) == (version,)
    assert await migrate(empty_dsn) == ()
    assert rows(empty_dsn, EVERYTHING) == rows(dsn, EVERYTHING)


async def test_two_processes_at_once_apply_each_file_once(empty_dsn: str, folder: Path) -> None:
    done = await asyncio.gather(*(migrate(empty_dsn, folder=folder) for _ in range(4)))
    assert sorted(done) == [(), (), (), (1, 2)]


async def test_who_comes_second_waits_without_holding_a_snapshot(
    empty_dsn: str, folder: Path
) -> None:
    """A waiting pg_advisory_lock() would deadlock with CREATE INDEX CONCURRENTLY."""
    async with migration_session(empty_dsn) as connection:
        await connection.execute("CREATE TABLE big (n integer)")
        second = asyncio.create_task(migrate(empty_dsn, folder=folder))
        async with asyncio.timeout(WAIT_S):
            while await sessions(connection) < 2:
                await asyncio.sleep(0.01)
        await connection.execute("CREATE INDEX CONCURRENTLY numbers ON big (n)")
        assert not second.done()
    assert await second == (1, 2)


async def sessions(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> int:
    """How many migrators are connected to this database."""
    cursor = await connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'headend migrate'"
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(str(row[0]))


async def test_a_file_edited_after_it_ran_is_refused(empty_dsn: str, folder: Path) -> None:
    await migrate(empty_dsn, folder=folder)
    # Line ends of another system are no edit.
    path = folder / "0001_first.sql"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert await migrate(empty_dsn, folder=folder) == ()
    path.write_text("CREATE TABLE first (n bigint);\n")
    with pytest.raises(MigrationRefused, match="0001_first was edited after it ran here"):
        await migrate(empty_dsn, folder=folder)


async def test_a_database_newer_than_the_program_is_refused(empty_dsn: str, folder: Path) -> None:
    await migrate(empty_dsn, folder=folder)
    (folder / "0002_second.sql").unlink()
    with pytest.raises(MigrationRefused, match=r"tables of a newer program \(0002_second\)"):
        await migrate(empty_dsn, folder=folder)


async def test_a_file_that_fails_leaves_nothing_behind(empty_dsn: str, folder: Path) -> None:
    (folder / "0003_third.sql").write_text("CREATE TABLE third (n integer); SELECT 1/0;\n")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(empty_dsn, folder=folder)
    assert rows(empty_dsn, "SELECT max(version) FROM schema_version") == [(2,)]
    assert rows(empty_dsn, "SELECT to_regclass('third')") == [(None,)]
    (folder / "0003_third.sql").write_text("CREATE TABLE third (n integer);\n")
    assert await migrate(empty_dsn, folder=folder) == (3,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("0004_gap.sql", "not numbered 0001 to the last"),
        ("0002_double.sql", "Two migrations have the number 0002"),
        ("3_short.sql", "is not named like a migration"),
    ],
)
def test_files_that_make_no_row_are_refused(folder: Path, name: str, words: str) -> None:
    (folder / name).write_text("SELECT 1;")
    with pytest.raises(MigrationRefused, match=words):
        load_migrations(folder)


def test_every_quantity_has_its_column_or_its_place_in_extra(dsn: str) -> None:
    """A new Quantity without a migration fails here, not at midnight."""
    found = rows(
        dsn,
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_name = 'reading'",
    )
    columns = {row[0]: row[1] for row in found}
    for other in ("meter_id", "at", "received_at", "origin", "extra"):
        del columns[other]
    wanted = {q.value: "integer" if q in IN_INT4 else "bigint" for q in COLUMNS}
    assert columns == wanted
    assert set(COLUMNS) | IN_EXTRA == set(Quantity)
