"""An asyncio loop on virtual time: sleeping costs nothing, real sockets still work.

Time jumps to the next timer only when no socket is ready and no transaction is open. So a test of
a night takes milliseconds, and the same seed gives the same night on a slow and on a fast machine.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# How long a real device may take to answer while a transaction is open. Far above any loopback
# round trip; only a mistake in the test (waiting on simulated bytes inside a transaction) meets it.
FROZEN_WAIT_S_MAX = 5.0


class SimTimeError(RuntimeError):
    """The simulation cannot go on; the text says what to look for."""


class _JumpSelector(selectors.DefaultSelector):
    """Waits for nothing: either something is ready now, or the clock jumps."""

    loop: SimLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if self.loop.transactions_open:
            events = super().select(FROZEN_WAIT_S_MAX)  # a real socket must answer: time stands
            if not events:
                raise SimTimeError("time is frozen: a transaction is open and no socket answers")
            return events
        if timeout is None:
            raise SimTimeError("deadlock: no timer is set and no socket is ready")
        self.loop.now_s += timeout
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """A selector loop whose clock is `now_s`.

    `transactions_open` is raised and lowered by whoever talks to a real database: while it is not
    zero, time stands still, so that database latency never shows up as simulated seconds.
    """

    def __init__(self) -> None:
        selector = _JumpSelector()
        selector.loop = self
        self.now_s = 0.0
        self.transactions_open = 0
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


def run(main: Coroutine[Any, Any, T]) -> T:
    """Like asyncio.run, on virtual time. Raises SimTimeError when the coroutine can never end."""
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(main)
