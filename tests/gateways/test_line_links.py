"""Links come and go, the wire is kept. Each test fails when its rule is taken out."""

from __future__ import annotations

import asyncio
import inspect
import logging

import pytest

from gateways.line import Line, Unsettled
from gateways.link import LinkDown
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.exchange import (
    Evidence,
    Garbled,
    Silence,
    ask_reply,
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
    recorded,
    virtual_time,
    words,
    write_then_look,
)

# ---- links come and go ---------------------------------------------------------------------------


@virtual_time
async def test_without_a_link_everybody_is_told_at_once() -> None:
    line = Line("L1", TIMING)
    with pytest.raises(LinkDown, match="not opened yet"):
        await line.converse(7, read(7), priority=Priority.COMMAND)
    line.detach("the adapter is unplugged")
    with pytest.raises(LinkDown, match="unplugged"):
        await line.converse(7, read(7), priority=Priority.COMMAND)
    assert asyncio.get_running_loop().time() == 0
    assert not line.is_up
    assert line.down_since is not None


@virtual_time
async def test_the_newest_link_wins_and_the_old_one_is_deaf() -> None:
    old, new = fake(mute, "old"), fake(lively, "new")
    line = line_on(old)
    asked = asyncio.create_task(line.converse(7, read(7), priority=Priority.NIGHTLY))
    await asyncio.sleep(0.1)
    old_user = old.user
    line.attach(new)
    with pytest.raises(LinkDown, match="old was replaced by new"):
        await asked
    assert old.closed
    next_one = asyncio.create_task(line.converse(8, read(8), priority=Priority.NIGHTLY))
    await asyncio.sleep(REPLY_S / 2)
    old_user.bytes_received(words(8, 0xDEAD))
    old_user.link_lost("too late to matter")
    assert int.from_bytes(await next_one, "big") == 0
    assert line.is_up


@virtual_time
async def test_a_link_lost_under_a_write_leaves_it_unsettled() -> None:
    link = fake(lambda frame: [] if frame[1] == 16 else lively(frame))
    line = line_on(link)
    asked = asyncio.create_task(
        line.converse(7, write_then_look(7), priority=Priority.COMMAND, record_intent=recorded)
    )
    await link.sent_function(16)
    link.user.link_lost("the other side hung up")
    with pytest.raises(Unsettled) as caught:
        await asked
    assert isinstance(caught.value.__cause__, LinkDown)
    assert line.quiet_left_s(7) > 1, "a new link does not shorten the life of old answers"


@virtual_time
async def test_a_lost_link_ends_every_wait_and_every_conversation() -> None:
    """One waits for its intent, one behind it, one for an old answer to die."""
    link = fake(lambda frame: [] if frame[0] == 9 else lively(frame))
    line = line_on(link, LineTiming(reply_timeout_s=1.0, reply_late_s_max=30.0, start_quiet_s=0.0))
    database_answers = asyncio.Event()

    async def slow_record(before: Evidence) -> None:
        await database_answers.wait()

    writing = write_then_look(7)
    first = asyncio.create_task(
        line.converse(7, writing, priority=Priority.COMMAND, record_intent=slow_record)
    )
    repeat = asyncio.create_task(line.converse(9, read(9), priority=Priority.NIGHTLY))
    await asyncio.sleep(2)
    link.user.link_lost("unplugged")
    lost_s = asyncio.get_running_loop().time()
    with pytest.raises(LinkDown):
        await line.converse(7, read(7), priority=Priority.COMMAND)
    with pytest.raises(LinkDown):
        await repeat
    assert asyncio.get_running_loop().time() <= lost_s + 1
    database_answers.set()
    with pytest.raises(LinkDown):
        await first
    assert inspect.getgeneratorstate(writing) == inspect.GEN_CLOSED


@virtual_time
async def test_a_link_lost_before_the_write_is_only_down() -> None:
    link = fake()
    line = line_on(link)

    async def link_goes(before: Evidence) -> None:
        link.user.link_lost("unplugged")

    with pytest.raises(LinkDown):
        await line.converse(
            7, write_then_look(7), priority=Priority.COMMAND, record_intent=link_goes
        )
    assert [frame[1] for frame in link.frames] == [3]
    assert line.health.unsettled == 0


