"""RTU frames over TCP, dialled by us: a serial converter on the property's own network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from gateways.link import LinkDown, LinkUser
from gateways.sockets import tune, why_lost

# A converter on the same network answers a call within milliseconds, over a mobile router seconds.
CONNECT_S_MAX = 10.0


class TcpLink(asyncio.Protocol):
    """One connection. A ByteLink that tells its keeper when it is gone."""

    def __init__(self, host: str, port: int) -> None:
        self.name = f"tcp {host}:{port}"
        self._address = f"{host}:{port}"
        self._user: LinkUser | None = None
        self._transport: asyncio.Transport | None = None
        self._lost: str | None = None
        self._closed = asyncio.Event()

    # ByteLink

    def start(self, user: LinkUser) -> None:
        self._user = user
        if self._lost is not None:  # lost before anybody listened
            asyncio.get_running_loop().call_soon(user.link_lost, self._lost)

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise LinkDown(self._lost or f"{self._address}: the connection is closed")
        transport.write(data)

    def close(self) -> None:
        self._user = None
        self._closed.set()
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        tune(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        if self._user is not None:
            self._user.bytes_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost = f"{self._address}: {why_lost(exc)}"
        self._closed.set()
        if self._user is not None:
            self._user.link_lost(self._lost)


async def dial(host: str, port: int, *, connect_s_max: float = CONNECT_S_MAX) -> TcpLink:
    """Open one connection. Raises LinkDown with the reason as one clause."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(connect_s_max):
            _, link = await loop.create_connection(lambda: TcpLink(host, port), host, port)
    except TimeoutError:
        raise LinkDown(
            f"{host}:{port} does not answer: check its power, network, address"
        ) from None
    except ConnectionRefusedError:
        raise LinkDown(f"{host}:{port} refuses the connection: check the port number") from None
    except OSError as error:
        raise LinkDown(f"{host}:{port} cannot be reached: {why_lost(error)}") from error
    return link


def dialler(host: str, port: int) -> Callable[[], Awaitable[TcpLink]]:
    """For keep_open()."""
    return lambda: dial(host, port)
