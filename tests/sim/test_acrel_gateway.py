"""The simulated Acrel gateway against the vectors and against a head-end played by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from simulators import acrel_gateway_words as words
from simulators.acrel_gateway import AcrelGateway, GatewayPlan
from simulators.acrel_gateway_words import Type
from simulators.acrel_meter import DDSY1352, acrel_unit
from simulators.gateway_command import GatewayWish
from simulators.line_command import WrongWish
from simulators.modbus_meter import Bus
from simulators.wire import WireTiming
from tests.protocols.vectors import ACREL_GATEWAY
from tests.sim.helpers import WAIT_S_MAX, HandClock, meter, read, registers, until

SECRET: str = ACREL_GATEWAY["secret"]
FRAMES = {name: bytes.fromhex(frame) for name, frame in ACREL_GATEWAY["frames"].items()}
PLAN = GatewayPlan(
    building="B1", number="GW-001", secret=SECRET, heartbeat_s=0.05, reconnect_s=0.02, latency_s=0.0
)


class ByHand:
    """A head-end of one connection, spoken by the test."""

    def __init__(self) -> None:
        self.calls: list[asyncio.StreamWriter] = []
        self.heard: list[tuple[int, bytes]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls.append(writer)
        buffer = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(4096):
                buffer += data
                self.heard += words.take_frames(buffer)
        writer.close()

    async def next(self, kind: Type) -> bytes:
        """The next frame of this type; those before it are forgotten."""
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                while self.heard:
                    heard, data = self.heard.pop(0)
                    if heard == kind:
                        return data
                await asyncio.sleep(0.005)

    def say(self, frame: bytes) -> None:
        self.calls[-1].write(frame)

    async def let_in(self) -> None:
        await self.next(Type.LOGIN)
        self.say(FRAMES["auth_sequence"])
        proof = await self.next(Type.LOGIN)
        assert words.heard(proof)["md5"].lower() == "444970c526b0d24391ad92180cb15150"
        self.say(FRAMES["auth_result_pass"])


@contextlib.asynccontextmanager
async def calling(plan: GatewayPlan = PLAN) -> AsyncIterator[tuple[ByHand, AcrelGateway]]:
    hand, clock = ByHand(), HandClock()
    server = await asyncio.start_server(hand.serve, "127.0.0.1", 0)
    buses = {
        port: Bus({unit: acrel_unit(DDSY1352, meter(clock), unit) for unit in (1, 2)})
        for port in (1, 2)
    }
    gateway = AcrelGateway(
        buses,
        plan,
        host="127.0.0.1",
        port=server.sockets[0].getsockname()[1],
        now_ms=clock.now_ms,
        timing=WireTiming(baud=115_200, turnaround_s=0.0),
    )
    await gateway.plug()
    try:
        yield hand, gateway
    finally:
        await gateway.unplug()
        server.close()
        for writer in hand.calls:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await server.wait_closed()


def ask(plain: str) -> bytes:
    return words.framed(Type.ASK, words.lock(plain.encode(), SECRET))


def test_its_cipher_and_frames_are_those_of_the_vectors() -> None:
    assert ask("01002|02030038000105f4") == FRAMES["downlink_read_ct"]
    assert words.unlock(FRAMES["downlink_purchase"][7:], SECRET).startswith(b"01001|0120")
    assert words.heard(FRAMES["auth_sequence"][7:])["sequence"] == ACREL_GATEWAY["sequence"]
    assert b'<meter id="01002">' in words.unlock(FRAMES["data_aes"][7:], SECRET)


async def test_it_logs_in_beats_and_sets_its_clock() -> None:
    async with calling(replace(PLAN, clock_wrong_ms=-60_000)) as (hand, gateway):
        await hand.let_in()
        await hand.next(Type.HEARTBEAT)
        hand.say(FRAMES["heartbeat_reply"])
        await until(lambda: gateway.counts["clock_set"] == 1)
        assert gateway.dial.isoformat() == "2025-03-14T10:20:30"


async def test_it_dials_anew_when_nobody_answers_its_heartbeats() -> None:
    async with calling(replace(PLAN, heartbeats_missed_max=1)) as (hand, gateway):
        await hand.let_in()
        await until(lambda: gateway.counts["gave_up"] == 1)
        await hand.let_in()
        assert gateway.counts["sessions"] == 2


async def test_it_works_off_its_requests_one_after_the_other() -> None:
    async with calling(replace(PLAN, heartbeat_s=3600.0, meter_patience_s=0.3)) as (hand, gateway):
        await hand.let_in()
        for port, unit in ((1, 1), (2, 2), (1, 3), (1, 2)):
            hand.say(ask(f"{port:02}{unit:03}|{read(unit, 0x0200, 48).hex()}"))
        answers = []
        for _ in range(3):
            label, _, data = words.unlock(await hand.next(Type.ANSWER), SECRET).partition(b"|")
            answers.append(label)
            assert len(registers(bytes.fromhex(data.decode()))) == 96
        assert answers == [b"01001", b"02002", b"01002"], "nobody is there at port 1 unit 3"
        assert gateway.ports.counts == {"asked": 4, "queued": 3, "unanswered": 1}


async def test_it_keeps_so_many_reports_and_sends_the_last_ones() -> None:
    async with calling(replace(PLAN, reports_kept_max=2, packed=True, heartbeat_s=3600.0)) as (
        hand,
        gateway,
    ):
        for _ in range(3):
            gateway.report_now()
        await hand.let_in()
        await until(lambda: gateway.counts["replayed"] == 2)
        packed = words.unlock(await hand.next(Type.PACKED_REPORT), SECRET)
        assert packed[:1] == b"\x78", "zlib"
        assert gateway.counts["stored"] == 3


def wish(**given: Any) -> GatewayWish:
    usual: dict[str, Any] = {
        "dial_in": "127.0.0.1:9000",
        "registration": "B1/GW-001",
        "secret": SECRET,
        "ports": ["1=ddsy:1-2", "12=dtsy:1"],
        "report_s": 0.0,
        "packed": False,
        "seed": 1,
        "faults": "{}",
    }
    return GatewayWish.parse(**(usual | given))


async def test_a_wish_of_the_command_line_becomes_a_gateway() -> None:
    made = wish().gateway()
    assert made.plan.registration == "B1/GW-001"
    assert {number: set(line.bus.units) for number, line in made.ports.lines.items()} == {
        1: {1, 2},
        12: {1},
    }
    numbers = [
        u.meter.number for line in made.ports.lines.values() for u in line.bus.units.values()
    ]
    assert len(set(numbers)) == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dial_in": "here"}, "HOST:PORT"),
        ({"registration": "B1"}, "BUILDING/GATEWAY"),
        ({"secret": "short"}, "16 bytes"),
        ({"ports": ["ddsy:1"]}, "2=ddsy:1-8"),
        ({"ports": ["100=ddsy:1"]}, "2=ddsy:1-8"),
        ({"ports": ["1=gas:1"]}, "no meter type is called gas"),
        ({"faults": "[]"}, "--faults"),
    ],
)
def test_a_wrong_wish_is_one_sentence(given: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongWish, match=words):
        wish(**given)