@virtual_time
async def test_the_fall_and_the_rise_of_a_line_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    line = line_on(fake())
    for _ in range(3):
        line.detach("unplugged")
    line.attach(fake(name="again"))
    assert [record.getMessage() for record in caplog.records] == [
        "line L1 is up: fake",
        "line L1 is down: unplugged",
        "line L1 is up: again",
    ]


# ---- the wire ------------------------------------------------------------------------------------

SLOW = LineTiming.serial(baud=1200, start_quiet_s=0.0)


@virtual_time
async def test_the_silence_between_frames_is_kept_in_both_directions() -> None:
    loop = asyncio.get_running_loop()
    heard_s: list[float] = []

    def at_wire_speed(frame: bytes) -> Script:
        begin_s = len(frame) * SLOW.char_s + 0.02
        answer = lively(frame)[0][1]
        script = [(begin_s + (n + 1) * SLOW.char_s, answer[n : n + 1]) for n in range(len(answer))]
        heard_s.append(loop.time() + script[-1][0])
        return script

    link = fake(at_wire_speed)
    line = line_on(link, SLOW)
    for unit in (1, 2, 3):
        await line.converse(unit, read(unit), priority=Priority.NIGHTLY)
    for (sent_s, _), end_s in zip(link.sent[1:], heard_s, strict=False):
        assert sent_s - end_s == pytest.approx(3.5 * 10 / 1200, abs=1e-6)


@virtual_time
async def test_patience_begins_when_the_frame_has_left_a_slow_wire() -> None:
    """60 registers at 1200 baud take longer than the whole time-out."""
    request = read_registers(7, 0, 60)

    def at_wire_speed(frame: bytes) -> Script:
        begin_s = len(frame) * SLOW.char_s + 0.9 * SLOW.reply_timeout_s
        answer = lively(frame)[0][1]
        return [(begin_s + (n + 1) * SLOW.char_s, answer[n : n + 1]) for n in range(len(answer))]

    line = line_on(fake(at_wire_speed), SLOW)
    await line.converse(7, ask_reply(request), priority=Priority.NIGHTLY, read_tries=1)
    assert asyncio.get_running_loop().time() > 1.9


@virtual_time
async def test_nothing_is_sent_on_a_wire_that_never_falls_quiet() -> None:
    loop = asyncio.get_running_loop()
    link = fake()
    line = line_on(link, SLOW)

    async def babble() -> None:
        while True:
            link.user.bytes_received(b"\x55")
            await asyncio.sleep(SLOW.char_s)

    babbling = asyncio.create_task(babble())
    with pytest.raises(Garbled, match="never quiet"):
        await line.converse(7, read(7), priority=Priority.COMMAND)
    babbling.cancel()
    assert link.sent == []
    assert loop.time() < 10


@virtual_time
async def test_noise_between_exchanges_is_dropped() -> None:
    link = fake()
    line = line_on(link)
    await line.converse(7, read(7, 5), priority=Priority.NIGHTLY)
    link.user.bytes_received(words(7, 0xDEAD))  # the answer again, doubled by the box
    value = await line.converse(7, read(7, 5), priority=Priority.NIGHTLY)
    assert int.from_bytes(value, "big") == 5
    assert line.health.stray_bytes == 7


# ---- what people see -----------------------------------------------------------------------------


@virtual_time
async def test_the_snapshot_tells_what_the_line_went_through() -> None:
    line = line_on(fake(lambda frame: [] if frame[0] == 9 else lively(frame)))
    for unit in (7, 8, 9):
        try:
            await line.converse(unit, read(unit), priority=Priority.NIGHTLY, read_tries=1)
        except Silence:
            assert unit == 9
    seen = line.snapshot()
    assert (seen.exchanges, seen.answers, seen.silences) == (3, 2, 1)
    assert (seen.bytes_out, seen.bytes_in) == (24, 14)
    assert seen.reply_ms_p50 == pytest.approx(1000 * REPLY_S)
    assert [(p.party, p.answers, p.silences_in_a_row) for p in seen.parties] == [
        (7, 1, 0),
        (8, 1, 0),
        (9, 0, 1),
    ]
    assert [(f.sent, f.data[0]) for f in line.wiretap.frames()] == [
        (True, 7),
        (False, 7),
        (True, 8),
        (False, 8),
        (True, 9),
    ]
