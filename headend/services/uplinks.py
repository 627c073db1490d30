"""Readings that boxes send by themselves: from an upload to the one reading of its instant.

Pushed data meets polled data here. A pushed reading is as good as a polled one if its instant can
be believed; one from the future, from a clock that lost its battery, or with an energy that cannot
be is kept apart (headend/store/doubtful.py), where no bill and no cut ever looks. What a box sends
again from its memory fills holes and never replaces newer truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from headend.domain.alarms import AlarmKind
from headend.domain.clock import Clock
from headend.domain.places import GatewayKind
from headend.services.lines import LineBook
from headend.services.looks import MeterAtWork, implausible, with_multiplier
from headend.services.sink import Sink
from headend.store.alarms import clear_alarm, raise_alarm, standing
from headend.store.database import Database
from headend.store.doubtful import Doubt, keep_doubtful
from headend.store.errors import DatabaseAway
from headend.store.nights import Look
from headend.store.readings import AHEAD_MAX, IN_INT4, last_instant
from protocols.acrel_blocks import scale_money
from protocols.reading import Origin, Reading, Values
from protocols.reading import Quantity as Q
from protocols.uplink import Upload

log = logging.getLogger(__name__)

# 10,000 meters that push at the full hour fill it once.
WAITING_MAX = 20_000
AWAY_RETRY_S = 1.0
# No box remembers longer than the meters themselves, which keep twelve month ends.
AGE_MAX: Final = timedelta(days=400)
ALARM = AlarmKind.DOUBTFUL_UPLOAD
STRAYS_KEPT_MAX = 100  # gateways whose uploads name no meter of ours
TAKEN_A_TURN_MAX = 200


@dataclass(frozen=True, slots=True)
class _Arrived:
    gateway: str
    upload: Upload
    received_at: datetime
    on_settled: Callable[[], None]


def nobody_waits() -> None:
    """The default of `on_settled`: a box that dials in is not told what became of its upload."""


class Uplinks:
    """Takes uploads at any time; a task of its own finds their meters and stores them."""

    def __init__(
        self,
        database: Database,
        book: LineBook,
        sink: Sink,
        clock: Clock,
        *,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._database = database
        self._book = book
        self._sink = sink
        self._clock = clock
        self._waiting_max = waiting_max
        self._waiting: deque[_Arrived] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._index_of: object = None
        self._meters: dict[tuple[str, int], list[MeterAtWork]] = {}
        self._alarmed: set[int] | None = None  # meters with a standing alarm, once it was asked
        self._is_full = False
        self.counts: Counter[str] = Counter()  # taken, kept, doubtful, stray, dropped
        self._strays: dict[str, dict[str, Any]] = {}  # by gateway

    def start(self) -> None:
        """Begin storing what was and will be taken."""
        self._task = asyncio.create_task(self._run(), name="uplinks")

    async def stop(self) -> None:
        """Store what waits, unless the database is away."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AWAY_RETRY_S):
                await self._idle.wait()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def flush(self) -> None:
        """Wait until everything taken so far was given to the sink or put aside."""
        await self._idle.wait()

    def take(
        self, gateway: str, upload: Upload, on_settled: Callable[[], None] = nobody_waits
    ) -> None:
        """One upload of this gateway. Comes back at once; when too many wait, the newest is
        dropped and counted: the meter still has its counters. `on_settled` is called once: stored
        where it outlives this program, put aside, or found to be of no use."""
        self.counts["taken"] += 1
        if len(self._waiting) >= self._waiting_max:
            self.counts["dropped"] += 1
            if not self._is_full:
                log.error("%d uploads wait already: more are dropped", self._waiting_max)
            self._is_full = True
            on_settled()
            return
        self._is_full = False
        self._waiting.append(_Arrived(gateway, upload, self._clock.now(), on_settled))
        self._idle.clear()
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many uploads were taken and not yet looked at."""
        return len(self._waiting)

    def strays(self) -> list[dict[str, Any]]:
        """By gateway, uploads that name no meter of ours: how many, and the last of them."""
        return list(self._strays.values())

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._take_one(self._waiting[0])
                self._waiting.popleft()
                if self.counts["kept"] % TAKEN_A_TURN_MAX == 0:
                    await asyncio.sleep(0)  # a flood of uploads leaves room for the polls
            self._idle.set()

    async def _take_one(self, arrived: _Arrived) -> None:
        while True:
            try:
                await self._keep(arrived)
            except DatabaseAway:
                await asyncio.sleep(AWAY_RETRY_S)  # the sink says that it is away
            except Exception:
                log.exception("an upload of %s was not kept", arrived.gateway)
                arrived.on_settled()
                return
            else:
                return

    async def _keep(self, arrived: _Arrived) -> None:
        meter = self._meter_of(arrived.gateway, arrived.upload)
        values = {} if meter is None else self._values_of(meter, arrived.upload)
        if meter is None or not values:
            self._stray(arrived, "no such meter" if meter is None else "nothing its type can tell")
            arrived.on_settled()
            return
        at = self._instant_of(meter, arrived)
        reading = Reading(
            meter_id=meter.known.meter_id,
            at=at,
            received_at=arrived.received_at,
            origin=Origin.PUSHED,
            values=values,
        )
        if meter.energy_at is None and meter.energy_wh_last is not None:
            async with self._database.transaction() as tx:
                meter.energy_at = await last_instant(tx, meter.known.meter_id)
        if doubt := doubt_about(reading, meter):
            await self._put_aside(meter, reading, *doubt)
            arrived.on_settled()
            return
        if at > arrived.received_at:
            # Two clocks that are not quite set: what has arrived has happened.
            reading = replace(reading, at=arrived.received_at)
        await self._believe(meter, reading, arrived.on_settled)

    async def _believe(
        self, meter: MeterAtWork, reading: Reading, on_safe: Callable[[], None]
    ) -> None:
        is_newer = meter.energy_at is None or reading.at > meter.energy_at
        if is_newer:
            await self._calm(reading)
        # The database may be away until here; from here on nothing is done twice.
        energy_wh = reading.values.get(Q.ENERGY)
        if is_newer and energy_wh is not None:
            meter.energy_wh_last, meter.energy_at = energy_wh, reading.at
        await self._sink.put_look(Look(reading=reading), on_safe)
        self.counts["kept"] += 1

    async def _put_aside(
        self, meter: MeterAtWork, reading: Reading, doubt: Doubt, detail: str
    ) -> None:
        alarmed = await self._standing_alarms()
        async with self._database.transaction() as tx:
            await keep_doubtful(tx, reading, doubt, detail)
            await raise_alarm(tx, ALARM, reading.meter_id, detail, reading.received_at)
        self.counts["doubtful"] += 1
        if reading.meter_id not in alarmed:
            log.warning("meter %s pushes what cannot be used: %s", meter.known.name, detail)
            alarmed.add(reading.meter_id)

    async def _calm(self, reading: Reading) -> None:
        alarmed = await self._standing_alarms()
        if reading.meter_id in alarmed:
            async with self._database.transaction() as tx:
                await clear_alarm(tx, ALARM, reading.meter_id, reading.received_at)
            alarmed.discard(reading.meter_id)

    async def _standing_alarms(self) -> set[int]:
        if self._alarmed is None:
            async with self._database.transaction() as tx:
                self._alarmed = {
                    alarm.meter_id
                    for alarm in await standing(tx)
                    if alarm.code == ALARM.value and alarm.meter_id is not None
                }
        return self._alarmed

    # ---- who and what ---------------------------------------------------------------------------

    def _meter_of(self, gateway: str, upload: Upload) -> MeterAtWork | None:
        if self._index_of is not self._book.by_id:  # made anew by each reload
            self._meters.clear()
            for line in self._book.lines.values():
                place = (line.known.gateway.name, line.known.place.port)
                self._meters.setdefault(place, []).extend(line.meters)
            self._index_of = self._book.by_id
        return meter_of(self._meters.get((gateway, upload.port), ()), upload)

    def _values_of(self, meter: MeterAtWork, upload: Upload) -> Values:
        told = meter.meter_type.quantities
        values = {q: value for q, value in upload.values.items() if q in told}
        gateway = self._book.lines[meter.known.line].known.gateway
        step_fen = meter.known.options.get("money_step_fen", 1)
        if gateway.kind is GatewayKind.ACREL_4G and isinstance(step_fen, int):
            values = scale_money(values, step_fen)  # its uploads are the registers themselves
        return with_multiplier(values, meter.known.energy_multiplier)

    @staticmethod
    def _instant_of(meter: MeterAtWork, arrived: _Arrived) -> datetime:
        if arrived.upload.at is not None:
            return arrived.upload.at.astimezone(UTC)
        if arrived.upload.dial is None:
            return arrived.received_at
        try:
            return arrived.upload.dial.replace(tzinfo=meter.known.time_zone).astimezone(UTC)
        except OverflowError:  # the first or the last day a calendar has
            return datetime.min.replace(tzinfo=UTC) + timedelta(days=1)

    def _stray(self, arrived: _Arrived, why: str) -> None:
        self.counts["stray"] += 1
        if arrived.gateway not in self._strays:
            if len(self._strays) >= STRAYS_KEPT_MAX:
                return
            log.warning("%s pushes readings that belong to no meter of ours", arrived.gateway)
        upload = arrived.upload
        kept = self._strays.get(arrived.gateway, {"uploads": 0})
        self._strays[arrived.gateway] = {
            "gateway": arrived.gateway,
            "uploads": kept["uploads"] + 1,
            "why": why,
            "port": upload.port,
            "unit": upload.unit or None,
            "number": upload.number or None,
            "last_seen_at": arrived.received_at.isoformat(),
        }


def meter_of(meters: Iterable[MeterAtWork], upload: Upload) -> MeterAtWork | None:
    """The meter an upload is about, among those of its line; None where it is not certain."""
    if upload.unit or upload.number:
        found = [meter for meter in meters if _is_called(meter, upload)]
    else:
        found = list(meters)
    return found[0] if len(found) == 1 else None


def _is_called(meter: MeterAtWork, upload: Upload) -> bool:
    known = meter.known
    if not upload.number:
        return known.unit == upload.unit
    # Boxes drop the zeros in front of a number.
    digits = upload.number.lstrip("0")
    numbers = (known.address, known.meter_number)
    return upload.number == known.name or digits in [(n or "").lstrip("0") or None for n in numbers]


def doubt_about(reading: Reading, meter: MeterAtWork) -> tuple[Doubt, str] | None:
    """Why nothing may be decided by this reading, and one clause for people."""
    at, received_at = reading.at, reading.received_at
    if at > received_at + AHEAD_MAX:
        return Doubt.FUTURE, f"its clock says {at.isoformat()}, which is still to come"
    if at < received_at - AGE_MAX:
        return Doubt.BROKEN_CLOCK, f"its clock says {at.isoformat()}: it has lost its time"
    for quantity, value in reading.values.items():
        if not -_MOST[quantity] <= value <= _MOST[quantity]:
            return Doubt.IMPLAUSIBLE, f"{quantity.value} of {value} is more than can be"
    objection = _against_its_energies(reading, meter)
    return (Doubt.IMPLAUSIBLE, objection) if objection else None


def _against_its_energies(reading: Reading, meter: MeterAtWork) -> str:
    """What an energy that only rises has against this one, or an empty text."""
    energy_wh, last_wh = reading.values.get(Q.ENERGY), meter.energy_wh_last
    if energy_wh is None or meter.energy_at is None or last_wh is None:
        return ""
    if reading.at > meter.energy_at:
        return implausible(reading.values, last_wh)
    if energy_wh <= last_wh:
        return ""
    at = reading.at.isoformat()
    return f"its memory says {energy_wh} Wh at {at}, but later there were only {last_wh} Wh"


_MOST: Final = {q: (1 << 31) - 1 if q in IN_INT4 else (1 << 63) - 1 for q in Q}
