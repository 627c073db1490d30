"""Virtual time for tests of patience: waiting costs nothing and never races the machine."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from simulators.clockloop import run


def virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop whose clock jumps when everybody waits."""

    @functools.wraps(test)
    def on_virtual_time(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return on_virtual_time


class FakeLink:
    """A ByteLink on virtual time. `meter` gets each frame and says what comes back, and when.

    `sent` keeps what left and the loop's time then.
    """

    def __init__(
        self,
        meter: Callable[[bytes], list[tuple[float, bytes]]],
        now: Callable[[], float],
        later: Callable[..., Any],
        name: str = "fake",
    ) -> None:
        self.name = name
        self.sent: list[tuple[float, bytes]] = []
        self.closed = False
        self.user: Any = None
        self._meter = meter
        self._now = now
        self._later = later
        self._news = asyncio.Event()

    def start(self, user: Any) -> None:
        self.user = user

    def write(self, data: bytes) -> None:
        self.sent.append((self._now(), data))
        self._news.set()
        for delay_s, reply in self._meter(data):
            self._later(delay_s, self.user.bytes_received, reply)

    def close(self) -> None:
        self.closed = True

    async def sent_function(self, function: int) -> None:
        """Come back once a frame with this function code has left."""
        while not any(frame[1] == function for frame in self.frames):
            self._news.clear()
            await self._news.wait()

    @property
    def frames(self) -> list[bytes]:
        return [frame for _, frame in self.sent]
