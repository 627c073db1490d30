"""Where readings wait until the database has them: in memory, then on disk, never nowhere.

A look at a meter costs the line a turn; the result must not be lost because the database is away
for a minute. The sink takes readings and gaps at any time, stores them in batches, and when the
database is away keeps them: up to `waiting_max` in memory, older ones in the spool on disk. Storing
is idempotent (one reading per meter and instant), so a batch whose commit was not heard is simply
stored again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headend.services.patience import Pauses
from headend.store.errors import DatabaseAway, DatabaseRefused, DiskFull, StoreError
from headend.store.nights import Gap, Look
from headend.store.spool import Spool, SpoolFull

log = logging.getLogger(__name__)

Save = Callable[[Sequence[Look], Sequence[Gap]], Awaitable[None]]

BATCH_ROWS_MAX = 500  # one transaction; larger gains nothing (bench/readings.py)
# Waiting this long lets the readings of many lines share one commit.
GATHER_S = 0.1
AWAY_RETRY_S = 1.0  # how often an absent database is tried again
# A person who asked for a reading waits this long for its commit, which takes milliseconds.
KEPT_S_MAX = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkState:
    """How much waits, for /health and the console."""

    waiting: int
    spooled_bytes: int
    stored: int
    database_away: bool


class Sink:
    """Takes looks and gaps; a task of its own stores them through `save`."""

    def __init__(self, save: Save, spool: Spool, *, waiting_max: int) -> None:
        self._save = save
        self._spool = spool
        self._waiting_max = waiting_max
        self._looks: deque[Look] = deque()
        # Only the last reason of a cell counts, so gaps need no bound of their own.
        self._gaps: dict[tuple[int, int], Gap] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._awaited: dict[int, asyncio.Event] = {}  # by id() of the look
        self._on_safe: dict[int, Callable[[], None]] = {}  # by id() of the look
        self._stored = 0
        self._away = False
        self._spool_refused = False
        self._rows_max = BATCH_ROWS_MAX
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin storing; what an earlier process left in the spool goes first."""
        self._task = asyncio.create_task(self._run(), name="sink")
        if not self._spool.is_empty:
            self._touch()

    async def stop(self) -> None:
        """Store what waits or, with the database away, leave it in the spool."""
        if self._task is None:
            return
        if not self._away:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AWAY_RETRY_S):
                    await self._idle.wait()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._looks:
            await self._to_spool(0)

    async def flush(self) -> None:
        """Wait until everything given so far is in the database."""
        await self._idle.wait()

    async def put_look(self, look: Look, on_safe: Callable[[], None] | None = None) -> None:
        """Take one reading. Waits only while the oldest ones are being written to disk. `on_safe`
        is called once the reading outlives this program: in the database, or on disk."""
        if on_safe is not None:
            self._on_safe[id(look)] = on_safe
        self._looks.append(look)
        self._touch()
        if len(self._looks) > self._waiting_max:
            await self._to_spool(self._waiting_max // 2)

    async def keep_look(self, look: Look) -> bool:
        """Take one reading and come back once the database has it, whatever else waits.

        False: it waits like every other, because the database is away or slow.
        """
        stored = self._awaited[id(look)] = asyncio.Event()
        try:
            await self.put_look(look)
            if not self._away:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KEPT_S_MAX):
                        await stored.wait()
        finally:
            del self._awaited[id(look)]
        return stored.is_set()

    def put_gap(self, gap: Gap) -> None:
        """Take the reason why a cell is still empty; a later one replaces it."""
        self._gaps[gap.night_id, gap.meter_id] = gap
        self._touch()

    def state(self) -> SinkState:
        """What waits now."""
        return SinkState(
            waiting=len(self._looks) + len(self._gaps),
            spooled_bytes=self._spool.size_bytes,
            stored=self._stored,
            database_away=self._away,
        )

    def _touch(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def _run(self) -> None:
        pauses = Pauses()
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(GATHER_S)
            while self._looks or self._gaps or not self._spool.is_empty:
                try:
                    await self._store_some()
                except (DatabaseAway, DiskFull) as error:
                    self._fell(error)
                    await asyncio.sleep(AWAY_RETRY_S)
                except DatabaseRefused as error:
                    await self._find_the_refused(error)
                except Exception:
                    log.exception("readings wait: storing them met a fault")
                    await asyncio.sleep(pauses.next_s())
                else:
                    self._rose()
                    pauses.over()
                    self._rows_max = min(2 * self._rows_max, BATCH_ROWS_MAX)
            if not self._wake.is_set():
                self._idle.set()

    async def _store_some(self) -> None:
        """One transaction. Nothing is forgotten before its commit was heard."""
        if not self._spool.is_empty:
            part = await asyncio.to_thread(self._spool.peek, self._rows_max)
            await self._save(part.looks, ())
            await asyncio.to_thread(self._spool.forget, part)
            self._stored += len(part.looks)
            return
        looks = [self._looks[i] for i in range(min(self._rows_max, len(self._looks)))]
        gaps = list(self._gaps.values())[: self._rows_max - len(looks)]
        await self._save(looks, gaps)
        for look in looks:
            self._looks.popleft()
            if (stored := self._awaited.get(id(look))) is not None:
                stored.set()
            self._is_safe(look)
        for gap in gaps:
            if self._gaps.get((gap.night_id, gap.meter_id)) is gap:
                del self._gaps[gap.night_id, gap.meter_id]
        self._stored += len(looks)

    async def _find_the_refused(self, error: DatabaseRefused) -> None:
        """One row that the database will never take must not hold up all others.

        Smaller and smaller batches find it. A reading is set aside on disk, as it is: put back into
        the spool's folder, it is stored at the next start. A gap is said and forgotten.
        """
        if self._rows_max > 1:
            self._rows_max = max(1, self._rows_max // 8)
            return
        aside = self._spool.folder.with_name(f"{self._spool.folder.name}-refused")
        if not self._spool.is_empty:
            part = await asyncio.to_thread(self._spool.peek, 1)
            await asyncio.to_thread(_set_aside, aside, part.looks)
            await asyncio.to_thread(self._spool.forget, part)
        elif self._looks:
            await asyncio.to_thread(_set_aside, aside, [self._looks[0]])
            self._is_safe(self._looks.popleft())
        else:
            self._gaps.pop(next(iter(self._gaps)))
        log.error("%s A reading was set aside in %s", error, aside)

    async def _to_spool(self, keep: int) -> None:
        moved = [self._looks.popleft() for _ in range(len(self._looks) - keep)]
        try:
            await asyncio.to_thread(self._spool.append, moved)
        except SpoolFull as error:
            # Memory is the last place left; the meters still hold their counters.
            self._looks.extendleft(reversed(moved))
            if not self._spool_refused:
                log.error("%s; %d readings stay in memory", error, len(self._looks))
            self._spool_refused = True
        else:
            self._spool_refused = False
            for look in moved:
                self._is_safe(look)

    def _is_safe(self, look: Look) -> None:
        if (on_safe := self._on_safe.pop(id(look), None)) is not None:
            on_safe()

    def _fell(self, error: StoreError) -> None:
        if not self._away:
            log.warning("readings wait, the database is away: %s", error)
        self._away = True

    def _rose(self) -> None:
        if self._away:
            log.info("the database is back, %d readings wait", len(self._looks))
        self._away = False


def _set_aside(folder: Path, looks: Sequence[Look]) -> None:
    Spool(folder).append(looks)
