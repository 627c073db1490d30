"""A converter one dials: RTU frames over TCP, with real wires or none behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from typing import cast

from simulators import rtu
from simulators.faults import Faults
from simulators.modbus_meter import Bus
from simulators.wire import LineReport, SlaveLine, Wires, WireTiming

PACKING_GAP_S = 0.05  # how long a converter waits for the rest of a frame


class TcpLine:
    """A converter with meters behind it. Several masters may connect: they share the wires."""

    def __init__(
        self,
        bus: Wires,
        *,
        host: str = "127.0.0.1",
        port: int = 0,  # 0: any free one, kept over unplugging
        timing: WireTiming | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.line = SlaveLine(
            bus, self._deliver, timing=timing, faults=faults, frame_gap_s=PACKING_GAP_S
        )
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._asked: _Connection | None = None

    @property
    def report(self) -> LineReport:
        return self.line.report

    async def plug(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def unplug(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._connections):
            connection.drop()
        self.line.stop()
        await self._server.wait_closed()
        self._server = None

    def joined(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def left(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if self._asked is connection:
            self._asked = None

    def asked(self, connection: _Connection, data: bytes) -> None:
        self._asked = connection
        self.line.bytes_from_master(data)

    def _deliver(self, data: bytes) -> None:
        if self._asked is not None:
            self._asked.send(data)


class _Connection(asyncio.Protocol):
    """One master at a converter."""

    def __init__(self, owner: TcpLine) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        _no_delay(self._transport)
        self._owner.joined(self)

    def data_received(self, data: bytes) -> None:
        self._owner.asked(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.left(self)

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class InstantSlave(asyncio.Protocol):
    """Meters without wires: answers at once, however requests are cut or glued. For measuring
    how fast a master can be."""

    def __init__(self, bus: Bus, served: Counter[str]) -> None:
        self._bus = bus
        self._served = served
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        _no_delay(self._transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        while (frame := rtu.take_request(self._buffer)) is not None:
            answer = self._bus.answer(frame)
            self._served["requests"] += 1
            if answer is not None:
                self._transport.write(answer)


class RefusingPort:
    """A port that is ours and refuses everyone: bound, never listening."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.bind((host, 0))
        self.host: str = host
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


def _no_delay(transport: asyncio.Transport) -> None:
    """Small frames must leave at once: without this an answer may wait 40 ms for company."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
