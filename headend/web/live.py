"""Rings open pages when something became of a command: one listener for all of them.

The listener lives as long as somebody watches. A lost notice costs at most LOOK_S, after which
every page looks by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from headend.store.commands import COMMAND_EVENTS
from headend.store.database import Database

LOOK_S: Final = 5.0
# Many events in one moment are one look.
SETTLE_S: Final = 0.05


class Bell:
    """Somebody's pages wait here."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watchers: set[asyncio.Event] = set()
        self._listener: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Watch]:
        """While the block runs, its watch is rung."""
        rung = asyncio.Event()
        self._watchers.add(rung)
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="rings the desk")
        try:
            yield Watch(rung)
        finally:
            self._watchers.discard(rung)
            if not self._watchers and self._listener is not None:
                listener, self._listener = self._listener, None
                listener.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await listener

    async def _listen(self) -> None:
        async for _ in self._database.listen(COMMAND_EVENTS):
            for watcher in self._watchers:
                watcher.set()


class Watch:
    """One page's ear."""

    def __init__(self, rung: asyncio.Event) -> None:
        self._rung = rung

    async def wait(self, patience_s: float = LOOK_S) -> bool:
        """Until something happened; False when nothing did for `patience_s`."""
        try:
            async with asyncio.timeout(patience_s):
                await self._rung.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(SETTLE_S)
        self._rung.clear()
        return True
