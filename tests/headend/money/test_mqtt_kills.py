"""Everything on the road of MQTT is killed in the middle of a top-up, once each: our own broker,
the gateway, the head-end itself. The meter takes the money once, and the books say so."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from headend.domain.broker_names import BrokerUser
from headend.domain.commands import CommandState
from headend.domain.roles import Role
from headend.store import accounts, people
from headend.store.broker import EmbeddedBroker, find_program
from headend.store.broker_files import password_hash
from headend.store.database import Database
from simulators.line_command import LineWish
from simulators.mqtt_gateway import PassThroughGateway
from simulators.wire import WireTiming
from tests.headend.money.shop import Fate, ScriptedBus, Shop
from tests.headend.money.test_mqtt import mqtt_shop
from tests.headend.party import needs_mosquitto, until

pytestmark = needs_mosquitto
S = CommandState
HEADEND = str(Path(sys.executable).parent / "headend")
WRITE = 0x20
START_S_MAX = 90  # of a whole program on a machine that has others to run


@asynccontextmanager
async def our_broker(folder: Path) -> AsyncIterator[EmbeddedBroker]:
    program = find_program()
    assert program is not None
    broker = EmbeddedBroker(folder, program, port=0)
    await broker.start(
        [
            BrokerUser(
                name="headend", password_hash=password_hash("ours"), reads=("#",), writes=("#",)
            ),
            BrokerUser(
                name="E0001",
                password_hash=password_hash("its"),
                reads=("headend/E0001/down/1",),
                writes=("headend/E0001/up/1",),
            ),
        ]
    )
    try:
        yield broker
    finally:
        await broker.stop()


async def ends_with_the_right_money(s: Shop, sold: Any) -> None:
    command = await s.reaches(sold, S.CONFIRMED)
    assert "unknown" in [e.new_state for e in await s.events(command.command_id)]
    assert s.credited() == [5_000]
    assert await s.books() == (5_000, 0, 0)
    assert len(s.bus.writes()) == 1, "looked at, never sent again"


async def test_our_broker_killed_in_a_top_up(
    database: Database, reachable_folder: Path, tmp_path: Path
) -> None:
    async with (
        our_broker(reachable_folder / "killed") as there,
        mqtt_shop(database, tmp_path, there, "raw", ("ours", "its")) as s,
    ):
        killed: list[int] = []

        def kill_at_the_write(frame: bytes) -> None:
            if frame[1] == WRITE and not killed and there.pid is not None:
                killed.append(there.pid)
                os.kill(there.pid, signal.SIGKILL)  # the meter does it; nobody hears its answer

        s.bus.script = kill_at_the_write
        await s.open_sender()
        sold = await s.sell(5_000)
        await until(lambda: killed)
        await until(lambda: there.pid not in (None, killed[0]))  # it came back by itself
        await ends_with_the_right_money(s, sold)


@pytest.mark.parametrize("meter_heard_it", [True, False])
async def test_the_gateway_unplugged_in_a_top_up(
    meter_heard_it: bool, database: Database, reachable_folder: Path, tmp_path: Path
) -> None:
    async with (
        our_broker(reachable_folder / f"unplugged-{meter_heard_it}") as there,
        mqtt_shop(database, tmp_path, there, "hex", ("ours", "its")) as s,
    ):
        gone: list[asyncio.Task[None]] = []

        def unplug_at_the_write(frame: bytes) -> Fate | None:
            if frame[1] == WRITE and not gone:
                gone.append(asyncio.create_task(s.unplug()))
                return Fate.MUTE if meter_heard_it else Fate.LOSE
            return None

        s.bus.script = unplug_at_the_write
        await s.open_sender()
        sold = await s.sell(5_000)
        await until(lambda: gone and gone[0].done())
        await s.reaches(sold, S.UNKNOWN)
        assert len(s.bus.writes()) == 1
        await s.plug()
        if meter_heard_it:
            await ends_with_the_right_money(s, sold)
        else:
            await s.reaches(sold, S.CONFIRMED)  # seen not to be there, and only then sent again
            assert s.credited() == [5_000]
            assert await s.books() == (5_000, 0, 0)
            assert len(s.bus.writes()) == 2


# ---- the head-end itself, a process of its own ---------------------------------------------------

SITE = """
[site]
name = "court"
time_zone = "Asia/Shanghai"

[[gateways]]
name = "G1"
kind = "mqtt"
registration = "E0001"

[[lines]]
name = "L1"
gateway = "G1"
reply_timeout_ms = 500
reply_late_ms_max = 700

