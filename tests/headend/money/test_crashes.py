"""The program dies at every point of a top-up, and the next one takes it up: credited once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from headend.domain.commands import CommandState
from headend.services import delivery, settling
from headend.services.rules import Rules
from headend.store.database import Database
from headend.store.errors import DatabaseAway
from tests.headend.money.shop import PATIENCE_S, Fate, Shop, once, shop

S = CommandState
Work = Callable[..., Coroutine[Any, Any, Any]]


class Trap:
    """Stops the program at one point, for ever, and tells that it is there."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def _stay(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()

    def before(self, work: Work) -> Work:
        async def trapped(*given: Any, **named: Any) -> Any:
            if not self.reached.is_set():
                await self._stay()
            return await work(*given, **named)

        return trapped

    def after(self, work: Work) -> Work:
        async def trapped(*given: Any, **named: Any) -> Any:
            done = await work(*given, **named)
            if not self.reached.is_set():
                await self._stay()
            return done

        return trapped


async def dies_there(s: Shop, trap: Trap) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await trap.reached.wait()
    await s.kill_sender()


POINTS = {
    "claimed, nothing intended": ("intend", "before", S.CLAIMED, 1),
    "intended, not a byte left": ("intend", "after", S.SENT, 1),
    "written and looked at, not settled": ("settle", "before", S.SENT, 1),
}


@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_credits_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    where, when, state, writes = POINTS[point]
    trap = Trap()
    owner, name = {
        "intend": (delivery.Delivery, "intend"),
        "settle": (delivery._Errand, "_settle"),
    }[where]
    monkeypatch.setattr(owner, name, getattr(trap, when)(getattr(owner, name)))
    async with shop(database, tmp_path) as s:
        await s.open_sender()
        command_id = await s.sell(5_000)
        await dies_there(s, trap)
        assert (await s.command(command_id)).state is state
        assert await s.books() == (0, 0, 5_000)
        await s.open_sender()
        await s.reaches(command_id, S.CONFIRMED)
        assert s.credited() == [5_000]
        assert len(s.bus.writes()) == writes
        assert await s.books() == (5_000, 0, 0)


@pytest.mark.parametrize("on", [True, False])
async def test_a_crash_right_after_the_write_left_is_looked_up(
    database: Database, tmp_path: Path, on: bool
) -> None:
    """What the intent is for: without it nobody knows what the meter showed before."""
    async with shop(database, tmp_path) as s:
        written = asyncio.Event()

        def script(frame: bytes) -> Fate | None:
            if frame[1] != 0x20:
                return None
            written.set()
            return Fate.MUTE

        s.bus.script = script
        await s.open_sender(rules=Rules(intent_first=on))
        command_id = await s.sell(5_000)
        async with asyncio.timeout(PATIENCE_S):
            await written.wait()
        await s.kill_sender()
        s.bus.script = None
        await s.open_sender(rules=Rules(intent_first=on))
        ended = await s.reaches(command_id, S.CONFIRMED, S.ESCALATED)
        assert (ended.state is S.CONFIRMED) is on
        assert s.credited() == [5_000]


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_commit_whose_answer_was_lost_is_not_believed_either_way(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    """The database goes away as the money is posted: the program goes on and finds out."""
    confirm = settling.confirm
    lost: list[bool] = []

    async def confirm_then_lose(*given: Any, **named: Any) -> None:
        if not lost:
            lost.append(True)
            if not arrived:
                raise DatabaseAway("the server was restarted.")
        await confirm(*given, **named)

    monkeypatch.setattr(settling, "confirm", confirm_then_lose)
    async with shop(database, tmp_path) as s:
        s.bus.script = once(Fate.MUTE, write=True) if arrived else None
        await s.open_sender()
        command_id = await s.sell(5_000)
        await s.reaches(command_id, S.CONFIRMED)
        assert len(s.bus.writes()) == 1
        assert await s.books() == (5_000, 0, 0)


@pytest.mark.parametrize("call", ["claim", "begin"])
async def test_a_claim_or_an_intent_whose_answer_was_lost_blocks_nobody(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Committed, but the program heard that the database was gone: it takes its line up anew."""
    lost: list[bool] = []
    async with shop(database, tmp_path) as s:
        sender = await s.open_sender()
        transaction = database.transaction

        class LosesTheAnswer:
            def __init__(self) -> None:
                self._real = transaction()

            async def __aenter__(self) -> Any:
                self.tx = await self._real.__aenter__()
                return self.tx

            async def __aexit__(self, *why: Any) -> Any:
                state = "claimed" if call == "claim" else "sent"
                task = asyncio.current_task()
                ours = task is not None and task.get_name().startswith("commands of line")
                hit = (
                    ours
                    and not lost
                    and await self.tx.value(
                        "SELECT EXISTS (SELECT FROM command WHERE state = %s)", state
                    )
                )
                done = await self._real.__aexit__(*why)
                if hit:
                    lost.append(True)
                    raise DatabaseAway("the server closed the connection.")
                return done

        assert sender is not None
        monkeypatch.setattr(database, "transaction", LosesTheAnswer)
        command_id = await s.sell(5_000)
        await s.reaches(command_id, S.CONFIRMED)
        assert lost
        assert s.credited() == [5_000]
        assert await s.books() == (5_000, 0, 0)
