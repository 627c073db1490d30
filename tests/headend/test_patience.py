"""What must go on for ever goes on after a fault, and says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headend.domain.commands import CommandState
from headend.services import patience, restore_clock
from headend.services.patience import FAULT_WAIT_S_MAX, Pauses, for_ever
from headend.store import queue
from headend.store.database import Database
from headend.store.errors import DatabaseRefused
from simulators import clockloop
from tests.headend.money.shop import shop


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FAULT_WAIT_S_FIRST", 0.01)


def test_pauses_grow_to_a_limit_and_begin_anew() -> None:
    pauses = Pauses()
    waited = [pauses.next_s() for _ in range(9)]
    assert waited[:3] == [1.0, 2.0, 4.0]
    assert waited[-1] == FAULT_WAIT_S_MAX
    pauses.over()
    assert pauses.next_s() == 1.0


def test_a_fault_ends_one_run_and_never_the_last(caplog: pytest.LogCaptureFixture) -> None:
    began: list[float] = []

    async def work() -> None:
        began.append(asyncio.get_running_loop().time())
        if len(began) == 4:
            await asyncio.sleep(patience.WELL_AFTER_S)
        if len(began) != 2:  # the second run just ends, which is a fault too
            raise DatabaseRefused("no")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(610.0):
                await for_ever("the work", work)

    clockloop.run(main())
    # Pauses of 1, 2 and 4 seconds, and 1 again after it was well for long.
    assert began[:4] == [0.0, 1.0, 3.0, 7.0]
    assert began[4] == pytest.approx(7.0 + patience.WELL_AFTER_S + 1.0)
    assert "the work met a fault" in caplog.text
    assert "the work came to an end" in caplog.text


@asynccontextmanager
async def broken_once(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception
) -> AsyncIterator[asyncio.Event]:
    """The next call of this function meets a fault that nobody thought of."""
    work, met = getattr(owner, name), asyncio.Event()

    async def broken(*given: Any, **named: Any) -> Any:
        if not met.is_set():
            met.set()
            raise error
        return await work(*given, **named)

    monkeypatch.setattr(owner, name, broken)
    yield met


FAULTS = {
    "recover": (queue, "recover", ZeroDivisionError()),
    "look": (queue, "due_lines", DatabaseRefused("no such column")),
    "restore clock": (restore_clock, "tell", ZeroDivisionError()),
}


@pytest.mark.parametrize("where", FAULTS)
@pytest.mark.usefixtures("quick")
async def test_a_fault_of_the_sender_is_said_and_it_goes_on(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    async with shop(database, tmp_path) as s, broken_once(monkeypatch, *FAULTS[where]) as met:
        command_id = await s.sell(5_000)  # before it starts: no notice tells of it
        with caplog.at_level(logging.ERROR):
            await s.open_sender(slow_look_s=0.05)
            await s.reaches(command_id, CommandState.CONFIRMED)
        assert met.is_set()
        assert s.credited() == [5_000]
    assert "met a fault" in caplog.text


@pytest.mark.usefixtures("quick")
async def test_the_ear_of_the_sender_hears_again(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen, ears = database.listen, 0

    async def deaf_once(channel: str) -> AsyncIterator[str]:
        nonlocal ears
        ears += 1
        if ears == 1:
            yield "what is this"
            raise ZeroDivisionError
        async for notice in listen(channel):
            yield notice

    monkeypatch.setattr(database, "listen", deaf_once)
    async with shop(database, tmp_path) as s:
        await s.open_sender(slow_look_s=600.0)
        async with asyncio.timeout(10):
            while ears < 2:
                await asyncio.sleep(0.01)
        command_id = await s.sell(5_000)
        await s.reaches(command_id, CommandState.CONFIRMED)


async def test_a_fault_at_one_meter_costs_the_night_one_meter(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(database, tmp_path) as s:
        monkeypatch.setattr(s.house.book.meters["M1"], "driver", None)
        s.house.clock.instant = s.clock.now()
        cells = await s.house.collect()
        assert cells == {"M1": "garbled", "M2": "read"}
