"""How much of the wire's limit a 9600-baud line uses when the 3.5-character silence is kept."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

import uvloop

from bench._child import python, quiet
from bench._table import Row, report
from gateways.line import Line
from gateways.serial_link import SerialSettings, open_serial
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.exchange import ask_reply
from protocols.modbus import read_registers

BAUD = 9600
UNITS = 8
WORDS = 60
TURNAROUND_MS = 20
POLLS = 150  # 24 seconds of wire
LIVE_BLOCK = 0x0200  # spec acrel.md 2.4; 72 registers long in the eight-rate firmware
PORT_S_MAX = 20.0

WIRE_PCT_MIN = 99.0


async def poll(device: Path) -> float:
    """Read the meters in turn; gives the CPU seconds it cost."""
    line = Line("bench", LineTiming.serial(baud=BAUD, start_quiet_s=0.0))
    line.attach(await open_serial(str(device), SerialSettings(baud=BAUD)))
    began_s = time.process_time()
    for n in range(POLLS):
        request = read_registers(1 + n % UNITS, LIVE_BLOCK, WORDS)
        await line.converse(1 + n % UNITS, ask_reply(request), priority=Priority.NIGHTLY)
    used_s = time.process_time() - began_s
    assert line.health.answers == POLLS
    line.detach("measured")
    await asyncio.sleep(0)
    return used_s


def measure(loop_name: str) -> Row:
    """One run; the simulated wire itself says how well it was used."""
    with tempfile.TemporaryDirectory() as folder:
        device, told = Path(folder) / "tty", Path(folder) / "report.json"
        with python(
            "-m", "simulators", "line", "--meters", f"ddsy8:1-{UNITS}", "--pty", str(device),
            "--baud", str(BAUD), "--turnaround-ms", str(TURNAROUND_MS), "--precise",
            "--report", str(told),
        ) as simulator:  # fmt: skip
            _wait_for(device)
            run = uvloop.run if loop_name == "uvloop" else asyncio.run
            cpu_s = run(poll(device))
            simulator.terminate()
            simulator.wait(PORT_S_MAX)
        wire = json.loads(told.read_text(encoding="utf-8"))
    return {
        "loop": loop_name,
        "polls": wire["polls"],
        "% of the wire": wire["wire_pct"],
        "cycle ms": wire["cycle_ms"],
        "gap ms wanted": wire["gap_ms_min"],
        "gap ms p50": wire["gap_ms_p50"],
        "gap ms p99": wire["gap_ms_p99"],
        "gaps too short": wire["gap_violations"],
        "our CPU %": round(100 * cpu_s / (POLLS * wire["cycle_ms"] / 1000), 2),
    }


def _wait_for(device: Path) -> None:
    until_s = time.monotonic() + PORT_S_MAX
    while not device.exists():
        if time.monotonic() > until_s:
            raise SystemExit("the simulated line did not appear: run python -m simulators line")
        time.sleep(0.05)


def main() -> None:
    """Both loops: uvloop's timers are coarser."""
    quiet()
    report(
        "serial_line",
        f"{BAUD} baud, {WORDS} registers a poll, {TURNAROUND_MS} ms turnaround: share of the limit",
        [measure("uvloop"), measure("asyncio")],
        notes=[
            f"wanted: at least {WIRE_PCT_MIN} %, no gap too short; the limit counts the silence"
        ],
    )


if __name__ == "__main__":
    main()
