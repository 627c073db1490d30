"""The PostgreSQL of a campaign: an embedded server in a folder that is thrown away at the end."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from headend.store.embedded import EmbeddedPostgres
from headend.store.migrate import migrate

_NUMBERS = itertools.count(1)


@contextmanager
def throw_away_server() -> Iterator[str]:
    """The conninfo of a server of our own, for as long as the block runs.

    Its own event loop only runs at its start and end; the seeds in between bring theirs.
    """
    folder = Path(tempfile.mkdtemp(prefix="headend-trial-"))
    # As root the database runs as somebody else, who must get through.
    folder.chmod(0o755 if os.geteuid() == 0 else 0o700)
    postgres = EmbeddedPostgres(folder / "server")
    try:
        with asyncio.Runner() as runner:
            conninfo = runner.run(postgres.start())
            try:
                yield conninfo
            finally:
                runner.run(postgres.stop())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def own_database(server: str, *, broken: Sequence[str] = ()) -> Iterator[str]:
    """The conninfo of a database with all tables, dropped at the end.

    `broken`: statements that take rules out of it. Several may be open at once.
    """
    name = f"trial_{os.getpid()}_{next(_NUMBERS)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    conninfo = psycopg.conninfo.make_conninfo(server, dbname=name)
    asyncio.run(migrate(conninfo))
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in broken:
            connection.execute(statement.encode())
    try:
        yield conninfo
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
