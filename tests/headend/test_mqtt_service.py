"""MQTT as a part of a whole head-end: who is given access, what a gateway of somebody else brings,
what is told when there is no broker. The other side is mosquitto's own clients."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from headend.app import HeadEnd, running
from headend.domain.places import Gateway, GatewayKind, LinePlace
from headend.domain.roles import Role
from headend.services.importing import import_into
from headend.settings import Settings
from headend.store import desk_days, people
from tests.headend.house import QUICK, ddsy, site_on
from tests.headend.party import Party, needs_mosquitto, until

pytestmark = needs_mosquitto
needs_clients = pytest.mark.skipif(
    shutil.which("mosquitto_pub") is None, reason="mosquitto's clients are not installed"
)
REPORT = (
    '{"msgid": "1", "method": "report", "sn": "E0001", "timestamp": %d, "payload": {"reported":'
    ' {"source": "REALTIME", "meters": [{"addr": "1", "EPI": 1234.5}]}}}'
)


@dataclass
class Office:
    """A head-end with one MQTT gateway, and a person of each role at its API."""

    head_end: HeadEnd
    http: httpx.AsyncClient
    tokens: dict[Role, str]
    settings: Settings

    @property
    def port(self) -> int:
        broker = self.head_end.services.mqtt.broker
        assert broker is not None
        return broker.port

    async def call(
        self, method: str, path: str, role: Role = Role.TECHNICIAN, **body: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens[role]}"}
        return await self.http.request(method, path, headers=headers, json=body or None)

    async def password(self, gateway: str = "G1") -> str:
        answer = await self.call("POST", f"/api/v1/gateways/of/{gateway}/mqtt-password")
        assert answer.status_code == 201, answer.text
        given: str = answer.json()["password"]
        return given

    async def metric(self, name: str) -> float | None:
        text = (await self.http.get("/metrics")).text
        found = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(found[0].split()[1]) if found else None


@asynccontextmanager
async def office(dsn: str, folder: Path, **settings: Any) -> AsyncIterator[Office]:
    chosen = Settings(
        **{
            "data_folder": folder,
            "database_url": dsn,
            "http_port": 0,
            "dial_in_host": "127.0.0.1",
            "dial_in_port": 0,
            "mqtt_broker_port": 0,
            **settings,
        }
    )
    site = replace(
        site_on(1, (ddsy(1),)),
        gateways=(Gateway(name="G1", kind=GatewayKind.MQTT, registration="E0001"),),
        lines=(LinePlace(name="L1", gateway="G1"),),
    )
    async with running(chosen, pace=QUICK) as head_end:
        services = head_end.services
        await import_into(services.database, site)
        await until(lambda: "M1" in services.lines.meters)
        at = services.clock.now()
        tokens = {}
        async with services.database.transaction() as tx:
            for role in Role:
                operator = await people.add_operator(tx, role.value, role, at=at)
                assert operator is not None
                tokens[role] = await people.add_token(
                    tx, operator, "test", at=at, expires_at=at + timedelta(days=1)
                )
        url = f"http://127.0.0.1:{head_end.http_port}"
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
            yield Office(head_end, http, tokens, chosen)


async def tool(*words: str, **environment: str) -> tuple[int, str, str]:
    """A program of this machine: its exit code, output and errors."""
    child = await asyncio.create_subprocess_exec(
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    out, err = await child.communicate()
    return child.returncode or 0, out.decode(), err.decode()


@needs_clients
async def test_a_gateway_is_given_access_and_its_report_is_committed(
    dsn: str, reachable_folder: Path
) -> None:
    async with office(dsn, reachable_folder / "access") as desk:
        services = desk.head_end.services
        await until(lambda: services.mqtt.state == "up")
        headend = str(Path(sys.executable).parent / "headend")
        code, password, err = await tool(
            *(headend, "mqtt-password", "G1", "--http-port", str(desk.head_end.http_port)),
            HEADEND_TOKEN=desk.tokens[Role.TECHNICIAN],
            HEADEND_LANG="en",
        )
        assert code == 0, err
        password = password.strip()
        assert "shown this once" in err
        here = ("-h", "127.0.0.1", "-p", str(desk.port), "-u", "E0001")
        report = REPORT % int(services.clock.now().timestamp())
        said = ("-q", "1", "-t", "data/up/P1/E0001", "-m", report)
        code, _, err = await tool("mosquitto_pub", *here, "-P", "wrong", *said)
        assert code != 0
        code, _, err = await tool("mosquitto_pub", *here, "-P", password, *said)
        assert code == 0, err
        async with asyncio.timeout(30):
            while True:
                async with services.database.transaction() as tx:
                    row = await tx.row("SELECT origin, energy_wh FROM reading")
                if row is not None:
                    break
                await asyncio.sleep(0.05)
        assert row == ("pushed", 1_234_500)

        folder = desk.settings.data_folder / "broker" / "settings"
        async with services.database.transaction() as tx:
            kept = await tx.value("SELECT hash FROM mqtt_password")
        assert password not in kept + (folder / "passwords").read_text()
        assert kept in (folder / "passwords").read_text()


async def test_a_renewed_password_ends_the_old_one_and_a_taken_one_all(
    dsn: str, reachable_folder: Path
) -> None:
    async with office(dsn, reachable_folder / "renewed") as desk:
        await until(lambda: desk.head_end.services.mqtt.state == "up")
        first = await desk.password()
        async with Party(desk.port, "E0001", first) as gate:
            assert gate.received == 0
            second = await desk.password()
            await until(lambda: gate.falls)
        async with Party(desk.port, "E0001", second) as gate:
            assert gate.received == 0
            path = "/api/v1/gateways/of/G1/mqtt-password"
            taken = await desk.call("DELETE", path, Role.MANAGER)
            assert taken.status_code == 200, taken.text
            await until(lambda: gate.falls)
        async with Party(desk.port, "E0001", second) as gate:
            assert gate.received != 0
        again = await desk.call("DELETE", path)
        assert (again.status_code, again.json()["code"]) == (404, "no-mqtt-password")

        rows = (await desk.call("GET", path, Role.AUDITOR)).json()
        assert [(row["created_by"], row["revoked_by"]) for row in rows] == [
            ("technician", "manager"),
            ("technician", "technician"),
        ]
        assert "password" not in rows[0]
        services = desk.head_end.services
        async with services.database.transaction() as tx:
            did = await desk_days.who_did_what(
                tx, before=services.clock.now() + timedelta(minutes=1), operator="technician"
            )
        assert sorted((one.what, one.subject) for one in did) == [
            ("mqtt-password-given", "G1"),
            ("mqtt-password-given", "G1"),
            ("mqtt-password-taken", "G1"),
        ]
        assert services.mqtt.state == "up", "we ourselves were never put out"
        assert services.mqtt.record()["connections"] == 1


async def test_who_may_give_access_and_to_what(dsn: str, reachable_folder: Path) -> None:
    async with office(dsn, reachable_folder / "may") as desk:
        path = "/api/v1/gateways/of/{}/mqtt-password"
        for role in Role:
            may = role in (Role.TECHNICIAN, Role.MANAGER)
            answer = await desk.call("POST", path.format("G1"), role)
            assert (answer.status_code == 201) is may, role
            assert (answer.status_code == 403) is not may, role
        unknown = await desk.call("POST", path.format("G9"))
        assert (unknown.status_code, unknown.json()["code"]) == (404, "no-such-gateway")
        services = desk.head_end.services
        at = services.clock.now()
        async with services.database.transaction() as tx:
            elsewhere = await tx.value(
                "INSERT INTO site (name, time_zone, night_opens, night_closes)"
                " VALUES ('elsewhere', 'Asia/Shanghai', '23:55', '06:00') RETURNING site_id"
            )
            far = await people.add_operator(tx, "far", Role.MANAGER, at=at, sites=[elsewhere])
            assert far is not None
            desk.tokens[Role.MANAGER] = await people.add_token(
                tx, far, "test", at=at, expires_at=at + timedelta(days=1)
            )
        hidden = await desk.call("POST", path.format("G1"), Role.MANAGER)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "no-such-gateway")


async def test_a_new_gateway_is_adopted_and_let_in(dsn: str, reachable_folder: Path) -> None:
    """On our own broker it cannot call before it is known; on a site's own it is on the list."""
    async with office(dsn, reachable_folder / "adopted") as desk:
        services = desk.head_end.services
        await until(lambda: services.mqtt.state == "up")
        wish: dict[str, Any] = {"stranger": "E0002", "site": "court", "name": "G2"}
        answer = await desk.call("POST", "/api/v1/gateways/adopt", **wish)
        assert answer.json()["code"] == "no-such-stranger"
        for stranger, kind in (("headend", "mqtt"), ("+", "mqtt"), ("E0002", "dtu")):
            answer = await desk.call(
                "POST", "/api/v1/gateways/adopt", **wish | {"stranger": stranger, "kind": kind}
            )
            assert answer.json()["code"] == "not-adopted", answer.text

        # Somebody who may publish everything pushes under its name, as on a broker without rules.
        services.mqtt.roads._message(  # type: ignore[union-attr]  # it is up
            "/usr/E0002/data", b'{"ts": 1, "params": {"1_kwh": 1}}'
        )
        (stranger_row,) = (await desk.call("GET", "/api/v1/gateways/strangers")).json()
        assert (stranger_row["registration"], stranger_row["dialect"]) == ("E0002", "mqtt")

        more: dict[str, Any] = {
            "kind": "mqtt",
            "options": {"payload": "hex"},
            "meter_type": "acrel_ddsy1352",
        }
        answer = await desk.call("POST", "/api/v1/gateways/adopt", **wish, **more)
        assert answer.status_code == 201, answer.text
        await until(lambda: "G2" in services.lines.lines)
        password = await desk.password("G2")
        async with Party(desk.port, "E0002", password) as gate:
            assert gate.received == 0
            await gate.hear("headend/E0002/down/1")
            assert await services.lines.lines["G2"].wait_up(30)
            reading = asyncio.create_task(services.nights.read_now(services.lines.find_meter("G2")))
            await until(lambda: gate.heard)
            assert bytes.fromhex(gate.heard[0][1].decode())[0] == 1, "a frame to unit 1, in hex"
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        assert (await desk.call("GET", "/api/v1/gateways/strangers")).json() == []


