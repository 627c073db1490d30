"""The same store on TimescaleDB, where HEADEND_TEST_TIMESCALE names a server or a folder of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from headend.store.database import Database, Transaction
from headend.store.embedded import EmbeddedPostgres
from headend.store.errors import MigrationRefused
from headend.store.migrate import load_migrations, migrate
from headend.store.readings import last_readings, make_partitions, series, store_readings
from protocols.reading import Reading
from tests.conftest import fresh_database
from tests.headend.store.places_for_tests import imported, reading, small_site

TIMESCALE = os.environ.get("HEADEND_TEST_TIMESCALE", "")
AT = datetime(2026, 3, 20, 16, 0, tzinfo=UTC)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def timescale_server(reachable_folder: Path) -> AsyncIterator[str]:
    if TIMESCALE.startswith(("postgresql://", "postgres://")):
        yield TIMESCALE
        return
    folder = reachable_folder / "timescale"
    postgres = EmbeddedPostgres(folder, timescale_folder=Path(TIMESCALE))
    yield await postgres.start()
    await postgres.stop()


@pytest.fixture
def timescale_dsn(timescale_server: str) -> Iterator[str]:
    with fresh_database(timescale_server, "template0") as conninfo:
        yield conninfo


async def kind_of(tx: Transaction) -> str:
    hypertables = "SELECT count(*) FROM timescaledb_information.hypertables"
    here = await tx.value("SELECT to_regclass('timescaledb_information.hypertables') IS NOT NULL")
    is_one = here and await tx.value(f"{hypertables} WHERE hypertable_name = 'reading'")
    return "hypertable" if is_one else "partitions"


async def everything(tx: Transaction) -> dict[str, object]:
    """What people see of the readings, by name, wherever they are kept."""
    return {
        "series": await series(tx, 1, AT - timedelta(days=900), AT, limit=9999),
        "last": await last_readings(tx),
        "hours": await tx.rows("SELECT * FROM reading_hour ORDER BY 1, 2"),
        "days": await tx.rows("SELECT * FROM reading_day ORDER BY 1, 2"),
    }


def year_of_readings(meter_id: int) -> list[Reading]:
    return [reading(meter_id, AT - timedelta(hours=9 * n), 10**6 - n) for n in range(1000)]


@pytest.mark.timescale
@pytest.mark.skipif(not TIMESCALE, reason="HEADEND_TEST_TIMESCALE names no TimescaleDB")
class TestTimescale:
    async def test_an_empty_database_adopts_it_by_itself(self, timescale_dsn: str) -> None:
        await migrate(timescale_dsn)
        assert await migrate(timescale_dsn, adopt_timescale=True) == ()
        database = Database(timescale_dsn)
        await database.open()
        async with database.transaction() as tx:
            assert await kind_of(tx) == "hypertable"
            assert await make_partitions(tx, AT) == 0
            assert await store_readings(tx, year_of_readings(1)) == 1000
            assert await store_readings(tx, year_of_readings(1)) == 0
        await database.close()

    async def test_readings_move_only_when_asked_and_nobody_sees_a_difference(
        self, timescale_dsn: str
    ) -> None:
        # A database whose server had no TimescaleDB yet: everything but the adoption.
        await migrate(timescale_dsn, up_to=len(load_migrations()))
        database = Database(timescale_dsn)
        await database.open()
        await imported(database, small_site())
        async with database.transaction() as tx:
            await make_partitions(tx, AT)
            await store_readings(tx, year_of_readings(1))
            before = await everything(tx)
        await migrate(timescale_dsn)
        async with database.transaction() as tx:
            assert await kind_of(tx) == "partitions"
        await migrate(timescale_dsn, adopt_timescale=True)
        async with database.transaction() as tx:
            assert await kind_of(tx) == "hypertable"
            assert await everything(tx) == before
            assert not await tx.value("SELECT to_regclass('reading_plain') IS NOT NULL")
        await database.close()

    async def test_a_compressed_month_still_takes_what_comes_late_once(
        self, timescale_dsn: str
    ) -> None:
        await migrate(timescale_dsn)
        database = Database(timescale_dsn)
        await database.open()
        batch = year_of_readings(1)
        async with database.transaction() as tx:
            await store_readings(tx, batch)
        async with await psycopg.AsyncConnection.connect(
            timescale_dsn, autocommit=True
        ) as connection:
            # The policy of the table may have compressed some of them already.
            await connection.execute(
                "SELECT compress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass)"
                " FROM timescaledb_information.chunks"
                " WHERE hypertable_name = 'reading' AND NOT is_compressed"
            )
            cursor = await connection.execute(
                "SELECT count(*) FROM timescaledb_information.chunks"
                " WHERE hypertable_name = 'reading' AND is_compressed"
            )
            row = await cursor.fetchone()
            assert row is not None
            assert row[0] > 50
        late = reading(1, AT - timedelta(days=100, minutes=7))
        async with database.transaction() as tx:
            assert await store_readings(tx, [*batch, late]) == 1
            assert len(await series(tx, 1, AT - timedelta(days=900), late.at, limit=9999)) > 500
        await database.close()


async def test_asking_for_it_where_it_is_not_is_one_sentence(empty_dsn: str) -> None:
    with pytest.raises(MigrationRefused, match="has no TimescaleDB ready for use"):
        await migrate(empty_dsn, adopt_timescale=True)
