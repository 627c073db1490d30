"""A box with several lines behind one connection, and a dialect that is one line to add."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest

from gateways.dial_in import BoxConfig, DialIn
from gateways.line import Line, Unsettled
from gateways.link import LinkDown
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols import dialects
from protocols.dialects import Dialect, magic
from protocols.exchange import Conversation, Evidence, Intent, ask, ask_reply
from protocols.modbus import read_registers, write_registers
from protocols.stream import (
    Answer,
    Box,
    Bytes,
    DialNow,
    Event,
    Named,
    NewStream,
    Stream,
    TurnedAway,
    Unrecognised,
)
from tests.gateways.field import PATIENCE_S, Dtu, dtu, reply, until

LONG = LineTiming.network(mobile=True, reply_timeout_s=PATIENCE_S, start_quiet_s=0.0)


class TwoPorts:
    """#n: a box says its name; #1…, #2…: bytes of its ports; each chunk is a frame."""

    def __init__(self, boxes: Mapping[str, Box]) -> None:
        self.name: str | None = None
        self.sample = b""
        self._boxes = boxes

    def receive(self, data: bytes, *, answer_due: bool = False) -> tuple[Event, ...]:
        kind, rest = data[1:2], data[2:]
        if kind == b"n" and self.name is None:
            if b"wrong" in rest:
                return (TurnedAway("its secret is wrong"),)
            self.name = rest.decode()
            return (Answer(b"who?"), Named(self.name), Answer(b"welcome"))
        if kind in (b"1", b"2"):
            return (Bytes(rest, port=int(kind)),)
        return (Unrecognised(data[:8]),)

    def wrap(self, frame: bytes, port: int = 1) -> bytes:
        return b"#%d" % port + frame


def knowing(boxes: Mapping[str, Box]) -> NewStream:
    def new_stream(dial_now: DialNow) -> Stream:
        return TwoPorts(boxes)

    return new_stream


@contextlib.asynccontextmanager
async def listening(
    monkeypatch: pytest.MonkeyPatch, ports: tuple[int, ...] = (1, 2)
) -> AsyncIterator[tuple[DialIn, dict[int, Line]]]:
    toy = Dialect("toy", magic(b"#"), knowing)
    monkeypatch.setattr(dialects, "DIALECTS", (*dialects.DIALECTS, toy))
    monkeypatch.setattr(dialects, "DIALECT_NAMES", (*dialects.DIALECT_NAMES, "toy"))
    lines = {port: Line(f"port {port}", LONG) for port in (1, 2)}
    config = BoxConfig(dialect="toy", box=Box(registration="east"), ports=ports)
    listener = DialIn(
        "127.0.0.1", 0, {"east": config}, lambda name, link: lines[link.port].attach(link)
    )
    await listener.start()
    try:
        yield listener, lines
    finally:
        await listener.stop()


async def read_from(line: Line) -> bytes:
    return await line.converse(7, ask_reply(read_registers(7, 5, 2)), priority=Priority.NIGHTLY)


def write() -> Conversation[None]:
    yield Intent(Evidence())
    yield from ask(write_registers(7, 0x10, (1,)))


async def recorded(before: Evidence) -> None:
    """Intents of these tests need no keeping."""


async def heard(box: Dtu, *frames: bytes) -> None:
    await until(lambda: all(frame in box.heard for frame in frames))


async def test_each_port_has_its_own_line_and_both_speak_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        listening(monkeypatch) as (listener, lines),
        dtu(listener.port, b"#neast") as box,
    ):
        await until(lambda: lines[1].is_up and lines[2].is_up)
        await heard(box, b"who?welcome")
        request = read_registers(7, 5, 2).frame
        asked = [asyncio.create_task(read_from(lines[port])) for port in (1, 2)]
        await heard(box, b"#1" + request, b"#2" + request)
        for port in (2, 1):
            box.say(b"#%d" % port + reply(request))
            assert await asked[port - 1] == b"\x00\x05\x00\x06"
        box.say(b"#?odd")
        await until(lambda: listener.sessions()[0].unrecognised == 1)
        assert listener.sessions()[0].unrecognised_sample == b"#?odd"
    assert not lines[1].is_up
    assert not lines[2].is_up


async def test_bytes_of_a_port_nobody_asked_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        listening(monkeypatch) as (listener, lines),
        dtu(listener.port, b"#neast") as box,
    ):
        await until(lambda: lines[2].is_up)
        request = read_registers(7, 5, 2).frame
        asked = asyncio.create_task(read_from(lines[1]))
        await heard(box, b"#1" + request)
        box.say(b"#2" + reply(request))
        await until(lambda: listener.sessions()[0].dropped_bytes == len(reply(request)))
        assert not asked.done()
        box.say(b"#1" + reply(request))
        await asked
        assert lines[2].health.bytes_in == 0


async def test_a_port_without_a_line_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        listening(monkeypatch, ports=(1,)) as (listener, lines),
        dtu(listener.port, b"#neast") as box,
    ):
        await until(lambda: lines[1].is_up)
        box.say(b"#2abc")
        await until(lambda: listener.sessions()[0].dropped_bytes == 3)
        assert not lines[2].is_up


async def test_a_line_that_is_closed_ends_the_connection_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        listening(monkeypatch) as (listener, lines),
        dtu(listener.port, b"#neast") as box,
    ):
        await until(lambda: lines[2].is_up)
        lines[1].detach("changed")
        async with asyncio.timeout(PATIENCE_S):
            await box.hung_up.wait()
        assert lines[1].down_reason == "changed"
        assert "port 1 was closed by this program" in (lines[2].down_reason or "")


async def test_a_new_session_takes_all_lines_and_old_writes_are_unsettled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening(monkeypatch) as (listener, lines), dtu(listener.port, b"#neast") as old:
        await until(lambda: lines[2].is_up)
        writing = [
            asyncio.create_task(
                lines[port].converse(7, write(), priority=Priority.COMMAND, record_intent=recorded)
            )
            for port in (1, 2)
        ]
        frame = write_registers(7, 0x10, (1,)).frame
        await heard(old, b"#1" + frame, b"#2" + frame)
        async with dtu(listener.port, b"#neast") as new:
            for task in writing:
                with pytest.raises(Unsettled, match=r"dialled in again|was replaced by"):
                    await task
            await until(lambda: lines[1].is_up and lines[2].is_up)
            async with asyncio.timeout(PATIENCE_S):
                await old.hung_up.wait()
            assert frame not in new.heard
            assert len(listener.sessions()) == 1
    with pytest.raises(LinkDown):
        await read_from(lines[1])


async def test_who_cannot_prove_its_name_is_hung_up_on_and_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening(monkeypatch) as (listener, lines):
        for calls in (1, 2):
            async with dtu(listener.port, b"#nwrong") as box, asyncio.timeout(PATIENCE_S):
                await box.hung_up.wait()
            assert listener.turned_away == calls
        (stranger,) = listener.strangers()
        assert (stranger.dialect, stranger.turned_away) == ("toy", "its secret is wrong")
        assert stranger.calls == 2
        assert not lines[1].is_up
