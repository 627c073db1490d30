"""What must go on for ever goes on after a fault, too: said aloud, and begun anew.

A task that ends by an exception ends in silence; whatever it did for the meters is missed days
later. So each task that lives as long as the program runs in `for_ever`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

FAULT_WAIT_S_FIRST = 1.0
FAULT_WAIT_S_MAX = 60.0
# Work that lasted so long after a fault is well again: the next fault waits shortly once more.
WELL_AFTER_S = 600.0
assert WELL_AFTER_S > FAULT_WAIT_S_MAX


class Pauses:
    """Growing pauses between two tries of something that meets a fault each time."""

    def __init__(self) -> None:
        self._next_s = FAULT_WAIT_S_FIRST

    def next_s(self) -> float:
        """How long to wait now."""
        now_s, self._next_s = self._next_s, min(2 * self._next_s, FAULT_WAIT_S_MAX)
        return now_s

    def over(self) -> None:
        """It went well."""
        self._next_s = FAULT_WAIT_S_FIRST


async def for_ever(what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work`, which should never end, until cancelled; a fault of it is logged.

    `work` begins from nothing each time, as after a restart of the program.
    """
    loop, pauses = asyncio.get_running_loop(), Pauses()
    while True:
        began_s = loop.time()
        try:
            await work()
        except Exception:
            log.exception("%s met a fault: begun anew soon", what)
        else:
            log.error("%s came to an end: begun anew soon", what)
        if loop.time() - began_s >= WELL_AFTER_S:
            pauses.over()
        await asyncio.sleep(pauses.next_s())
