"""The virtual property: what it says it is, what it really is, and that it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial

from simulators.control import ask
from simulators.town_files import site_file
from simulators.town_plan import Gap, LineKind, plan_town
from tests.sim.helpers import WAIT_S_MAX, read, registers, until

ANSWER_BYTES = 101
NOBODY = ("--dial-in", "127.0.0.1:9", "--mqtt", "127.0.0.1:9")
SEED = ("--seed", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running town; its DTUs dial a port where nobody listens."""
    where = tmp_path_factory.mktemp("town")
    process = subprocess.Popen(
        [sys.executable, "-m", "simulators", "town", "--folder", str(where), *NOBODY, *SEED],
        stderr=subprocess.DEVNULL,  # that nobody listens is said there
    )
    try:
        asyncio.run(until(lambda: (where / "truth.json").exists() or process.poll() is not None))
        yield where
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S_MAX) == 0
        assert [p.name for p in where.iterdir()] == ["site.toml"], "it leaves no port behind"
    finally:
        process.kill()
        process.wait()


def truth(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return told


def site(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "site.toml").read_text())


def meter_named(told: dict[str, Any], gap: str | None, line: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        m for m in told["meters"] if m["gap"] == gap and m["line"] == line and not m["cabinet"]
    )
    return found


def _asked(port: serial.Serial, frame: bytes, size: int) -> bytes:
    port.write(frame)
    return port.read(size)


def test_it_is_as_large_as_promised(folder: Path) -> None:
    told, written = truth(folder), site(folder)
    assert len(written["buildings"]) >= 3
    assert len(told["meters"]) >= 150
    assert len(told["lines"]) >= 6
    kinds = {line["kind"] for line in told["lines"]}
    assert kinds == {kind.value for kind in LineKind}
    assert sum(line["dead"] for line in told["lines"]) == 1
    gaps = Counter(m["gap"] for m in told["meters"])
    assert gaps["meter_silent"] == gaps["wrong_meter"] == 1
    dead = next(line for line in told["lines"] if line["dead"])
    assert gaps["line_down"] == dead["meters"]


def test_truth_and_site_file_tell_of_the_same_meters(folder: Path) -> None:
    told, written = truth(folder), site(folder)
    of_its_own = {m["name"]: m for m in told["meters"] if m["cabinet"] is None}
    assert {m["name"] for m in written["meters"]} == of_its_own.keys()
    for entry in written["meters"]:
        known = of_its_own[entry["name"]]
        for key in ("line", "type", "room", "meter_number"):
            assert entry.get(key) == known[key]
        # Those of DL/T 645 and CJ/T 188 answer to a number, all others to a unit id.
        assert entry.get("address", "").lstrip("0") in ("", known["meter_number"].lstrip("0"))
        assert entry.get("unit", known["unit"]) == known["unit"]
        assert ("unit" in entry) != ("address" in entry)
    for box in written["cabinets"]:
        users = [m for m in told["meters"] if m["cabinet"] == box["name"]]
        assert [m["room"] for m in users] == box["rooms"]
        wide = box["ct_users"] + box["three_phase_users"]
        assert len(users) == wide + box["single_phase_users"]
        assert users[-1]["unit"] == box["base_unit"] + 3 * wide + box["single_phase_users"] - 1
    rooms = [room["name"] for room in written["rooms"]]
    assert len(rooms) == len(set(rooms))
    # A master stands in no room: it measures once more what the circuits of its cabinet do.
    masters = {m["name"]: m["measures"] for m in told["meters"] if m["measures"]}
    assert {b["master"]: b["name"] for b in written["cabinets"] if "master" in b} == masters
    assert len(masters) == 1
    assert {m["room"] for m in told["meters"] if m["name"] not in masters} == set(rooms)
    gateways = {g["name"]: g["kind"] for g in written["gateways"]}
    for line in told["lines"]:
        assert gateways[line["gateway"]] == line["kind"]


def test_the_seed_decides_and_units_never_clash() -> None:
    assert plan_town(3) == plan_town(3)
    assert plan_town(3) != plan_town(4)
    for line in plan_town(3).lines:
        taken = Counter(m.unit for m in line.meters)
        assert max(taken.values()) == 1, line.name
        names = [m.name for every in plan_town(3).lines for m in every.meters]
        assert len(names) == len(set(names))
    places = {line.gateway: {"device": "/dev/x"} for line in plan_town(3).lines}
    assert tomllib.loads(site_file(plan_town(3), places))["site"]["name"]


