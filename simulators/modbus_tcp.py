"""A cabinet or meter with an Ethernet port: Modbus TCP over the same simulated meters.

Written from the Modbus TCP description: transaction number, protocol 0, length, unit, PDU.
"""

from __future__ import annotations

import asyncio
import struct
from typing import cast

from simulators import rtu
from simulators.faults import Faults
from simulators.modbus_meter import Bus
from simulators.wire import LineReport, SlaveLine, WireTiming

HEAD = struct.Struct(">HHHB")
PACKING_GAP_S = 0.005


class ModbusTcpLine:
    """Answers one request after the other. `numbers` False: every answer has number 0."""

    def __init__(
        self,
        bus: Bus,
        *,
        host: str = "127.0.0.1",
        port: int = 0,  # 0: any free one, kept over unplugging
        timing: WireTiming | None = None,
        faults: Faults | None = None,
        numbers: bool = True,
    ) -> None:
        self.host, self.port = host, port
        self.numbers = numbers
        self.line = SlaveLine(
            bus, self._answered, timing=timing, faults=faults, frame_gap_s=PACKING_GAP_S
        )
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._asked: tuple[_Connection, int] | None = None

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
        self.drop()
        self.line.stop()
        await self._server.wait_closed()
        self._server = None

    def drop(self) -> None:
        """Hang up on everybody."""
        for connection in tuple(self._connections):
            connection.drop()

    def joined(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def left(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    def asked(self, connection: _Connection, number: int, frame: bytes) -> None:
        self._asked = (connection, number)
        self.line.bytes_from_master(frame)

    def _answered(self, data: bytes) -> None:
        if self._asked is None or not rtu.is_sealed(data):
            return  # what the wires garbled never leaves the box
        connection, number = self._asked
        unit, pdu = data[0], data[1:-2]
        connection.send(HEAD.pack(number if self.numbers else 0, 0, len(pdu) + 1, unit) + pdu)


class _Connection(asyncio.Protocol):
    """One master."""

    def __init__(self, owner: ModbusTcpLine) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.joined(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= HEAD.size:
            number, protocol, length, unit = HEAD.unpack_from(self._buffer)
            end = 6 + length
            if protocol != 0 or not 2 <= length <= 254:
                self.drop()
                return
            if len(self._buffer) < end:
                return
            pdu, self._buffer = self._buffer[HEAD.size : end], self._buffer[end:]
            self._owner.asked(self, number, rtu.sealed(bytes((unit,)) + pdu))

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.left(self)

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()
