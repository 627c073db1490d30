"""The promises of a line. Each test fails when the rule it names is taken out."""

from __future__ import annotations

import asyncio
import inspect
import logging

import pytest

from gateways.breaker import PAUSE_S_MIN, SILENCES_TO_OPEN
from gateways.line import BrokenRule, Isolated, Line, Unsettled
from gateways.link import LinkDown
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.exchange import (
    Answer,
    Conversation,
    Effect,
    Evidence,
    Garbled,
    Intent,
    Refusal,
    Request,
    Silence,
    ask,
    ask_reply,
)
from protocols.modbus import FactoryCode, RtuReplyReader, read_registers, seal, write_registers
from tests.gateways.virtual import FakeLink, virtual_time

TIMING = LineTiming(reply_timeout_s=1.0, reply_late_s_max=2.0, start_quiet_s=0.0)
REPLY_S = 0.05
Script = list[tuple[float, bytes]]


def words(unit: int, *values: int) -> bytes:
    """The answer of a meter to a read of so many registers."""
    data = b"".join(value.to_bytes(2, "big") for value in values)
    return seal(bytes((unit, 3, len(data))) + data)


def lively(frame: bytes) -> Script:
    """A meter that answers at once: the registers read as their own addresses."""
    if frame[1] == 16:
        return [(REPLY_S, seal(frame[:6]))]
    address, count = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
    return [(REPLY_S, words(frame[0], *range(address, address + count)))]


def mute(frame: bytes) -> Script:
    return []


def fake(meter: object = lively, name: str = "fake") -> FakeLink:
    loop = asyncio.get_running_loop()
    return FakeLink(meter, loop.time, loop.call_later, name)  # type: ignore[arg-type]


def line_on(link: FakeLink, timing: LineTiming = TIMING) -> Line:
    line = Line("L1", timing)
    line.attach(link)
    return line


def read(unit: int, address: int = 0) -> Conversation[bytes]:
    return ask_reply(read_registers(unit, address, 1))


def write_then_look(unit: int) -> Conversation[Answer]:
    yield from ask(read_registers(unit, 0, 1))
    yield Intent(Evidence(purchase_count=3))
    yield from ask(write_registers(unit, 0x10, (1,)))
    return (yield from ask(read_registers(unit, 0, 1)))


async def recorded(before: Evidence) -> None:
    """Intents of these tests need no keeping."""


# ---- a write is sent once -----------------------------------------------------------------------


@virtual_time
async def test_a_write_follows_its_recorded_intent_and_is_proved_by_a_look() -> None:
    link = fake()
    line = line_on(link)
    seen: list[tuple[Evidence, list[int]]] = []

    async def record(before: Evidence) -> None:
        seen.append((before, [frame[1] for frame in link.frames]))

    await line.converse(7, write_then_look(7), priority=Priority.COMMAND, record_intent=record)
    assert seen == [(Evidence(purchase_count=3), [3])], "recorded once, before the write"
    assert [frame[1] for frame in link.frames] == [3, 16, 3]
    assert line.health.unsettled == 0


@virtual_time
async def test_silence_after_a_write_is_unsettled_and_never_resent() -> None:
    link = fake(lambda frame: [] if frame[1] == 16 else lively(frame))
    line = line_on(link)
    with pytest.raises(Unsettled):
        await line.converse(
            7, write_then_look(7), priority=Priority.COMMAND, record_intent=recorded
        )
    assert [frame[1] for frame in link.frames] == [3, 16]
    assert line.health.unsettled == 1


@virtual_time
async def test_a_driver_cannot_explain_the_silence_after_a_write_away() -> None:
    def optimist() -> Conversation[str]:
        yield Intent(Evidence())
        try:
            yield from ask(write_registers(7, 0x10, (1,)))
        except Silence:
            return "surely done"
        return "done"

    with pytest.raises(Unsettled):
        await line_on(fake(mute)).converse(
            7, optimist(), priority=Priority.COMMAND, record_intent=recorded
        )


@virtual_time
async def test_whatever_goes_wrong_after_a_write_is_unsettled() -> None:
    def stumbling() -> Conversation[None]:
        yield Intent(Evidence())
        yield from ask(write_registers(7, 0x10, (1,)))
        raise KeyError("a fault in the driver")

    with pytest.raises(Unsettled) as caught:
        await line_on(fake()).converse(
            7, stumbling(), priority=Priority.COMMAND, record_intent=recorded
        )
    assert isinstance(caught.value.__cause__, KeyError)


