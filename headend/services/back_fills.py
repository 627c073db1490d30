"""Back-filling one night because a person asked: begun now instead of at the next tick.

What comes back stands in the cell with its origin: "frozen" where the meter kept its midnight,
"polled" where the night still reaches to this hour. A night that is over and of which a meter keeps
nothing can no longer be had from it, and that is said instead of a number.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from gateways.turns import Priority
from headend.domain.clock import Clock
from headend.domain.nights import GapReason
from headend.services.backfill import REMEMBERED, as_frozen_look, match, remembered
from headend.services.lines import LineBook
from headend.services.looks import MeterAtWork, Missed, look
from headend.services.nightly import as_look
from headend.services.sink import Sink
from headend.store import night_fills
from headend.store import nights as store
from headend.store.database import Database
from headend.store.errors import DatabaseAway
from headend.store.night_fills import NightToFill
from headend.store.nights import Gap, Look
from headend.store.places import KnownSite
from protocols.reading import Origin

log = logging.getLogger(__name__)

# What became of the last ones is told until as many others were asked for.
KEPT_MAX: Final = 50


class FillState(enum.Enum):
    """What became of one cell that was to be filled."""

    WAITING = "waiting"  # its turn has not come
    FILLED = "filled"  # it has its value; the origin says from where
    NOT_KEPT = "not_kept"  # the night is over and the meter keeps no value of its midnight
    MISSED = "missed"  # the meter could not be asked; the reason says why


@dataclass(slots=True)
class CellFill:
    """One meter in a back-fill."""

    meter: str
    line: str
    state: FillState = FillState.WAITING
    origin: Origin | None = None  # of the value that filled the cell
    reason: GapReason | None = None  # of a miss
    detail: str = ""  # of a miss, one sentence

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "meter": self.meter,
            "line": self.line,
            "state": self.state.value,
            "origin": self.origin.value if self.origin else None,
            "reason": self.reason.value if self.reason else None,
            "detail": self.detail,
        }


@dataclass(slots=True)
class BackFill:
    """The back-fill of one night that is going on, or the last one that was."""

    site: str
    night: NightToFill
    began_at: datetime
    ended_at: datetime | None = None  # None: it is going on
    interrupted: bool = False  # the database went away; what is left waits for another press
    cells: dict[int, CellFill] = field(default_factory=dict)  # by meter_id
    queues: dict[str, deque[int]] = field(default_factory=dict)  # by line
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # by line

    def count(self, state: FillState) -> int:
        """How many cells are in this state."""
        return sum(one.state is state for one in self.cells.values())

    def record(self) -> dict[str, object]:
        """For JSON: each meter that was to be asked, by line."""
        cells = sorted(self.cells.values(), key=lambda one: (one.line, one.meter))
        return {
            "site": self.site,
            "night": self.night.night.isoformat(),
            "began_at": self.began_at.isoformat(),
            "ended_at": self.ended_at.isoformat() if self.ended_at else None,
            "interrupted": self.interrupted,
            "meters": [one.record() for one in cells],
        }


class BackFills:
    """Back-fills that people asked for: one at a time of each night, each line by itself."""

    def __init__(self, database: Database, lines: LineBook, sink: Sink, clock: Clock) -> None:
        self._database = database
        self._lines = lines
        self._sink = sink
        self._clock = clock
        self._known: dict[tuple[str, date], BackFill] = {}  # the newest last

    def of(self, site_name: str, night: date) -> BackFill | None:
        """The back-fill of this night that goes on, or the last one; None: nobody asked."""
        return self._known.get((site_name, night))

    async def begin(
        self, site: KnownSite, night: date, meter: MeterAtWork | None = None
    ) -> BackFill | None:
        """Begin to fill the empty cells of a night, or that of one meter; comes back at once.

        None: there is no such night. Asked again while it goes on, it is the same one: nobody is
        asked twice for it, but a meter asked for by name that was missed gets another try.
        Raises DatabaseAway.
        """
        now = self._clock.now()
        async with self._database.transaction() as tx:
            wanted = await night_fills.night_to_fill(tx, site.site_id, night, now)
            empty = [] if wanted is None else await store.open_cells(tx, wanted.night_id)
        if wanted is None:
            return None
        fill = self.of(site.name, night)
        if fill is None or fill.ended_at is not None:
            fill = BackFill(site.name, wanted, now)
            self._keep(fill)
        for meter_id in empty:
            if meter is None or meter.known.meter_id == meter_id:
                self._add(fill, meter_id, again=meter is not None)
        if not fill.tasks:
            fill.ended_at = now
        return fill

    async def finished(self, site_name: str, night: date) -> None:
        """Wait until nothing of this night's back-fill is left to ask."""
        fill = self.of(site_name, night)
        while fill is not None and fill.tasks:
            await asyncio.wait(list(fill.tasks.values()))

    async def stop(self) -> None:
        """Stop asking; the cells keep what they have."""
        tasks = [task for fill in self._known.values() for task in fill.tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _keep(self, fill: BackFill) -> None:
        key = (fill.site, fill.night.night)
        self._known.pop(key, None)
        self._known[key] = fill
        ended = [one for one, known in self._known.items() if known.ended_at is not None]
        for one in ended[: max(0, len(self._known) - KEPT_MAX)]:
            del self._known[one]

    def _add(self, fill: BackFill, meter_id: int, *, again: bool) -> None:
        meter = self._lines.by_id.get(meter_id)
        before = fill.cells.get(meter_id)
        if meter is None:
            return
        if before is not None and not (again and before.state is FillState.MISSED):
            return
        line = meter.known.line
        fill.cells[meter_id] = CellFill(meter.known.name, line)
        fill.queues.setdefault(line, deque()).append(meter_id)
        if line not in fill.tasks:
            fill.tasks[line] = asyncio.create_task(
                self._run_line(fill, line), name=f"back-fill of {fill.night.night} on {line}"
            )

    async def _run_line(self, fill: BackFill, line: str) -> None:
        waiting = fill.queues[line]
        try:
            while waiting:
                meter_id = waiting.popleft()
                meter = self._lines.by_id.get(meter_id)
                if meter is None or meter.known.line not in self._lines.lines:
                    del fill.cells[meter_id]  # taken out meanwhile
                    continue
                await self._fill(fill, meter, fill.cells[meter_id])
        except DatabaseAway as error:
            waiting.clear()
            fill.interrupted = True
            log.warning("back-fill of %s on line %s: %s", fill.night.night, line, error)
        finally:
            del fill.tasks[line]
        if not fill.tasks:
            await self._end(fill)

    async def _end(self, fill: BackFill) -> None:
        """Whatever is still empty is estimated where it can be, as after every night."""
        await self._sink.flush()
        try:
            async with self._database.transaction() as tx:
                await store.estimate_cells(tx, fill.night.night_id)
        except DatabaseAway as error:
            fill.interrupted = True
            log.warning("back-fill of %s: %s", fill.night.night, error)
        if not fill.tasks:  # more may have been asked for meanwhile
            fill.ended_at = self._clock.now()

    async def _fill(self, fill: BackFill, meter: MeterAtWork, cell: CellFill) -> None:
        """One meter: its memory of that midnight first, then a look if the night reaches to now."""
        try:
            missed = await self._from_memory(fill.night, meter, cell)
            if cell.state is FillState.WAITING and fill.night.reaches_now:
                missed = await self._from_a_look(fill.night, meter, cell)
        except DatabaseAway:
            raise
        except Exception as error:
            # A fault of this program or of a driver costs this meter its turn, no more.
            log.exception("meter %s: a fault of this program", meter.known.name)
            said = f"a fault of this program: {type(error).__name__}"
            missed = Missed(self._clock.now(), GapReason.GARBLED, said)
        if cell.state is FillState.FILLED:
            return
        if missed is None:
            cell.state = FillState.NOT_KEPT
            return
        cell.reason, cell.detail, cell.state = missed.reason, missed.detail, FillState.MISSED
        self._sink.put_gap(
            Gap(
                night_id=fill.night.night_id,
                meter_id=meter.known.meter_id,
                reason=missed.reason,
                detail=missed.detail,
                at=missed.at,
            )
        )

    async def _from_memory(
        self, night: NightToFill, meter: MeterAtWork, cell: CellFill
    ) -> Missed | None:
        if not (night.is_over and meter.meter_type.keeps & REMEMBERED):
            return None
        kept = await remembered(self._lines, meter, self._clock)
        if isinstance(kept, Missed):
            return kept
        frozen = match(kept, night.night)
        if frozen is not None:
            await self._keep_look(night, as_frozen_look(meter, frozen, self._clock.now()), cell)
        return None

    async def _from_a_look(
        self, night: NightToFill, meter: MeterAtWork, cell: CellFill
    ) -> Missed | None:
        line = self._lines.lines[meter.known.line].line
        outcome = await look(line, meter, self._clock, priority=Priority.BACKFILL)
        if isinstance(outcome, Missed):
            return outcome
        await self._keep_look(night, as_look(meter, outcome), cell)
        return None

    async def _keep_look(self, night: NightToFill, found: Look, cell: CellFill) -> None:
        """Filled is what the cell says afterwards: the night may have ended meanwhile."""
        await self._sink.keep_look(found)
        async with self._database.transaction() as tx:
            if await night_fills.has_reading(tx, night.night_id, found.reading.meter_id):
                cell.origin, cell.state = found.reading.origin, FillState.FILLED
