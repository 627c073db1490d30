"""Readings wait in memory, then on disk, and arrive once: the database may go away at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headend.domain.nights import GapReason
from headend.services import patience
from headend.services import sink as module
from headend.services.sink import Sink
from headend.store.errors import DatabaseAway, DatabaseRefused
from headend.store.nights import Gap, Look
from headend.store.spool import Spool
from protocols.reading import Origin, Quantity, Reading

BEGAN = datetime(2026, 3, 20, 16, 0, tzinfo=UTC)


def look(number: int) -> Look:
    at = BEGAN + timedelta(seconds=number)
    reading = Reading(
        meter_id=number, at=at, received_at=at, origin=Origin.POLLED, values={Quantity.ENERGY: 1}
    )
    return Look(reading=reading)


class Store:
    """A database that goes away; keeps what it was given, and how often."""

    def __init__(self) -> None:
        self.away = False
        self.forgets_the_answer = False
        self.looks: list[int] = []
        self.gaps: list[GapReason] = []

    async def save(self, looks: Sequence[Look], gaps: Sequence[Gap]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise DatabaseAway("nobody answers")
        self.looks += [look.reading.meter_id for look in looks]
        self.gaps += [gap.reason for gap in gaps]
        if self.forgets_the_answer:
            self.forgets_the_answer = False
            raise DatabaseAway("it fell silent on the commit")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.0)
    monkeypatch.setattr(module, "AWAY_RETRY_S", 0.01)


@asynccontextmanager
async def a_sink(store: Store, folder: Path, waiting_max: int = 100) -> AsyncIterator[Sink]:
    sink = Sink(store.save, Spool(folder), waiting_max=waiting_max)
    sink.start()
    yield sink
    await sink.stop()


async def test_everything_given_is_stored_once(tmp_path: Path) -> None:
    store = Store()
    async with a_sink(store, tmp_path) as sink:
        for number in range(1500):
            await sink.put_look(look(number))
        await sink.flush()
        assert sorted(store.looks) == list(range(1500))
        assert sink.state().waiting == 0


async def test_an_outage_loses_nothing_in_memory_or_on_disk(tmp_path: Path) -> None:
    store = Store()
    store.away = True
    async with a_sink(store, tmp_path, waiting_max=10) as sink:
        for number in range(100):
            await sink.put_look(look(number))
        state = sink.state()
        assert state.waiting <= 11, "memory is bounded"
        assert state.spooled_bytes > 0
        store.away = False
        await sink.flush()
        assert sorted(store.looks) == list(range(100))
        assert sink.state().spooled_bytes == 0


async def test_an_outage_that_outlives_the_process(tmp_path: Path) -> None:
    store = Store()
    store.away = True
    async with a_sink(store, tmp_path) as sink:
        for number in range(20):
            await sink.put_look(look(number))
    assert store.looks == []
    store.away = False
    async with a_sink(store, tmp_path) as sink:
        await sink.flush()
        assert sorted(store.looks) == list(range(20))


async def test_a_commit_nobody_heard_is_stored_again_not_forgotten(tmp_path: Path) -> None:
    store = Store()
    store.forgets_the_answer = True
    async with a_sink(store, tmp_path) as sink:
        await sink.put_look(look(7))
        await sink.flush()
        # Twice to the database, which keeps one row for a meter and an instant.
        assert store.looks == [7, 7]


async def test_who_asked_for_a_reading_goes_on_once_it_is_stored(tmp_path: Path) -> None:
    store, may_go_on = Store(), asyncio.Event()
    save = store.save

    async def slow(looks: Sequence[Look], gaps: Sequence[Gap]) -> None:
        await may_go_on.wait()
        await save(looks, gaps)

    sink = Sink(slow, Spool(tmp_path), waiting_max=100)
    sink.start()
    asked = asyncio.create_task(sink.keep_look(look(7)))
    await asyncio.sleep(0.05)
    assert not asked.done()
    may_go_on.set()
    async with asyncio.timeout(5):
        assert await asked
    assert store.looks == [7]
    await sink.stop()


async def test_nobody_waits_for_a_database_that_is_away_or_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_S_MAX", 0.05)
    store = Store()
    store.away = True
    async with a_sink(store, tmp_path) as sink, asyncio.timeout(5):
        assert not await sink.keep_look(look(1)), "it was not known yet that it is away"
        monkeypatch.setattr(module, "KEPT_S_MAX", 3600.0)
        assert not await sink.keep_look(look(2))
        store.away = False
        await sink.flush()
        assert sorted(store.looks) == [1, 2]


async def test_only_the_last_reason_of_a_cell_counts(tmp_path: Path) -> None:
    store = Store()
    store.away = True
    async with a_sink(store, tmp_path) as sink:
        for reason in (GapReason.METER_SILENT, GapReason.LINE_DOWN):
            gap = Gap(night_id=1, meter_id=1, reason=reason, detail="", at=BEGAN)
            sink.put_gap(gap)
        store.away = False
        await sink.flush()
        assert store.gaps == [GapReason.LINE_DOWN]


async def test_a_full_spool_keeps_readings_in_memory(tmp_path: Path) -> None:
    store = Store()
    store.away = True
    sink = Sink(store.save, Spool(tmp_path, bytes_max=400), waiting_max=2)
    sink.start()
    for number in range(30):
        await sink.put_look(look(number))
    store.away = False
    await sink.flush()
    assert sorted(set(store.looks)) == list(range(30))
    await sink.stop()


async def test_a_reading_the_database_never_takes_is_set_aside_alone(tmp_path: Path) -> None:
    store = Store()
    save = store.save

    async def picky(looks: Sequence[Look], gaps: Sequence[Gap]) -> None:
        if any(one.reading.meter_id == 70 for one in looks):
            raise DatabaseRefused("out of range")
        await save(looks, gaps)

    sink = Sink(picky, Spool(tmp_path / "waiting"), waiting_max=200)
    sink.start()
    for number in range(100):
        await sink.put_look(look(number))
    async with asyncio.timeout(10):
        await sink.flush()
    await sink.stop()
    assert sorted(store.looks) == [number for number in range(100) if number != 70]
    aside = Spool(tmp_path / "waiting-refused").peek(10)
    assert [one.reading.meter_id for one in aside.looks] == [70]


async def test_a_fault_while_storing_is_said_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "FAULT_WAIT_S_FIRST", 0.01)
    store = Store()
    faults = [ZeroDivisionError(), ZeroDivisionError()]
    save = store.save

    async def faulty(looks: Sequence[Look], gaps: Sequence[Gap]) -> None:
        if faults:
            raise faults.pop()
        await save(looks, gaps)

    sink = Sink(faulty, Spool(tmp_path), waiting_max=200)
    sink.start()
    await sink.put_look(look(1))
    async with asyncio.timeout(10):
        await sink.flush()
    await sink.stop()
    assert store.looks == [1]
    assert caplog.text.count("met a fault") == 2
