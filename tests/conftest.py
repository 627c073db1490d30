"""One real PostgreSQL for the whole run, and a fresh database of it for each test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
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


@pytest.fixture(scope="session")
def reachable_folder() -> Iterator[Path]:
    """A folder that an unprivileged user may pass through too: as root, pytest's own are 0700."""
    folder = Path(tempfile.mkdtemp(prefix="headend-test-"))
    folder.chmod(0o755 if os.geteuid() == 0 else 0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server(reachable_folder: Path) -> Iterator[str]:
    """The conninfo of one embedded server with the migrated template database in it.

    Its loop is its own and runs only at its start and end: a loop of pytest-asyncio ends whenever a
    test asks for another kind of loop, and the server would end with it.
    """
    postgres = EmbeddedPostgres(reachable_folder / "server")
    with asyncio.Runner() as runner:
        conninfo = runner.run(postgres.start())
        try:
            with psycopg.connect(conninfo, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {TEMPLATE}")
            runner.run(migrate(with_dbname(conninfo, TEMPLATE)))
            yield conninfo
        finally:
            runner.run(postgres.stop())


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
    # pytest may load this file under two names: a counter of each would give one number twice.
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        # FILE_COPY of a small template is one checkpoint more and half a second less than a log.
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield with_dbname(server, name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def with_dbname(conninfo: str, dbname: str) -> str:
    """The same server, another database."""
    return psycopg.conninfo.make_conninfo(conninfo, dbname=dbname)
