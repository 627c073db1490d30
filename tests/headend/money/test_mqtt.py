"""Nights, money and pushed readings over a real MQTT broker."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateways.mqtt import BrokerPlace
from gateways.mqtt_link import expiry_s
from headend.domain.commands import CommandKind, CommandState
from headend.domain.places import Gateway, GatewayKind, LinePlace, Site
from headend.services.lines import timing_of
from headend.services.mqtt_roads import MqttRoads
from headend.services.uplinks import Uplinks
from headend.store.database import Database
from simulators.line_command import LineWish
from simulators.mqtt_gateway import MqttClient, PassThroughGateway
from simulators.wire import WireTiming
from tests.headend.house import House, ddsy, site_on, small_house
from tests.headend.money.shop import PATIENCE_S, ScriptedBus, Shop, opened_shop

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
S = CommandState


class HasPort(Protocol):
    """A broker on this machine."""

    port: int


class Broker:
    """A mosquitto of somebody else's: starts, dies, and starts again on its port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port: int = taken.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(  # noqa: ASYNC220  it comes back at once
            [MOSQUITTO, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        await until(self._answers)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[Broker]:
    made = Broker(folder)
    await made.start()
    try:
        yield made
    finally:
        made.kill()


def site(payload: str = "raw") -> Site:
    gateway = Gateway(
        name="G1",
        kind=GatewayKind.MQTT,
        registration="E0001",
        options={"payload": payload},
    )
    line = LinePlace(name="L1", gateway="G1", reply_timeout_ms=500, reply_late_ms_max=700)
    return replace(site_on(1, (ddsy(1),)), gateways=(gateway,), lines=(line,))


@asynccontextmanager
async def roads_of(
    house: House, database: Database, there: HasPort, password: str | None = None
) -> AsyncIterator[tuple[MqttRoads, Uplinks]]:
    uplinks = Uplinks(database, house.book, house.sink, house.clock)
    user = None if password is None else "headend"
    place = BrokerPlace(host="127.0.0.1", port=there.port, user=user, password=password)
    roads = MqttRoads(place, house.book, uplinks, house.clock)
    uplinks.start()
    roads.start()
    try:
        await roads.follow()
        await until(lambda: roads.mqtt.is_connected)
        yield roads, uplinks
    finally:
        await roads.stop()
        await uplinks.stop()


@asynccontextmanager
async def mqtt_shop(
    database: Database,
    folder: Path,
    there: HasPort,
    payload: str,
    passwords: tuple[str, str] | None = None,
) -> AsyncIterator[Shop]:
    """`passwords`: of the head-end and of the gateway, on a broker that asks for them."""
    ours, its = passwords or (None, None)
    wish = LineWish.parse(
        meters=["ddsy:1"],
        pty=None,
        tcp="127.0.0.1:0",
        baud=1_000_000,
        bits=10,
        turnaround_s=0.0,
        seed=1,
        faults="{}",
    )
    bus = ScriptedBus(wish.bus())
    box = PassThroughGateway(
        bus,
        "E0001",
        host="127.0.0.1",
        port=there.port,
        payload=payload,
        user=None if its is None else "E0001",
        password=its,
        timing=WireTiming(baud=1_000_000, turnaround_s=0.0),
    )
    async with small_house(database, folder) as house:
        await house.move_in(site(payload))
        async with roads_of(house, database, there, ours):
            await box.plug()
            try:
                await box.client.connected.wait()
                assert await house.book.lines["L1"].wait_up(PATIENCE_S)
                async with opened_shop(house, database, bus, box) as opened:
                    yield opened
            finally:
                await box.unplug()


@pytest.mark.parametrize("payload", ["raw", "hex", "base64"])
async def test_a_night_a_top_up_a_cut_and_a_restore(
    payload: str, database: Database, tmp_path: Path
) -> None:
    async with broker(tmp_path) as there, mqtt_shop(database, tmp_path, there, payload) as s:
        assert await s.house.collect() == {"M1": "read"}
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.CONFIRMED)
        assert s.credited() == [5_000]
        assert await s.books() == (5_000, 0, 0)
        assert len(await s.attempts(command.command_id)) == 1
        await s.reaches(await s.switched(CommandKind.CUT), S.CONFIRMED)
        assert not s.meter().look().relay_closed
        s.later(hours=1)  # a relay is not switched to and fro
        await s.restored()
        assert s.meter().look().relay_closed
        assert len(s.bus.writes()) == 4, "each once: money, open, close, let go"


