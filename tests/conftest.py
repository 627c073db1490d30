"""One real PostgreSQL for the whole run, and a fresh database of it for each test."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from headend.store.database import Database
from headend.store.embedded import EmbeddedPostgres
from headend.store.migrate import migrate

TEMPLATE = "template_of_tests"
_numbers = itertools.count()


@pytest.fixture(scope="session")
def reachable_folder() -> Iterator[Path]:
    """A folder that an unprivileged user may pass through too: as root, pytest's own are 0700."""
    folder = Path(tempfile.mkdtemp(prefix="headend-test-"))
    folder.chmod(0o755 if os.geteuid() == 0 else 0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(reachable_folder: Path) -> AsyncIterator[str]:
    """The conninfo of one embedded server with the migrated template database in it."""
    postgres = EmbeddedPostgres(reachable_folder / "server")
    conninfo = await postgres.start()
    try:
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            await connection.execute(f"CREATE DATABASE {TEMPLATE}")
        await migrate(with_dbname(conninfo, TEMPLATE))
        yield conninfo
    finally:
        await postgres.stop()


@pytest.fixture
def dsn(server: str) -> Iterator[str]:
    """The conninfo of a fresh database with all tables, dropped after the test."""
    with fresh_database(server, TEMPLATE) as conninfo:
        yield conninfo


@pytest.fixture
def empty_dsn(server: str) -> Iterator[str]:
    """The conninfo of a fresh database with nothing in it."""
    with fresh_database(server, "template0") as conninfo:
        yield conninfo


@pytest_asyncio.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """An open Database on a fresh database with all tables."""
    opened = Database(dsn)
    await opened.open()
    yield opened
    await opened.close()


@contextlib.contextmanager
def fresh_database(server: str, template: str) -> Iterator[str]:
    """A copy of `template` for one test."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        # FILE_COPY of a small template is one checkpoint more and half a second less than a log.
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield with_dbname(server, name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def with_dbname(conninfo: str, dbname: str) -> str:
    """The same server, another database."""
    return psycopg.conninfo.make_conninfo(conninfo, dbname=dbname)
