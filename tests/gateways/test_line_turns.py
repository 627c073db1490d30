"""A command keeps its turn between its own exchanges, and never longer than it may."""

from __future__ import annotations

import asyncio

import pytest

from gateways.line import COMMAND_KEEPS_S_MAX, Unsettled
from gateways.turns import Priority
from protocols.exchange import Evidence
from tests.gateways.virtual import (
    REPLY_S,
    Script,
    fake,
    line_on,
    lively,
    read,
    recorded,
    virtual_time,
    write_then_look,
)


@virtual_time
async def test_no_poll_comes_between_the_exchanges_of_a_command() -> None:
    link = fake()
    line = line_on(link)
    async with asyncio.TaskGroup() as group:
        for unit in (1, 2, 3):
            group.create_task(line.converse(unit, read(unit), priority=Priority.NIGHTLY))
        await asyncio.sleep(REPLY_S / 2)
        group.create_task(
            line.converse(9, write_then_look(9), priority=Priority.COMMAND, record_intent=recorded)
        )
    assert [frame[0] for frame in link.frames] == [1, 9, 9, 9, 2, 3]


@virtual_time
async def test_a_command_that_thinks_for_long_lets_the_line_go_on() -> None:
    link = fake()
    line = line_on(link)

    async def slowly(before: Evidence) -> None:
        await asyncio.sleep(COMMAND_KEEPS_S_MAX + 10)

    async with asyncio.TaskGroup() as group:
        group.create_task(
            line.converse(9, write_then_look(9), priority=Priority.COMMAND, record_intent=slowly)
        )
        await asyncio.sleep(REPLY_S / 2)
        for unit in (1, 2):
            group.create_task(line.converse(unit, read(unit), priority=Priority.NIGHTLY))
    assert [frame[0] for frame in link.frames] == [9, 1, 2, 9, 9]
    assert link.sent[1][0] == pytest.approx(REPLY_S + COMMAND_KEEPS_S_MAX, abs=0.01)


@virtual_time
async def test_a_command_without_an_answer_lets_go_at_once() -> None:
    def deaf_to_writes(frame: bytes) -> Script:
        return [] if frame[1] == 16 else lively(frame)

    link = fake(deaf_to_writes)
    line = line_on(link)

    async def command() -> None:
        with pytest.raises(Unsettled):
            await line.converse(
                9, write_then_look(9), priority=Priority.COMMAND, record_intent=recorded
            )

    async with asyncio.TaskGroup() as group:
        group.create_task(command())
        await link.sent_function(16)
        group.create_task(line.converse(1, read(1), priority=Priority.NIGHTLY))
    assert [frame[0] for frame in link.frames] == [9, 9, 1]


@virtual_time
async def test_a_cancelled_command_leaves_the_line_to_the_others() -> None:
    link = fake()
    line = line_on(link)
    reached = asyncio.Event()

    async def never(before: Evidence) -> None:
        reached.set()
        await asyncio.Event().wait()

    command = asyncio.create_task(
        line.converse(9, write_then_look(9), priority=Priority.COMMAND, record_intent=never)
    )
    await reached.wait()
    poll = asyncio.create_task(line.converse(1, read(1), priority=Priority.NIGHTLY))
    await asyncio.sleep(0)
    command.cancel()
    await poll
    assert command.cancelled()
    assert link.sent[1][0] < REPLY_S + COMMAND_KEEPS_S_MAX, "it did not wait for the timer"
