"""The key of this machine opens looking, to the user who runs the head-end, and nothing else."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from headend.domain.roles import Permission, Role
from headend.services.machine_key import key_of, machine_key
from headend.store import people
from tests.headend.house import QUICK
from tests.headend.test_api import served


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a login gives one."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def test_it_is_there_while_the_program_runs_and_for_its_user_alone(runtime: Path) -> None:
    assert key_of(8080) is None
    with machine_key(8080) as first:
        (file,) = runtime.iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert key_of(8080) == first.text
        assert key_of(8081) is None
        with machine_key(8080) as second:  # the next program, before the last has gone
            assert second.text != first.text
            assert key_of(8080) == second.text
    assert key_of(8080) is None
    with machine_key(8080) as first:
        with machine_key(8080) as second:
            pass
        assert key_of(8080) is None, "the newest has gone, and takes its own along"


def test_a_folder_that_others_can_read_holds_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    trap = tmp_path / f"headend-{os.geteuid()}"
    trap.mkdir()
    trap.chmod(0o755)
    with machine_key(8080) as key:
        assert list(trap.iterdir()) == []
        assert key_of(8080) is None
        assert key.caller(key.text) is not None
    trap.chmod(0o700)
    with machine_key(8080) as key:
        assert key_of(8080) == key.text


@pytest.mark.usefixtures("runtime")
async def test_it_looks_and_does_nothing_else(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1") as desk:
        assert key_of(desk.head_end.http_port) == desk.head_end.services.machine_key.text
        assert len(await desk.get("/api/v1/meters")) == 3
        for headers in ({}, {"authorization": "Bearer no" + desk.key["authorization"][8:]}):
            answer = await desk.http.get("/api/v1/meters", headers=headers)
            assert answer.status_code == 401
        for method, path in (("POST", "/cuts"), ("GET", "/commands"), ("GET", "/differences")):
            answer = await desk.http.request(method, f"/api/v1{path}", headers=desk.key, json={})
            assert (answer.status_code, answer.json()["code"]) == (401, "bad-token"), path


async def test_a_token_sees_its_own_sites(dsn: str, tmp_path: Path) -> None:
    async with served(dsn, tmp_path, "ddsy:1") as desk:
        services, at = desk.head_end.services, desk.head_end.services.clock.now()
        night = services.nights
        await night.collect_now("court", QUICK)
        await night.finished("court")
        tokens = {}
        async with services.database.transaction() as tx:
            here = services.lines.sites["court"].site_id
            other: int = await tx.value(
                "INSERT INTO site (name, time_zone, night_opens, night_closes)"
                " SELECT 'elsewhere', time_zone, night_opens, night_closes FROM site LIMIT 1"
                " RETURNING site_id"
            )
            for name, site_id in (("near", here), ("far", other)):
                who = await people.add_operator(tx, name, Role.TECHNICIAN, at=at, sites=[site_id])
                assert who is not None
                tokens[name] = await people.add_token(
                    tx, who, "t", at=at, expires_at=at + timedelta(hours=1)
                )
                assert Permission.READ_METER in who.permissions

        async def asked(name: str, method: str, path: str) -> httpx.Response:
            headers = {"authorization": f"Bearer {tokens[name]}"}
            return await desk.http.request(method, f"/api/v1{path}", headers=headers)

        (row,) = (await asked("near", "GET", "/nights")).json()
        for path in ("/nights", "/lines", "/meters", "/gateways"):
            assert len((await asked("near", "GET", path)).json()) >= 1, path
            assert (await asked("far", "GET", path)).json() == [], path
        for method, path in (
            ("GET", "/nights?site=court"),
            ("GET", f"/nights/court/{row['night']}"),
            ("GET", "/lines/L1/trace?follow=false"),
            ("POST", "/lines/L1/scan?first=1&last=1"),
            ("GET", "/gateways/of/G1"),
            ("GET", "/meters/M1/readings"),
            ("POST", "/meters/M1/read"),
        ):
            assert (await asked("near", method, path)).status_code == 200, path
            assert (await asked("far", method, path)).status_code == 404, path
