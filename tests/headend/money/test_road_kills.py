"""Every road in one property: in the middle of a top-up on each of them first all boxes die, then
the head-end itself, a process of its own. Each meter takes each payment once, and the books agree.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import httpx

from headend.domain.places import GatewayKind
from headend.store import accounts
from headend.store.database import Database
from simulators.acrel_4g import Acrel4g, Answers, Modem
from simulators.acrel_gateway import AcrelGateway, GatewayPlan
from simulators.dialects import Ddp, FourFaith
from simulators.dlt645_meter import Bus645, Unit645, opened
from simulators.dlt645_purse import SECURITY, Purse
from simulators.dtu import Dtu, DtuPlan
from simulators.metering import Meter
from simulators.modbus_tcp import ModbusTcpLine
from simulators.mqtt_gateway import PassThroughGateway
from simulators.pty485 import PtyLine
from simulators.tcp_slave import TcpLine
from simulators.wire import WireTiming
from tests.headend.money.shop import Fate
from tests.headend.money.test_acrel_gateway import SECRET
from tests.headend.money.test_mqtt_kills import WRITE, Process, one_meter, token_of_a_manager
from tests.headend.party import needs_mosquitto, until
from tests.sim.helpers import HandClock
from tests.sim.helpers import meter as new_meter

pytestmark = needs_mosquitto
CHIP, KEY = "230615000007", bytes(range(32))
PATIENCE_S = 60.0
QUICK = WireTiming(baud=1_000_000, turnaround_s=0.0)
PLAN = DtuPlan(
    registration=b"YARD-DTU-01",
    heartbeat=b"ping",
    heartbeat_s=1.0,
    latency_s=0.0,
    jitter_s=0.0,
    reconnect_s=0.1,
    restart_quiet_s=0.0,
)


class Box(Protocol):
    """What carries a road's bytes, and can die."""

    async def plug(self) -> None: ...
    async def unplug(self) -> None: ...


@dataclass
class Road:
    """One meter behind one kind of gateway. `gateway`: its lines in the site file."""

    name: str
    gateway: Mapping[str, Any]
    box_of: Callable[[Any, Process], Box]
    meter: str = 'type = "acrel_ddsy1352"\nunit = 1'
    bus: Any = field(default_factory=one_meter)
    box: Box | None = None
    on_write: Callable[[], None] = lambda: None
    written: int = 0

    def site(self) -> str:
        told = "".join(f"{key} = {value}\n" for key, value in self.gateway.items())
        return (
            f'[[gateways]]\nname = "G-{self.name}"\n{told}'
            f'[[lines]]\nname = "L-{self.name}"\ngateway = "G-{self.name}"\n'
            "reply_timeout_ms = 1500\nreply_late_ms_max = 2000\n"
            f'[[meters]]\nname = "{self.name}"\nline = "L-{self.name}"\n{self.meter}\n'
        )

    def mute_each_write(self) -> None:
        """The meter does it; nobody hears its answer."""

        def modbus(frame: bytes) -> Fate | None:
            return self._written(Fate.MUTE) if frame[1] == WRITE else None

        def dlt645(frame: bytes) -> str | None:
            said = opened(frame)
            is_purchase = said is not None and said[2][:4] == SECURITY["top_up"]
            return self._written("mute") if is_purchase else None

        self.bus.script = dlt645 if isinstance(self.bus, Bus645) else modbus

    def _written(self, fate: Any) -> Any:
        self.written += 1
        self.on_write()
        return fate

    def credited(self) -> list[int]:
        (unit,) = self.bus.units.values()
        meter: Meter = unit.meter
        return [one.amount_fen for one in meter.applied]


def chip_bus() -> Bus645:
    made = new_meter(HandClock(), number=CHIP, credit_fen=10_000)
    return Bus645([Unit645(meter=made, address=CHIP, purse=Purse(key=KEY))])


def dialled(speech: Callable[[], Any] | None = None, **plan: Any) -> Callable[..., Dtu]:
    def made(bus: Any, process: Process) -> Dtu:
        return Dtu(
            bus,
            replace(PLAN, **plan),
            host="127.0.0.1",
            port=process.dial_in,
            timing=QUICK,
            new_speech=speech,
        )

    return made


def acrel_4g(bus: Any, process: Process) -> Box:
    modem = Modem(serial="12307210720085", answers=Answers.SERIAL_AFTER_WRITE)
    given: dict[str, Any] = {"host": "127.0.0.1", "port": process.dial_in, "timing": QUICK}
    return Acrel4g(bus, modem, PLAN, upload_s=3600.0, **given)


