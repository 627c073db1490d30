"""DTUs that dial in: over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from gateways import dial_in
from gateways.dial_in import BoxConfig, DialIn, DialInLimits, ListenError
from gateways.line import Line, Unsettled
from gateways.link import LinkDown
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.dtu import SAMPLE_BYTES_MAX
from protocols.exchange import Conversation, Evidence, Intent, ask, ask_reply
from protocols.modbus import read_registers, write_registers
from protocols.stream import Box
from tests.gateways.field import PATIENCE_S, dtu, reply, until

LONG = LineTiming.network(mobile=True, reply_timeout_s=PATIENCE_S, start_quiet_s=0.0)
NAME = b"89860000000000000001"


def known(registration: str = f"iccid:{NAME.decode()}", heartbeat_s: int = 60) -> BoxConfig:
    box = Box(registration=registration, heartbeat="ascii:ping")
    return BoxConfig(box=box, heartbeat_s=heartbeat_s)


@contextlib.asynccontextmanager
async def listening(
    gateways: Mapping[str, BoxConfig], **more: Any
) -> AsyncIterator[tuple[DialIn, dict[str, Line]]]:
    lines = {name: Line(name, LONG) for name in ("east", "west")}
    listener = DialIn("127.0.0.1", 0, gateways, lambda name, link: lines[name].attach(link), **more)
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


async def test_a_known_dtu_becomes_the_link_of_its_line() -> None:
    async with listening({"east": known()}) as (listener, lines):
        async with dtu(listener.port, NAME) as box:
            box.answers = True
            await until(lambda: lines["east"].is_up)
            assert box.heard == b"", "we speak when there is something to ask"
            assert await read_from(lines["east"]) == b"\x00\x05\x00\x06"
            box.say(b"ping")
            await until(lambda: listener.sessions()[0].heartbeats == 1)
            (state,) = listener.sessions()
            assert (state.gateway, state.bytes_out) == ("east", 8)
        await until(lambda: not lines["east"].is_up)
        assert lines["east"].down_reason == "DTU east: the other side hung up"
        assert listener.sessions() == ()


async def test_a_stranger_is_listed_and_never_spoken_to() -> None:
    async with listening({"east": known()}) as (listener, lines):
        async with dtu(listener.port, b"hello, I am new") as box:
            await until(lambda: bool(listener.strangers()))
            (stranger,) = listener.strangers()
            assert stranger.sample == b"hello, I am new"
            assert stranger.calls == 1
            assert stranger.address.startswith("127.0.0.1:")
            box.say(reply(read_registers(7, 5, 2).frame))
        async with dtu(listener.port, b"hello, I am new") as again:
            await until(lambda: any(s.calls == 2 for s in listener.strangers()))
            listener.add_gateway("west", known("ascii:hello, I am new"))
            async with asyncio.timeout(PATIENCE_S):
                await again.hung_up.wait()
        assert (box.heard, again.heard) == (b"", b"")
        assert listener.strangers() == (), "adopted"
        async with dtu(listener.port, b"hello, I am new"):
            await until(lambda: lines["west"].is_up)
            listener.remove_gateway("west")
            await until(lambda: not lines["west"].is_up)
            assert "removed" in (lines["west"].down_reason or "")


async def test_the_list_of_strangers_is_bounded() -> None:
    limits = DialInLimits(strangers_kept_max=2)
    async with listening({}, limits=limits) as (listener, _):
        for n in range(4):
            async with dtu(listener.port, b"stranger %d" % n):
                await until(
                    lambda n=n: any(  # type: ignore[misc]
                        s.sample == b"stranger %d" % n for s in listener.strangers()
                    )
                )
            await until(lambda: not listener._nameless)
        assert [s.sample for s in listener.strangers()] == [b"stranger 3", b"stranger 2"]


async def test_the_newest_session_wins_and_the_old_one_ends_unsettled() -> None:
    async with listening({"east": known()}) as (listener, lines):
        line = lines["east"]
        async with dtu(listener.port, NAME) as old:
            await until(lambda: line.is_up)
            writing = asyncio.create_task(
                line.converse(7, write(), priority=Priority.COMMAND, record_intent=recorded)
            )
            await until(lambda: len(old.heard) > 0)
            async with dtu(listener.port, NAME) as new:
                new.answers = True
                with pytest.raises(Unsettled):
                    await writing
                async with asyncio.timeout(PATIENCE_S):
                    await old.hung_up.wait()
                assert line.is_up
                assert len(listener.sessions()) == 1
                other = await line.converse(
                    8, ask_reply(read_registers(8, 1, 1)), priority=Priority.NIGHTLY
                )
                assert other == b"\x00\x01"
                assert write_registers(7, 0x10, (1,)).frame not in new.heard


async def test_the_old_call_ends_even_when_nobody_took_its_link() -> None:
    taken: list[str] = []
    listener = DialIn("127.0.0.1", 0, {"east": known()}, lambda name, link: taken.append(name))
    await listener.start()
    async with dtu(listener.port, NAME) as old:
        await until(lambda: taken == ["east"])
        async with dtu(listener.port, NAME), asyncio.timeout(PATIENCE_S):
            await old.hung_up.wait()
            assert [state.gateway for state in listener.sessions()] == ["east"]
    await listener.stop()


async def test_bytes_before_our_first_request_are_dropped() -> None:
    stored = reply(read_registers(7, 5, 2).frame)
    async with listening({"east": known()}) as (listener, lines):
        async with dtu(listener.port, NAME + stored) as box:
            await until(lambda: lines["east"].is_up)
            assert listener.sessions()[0].dropped_bytes == len(stored)
            asked = asyncio.create_task(read_from(lines["east"]))
            await until(lambda: len(box.heard) == 8)
            assert not asked.done()
            box.say(b"ping" + stored)
            assert await asked == b"\x00\x05\x00\x06"
        assert lines["east"].health.bytes_in < 2 * len(stored)


@pytest.mark.parametrize("words", [b"", b"898600000", b"who knows"])
async def test_no_name_in_time_ends_the_call(words: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_in, "SWEEP_S", 0.01)
    async with listening({"east": known()}, limits=DialInLimits(before_name_s_max=0.1)) as (
        listener,
        _,
    ):
        async with dtu(listener.port, words) as box, asyncio.timeout(PATIENCE_S):
            await box.hung_up.wait()
        assert box.heard == b""


async def test_too_much_without_a_name_ends_the_call() -> None:
    async with listening({"east": known()}) as (listener, _):
        async with dtu(listener.port, b"x" * 4000) as box, asyncio.timeout(PATIENCE_S):
            await box.hung_up.wait()
        assert len(listener.strangers()[0].sample) <= SAMPLE_BYTES_MAX


async def test_calls_above_the_limits_are_turned_away() -> None:
    limits = DialInLimits(sockets_max=3, nameless_max=2)
    async with listening({"east": known()}, limits=limits) as (listener, lines):
        async with dtu(listener.port), dtu(listener.port):
            await until(lambda: len(listener._nameless) == 2)
            async with dtu(listener.port) as third, asyncio.timeout(PATIENCE_S):
                await third.hung_up.wait()
            assert listener.refused == 1
        await until(lambda: not listener._nameless)
        async with dtu(listener.port, NAME), dtu(listener.port), dtu(listener.port):
            await until(lambda: lines["east"].is_up and len(listener._nameless) == 2)
            async with dtu(listener.port) as fourth, asyncio.timeout(PATIENCE_S):
                await fourth.hung_up.wait()
            assert listener.refused == 2


async def test_named_sessions_count_as_well() -> None:
    limits = DialInLimits(sockets_max=1)
    async with listening({"east": known()}, limits=limits) as (listener, lines):
        async with dtu(listener.port, NAME):
            await until(lambda: lines["east"].is_up)
            async with dtu(listener.port) as second, asyncio.timeout(PATIENCE_S):
                await second.hung_up.wait()
        assert listener.refused == 1


async def test_a_session_that_went_quiet_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_in, "SWEEP_S", 0.01)
    gateways = {"east": known(), "west": known("ascii:west")}
    async with (
        listening(gateways) as (listener, lines),
        dtu(listener.port, NAME) as quiet,
        dtu(listener.port, b"west"),
    ):
        await until(lambda: lines["east"].is_up and lines["west"].is_up)
        listener._by_name["east"].heard_s -= 151
        listener._by_name["west"].heard_s -= 120
        async with asyncio.timeout(PATIENCE_S):
            await quiet.hung_up.wait()
        assert lines["east"].down_reason == "east was silent for 151 s"
        with pytest.raises(LinkDown, match="silent for 151 s"):
            await read_from(lines["east"])
        assert lines["west"].is_up


async def test_somebody_is_asked_to_speak_before_the_dtu_reboots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dial_in, "SWEEP_S", 0.01)
    asked: list[str] = []
    gateways = {"east": known(), "west": known("ascii:west")}
    async with (
        listening(gateways, idle_probe=asked.append) as (listener, lines),
        dtu(listener.port, NAME) as spoken_to,
        dtu(listener.port, b"west"),
    ):
        spoken_to.answers = True
        await until(lambda: lines["east"].is_up and lines["west"].is_up)
        for name in ("east", "west"):
            listener._by_name[name].opened_s -= 200
        await read_from(lines["east"])  # we spoke to this one
        for name in ("east", "west"):
            listener._by_name[name].probed_s -= 200
        await until(lambda: bool(asked))
        assert asked == ["west"]
        listener._by_name["west"].probed_s -= 200
        await until(lambda: len(asked) == 2)
        assert asked == ["west", "west"], "again, as nobody spoke"
        await asyncio.sleep(0.1)
        assert len(asked) == 2, "but not at every look"


async def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listener = DialIn("127.0.0.1", port, {}, lambda name, link: None)
        with pytest.raises(ListenError, match=f"^port {port} is in use by another program: stop"):
            await listener.start()