def test_every_serial_meter_answers_unless_it_must_not(folder: Path) -> None:
    told, written = truth(folder), site(folder)
    ports = {g["name"]: g["device"] for g in written["gateways"] if g["kind"] == "serial"}
    for line in told["lines"]:
        if line["kind"] != "serial":
            continue
        on_it = [m for m in told["meters"] if m["line"] == line["name"]]
        # The first, the last and the silent one stand for all: a line takes some seconds.
        with serial.Serial(ports[line["gateway"]], 9600, timeout=WAIT_S_MAX) as port:
            for meter in (on_it[0], *(m for m in on_it[-2:] if m["gap"] is None)):
                port.write(read(meter["unit"], 0x0200, 48))
                registers(port.read(ANSWER_BYTES))
            port.timeout = 0.5
            for meter in (m for m in on_it if m["gap"] == Gap.METER_SILENT.value):
                port.write(read(meter["unit"], 0x0200, 48))
                assert port.read(1) == b""


async def test_another_meter_answers_at_the_wrong_ones_address(folder: Path) -> None:
    told = truth(folder)
    wrong = next(m for m in told["meters"] if m["gap"] == "wrong_meter")
    gateway = next(
        g
        for g in site(folder)["gateways"]
        for line in told["lines"]
        if line["name"] == wrong["line"] and g["name"] == line["gateway"]
    )
    reader, writer = await asyncio.open_connection(gateway["host"], gateway["port"])
    async with asyncio.timeout(WAIT_S_MAX):
        writer.write(read(wrong["unit"], 0x0043, 3))
        number = registers(await reader.readexactly(11)).hex()
        writer.write(read(wrong["unit"], 0x0200, 48))
        live = registers(await reader.readexactly(ANSWER_BYTES))
    writer.close()
    await writer.wait_closed()
    assert number != wrong["meter_number"]
    assert live[:2] == b"\0\5", "a DTSY1352 where the site file has a DDSY1352"


async def test_the_dead_line_refuses(folder: Path) -> None:
    told = truth(folder)
    dead = next(line for line in told["lines"] if line["dead"])
    gateway = next(g for g in site(folder)["gateways"] if g["name"] == dead["gateway"])
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(gateway["host"], gateway["port"])


async def test_the_witness_tells_and_a_line_is_pulled_and_put_back(folder: Path) -> None:
    told = truth(folder)
    control = Path(told["control"])
    line = next(n["name"] for n in told["lines"] if n["kind"] == LineKind.SERIAL.value)
    name = meter_named(told, None, line)["name"]
    before = await ask(control, {"do": "meter", "name": name})
    assert before["ok"]
    after = await ask(control, {"do": "card", "name": name, "amount_fen": 5_000})
    assert after["purchase_count"] == before["purchase_count"] + 1
    assert after["applied"] == [{"purchase_count": after["purchase_count"], "amount_fen": 5_000}]
    port = folder / f"tty-{line.replace(' ', '-')}"
    assert (await ask(control, {"do": "unplug", "line": line}))["ok"]
    assert not port.exists()
    assert (await ask(control, {"do": "plug", "line": line}))["ok"]
    assert port.exists()
    with serial.Serial(str(port), 9600, timeout=WAIT_S_MAX) as opened:
        unit = meter_named(told, None, line)["unit"]
        registers(await asyncio.to_thread(_asked, opened, read(unit, 0x0043, 3), 11))
    report = await ask(control, {"do": "report", "line": line})
    assert report["report"]["polls"] >= 1


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"do": "dance"}, '"do" must be one of list, meter'),
        ({"do": "meter", "name": "M9"}, "no meter is called 'M9'"),
        ({"do": "plug", "line": "nowhere"}, "no running line is called 'nowhere'"),
        ({"do": "vanish", "line": "plum riser"}, "line 'plum riser' is not behind a DTU"),
        ({"do": "faults", "line": "plum riser", "rates": {"rain": 1}}, "no fault is called rain"),
    ],
)
async def test_wrong_questions_get_one_sentence(
    folder: Path, request_: dict[str, Any], error: str
) -> None:
    answer = await ask(Path(truth(folder)["control"]), request_)
    assert answer["ok"] is False
    assert error in answer["error"]


async def test_faults_are_set_and_ended_over_the_control_socket(folder: Path) -> None:
    control = Path(truth(folder)["control"])
    gateway = next(g for g in site(folder)["gateways"] if g["name"] == "market converter")
    reader, writer = await asyncio.open_connection(gateway["host"], gateway["port"])
    faults = {"do": "faults", "line": "market hall"}
    assert (await ask(control, {**faults, "rates": {"answer_lost": 1.0}}))["ok"]
    writer.write(read(11, 0x0043, 3))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await reader.read(1)
    assert (await ask(control, faults))["counts"] == {"answer_lost": 1}
    writer.write(read(11, 0x0043, 3))
    async with asyncio.timeout(WAIT_S_MAX):
        registers(await reader.readexactly(11))
    writer.close()
    await writer.wait_closed()
