"""A box that dials in, against a real listening socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from simulators.acrel_meter import DDSY1352, acrel_unit
from simulators.dtu import Dtu, DtuPlan
from simulators.modbus_meter import Bus
from simulators.wire import WireTiming
from tests.sim.helpers import WAIT_S_MAX, HandClock, meter, read, registers, until

NAME = b"DTU-7"
ASK = read(1, 0x0200, 48)
ANSWER_BYTES = 101


@dataclass
class HeadEnd:
    """Accepts boxes and keeps what they say."""

    calls: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    port: int = 0

    async def call(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The so-many-th connection, counted from 0."""
        await until(lambda: len(self.calls) > number)
        return self.calls[number]


@asynccontextmanager
async def listening() -> AsyncIterator[HeadEnd]:
    here = HeadEnd()
    server = await asyncio.start_server(lambda r, w: here.calls.append((r, w)), "127.0.0.1", 0)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()
        for _, writer in here.calls:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await server.wait_closed()


@asynccontextmanager
async def dialling(here: HeadEnd, plan: DtuPlan, seed: int = 1) -> AsyncIterator[Dtu]:
    bus = Bus({1: acrel_unit(DDSY1352, meter(HandClock()), 1)})
    timing = WireTiming(baud=115_200, turnaround_s=0.0)
    dtu = Dtu(bus, plan, host="127.0.0.1", port=here.port, timing=timing, seed=seed)
    await dtu.plug()
    try:
        yield dtu
    finally:
        await dtu.unplug()


def plan(
    *,
    on_every_packet: bool = False,
    heartbeat: bytes | None = None,
    heartbeat_s: float = 3600.0,
    restart_quiet_s: float = 0.0,
    split: float = 0.0,
    glue: float = 0.0,
    park: float = 0.0,
    park_s_mean: float = 0.2,
    vanish: float = 0.0,
) -> DtuPlan:
    return DtuPlan(
        registration=NAME,
        on_every_packet=on_every_packet,
        heartbeat=heartbeat,
        heartbeat_s=heartbeat_s,
        restart_quiet_s=restart_quiet_s,
        latency_s=0.001,
        jitter_s=0.001,
        reconnect_s=0.01,
        split=split,
        glue=glue,
        park=park,
        park_s_mean=park_s_mean,
        vanish=vanish,
    )


async def heard(reader: asyncio.StreamReader, size: int) -> bytes:
    async with asyncio.timeout(WAIT_S_MAX):
        return await reader.readexactly(size)


async def test_it_names_itself_and_carries_an_exchange() -> None:
    async with listening() as here, dialling(here, plan()) as dtu:
        reader, writer = await here.call(0)
        assert await heard(reader, len(NAME)) == NAME
        writer.write(ASK)
        registers(await heard(reader, ANSWER_BYTES))
        assert dtu.is_connected


async def test_it_may_name_itself_before_every_packet() -> None:
    manners = plan(on_every_packet=True, heartbeat=b"\xfe", heartbeat_s=0.05)
    async with listening() as here, dialling(here, manners):
        reader, writer = await here.call(0)
        assert await heard(reader, len(NAME)) == NAME
        assert await heard(reader, len(NAME) + 1) == NAME + b"\xfe"
        writer.write(ASK)
        said = await heard(reader, len(NAME) + 1)
        while said == NAME + b"\xfe":  # heartbeats go on meanwhile
            said = await heard(reader, len(NAME) + 1)
        assert said == NAME + b"\1"
        registers(b"\1" + await heard(reader, ANSWER_BYTES - 1))


async def test_split_and_glued_packets_lose_nothing() -> None:
    manners = plan(heartbeat=b"ping", split=1.0, glue=1.0)
    async with listening() as here, dialling(here, manners) as dtu:
        reader, writer = await here.call(0)
        await heard(reader, len(NAME))
        for _ in range(4):
            writer.write(ASK)
            packet = await heard(reader, ANSWER_BYTES + 4)
            assert b"ping" in (packet[:4], packet[-4:])
            registers(packet.replace(b"ping", b"", 1))
        assert dtu.counts["split"] == dtu.counts["glue"] == 4


async def test_parked_answers_come_late_and_in_order() -> None:
    async with listening() as here, dialling(here, plan(park=1.0)) as dtu:
        reader, writer = await here.call(0)
        await heard(reader, len(NAME))
        numbers = read(1, 0x0043, 3)
        writer.write(ASK)
        await until(lambda: dtu.counts["park"] == 1)
        writer.write(numbers)  # the wires are free: only the radio is slow
        await until(lambda: dtu.counts["park"] == 2)
        registers(await heard(reader, ANSWER_BYTES))
        assert registers(await heard(reader, 11)).hex() == "012307210085"


async def test_a_vanished_box_leaves_its_old_connection_half_open() -> None:
    async with listening() as here, dialling(here, plan()) as dtu:
        old_reader, old_writer = await here.call(0)
        await heard(old_reader, len(NAME))
        dtu.vanish()
        reader, writer = await here.call(1)
        assert await heard(reader, len(NAME)) == NAME, "the same name from another port"
        ports = [w.get_extra_info("peername")[1] for _, w in here.calls]
        assert len(set(ports)) == 2
        old_writer.write(ASK)  # goes nowhere; nobody says so
        writer.write(ASK)
        registers(await heard(reader, ANSWER_BYTES))
        assert not old_reader.at_eof()
        assert dtu.report.polls == 1
    assert dtu.counts["vanished"] == 1


async def test_it_vanishes_with_an_answer_in_hand() -> None:
    async with listening() as here, dialling(here, plan(vanish=1.0)) as dtu:
        reader, writer = await here.call(0)
        await heard(reader, len(NAME))
        writer.write(ASK)
        again, _ = await here.call(1)
        assert await heard(again, len(NAME)) == NAME
        assert dtu.report.polls == 1, "the meter did answer"
        dtu.calm = True
        (await here.call(1))[1].write(ASK)
        registers(await heard(again, ANSWER_BYTES))


async def test_a_dropped_connection_is_dialled_again() -> None:
    async with listening() as here, dialling(here, plan()) as dtu:
        reader, _ = await here.call(0)
        await heard(reader, len(NAME))
        dtu.drop()
        reader, _ = await here.call(1)
        assert await heard(reader, len(NAME)) == NAME


async def test_silence_from_the_head_end_makes_it_restart() -> None:
    manners = plan(heartbeat=b"ping", heartbeat_s=0.02, restart_quiet_s=0.1)
    async with listening() as here, dialling(here, manners) as dtu:
        await here.call(1)
        assert dtu.counts["restarted_quiet"] >= 1


async def test_it_keeps_dialling_until_somebody_listens() -> None:
    async with listening() as here:
        port = here.port
    late = HeadEnd(port=port)
    async with dialling(late, plan()) as dtu:
        await asyncio.sleep(0.05)
        assert not dtu.is_connected
        server = await asyncio.start_server(
            lambda r, w: late.calls.append((r, w)), "127.0.0.1", port
        )
        async with server:
            reader, writer = await late.call(0)
            assert await heard(reader, len(NAME)) == NAME
            writer.close()
