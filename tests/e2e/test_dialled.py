"""One port, three makers, real processes: boxes dial in, are adopted from what the list of
strangers says, and are read."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from headend.services.machine_key import key_of
from tests.e2e.test_program import headend, started, wait_for

BOXES = {
    "kiosk": "acrel_4g:12307210720085",
    "gate": "ddp:13912345678",
    "park": "four_faith:13812345678",
}
WAIT_S_MAX = 60

HEAD = '[site]\nname = "court"\ntime_zone = "Asia/Shanghai"\n'
# These boxes park nothing: a new head-end need not wait half a minute for old answers.
LINE = """
[[gateways]]
name = "{name}"
kind = "{kind}"
registration = "{registration}"
options = {{ {options} }}

[[lines]]
name = "L-{name}"
gateway = "{name}"
reply_timeout_ms = 1000
reply_late_ms_max = 1000

[[meters]]
name = "M-{name}"
line = "L-{name}"
type = "acrel_ddsy1352"
unit = 1
"""


@contextlib.contextmanager
def dialling(port: int) -> Iterator[None]:
    boxes = [
        subprocess.Popen(
            [sys.executable, "-m", "simulators", "dial", "--meters", "ddsy:1"]
            + ["--dial-in", f"127.0.0.1:{port}", "--as", named],
            stdout=subprocess.DEVNULL,
        )
        for named in BOXES.values()
    ]
    try:
        yield
    finally:
        for box in boxes:
            box.terminate()
        for box in boxes:
            box.communicate(timeout=30)


def adopted(stranger: dict[str, Any]) -> str:
    """What an operator writes for a stranger, from what the list says and nothing else."""
    is_meter = stranger["dialect"] == "acrel_4g"
    names = {named.partition(":")[0]: name for name, named in BOXES.items()}
    return LINE.format(
        name=names[stranger["dialect"]],
        kind="acrel_4g" if is_meter else "dtu",
        registration=stranger["registration"],
        options="" if is_meter else f'dialect = "{stranger["dialect"]}"',
    )


def asked(port: int) -> Any:
    """The strangers of the head-end at this port."""
    key = {"authorization": f"Bearer {key_of(port)}"}
    url = f"http://127.0.0.1:{port}/api/v1/gateways/strangers"
    return httpx.get(url, headers=key, trust_env=False).json()


def test_three_makers_on_one_port_are_adopted_and_read(
    reachable_folder: Path, tmp_path: Path, unused_tcp_port_factory: Any
) -> None:
    http, dial_in = unused_tcp_port_factory(), unused_tcp_port_factory()
    url, data = f"http://127.0.0.1:{http}", str(reachable_folder / "dialled")
    run = ("run", "--data-folder", data, "--http-port", str(http), "--dial-in-port", str(dial_in))
    at = ("--http-port", str(http))
    site = tmp_path / "court.toml"
    with started(*run) as child, dialling(dial_in):
        wait_for(url, child)
        until_s = time.monotonic() + WAIT_S_MAX
        strangers: list[dict[str, Any]] = []
        while len(strangers) < len(BOXES):
            assert time.monotonic() < until_s, strangers
            time.sleep(0.1)
            strangers = [found for found in asked(http) if found["registration"]]
        site.write_text(HEAD + "".join(map(adopted, strangers)), encoding="utf-8")
        done = headend("import", str(site), "--data-folder", data)
        assert done.returncode == 0, done.stderr
        for name in BOXES:
            while (read := headend("read", f"M-{name}", "--json", *at)).returncode:
                assert time.monotonic() < until_s, read.stderr
            assert json.loads(read.stdout)["values"]["energy_wh"] > 0
        assert asked(http) == []
