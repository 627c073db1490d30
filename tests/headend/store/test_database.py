"""The door to the database: every way of not getting in is one sentence, and no way lasts."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from headend.store import embedded
from headend.store.database import Database
from headend.store.embedded import EmbeddedPostgres
from headend.store.errors import DatabaseAway, DatabaseRefused, StoreError
from tests.conftest import with_dbname

WAIT_S = 60  # far above what anything here needs


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tcp_server(reachable_folder: Path) -> AsyncIterator[str]:
    """A server as a site would run it: TCP, a password. "host=… port=…", user "site", "secret"."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = reachable_folder / "tcp"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "PORT", port)
        patch.setitem(embedded.SETTINGS, "port", str(port))
        patch.setitem(embedded.SETTINGS, "listen_addresses", "127.0.0.1")
        postgres = EmbeddedPostgres(folder)
        conninfo = await postgres.start()
    try:
        hba = folder / "private" / "cluster" / "pg_hba.conf"
        hba.write_text("local all all trust\nhost postgres,absent all 127.0.0.1/32 scram-sha-256\n")
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
            await connection.execute("CREATE ROLE site LOGIN PASSWORD 'secret'")
            await connection.execute("SELECT pg_reload_conf()")
        yield f"host=127.0.0.1 port={port}"
    finally:
        await postgres.stop()


async def refusal(conninfo: str) -> str:
    with pytest.raises(StoreError) as caught:
        await Database(conninfo).open()
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_the_right_password_opens_and_sessions_are_utc(tcp_server: str) -> None:
    database = Database(f"{tcp_server} user=site password=secret dbname=postgres")
    await database.open()
    async with database.transaction() as tx:
        assert await tx.value("SHOW timezone") == "UTC"
        assert await tx.value("SHOW application_name") == "headend"
        instant = await tx.value("SELECT timestamptz '2026-03-20 23:55+08'")
    assert instant == datetime(2026, 3, 20, 15, 55, tzinfo=UTC)
    await database.close()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("password=wrong", "the password for user site is wrong or missing"),
        ("password=''", "the password for user site is wrong or missing"),
        ("user=nobody2", "the password for user nobody2 is wrong or missing"),
        ("dbname=absent", "has no database absent; create it with: createdb absent"),
        ("dbname=template1", "does not let user site in from here; its pg_hba.conf decides"),
        ("host=no-such-host.invalid", "there is no host called no-such-host.invalid"),
        ("port=1", "nothing listens at 127.0.0.1:1; start the server or check --database-url"),
        ("host=/nowhere", "nothing listens at /nowhere; start the server"),
    ],
)
async def test_each_way_of_not_getting_in_is_its_own_sentence(
    tcp_server: str, change: str, sentence: str
) -> None:
    good = f"{tcp_server} user=site password=secret dbname=postgres"
    key, _, value = change.partition("=")
    wrong = psycopg.conninfo.make_conninfo(good, **{key: value.strip("'")})
    said = await refusal(wrong)
    assert sentence in said
    assert "secret" not in said


async def test_a_url_that_is_none_is_told_before_anything_is_tried() -> None:
    with pytest.raises(DatabaseRefused, match="write postgresql://user:password@host:port/name"):
        Database("htp//wrong url")


async def test_an_exception_takes_everything_back(database: Database) -> None:
    async def make_half() -> None:
        async with database.transaction() as tx:
            await tx.execute("CREATE TABLE half (n integer)")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await make_half()
    async with database.transaction() as tx:
        assert await tx.value("SELECT to_regclass('half')") is None


async def test_what_the_database_refuses_is_no_outage(database: Database) -> None:
    with pytest.raises(DatabaseRefused, match="division by zero"):
        async with database.transaction() as tx:
            await tx.value("SELECT 1/0")


async def test_lost_connections_are_replaced(
    database: Database, server: str, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def lose_it() -> None:
        async with database.transaction() as tx:
            await end_sessions(server, dsn)
            await tx.value("SELECT 1")

    with pytest.raises(DatabaseAway):
        await lose_it()
    async with asyncio.timeout(WAIT_S):
        async with database.transaction() as tx:
            assert await tx.value("SELECT 1") == 1
    messages = [record.message for record in caplog.records if record.name.startswith("headend")]
    assert len(messages) == 2  # the fall once, the rise once
    assert messages[1] == "the database answers again"


async def test_who_listens_hears_it_and_is_told_to_look_after_a_lost_connection(
    database: Database, server: str, dsn: str
) -> None:
    heard = database.listen("news")
    async with asyncio.timeout(WAIT_S):
        assert await anext(heard) == ""
        await tell(database, "one")
        assert await anext(heard) == "one"
        await end_sessions(server, dsn)
        assert await anext(heard) == ""
        await tell(database, "two")
        assert await anext(heard) == "two"
    await heard.aclose()


async def tell(database: Database, payload: str) -> None:
    async with database.transaction() as tx:
        await tx.execute("SELECT pg_notify('news', %s)", payload)


async def end_sessions(server: str, dsn: str) -> None:
    """Ends every session of the test's database, as a restart of its server would."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    async with await psycopg.AsyncConnection.connect(
        with_dbname(server, "postgres"), autocommit=True
    ) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
            (name,),
        )