def acrel_gateway(bus: Any, process: Process) -> Box:
    plan = GatewayPlan(
        building="310115D001",
        number="01",
        secret=SECRET,
        heartbeat_s=5.0,
        meter_patience_s=0.5,
        latency_s=0.0,
        jitter_s=0.0,
        reconnect_s=0.1,
    )
    now_ms = bus.units[1].meter.now_ms
    where: dict[str, Any] = {"host": "127.0.0.1", "port": process.dial_in}
    return AcrelGateway({1: bus}, plan, now_ms=now_ms, timing=QUICK, **where)


def mqtt(registration: str, payload: str) -> Callable[..., Box]:
    def made(bus: Any, process: Process) -> Box:
        return PassThroughGateway(
            bus,
            registration,
            host="127.0.0.1",
            port=process.mqtt,
            payload=payload,
            user=registration,
            timing=QUICK,
        )

    return made


def roads_in(folder: Path) -> list[Road]:
    """Every kind of gateway a meter can be topped up behind."""
    secret, tty = folder / "G.secret", folder / "ttyUSB0"
    secret.write_text(SECRET + "\n")
    tcp, ethernet = TcpLine(one_meter(), timing=QUICK), ModbusTcpLine(one_meter(), timing=QUICK)
    counts: Counter[str] = Counter()

    def dtu(registration: str, dialect: str = "transparent") -> dict[str, str]:
        options = f'{{ dialect = "{dialect}" }}'
        return {"kind": '"dtu"', "registration": f'"ascii:{registration}"', "options": options}

    def by_mqtt(registration: str, payload: str) -> dict[str, str]:
        options = f'{{ payload = "{payload}" }}'
        return {"kind": '"mqtt"', "registration": f'"{registration}"', "options": options}

    return [
        Road("serial", {"kind": '"serial"', "device": f'"{tty}"'},
             lambda bus, _: PtyLine(tty, bus, timing=QUICK)),
        Road("converter", {"kind": '"tcp"', "host": '"127.0.0.1"', "port": 0},
             lambda *_: tcp, bus=tcp.line.bus),
        Road("modbus-tcp", {"kind": '"modbus_tcp"', "host": '"127.0.0.1"', "port": 0},
             lambda *_: ethernet, bus=ethernet.line.bus),
        Road("transparent", dtu("YARD-DTU-01"), dialled()),
        Road("hongdian", dtu("13912345678", "ddp"), dialled(lambda: Ddp("13912345678", counts))),
        Road("four-faith", dtu("13912345679", "four_faith"),
             dialled(lambda: FourFaith("13912345679"))),
        Road("dlt645", dtu("YARD-DTU-02"), dialled(registration=b"YARD-DTU-02"),
             f'type = "dlt645_prepaid_single_phase"\naddress = "{CHIP}"', chip_bus()),
        Road("acrel-4g", {"kind": '"acrel_4g"', "registration": '"12307210720085"'}, acrel_4g),
        Road("acrel-gateway", {"kind": '"acrel_gateway"', "registration": '"310115D001/01"',
             "options": f'{{ secret = "file:{secret}" }}'}, acrel_gateway),
        Road("mqtt-raw", by_mqtt("E0001", "raw"), mqtt("E0001", "raw")),
        Road("mqtt-hex", by_mqtt("E0002", "hex"), mqtt("E0002", "hex")),
        Road("mqtt-base64", by_mqtt("E0003", "base64"), mqtt("E0003", "base64")),
    ]  # fmt: skip


