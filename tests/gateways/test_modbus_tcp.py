"""Modbus TCP through pymodbus, against servers that are not ours, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateways.keeper import Backoff, keep_open
from gateways.line import Line, Unsettled
from gateways.link import LinkDown
from gateways.modbus_tcp import dial, dialler
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.exchange import Conversation, Evidence, Intent, Refusal, Silence, ask, ask_reply
from protocols.modbus import read_registers, write_registers
from tests.gateways.field import PATIENCE_S, running, until

QUICK = Backoff(first_s=0.01, longest_s=0.05, good_after_s=0.0)
SHORT = LineTiming.network(
    mobile=False, start_quiet_s=0.0, reply_timeout_s=0.15, reply_late_s_max=0.2
)


@dataclass
class Box:
    """A scripted box: what to send for each request, given its number, unit and PDU."""

    answer: Callable[[int, int, bytes], bytes]
    port: int = 0
    heard: list[tuple[int, bytes]] = field(default_factory=list)
    calls: list[asyncio.StreamWriter] = field(default_factory=list)


def told(number: int, unit: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", number, 0, len(pdu) + 1, unit) + pdu


def healthy(number: int, unit: int, pdu: bytes) -> bytes:
    """Each register holds its own address."""
    if pdu[0] != 3:
        return told(number, unit, pdu[:5])
    address, count = struct.unpack_from(">HH", pdu, 1)
    data = b"".join((address + n).to_bytes(2, "big") for n in range(count))
    return told(number, unit, bytes((3, len(data))) + data)


@contextlib.asynccontextmanager
async def box(answer: Callable[[int, int, bytes], bytes] = healthy) -> AsyncIterator[Box]:
    made = Box(answer)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.calls.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                number, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                pdu = await reader.readexactly(length - 1)
                made.heard.append((number, pdu))
                writer.write(made.answer(number, unit, pdu))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in made.calls:
            writer.close()
        await server.wait_closed()


async def read_from(line: Line, address: int = 5, unit: int = 7) -> bytes:
    return await line.converse(
        unit,
        ask_reply(read_registers(unit, address, 2)),
        priority=Priority.NIGHTLY,
        read_tries=1,
    )


def write_once(unit: int = 7) -> Conversation[object]:
    yield Intent(Evidence())
    return (yield from ask(write_registers(unit, 0x57, (1,))))


async def recorded(before: Evidence) -> None:
    """The intent of a test is durable enough."""


async def test_a_meter_behind_somebody_elses_server_is_read_and_refuses() -> None:
    registers = [SimData(0, values=list(range(100)), datatype=DataType.REGISTERS)]
    server = ModbusTcpServer([SimDevice(7, simdata=registers)], address=("127.0.0.1", 0))
    assert await server.listen()
    port = cast(asyncio.Server, server.transport).sockets[0].getsockname()[1]
    line = Line("L1", SHORT)
    try:
        async with running(keep_open(line, dialler("127.0.0.1", port), QUICK)):
            async with asyncio.timeout(PATIENCE_S):
                await line.wait_up()
            assert await read_from(line) == b"\x00\x05\x00\x06"
            answer = await line.converse(
                7, ask(read_registers(7, 5000, 2)), priority=Priority.NIGHTLY
            )
            assert answer == Refusal(2)
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def test_a_late_answer_is_not_taken_for_the_next() -> None:
    held: list[bytes] = []

    def first_is_late(number: int, unit: int, pdu: bytes) -> bytes:
        if not held:
            held.append(healthy(number, unit, pdu))
            return b""
        return held[0] + healthy(number, unit, pdu)  # the old one arrives right before the new one

    async with box(first_is_late) as there:
        line = Line("L1", SHORT)
        line.attach(await dial("127.0.0.1", there.port))
        with pytest.raises(Silence):
            await read_from(line, address=5)
        assert await read_from(line, address=50) == b"\x00\x32\x00\x33"
        line.detach("done")


async def test_an_answer_without_its_number_is_silence() -> None:
    async with box(lambda number, unit, pdu: healthy(0, unit, pdu)) as there:
        line = Line("L1", SHORT)
        line.attach(await dial("127.0.0.1", there.port))
        with pytest.raises(Silence):
            await read_from(line)
        line.detach("done")


async def test_a_write_goes_out_once_whatever_comes() -> None:
    async with box(lambda number, unit, pdu: b"") as there:
        line = Line("L1", SHORT)
        line.attach(await dial("127.0.0.1", there.port))
        with pytest.raises(Unsettled):
            await line.converse(7, write_once(), priority=Priority.COMMAND, record_intent=recorded)
        with pytest.raises(Silence):
            await read_from(line)
        assert [pdu[0] for _, pdu in there.heard] == [16, 3]
        line.detach("done")


async def test_a_box_that_hangs_up_in_a_write_leaves_it_unsettled_and_is_dialled_anew() -> None:
    async with box() as there:

        def hang_up(number: int, unit: int, pdu: bytes) -> bytes:
            there.calls[-1].transport.abort()
            return b""

        line = Line("L1", SHORT)
        async with running(keep_open(line, dialler("127.0.0.1", there.port), QUICK)):
            async with asyncio.timeout(PATIENCE_S):
                await line.wait_up()
            there.answer = hang_up
            with pytest.raises(Unsettled):
                await line.converse(
                    7, write_once(), priority=Priority.COMMAND, record_intent=recorded
                )
            there.answer = healthy
            await until(lambda: line.is_up and len(there.calls) == 2)
            await asyncio.sleep(SHORT.reply_late_s_max)
            assert len(await read_from(line)) == 4
            assert [pdu[0] for _, pdu in there.heard] == [16, 3]


async def test_a_box_that_is_not_there_is_said_so() -> None:
    async with box() as there:
        port = there.port
    with pytest.raises(LinkDown, match=f"^127.0.0.1:{port} cannot be reached"):
        await dial("127.0.0.1", port)
