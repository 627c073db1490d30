"""How gateways do: facts of boxes, errors and their reasons, falls; for people and Prometheus."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headend.domain.roles import Role
from headend.services.gateway_health import FactsBook
from headend.services.importing import import_into
from headend.store import people
from headend.web import metrics
from tests.headend.house import QUICK, TestClock, ddsy, site_on
from tests.headend.test_api import Served, served

_LABELS = ("site", "gateway", "kind", "outcome", "direction", "state")


async def scraped(desk: Served) -> dict[str, float]:
    """Every sample by its name and labels in one line."""
    text = (await desk.http.get("/metrics")).text
    return {
        " ".join(
            [sample.name, *(sample.labels[key] for key in _LABELS if key in sample.labels)]
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_facts_are_kept_until_told_anew() -> None:
    clock = TestClock()
    book = FactsBook(clock)
    book.keep("G1", {"iccid": "89860000000000000001", "rssi_dbm": -71, "interval_s": 1800})
    clock.instant += timedelta(minutes=1)
    book.keep("G1", {"rssi_dbm": -93, "unheard_of": "x", "firmware": "1.02"})
    facts = book.of("G1")
    assert facts is not None
    assert (facts.iccid, facts.rssi_dbm, facts.interval_s) == ("89860000000000000001", -93, 1800)
    assert (facts.firmware, facts.told_at) == ("1.02", clock.instant)
    book.follow(["G2"])
    assert book.of("G1") is None, "a gateway that left takes its facts along"


async def test_a_gateway_tells_its_errors_its_falls_and_its_meters(
    dsn: str, tmp_path: Path
) -> None:
    async with served(dsn, tmp_path, "ddsy:1-2") as desk:
        line = desk.head_end.services.lines.lines["L1"]
        nights = desk.head_end.services.nights
        await nights.collect_now("court", QUICK)
        await nights.finished("court")
        desk.head_end.services.facts.keep("G1", {"rssi_dbm": -77})
        (row,) = await desk.get("/api/v1/gateways")
        assert (row["gateway"], row["state"], row["meters"]) == ("G1", "up", 3)
        assert 0 < row["error_permille"] < 1000
        assert (row["error_reason"], row["rssi_dbm"], row["iccid"]) == ("silent", -77, None)
        assert (row["reconnects"], row["last_fall_reason"]) == (0, None)
        assert row["bytes_in"] > 0
        assert row["last_seen_at"] is not None
        one = await desk.get("/api/v1/gateways/of/G1")
        meters = {meter["meter"]: meter for meter in one["meter_records"]}
        assert meters["M1"]["answers"] > 0
        assert meters["M4"]["answers"] == 0
        assert meters["M4"]["silences_in_a_row"] >= 1

        await desk.wire.unplug()
        async with asyncio.timeout(30):
            while line.line.is_up:
                await asyncio.sleep(0.02)
        (row,) = await desk.get("/api/v1/gateways")
        assert row["state"] == "down"
        assert row["last_fall_reason"]
        await desk.wire.plug()
        assert await line.wait_up(30)
        (row,) = await desk.get("/api/v1/gateways")
        assert (row["state"], row["reconnects"]) == ("up", 1)
        missing = await desk.http.get("/api/v1/gateways/of/G9", headers=desk.key)
        assert (missing.status_code, missing.json()["code"]) == (404, "no-such-gateway")


async def test_sums_never_fall_when_a_line_is_made_anew(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1-2") as desk:
        services = desk.head_end.services
        assert await services.lines.lines["L1"].wait_up(30)
        await services.nights.collect_now("court", QUICK)
        await services.nights.finished("court")
        before = await scraped(desk)
        answers = before["headend_exchanges_total court tcp answers"]
        assert answers == services.lines.lines["L1"].line.health.answers
        assert before["headend_lines court tcp up"] == 1
        assert before["headend_gateway_up court G1"] == 1
        assert before["headend_open_commands unknown"] == 0
        assert "headend_gateway_signal_dbm court G1" not in before, "nobody told a signal"
        services.facts.keep("G1", {"rssi_dbm": -77})

        old = services.lines.lines["L1"]
        site = site_on(desk.wire.port, (ddsy(1),))
        slower = replace(site.lines[0], turnaround_ms=7)
        await import_into(services.database, replace(site, lines=(slower,)))
        async with asyncio.timeout(30):
            while services.lines.lines["L1"] is old:
                await asyncio.sleep(0.02)
        after = await scraped(desk)
        assert after["headend_exchanges_total court tcp answers"] >= answers
        assert after["headend_gateway_signal_dbm court G1"] == -77


async def test_many_gateways_are_told_as_sums(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(dsn, tmp_path, "ddsy:1") as desk:
        assert "headend_gateway_up court G1" in await scraped(desk)
        monkeypatch.setattr(metrics, "GATEWAYS_SHOWN_MAX", 0)
        samples = await scraped(desk)
        assert samples["headend_gateways_not_shown"] == 1
        assert not any(name.startswith("headend_gateway_") for name in samples)


async def test_from_elsewhere_a_token_is_needed(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1") as desk:
        services = desk.head_end.services
        proxied = {"x-forwarded-for": "203.0.113.7"}

        async def asked(token: str | None) -> httpx.Response:
            headers = proxied | ({"authorization": f"Bearer {token}"} if token else {})
            return await desk.http.get("/metrics", headers=headers)

        assert (await asked(None)).status_code == 401
        assert (await asked("nonsense")).status_code == 401
        async with services.database.transaction() as tx:
            operator = await people.add_operator(tx, "agent", Role.AUDITOR, at=services.clock.now())
            assert operator is not None
            at = services.clock.now()
            token = await people.add_token(
                tx, operator, "scrape", at=at, expires_at=at + timedelta(days=1)
            )
        assert (await asked(token)).status_code == 200
