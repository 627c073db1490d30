"""A converter we dial: over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from gateways.keeper import Backoff, keep_open
from gateways.line import Line
from gateways.link import LinkDown
from gateways.tcp_link import dial, dialler
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.exchange import ask_reply
from protocols.modbus import read_registers
from tests.gateways.field import PATIENCE_S, converter, reply, running, until

AT_ONCE = LineTiming.network(mobile=False, start_quiet_s=0.0)
QUICK = Backoff(first_s=0.01, longest_s=0.05, good_after_s=0.0)


async def read_from(line: Line, unit: int = 7) -> bytes:
    return await line.converse(
        unit, ask_reply(read_registers(unit, 5, 2)), priority=Priority.NIGHTLY
    )


async def test_a_meter_behind_a_converter_is_read() -> None:
    async with converter() as (port, _):
        line = Line("L1", AT_ONCE)
        async with running(keep_open(line, dialler("127.0.0.1", port), QUICK)):
            async with asyncio.timeout(PATIENCE_S):
                await line.wait_up()
            assert await read_from(line) == b"\x00\x05\x00\x06"
        assert line.down_reason == "closed by this program"


async def test_an_answer_in_pieces_is_one_answer() -> None:
    async with converter(lambda frame: b"") as (port, calls):
        line = Line("L1", AT_ONCE)
        line.attach(await dial("127.0.0.1", port))
        asked = asyncio.create_task(read_from(line))
        await until(lambda: bool(calls) and line.health.exchanges == 1)
        for byte in b"\x00" + reply(read_registers(7, 5, 2).frame):
            calls[0].write(bytes((byte,)))
            await calls[0].drain()
            await asyncio.sleep(0)
        assert await asked == b"\x00\x05\x00\x06"
        line.detach("done")


async def test_a_converter_that_hangs_up_takes_the_line_down_at_once() -> None:
    async with converter(lambda frame: b"") as (port, calls):
        line = Line("L1", LineTiming.network(mobile=True, start_quiet_s=0.0))
        line.attach(await dial("127.0.0.1", port))
        asked = asyncio.create_task(read_from(line))
        await until(lambda: bool(calls) and line.health.exchanges == 1)
        calls[0].close()
        with pytest.raises(LinkDown, match=f"^127.0.0.1:{port}: the other side hung up$"):
            await asked
        assert not line.is_up


async def test_a_converter_that_went_away_comes_back_by_itself() -> None:
    line = Line("L1", AT_ONCE)
    async with converter() as (port, calls):
        keeper = asyncio.create_task(keep_open(line, dialler("127.0.0.1", port), QUICK))
        await until(lambda: line.is_up and bool(calls))
        calls[0].close()
        await until(lambda: len(calls) == 2 and line.is_up)
        assert len(await read_from(line)) == 4
    await until(lambda: not line.is_up and "refuses" in (line.down_reason or ""))
    assert line.down_reason == f"127.0.0.1:{port} refuses the connection: check the port number"
    async with converter(port=port):
        await until(lambda: line.is_up)
        assert len(await read_from(line)) == 4
        keeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeper


async def test_an_answer_that_lies_in_the_socket_is_not_silence() -> None:
    """The program was busy for longer than the time-out; the meter was not late."""
    answered = threading.Event()

    def one_call(listener: socket.socket) -> None:
        call, _ = listener.accept()
        with call:
            call.sendall(reply(call.recv(256)))
            answered.set()
            call.recv(256)  # until we hang up

    with socket.create_server(("127.0.0.1", 0)) as listener:
        meter = threading.Thread(target=one_call, args=(listener,))
        meter.start()
        timing = LineTiming.network(mobile=False, reply_timeout_s=0.05, start_quiet_s=0.0)
        line = Line("L1", timing)
        line.attach(await dial(*listener.getsockname()))
        asked = asyncio.create_task(read_from(line))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        while not answered.wait(0.001):
            await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251  the busy program
        assert len(await asked) == 4
        assert line.health.silences == 0
        line.detach("done")
        await asyncio.to_thread(meter.join, PATIENCE_S)


async def test_a_name_that_leads_nowhere_is_one_clause() -> None:
    with pytest.raises(LinkDown, match=r"^no-such-host\.invalid:502 cannot be reached: "):
        await dial("no-such-host.invalid", 502)