@dataclass
class Court:
    """The property, its program and whoever calls its API."""

    roads: list[Road]
    process: Process
    http: httpx.AsyncClient

    async def all_answer(self) -> None:
        """Every meter was read, so its count is known."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(self._answers(road) for road in self.roads))

    async def _answers(self, road: Road) -> None:
        while (await self.http.post(f"/meters/{road.name}/read")).status_code != 200:
            await asyncio.sleep(0.2)

    async def sell_everywhere(self, amount_fen: int) -> dict[str, str]:
        """One top-up on each road; the keys they were ordered under."""
        keys = {road.name: str(uuid4()) for road in self.roads}
        for name, key in keys.items():
            sold = await self.http.post(
                "/topups",
                json={"meter": name, "amount_fen": amount_fen},
                headers={"idempotency-key": key},
            )
            assert sold.status_code == 202, (name, sold.text)
        return keys

    async def all_confirmed(self, keys: Mapping[str, str]) -> None:
        left: dict[str, Any] = dict(keys)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while left:
                    for name in list(left):
                        row = (await self.http.get(f"/commands/{keys[name]}")).json()
                        left[name] = (row["state"], row["outcome"])
                        if row["state"] == "confirmed":
                            del left[name]
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not proved: {left}") from None


async def posted_fen(database: Database, name: str) -> int:
    """What the books say is in this meter; all of them balance."""
    async with database.transaction() as tx:
        meter_id = await tx.value("SELECT meter_id FROM meter WHERE name = %s", name)
        at = await tx.value("SELECT now()")
        credited = await accounts.account_of_meter(tx, meter_id, at)
        assert await accounts.sum_of_balances_fen(tx) == 0
        return (await accounts.balance(tx, credited.account_id)).posted_fen


async def right_everywhere(database: Database, roads: list[Road], *paid_fen: int) -> None:
    for road in roads:
        assert road.credited() == list(paid_fen), road.name
        assert await posted_fen(database, road.name) == sum(paid_fen), road.name
        assert road.written == len(paid_fen), f"{road.name}: looked at, never sent again"


async def test_boxes_and_head_end_die_in_a_top_up_on_every_road(
    dsn: str, database: Database, reachable_folder: Path, tmp_path: Path
) -> None:
    roads, key_file = roads_in(tmp_path), tmp_path / "chip.key"
    key_file.write_text(KEY.hex())
    key_file.chmod(0o600)
    process = Process(dsn, reachable_folder / "own", HEADEND_KEY_BOX=f"file:{key_file}")
    token = await token_of_a_manager(database)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                trust_env=False,
                headers={"authorization": f"Bearer {token}"},
                base_url=f"http://127.0.0.1:{process.http}/api/v1",
                timeout=60,
            )
        )
        court = Court(roads, process, http)
        stack.callback(process.kill)
        await plugged(stack, court)
        await import_and_start(court, tmp_path / "court.toml")
        await court.all_answer()
        for road in roads:
            (unit,) = road.bus.units.values()
            unit.meter.applied.clear()

        await boxes_die(court)
        await right_everywhere(database, roads, 5_000)
        await head_end_dies(court)
        await right_everywhere(database, roads, 5_000, 7_000)


async def plugged(stack: AsyncExitStack, court: Court) -> None:
    for road in court.roads:
        road.box = road.box_of(road.bus, court.process)
        stack.push_async_callback(road.box.unplug)
        if not isinstance(road.box, PassThroughGateway):  # which has no password yet
            await road.box.plug()


async def import_and_start(court: Court, file: Path) -> None:
    text = '[site]\nname = "court"\ntime_zone = "Asia/Shanghai"\n'
    for road in court.roads:
        if isinstance(road.box, TcpLine | ModbusTcpLine):
            road.gateway = {**road.gateway, "port": road.box.port}
        text += road.site()
    file.write_text(text)
    await asyncio.to_thread(court.process.run, "import", str(file))
    await court.process.start()
    for road in court.roads:
        if isinstance(road.box, PassThroughGateway):
            given = await court.http.post(f"/gateways/of/G-{road.name}/mqtt-password")
            await road.box.give_access(given.json()["password"])


async def boxes_die(court: Court) -> None:
    """Each box dies with the write in its meter and nothing said; all come back."""
    dead: list[asyncio.Task[None]] = []
    for road in court.roads:
        assert road.box is not None
        unplug = road.box.unplug
        road.on_write = lambda unplug=unplug: dead.append(asyncio.create_task(unplug()))  # type: ignore[misc]
        road.mute_each_write()
    keys = await court.sell_everywhere(5_000)
    await until(lambda: len(dead) == len(court.roads) and all(task.done() for task in dead))
    for road in court.roads:
        assert road.box is not None
        await road.box.plug()
    await court.all_confirmed(keys)


async def head_end_dies(court: Court) -> None:
    """The program is killed when every write is in its meter and none is answered."""
    for road in court.roads:
        road.on_write = lambda: None
    keys = await court.sell_everywhere(7_000)
    await until(lambda: all(road.written == 2 for road in court.roads))
    court.process.kill()
    await court.process.start()
    await court.all_confirmed(keys)


async def test_every_kind_of_gateway_has_its_road(tmp_path: Path) -> None:
    kinds = {str(road.gateway["kind"]).strip('"') for road in roads_in(tmp_path)}
    carries_none = {GatewayKind.TERMINAL.value}  # tests/headend/terminals
    assert kinds == {kind.value for kind in GatewayKind} - carries_none
