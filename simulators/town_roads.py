"""The newer roads of the property: 4G meters, framed boxes, an Acrel gateway, Ethernet, DL/T 645,
MQTT gateways, water meters.

Each is a line of a few meters, so that every road carries a night, a purchase, a cut and a restore.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from simulators.acrel_gateway import AcrelGateway, GatewayPlan
from simulators.cjt188_meter import Bus188, Unit188
from simulators.dialled import dialled_box
from simulators.dlt645_meter import Bus645, Unit645
from simulators.dlt645_purse import Purse
from simulators.dtu import Dtu
from simulators.faults import Faults
from simulators.metering import Meter
from simulators.modbus_meter import Bus
from simulators.modbus_tcp import ModbusTcpLine
from simulators.mqtt_gateway import AcrelBox, PassThroughGateway
from simulators.rf_terminal import RfTerminal
from simulators.tcp_slave import TcpLine
from simulators.town_plan import LineKind, LinePlan, MeterPlan, Planner
from simulators.wire import LineReport, WireTiming

DDSY = "acrel_ddsy1352"
PREPAID_645 = "dlt645_prepaid_single_phase"
WATER = "cjt188_water_valve"
WATER_BAUD = 2400  # and even parity: what CJ/T 188 meters come with
SERIAL_OF_4G = "24060612340001"
PHONE_DDP, PHONE_FOUR_FAITH = "13912345601", "13912345602"
GATEWAY = GatewayPlan(building="310115D001", number="01", secret="0123456789abcdef")
ROOF_BOX, LOBBY_BOX = "ROOF-0001", "24071500010001"  # a plain box, and Acrel's own with its serial
ACREL_BOXES = frozenset({LOBBY_BOX})
KIOSK, KIOSK_SECRET = "KIOSK-01", b"a kiosk's secret"
SECRET_FILE, KEYS_FILE, KIOSK_FILE = "gateway-secret", "meter-keys", "kiosk-secret"
METERS = 4  # the third has run out of credit, the fourth was cut


def plan_roads(planner: Planner, *, has_broker: bool) -> tuple[LinePlan, ...]:
    """The lines of the newer roads."""

    def line(name: str, gateway: str, kind: LineKind, **more: object) -> LinePlan:
        type_name = str(more.pop("type", DDSY))
        meters = planner.row(type_name, range(1, METERS + 1), building=2)
        return LinePlan(name=name, gateway=gateway, kind=kind, meters=meters, **more)  # type: ignore[arg-type]

    lines = (
        line("pump house", "pump modem", LineKind.ACREL_4G, registration=SERIAL_OF_4G),
        line("north shed", "shed dtu", LineKind.DTU, registration=PHONE_DDP, dialect="ddp"),
        line(
            "south shed",
            "south dtu",
            LineKind.DTU,
            registration=PHONE_FOUR_FAITH,
            dialect="four_faith",
        ),
        line("tower port 1", "tower", LineKind.ACREL_GATEWAY, registration=GATEWAY.registration),
        line(
            "tower port 2",
            "tower",
            LineKind.ACREL_GATEWAY,
            registration=GATEWAY.registration,
            port=2,
        ),
        line("plant room", "plant cabinet", LineKind.MODBUS_TCP),
        line("old wing", "old converter", LineKind.TCP, type=PREPAID_645),
        line(
            "water shaft",
            "water converter",
            LineKind.TCP,
            type=WATER,
            baud=WATER_BAUD,
            parity="E",
        ),
        line("court kiosk", "kiosk", LineKind.TERMINAL, registration=KIOSK),
    )
    if not has_broker:
        return lines
    return (
        *lines,
        line("roof garden", "roof box", LineKind.MQTT, registration=ROOF_BOX, payload="hex"),
        line("sky lobby", "lobby box", LineKind.MQTT, registration=LOBBY_BOX),
    )


@dataclass(slots=True)
class GatewayPort:
    """One port of a gateway, as a line of the town: its plug is the whole gateway's."""

    gateway: AcrelGateway
    port: int

    @property
    def report(self) -> LineReport:
        return self.gateway.reports[self.port]

    async def plug(self) -> None:
        await self.gateway.plug()

    async def unplug(self) -> None:
        await self.gateway.unplug()