async def test_it_is_told_when_there_is_no_broker_and_why(dsn: str, reachable_folder: Path) -> None:
    async with office(dsn, reachable_folder / "off", mqtt_broker="off") as desk:
        health = (await desk.http.get("/health")).json()
        assert (health["status"], health["mqtt"]) == ("degraded", "off")
        assert health["problems"] == ["MQTT is off: mqtt_broker is off and no mqtt_url is set."]
        assert (await desk.metric("headend_mqtt_up"), await desk.metric("headend_mqtt_off")) == (
            0.0,
            1.0,
        )
        (line,) = (await desk.call("GET", "/api/v1/lines")).json()
        assert "mqtt_broker is off" in line["detail"]
        headend = str(Path(sys.executable).parent / "headend")
        _, out, _ = await tool(
            *(headend, "lines", "--http-port", str(desk.head_end.http_port)),
            HEADEND_LANG="en",
            COLUMNS="200",
        )
        assert "MQTT is not there: MQTT is off: mqtt_broker is off" in out
        answer = await desk.call("POST", "/api/v1/gateways/of/G1/mqtt-password")
        assert (answer.status_code, answer.json()["code"]) == (503, "mqtt-off")


async def test_a_machine_without_mosquitto_is_told_what_to_install(
    dsn: str, reachable_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headend.services.broker_places.find_program", lambda: None)
    async with office(dsn, reachable_folder / "missing") as desk:
        record = (await desk.call("GET", "/api/v1/mqtt")).json()
        assert (record["state"], record["code"]) == ("off", "broker-missing")
        assert "apt-get install mosquitto" in record["detail"]


async def test_a_port_that_is_taken_stops_nothing_and_is_told(
    dsn: str, reachable_folder: Path
) -> None:
    other = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        async with office(dsn, reachable_folder / "taken", mqtt_broker_port=port) as desk:
            record = (await desk.call("GET", "/api/v1/mqtt")).json()
            assert (record["state"], record["code"]) == ("down", "port-in-use")
            assert f"Port {port}" in record["detail"]
            assert record["connections"] == 0, "whoever has the port is not our broker"
            health = (await desk.http.get("/health")).json()
            assert f"Port {port}" in health["mqtt_detail"]
            assert health["mqtt"] == "down"
            other.close()
            await until(lambda: desk.head_end.services.mqtt.state == "up")
            assert (await desk.http.get("/health")).json()["status"] == "ok"
            assert await desk.metric("headend_mqtt_up") == 1.0
