"""Readings wait in memory, then on disk, and arrive once: the database may go away at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headend.domain.nights import GapReason
from headend.services import sink as module
from headend.services.sink import Sink
from headend.store.errors import DatabaseAway
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
