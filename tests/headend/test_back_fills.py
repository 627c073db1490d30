"""A night is back-filled because somebody asked: now, once, and each value keeps its origin."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

from headend.domain.nights import Cell, CellState, GapReason, night_window
from headend.domain.places import MeterPlace
from headend.services.back_fills import BackFill, FillState
from headend.store import nights as store
from headend.store.database import Database
from protocols.reading import Origin
from simulators.dial import dial_ms_of
from simulators.dlt645_meter import Bus645, Unit645
from simulators.metering import W_MS_PER_WH
from simulators.tcp_slave import TcpLine
from simulators.wire import WireTiming
from tests.headend.house import House, ddsy, line_of, site_on, small_house
from tests.sim.helpers import HandClock
from tests.sim.helpers import meter as new_meter

NIGHT = date(2026, 3, 19)  # the one before the test's clock, which shows ten in the morning
ADDRESS = "230615000007"


async def pressed(house: House, night: date, *meters: str) -> BackFill:
    """The button of a night, or of meters of it, and what became of it."""
    site = house.book.sites["court"]
    fills = house.nights.back_fills
    for name in meters or (None,):
        meter = None if name is None else house.book.find_meter(name)
        fill = await fills.begin(site, night, meter)
    assert fill is not None
    async with asyncio.timeout(30):
        await house.nights.back_fills.finished("court", night)
    assert fill.ended_at is not None
    return fill


async def cells_of(house: House, night: date) -> dict[str, Cell]:
    async with house.database.transaction() as tx:
        found = await store.cells(tx, site="court", night=night)
    assert found is not None
    return {cell.meter: cell for cell in found}


async def a_night_nobody_read(house: House, *nights: date) -> None:
    site = house.book.sites["court"]
    async with house.database.transaction() as tx:
        for night in nights:
            window = night_window(site.place, night)
            await store.open_night(tx, site.site_id, window, reason=GapReason.LINE_DOWN)
        await store.close_nights(tx, site.site_id, house.clock.now())


async def test_a_line_that_was_down_at_night_is_back_and_its_meters_are_read_at_once(
    database: Database, tmp_path: Path
) -> None:
    wire = line_of("ddsy:1-2")
    await wire.plug()
    await wire.unplug()  # its port is known, and nobody is there
    async with small_house(database, tmp_path) as house:
        await house.move_in(site_on(wire.port, (ddsy(1), ddsy(2), ddsy(4))))
        await a_night_nobody_read(house, NIGHT)
        dark = await pressed(house, NIGHT)
        assert {one.reason for one in dark.cells.values()} == {GapReason.LINE_DOWN}
        await wire.plug()
        assert await house.book.lines["L1"].wait_up(30)
        # Pressed by two hands at once: one back-fill, every meter is asked once.
        fill, same = await asyncio.gather(pressed(house, NIGHT), pressed(house, NIGHT))
        assert fill is same
        assert {one.meter: one.state for one in fill.cells.values()} == {
            "M1": FillState.FILLED,
            "M2": FillState.FILLED,
            "M4": FillState.MISSED,
        }
        await house.sink.flush()
        cells = await cells_of(house, NIGHT)
        for name in ("M1", "M2"):
            assert cells[name].state is CellState.BACK_FILLED
            assert cells[name].origin is Origin.POLLED
            assert cells[name].energy_wh
        assert (cells["M4"].state, cells["M4"].reason) == (
            CellState.MISSING,
            GapReason.METER_SILENT,
        )
        assert cells["M4"].tries == 1
        assert (
            house.book.lines["L1"].line.health.silences
            == house.book.lines["L1"].line.timing.read_tries
        ), "M4 was asked once more than it should be"
        # What has its reading is left alone; what was missed is asked again.
        again = await pressed(house, NIGHT)
        assert [one.meter for one in again.cells.values()] == ["M4"]
        only = await pressed(house, NIGHT, "M1")
        assert only.cells == {}, "it has its reading"
        async with database.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM reading") == 2
    await wire.unplug()


async def test_a_night_that_is_over_can_not_be_had_from_a_meter_that_keeps_none(
    database: Database, tmp_path: Path
) -> None:
    wire = line_of("ddsy:1")
    await wire.plug()
    async with small_house(database, tmp_path) as house:
        await house.move_in(site_on(wire.port, (ddsy(1),)))
        await a_night_nobody_read(house, date(2026, 3, 18), NIGHT)
        assert await house.book.lines["L1"].wait_up(30)
        fill = await pressed(house, date(2026, 3, 18))
        assert [one.state for one in fill.cells.values()] == [FillState.NOT_KEPT]
        cells = await cells_of(house, date(2026, 3, 18))
        assert (cells["M1"].state, cells["M1"].energy_wh) == (CellState.MISSING, None)
        assert cells["M1"].reason is GapReason.LINE_DOWN, "why it is missing is still so"
        async with database.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM reading") == 0
        nobody = house.nights.back_fills
        assert await nobody.begin(house.book.sites["court"], date(2001, 1, 1)) is None
    await wire.unplug()


async def test_the_midnight_comes_from_the_memory_of_a_meter_that_keeps_it(
    database: Database, tmp_path: Path
) -> None:
    hand = HandClock(dial_ms_of(datetime(2026, 3, 18, 20)))  # noqa: DTZ001
    kept = new_meter(hand, number=ADDRESS)
    hand.at_ms = dial_ms_of(datetime(2026, 3, 20, 10))  # noqa: DTZ001
    kept.look()
    wire = TcpLine(
        Bus645([Unit645(meter=kept, address=ADDRESS)]),
        timing=WireTiming(baud=1_000_000, turnaround_s=0.0),
    )
    await wire.plug()
    place = MeterPlace(name="M1", line="L1", meter_type="dlt645_single_phase", address=ADDRESS)
    async with small_house(database, tmp_path) as house:
        site = site_on(wire.port, (place,))
        line = replace(site.lines[0], reply_timeout_ms=300, reply_late_ms_max=400)
        await house.move_in(replace(site, lines=(line,)))
        await a_night_nobody_read(house, date(2026, 3, 17), date(2026, 3, 18), NIGHT)
        assert await house.book.lines["L1"].wait_up(30)
        truth = [sum(day.energy_w_ms) // W_MS_PER_WH // 10 * 10 for day in kept.day_ends]
        assert len(truth) == 2, "the midnights after the 18th and the 19th"
        assert truth[0] < truth[1]
        for night, wh in zip((date(2026, 3, 18), NIGHT), truth, strict=True):
            fill = await pressed(house, night, "M1")
            ((cell),) = fill.cells.values()
            assert (cell.state, cell.origin) == (FillState.FILLED, Origin.FROZEN)
            shown = (await cells_of(house, night))["M1"]
            assert (shown.state, shown.origin) == (CellState.BACK_FILLED, Origin.FROZEN)
            assert shown.energy_wh == wh
        older = await pressed(house, date(2026, 3, 17), "M1")
        assert [one.state for one in older.cells.values()] == [FillState.NOT_KEPT]
    await wire.unplug()
