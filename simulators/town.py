"""The virtual property, running: all lines of the plan in one process, nearly idle when unasked."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from simulators.acrel_meter import DDSY1352, DTSY1352, Firmware, acrel_unit
from simulators.adf_cabinet import cabinet_units
from simulators.cjt188_meter import Unit188
from simulators.control import Control
from simulators.dtu import Dtu, DtuPlan
from simulators.faults import Faults
from simulators.feeder import feeder_meter
from simulators.history import lived_meter
from simulators.metering import Forced, Meter
from simulators.modbus_meter import Bus
from simulators.modbus_tcp import ModbusTcpLine
from simulators.other_slave import OtherLine
from simulators.pty485 import PtyLine
from simulators.tcp_slave import RefusingPort, TcpLine
from simulators.town_clock import town_clock
from simulators.town_files import Place, site_file, truth, write_whole
from simulators.town_plan import (
    FEEDER_CT,
    FEEDER_LOST_PERMILLE,
    Gap,
    LineKind,
    LinePlan,
    MeterPlan,
    TownPlan,
    plan_town,
)
from simulators.town_roads import KEYS_FILE, KIOSK_FILE, SECRET_FILE, GatewayPort, Roads
from simulators.town_slots import Slots
from simulators.wire import LineReport, WireTiming

log = logging.getLogger(__name__)

DARK_FEN = 125  # spent a little more than paid: the relay opened some time ago
_MODELS = {"acrel_ddsy1352": DDSY1352, "acrel_dtsy1352": DTSY1352}


class RunningLine(Protocol):
    """What every kind of line can do."""

    @property
    def report(self) -> LineReport: ...

    async def plug(self) -> None: ...
    async def unplug(self) -> None: ...


class Town:
    """Builds the lines of a plan, serves them, writes the files, answers the control socket."""

    def __init__(
        self,
        folder: Path,
        *,
        dial_in: tuple[str, int],
        plan: TownPlan | None = None,
        speed: int = 1,
        keys: Path | None = None,
        broker: tuple[str, int] | None = None,
    ) -> None:
        """`keys`: the file of the key in its meters' security chips; None: the town makes one.
        `broker`: where its MQTT gateways connect, once they were given their passwords."""
        self.folder = folder
        self.plan = plan or plan_town(has_broker=broker is not None)
        self.meters: dict[str, Meter] = {}
        self.water: dict[str, Unit188] = {}
        self.lines: dict[str, RunningLine] = {}
        self.faults: dict[str, Faults] = {}
        self._dial_in = dial_in
        self._clock = town_clock(speed)
        self._refusing: list[RefusingPort] = []
        self._roads = Roads(folder, dial_in, self._clock.now_ms, keys, broker)
        self._tower: dict[int, Bus] = {}  # ports of the one gateway that has several
        self.slots = Slots()
        self._control = Control(self, folder / "control.sock")

    async def start(self) -> None:
        """Bring everything up; truth.json appears last. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "truth.json").unlink(missing_ok=True)
        places: dict[str, Place] = {}
        for index, line in enumerate(self.plan.lines):
            places[line.gateway] = await self._start_line(line, index)
        await self._control.start()
        write_whole(self.folder / "site.toml", site_file(self.plan, places))
        told = truth(
            self.plan, control=self._control.path, speed=self._clock.speed, pid=os.getpid()
        )
        write_whole(self.folder / "truth.json", json.dumps(told, ensure_ascii=False, indent=1))
        log.info(
            "%d meters on %d lines are up", len(self.meters) + len(self.water), len(self.plan.lines)
        )

    async def stop(self) -> None:
        """Take everything down and remove what belongs to this run."""
        for name in ("truth.json", SECRET_FILE, KEYS_FILE, KIOSK_FILE):
            (self.folder / name).unlink(missing_ok=True)
        await self._control.stop()
        for line in self.lines.values():
            await line.unplug()
        for port in self._refusing:
            port.close()

    async def _start_line(self, line: LinePlan, index: int) -> Place:
        """Serve one line; gives where it is reached."""
        if line.kind is LineKind.ACREL_GATEWAY:
            return await self._start_port(line, index)
        bus = Bus() if line.speaks_645 or line.speaks_188 else self._bus(line)
        if line.is_dead:
            refusing = RefusingPort()
            self._refusing.append(refusing)
            return {"host": refusing.host, "port": refusing.port}
        timing = WireTiming(bits_per_char=9 + line.stop_bits)
        faults = self.faults[line.name] = Faults(seed=self.plan.seed * 1000 + index)
        if line.kind is LineKind.SERIAL:
            path = self.folder / f"tty-{line.name.replace(' ', '-')}"
            self.lines[line.name] = PtyLine(path, bus, timing=timing, faults=faults)
            await self.lines[line.name].plug()
            return {"device": str(path)}
        running = self._running(line, bus, timing, faults, self.plan.seed + index)
        self.lines[line.name] = running
        await running.plug()
        if isinstance(running, TcpLine | OtherLine | ModbusTcpLine):
            return {"host": running.host, "port": running.port}
        options = self._roads.gateway_options(line)
        return {"options": options} if options else {}

    def _running(
        self, line: LinePlan, bus: Bus, timing: WireTiming, faults: Faults, seed: int
    ) -> RunningLine:
        """A line that is reached over the network, not yet plugged in."""
        if line.kind is LineKind.ACREL_4G or line.dialect:
            return self._roads.box(line, bus, timing, faults, seed)
        if line.kind is LineKind.TERMINAL:
            return self._roads.kiosk(line, bus, timing, faults)
        if line.kind is LineKind.MQTT:
            return self._roads.mqtt_box(line, bus, timing, faults)
        if line.kind is LineKind.MODBUS_TCP:
            return self._roads.ethernet(bus, timing, faults)
        if line.kind is LineKind.TCP:
            return self._converter(line, bus, timing, faults)
        host, port = self._dial_in
        return Dtu(
            bus,
            _dtu_plan(line),
            host=host,
            port=port,
            timing=timing,
            faults=faults,
            seed=seed,
        )

    def _converter(
        self, line: LinePlan, bus: Bus, timing: WireTiming, faults: Faults
    ) -> RunningLine:
        """A converter one dials, with meters of any protocol behind it."""
        if line.speaks_188:
            served, units = self._roads.water_line(line.meters, faults)
            self.water |= units
            return served
        if line.speaks_645:
            return self._roads.old_line(line.meters, self._one_phase, timing, faults)
        if line.is_other_slave:
            return OtherLine(bus.units, timing=timing)
        return TcpLine(bus, timing=timing, faults=faults)

    async def _start_port(self, line: LinePlan, index: int) -> Place:
        """One port of the gateway that has several; it is powered with its last port."""
        self._tower[line.port] = self._bus(line)
        self.faults[line.name] = Faults(seed=self.plan.seed * 1000 + index)
        ports = [other for other in self.plan.lines if other.gateway == line.gateway]
        if len(self._tower) == len(ports):
            faults = {other.port: self.faults[other.name] for other in ports}
            gateway = self._roads.gateway(self._tower, faults)
            for other in ports:
                self.lines[other.name] = GatewayPort(gateway, other.port)
            await gateway.plug()
        return {"options": self._roads.gateway_options(line)}

    def _one_phase(self, plan: MeterPlan) -> Meter:
        return self._meter(plan, 1)

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
        if plan.measures is not None:
            return self._master(plan)
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

    def _master(self, plan: MeterPlan) -> Meter:
        """The circuits of its cabinet are there before it."""
        circuits = {
            one.name
            for line in self.plan.lines
            for one in line.meters
            if one.cabinet == plan.measures
        }
        master = self.meters[plan.name] = feeder_meter(
            [self.meters[name] for name in sorted(circuits)],
            number=plan.number,
            seed=plan.seed,
            lost_permille=FEEDER_LOST_PERMILLE,
            ct=FEEDER_CT,
            now_ms=self._clock.now_ms,
        )
        return master


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
