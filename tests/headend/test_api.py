"""The API of a whole head-end: real HTTP, real database, simulated meters on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from headend.app import HeadEnd, running
from headend.domain.problems import Problem
from headend.services.importing import import_into
from headend.settings import Settings
from simulators.tcp_slave import TcpLine
from tests.headend.house import QUICK, ddsy, line_of, site_on


@dataclass
class Served:
    head_end: HeadEnd
    http: httpx.AsyncClient
    wire: TcpLine

    @property
    def key(self) -> dict[str, str]:
        """As a header: what opens looking to whoever runs this head-end."""
        return {"authorization": f"Bearer {self.head_end.services.machine_key.text}"}

    async def get(self, path: str, **params: Any) -> Any:
        response = await self.http.get(path, params=params, headers=self.key)
        assert response.status_code == 200, response.text
        return response.json()


@asynccontextmanager
async def served(dsn: str, folder: Path, *units: str) -> AsyncIterator[Served]:
    wire = line_of(*units)
    await wire.plug()
    settings = Settings(
        data_folder=folder, database_url=dsn, http_port=0, dial_in_host="127.0.0.1", dial_in_port=0
    )
    try:
        async with running(settings, pace=QUICK) as head_end:
            site = site_on(wire.port, (ddsy(1), ddsy(2), ddsy(4)))
            await import_into(head_end.services.database, site)
            async with asyncio.timeout(30):
                while "M1" not in head_end.services.lines.meters:  # it follows the import by itself
                    await asyncio.sleep(0.02)
            url = f"http://127.0.0.1:{head_end.http_port}"
            async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
                yield Served(head_end, http, wire)
    finally:
        await wire.unplug()


async def test_a_night_seen_through_the_api(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1-2") as desk:
        nights = desk.head_end.services.nights
        await nights.collect_now("court", QUICK)
        await nights.finished("court")

        health = await desk.get("/health")
        assert health["status"] == "ok"
        assert health["lines_up"] == 1
        assert health["readings_waiting"] == 0

        (row,) = await desk.get("/api/v1/nights")
        assert (row["meters"], row["read"], row["gaps"]) == (3, 2, {"meter_silent": 1})
        cells = await desk.get(f"/api/v1/nights/court/{row['night']}", reason="meter_silent")
        assert [cell["meter"] for cell in cells] == ["M4"]
        assert "no answer" in cells[0]["detail"]

        (line,) = await desk.get("/api/v1/lines")
        assert (line["state"], line["meters"]) == ("up", 3)
        assert line["silences"] >= 1

        meters = {m["meter"]: m for m in await desk.get("/api/v1/meters", site="court")}
        assert meters["M1"]["last"]["origin"] == "polled"
        assert meters["M4"]["last"] is None
        assert abs(meters["M1"]["clock"]["drift_s"]) > 0, "the clock stands still in this test"
        assert meters["M4"]["clock"] is None

        (reading,) = await desk.get("/api/v1/meters/M1/readings")
        assert reading["values"]["energy_wh"] == meters["M1"]["last"]["values"]["energy_wh"]


async def test_reading_a_meter_now(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1-2") as desk:
        assert await desk.head_end.services.lines.lines["L1"].wait_up(30)
        answer = (await desk.http.post("/api/v1/meters/M1/read", headers=desk.key)).json()
        assert answer["values"]["energy_wh"] > 0
        assert answer["title"] == "Acrel DDSY1352, single-phase prepaid"
        silent = await desk.http.post(
            "/api/v1/meters/M4/read", headers=desk.key | {"accept-language": "zh"}
        )
        assert silent.status_code == 504
        assert silent.headers["content-type"] == "application/problem+json"
        assert silent.json()["code"] == "meter-not-read"
        assert silent.json()["title"].startswith("电表 M4 未抄到")


async def test_scanning_and_tracing_a_line(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1-2", "dtsy:3") as desk:
        assert await desk.head_end.services.lines.lines["L1"].wait_up(30)
        response = await desk.http.post(
            "/api/v1/lines/L1/scan", params={"first": 1, "last": 5}, headers=desk.key
        )
        rows = [json.loads(text) for text in response.text.splitlines()]
        assert [row["unit"] for row in rows] == [1, 2, 3, 4, 5]
        assert [row.get("type") for row in rows] == [
            "acrel_ddsy1352",
            "acrel_ddsy1352",
            "acrel_dtsy1352",
            None,
            None,
        ]
        response = await desk.http.get(
            "/api/v1/lines/L1/trace", params={"follow": "false"}, headers=desk.key
        )
        frames = [json.loads(text) for text in response.text.splitlines()]
        assert {frame["direction"] for frame in frames} == {"sent", "received"}
        assert any("unit 3" in frame["meaning"] for frame in frames)


async def test_scanning_a_line_for_meters_of_dlt645(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1") as desk:
        assert await desk.head_end.services.lines.lines["L1"].wait_up(30)
        response = await desk.http.post(
            "/api/v1/lines/L1/scan", params={"protocol": "dlt645"}, headers=desk.key
        )
        rows = [json.loads(text) for text in response.text.splitlines()]
        assert [(row["address"], row["found"]) for row in rows] == [("A" * 12, False)] * 2
        wrong = await desk.http.post(
            "/api/v1/lines/L1/scan", params={"protocol": "dlms"}, headers=desk.key
        )
        assert wrong.status_code == 422


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/nights?site=nowhere", 404, "no-such-site"),
        ("/api/v1/nights/court/2020-01-01", 404, "no-such-night"),
        ("/api/v1/nights/court/yesterday", 422, "bad-request"),
        ("/api/v1/lines/L9/trace", 404, "no-such-line"),
        ("/api/v1/meters/M9/readings", 404, "no-such-meter"),
        ("/api/v1/meters/M1/readings?since=2026-01-01T00:00:00", 422, "bad-request"),
    ],
)
async def test_a_wrong_question_is_answered_in_one_sentence(
    dsn: str, tmp_path: Path, path: str, status: int, code: str
) -> None:
    async with served(dsn, tmp_path, "ddsy:1") as desk:
        response = await desk.http.get(path, headers=desk.key)
        assert (response.status_code, response.json()["code"]) == (status, code)


async def test_the_documentation_needs_no_internet(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1") as desk:
        page = (await desk.http.get("/docs")).text
        assert "https://" not in page.replace("https://fastapi.tiangolo.com", "")
        script = await desk.http.get("/static-offline-docs/swagger-ui-bundle.js")
        assert script.status_code == 200
        spec = await desk.get("/openapi.json")
        assert all(
            operation.get("summary")
            for methods in spec["paths"].values()
            for operation in methods.values()
        )


async def test_a_page_of_another_name_cannot_reach_us(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1") as desk:
        response = await desk.http.get("/health", headers={"host": "evil.example"})
        assert response.status_code == 400


async def test_a_taken_port_is_said_before_anything_starts(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1") as desk:
        settings = Settings(
            data_folder=tmp_path / "other", database_url=dsn, http_port=desk.head_end.http_port
        )
        with pytest.raises(Problem, match="in use by another program"):
            async with running(settings):
                raise AssertionError("it must not start")
        assert not (tmp_path / "other").exists()


async def test_health_tells_when_the_database_is_away(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1") as desk:
        desk.head_end.services.database.conninfo += " host=/nonexistent"
        response = await desk.http.get("/health")
        assert response.status_code == 503
        assert response.json()["database"] == "away"
