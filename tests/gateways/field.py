"""A meter at the far end of a real wire, for tests: small, scripted, and none of our codecs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

# Generous: it is reached only when something is broken.
# More than the 30 s for which a meter on a mobile link that missed one time-out is left alone: on
# a busy machine that happens.
PATIENCE_S = 60.0


def checksum(frame: bytes) -> bytes:
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


def reply(frame: bytes) -> bytes:
    """What a healthy meter says: each register holds its own address; writes are echoed."""
    if frame[1] == 16:
        return frame[:6] + checksum(frame[:6])
    address, count = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
    data = b"".join((address + n).to_bytes(2, "big") for n in range(count))
    body = bytes((frame[0], frame[1], len(data))) + data
    return body + checksum(body)


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition of the real world, with patience."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def converter(
    answer: Callable[[bytes], bytes] = reply, port: int = 0
) -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """A serial converter on loopback: its port, and its open connections."""
    calls: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(writer)
        with contextlib.suppress(ConnectionError):
            while frame := await reader.read(256):
                writer.write(answer(frame))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1], calls
    finally:
        server.close()
        for writer in calls:
            writer.close()
        await server.wait_closed()


class PtyMeter:
    """A meter on a pseudo-terminal, known to us by a name that outlives it: like a USB adapter."""

    def __init__(self, device: Path) -> None:
        self.device = device
        self.heard: list[bytes] = []
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        device.unlink(missing_ok=True)
        device.symlink_to(os.ttyname(self._slave))
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _read(self) -> None:
        try:
            frame = os.read(self._master, 256)
        except OSError:
            return
        self.heard.append(frame)
        os.write(self._master, reply(frame))

    def unplug(self) -> None:
        """The adapter is pulled: the name and the port are gone."""
        asyncio.get_running_loop().remove_reader(self._master)
        self.device.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self._master)


@contextlib.contextmanager
def pty_meter(device: Path) -> Iterator[PtyMeter]:
    meter = PtyMeter(device)
    try:
        yield meter
    finally:
        meter.unplug()


@contextlib.asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[None]:
    """A keeper in the background, cancelled at the end."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Dtu:
    """A box that dials in: what it says is up to the test, what it heard is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heard = b""
        self.hung_up = asyncio.Event()
        self._listening = asyncio.ensure_future(self._listen())
        self.answers = False

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(256):
                self.heard += data
                if self.answers:
                    self.writer.write(reply(data))
        self.hung_up.set()

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hang_up(self) -> None:
        self.writer.close()
        self._listening.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await self._listening
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def dtu(port: int, first_words: bytes = b"") -> AsyncIterator[Dtu]:
    box = Dtu(*await asyncio.open_connection("127.0.0.1", port))
    if first_words:
        box.say(first_words)
    try:
        yield box
    finally:
        await box.hang_up()
