"""Money through an Acrel gateway on bad days: late, doubled, damaged and mislabelled answers.

In memory and on virtual time: our stream on one side, the simulated ports on the other. The meters
take a purchase whatever its count says, so a frame sent twice or a look that was a stale answer
shows at once in what they were credited.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from gateways.line import Line, Unsettled
from gateways.link import LinkUser
from gateways.timing import LineTiming
from gateways.turns import Priority, Turns
from protocols.catalog import load_meter_types
from protocols.evidence import Verdict, judge
from protocols.exchange import Evidence, ProtocolError
from protocols.meter_type import Address, TopUp
from protocols.reading import Quantity
from protocols.stream import Bytes
from simulators import acrel_gateway_words as words
from simulators.acrel_meter import DDSY1352, acrel_unit
from simulators.acrel_ports import Ports
from simulators.faults import FaultRates, Faults
from simulators.metering import CountRule, Meter
from simulators.modbus_meter import Bus
from tests.gateways.virtual import virtual_time
from tests.protocols.gateway_box import SECRET, logged_in
from tests.sim.helpers import START_MS, HandClock, meter

DRIVER = load_meter_types()["acrel_ddsy1352"].new_driver({})
LATENCY_S = 0.08
BAD_DAY = FaultRates(
    request_lost=0.08,
    answer_lost=0.08,
    bit_error=0.04,
    truncated=0.03,
    noise=0.05,
    doubled=0.15,
    late=0.35,
    late_s_mean=3.0,
)
PATIENT = LineTiming.network(mobile=True, start_quiet_s=0.0)
HASTY = LineTiming.network(mobile=True, reply_late_s_max=3.0, start_quiet_s=0.0)
AMOUNTS_FEN = (1001, 1002, 1003)


class Network:
    """What lies between the stream and the ports: latency, and TCP's order."""

    def __init__(self, buses: dict[int, Bus], seed: int, rates: FaultRates) -> None:
        self._loop = asyncio.get_running_loop()
        self.stream = logged_in()
        self.links = {port: PortOfOurs(self, port) for port in buses}
        faults = {port: Faults(seed=seed * 10 + port, rates=rates) for port in buses}
        self.ports = Ports(buses, self._up, patience_s=1.0, faults=faults)
        self._coming: deque[bytes] = deque()

    def down(self, frame: bytes, port: int) -> None:
        plain = words.unlock(self.stream.wrap(frame, port)[7:], SECRET)
        self._loop.call_later(LATENCY_S, self.ports.ask, plain)

    def _up(self, plain: bytes) -> None:
        self._coming.append(words.framed(words.Type.ANSWER, words.lock(plain, SECRET)))
        self._loop.call_later(LATENCY_S, self._arrived)

    def _arrived(self) -> None:
        for event in self.stream.receive(self._coming.popleft()):
            if isinstance(event, Bytes):
                user = self.links[event.port].user
                assert user is not None
                user.bytes_received(event.data)


class PortOfOurs:
    """A ByteLink."""

    def __init__(self, network: Network, port: int) -> None:
        self.name = f"port {port}"
        self.user: LinkUser | None = None
        self._network = network
        self._port = port

    def start(self, user: LinkUser) -> None:
        self.user = user

    def write(self, data: bytes) -> None:
        self._network.down(data, self._port)

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Till:
    """Sells to one meter, the way the product does: sent once, then looked at until known."""

    line: Line
    at: Address
    intents: list[Evidence] = field(default_factory=list)

    async def sell(self, order: TopUp) -> None:
        while await self._once(order) is not Verdict.APPLIED:
            pass

    async def _once(self, order: TopUp) -> Verdict:
        sent = len(self.intents)
        try:
            outcome = await self.line.converse(
                self.at.unit,
                DRIVER.top_up(self.at, order),
                priority=Priority.COMMAND,
                record_intent=self._record,
            )
        except (Unsettled, ProtocolError):
            if len(self.intents) == sent:
                return Verdict.NOT_APPLIED  # nothing was written
            return judge(self.intents[-1], await self._look(), order.amount_fen)
        return outcome.verdict

    async def _look(self) -> Evidence:
        while True:
            try:
                return await self.line.converse(
                    self.at.unit, DRIVER.evidence(self.at), priority=Priority.COMMAND
                )
            except ProtocolError:
                continue

    async def _record(self, before: Evidence) -> None:
        self.intents.append(before)


