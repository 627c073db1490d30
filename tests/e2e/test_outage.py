"""The database dies in the middle of a night: nothing is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from headend.services.sink import Save
from headend.store import readings
from headend.store.database import Database
from headend.store.embedded import EmbeddedPostgres
from headend.store.errors import DatabaseAway
from headend.store.migrate import migrate
from headend.store.nights import Gap, Look
from tests.headend.house import ddsy, line_of, site_on, small_house

METERS = 24


async def test_a_night_over_a_database_that_is_killed_and_stays_away(
    reachable_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headend.services.sink.AWAY_RETRY_S", 0.05)
    monkeypatch.setattr("headend.services.sink.GATHER_S", 0.0)
    postgres = EmbeddedPostgres(reachable_folder / "outage")
    conninfo = await postgres.start()
    await migrate(conninfo)
    database = Database(conninfo)
    await database.open()
    wire = line_of(f"ddsy:1-{METERS}", turnaround_s=0.02)
    await wire.plug()
    try:
        async with small_house(database, tmp_path) as house:
            house.sink._waiting_max = 5  # so that memory alone is not enough
            await house.move_in(site_on(wire.port, tuple(ddsy(n + 1) for n in range(METERS))))
            away = Outage(house.sink._save)
            house.sink._save = away.save
            assert await house.book.lines["L1"].wait_up(30)
            run = await house.nights.collect_now("court", house.nights._pace)

            # A few readings are in; then the server is killed and, for us, does not come back.
            async with asyncio.timeout(60):
                while away.stored < 3:
                    await asyncio.sleep(0.005)
            away.is_away = True
            assert postgres.pid is not None
            os.kill(postgres.pid, signal.SIGKILL)
            async with asyncio.timeout(60):
                while run.progress[0].done < METERS:
                    await asyncio.sleep(0.005)
            assert house.spool.size_bytes > 0, "memory was full: the rest is on disk"
            async with asyncio.timeout(60):  # the owner brings its server back by itself
                while await is_away(database):
                    await asyncio.sleep(0.05)
            away.is_away = False
            await house.nights.finished("court")

            assert set((await house.cells()).values()) == {"read"}
            async with database.transaction() as tx:
                assert await tx.value("SELECT count(*) FROM reading") == METERS
                assert len(await readings.last_energies_wh(tx)) == METERS
            assert house.spool.is_empty
    finally:
        await wire.unplug()
        await database.close()
        await postgres.stop()


class Outage:
    """Lets nothing through while the test says so, whatever the server does meanwhile."""

    def __init__(self, save: Save) -> None:
        self._save = save
        self.is_away = False
        self.stored = 0

    async def save(self, looks: Sequence[Look], gaps: Sequence[Gap]) -> None:
        if self.is_away:
            raise DatabaseAway("the test holds it away")
        await self._save(looks, gaps)
        self.stored += len(looks)


async def is_away(database: Database) -> bool:
    try:
        await database.check()
    except DatabaseAway:
        return True
    return False
