"""Keeps the nights of all sites going: opens, collects, closes, back-fills.

Everything starts from `tick`, which may be called at any time and any number of times.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from gateways.turns import Priority
from headend.domain.clock import Clock
from headend.domain.nights import GapReason, NightWindow, due_nights
from headend.services.back_fills import BackFills
from headend.services.backfill import fill_from_memory
from headend.services.lines import LineAtWork, LineBook
from headend.services.looks import Looked, MeterAtWork, Missed, look
from headend.services.nightly import LineProgress, NightRun, Pace, as_look
from headend.services.sink import Sink
from headend.store import nights as store
from headend.store.database import Database
from headend.store.errors import DatabaseAway
from headend.store.places import KnownSite
from protocols.reading import Quantity

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """The night a site is collecting."""

    night_id: int
    run: NightRun
    task: asyncio.Task[None]


class NightService:
    """Nights of every site in the line book."""

    def __init__(
        self,
        database: Database,
        lines: LineBook,
        sink: Sink,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self._database = database
        self._lines = lines
        self._sink = sink
        self._clock = clock
        self._pace = pace or Pace()
        self._running: dict[str, _Running] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self.back_fills = BackFills(database, lines, sink, clock)  # those that people ask for
        self._reading: dict[str, asyncio.Task[None]] = {}  # by line: meters nobody waits for

    async def stop(self) -> None:
        """Stop collecting; cells stay open and the next start goes on with them."""
        await self.back_fills.stop()
        reading = list(self._reading.values())
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for running in self._running.values():
            running.task.cancel()
        for running in self._running.values():
            with contextlib.suppress(asyncio.CancelledError):
                await running.task
        self._running.clear()

    async def tick(self, site_name: str) -> None:
        """Do whatever is due for one site. Safe at any time; with the database away it is a no-op
        that the next tick repeats."""
        site = self._lines.sites.get(site_name)
        if site is None:
            return
        try:
            async with self._turns.setdefault(site_name, asyncio.Lock()):
                await self._tick(site)
        except DatabaseAway as error:
            log.warning("site %s: nights wait for the database: %s", site_name, error)

    async def _tick(self, site: KnownSite) -> None:
        now = self._clock.now()
        async with self._database.transaction() as tx:
            last = await store.last_night(tx, site.site_id)
            due = due_nights(site.place, now, site.known_since, last)
            for window in due.missed:
                await store.open_night(tx, site.site_id, window, reason=GapReason.HEAD_END_DOWN)
            if due.current is None:
                return
            late = now >= due.current.closes_at
            night_id = await store.open_night(
                tx,
                site.site_id,
                due.current,
                reason=GapReason.HEAD_END_DOWN if late else GapReason.NOT_TRIED,
            )
            await store.close_nights(tx, site.site_id, now)
        if due.missed:
            log.warning("site %s: %d nights passed unread", site.name, len(due.missed))
        await self._collect(site, night_id, due.current, self._pace)

    async def collect_now(self, site_name: str, pace: Pace, hours: int = 6) -> NightRun:
        """Open tonight's night at once and collect it; for a demonstration or a rehearsal.

        Returns the run; `wait` on it through `finished`.
        """
        site = self._lines.sites[site_name]
        now = self._clock.now()
        window = NightWindow(
            night=now.astimezone(site.place.time_zone).date(),
            opens_at=now,
            closes_at=now + timedelta(hours=hours),
        )
        async with self._turns.setdefault(site_name, asyncio.Lock()):
            async with self._database.transaction() as tx:
                night_id = await store.open_night(
                    tx, site.site_id, window, reason=GapReason.NOT_TRIED
                )
            return await self._collect(site, night_id, window, pace)

    async def finished(self, site_name: str) -> None:
        """Wait until the run of this site has nothing left to ask and all of it is stored."""
        running = self._running.get(site_name)
        if running is not None:
            await asyncio.shield(running.task)
        await self._sink.flush()

    async def _collect(
        self, site: KnownSite, night_id: int, window: NightWindow, pace: Pace
    ) -> NightRun:
        name = site.name
        running = self._running.get(name)
        if running is not None and running.night_id == night_id and not running.task.done():
            return running.run
        if running is not None:
            running.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running.task
        async with self._database.transaction() as tx:
            waiting = await store.open_cells(tx, night_id)
        run = NightRun(
            night_id=night_id,
            closes_at=window.closes_at,
            work=self._work(name, waiting),
            sink=self._sink,
            clock=self._clock,
            pace=pace,
        )
        task = asyncio.create_task(self._run(site, run), name=f"nights of {name}")
        self._running[name] = _Running(night_id, run, task)
        return run

    def _work(
        self, site_name: str, waiting: Sequence[int]
    ) -> list[tuple[LineAtWork, list[MeterAtWork]]]:
        """Open cells by line, in the order given: least recently tried first."""
        by_line: dict[str, list[MeterAtWork]] = {}
        for meter_id in waiting:
            meter = self._lines.by_id.get(meter_id)
            if meter is not None:
                by_line.setdefault(meter.known.line, []).append(meter)
        return [
            (at_work, by_line[at_work.name])
            for at_work in self._lines.lines.values()
            if at_work.name in by_line and at_work.site == site_name
        ]

    async def _run(self, site: KnownSite, run: NightRun) -> None:
        try:
            await run.run()
            await self._sink.flush()
            await fill_from_memory(self._database, self._lines, site, self._clock)
        except asyncio.CancelledError:
            raise
        except DatabaseAway as error:
            log.warning("site %s: back-filling waits for the database: %s", site.name, error)
        except Exception:
            log.exception("the night of site %s stopped", site.name)

    def restart(self, site_name: str) -> None:
        """After an import: what runs was made for the old meters. The next tick makes a new one."""
        running = self._running.pop(site_name, None)
        if running is not None:
            running.task.cancel()

    def progress(self, site_name: str) -> list[LineProgress]:
        """How far each line of the site is."""
        running = self._running.get(site_name)
        return running.run.progress if running is not None else []

    def read_soon(self, meters: Sequence[MeterAtWork]) -> None:
        """Read these once, each line by itself, and come back at once. A line that is being read
        so already goes on with what it has."""
        by_line: dict[str, list[MeterAtWork]] = {}
        for meter in meters:
            by_line.setdefault(meter.known.line, []).append(meter)
        for line, waiting in by_line.items():
            if line not in self._reading:
                work = self._read_all(line, waiting)
                self._reading[line] = asyncio.create_task(work, name=f"first look at {line}")

    @property
    def lines_being_read(self) -> frozenset[str]:
        """Lines on which `read_soon` is not through."""
        return frozenset(self._reading)

    async def _read_all(self, line: str, meters: Sequence[MeterAtWork]) -> None:
        try:
            for meter in meters:
                if line in self._lines.lines:  # it may be taken out meanwhile
                    outcome = await self._look_at(meter)
                    if isinstance(outcome, Looked):
                        await self._sink.put_look(as_look(meter, outcome))
        finally:
            del self._reading[line]

    async def read_now(self, meter: MeterAtWork) -> Looked | Missed:
        """Read everything one meter tells, before all waiting polls.

        The database has it when this comes back, or is away: whoever reads a meter because a sale
        was refused without its count may sell the next moment.
        """
        outcome = await self._look_at(meter)
        if isinstance(outcome, Looked):
            await self._sink.keep_look(as_look(meter, outcome))
        return outcome

    async def _look_at(self, meter: MeterAtWork) -> Looked | Missed:
        return await look(
            self._lines.lines[meter.known.line].line,
            meter,
            self._clock,
            priority=Priority.ASKED_NOW,
            wanted=frozenset(Quantity),
        )