class LoopClock(HandClock):
    """The meters' clock goes with the loop."""

    def now_ms(self) -> int:
        return START_MS + int(asyncio.get_running_loop().time() * 1000)


@dataclass
class Day:
    """Three meters on two ports, and our lines to them."""

    network: Network
    meters: dict[tuple[int, int], Meter]
    lines: dict[int, Line]

    @classmethod
    def begins(cls, seed: int, timing: LineTiming, rates: FaultRates = BAD_DAY) -> Day:
        clock = LoopClock()
        meters = {
            place: meter(clock, count=3, rule=CountRule.ANY) for place in ((1, 1), (1, 2), (2, 1))
        }
        buses = {
            port: Bus(
                {
                    unit: acrel_unit(DDSY1352, m, unit)
                    for (p, unit), m in meters.items()
                    if p == port
                }
            )
            for port in (1, 2)
        }
        network, turns = Network(buses, seed, rates), Turns()
        lines = {port: Line(link.name, timing, turns=turns) for port, link in network.links.items()}
        for port, line in lines.items():
            line.attach(network.links[port])
        return cls(network, meters, lines)

    async def lived(self, visit: Callable[[Line, Address], Awaitable[None]]) -> None:
        """Every meter is visited at once."""
        async with asyncio.timeout(24 * 3600), asyncio.TaskGroup() as group:
            for port, unit in self.meters:
                group.create_task(_awaited(visit(self.lines[port], Address(unit))))
        assert self.network.ports.counts["unanswered"], "the day was bad"
        self.network.ports.stop()


async def _awaited(visit: Awaitable[None]) -> None:
    await visit


@pytest.mark.parametrize("seed", range(12))
def test_every_sale_arrives_once(seed: int) -> None:
    async def sell(line: Line, at: Address) -> None:
        till = Till(line, at)
        for count, amount_fen in enumerate(AMOUNTS_FEN, start=4):
            await till.sell(TopUp(purchase_count=count, amount_fen=amount_fen))

    @virtual_time
    async def lived() -> None:
        day = Day.begins(seed, PATIENT)
        await day.lived(sell)
        for sold in day.meters.values():
            assert [entry.amount_fen for entry in sold.applied] == list(AMOUNTS_FEN)

    lived()


def stale_answers(seed: int, timing: LineTiming, rates: FaultRates) -> int:
    """How often a read was answered with what the meter had shown before it was asked."""
    stale = 0

    async def poll(line: Line, at: Address) -> None:
        nonlocal stale
        loop = asyncio.get_running_loop()
        for _ in range(20):
            asked_s = int(loop.time())
            with contextlib.suppress(ProtocolError):
                values = await line.converse(
                    at.unit,
                    DRIVER.read(at, frozenset({Quantity.CLOCK})),
                    priority=Priority.ASKED_NOW,
                )
                stale += values[Quantity.CLOCK] < START_MS // 1000 + asked_s

    @virtual_time
    async def lived() -> None:
        await Day.begins(seed, timing, rates).lived(poll)

    lived()
    return stale


# A gateway that answers one request twice cannot be told from one that answers two: of two equal
# reads one behind the other, the second may get what the first one did. Nothing worse can come of
# it, since order is kept: never across a write, which the sales above show.
NO_DOUBLES = replace(BAD_DAY, doubled=0.0)


def test_no_old_answer_is_taken_for_a_new_one() -> None:
    assert sum(stale_answers(seed, PATIENT, NO_DOUBLES) for seed in range(12)) == 0


def test_without_the_quarantine_old_answers_are_taken() -> None:
    stale = sum(stale_answers(seed, HASTY, NO_DOUBLES) for seed in range(12))
    assert stale > 0, "or the others prove nothing"
