"""A simulated Acrel gateway with two ports and the head-end's side of it, over real sockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from gateways.dial_in import BoxConfig, DialIn
from gateways.line import Line
from gateways.session import PortLink
from gateways.timing import LineTiming
from gateways.turns import Priority, Turns
from protocols.catalog import load_meter_types
from protocols.exchange import Conversation, Evidence
from protocols.keys import GatewaySecret
from protocols.meter_type import Address, Driver
from protocols.stream import Box
from protocols.uplink import Upload
from simulators.acrel_gateway import AcrelGateway, GatewayPlan
from simulators.acrel_meter import DDSY1352, acrel_unit
from simulators.metering import Meter
from simulators.modbus_meter import Bus
from simulators.wire import WireTiming
from tests.gateways.field import PATIENCE_S
from tests.sim.helpers import HandClock, meter

T = TypeVar("T")

SECRET = "0123456789abcdef"
NAME = "gateway-D"
DIAL = datetime(2025, 3, 14, 10, 20, 30)  # noqa: DTZ001  a dial has no time zone
PATIENT = LineTiming.network(mobile=True, reply_timeout_s=PATIENCE_S, start_quiet_s=0.0)
PLAN = GatewayPlan(
    building="310115D001",
    number="01",
    secret=SECRET,
    heartbeat_s=3600.0,
    meter_patience_s=0.3,
    latency_s=0.0,
    jitter_s=0.0,
    reconnect_s=0.02,
)


@dataclass
class Property:
    """Both sides. Meters by port and unit: unit 1 hangs at each port, unit 2 at the first."""

    gateway: AcrelGateway
    clock: HandClock
    meters: dict[tuple[int, int], Meter]
    listener: DialIn
    config: BoxConfig
    lines: dict[int, Line]
    driver: Driver
    uploads: list[Upload] = field(default_factory=list)
    intents: list[Evidence] = field(default_factory=list)

    async def record(self, before: Evidence) -> None:
        self.intents.append(before)

    async def order(self, port: int, unit: int, conversation: Conversation[T]) -> T:
        return await self.lines[port].converse(
            unit, conversation, priority=Priority.COMMAND, record_intent=self.record
        )

    async def evidence(self, port: int, unit: int) -> Evidence:
        return await self.order(port, unit, self.driver.evidence(Address(unit)))


@contextlib.asynccontextmanager
async def property_of(
    plan: GatewayPlan = PLAN, *, secret: str = SECRET, timing: LineTiming = PATIENT
) -> AsyncIterator[Property]:
    """Both sides, the gateway not yet plugged in. `secret` is the one the head-end knows."""
    uploads: list[Upload] = []
    turns = Turns()
    lines = {port: Line(f"port {port}", timing, turns=turns) for port in (1, 2)}

    def attach(gateway: str, link: PortLink) -> None:
        lines[link.port].attach(link)

    box = Box(registration=plan.registration, secret=GatewaySecret(lambda: secret))
    config = BoxConfig(box=box, dialect="acrel_gateway", heartbeat_s=3600, ports=(1, 2))
    listener = DialIn(
        "127.0.0.1",
        0,
        {NAME: config},
        attach,
        on_upload=lambda _, upload: uploads.append(upload),
        dial_now=lambda _: DIAL,
    )
    await listener.start()
    clock = HandClock()
    meters = {
        at: meter(clock, credit_fen=10_000, count=3, number=f"01230721{at[0]:02}{at[1]:02}")
        for at in ((1, 1), (1, 2), (2, 1))
    }
    buses = {
        port: Bus(
            {unit: acrel_unit(DDSY1352, m, unit) for (p, unit), m in meters.items() if p == port}
        )
        for port in (1, 2)
    }
    gateway = AcrelGateway(
        buses,
        replace(plan),
        host="127.0.0.1",
        port=listener.port,
        now_ms=clock.now_ms,
        timing=WireTiming(baud=1_000_000, turnaround_s=0.0),
    )
    driver = load_meter_types()["acrel_ddsy1352"].new_driver({})
    try:
        yield Property(gateway, clock, meters, listener, config, lines, driver, uploads)
    finally:
        await gateway.unplug()
        await listener.stop()
