"""How many requests a second one process makes over RTU-over-TCP, against its peers."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop
from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient

from bench._child import quiet
from bench._compile import NotHere, compiled, modbus_slave
from bench._table import Row, report
from gateways.line import Line
from gateways.tcp_link import dial
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.exchange import ask_reply
from protocols.modbus import read_registers

WORDS = 60
ROUNDS = 5  # the median counts; the programs take turns, so that a slow moment hits them all
REQUESTS = 16_000
REQUESTS_SLOW = 4_000
LINES = (1, 8)

RATIO_PYMODBUS_MIN = 3.0
RATIO_LIBMODBUS_MIN = 0.5


async def through_converse(port: int, lines: int) -> float:
    """Seconds for one request, through the whole path: turns, quarantine, health, ring."""
    timing = LineTiming.network(mobile=False, start_quiet_s=0.0)
    each = REQUESTS // lines

    async def poll(line: Line) -> None:
        for _ in range(each):
            await line.converse(
                1, ask_reply(read_registers(1, 0, WORDS)), priority=Priority.NIGHTLY
            )

    all_lines = [Line(f"L{n}", timing) for n in range(lines)]
    for line in all_lines:
        line.attach(await dial("127.0.0.1", port))
    began_s = time.perf_counter()
    await asyncio.gather(*map(poll, all_lines))
    took_s = time.perf_counter() - began_s
    for line in all_lines:
        assert line.health.answers == each
        line.detach("measured")
    return took_s / (each * lines)


async def through_pymodbus(port: int, lines: int) -> float:
    """The same with pymodbus's asynchronous client."""
    each = REQUESTS_SLOW // lines

    async def poll(client: AsyncModbusTcpClient) -> None:
        for _ in range(each):
            answer = await client.read_holding_registers(0, count=WORDS, device_id=1)
            assert not answer.isError()

    clients = [
        AsyncModbusTcpClient("127.0.0.1", port=port, framer=FramerType.RTU) for _ in range(lines)
    ]
    for client in clients:
        assert await client.connect()
    began_s = time.perf_counter()
    await asyncio.gather(*map(poll, clients))
    took_s = time.perf_counter() - began_s
    for client in clients:
        client.close()
    return took_s / (each * lines)


def through_libmodbus(program: Path, port: int, lines: int) -> float:
    """The same with libmodbus (C), one thread a line. It has no RTU over TCP: Modbus TCP."""
    command = [str(program), str(port), str(lines), str(REQUESTS)]
    took = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(took) / (REQUESTS // lines * lines)


def measure(port: int, lines: int, libmodbus: Path | None) -> Row:
    """Paired rounds of all programs."""
    programs: dict[str, Callable[[], float]] = {
        "converse": lambda: uvloop.run(through_converse(port, lines)),
        "pymodbus": lambda: asyncio.run(through_pymodbus(port, lines)),
        "pymodbus, uvloop": lambda: uvloop.run(through_pymodbus(port, lines)),
    }
    if libmodbus is not None:
        programs["libmodbus"] = lambda: through_libmodbus(libmodbus, port, lines)
    taken_s: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, run in programs.items():
            taken_s[name].append(run())
    rate = {name: 1 / statistics.median(each) for name, each in taken_s.items()}
    ours, c_rate = rate["converse"], rate.get("libmodbus")
    return {
        "lines": lines,
        **{f"{name} /s": round(each) for name, each in rate.items()},
        "to pymodbus": round(ours / rate["pymodbus"], 2),
        "to it on uvloop": round(ours / rate["pymodbus, uvloop"], 2),
        "to libmodbus": None if c_rate is None else round(ours / c_rate, 2),
    }


def main() -> None:
    """One line shows how long a round trip takes, several what the process can do."""
    quiet()
    notes = [
        f"wanted with {LINES[-1]} lines: at least {RATIO_PYMODBUS_MIN} times pymodbus as it comes, "
        f"at least {RATIO_LIBMODBUS_MIN} of libmodbus",
        "with one line everybody mostly waits for the other process to be woken",
    ]
    with tempfile.TemporaryDirectory() as folder, modbus_slave() as port:
        libmodbus: Path | None = None
        try:
            libmodbus = compiled("libmodbus_client.c", Path(folder), "modbus")
        except NotHere as missing:
            notes.append(f"libmodbus was left out: {missing}")
        rows = [measure(port, lines, libmodbus) for lines in LINES]
    question = f"Requests of {WORDS} registers a second, one process, one slave, median of {ROUNDS}"
    report("requests_per_second", question, rows, notes=notes)


if __name__ == "__main__":
    main()
