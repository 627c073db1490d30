"""The program as its users start it: real processes, killed without mercy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from headend.services.machine_key import key_of

HEADEND = str(Path(sys.executable).parent / "headend")
START_S_MAX = 60


def headend(*arguments: str, language: str = "en") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HEADEND, *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"HEADEND_LANG": language, "COLUMNS": "200"},
        check=False,
    )


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [HEADEND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)


def wait_for(url: str, child: subprocess.Popen[str]) -> dict[str, Any]:
    for _ in range(START_S_MAX * 20):
        assert child.poll() is None, child.communicate()[0]
        try:
            answer: dict[str, Any] = httpx.get(f"{url}/health", trust_env=False).json()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return answer
    raise AssertionError("the head-end did not come up")


@pytest.fixture
def line() -> Iterator[str]:
    """A simulated line of two meters behind a converter; its port."""
    child = subprocess.Popen(
        [sys.executable, "-m", "simulators", "line"]
        + ["--meters", "ddsy:1-2", "--tcp", "127.0.0.1:0", "--baud", "115200"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    yield child.stdout.readline().strip().rpartition(":")[2]
    child.terminate()
    child.communicate(timeout=30)


SITE = """
[site]
name = "court"
time_zone = "Asia/Shanghai"

[[gateways]]
name = "G1"
kind = "tcp"
host = "127.0.0.1"
port = {port}

[[lines]]
name = "L1"
gateway = "G1"

[[meters]]
name = "M1"
line = "L1"
type = "acrel_ddsy1352"
unit = 1

[[meters]]
name = "M2"
line = "L1"
type = "acrel_ddsy1352"
unit = 2
"""


def test_a_day_with_the_program(
    reachable_folder: Path, tmp_path: Path, line: str, unused_tcp_port_factory: Any
) -> None:
    http, dial_in = unused_tcp_port_factory(), unused_tcp_port_factory()
    url = f"http://127.0.0.1:{http}"
    data = str(reachable_folder / "day")
    run = ("run", "--data-folder", data, "--http-port", str(http), "--dial-in-port", str(dial_in))
    at = ("--http-port", str(http))
    site = tmp_path / "court.toml"
    site.write_text(SITE.format(port=line))

    missing = headend("nights", *at)
    assert (missing.returncode, missing.stderr.count("\n")) == (7, 1)
    assert "start it with `headend run`" in missing.stderr

    # Import before the first start: the embedded database is started for it.
    done = headend("import", str(site), "--data-folder", data)
    assert done.returncode == 0, done.stderr
    assert "2 meters" in done.stdout

    with started(*run) as child:
        assert wait_for(url, child)["status"] == "ok"
        read = headend("read", "M1", "--json", *at)
        assert read.returncode == 0, read.stderr
        energy_wh = json.loads(read.stdout)["values"]["energy_wh"]
        lines = json.loads(headend("lines", "--json", *at).stdout)
        assert (lines["line"], lines["state"]) == ("L1", "up")
        assert "answer of unit 1" in headend("trace", "L1", "--no-follow", *at).stdout
        assert headend("read", "M9", *at).returncode == 9
        assert headend("lines", *at, language="zh").stdout.splitlines()[0].startswith("线路")

        second = headend(*run[:3], "--http-port", str(unused_tcp_port_factory()))
        assert second.returncode == 8, "one owner of a data folder"
        assert str(child.pid) in second.stderr
        taken = headend(*run)
        assert taken.returncode == 8
        assert f"Port {http}" in taken.stderr

        # An import while it runs is followed at once.
        site.write_text(SITE.format(port=line).replace('name = "M2"', 'name = "M2b"'))
        assert headend("import", str(site), "--data-folder", data).returncode == 0
        for _ in range(200):
            if headend("read", "M2b", *at).returncode == 0:
                break
        else:
            raise AssertionError("the running head-end did not follow the import")
        child.kill()

    with started(*run) as child:
        wait_for(url, child)
        for _ in range(200):
            key = {"authorization": f"Bearer {key_of(http)}"}
            kept = httpx.get(
                f"{url}/api/v1/meters/M1/readings", headers=key, trust_env=False
            ).json()
            if kept:
                break
        assert kept[0]["values"]["energy_wh"] == energy_wh, "kill -9 lost nothing"


def test_a_wrong_site_file_imports_nothing(reachable_folder: Path, tmp_path: Path) -> None:
    site = tmp_path / "court.toml"
    site.write_text(SITE.format(port=502).replace("unit = 2", "unit = 1"))
    told = headend("import", str(site), "--data-folder", str(reachable_folder / "wrong"))
    assert told.returncode == 3
    assert f"{site}, line 26" in told.stderr
    assert "M1" in told.stderr
    assert "M2" in told.stderr
    assert not (reachable_folder / "wrong").exists(), "it was not even opened"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("import", "none.toml"), 3, "none.toml cannot be used: No such file"),
        (("probe", "tcp://127.0.0.1:1", "1"), 5, "refuses the connection"),
        (("probe", "serial:///dev/none", "1"), 5, "/dev/none"),
        (("scan", "ftp://x"), 3, "write serial:///dev/ttyUSB0"),
        (("migrate", "--database-url", "postgresql://127.0.0.1:1/none"), 4, "127.0.0.1"),
        (("run", "--config", "none.toml"), 3, "none.toml"),
    ],
)
def test_each_cause_has_its_sentence_and_its_exit_code(
    arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    told = headend(*arguments)
    assert told.returncode == exit_code, told.stderr
    assert said in told.stderr
    assert "Traceback" not in told.stderr


COMMANDS = "run demo migrate import nights lines read trace scan probe simulate"


@pytest.mark.parametrize("command", COMMANDS.split())
def test_every_command_helps(command: str) -> None:
    told = headend(command, "--help")
    assert told.returncode == 0
    assert len(told.stdout.splitlines()) > 5
