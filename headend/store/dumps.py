"""Whole databases as streams: pg_dump and pg_restore, and the facts of one moment.

The facts are read in the snapshot that the dump is made of, so that they are of the same moment to
the last transfer. Passwords go to the programs by their environment, never on a command line.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from psycopg.conninfo import conninfo_to_dict

from headend.domain.backups import BookFacts
from headend.domain.problems import Problem
from headend.store import accounts, seals
from headend.store.database import Database, Transaction
from headend.store.programs import ENVIRONMENT, choose_user, find_programs

PIECE_BYTES: Final = 1 << 18
# libpq's variables by the names in a conninfo.
_VARIABLES: Final = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE",
    "user": "PGUSER", "password": "PGPASSWORD", "passfile": "PGPASSFILE", "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
}  # fmt: skip


@asynccontextmanager
async def one_moment(database: Database) -> AsyncIterator[tuple[str, BookFacts]]:
    """A snapshot's name for pg_dump and the facts of it; it lasts as long as the block."""
    async with database.transaction() as tx:
        await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        snapshot = await tx.value("SELECT pg_export_snapshot()")
        yield snapshot, await facts(tx)


async def facts(tx: Transaction) -> BookFacts:
    """What the books are, in numbers that a restored copy must repeat."""
    seal = await seals.last_seal(tx)
    row = await tx.row(
        "SELECT (SELECT count(*) FROM transfer), (SELECT coalesce(max(entry_no), 0) FROM transfer),"
        " (SELECT count(*) FROM command), (SELECT count(*) FROM meter), now()::text"
    )
    assert row is not None
    migrations = await tx.rows("SELECT version, name, sha256 FROM schema_version ORDER BY version")
    return BookFacts(
        made_at=row[4],
        migrations=[list(one) for one in migrations],
        transfers=row[0],
        last_entry_no=row[1],
        commands=row[2],
        meters=row[3],
        balance_sum_fen=await accounts.sum_of_balances_fen(tx),
        last_seal=None if seal is None else f"{seal.day}:{seal.seal_sha256.hex()}",
    )


async def database_bytes(database: Database) -> int:
    """How large it is on its disk."""
    async with database.transaction() as tx:
        size: int = await tx.value("SELECT pg_database_size(current_database())")
    return size


def dump(conninfo: str, snapshot: str, folder: Path) -> Iterator[bytes]:
    """The database of that snapshot in pg_dump's own format. Raises Problem("backup-failed").

    `folder`: the embedded server's, where copies of the programs may lie.
    """
    command = [
        _program("pg_dump", folder), "--format=custom", "--compress=6", "--no-owner",
        f"--snapshot={snapshot}", "--lock-wait-timeout=60000",
    ]  # fmt: skip
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(conninfo),
        cwd="/",
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while piece := process.stdout.read(PIECE_BYTES):
                yield piece
            complaint = process.stderr.read().decode(errors="replace")
        finally:
            if process.poll() is None:
                process.kill()
        if process.wait() != 0:
            raise Problem("backup-failed", detail=_last_line(complaint, "pg_dump"))


def restore(conninfo: str, file: Path, folder: Path) -> None:
    """A dump into an empty database. Raises Problem("restore-failed")."""
    done = subprocess.run(
        [_program("pg_restore", folder), "--no-owner", "--exit-on-error", "--dbname=", str(file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=_environment(conninfo),
        cwd="/",
        check=False,
    )
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace")
        raise Problem("restore-failed", detail=_last_line(complaint, "pg_restore"))


async def is_empty(tx: Transaction) -> bool:
    """Whether nothing of anybody is in this database."""
    found: int = await tx.value(
        "SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE left(nspname, 3) <> 'pg_' AND nspname <> 'information_schema'"
    )
    return found == 0


async def make_roles(tx: Transaction) -> None:
    """The role that a dump's grants are for."""
    await tx.execute(
        "DO $$ BEGIN CREATE ROLE headend_books NOLOGIN;"
        " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
    await tx.execute("GRANT headend_books TO CURRENT_USER")


def _program(name: str, folder: Path) -> str:
    user = choose_user(folder, folder / "private")
    return str(find_programs(user, folder) / "bin" / name)


def _environment(conninfo: str) -> Mapping[str, str]:
    given = conninfo_to_dict(conninfo)
    return ENVIRONMENT | {
        variable: str(given[name]) for name, variable in _VARIABLES.items() if given.get(name)
    }


def _last_line(complaint: str, program: str) -> str:
    lines = [line for line in complaint.strip().splitlines() if line]
    return lines[-1].rstrip(".") if lines else f"{program} ended without a word"
