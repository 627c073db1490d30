"""One night of one site: every line asks its meters until each cell is filled or has its reason.

A task a line, so lines never wait for each other. Within a line the meter tried least recently goes
first; one that failed backs off while its neighbours go on. A line that is down costs nothing: its
cells get the reason at once and wait for the line, not for their turn.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateways.turns import Priority
from headend.domain.clock import Clock
from headend.domain.nights import GapReason
from headend.services.lines import LineAtWork
from headend.services.looks import Looked, MeterAtWork, Missed, look
from headend.services.sink import Sink
from headend.store.nights import Gap, Look
from protocols.reading import Origin, Reading

log = logging.getLogger(__name__)

# A line whose meters all back off is looked at this often: it may have fallen.
LOOK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patiently a night is collected."""

    retry_s_first: float = 30.0  # a meter that missed its turn is asked again after this …
    retry_s_max: float = 900.0  # … doubling up to this
    tries_max: int | None = None  # then its cell is left alone; None: until the next night
    line_patience_s: float | None = None  # how long a line may be down; None: for ever

    def retry_after_s(self, tries: int) -> float:
        """The wait after the given number of failed tries."""
        return min(self.retry_s_first * 2.0 ** max(0, tries - 1), self.retry_s_max)


@dataclass(slots=True)
class LineProgress:
    """How far one line is, for the progress bar and the API."""

    line: str
    meters: int
    done: int = 0
    tries: int = 0
    began_s: float | None = None
    ended_s: float | None = None
    down: str = ""  # why the line is down, empty while it is up
    reasons: dict[int, GapReason] = field(default_factory=dict)  # by meter, of open cells

    @property
    def silent(self) -> int:
        return len(self.reasons)

    def rate_per_s(self, now_s: float) -> float:
        """Readings a second since the first request."""
        if self.began_s is None:
            return 0.0
        return self.done / max(0.001, (self.ended_s or now_s) - self.began_s)


@dataclass(order=True, slots=True)
class _Turn:
    due_s: float
    order: int
    meter: MeterAtWork = field(compare=False)
    tries: int = field(compare=False, default=0)


class NightRun:
    """Collects the open cells of one night; `progress` may be looked at while it runs."""

    def __init__(
        self,
        *,
        night_id: int,
        closes_at: datetime,
        work: Sequence[tuple[LineAtWork, Sequence[MeterAtWork]]],
        sink: Sink,
        clock: Clock,
        pace: Pace,
    ) -> None:
        self.night_id = night_id
        self.closes_at = closes_at
        self._work = work
        self._sink = sink
        self._clock = clock
        self._pace = pace
        self.progress = [LineProgress(at_work.name, len(meters)) for at_work, meters in work]

    async def run(self) -> None:
        """Until every cell is filled or given up. Cancel it when the next night opens."""
        async with asyncio.TaskGroup() as group:
            for (at_work, meters), progress in zip(self._work, self.progress, strict=True):
                group.create_task(
                    self._run_line(at_work, meters, progress), name=f"night {at_work.name}"
                )

    async def _run_line(
        self, at_work: LineAtWork, meters: Sequence[MeterAtWork], progress: LineProgress
    ) -> None:
        loop = asyncio.get_running_loop()
        order = itertools.count()
        turns = [_Turn(0.0, next(order), meter) for meter in meters]
        progress.began_s = loop.time()
        while turns:
            if not at_work.line.is_up and not await self._wait_for_line(at_work, turns, progress):
                break
            progress.down = ""
            turn = turns[0]
            if (wait_s := turn.due_s - loop.time()) > 0:
                await asyncio.sleep(min(wait_s, LOOK_AGAIN_S))
                continue
            heapq.heappop(turns)
            outcome = await self._look(at_work, turn.meter)
            if isinstance(outcome, Looked):
                await self._sink.put_look(as_look(turn.meter, outcome))
                progress.done += 1
                progress.reasons.pop(turn.meter.known.meter_id, None)
                continue
            self._miss(turn.meter, outcome, progress)
            if outcome.reason is GapReason.LINE_DOWN:
                heapq.heappush(turns, turn)  # not the meter's fault: its turn is still due
                continue
            turn.tries += 1
            if self._pace.tries_max is None or turn.tries < self._pace.tries_max:
                # Not before its old answer can no longer come: the line would wait for it.
                left_alone_s = at_work.line.quiet_left_s(turn.meter.address)
                wait_s = max(self._pace.retry_after_s(turn.tries), left_alone_s)
                turn.due_s = loop.time() + wait_s
                turn.order = next(order)
                heapq.heappush(turns, turn)
        progress.ended_s = loop.time()

    async def _look(self, at_work: LineAtWork, meter: MeterAtWork) -> Looked | Missed:
        """One look. A fault of this program or of a driver costs this meter its turn, no more:
        the other meters and lines of the night go on."""
        try:
            return await look(
                at_work.line, meter, self._clock, priority=self._priority(), read_tries=1
            )
        except Exception as error:
            log.exception("meter %s: a fault of this program", meter.known.name)
            said = f"a fault of this program: {type(error).__name__}"
            return Missed(self._clock.now(), GapReason.GARBLED, said)

    async def _wait_for_line(
        self, at_work: LineAtWork, turns: Sequence[_Turn], progress: LineProgress
    ) -> bool:
        """Give every waiting cell the reason once, then wait. False: patience has run out."""
        progress.down = at_work.line.down_reason or "just fell"
        at = self._clock.now()
        for turn in turns:
            self._miss(turn.meter, Missed(at, GapReason.LINE_DOWN, progress.down), progress)
        return await at_work.wait_up(self._pace.line_patience_s)

    def _priority(self) -> Priority:
        return Priority.NIGHTLY if self._clock.now() < self.closes_at else Priority.BACKFILL

    def _miss(self, meter: MeterAtWork, missed: Missed, progress: LineProgress) -> None:
        progress.tries += 1
        progress.reasons[meter.known.meter_id] = missed.reason
        self._sink.put_gap(
            Gap(
                night_id=self.night_id,
                meter_id=meter.known.meter_id,
                reason=missed.reason,
                detail=missed.detail,
                at=missed.at,
            )
        )


def as_look(meter: MeterAtWork, looked: Looked) -> Look:
    """What the database keeps of a successful look."""
    reading = Reading(
        meter_id=meter.known.meter_id,
        at=looked.at,
        received_at=looked.at,
        origin=Origin.POLLED,
        values=looked.values,
    )
    return Look(reading=reading, drift_s=looked.drift_s)
