"""Virtual time for tests of patience: waiting costs nothing and never races the machine.

And what they share: a link with a scripted meter, a line on it, and short conversations.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from gateways.line import Line
from gateways.timing import LineTiming
from protocols.exchange import Answer, Conversation, Evidence, Intent, ask, ask_reply
from protocols.modbus import read_registers, seal, write_registers
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


TIMING = LineTiming(reply_timeout_s=1.0, reply_late_s_max=2.0, start_quiet_s=0.0)
REPLY_S = 0.05
Script = list[tuple[float, bytes]]


def words(unit: int, *values: int) -> bytes:
    """The answer of a meter to a read of so many registers."""
    data = b"".join(value.to_bytes(2, "big") for value in values)
    return seal(bytes((unit, 3, len(data))) + data)


def lively(frame: bytes) -> Script:
    """A meter that answers at once: the registers read as their own addresses."""
    if frame[1] == 16:
        return [(REPLY_S, seal(frame[:6]))]
    address, count = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
    return [(REPLY_S, words(frame[0], *range(address, address + count)))]


def mute(frame: bytes) -> Script:
    return []


def fake(meter: object = lively, name: str = "fake") -> FakeLink:
    loop = asyncio.get_running_loop()
    return FakeLink(meter, loop.time, loop.call_later, name)  # type: ignore[arg-type]


def line_on(link: FakeLink, timing: LineTiming = TIMING) -> Line:
    line = Line("L1", timing)
    line.attach(link)
    return line


def read(unit: int, address: int = 0) -> Conversation[bytes]:
    return ask_reply(read_registers(unit, address, 1))


def write_then_look(unit: int) -> Conversation[Answer]:
    yield from ask(read_registers(unit, 0, 1))
    yield Intent(Evidence(purchase_count=3))
    yield from ask(write_registers(unit, 0x10, (1,)))
    return (yield from ask(read_registers(unit, 0, 1)))


async def recorded(before: Evidence) -> None:
    """Intents of these tests need no keeping."""