@virtual_time
async def test_a_refused_write_is_an_answer() -> None:
    link = fake(
        lambda frame: (
            [(REPLY_S, seal(bytes((frame[0], 0x90, 4))))] if frame[1] == 16 else lively(frame)
        )
    )

    def write() -> Conversation[Answer]:
        yield Intent(Evidence())
        return (yield from ask(write_registers(7, 0x10, (1,))))

    line = line_on(link)
    answer = await line.converse(7, write(), priority=Priority.COMMAND, record_intent=recorded)
    assert answer == Refusal(4)
    assert line.health.refusals == 1


@virtual_time
async def test_no_write_leaves_without_an_intent_that_somebody_records() -> None:
    def hasty() -> Conversation[None]:
        yield from ask(write_registers(7, 0x10, (1,)))

    link = fake()
    line = line_on(link)
    with pytest.raises(BrokenRule, match="without a recorded intent"):
        await line.converse(7, hasty(), priority=Priority.COMMAND, record_intent=recorded)
    with pytest.raises(BrokenRule, match="give converse"):
        await line.converse(7, write_then_look(7), priority=Priority.COMMAND)

    async def database_is_away(before: Evidence) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await line.converse(
            7, write_then_look(7), priority=Priority.COMMAND, record_intent=database_is_away
        )
    assert [frame[1] for frame in link.frames] == [3, 3], "looks, and no write"


@virtual_time
async def test_a_driver_cannot_send_one_write_twice() -> None:
    def insistent() -> Conversation[None]:
        yield Intent(Evidence())
        yield from ask(write_registers(7, 0x10, (1,)))
        yield from ask(write_registers(7, 0x10, (1,)))

    link = fake()
    with pytest.raises(Unsettled):
        await line_on(link).converse(
            7, insistent(), priority=Priority.COMMAND, record_intent=recorded
        )
    assert len(link.sent) == 1


@virtual_time
async def test_factory_codes_never_leave_even_from_a_hand_made_request() -> None:
    clear_energy = Request(
        label="clear",
        frame=seal(bytes((7, 0x9C, 0, 0))),
        effect=Effect.READ,
        new_reader=lambda: RtuReplyReader(b"\x07\x9c", 8, 2),
    )

    def vandal() -> Conversation[Answer]:
        return (yield from ask(clear_energy))

    link = fake()
    with pytest.raises(FactoryCode):
        await line_on(link).converse(7, vandal(), priority=Priority.COMMAND)
    assert link.sent == []


@virtual_time
async def test_a_cancelled_write_is_counted_and_its_answer_has_the_bus_to_itself() -> None:
    link = fake(lambda frame: [(0.5, seal(frame[:6]))] if frame[1] == 16 else lively(frame))
    line = line_on(link)
    asked = asyncio.create_task(
        line.converse(7, write_then_look(7), priority=Priority.COMMAND, record_intent=recorded)
    )
    await link.sent_function(16)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert line.health.unsettled == 1
    await line.converse(8, read(8), priority=Priority.NIGHTLY)
    (write_s, _), (next_s, _) = link.sent[-2:]
    assert next_s >= write_s + 0.5, "it would have collided with the answer"
    assert line.health.late == 1


@virtual_time
async def test_a_proved_write_does_not_stain_the_next_conversation() -> None:
    mute_now = False
    line = line_on(fake(lambda frame: [] if mute_now else lively(frame)))
    await line.converse(7, write_then_look(7), priority=Priority.COMMAND, record_intent=recorded)
    mute_now = True
    with pytest.raises(Silence):
        await line.converse(7, read(7), priority=Priority.COMMAND)
    assert line.health.unsettled == 0


# ---- after silence ------------------------------------------------------------------------------


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


# ---- whose turn ---------------------------------------------------------------------------------


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


# ---- a dead meter -------------------------------------------------------------------------------


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


# ---- links come and go --------------------------------------------------------------------------


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


# ---- the wire -----------------------------------------------------------------------------------

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


# ---- what people see ----------------------------------------------------------------------------


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
