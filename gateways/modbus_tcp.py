"""Modbus TCP, dialled by us through pymodbus: cabinets with an Ethernet port, smarter converters.

Drivers build RTU frames and know nothing of this. The link takes the frame apart, lets pymodbus
carry its PDU under a transaction number, and gives the answer back as the RTU frame a wire would
have brought. So a command is as safe here as on a wire, and a late answer is recognised by its
number as well.

pymodbus never owns a write beyond this: no retries, no reconnection of its own (the keeper opens a
new link, and the line decides what the loss means).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import cache

from pymodbus import ModbusException
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.pdu import ExceptionResponse, ModbusPDU

from gateways.link import LinkDown, LinkUser
from gateways.tcp_link import CONNECT_S_MAX
from protocols.modbus import seal

log = logging.getLogger(__name__)
# Silence is told by the line, once; pymodbus would say each of them at error level.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

# Longer than any line waits for an answer: the line gives up first, and says so itself.
ANSWER_S_MAX = 130.0
FUNCTION_MAX = 0x7F  # above it a function code means a refusal


class _Raw(ModbusPDU):
    """A PDU as its bytes: what it means is the driver's business."""

    def __init__(self, unit: int = 0, body: bytes = b"") -> None:
        super().__init__(dev_id=unit)
        self.body = body

    def encode(self) -> bytes:
        return self.body

    def decode(self, data: bytes) -> None:
        self.body = bytes(data)


@cache
def _raw_of(function: int) -> type[_Raw]:
    """The class of one function code, by which pymodbus recognises its answers."""
    return type(f"_Raw{function:02X}", (_Raw,), {"function_code": function})


class ModbusTcpLink:
    """One connection. A ByteLink that tells its keeper when it is gone."""

    def __init__(self, host: str, port: int) -> None:
        self.name = f"modbus tcp {host}:{port}"
        self._address = f"{host}:{port}"
        self._user: LinkUser | None = None
        self._lost: str | None = None
        self._closed = asyncio.Event()
        self._exchange: asyncio.Task[None] | None = None
        self._known: set[int] = set()  # function codes whose answers pymodbus recognises
        self._client = AsyncModbusTcpClient(
            host,
            port=port,
            timeout=CONNECT_S_MAX,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._connection_changed,
        )

    async def open(self) -> None:
        """Connect. Raises LinkDown with the reason as one clause."""
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                connected = await self._client.connect()
        except (TimeoutError, OSError, ModbusException):
            connected = False
        if not connected:
            self._client.close()
            raise LinkDown(f"{self._address} cannot be reached: check its power, network, address")
        # From here on the same number is how long an answer is waited for.
        self._client.ctx.comm_params.timeout_connect = ANSWER_S_MAX

    # ByteLink

    def start(self, user: LinkUser) -> None:
        self._user = user
        if self._lost is not None:  # lost before anybody listened
            asyncio.get_running_loop().call_soon(user.link_lost, self._lost)

    def write(self, data: bytes) -> None:
        if self._closed.is_set() or not self._client.connected:
            raise LinkDown(self._lost or f"{self._address}: the connection is closed")
        before = self._exchange
        self._exchange = asyncio.create_task(self._carry(data, before), name=self.name)

    def close(self) -> None:
        self._user = None
        self._end()
        self._client.close()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    # one exchange

    async def _carry(self, frame: bytes, before: asyncio.Task[None] | None) -> None:
        """Send one request, once; hand up its answer, if it comes while somebody waits for it."""
        if before is not None:  # the line has given it up: its answer is nobody's any more
            before.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await before
        unit, function, body = frame[0], frame[1], frame[2:-2]
        if function > FUNCTION_MAX or not self._client.connected:
            return  # an enciphered frame has no function code to carry: the line hears silence
        if function not in self._known:
            self._client.register(_raw_of(function))
            self._known.add(function)
        request = _raw_of(function)(unit, body)
        try:
            answer = await self._client.execute(False, request)
        except ModbusException as error:
            log.debug("%s: %s", self.name, error)
            return
        # Some boxes answer under number 0: then nothing tells a late answer from the next one.
        if answer.transaction_id == request.transaction_id and self._user is not None:
            self._user.bytes_received(seal(_rtu_of(unit, function, answer)))

    # pymodbus

    def _connection_changed(self, connected: bool) -> None:
        if connected or self._closed.is_set():
            return
        self._lost = f"{self._address}: the other side hung up"
        user = self._user
        self._end()
        if user is not None:
            user.link_lost(self._lost)

    def _end(self) -> None:
        self._closed.set()
        if self._exchange is not None:
            self._exchange.cancel()


def _rtu_of(unit: int, function: int, answer: ModbusPDU) -> bytes:
    """The answer as a wire would have brought it, without its checksum."""
    if isinstance(answer, ExceptionResponse):
        return bytes((unit, function | 0x80, answer.exception_code))
    assert isinstance(answer, _Raw)
    return bytes((unit, answer.function_code)) + answer.body


async def dial(host: str, port: int) -> ModbusTcpLink:
    """Open one connection. Raises LinkDown with the reason as one clause."""
    link = ModbusTcpLink(host, port)
    await link.open()
    return link


def dialler(host: str, port: int) -> Callable[[], Awaitable[ModbusTcpLink]]:
    """For keep_open()."""
    return lambda: dial(host, port)
