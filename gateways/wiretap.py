"""The last frames of a line, always at hand, and live copies for whoever watches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

# A night of one line is some ten thousand frames; the last minutes explain a fault.
FRAMES_KEPT_MAX = 512
BYTES_KEPT_MAX = 64 * 1024  # so that 10,000 lines of long frames cannot fill the memory

# A watcher that reads slower than the line speaks loses the oldest frames, never the line's time.
WATCHER_FRAMES_MAX = 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes as they were handed to, or came from, a link. Not always one whole frame."""

    at_s: float  # seconds since 1970, UTC
    sent: bool  # False: received
    data: bytes

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.at_s, UTC)


class Watcher:
    """One live view: `async for frame in watcher`. Slow readers lose frames, counted in `lost`."""

    def __init__(self, frames_max: int) -> None:
        self.lost = 0
        self._frames_max = frames_max
        self._frames: deque[Frame] = deque()
        self._news = asyncio.Event()

    def offer(self, frame: Frame) -> None:
        if len(self._frames) >= self._frames_max:
            self._frames.popleft()
            self.lost += 1
        self._frames.append(frame)
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while True:
            while self._frames:
                yield self._frames.popleft()
            self._news.clear()
            await self._news.wait()


class Wiretap:
    """A ring bounded by frames and by bytes."""

    __slots__ = ("_bytes_kept", "_bytes_max", "_frames_max", "_ring", "_watchers")

    def __init__(self, frames_max: int = FRAMES_KEPT_MAX, bytes_max: int = BYTES_KEPT_MAX) -> None:
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._ring: deque[tuple[float, bool, bytes]] = deque()
        self._bytes_kept = 0
        self._watchers: list[Watcher] = []

    def record(self, at_s: float, sent: bool, data: bytes) -> None:
        """Called for each write and each chunk received: the fast path of the line."""
        ring = self._ring
        ring.append((at_s, sent, data))
        self._bytes_kept += len(data)
        while len(ring) > self._frames_max or self._bytes_kept > self._bytes_max:
            self._bytes_kept -= len(ring.popleft()[2])
        if self._watchers:
            frame = Frame(at_s, sent, data)
            for watcher in self._watchers:
                watcher.offer(frame)

    def frames(self) -> tuple[Frame, ...]:
        """What is kept, oldest first."""
        return tuple(Frame(*kept) for kept in self._ring)

    @contextmanager
    def watch(self, frames_max: int = WATCHER_FRAMES_MAX) -> Iterator[Watcher]:
        """From now on, as it happens: `with wiretap.watch() as watcher: async for …`."""
        watcher = Watcher(frames_max)
        self._watchers.append(watcher)
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)
