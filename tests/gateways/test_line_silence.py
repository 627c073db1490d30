"""What silence means, and whose turn it is. Each test fails when its rule is taken out."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateways.breaker import PAUSE_S_MIN, SILENCES_TO_OPEN
from gateways.line import Isolated
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.exchange import (
    Conversation,
    Garbled,
    Silence,
    ask,
)
from protocols.modbus import read_registers
from tests.gateways.virtual import (
    REPLY_S,
    TIMING,
    Script,
    fake,
    line_on,
    lively,
    mute,
    read,
    virtual_time,
    words,
)

# ---- after silence -------------------------------------------------------------------------------


@virtual_time
async def test_a_late_answer_is_not_taken_for_the_next_of_the_same_shape() -> None:
    answers = iter([(1.5, 111), (REPLY_S, 222)])

    def slow_once(frame: bytes) -> Script:
        delay_s, value = next(answers)
        return [(delay_s, words(frame[0], value))]

    line = line_on(fake(slow_once))
    with pytest.raises(Silence):
        await line.converse(7, read(7), priority=Priority.NIGHTLY, read_tries=1)
    value = await line.converse(7, read(7), priority=Priority.NIGHTLY, read_tries=1)
    assert int.from_bytes(value, "big") == 222
    assert line.health.late == 1


@virtual_time
async def test_a_late_answer_is_not_taken_for_that_of_a_neighbour() -> None:
    def slow_seven(frame: bytes) -> Script:
        if frame[0] == 7:
            return [(1.02, words(7, 111))]
        return [(REPLY_S, words(8, 222))]

    line = line_on(fake(slow_seven))
    with pytest.raises(Silence):
        await line.converse(7, read(7), priority=Priority.NIGHTLY, read_tries=1)
    value = await line.converse(8, read(8), priority=Priority.NIGHTLY)
    assert int.from_bytes(value, "big") == 222
    assert line.health.late == 1, "told apart from noise, for the technician"


@virtual_time
async def test_a_late_answer_of_another_does_not_make_silence_look_garbled() -> None:
    line = line_on(fake(lambda frame: [(1.3, words(7, 1))] if frame[0] == 7 else []))
    for unit in (7, 8):
        with pytest.raises(Silence) as caught:
            await line.converse(unit, read(unit), priority=Priority.NIGHTLY, read_tries=1)
        assert type(caught.value) is Silence
    assert (line.health.late, line.health.garbled) == (1, 0)


@virtual_time
async def test_the_patience_of_one_exchange_is_not_that_of_the_one_before() -> None:
    delays_s = iter([REPLY_S, 0.9])
    line = line_on(fake(lambda frame: [(next(delays_s), lively(frame)[0][1])]))
    await line.converse(7, read(7), priority=Priority.NIGHTLY)
    await asyncio.sleep(0.5)
    await line.converse(8, read(8), priority=Priority.NIGHTLY, read_tries=1)


@virtual_time
async def test_a_silent_meter_does_not_hold_up_its_neighbour() -> None:
    line = line_on(fake(lambda frame: [] if frame[0] == 9 else lively(frame)))
    loop = asyncio.get_running_loop()
    with pytest.raises(Silence):
        await line.converse(9, read(9), priority=Priority.NIGHTLY, read_tries=1)
    silent_s = loop.time()
    repeat = asyncio.create_task(line.converse(9, read(9), priority=Priority.NIGHTLY))
    await line.converse(7, read(7), priority=Priority.NIGHTLY)
    assert loop.time() - silent_s < 2 * REPLY_S
    assert line.quiet_left_s(9) > 0.9
    assert line.quiet_left_s(7) == 0
    with pytest.raises(Silence):
        await repeat


@virtual_time
async def test_reads_are_repeated_only_when_the_old_answer_is_dead() -> None:
    link = fake(mute)
    with pytest.raises(Silence):
        await line_on(link).converse(9, read(9), priority=Priority.ASKED_NOW)
    first_s, second_s = (at_s for at_s, _ in link.sent)
    assert second_s - first_s >= TIMING.reply_late_s_max


@virtual_time
async def test_a_new_process_starts_as_if_after_silence() -> None:
    safe = LineTiming(reply_timeout_s=1.0, reply_late_s_max=2.0)
    link = fake()
    line = line_on(link, safe)
    asked = [line.converse(u, read(u), priority=Priority.NIGHTLY) for u in (7, 8, 9)]
    await asyncio.gather(*asked)
    assert link.sent[0][0] >= safe.reply_late_s_max
    assert link.sent[-1][0] < safe.reply_late_s_max + 1, "once for all meters, not one by one"


@virtual_time
async def test_a_poll_does_not_repeat_while_a_command_wants_its_meter() -> None:
    order: list[str] = []
    replies = iter([False, True, True])

    def mute_once(frame: bytes) -> Script:
        return lively(frame) if next(replies) else []

    line = line_on(fake(mute_once))

    async def ask_as(name: str, priority: Priority) -> None:
        try:
            await line.converse(7, read(7), priority=priority)
        except Silence:
            order.append(f"{name} gave up")
        else:
            order.append(name)

    poll = asyncio.create_task(ask_as("poll", Priority.NIGHTLY))
    await asyncio.sleep(0.2)
    await ask_as("command", Priority.COMMAND)
    await poll
    assert order == ["poll gave up", "command"]


@virtual_time
async def test_a_driver_may_live_with_silence_before_any_write() -> None:
    def probing() -> Conversation[str]:
        try:
            yield from ask(read_registers(7, 0x100, 1))
        except Silence:
            yield from ask(read_registers(7, 0x200, 1))
            return "the other kind"
        return "this kind"

    line = line_on(fake(lambda frame: lively(frame) if frame[2] == 2 else []))
    assert await line.converse(7, probing(), priority=Priority.ASKED_NOW) == "the other kind"


@virtual_time
async def test_bytes_without_a_good_answer_are_garbled() -> None:
    def damaged(frame: bytes) -> Script:
        good = words(frame[0], 1)
        return [(REPLY_S, good[:-1] + bytes((good[-1] ^ 1,)))]

    line = line_on(fake(damaged))
    with pytest.raises(Garbled):
        await line.converse(7, read(7), priority=Priority.ASKED_NOW, read_tries=1)
    assert (line.health.garbled, line.health.silences) == (1, 0)


# ---- whose turn ----------------------------------------------------------------------------------


@virtual_time
async def test_a_command_goes_before_waiting_polls_and_those_in_order() -> None:
    line = line_on(fake())
    done: list[str] = []

    async def ask_as(name: str, unit: int, priority: Priority) -> None:
        await line.converse(unit, read(unit), priority=priority)
        done.append(name)

    async with asyncio.TaskGroup() as group:
        for n in (1, 2, 3):
            group.create_task(ask_as(f"poll {n}", n, Priority.NIGHTLY))
        group.create_task(ask_as("back-fill", 4, Priority.BACKFILL))
        await asyncio.sleep(REPLY_S / 2)
        group.create_task(ask_as("asked", 5, Priority.ASKED_NOW))
        group.create_task(ask_as("command", 6, Priority.COMMAND))
    assert done == ["poll 1", "command", "asked", "poll 2", "poll 3", "back-fill"]


@virtual_time
async def test_a_cancelled_wait_leaves_the_line_to_the_others() -> None:
    line = line_on(fake())
    first = asyncio.create_task(line.converse(1, read(1), priority=Priority.NIGHTLY))
    second = asyncio.create_task(line.converse(2, read(2), priority=Priority.NIGHTLY))
    third = asyncio.create_task(line.converse(3, read(3), priority=Priority.NIGHTLY))
    await asyncio.sleep(REPLY_S / 2)
    second.cancel()
    await first
    await third
    assert second.cancelled()


# ---- a dead meter --------------------------------------------------------------------------------


@virtual_time
async def test_polls_leave_a_dead_meter_alone_and_commands_do_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    alive = False
    link = fake(lambda frame: lively(frame) if alive else [])
    line = line_on(link)
    for _ in range(SILENCES_TO_OPEN):
        with pytest.raises(Silence):
            await line.converse(7, read(7), priority=Priority.NIGHTLY, read_tries=1)
    asked = len(link.sent)
    with pytest.raises(Isolated) as isolated:
        await line.converse(7, read(7), priority=Priority.BACKFILL)
    assert not isolated.value.garbled
    assert len(link.sent) == asked, "nothing was sent"
    with pytest.raises(Silence):
        await line.converse(7, read(7), priority=Priority.COMMAND, read_tries=1)
    assert len(link.sent) == asked + 1
    assert line.snapshot().parties[0].isolated

    await asyncio.sleep(PAUSE_S_MIN)
    with pytest.raises(Silence):
        await line.converse(7, read(7), priority=Priority.NIGHTLY)
    assert len(link.sent) == asked + 2, "one try after the pause, not read_tries"
    await asyncio.sleep(PAUSE_S_MIN + 1)
    with pytest.raises(Isolated):
        await line.converse(7, read(7), priority=Priority.NIGHTLY)

    alive = True
    await line.converse(7, read(7), priority=Priority.ASKED_NOW)
    await line.converse(7, read(7), priority=Priority.NIGHTLY)
    told = [record.getMessage() for record in caplog.records]
    assert told.count("line L1: unit 7 went silent") == 1
    assert told.count(f"line L1: unit 7 is back after {SILENCES_TO_OPEN + 2} tries") == 1


@virtual_time
async def test_polls_that_waited_while_a_meter_died_do_not_ask_it_again() -> None:
    link = fake(mute)
    line = line_on(link)
    polls = [
        line.converse(7, read(7), priority=Priority.NIGHTLY, read_tries=1)
        for _ in range(SILENCES_TO_OPEN + 2)
    ]
    ends = await asyncio.gather(*polls, return_exceptions=True)
    assert [type(end) for end in ends] == [Silence] * SILENCES_TO_OPEN + [Isolated] * 2
    assert len(link.sent) == SILENCES_TO_OPEN
