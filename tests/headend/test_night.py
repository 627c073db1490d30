"""A night over a real wire: every cell gets its reading or its true reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headend.domain.nights import GapReason, NightWindow
from headend.store import nights as store
from headend.store.database import Database
from tests.headend.house import ddsy, line_of, site_on, small_house


async def test_every_healthy_meter_is_read_and_every_gap_has_its_reason(
    database: Database, tmp_path: Path
) -> None:
    wire = line_of("ddsy:1-2", "dtsy:3")
    await wire.plug()
    async with small_house(database, tmp_path) as house:
        await house.move_in(
            site_on(
                wire.port,
                (
                    ddsy(1, "249900010001"),
                    ddsy(2, "249900019999"),  # another number is printed on the front
                    ddsy(3),  # a three-phase meter hangs there
                    ddsy(4),  # nothing hangs there
                ),
            )
        )
        assert await house.collect() == {
            "M1": "read",
            "M2": "wrong_meter",
            "M3": "wrong_meter",
            "M4": "meter_silent",
        }
        async with database.transaction() as tx:
            drifts = await tx.rows("SELECT meter_id, drift_s FROM meter_clock")
        assert len(drifts) == 1, "the clock of each meter that was read is checked"
    await wire.unplug()


async def test_a_dead_line_is_one_reason_and_costs_no_tries(
    database: Database, tmp_path: Path
) -> None:
    wire = line_of("ddsy:1-3")
    await wire.plug()
    await wire.unplug()  # the port is known, nobody listens there
    async with small_house(database, tmp_path) as house:
        await house.move_in(site_on(wire.port, (ddsy(1), ddsy(2), ddsy(3))))
        assert set((await house.collect()).values()) == {"line_down"}
        async with database.transaction() as tx:
            tries, detail = await tx.row("SELECT sum(tries), min(detail) FROM night_cell") or ()
        assert tries == 0
        assert "refuses the connection" in detail


async def test_a_line_that_comes_back_is_back_filled_after_the_night(
    database: Database, tmp_path: Path
) -> None:
    wire = line_of("ddsy:1-2")
    await wire.plug()
    await wire.unplug()
    async with small_house(database, tmp_path) as house:
        await house.move_in(site_on(wire.port, (ddsy(1), ddsy(2))))
        assert set((await house.collect()).values()) == {"line_down"}
        house.later(hours=8)  # past the closing of this night, before the next opens
        await wire.plug()
        assert await house.book.lines["L1"].wait_up(30)
        assert set((await house.collect()).values()) == {"back_filled"}
        async with database.transaction() as tx:
            origins = await tx.rows("SELECT DISTINCT origin FROM reading")
        assert origins == [("polled",)], "back-filled, yet honestly polled now"
    await wire.unplug()


async def test_an_energy_that_fell_is_not_taken(database: Database, tmp_path: Path) -> None:
    wire = line_of("ddsy:1")
    await wire.plug()
    async with small_house(database, tmp_path) as house:
        await house.move_in(site_on(wire.port, (ddsy(1),)))
        house.book.meters["M1"].energy_wh_last = 10**12
        assert await house.collect() == {"M1": "implausible"}
        async with database.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM reading") == 0
    await wire.unplug()


async def test_a_restart_goes_on_with_the_open_cells(database: Database, tmp_path: Path) -> None:
    wire = line_of("ddsy:1-4")
    await wire.plug()
    async with small_house(database, tmp_path) as house:
        await house.move_in(site_on(wire.port, tuple(ddsy(unit) for unit in range(1, 5))))
        # What a killed process leaves behind: a night with some cells open.
        now = house.clock.now()
        async with database.transaction() as tx:
            site_id = house.book.sites["court"].site_id
            window = NightWindow(
                night=now.date() + timedelta(days=1),
                opens_at=now,
                closes_at=now + timedelta(hours=6),
            )
            await store.open_night(tx, site_id, window)
        await house.nights.tick("court")
        await house.nights.finished("court")
        assert set((await house.cells()).values()) == {"read"}
        await house.nights.tick("court")
        await house.nights.tick("court")
        async with database.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM night") == 1
            assert await tx.value("SELECT count(*) FROM reading") == 4
    await wire.unplug()


async def test_nights_that_nobody_saw_say_so(database: Database, tmp_path: Path) -> None:
    wire = line_of("ddsy:1")
    await wire.plug()
    async with small_house(database, tmp_path) as house:
        await house.move_in(site_on(wire.port, (ddsy(1),)))
        # Midday in Shanghai: last night was collected, then the machine was off for three days.
        house.clock.instant = datetime(2026, 3, 20, 4, 0, tzinfo=UTC)
        async with database.transaction() as tx:
            await tx.execute("UPDATE site SET created_at = %s", house.clock.instant)
        await house.reload()
        house.clock.instant = datetime(2026, 3, 20, 16, 0, tzinfo=UTC)
        await house.nights.tick("court")
        await house.nights.finished("court")
        house.clock.instant = datetime(2026, 3, 24, 4, 0, tzinfo=UTC)
        await house.nights.tick("court")
        await house.nights.finished("court")
        async with database.transaction() as tx:
            rows = await store.completeness(tx, site="court", count=10)
        by_night = {row.night.day: row for row in rows}
        assert sorted(by_night) == [20, 21, 22, 23]
        assert by_night[20].read == 1
        # Between two readings of one meter the hole is estimated, and keeps saying why it is one.
        assert by_night[21].estimated == by_night[22].estimated == 1
        assert by_night[23].back_filled == 1
        async with database.transaction() as tx:
            cells = await store.cells(tx, site="court", night=by_night[21].night)
        assert cells is not None
        assert cells[0].reason is GapReason.HEAD_END_DOWN
    await wire.unplug()


async def test_a_read_on_demand_is_stored_when_it_comes_back(
    database: Database, tmp_path: Path
) -> None:
    wire = line_of("ddsy:1")
    await wire.plug()
    async with small_house(database, tmp_path) as house:
        await house.move_in(site_on(wire.port, (ddsy(1),)))
        assert await house.book.lines["L1"].wait_up(10)
        outcome = await house.nights.read_now(house.book.find_meter("M1"))
        async with database.transaction() as tx:
            stored = await tx.value("SELECT energy_wh FROM reading")
        assert stored == outcome.values[next(q for q in outcome.values if q.value == "energy_wh")]  # type: ignore[union-attr]
    await wire.unplug()


@pytest.mark.parametrize("unit", [1, 3])
async def test_a_re_import_is_followed_without_a_restart(
    database: Database, tmp_path: Path, unit: int
) -> None:
    wire = line_of("ddsy:1-3")
    await wire.plug()
    async with small_house(database, tmp_path) as house:
        await house.move_in(site_on(wire.port, (ddsy(1), ddsy(2))))
        line = house.book.lines["L1"].line
        assert await house.reload() == set(), "nothing changed, nothing is disturbed"
        await house.move_in(site_on(wire.port, (ddsy(2), ddsy(unit))))
        assert house.book.lines["L1"].line is line, "the line kept its link"
        assert set(house.book.meters) == {"M2", f"M{unit}"}
        assert set((await house.collect()).values()) == {"read"}
    await wire.unplug()
