"""Holes of earlier nights, filled from the meters' own memory."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from headend.domain.nights import CellState, night_window
from headend.domain.places import MeterPlace
from headend.services.backfill import DIAL_OFF_MAX, fill_from_memory, match
from headend.store import nights as store
from headend.store.database import Database
from protocols.meter_type import Frozen
from protocols.reading import Quantity
from tests.headend.house import SHANGHAI, line_of, site_on, small_house


async def test_a_month_end_comes_from_the_cabinets_memory(
    database: Database, tmp_path: Path
) -> None:
    wire = line_of("adf:1")
    await wire.plug()
    async with small_house(database, tmp_path) as house:
        # The simulated cabinet lives in the present.
        house.clock.instant = datetime.now(UTC)
        user = MeterPlace(name="box-13", line="L1", meter_type="acrel_adf300l_1p", unit=13)
        await house.move_in(site_on(wire.port, (user,)))
        site = house.book.sites["court"]
        here = house.clock.now().astimezone(SHANGHAI).date()
        month_end = here.replace(day=1) - timedelta(days=1)
        async with database.transaction() as tx:
            for night in (month_end, month_end - timedelta(days=1)):
                await store.open_night(tx, site.site_id, night_window(site.place, night))
            await store.close_nights(tx, site.site_id, house.clock.now())
        assert await house.book.lines["L1"].wait_up(30)
        assert await fill_from_memory(database, house.book, site, house.clock) == 1
        async with database.transaction() as tx:
            rows = await store.completeness(tx, site="court", count=2)
            origins = await tx.rows("SELECT origin, at FROM reading")
        assert [(row.night, row.back_filled) for row in rows] == [
            (month_end, 1),
            (month_end - timedelta(days=1), 0),
        ]
        ((origin, at),) = origins
        assert origin == "frozen"
        assert at.astimezone(SHANGHAI).date() == month_end + timedelta(days=1)
        now = await house.nights.read_now(house.book.find_meter("box-13"))
        async with database.transaction() as tx:
            cells = await store.cells(tx, site="court", night=month_end)
        assert cells is not None
        (cell,) = cells
        assert cell.state is CellState.BACK_FILLED
        assert cell.energy_wh is not None
        assert 0 < cell.energy_wh <= now.values[Quantity.ENERGY]  # type: ignore[union-attr]
    await wire.unplug()


NIGHT = date(2026, 3, 31)
MIDNIGHT = datetime(2026, 4, 1)  # noqa: DTZ001  a dial has no time zone


@given(st.lists(st.integers(-5000, 5000), max_size=6))
def test_a_freeze_belongs_to_the_night_whose_midnight_it_is(offsets_s: list[int]) -> None:
    kept = [Frozen(dial=MIDNIGHT + timedelta(seconds=s), values={}) for s in offsets_s]
    found = match(kept, NIGHT)
    near = [abs(s) for s in offsets_s if abs(s) <= DIAL_OFF_MAX.total_seconds()]
    if not near:
        assert found is None
    else:
        assert found is not None
        assert abs((found.dial - MIDNIGHT).total_seconds()) == min(near)
