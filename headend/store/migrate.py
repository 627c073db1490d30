"""Numbered .sql files, each applied once, in order, by whoever comes first.

Every process may call `migrate` at its start: an advisory lock lets one work while the others wait.
The lock is polled, because a session that *waits* for it holds a snapshot that CREATE INDEX
CONCURRENTLY would wait for in turn. A file that was edited after it ran, and a database that is
newer than this program, are refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg

from headend.store import timescale
from headend.store.database import Row, session_conninfo, translated
from headend.store.errors import MigrationRefused

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).with_name("migrations")
FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
# One number for this program, out of the way of a site's own advisory locks.
MIGRATION_LOCK = 0x6D65746572_6D6967
LOCK_LOOK_S = 0.1

TABLE: LiteralString = """
    CREATE TABLE IF NOT EXISTS schema_version (
        version integer PRIMARY KEY,
        name text NOT NULL,
        sha256 text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name and the digest that proves it was not edited."""

    version: int
    name: str
    sha256: str
    sql: str  # from a file of this package, not from anybody's input


def load_migrations(folder: Path = MIGRATIONS) -> Mapping[int, Migration]:
    """Every migration by number. Raises MigrationRefused on a gap, a double or a foreign file."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = FILE_NAME.fullmatch(path.name)
        if not match:
            raise MigrationRefused(f"{path} is not named like a migration, 0001_what_it_does.sql.")
        version = int(match[1])
        if version in found:
            raise MigrationRefused(f"Two migrations have the number {version:04d} in {folder}.")
        # Line ends do not count: a checkout on another system is the same migration.
        sql = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        found[version] = Migration(version, match[2], hashlib.sha256(sql.encode()).hexdigest(), sql)
    if list(found) != list(range(1, len(found) + 1)):
        raise MigrationRefused(f"The migrations in {folder} are not numbered 0001 to the last.")
    return found


async def migrate(
    conninfo: str,
    *,
    folder: Path = MIGRATIONS,
    up_to: int | None = None,
    adopt_timescale: bool = False,
) -> tuple[int, ...]:
    """Bring the database to this program's tables; returns the versions applied now.

    Each file is one transaction together with its line in schema_version. `up_to` stops after that
    version. `adopt_timescale` moves existing readings into TimescaleDB; a database without readings
    adopts it anyway (see timescale.py). Raises MigrationRefused, DatabaseAway.
    """
    files = load_migrations(folder)
    applied: list[int] = []
    async with migration_session(conninfo) as connection:
        await connection.execute(TABLE)
        done = await _done(connection, files)
        for version in range(len(done) + 1, (up_to or len(files)) + 1):
            await _apply(connection, files[version])
            applied.append(version)
        if up_to is None and folder == MIGRATIONS:
            now = await timescale.adopt(connection, move_readings=adopt_timescale)
            if adopt_timescale and now is not timescale.Timescale.ADOPTED:
                raise MigrationRefused(
                    "This server has no TimescaleDB ready for use: install it, add it to "
                    "shared_preload_libraries, or set timescale_folder for the embedded database."
                )
    return tuple(applied)


@asynccontextmanager
async def migration_session(conninfo: str) -> AsyncIterator[psycopg.AsyncConnection[Row]]:
    """A session that alone may change tables, until the block ends or its process dies."""
    own = session_conninfo(conninfo, "headend migrate")
    with translated(own):
        async with await psycopg.AsyncConnection.connect(own, autocommit=True) as connection:
            await connection.execute("SET client_min_messages = warning")
            # When our process is killed, the server stops the statement within a second.
            await connection.execute("SET client_connection_check_interval = '1s'")
            await _lock(connection)
            yield connection


async def _lock(connection: psycopg.AsyncConnection[Row]) -> None:
    waiting = False
    while True:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (MIGRATION_LOCK,))
        row = await cursor.fetchone()
        if row is not None and row[0]:
            return
        if not waiting:
            log.info("another process is changing the tables: waiting for it")
        waiting = True
        await asyncio.sleep(LOCK_LOOK_S)


async def _done(
    connection: psycopg.AsyncConnection[Row], files: Mapping[int, Migration]
) -> list[int]:
    cursor = await connection.execute(
        "SELECT version, name, sha256 FROM schema_version ORDER BY version"
    )
    done = []
    for version, name, sha256 in await cursor.fetchall():
        if version not in files:
            raise MigrationRefused(
                f"The database has the tables of a newer program ({version:04d}_{name}): "
                "install that version again, or restore a backup from before it."
            )
        if files[version].sha256 != sha256:
            raise MigrationRefused(
                f"The migration {version:04d}_{name} was edited after it ran here: "
                "restore the file; changes need a new number."
            )
        done.append(version)
    return done


async def _apply(connection: psycopg.AsyncConnection[Row], migration: Migration) -> None:
    log.info("migration %04d %s", migration.version, migration.name)
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO schema_version (version, name, sha256) VALUES (%s, %s, %s)",
            (migration.version, migration.name, migration.sha256),
        )