async def test_a_broker_killed_in_a_top_up_ends_with_the_right_money(
    database: Database, tmp_path: Path
) -> None:
    async with broker(tmp_path) as there, mqtt_shop(database, tmp_path, there, "raw") as s:
        killed: list[bytes] = []

        def kill_at_the_write(frame: bytes) -> None:
            if frame[1] == 0x20 and not killed:
                killed.append(frame)
                there.kill()  # the meter does it; its answer finds no broker

        s.bus.script = kill_at_the_write
        await s.open_sender()
        sold = await s.sell(5_000)
        await until(lambda: bool(killed))
        await there.start()
        command = await s.reaches(sold, S.CONFIRMED)
        assert "unknown" in [e.new_state for e in await s.events(command.command_id)]
        assert s.credited() == [5_000]
        assert len(s.bus.writes()) == 1, "looked at, never sent again"


async def test_what_gateways_push_becomes_readings_and_they_get_their_answers(
    database: Database, tmp_path: Path
) -> None:
    async with broker(tmp_path) as there, small_house(database, tmp_path) as house:
        await house.move_in(site())
        async with roads_of(house, database, there) as (roads, uplinks):
            device = MqttClient("E0001", "127.0.0.1", there.port)
            told: list[bytes] = []
            device.listen("/server/acrelHW/P1/time/E0001", told.append)
            await device.start()
            try:
                await device.connected.wait()
                device.say("/gw/acrelHW/P1/time/E0001", b'{"type": "time"}')
                seconds = int(house.clock.now().timestamp())
                body = f'{{"ts": {seconds}, "params": {{"1_kwh": 1234.5, "1_yuan": "12.30"}}}}'
                device.say("/usr/E0001/data", body.encode())
                device.say("/usr/E0001/data", b"not json at all")
                await until(lambda: bool(told) and roads.counts["pushed"] == 1)
                await until(lambda: roads.counts["unknown"] == 1)
                assert b"20260320100000" in told[0]
                await uplinks.flush()
                await house.sink.flush()
                async with database.transaction() as tx:
                    row = await tx.row(
                        "SELECT origin, energy_wh, remaining_credit_fen FROM reading"
                    )
                assert row == ("pushed", 1_234_500, 1_230)
                (unknown,) = roads.record()["unknown_samples"]
                assert unknown == {"topic": "/usr/E0001/data", "sample": "not json at all"}
            finally:
                await device.stop()


async def test_nothing_is_written_while_the_broker_is_away(
    database: Database, tmp_path: Path
) -> None:
    async with broker(tmp_path) as there, mqtt_shop(database, tmp_path, there, "raw") as s:
        there.kill()
        line = s.house.book.lines["L1"].line
        await until(lambda: not line.is_up)
        assert "broker" in (line.down_reason or "")
        await s.open_sender()
        sold = await s.sell(5_000)
        assert (await s.command(sold)).state is S.QUEUED
        await there.start()
        await s.reaches(sold, S.CONFIRMED)
        assert s.credited() == [5_000]


@pytest.mark.parametrize(
    ("timeout_ms", "late_ms", "late_s", "expires_s"),
    [(500, 700, 2.5, 1), (None, None, 3.0, 1), (3_000, 10_000, 10.0, 6), (500, 3_499, 3.499, 1)],
)
def test_a_frame_dies_early_enough_for_its_answer(
    timeout_ms: int | None, late_ms: int | None, late_s: float, expires_s: int
) -> None:
    place = replace(site().lines[0], reply_timeout_ms=timeout_ms, reply_late_ms_max=late_ms)
    timing = timing_of(place, site().gateways[0])
    assert timing.reply_late_s_max == late_s
    assert expiry_s(timing) == expires_s
    delivered_s_max = expires_s + 1  # a broker counts whole seconds
    assert delivered_s_max + timing.reply_timeout_s <= timing.reply_late_s_max


async def test_every_frame_carries_its_expiry(database: Database, tmp_path: Path) -> None:
    async with broker(tmp_path) as there, mqtt_shop(database, tmp_path, there, "raw") as s:
        seen: dict[bytes, int | None] = {}
        spy = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)

        def heard(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
            expiry = getattr(message.properties, "MessageExpiryInterval", None)
            seen[bytes(message.payload)] = expiry

        subscribed: list[object] = []
        spy.on_message = heard
        spy.on_subscribe = lambda *_: subscribed.append(True)
        spy.connect("127.0.0.1", there.port)
        spy.subscribe("headend/E0001/down/1")
        spy.loop_start()
        try:
            await until(lambda: bool(subscribed))
            await s.open_sender()
            await s.reaches(await s.sell(5_000), S.CONFIRMED)
            (write,) = s.bus.writes()
            await until(lambda: write in seen)
            assert set(seen.values()) == {1}
        finally:
            spy.disconnect()
            await asyncio.to_thread(spy.loop_stop)
