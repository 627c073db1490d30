"""Lines of one gateway that carries one request at a time take turns."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateways.line import Line
from gateways.link import LinkDown
from gateways.turns import Priority, Turns
from protocols.exchange import Silence
from tests.gateways.virtual import (
    REPLY_S,
    TIMING,
    FakeLink,
    Script,
    fake,
    lively,
    mute,
    read,
    recorded,
    virtual_time,
    write_then_look,
)


class Box:
    """One gateway with two ports; sees which requests were out at the same time."""

    def __init__(self) -> None:
        self.out = 0
        self.out_max = 0
        self.asked: list[tuple[int, int]] = []  # port and unit

    def port(self, number: int, script: object = lively) -> FakeLink:
        def carry(frame: bytes) -> Script:
            self.asked.append((number, frame[0]))
            self.out += 1
            self.out_max = max(self.out_max, self.out)
            answers: Script = script(frame)  # type: ignore[operator]
            asyncio.get_running_loop().call_later(
                answers[0][0] if answers else TIMING.reply_timeout_s, self._free
            )
            return answers

        return fake(carry, f"port {number}")

    def _free(self) -> None:
        self.out -= 1


def line(name: str, link: FakeLink, turns: Turns | None) -> Line:
    made = Line(name, TIMING, turns=turns)
    made.attach(link)
    return made


async def poll(line: Line, unit: int) -> None:
    await line.converse(unit, read(unit), priority=Priority.NIGHTLY)


@virtual_time
async def test_lines_that_share_turns_never_speak_at_the_same_time() -> None:
    for turns, out_max in ((Turns(), 1), (None, 2)):
        box = Box()
        lines = [line(f"L{port}", box.port(port), turns) for port in (1, 2)]
        async with asyncio.TaskGroup() as group:
            for unit in range(1, 6):
                for each in lines:
                    group.create_task(poll(each, unit))
        assert len(box.asked) == 10
        assert box.out_max == out_max


@virtual_time
async def test_a_command_on_one_port_goes_before_the_polls_of_the_other() -> None:
    box, turns = Box(), Turns()
    first, second = (line(f"L{port}", box.port(port), turns) for port in (1, 2))
    async with asyncio.TaskGroup() as group:
        for unit in (1, 2, 3):
            group.create_task(poll(first, unit))
        await asyncio.sleep(REPLY_S / 2)
        group.create_task(
            second.converse(
                9, write_then_look(9), priority=Priority.COMMAND, record_intent=recorded
            )
        )
    assert box.asked == [(1, 1), (2, 9), (2, 9), (2, 9), (1, 2), (1, 3)]


@virtual_time
async def test_silence_on_one_port_is_waited_out_before_the_other_speaks() -> None:
    box, turns = Box(), Turns()
    first, second = line("L1", box.port(1, mute), turns), line("L2", box.port(2), turns)

    async def ask_the_dead() -> None:
        with pytest.raises(Silence):
            await first.converse(1, read(1), priority=Priority.NIGHTLY, read_tries=1)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask_the_dead())
        await asyncio.sleep(REPLY_S)
        group.create_task(poll(second, 2))
    assert box.out_max == 1


@virtual_time
async def test_a_cancelled_exchange_keeps_the_whole_gateway_until_its_answer_is_due() -> None:
    box, turns = Box(), Turns()
    first, second = line("L1", box.port(1, mute), turns), line("L2", box.port(2), turns)
    asking = asyncio.create_task(poll(first, 1))
    await asyncio.sleep(REPLY_S)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await poll(second, 2)
    assert box.asked == [(1, 1), (2, 2)]
    assert box.out_max == 1


@virtual_time
async def test_the_answer_nobody_waited_for_frees_the_gateway_when_it_comes() -> None:
    box, turns = Box(), Turns()
    first, second = line("L1", box.port(1), turns), line("L2", box.port(2), turns)
    asking = asyncio.create_task(poll(first, 1))
    await asyncio.sleep(REPLY_S / 2)
    asking.cancel()
    await asyncio.sleep(REPLY_S)
    began_s = asyncio.get_running_loop().time()
    await poll(second, 2)
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(REPLY_S, abs=0.01)
    assert box.out_max == 1


@virtual_time
async def test_a_lost_link_passes_the_turn_on() -> None:
    turns = Turns()
    first, second = line("L1", fake(mute), turns), line("L2", fake(), turns)
    asking = asyncio.create_task(poll(first, 1))
    waiting = asyncio.create_task(poll(second, 2))
    await asyncio.sleep(REPLY_S)
    first.detach("the gateway hung up")
    with pytest.raises(LinkDown):
        await asking
    await waiting
