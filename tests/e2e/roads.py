"""Simulated boxes of every dialect, dialling a listener of ours: for tests over real sockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from gateways.dial_in import BoxConfig, DialIn
from gateways.line import Line
from gateways.timing import LineTiming
from protocols.stream import Box
from protocols.uplink import Upload
from simulators.acrel_4g import Acrel4g, Answers, Modem
from simulators.acrel_meter import DDSY1352, Firmware, acrel_unit
from simulators.dialects import Ddp, FourFaith
from simulators.dtu import Dtu, DtuPlan
from simulators.faults import Faults
from simulators.metering import Meter
from simulators.modbus_meter import Bus
from simulators.wire import WireTiming
from tests.sim.helpers import HandClock, meter

PHONE = "13912345678"
SERIAL = "12307210720085"
NOW = datetime(2026, 3, 20, 10, 0, 7)  # noqa: DTZ001  a dial
QUICK = WireTiming(baud=1_000_000, turnaround_s=0.0)
PLAN = DtuPlan(
    registration=b"YARD-DTU-01",
    heartbeat=b"ping",
    heartbeat_s=0.05,
    latency_s=0.0,
    jitter_s=0.0,
    reconnect_s=0.01,
    restart_quiet_s=0.0,
)


@dataclass(frozen=True, slots=True)
class Road:
    """One dialect: how our side knows the box, and the box."""

    config: BoxConfig
    new_box: Callable[..., Dtu]


def _dtu(bus: Bus, plan: DtuPlan, **given: Any) -> Dtu:
    return Dtu(bus, plan, **given)


def _ddp(bus: Bus, plan: DtuPlan, **given: Any) -> Dtu:
    box: Dtu
    box = Dtu(bus, plan, new_speech=lambda: Ddp(PHONE, box.counts), **given)
    return box


def _four_faith(bus: Bus, plan: DtuPlan, **given: Any) -> Dtu:
    return Dtu(bus, plan, new_speech=partial(FourFaith, PHONE), **given)


def _acrel_4g(modem: Modem, bus: Bus, plan: DtuPlan, **given: Any) -> Dtu:
    return Acrel4g(bus, modem, plan, upload_s=3600.0, **given)


def road_4g(answers: Answers, *, eight_rates: bool = False) -> Road:
    """A 4G meter whose modem shows answers so."""
    modem = Modem(serial=SERIAL, answers=answers, eight_rates=eight_rates)
    config = BoxConfig(dialect="acrel_4g", box=Box(registration=SERIAL))
    return Road(config, partial(_acrel_4g, modem))


def _known(dialect: str) -> BoxConfig:
    return BoxConfig(dialect=dialect, box=Box(registration=f"ascii:{PHONE}"))


ROADS: Mapping[str, Road] = {
    "transparent": Road(
        BoxConfig(box=Box(registration="ascii:YARD-DTU-01", heartbeat="ascii:ping")), _dtu
    ),
    "ddp": Road(_known("ddp"), _ddp),
    "four_faith": Road(_known("four_faith"), _four_faith),
    "4g, rtu": road_4g(Answers.RTU),
    "4g, serial and rtu": road_4g(Answers.SERIAL_AND_RTU),
    "4g, serial after writes": road_4g(Answers.SERIAL_AFTER_WRITE),
}


@dataclass
class Town:
    """One box, one meter behind it, and our listener."""

    listener: DialIn
    line: Line
    box: Dtu
    meter: Meter
    uploads: list[tuple[str, Upload]] = field(default_factory=list)
    facts: dict[str, dict[str, str | int]] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def town(
    road: Road,
    *,
    known: bool = True,
    timing: LineTiming | None = None,
    faults: Faults | None = None,
    **plan: Any,
) -> AsyncIterator[Town]:
    """The box is plugged in and dials."""
    uploads: list[tuple[str, Upload]] = []
    facts: dict[str, dict[str, str | int]] = {}
    timing = timing or LineTiming.network(mobile=True, start_quiet_s=0.0)
    line = Line("yard", timing)
    listener = DialIn(
        "127.0.0.1",
        0,
        {"yard": road.config} if known else {},
        lambda gateway, link: line.attach(link),
        on_facts=lambda gateway, told: facts.setdefault(gateway, {}).update(told),
        on_upload=lambda gateway, upload: uploads.append((gateway, upload)),
        dial_now=lambda gateway: NOW,
    )
    await listener.start()
    there = meter(HandClock(), count=4)
    bus = Bus({1: acrel_unit(DDSY1352, there, 1, Firmware(eight_rates=True))})
    box = road.new_box(
        bus,
        replace(PLAN, **plan),
        host="127.0.0.1",
        port=listener.port,
        timing=QUICK,
        faults=faults,
    )
    await box.plug()
    try:
        yield Town(listener, line, box, there, uploads, facts)
    finally:
        await box.unplug()
        await listener.stop()
        line.detach("done")
