"""Readings are stored once each, wide, as integers; the last one is at hand."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from headend.store.database import Database
from headend.store.readings import (
    SMALL_BATCH_ROWS_MAX,
    last_energies_wh,
    last_readings,
    make_partitions,
    series,
    store_readings,
)
from protocols.reading import Origin, Quantity, Reading
from tests.headend.store.places_for_tests import reading

AT = datetime(2026, 3, 20, 16, 0, tzinfo=UTC)
FAR = datetime(2100, 1, 1, tzinfo=UTC)
PAST = datetime(1999, 1, 1, tzinfo=UTC)


def full_reading(meter_id: int, at: datetime) -> Reading:
    """Every quantity there is, each with another value, negative where that is allowed."""
    values = {quantity: number + 1 for number, quantity in enumerate(Quantity)}
    values |= {Quantity.REMAINING_CREDIT: -1250, Quantity.POWER: -3, Quantity.ENERGY: 2**40}
    return Reading(meter_id=meter_id, at=at, received_at=at, origin=Origin.PUSHED, values=values)


@pytest.mark.parametrize("rows", [1, SMALL_BATCH_ROWS_MAX, SMALL_BATCH_ROWS_MAX + 1, 500])
async def test_every_quantity_comes_back_as_it_went_in(database: Database, rows: int) -> None:
    batch = [full_reading(7, AT + timedelta(seconds=n)) for n in range(rows)]
    random.Random(1).shuffle(batch)
    async with database.transaction() as tx:
        assert await store_readings(tx, batch) == rows
        kept = await series(tx, 7, AT, FAR, limit=rows)
    assert [record["at"] for record in kept] == sorted(one.at.isoformat() for one in batch)
    assert all(record["origin"] == "pushed" for record in kept)
    wanted = {quantity.value: value for quantity, value in batch[0].values.items()}
    assert kept[0]["values"] == wanted


@pytest.mark.parametrize("copies", [3, 30])
async def test_one_reading_many_times_in_a_batch_is_one(database: Database, copies: int) -> None:
    one = reading(1, AT, 500)
    ahead = Reading(
        meter_id=1, at=AT + timedelta(hours=1), received_at=AT, origin=Origin.PUSHED, values={}
    )
    later = reading(1, AT + timedelta(hours=2), 700)
    async with database.transaction() as tx:
        assert await store_readings(tx, [later, one, ahead] * copies) == 3
        assert await last_energies_wh(tx) == {1: 700}


@pytest.mark.parametrize("rows", [3, 300])
async def test_a_repeated_batch_stores_nothing_and_changes_nothing(
    database: Database, rows: int
) -> None:
    batch = [reading(n % 3, AT + timedelta(seconds=n), n) for n in range(rows)]
    again = [reading(n % 3, AT + timedelta(seconds=n), n + 10**6) for n in range(rows)]
    async with database.transaction() as tx:
        assert await store_readings(tx, batch) == rows
        before = await last_readings(tx)
    async with database.transaction() as tx:
        assert await store_readings(tx, again + again) == 0
        assert await last_readings(tx) == before
        assert await tx.value("SELECT max(energy_wh) FROM reading") == rows - 1


async def test_the_last_reading_is_the_newest_not_the_latest_to_arrive(database: Database) -> None:
    async with database.transaction() as tx:
        await store_readings(tx, [reading(1, AT, 500), reading(2, AT, 50)])
        await store_readings(tx, [reading(1, AT - timedelta(days=1), 400, Origin.FROZEN)])
        last = await last_readings(tx)
        assert last[1]["values"]["energy_wh"] == 500
        assert await last_readings(tx, [2]) == {2: last[2]}
        assert await last_energies_wh(tx) == {1: 500, 2: 50}


async def test_a_dial_in_the_future_does_not_pose_as_the_last_reading(database: Database) -> None:
    wrong = Reading(
        meter_id=1, at=FAR, received_at=AT, origin=Origin.PUSHED, values={Quantity.ENERGY: 9}
    )
    async with database.transaction() as tx:
        await store_readings(tx, [wrong, reading(1, AT, 5)])
        assert await last_energies_wh(tx) == {1: 5}
        assert len(await series(tx, 1, PAST, FAR + timedelta(days=1), limit=9)) == 2


async def test_no_instant_is_refused_and_months_are_made_ahead(database: Database) -> None:
    async with database.transaction() as tx:
        await store_readings(tx, [reading(1, at) for at in (PAST, AT, FAR)])
        assert await tx.value("SELECT count(*) FROM reading_other") == 3
        # March was late: what waited in the default partition moves along.
        assert await make_partitions(tx, AT) == 3
        assert await make_partitions(tx, AT) == 0
        assert await tx.value("SELECT count(*) FROM reading_2026_03") == 1
        assert await tx.value("SELECT count(*) FROM reading_other") == 2
        assert len(await series(tx, 1, PAST, FAR + timedelta(days=1), limit=9)) == 3
        assert await tx.value("SELECT to_regclass('reading_2026_05') IS NOT NULL")
