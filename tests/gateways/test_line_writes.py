"""A write is sent once. Each test fails when the rule it names is taken out."""

from __future__ import annotations

import asyncio

import pytest

from gateways.line import BrokenRule, Unsettled
from gateways.turns import Priority
from protocols.exchange import (
    Answer,
    Conversation,
    Effect,
    Evidence,
    Intent,
    Refusal,
    Request,
    Silence,
    ask,
)
from protocols.modbus import FactoryCode, RtuReplyReader, seal, write_registers
from tests.gateways.virtual import (
    REPLY_S,
    fake,
    line_on,
    lively,
    mute,
    read,
    recorded,
    virtual_time,
    write_then_look,
)


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
async def test_a_write_that_was_only_taken_goes_on_to_its_look_at_once() -> None:
    """The modem says it took the frame: waiting is of no use, and nothing is proved."""
    link = fake(lambda frame: [] if frame[1] == 16 else lively(frame))
    line = line_on(link)
    topping = asyncio.ensure_future(
        line.converse(7, write_then_look(7), priority=Priority.COMMAND, record_intent=recorded)
    )
    await link.sent_function(16)
    sent_s = link.sent[-1][0]
    link.user.write_taken()
    await topping
    assert [frame[1] for frame in link.frames] == [3, 16, 3]
    assert link.sent[-1][0] == sent_s, "no time-out was waited for"
    link.user.write_taken()  # nothing is under way: means nothing


@virtual_time
async def test_a_read_is_never_ended_by_a_frame_that_was_taken() -> None:
    link = fake(mute)
    line = line_on(link)
    reading = asyncio.ensure_future(line.converse(7, read(7), priority=Priority.NIGHTLY))
    await link.sent_function(3)
    link.user.write_taken()
    with pytest.raises(Silence):
        await reading


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
