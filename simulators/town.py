"""The virtual property, running: all lines of the plan in one process, nearly idle when unasked."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from simulators.acrel_meter import DDSY1352, DTSY1352, Firmware, acrel_unit
from simulators.adf_cabinet import cabinet_units
from simulators.control import Control
from simulators.dtu import Dtu, DtuPlan
from simulators.faults import Faults
from simulators.history import lived_meter
from simulators.metering import Forced, Meter
from simulators.modbus_meter import Bus
from simulators.other_slave import OtherLine
from simulators.pty485 import PtyLine
from simulators.tcp_slave import RefusingPort, TcpLine
from simulators.town_files import site_file, truth, write_whole
from simulators.town_plan import TIME_ZONE, Gap, LineKind, LinePlan, MeterPlan, TownPlan, plan_town
from simulators.wire import LineReport, WireTiming

log = logging.getLogger(__name__)

_EPOCH_S = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
DARK_FEN = 125  # spent a little more than paid: the relay opened some time ago
_MODELS = {"acrel_ddsy1352": DDSY1352, "acrel_dtsy1352": DTSY1352}


class RunningLine(Protocol):
    """What every kind of line can do."""

    @property
    def report(self) -> LineReport: ...

    async def plug(self) -> None: ...
    async def unplug(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TownClock:
    """A right local clock, possibly hurried: milliseconds since 2000-01-01 00:00 local time.

    With a speed other than 1 a day passes in a shorter real time: meters then also show a dial
    that runs away from the real clock, as they must.
    """

    start_ms: int
    start_monotonic_ns: int
    speed: int = 1

    def now_ms(self) -> int:
        gone_ms = (time.monotonic_ns() - self.start_monotonic_ns) // 1_000_000
        return self.start_ms + gone_ms * self.speed


def town_clock(speed: int = 1, time_zone: str = TIME_ZONE) -> TownClock:
    """A clock that shows the zone's time now and goes `speed` times as fast as a real one."""
    now = datetime.now(ZoneInfo(time_zone))
    offset = now.utcoffset()
    assert offset is not None
    local_ms = time.time_ns() // 1_000_000 - _EPOCH_S * 1000 + int(offset.total_seconds()) * 1000
    return TownClock(local_ms, time.monotonic_ns(), speed)


class Town:
    """Builds the lines of a plan, serves them, writes the files, answers the control socket."""

    def __init__(
        self,
        folder: Path,
        *,
        dial_in: tuple[str, int],
        plan: TownPlan | None = None,
        speed: int = 1,
    ) -> None:
        self.folder = folder
        self.plan = plan or plan_town()
        self.meters: dict[str, Meter] = {}
        self.lines: dict[str, RunningLine] = {}
        self.faults: dict[str, Faults] = {}
        self._dial_in = dial_in
        self._clock = town_clock(speed)
        self._refusing: list[RefusingPort] = []
        self._control = Control(self, folder / "control.sock")

    async def start(self) -> None:
        """Bring everything up; truth.json appears last. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "truth.json").unlink(missing_ok=True)
        places: dict[str, Mapping[str, str | int]] = {}
        for index, line in enumerate(self.plan.lines):
            places[line.gateway] = await self._start_line(line, index)
        await self._control.start()
        write_whole(self.folder / "site.toml", site_file(self.plan, places))
        told = truth(
            self.plan, control=self._control.path, speed=self._clock.speed, pid=os.getpid()
        )
        write_whole(self.folder / "truth.json", json.dumps(told, ensure_ascii=False, indent=1))
        log.info("%d meters on %d lines are up", len(self.meters), len(self.plan.lines))

    async def stop(self) -> None:
        """Take everything down and remove what belongs to this run."""
        (self.folder / "truth.json").unlink(missing_ok=True)
        await self._control.stop()
        for line in self.lines.values():
            await line.unplug()
        for port in self._refusing:
            port.close()

    async def _start_line(self, line: LinePlan, index: int) -> Mapping[str, str | int]:
        """Serve one line; gives where it is reached."""
        bus = self._bus(line)
        if line.is_dead:
            refusing = RefusingPort()
            self._refusing.append(refusing)
            return {"host": refusing.host, "port": refusing.port}
        timing = WireTiming(bits_per_char=9 + line.stop_bits)
        faults = self.faults[line.name] = Faults(seed=self.plan.seed * 1000 + index)
        running: RunningLine
        place: dict[str, str | int] = {}
        if line.kind is LineKind.SERIAL:
            path = self.folder / f"tty-{line.name.replace(' ', '-')}"
            running = PtyLine(path, bus, timing=timing, faults=faults)
            place = {"device": str(path)}
        elif line.kind is LineKind.DTU:
            running = Dtu(
                bus,
                _dtu_plan(line),
                host=self._dial_in[0],
                port=self._dial_in[1],
                timing=timing,
                faults=faults,
                seed=self.plan.seed + index,
            )
        elif line.is_other_slave:
            running = OtherLine(bus.units, timing=timing)
        else:
            running = TcpLine(bus, timing=timing, faults=faults)
        self.lines[line.name] = running
        await running.plug()
        if isinstance(running, TcpLine | OtherLine):
            place = {"host": running.host, "port": running.port}
        return place

    def _bus(self, line: LinePlan) -> Bus:
        bus = Bus()
        for cabinet in line.cabinets:
            users = [m for m in line.meters if m.cabinet == cabinet.name]
            wide = cabinet.plan.ct_users + cabinet.plan.three_phase_users
            meters = [self._meter(m, 3 if at < wide else 1) for at, m in enumerate(users)]
            bus.add(cabinet_units(cabinet.plan, meters, number=cabinet.number))
        for plan in line.meters:
            if plan.cabinet is not None or plan.gap is Gap.METER_SILENT:
                continue
            model = _MODELS[plan.type]
            if plan.gap is Gap.WRONG_METER:
                # Somebody swapped the meter and told nobody: another model, another number.
                plan = replace(plan, number=f"99{plan.number[2:]}")  # noqa: PLW2901
                model = DTSY1352
            meter = self._meter(plan, model.phases)
            firmware = Firmware(eight_rates=plan.eight_rates)
            bus.add({plan.unit: acrel_unit(model, meter, plan.unit, firmware)})
        return bus

    def _meter(self, plan: MeterPlan, phases: int) -> Meter:
        meter = lived_meter(
            number=plan.number,
            seed=plan.seed,
            profile=plan.profile,
            peak_w=plan.peak_w,
            phases=phases,
            eight_rates=plan.eight_rates,
            now_ms=self._clock.now_ms,
        )
        if plan.dark:
            meter.credited_fen = -DARK_FEN
        if plan.cut:
            meter.force(Forced.OPEN)
        self.meters[plan.name] = meter
        return meter


def _dtu_plan(line: LinePlan) -> DtuPlan:
    assert line.registration is not None
    return DtuPlan(
        registration=_said(line.registration),
        on_every_packet=line.on_every_packet,
        heartbeat=None if line.heartbeat is None else _said(line.heartbeat),
        heartbeat_s=line.heartbeat_s,
    )


def _said(text: str) -> bytes:
    """The bytes a box sends for a pattern of the site file: "ascii:…", "hex:…", "iccid:…"."""
    kind, _, value = text.partition(":")
    return bytes.fromhex(value) if kind == "hex" else value.encode("ascii")
