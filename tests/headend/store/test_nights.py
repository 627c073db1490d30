"""Every meter, every night: read, back-filled, estimated, or missing because."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from headend.domain.nights import Cell, CellState, GapReason, NightWindow
from headend.store.clocks import checks_of, last_checks
from headend.store.database import Database
from headend.store.errors import DatabaseRefused
from headend.store.nights import (
    Gap,
    Look,
    Saved,
    cells,
    close_nights,
    completeness,
    estimate_cells,
    holes,
    last_night,
    open_cells,
    open_night,
    save,
)
from headend.store.places import load_meters
from headend.store.readings import store_readings
from protocols.reading import Origin
from tests.headend.store.places_for_tests import WINDOW, imported, meter, reading, small_site

SITE = "North Court"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
INSIDE = WINDOW.opens_at + HOUR
LATER = WINDOW.closes_at + 3 * HOUR


class Night:
    """One opened night of the small site, with the numbers a test needs."""

    def __init__(self, database: Database, night_id: int, site_id: int, meters: list[int]) -> None:
        self.database = database
        self.night_id = night_id
        self.site_id = site_id
        self.first, self.second = meters

    async def look(
        self,
        meter_id: int,
        at: datetime,
        energy_wh: int | None = 1000,
        origin: Origin = Origin.POLLED,
        drift_s: int | None = None,
    ) -> Saved:
        async with self.database.transaction() as tx:
            one = Look(reading=reading(meter_id, at, energy_wh, origin), drift_s=drift_s)
            return await save(tx, [one], [])

    async def miss(self, meter_id: int, reason: GapReason, at: datetime = INSIDE) -> None:
        gap = Gap(
            night_id=self.night_id, meter_id=meter_id, reason=reason, detail="unit 1: no", at=at
        )
        async with self.database.transaction() as tx:
            await save(tx, [], [gap])

    async def close(self) -> int:
        async with self.database.transaction() as tx:
            return await close_nights(tx, self.site_id, WINDOW.closes_at)

    async def cell(self, meter_id: int, window: NightWindow = WINDOW) -> Cell:
        async with self.database.transaction() as tx:
            found = await cells(tx, site=SITE, night=window.night)
        assert found is not None
        (one,) = (cell for cell in found if cell.meter_id == meter_id)
        return one


@pytest.fixture
async def night(database: Database) -> Night:
    report = await imported(database, small_site())
    async with database.transaction() as tx:
        meters = [known.meter_id for known in await load_meters(tx)]
        night_id = await open_night(tx, report.site_id, WINDOW)
    return Night(database, night_id, report.site_id, meters)


async def test_a_night_opens_once_however_often_it_is_opened(night: Night) -> None:
    other = NightWindow(night=WINDOW.night, opens_at=INSIDE, closes_at=LATER)
    async with night.database.transaction() as tx:
        assert await open_night(tx, night.site_id, other) == night.night_id
        assert await last_night(tx, night.site_id) == WINDOW  # the first window stays
        assert await open_cells(tx, night.night_id) == [night.first, night.second]


async def test_a_meter_imported_during_the_night_gets_its_cell(night: Night) -> None:
    await imported(night.database, small_site(meters=(meter("M1", 1), meter("M3", 3))))
    async with night.database.transaction() as tx:
        await open_night(tx, night.site_id, WINDOW)
        assert len(await open_cells(tx, night.night_id)) == 2


async def test_a_look_inside_the_night_is_read_and_stays(night: Night) -> None:
    assert await night.look(night.first, INSIDE, 1000) == Saved(stored=1, filled=1)
    assert await night.look(night.first, INSIDE, 1000) == Saved(stored=0, filled=0)
    assert await night.look(night.first, INSIDE + HOUR, 1500) == Saved(stored=1, filled=0)
    await night.miss(night.first, GapReason.METER_SILENT)
    cell = await night.cell(night.first)
    assert (cell.state, cell.reason, cell.energy_wh) == (CellState.READ, None, 1000)
    assert (cell.reading_at, cell.tries) == (INSIDE, 1)


async def test_what_is_read_after_the_close_or_from_memory_is_back_filled(night: Night) -> None:
    await night.close()
    await night.look(night.first, LATER)
    await night.look(night.second, INSIDE, 900, Origin.FROZEN)
    for meter_id in (night.first, night.second):
        assert (await night.cell(meter_id)).state is CellState.BACK_FILLED


@pytest.mark.parametrize(
    "at", [WINDOW.opens_at - timedelta(seconds=1), WINDOW.opens_at + timedelta(hours=25)]
)
async def test_a_look_outside_every_night_fills_no_cell(night: Night, at: datetime) -> None:
    assert await night.look(night.first, at) == Saved(stored=1, filled=0)


async def test_a_look_belongs_to_the_newest_night_that_had_opened(night: Night) -> None:
    next_window = NightWindow(
        night=WINDOW.night + DAY,
        opens_at=WINDOW.opens_at + DAY,
        closes_at=WINDOW.closes_at + DAY,
    )
    async with night.database.transaction() as tx:
        await open_night(tx, night.site_id, next_window)
    await night.look(night.first, next_window.opens_at)
    assert (await night.cell(night.first)).state is CellState.OPEN
    assert (await night.cell(night.first, next_window)).state is CellState.READ


async def test_a_look_without_energy_is_kept_but_fills_nothing(night: Night) -> None:
    assert await night.look(night.first, INSIDE, None) == Saved(stored=1, filled=0)


async def test_the_last_try_gives_the_reason_and_a_dead_line_is_no_try(night: Night) -> None:
    await night.miss(night.first, GapReason.METER_SILENT, INSIDE)
    await night.miss(night.first, GapReason.LINE_DOWN, INSIDE + HOUR)
    cell = await night.cell(night.first)
    assert (cell.state, cell.reason, cell.detail) == (
        CellState.OPEN,
        GapReason.LINE_DOWN,
        "unit 1: no",
    )
    assert (cell.tries, cell.last_tried_at) == (1, INSIDE)


async def test_least_recently_tried_goes_first(night: Night) -> None:
    await night.miss(night.first, GapReason.GARBLED, INSIDE)
    async with night.database.transaction() as tx:
        assert await open_cells(tx, night.night_id) == [night.second, night.first]
    await night.miss(night.second, GapReason.GARBLED, INSIDE + HOUR)
    async with night.database.transaction() as tx:
        assert await open_cells(tx, night.night_id) == [night.first, night.second]


async def test_closing_leaves_each_gap_with_its_reason_and_counts_them(night: Night) -> None:
    await night.look(night.first, INSIDE)
    await night.miss(night.second, GapReason.WRONG_METER)
    assert await night.close() == 1
    assert await night.close() == 0
    async with night.database.transaction() as tx:
        (counted,) = await completeness(tx, site=SITE)
        (hole,) = await holes(tx, night.site_id, WINDOW.night)
        assert await open_cells(tx, night.night_id) == [night.second]
    assert (counted.meters, counted.read, counted.open) == (2, 1, 0)
    assert counted.gaps == {GapReason.WRONG_METER: 1}
    assert (counted.opens_at, counted.closes_at) == (WINDOW.opens_at, WINDOW.closes_at)
    assert (hole.meter_id, hole.opens_at) == (night.second, WINDOW.opens_at)


async def test_a_night_is_not_closed_before_its_time(night: Night) -> None:
    async with night.database.transaction() as tx:
        assert await close_nights(tx, night.site_id, WINDOW.closes_at - timedelta(seconds=1)) == 0


async def test_nights_nobody_was_there_for_say_so(night: Night) -> None:
    window = NightWindow(
        night=WINDOW.night - DAY, opens_at=WINDOW.opens_at - DAY, closes_at=WINDOW.closes_at - DAY
    )
    async with night.database.transaction() as tx:
        await open_night(tx, night.site_id, window, reason=GapReason.HEAD_END_DOWN)
        newest, missed = await completeness(tx, count=2)
    assert (newest.night, missed.night) == (WINDOW.night, window.night)
    assert missed.gaps == {GapReason.HEAD_END_DOWN: 2}


async def test_an_estimate_lies_on_the_line_and_gives_way_to_a_reading(night: Night) -> None:
    opens = WINDOW.opens_at
    async with night.database.transaction() as tx:
        # A day before the opening and three after it: a quarter of the way.
        await store_readings(tx, [reading(night.first, opens - DAY, 1000)])
        await store_readings(tx, [reading(night.first, opens + 3 * DAY, 1401)])
        # A counter that fell, and one with nothing before it, are left alone.
        await store_readings(tx, [reading(night.second, opens - DAY, 1000)])
        await store_readings(tx, [reading(night.second, opens + 3 * DAY, 999)])
        assert await estimate_cells(tx, night.night_id) == 0  # the night is still open
    await night.close()
    async with night.database.transaction() as tx:
        assert await estimate_cells(tx, night.night_id) == 1
        stored = await tx.value("SELECT count(*) FROM reading")
    cell = await night.cell(night.first)
    assert (cell.state, cell.energy_wh, cell.reading_at) == (CellState.ESTIMATED, 1100, None)
    assert cell.reason is GapReason.NOT_TRIED
    assert stored == 4
    assert (await night.cell(night.second)).state is CellState.MISSING
    await night.look(night.first, INSIDE, 1090, Origin.FROZEN)
    cell = await night.cell(night.first)
    assert (cell.state, cell.energy_wh) == (CellState.BACK_FILLED, 1090)


async def test_readings_and_cells_are_one_transaction(night: Night) -> None:
    bad = Gap(
        night_id=night.night_id,
        meter_id=night.second,
        reason=GapReason.GARBLED,
        detail="a zero byte is no text: \0",
        at=INSIDE,
    )
    with pytest.raises(DatabaseRefused):
        async with night.database.transaction() as tx:
            await save(tx, [Look(reading=reading(night.first, INSIDE))], [bad])
    assert (await night.cell(night.first)).state is CellState.OPEN
    async with night.database.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM reading") == 0


async def test_the_drift_of_each_clock_is_kept(night: Night) -> None:
    await night.look(night.first, INSIDE, drift_s=-70)
    await night.look(night.first, INSIDE, drift_s=-70)
    await night.look(night.first, INSIDE + HOUR, drift_s=-71)
    async with night.database.transaction() as tx:
        assert [check.drift_s for check in await checks_of(tx, night.first, INSIDE)] == [-70, -71]
        newest = await last_checks(tx)
    assert newest.keys() == {night.first}
    assert newest[night.first].drift_s == -71


async def test_words_of_the_schema_are_the_words_of_the_domain(night: Night) -> None:
    """Every state and reason a program can have, the table takes."""
    for state in CellState:
        for reason in GapReason:
            async with night.database.transaction() as tx:
                await tx.execute(
                    "UPDATE night_cell SET state = %s, energy_wh = 1, reading_at = now(),"
                    " reason = CASE WHEN %s IN ('read', 'back_filled') THEN NULL ELSE %s END",
                    state.value,
                    state.value,
                    reason.value,
                )
