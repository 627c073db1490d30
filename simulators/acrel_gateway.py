"""An Acrel gateway that dials in: RS485 ports with meters, reports, one request at a time.

It logs in with its secret, sets its clock by the answers to its heartbeats, keeps reports while it
is away and sends them afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import cast

from simulators import acrel_gateway_words as words
from simulators.acrel_gateway_words import MeterLine, Type
from simulators.acrel_ports import Ports
from simulators.dial import dial_datetime, dial_ms_of
from simulators.faults import Faults
from simulators.modbus_meter import Bus
from simulators.wire import LineReport, WireTiming

log = logging.getLogger(__name__)

SPLIT_GAP_S = 0.03  # between the pieces of a split packet
GHOSTS_MAX = 8  # half-open connections kept; older ones are closed, as the network would in time


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPlan:
    """How one gateway behaves. Probabilities are for each packet towards the head-end."""

    building: str
    number: str
    secret: str
    heartbeat_s: float = 30.0
    heartbeats_missed_max: int = 3  # unanswered ones before it dials anew
    report_s: float = 0.0  # 0: only when told
    packed: bool = False  # reports are deflated
    reports_kept_max: int = 96
    clock_wrong_ms: int = 0  # until the first heartbeat is answered
    meter_patience_s: float = 1.0
    latency_s: float = 0.02  # one way
    jitter_s: float = 0.01
    reconnect_s: float = 1.0
    split: float = 0.0
    park: float = 0.0  # the packet, and all behind it, waits in the box
    park_s_mean: float = 5.0
    vanish: float = 0.0

    @property
    def registration(self) -> str:
        """As a site file has it."""
        return f"{self.building}/{self.number}"


class AcrelGateway:
    """One gateway. `plug` powers it, `unplug` pulls the plug."""

    def __init__(
        self,
        buses: Mapping[int, Bus],
        plan: GatewayPlan,
        *,
        host: str,
        port: int,
        now_ms: Callable[[], int],
        timing: WireTiming | None = None,
        faults: Mapping[int, Faults] | None = None,
        seed: int = 0,
    ) -> None:
        """`buses` by the number of their port; `now_ms` is a right local clock, as the meters'."""
        self.plan = plan
        self.host, self.port = host, port
        self.calm = False  # ends the bad manners, keeps latency
        self.counts: Counter[str] = Counter()
        self.clock_wrong_ms = plan.clock_wrong_ms
        self._now_ms = now_ms
        self._buses = buses
        self.ports = Ports(
            buses, self._answer, patience_s=plan.meter_patience_s, timing=timing, faults=faults
        )
        self._random = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []
        self._session: _Session | None = None
        self._ghosts: list[_Session] = []
        self._uplink_free_s = 0.0
        self._stored: deque[tuple[datetime, tuple[MeterLine, ...]]] = deque(
            maxlen=plan.reports_kept_max
        )

    @property
    def reports(self) -> Mapping[int, LineReport]:
        """What happened on the wires, by port."""
        return {number: line.report for number, line in self.ports.lines.items()}

    @property
    def is_logged_in(self) -> bool:
        return self._session is not None and self._session.passed

    @property
    def dial(self) -> datetime:
        """Its own clock."""
        return dial_datetime(self._now_ms() + self.clock_wrong_ms)

    async def plug(self) -> None:
        """Power on: dial, and dial again for ever."""
        assert not self._tasks
        self._tasks.append(asyncio.create_task(self._run(), name=f"gateway {self.plan.number}"))
        if self.plan.report_s:
            self._tasks.append(asyncio.create_task(self._report_for_ever(), name="reports"))

    async def unplug(self) -> None:
        """Power off: every connection dies, the half-open ones too."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        self.ports.stop()
        for session in (*self._ghosts, *((self._session,) if self._session else ())):
            session.abort()
        self._ghosts.clear()
        self._session = None

    def vanish(self) -> None:
        """Lose the network: the connection stays open and silent, and a new one is dialled."""
        if self._session is None:
            return
        self.counts["vanished"] += 1
        ghost, self._session = self._session, None
        ghost.become_ghost()
        self._ghosts.append(ghost)
        if len(self._ghosts) > GHOSTS_MAX:
            self._ghosts.pop(0).abort()

    def drop(self) -> None:
        """Lose the connection with a reset."""
        if self._session is not None:
            self.counts["dropped"] += 1
            self._session.abort()

    def set_secret(self, secret: str) -> None:
        """Somebody types another secret into it; used from the next login on."""
        self.plan = replace(self.plan, secret=secret)

    # ---- the connection -------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            session = _Session(self)
            try:
                await loop.create_connection(partial(_same, session), self.host, self.port)
            except OSError as error:
                self.counts["unreachable"] += 1
                log.debug("gateway cannot reach %s:%d: %s", self.host, self.port, error)
            else:
                self._session = session
                self.counts["sessions"] += 1
                request = words.login_request(self.plan.building, self.plan.number)
                self._say(session, words.framed(Type.LOGIN, request))
                await self._beat(session)
                if self._session is session:
                    self._session = None
            await asyncio.sleep(self.plan.reconnect_s)

    async def _beat(self, session: _Session) -> None:
        """Heartbeats until the session is over or nobody answers them."""
        beat = words.framed(Type.HEARTBEAT, words.heartbeat(self.plan.building, self.plan.number))
        while not session.over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.plan.heartbeat_s):
                    await session.over.wait()
            if session.over.is_set():
                return
            if session.missed >= self.plan.heartbeats_missed_max:
                self.counts["gave_up"] += 1
                session.abort()
            elif session.passed:
                session.missed += 1
                self._say(session, beat)
            else:
                session.missed += 1  # a login takes no longer than that

    def downlink(self, session: _Session, kind: int, data: bytes) -> None:
        """A frame from the head-end, after its way over the network."""
        delay_s = self.plan.latency_s + self._random.random() * self.plan.jitter_s
        due_s = max(asyncio.get_running_loop().time() + delay_s, session.downlink_free_s)
        session.downlink_free_s = due_s
        # Timers of the same instant fire in any order; TCP keeps its own.
        session.inbox.append((kind, data))
        asyncio.get_running_loop().call_at(due_s, self._arrived, session)

    def _arrived(self, session: _Session) -> None:
        kind, data = session.inbox.popleft()
        if session is not self._session:
            return
        if kind == Type.LOGIN:
            self._login(session, words.heard(data))
        elif kind == Type.HEARTBEAT:
            session.missed = 0
            told = datetime.strptime(words.heard(data)["time"], "%Y%m%d%H%M%S")  # noqa: DTZ007
            self.clock_wrong_ms = dial_ms_of(told) - self._now_ms()
            self.counts["clock_set"] += 1
        elif kind == Type.ASK:
            self.ports.ask(words.unlock(data, self.plan.secret))

    def _login(self, session: _Session, said: Mapping[str, str]) -> None:
        plan = self.plan
        if said["operation"] == "sequence":
            proof = words.login_proof(plan.building, plan.number, plan.secret, said["sequence"])
            self._say(session, words.framed(Type.LOGIN, proof))
        elif said.get("result") == "pass":
            session.passed = True
            session.missed = 0
            self.counts["logins"] += 1
            beat = words.heartbeat(plan.building, plan.number)
            self._say(session, words.framed(Type.HEARTBEAT, beat))
            while self._stored:
                self._send_report(*self._stored.popleft(), stored=True)
        else:
            self.counts["refused"] += 1
            session.abort()

    # ---- reports --------------------------------------------------------------------------------

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.plan.report_s)
            self.report_now()

    def report_now(self) -> None:
        """Look at every meter and tell it; without a connection, keep it for later."""
        meters = tuple(
            MeterLine(number, unit, there.meter.look())
            for number, bus in self._buses.items()
            for unit, there in bus.units.items()
        )
        if self.is_logged_in:
            self._send_report(self.dial, meters, stored=False)
        else:
            self.counts["stored"] += 1
            self._stored.append((self.dial, meters))

    def _send_report(self, dial: datetime, meters: tuple[MeterLine, ...], *, stored: bool) -> None:
        body = words.report(self.plan.number, dial, meters, stored=stored)
        kind = Type.PACKED_REPORT if self.plan.packed else Type.REPORT
        if self.plan.packed:
            body = words.packed(body)
        self.counts["replayed" if stored else "reported"] += 1
        if self._session is not None:
            self._say(self._session, words.framed(kind, words.lock(body, self.plan.secret)))

    def _answer(self, plain: bytes) -> None:
        """Bytes from a port, labelled."""
        if self._session is not None and self._session.passed:
            frame = words.framed(Type.ANSWER, words.lock(plain, self.plan.secret))
            self._say(self._session, frame)

    # ---- over the network -----------------------------------------------------------------------

    def _say(self, session: _Session, packet: bytes) -> None:
        if self._hit("vanish", self.plan.vanish):
            self.vanish()
            return
        loop = asyncio.get_running_loop()
        delay_s = self.plan.latency_s + self._random.random() * self.plan.jitter_s
        if self._hit("park", self.plan.park):
            delay_s += self._random.expovariate(1 / self.plan.park_s_mean)
        pieces = [packet]
        if self._hit("split", self.plan.split):
            cut = self._random.randrange(1, len(packet))
            pieces = [packet[:cut], packet[cut:]]
        # TCP keeps the order: nothing overtakes what is still in the box.
        due_s = max(loop.time() + delay_s, self._uplink_free_s)
        for piece in pieces:
            session.outbox.append(piece)
            loop.call_at(due_s, session.send_next)
            due_s += SPLIT_GAP_S
        self._uplink_free_s = due_s - SPLIT_GAP_S

    def _hit(self, name: str, probability: float) -> bool:
        if self.calm or not probability:
            return False
        hit = self._random.random() < probability
        self.counts[name] += hit
        return hit


def _same(session: _Session) -> _Session:
    """A protocol factory must make what we already hold."""
    return session


class _Session(asyncio.Protocol):
    """One connection of a gateway, dial to death."""

    def __init__(self, gateway: AcrelGateway) -> None:
        self._gateway = gateway
        self._transport: asyncio.Transport | None = None
        self._is_ghost = False
        self._buffer = bytearray()
        self.passed = False  # the login
        self.missed = 0  # heartbeats without an answer
        self.inbox: deque[tuple[int, bytes]] = deque()  # on its way to the box
        self.outbox: deque[bytes] = deque()  # on its way to the head-end
        self.downlink_free_s = 0.0
        self.over = asyncio.Event()  # dead, or forgotten by the box

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self._is_ghost:
            return
        self._buffer += data
        for kind, body in words.take_frames(self._buffer):
            self._gateway.downlink(self, kind, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.passed = False
        self.over.set()

    def send_next(self) -> None:
        data = self.outbox.popleft()
        if self._transport is not None and not self._transport.is_closing() and not self._is_ghost:
            self._transport.write(data)

    def become_ghost(self) -> None:
        """Stop reading and speaking, keep the socket: what the head-end sees of a dead network."""
        self._is_ghost = True
        self.passed = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self.over.set()

    def abort(self) -> None:
        self.passed = False
        if self._transport is not None:
            self._transport.abort()
        self.over.set()
