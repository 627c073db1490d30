"""An RS485 adapter of this machine, through pyserial-asyncio; works on pseudo-terminals as well."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import termios
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import serial
import serial_asyncio

from gateways.link import LinkDown, LinkUser
from gateways.sockets import why_lost

READ_BYTES_MAX = 1024  # four of the longest frames

# Pseudo-terminals (majors 136 to 143 on Linux) are a simulator's. They have no parity bit and will
# not take one. The simulator keeps its end open, so the exclusive mark would outlive a killed
# program and lock out the next one; the file lock does not.
PTY_MAJORS = range(136, 144)


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialSettings:
    """How the characters look. Parity "N", "E" or "O"."""

    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1


class _Port(serial.Serial):
    """pyserial's port, read and written without its select().

    select() cannot hold a descriptor of 1024 or higher, and there are such once a thousand sockets
    are open: reads then fail and the loop spins. The loop has told us already that bytes are there.
    """

    def read(self, size: int = READ_BYTES_MAX, /) -> bytes:
        try:
            data = os.read(self.fileno(), size)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise serial.SerialException(error.errno, os.strerror(error.errno or 0)) from error
        if not data:
            raise serial.SerialException("hung up")
        return data

    def flush(self) -> None:
        """Called when the transport ends. Waiting for the wire there would stop every line."""

    def close(self) -> None:
        if self.is_open:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.fileno(), termios.TIOCNXCL)
        super().close()


class SerialLink(asyncio.Protocol):
    """One opened port. A ByteLink that tells its keeper when it is gone."""

    def __init__(self, device: str, port: serial.Serial) -> None:
        self.name = device
        self._port = port
        self._user: LinkUser | None = None
        self._transport: asyncio.Transport | None = None
        self._lost: str | None = None
        self._closed = asyncio.Event()

    async def open(self) -> None:
        """Begin to read."""
        transport, _ = await serial_asyncio.connection_for_serial(
            asyncio.get_running_loop(), lambda: self, self._port
        )
        self._transport = transport

    # ByteLink

    def start(self, user: LinkUser) -> None:
        self._user = user
        if self._lost is not None:  # lost before anybody listened
            asyncio.get_running_loop().call_soon(user.link_lost, self._lost)

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise LinkDown(self._lost or f"{self.name} is closed")
        # Straight to the driver: a frame is far smaller than its buffer, and the silence before it
        # was measured for now, not for the loop's next round.
        try:
            taken = os.write(self._port.fileno(), data)
        except OSError as error:
            self._lost = f"{self.name} was unplugged ({why_lost(error)})"
        else:
            if taken == len(data):
                return
            self._lost = f"{self.name} takes no more bytes: check flow control of the adapter"
        transport.abort()
        raise LinkDown(self._lost)

    def close(self) -> None:
        self._user = None
        self._closed.set()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if self._user is not None:
            self._user.bytes_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost = self._lost or f"{self.name} was unplugged ({why_lost(exc)})"
        self._closed.set()
        if self._user is not None:
            self._user.link_lost(self._lost)


async def open_serial(device: str, settings: SerialSettings) -> SerialLink:
    """Open a port for ourselves alone. Raises LinkDown with the reason as one clause."""
    link = SerialLink(device, open_port(device, settings))
    await link.open()
    return link


def opener(device: str, settings: SerialSettings) -> Callable[[], Awaitable[SerialLink]]:
    """For keep_open()."""
    return lambda: open_serial(device, settings)


def open_port(device: str, settings: SerialSettings) -> serial.Serial:
    """The port itself, for ourselves alone. Raises LinkDown with the reason as one clause."""
    try:
        return _open_port(device, settings)
    except (OSError, ValueError, termios.error) as error:
        raise LinkDown(_why_not_opened(device, error)) from error


def _open_port(device: str, settings: SerialSettings) -> _Port:
    """Blocking, but a port opens in well under a millisecond, or not at all."""
    is_pty = os.major(Path(device).stat().st_rdev) in PTY_MAJORS
    port = _Port(
        device,
        baudrate=settings.baud,
        parity=serial.PARITY_NONE if is_pty else settings.parity,
        stopbits=settings.stop_bits,
        exclusive=True,  # a file lock: honoured by programs that ask for one
    )
    try:
        if not is_pty:
            fcntl.ioctl(port.fileno(), termios.TIOCEXCL)  # all other opens fail, asked for or not
    except OSError:
        port.close()
        raise
    return port


def _why_not_opened(device: str, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"{device} is not there: is the adapter plugged in?"
    if code in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK):
        return f"{device} is in use by another program: stop it or give this line another port"
    if code in (errno.EACCES, errno.EPERM):
        return f"{device} may not be opened by this user: add the user to its group (often dialout)"
    return f"{device} cannot be opened as a serial port: {error}"