[[meters]]
name = "M1"
line = "L1"
type = "acrel_ddsy1352"
unit = 1
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Process:
    """`headend run` with our own broker, to be killed."""

    def __init__(self, dsn: str, folder: Path, **settings: str) -> None:
        self.http, self.mqtt, self.dial_in = free_port(), free_port(), free_port()
        self._environment = os.environ | {
            "HEADEND_DATABASE_URL": dsn,
            "HEADEND_DATA_FOLDER": str(folder),
            "HEADEND_HTTP_PORT": str(self.http),
            "HEADEND_DIAL_IN_HOST": "127.0.0.1",
            "HEADEND_DIAL_IN_PORT": str(self.dial_in),
            "HEADEND_MQTT_BROKER_PORT": str(self.mqtt),
            **settings,
        }
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, *words: str) -> None:
        subprocess.run(
            [HEADEND, *words], check=True, capture_output=True, env=self._environment, timeout=120
        )

    async def start(self) -> None:
        self._child = subprocess.Popen(  # noqa: ASYNC220  it comes back at once
            [HEADEND, "run"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(START_S_MAX):
            while True:
                try:
                    seen = (await http.get(f"http://127.0.0.1:{self.http}/health")).json()
                except httpx.TransportError:
                    seen = {}
                if seen.get("mqtt") == "up":
                    return
                await asyncio.sleep(0.05)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._child is not None:
            self._child.send_signal(number)
            self._child.wait(60)


async def token_of_a_manager(database: Database) -> str:
    async with database.transaction() as tx:
        at = await tx.value("SELECT now()")
        until_at = await tx.value("SELECT now() + interval '1 day'")
        manager = await people.add_operator(tx, "wang", Role.MANAGER, at=at)
        assert manager is not None
        return await people.add_token(tx, manager, "test", at=at, expires_at=until_at)


def one_meter() -> ScriptedBus:
    wish = LineWish.parse(
        meters=["ddsy:1"], pty=None, tcp="127.0.0.1:0", baud=1_000_000, bits=10, turnaround_s=0.0,
        seed=1, faults="{}",
    )  # fmt: skip
    return ScriptedBus(wish.bus())


async def posted_fen(database: Database) -> int:
    """What the books say is in the meter; they balance."""
    async with database.transaction() as tx:
        meter_id = await tx.value("SELECT meter_id FROM meter WHERE name = 'M1'")
        at = await tx.value("SELECT now()")
        credited = await accounts.account_of_meter(tx, meter_id, at)
        assert await accounts.sum_of_balances_fen(tx) == 0
        return (await accounts.balance(tx, credited.account_id)).posted_fen


async def test_the_head_end_killed_in_a_top_up(
    dsn: str, database: Database, reachable_folder: Path, tmp_path: Path
) -> None:
    site = tmp_path / "court.toml"
    site.write_text(SITE)
    process = Process(dsn, reachable_folder / "own-process")
    await asyncio.to_thread(process.run, "import", str(site))
    token, bus = await token_of_a_manager(database), one_meter()
    headers = {"authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{process.http}/api/v1"
    box: PassThroughGateway | None = None
    async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=60) as http:
        try:
            await process.start()
            given = (await http.post(f"{url}/gateways/of/G1/mqtt-password")).json()
            box = PassThroughGateway(
                bus,
                "E0001",
                host="127.0.0.1",
                port=process.mqtt,
                user=given["user"],
                password=given["password"],
                timing=WireTiming(baud=1_000_000, turnaround_s=0.0),
            )
            await box.plug()
            await box.client.connected.wait()
            async with asyncio.timeout(START_S_MAX):
                while (await http.post(f"{url}/meters/M1/read")).status_code != 200:
                    await asyncio.sleep(0.1)
            bus.units[1].meter.applied.clear()
            killed: list[bytes] = []

            def kill_at_the_write(frame: bytes) -> None:
                if frame[1] == WRITE and not killed:
                    killed.append(frame)
                    process.kill()

            bus.script = kill_at_the_write
            key = str(uuid4())
            sold = await http.post(
                f"{url}/topups",
                json={"meter": "M1", "amount_fen": 5_000},
                headers={"idempotency-key": key},
            )
            assert sold.status_code == 202, sold.text
            await until(lambda: killed)
            await process.start()  # its broker with it: the gateway comes back with its password
            async with asyncio.timeout(START_S_MAX):
                row: dict[str, Any] = {}
                while row.get("state") != "confirmed":
                    row = (await http.get(f"{url}/commands/{key}")).json()
                    await asyncio.sleep(0.05)
            assert [a.amount_fen for a in bus.units[1].meter.applied] == [5_000]
            assert len(bus.writes()) == 1, json.dumps(row)
            assert await posted_fen(database) == 5_000
        finally:
            process.kill(signal.SIGTERM)
            if box is not None:
                await box.unplug()
