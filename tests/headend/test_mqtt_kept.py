"""What a gateway pushed and no database has yet is heard once more after the program was killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
import psycopg
import pytest

from gateways import mqtt_acks
from gateways.mqtt_acks import Acks
from headend.store.database import Database
from tests.headend.money.test_mqtt_kills import SITE, Process, token_of_a_manager
from tests.headend.party import Party, needs_mosquitto
from tests.headend.test_mqtt_service import REPORT

PATIENCE_S = 60.0


@asynccontextmanager
async def no_commit(dsn: str) -> AsyncIterator[None]:
    """No reading can be stored meanwhile."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("LOCK TABLE reading IN ACCESS EXCLUSIVE MODE")
        yield
        await connection.rollback()


@needs_mosquitto
async def test_a_report_between_the_broker_and_its_commit_survives_a_kill(
    dsn: str, database: Database, reachable_folder: Path, tmp_path: Path
) -> None:
    site = tmp_path / "court.toml"
    site.write_text(SITE)
    process = Process(dsn, reachable_folder / "kept")
    await asyncio.to_thread(process.run, "import", str(site))
    token = await token_of_a_manager(database)
    url = f"http://127.0.0.1:{process.http}/api/v1"
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=60) as http:
        try:
            await process.start()
            given = (await http.post(f"{url}/gateways/of/G1/mqtt-password")).json()
            async with database.transaction() as tx:
                now = await tx.value("SELECT extract(epoch FROM now())::int")

            async def counts() -> dict[str, int]:
                told: dict[str, int] = (await http.get(f"{url}/uplinks")).json()["counts"]
                return told

            async with no_commit(dsn):
                async with Party(process.mqtt, given["user"], given["password"]) as gateway:
                    await gateway.say("data/up/P1/E0001", (REPORT % now).encode())
                async with asyncio.timeout(PATIENCE_S):
                    while not (await counts()).get("taken"):  # it is in the memory of the program
                        await asyncio.sleep(0.05)
                process.kill()
            async with database.transaction() as tx:
                assert await tx.value("SELECT count(*) FROM reading") == 0
            await process.start()
            async with asyncio.timeout(PATIENCE_S):
                row = None
                while row is None:
                    async with database.transaction() as tx:
                        row = await tx.row("SELECT origin, energy_wh FROM reading")
                    await asyncio.sleep(0.05)
            assert row == ("pushed", 1_234_500)
        finally:
            process.kill(signal.SIGTERM)


class Told:
    """A client that keeps what is acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []

    def acknowledge(self, message: aiomqtt.Message) -> None:
        self.acknowledged.append(message.mid)


def message(mid: int, qos: int = 1) -> aiomqtt.Message:
    return aiomqtt.Message("t", b"", qos, False, mid, None)


def future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


async def test_messages_are_acknowledged_in_their_order_once_they_are_safe() -> None:
    told, first, second = Told(), future(), future()
    acks = Acks(told)  # type: ignore[arg-type]  # as much of a client as is asked
    acks.owe(message(1), first)
    acks.owe(message(2), second)
    acks.owe(message(3, qos=0), None)
    acks.owe(message(4), None)
    second.set_result(None)
    await asyncio.sleep(0.01)
    assert told.acknowledged == [], "the first is not safe"
    first.set_result(None)
    await asyncio.sleep(0.01)
    assert told.acknowledged == [1, 2, 4]
    acks.owe(message(5), last := future())
    acks.close()
    last.set_result(None)
    await asyncio.sleep(0.01)
    assert told.acknowledged == [1, 2, 4], "of a connection that is gone"


async def test_a_message_nobody_settles_does_not_hold_the_window_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mqtt_acks, "ACK_S_MAX", 0.05)
    told = Told()
    acks = Acks(told)  # type: ignore[arg-type]  # as much of a client as is asked
    acks.owe(message(1), future())
    acks.owe(message(2), future())
    async with asyncio.timeout(5):
        while told.acknowledged != [1, 2]:
            await asyncio.sleep(0.01)
    acks.close()
