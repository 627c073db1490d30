"""What 2,000 dial-in links cost one process: memory, CPU while they only beat, polls flat out."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import uvloop

from bench._child import allow_descriptors, python, quiet
from bench._dtus import HEARTBEAT, registration
from bench._table import Row, report
from gateways.dial_in import DialIn, DtuConfig
from gateways.line import Line
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.dtu import DtuPatterns, parse_pattern
from protocols.exchange import ask_reply
from protocols.modbus import read_registers

LINKS = 2000
HEARTBEAT_S = 10.0  # quick, so that a short look sees enough of them
IDLE_S = 10.0
POLLS_EACH = 10
WORDS = 60
DIAL_S_MAX = 60.0


def resident_kb() -> int:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def configs(links: int) -> dict[str, DtuConfig]:
    """One DTU a line, each with its own ICCID."""
    beat = parse_pattern(f"ascii:{HEARTBEAT.decode()}")
    return {
        f"D{n}": DtuConfig(
            patterns=DtuPatterns(parse_pattern(f"iccid:{registration(n).decode()}"), beat)
        )
        for n in range(links)
    }


async def poll_all(lines: list[Line]) -> None:
    """One task a line, as fast as it goes."""

    async def poll(line: Line) -> None:
        for _ in range(POLLS_EACH):
            await line.converse(
                1, ask_reply(read_registers(1, 0, WORDS)), priority=Priority.NIGHTLY
            )

    await asyncio.gather(*map(poll, lines))


async def measure(links: int) -> Row:
    """Dial in, idle, poll."""
    gateways = configs(links)
    before_kb = resident_kb()
    timing = LineTiming.network(mobile=True, start_quiet_s=0.0)
    lines = {name: Line(name, timing) for name in gateways}
    listener = DialIn("127.0.0.1", 0, gateways, lambda name, link: lines[name].attach(link))
    await listener.start()
    began_s, cpu_s = time.perf_counter(), time.process_time()
    with python("-m", "bench._dtus", str(listener.port), str(links), str(HEARTBEAT_S)):
        async with asyncio.timeout(DIAL_S_MAX):
            for line in lines.values():
                await line.wait_up()
        up_s, up_cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        up_kb = resident_kb()
        cpu_s = time.process_time()
        await asyncio.sleep(IDLE_S)
        idle_cpu_s = time.process_time() - cpu_s
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await poll_all(list(lines.values()))
        polls = links * POLLS_EACH
        rate, poll_cpu_s = polls / (time.perf_counter() - began_s), time.process_time() - cpu_s
        polled_kb = resident_kb()
        heard = sum(session.heartbeats for session in listener.sessions())
        await listener.stop()
    assert heard > 0
    return {
        "links": links,
        "all up s": round(up_s, 2),
        "dial CPU us a link": round(1e6 * up_cpu_s / links),
        "KB a link": round((up_kb - before_kb) / links, 1),
        "KB after polls": round((polled_kb - before_kb) / links, 1),
        "idle CPU %": round(100 * idle_cpu_s / IDLE_S, 2),
        "beats /s": round(links / HEARTBEAT_S),
        "polls /s": round(rate),
        "CPU us a poll": round(1e6 * poll_cpu_s / polls, 1),
    }


def main() -> None:
    """Each link is a socket, its session and its line with ring and health."""
    quiet()
    links = min(LINKS, allow_descriptors(LINKS + 200) - 200)
    report(
        "dial_in_links",
        f"{links} DTUs on one process, each with its line: memory and CPU",
        [uvloop.run(measure(links))],
        notes=["memory of the kernel's socket buffers is not counted"],
    )


if __name__ == "__main__":
    main()