class Roads:
    """Makes the running lines of the newer roads."""

    def __init__(
        self,
        folder: Path,
        dial_in: tuple[str, int],
        now_ms: Callable[[], int],
        keys: Path | None,
        broker: tuple[str, int] | None,
    ) -> None:
        self._folder = folder
        self._dial_in = dial_in
        self._now_ms = now_ms
        self._keys = keys
        self._broker = broker

    def gateway_options(self, line: LinePlan) -> Mapping[str, str]:
        """What the site file says of its gateway beyond its registration."""
        if line.kind is LineKind.ACREL_GATEWAY:
            secret = self._folder / SECRET_FILE
            secret.write_text(GATEWAY.secret, encoding="ascii")
            secret.chmod(0o600)
            return {"secret": f"file:{secret}"}
        if line.kind is LineKind.TERMINAL:
            secret = self._folder / KIOSK_FILE
            secret.write_bytes(KIOSK_SECRET)
            secret.chmod(0o600)
            return {"secret": f"file:{secret}"}
        if line.kind is LineKind.MQTT:
            return {"payload": line.payload}
        return {"dialect": line.dialect} if line.dialect else {}

    def box(self, line: LinePlan, bus: Bus, timing: WireTiming, faults: Faults, seed: int) -> Dtu:
        """A framed DTU or a 4G meter."""
        host, port = self._dial_in
        assert line.registration is not None
        dialect = "acrel_4g" if line.kind is LineKind.ACREL_4G else line.dialect
        return dialled_box(
            dialect,
            line.registration,
            bus,
            host=host,
            port=port,
            timing=timing,
            faults=faults,
            seed=seed,
        )

    def kiosk(self, line: LinePlan, bus: Bus, timing: WireTiming, faults: Faults) -> RfTerminal:
        """A recharge terminal beside a line of meters."""
        host, port = self._dial_in
        assert line.registration is not None
        return RfTerminal(
            bus,
            name=line.registration,
            secret=KIOSK_SECRET,
            host=host,
            port=port,
            now_s=time.time,
            meters={meter.number: meter.unit for meter in line.meters},
            timing=timing,
            faults=faults,
        )

    def ethernet(self, bus: Bus, timing: WireTiming, faults: Faults) -> ModbusTcpLine:
        """A cabinet with an Ethernet port."""
        return ModbusTcpLine(bus, timing=timing, faults=faults)

    def mqtt_box(
        self, line: LinePlan, bus: Bus, timing: WireTiming, faults: Faults
    ) -> PassThroughGateway:
        """A box on the broker; it connects once it was given its password."""
        assert self._broker is not None
        assert line.registration is not None
        kind = AcrelBox if line.registration in ACREL_BOXES else PassThroughGateway
        return kind(
            bus,
            line.registration,
            host=self._broker[0],
            port=self._broker[1],
            payload=line.payload,
            user=line.registration,
            timing=timing,
            faults=faults,
        )

    def water_line(
        self, plans: tuple[MeterPlan, ...], faults: Faults
    ) -> tuple[TcpLine, dict[str, Unit188]]:
        """Water meters behind a converter, each by its fourteen digits; and they by name."""
        units = {
            plan.name: Unit188(
                plan.address,
                litres=10_000 + plan.seed % 900_000 * 10,
                has_valve=True,
                valve_open=not plan.cut,
            )
            for plan in plans
        }
        timing = WireTiming(baud=WATER_BAUD, bits_per_char=11)
        return TcpLine(Bus188(units.values()), timing=timing, faults=faults), units

    def gateway(self, buses: Mapping[int, Bus], faults: Mapping[int, Faults]) -> AcrelGateway:
        """The gateway of all its ports; plugged once by whoever makes the last of its lines."""
        host, port = self._dial_in
        return AcrelGateway(
            buses, GATEWAY, host=host, port=port, now_ms=self._now_ms, faults=faults
        )

    def old_line(
        self,
        plans: tuple[MeterPlan, ...],
        make: Callable[[MeterPlan], Meter],
        timing: WireTiming,
        faults: Faults,
    ) -> TcpLine:
        """Prepaid DL/T 645 meters behind a converter; their chips hold the key of the keys file."""
        keys = self._keys or self._folder / KEYS_FILE
        if not keys.exists():
            keys.write_text(bytes(range(32)).hex(), encoding="ascii")
            keys.chmod(0o600)
        key = bytes.fromhex(keys.read_text(encoding="ascii").strip())
        units = [
            Unit645(meter=make(plan), address=plan.number, purse=Purse(key=key, seed=plan.seed))
            for plan in plans
        ]
        return TcpLine(Bus645(units), timing=timing, faults=faults)
