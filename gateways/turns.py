"""Whose turn it is. A command goes before every waiting poll, never into the middle of one."""

from __future__ import annotations

import asyncio
import enum
import heapq


class Priority(enum.IntEnum):
    """Lower goes first; within one priority, first come first served."""

    COMMAND = 0  # money and relays
    ASKED_NOW = 1  # a person waits in front of a screen
    NIGHTLY = 2
    BACKFILL = 3  # holes of earlier nights, in the quiet hours


class Turns:
    """One at a time, strictly by priority.

    `if not turns.try_take(): await turns.wait(priority)`, then always `pass_on()`. Taking an
    uncontended turn costs no coroutine and no future: that is the usual case.

    Several lines share one of these where their box carries one request at a time.
    """

    __slots__ = ("_arrivals", "_busy", "_waiting", "hold_until_s")

    def __init__(self) -> None:
        # Kept by whoever spoke last: until then an answer nobody waits for may be under way.
        self.hold_until_s = 0.0
        self._busy = False
        self._arrivals = 0
        self._waiting: list[tuple[Priority, int, asyncio.Future[None]]] = []

    def try_take(self) -> bool:
        """Take the turn if nobody has it."""
        if self._busy:
            return False
        self._busy = True
        return True

    async def wait(self, priority: Priority) -> None:
        """Come back holding the turn. A cancelled wait leaves no trace."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._waiting, (priority, self._arrivals, mine))
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # it was handed over in the same moment
                self.pass_on()
            raise

    def pass_on(self) -> None:
        """Give the turn to the first who waits; if nobody does, it is free."""
        assert self._busy, "only the holder passes the turn on"
        while self._waiting:
            _, _, waiter = heapq.heappop(self._waiting)
            if not waiter.done():
                waiter.set_result(None)
                return
        self._busy = False

    def wanted_before(self, priority: Priority) -> bool:
        """Whether somebody more urgent than `priority` waits."""
        return any(rank < priority and not waiter.done() for rank, _, waiter in self._waiting)
