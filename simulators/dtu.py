"""A GPRS box that dials in, with an RS485 line behind it and the bad manners of mobile networks.

It says who it is, beats, carries bytes late, in pieces or glued, holds answers back for seconds,
and vanishes: its old connection stays half open while it dials in anew from another port.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from simulators.dialects import Speech, Transparent
from simulators.faults import Faults
from simulators.wire import LineReport, SlaveLine, Wires, WireTiming

log = logging.getLogger(__name__)

PACKING_GAP_S = 0.05  # USR-G781 closes a frame after 50 ms of silence (spec field_protocols.md C1)
SPLIT_GAP_S = 0.03  # between the pieces of a split packet
STORED_MAX = 16  # answers kept while there is no connection
GHOSTS_MAX = 8  # half-open connections kept; older ones are closed, as the network would in time


@dataclass(frozen=True, slots=True, kw_only=True)
class DtuPlan:
    """How one box behaves. Probabilities are for each packet towards the head-end."""

    registration: bytes
    on_every_packet: bool = False  # the registration also stands before each packet
    heartbeat: bytes | None = None
    heartbeat_s: float = 30.0
    latency_s: float = 0.08  # one way
    jitter_s: float = 0.04
    reconnect_s: float = 1.0
    restart_quiet_s: float = 300.0  # without a byte from the head-end (Ebyte: 300 s); 0: never
    split: float = 0.0
    glue: float = 0.0  # a heartbeat in the same packet
    park: float = 0.0  # the packet, and all behind it, waits in the box
    park_s_mean: float = 5.0
    vanish: float = 0.0
    replay: bool = False  # an answer that found no connection is sent after the next registration


class Dtu:
    """One box. `plug` powers it, `unplug` pulls the plug without a goodbye on the radio side."""

    def __init__(
        self,
        bus: Wires,
        plan: DtuPlan,
        *,
        host: str,
        port: int,
        timing: WireTiming | None = None,
        faults: Faults | None = None,
        seed: int = 0,
        new_speech: Callable[[], Speech] | None = None,
    ) -> None:
        """`new_speech` makes what it speaks on one connection; None: nothing but its packets."""
        self.plan = plan
        self.host, self.port = host, port
        self.calm = False  # ends the bad manners, keeps latency
        self.counts: Counter[str] = Counter()
        self.line = SlaveLine(
            bus, self._uplink, timing=timing, faults=faults, frame_gap_s=PACKING_GAP_S
        )
        self._random = random.Random(seed)
        self._runner: asyncio.Task[None] | None = None
        self._session: _Session | None = None
        self._ghosts: list[_Session] = []
        self._uplink_free_s = 0.0
        self._new_speech = new_speech or self._transparent
        self._stored: list[bytes] = []  # answers that found no connection

    @property
    def report(self) -> LineReport:
        return self.line.report

    @property
    def is_connected(self) -> bool:
        return self._session is not None

    async def plug(self) -> None:
        """Power on: dial, and dial again for ever."""
        assert self._runner is None
        self._runner = asyncio.create_task(self._run(), name=f"dtu {self.plan.registration!r}")

    async def unplug(self) -> None:
        """Power off: every connection dies, the half-open ones too."""
        if self._runner is None:
            return
        self._runner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._runner
        self._runner = None
        self.line.stop()
        for session in (*self._ghosts, *((self._session,) if self._session else ())):
            session.abort()
        self._ghosts.clear()
        self._session = None

    def vanish(self) -> None:
        """Lose the radio: the connection stays open and silent, and a new one is dialled."""
        if self._session is None:
            return
        self.counts["vanished"] += 1
        ghost, self._session = self._session, None
        ghost.become_ghost()
        self._ghosts.append(ghost)
        if len(self._ghosts) > GHOSTS_MAX:
            self._ghosts.pop(0).abort()

    def drop(self) -> None:
        """Lose the connection with a reset, as a box that reboots in good reception."""
        if self._session is not None:
            self.counts["dropped"] += 1
            self._session.abort()

    async def _run(self) -> None:
        refused = False
        while True:
            session = _Session(self, self._new_speech())
            try:
                await self._dial(session)
            except OSError as error:
                if not refused:
                    log.warning("dtu cannot reach %s:%d: %s", self.host, self.port, error)
                refused = True
                await asyncio.sleep(self.plan.reconnect_s)
                continue
            if refused:
                log.info("dtu reaches %s:%d again", self.host, self.port)
            refused = False
            self._session = session
            self.counts["sessions"] += 1
            session.send(session.speech.hello())
            for data in self._stored:
                session.send(session.speech.packet(data))
            self._stored.clear()
            await self._beat(session)
            if self._session is session:
                self._session = None
            await asyncio.sleep(self.plan.reconnect_s)

    async def _dial(self, session: _Session) -> None:
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(partial(_same, session), self.host, self.port)

    async def _beat(self, session: _Session) -> None:
        """Heartbeats until the session is over or has been quiet for too long."""
        loop = asyncio.get_running_loop()
        plan = self.plan
        while not session.over.is_set():
            with contextlib.suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it may swallow the end of this task.
                async with asyncio.timeout(plan.heartbeat_s):
                    await session.over.wait()
            if session.over.is_set():
                return
            if plan.restart_quiet_s and loop.time() - session.heard_at_s > plan.restart_quiet_s:
                self.counts["restarted_quiet"] += 1
                session.abort()
            elif (beat := session.speech.heartbeat()) is not None:
                self._send(session, 0.0, beat)

    def downlink(self, session: _Session, data: bytes) -> None:
        """Bytes from the head-end, on their way over the air to the wires."""
        loop = asyncio.get_running_loop()
        session.heard_at_s = loop.time()
        frames, says = session.speech.downlink(data)
        delay_s = self._latency_s()
        for frame in frames:
            loop.call_later(delay_s, self._to_wires, session, frame)
        for said in says:
            self._send(session, delay_s, said)

    def _to_wires(self, session: _Session, data: bytes) -> None:
        if session is self._session:
            self.line.bytes_from_master(data)

    def _uplink(self, data: bytes) -> None:
        """An answer from the wires, on its way over the air."""
        session = self._session
        if session is None or self._hit("vanish", self.plan.vanish):
            self.vanish()
            if self.plan.replay and len(self._stored) < STORED_MAX:
                self.counts["stored"] += 1
                self._stored.append(data)
            return
        delay_s = self._latency_s()
        if self._hit("park", self.plan.park):
            delay_s += self._random.expovariate(1 / self.plan.park_s_mean)
        packet = session.speech.packet(data)
        beat = session.speech.heartbeat() if self.plan.glue else None
        if beat is not None and self._hit("glue", self.plan.glue):
            packet = beat + packet if self._random.random() < 0.5 else packet + beat
        pieces = [packet]
        if len(packet) > 1 and self._hit("split", self.plan.split):
            cut = self._random.randrange(1, len(packet))
            pieces = [packet[:cut], packet[cut:]]
        self._send(session, delay_s, *pieces)

    def _send(self, session: _Session, delay_s: float, *pieces: bytes) -> None:
        """TCP keeps the order: nothing overtakes what is still in the box, nor gets into it."""
        loop = asyncio.get_running_loop()
        due_s = max(loop.time() + delay_s, self._uplink_free_s)
        for piece in pieces:
            loop.call_at(due_s, session.send, piece)
            due_s += SPLIT_GAP_S
        # Timers of one instant fire in any order: what follows is later by the least there is.
        self._uplink_free_s = math.nextafter(due_s - SPLIT_GAP_S, math.inf)

    def _transparent(self) -> Speech:
        plan = self.plan
        return Transparent(plan.registration, plan.heartbeat, plan.on_every_packet)

    def say(self, data: bytes) -> bool:
        """Send something nobody asked for; whether there was a connection to send it on."""
        if self._session is not None:
            self._send(self._session, 0.0, data)
        return self._session is not None

    def _latency_s(self) -> float:
        return self.plan.latency_s + self._random.random() * self.plan.jitter_s

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
    """One connection of a box, dial to death."""

    def __init__(self, dtu: Dtu, speech: Speech) -> None:
        self._dtu = dtu
        self.speech = speech
        self._transport: asyncio.Transport | None = None
        self._is_ghost = False
        self.over = asyncio.Event()  # dead, or forgotten by the box
        self.heard_at_s = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if not self._is_ghost:
            self._dtu.downlink(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing() and not self._is_ghost:
            self._transport.write(data)

    def become_ghost(self) -> None:
        """Stop reading and speaking, keep the socket: what the head-end sees of a dead radio."""
        self._is_ghost = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self.over.set()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.over.set()
