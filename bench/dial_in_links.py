"""What 10,000 links that dial in cost one process: a connect storm, memory, CPU while they only
beat, CPU of steady polling, and polls flat out; with transparent DTUs, and with all dialects."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench._child import allow_descriptors, python, quiet
from bench._dtus import MIXED, name_of
from bench._table import Row, report
from gateways.dial_in import BoxConfig, DialIn
from gateways.line import Line
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.exchange import ask_reply
from protocols.modbus import read_registers
from protocols.stream import Box

CASES: Sequence[tuple[int, tuple[str, ...]]] = (
    (2_000, ("transparent",)),
    (10_000, ("transparent",)),
    (10_000, MIXED),
)
HEARTBEAT_S = 10.0  # quick, so that a short look sees enough of them
IDLE_S = 10.0
STEADY_S = 10.0  # each line is asked once in this time: a night of 10,000 meters in ten seconds
POLLS_EACH = 5
WORDS = 60
DIAL_S_MAX = 120.0
PATIENCE_S = 30.0


def resident_kb() -> int:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def configs(links: int, dialects: Sequence[str]) -> dict[str, BoxConfig]:
    """One box a line, each with its own name."""
    boxes = {}
    for n in range(links):
        dialect = dialects[n % len(dialects)]
        heartbeat = "ascii:ping" if dialect == "transparent" else None
        box = Box(registration=name_of(n, dialect), heartbeat=heartbeat)
        boxes[f"D{n}"] = BoxConfig(dialect=dialect, box=box)
    return boxes


async def ask(line: Line) -> None:
    """One look."""
    await line.converse(1, ask_reply(read_registers(1, 0, WORDS)), priority=Priority.NIGHTLY)


async def poll_steadily(lines: Sequence[Line]) -> None:
    """One task a line, each asked once, spread over STEADY_S."""

    async def poll(at: int, line: Line) -> None:
        await asyncio.sleep(STEADY_S * at / len(lines))
        await ask(line)

    await asyncio.gather(*(poll(at, line) for at, line in enumerate(lines)))


async def poll_flat_out(lines: Sequence[Line]) -> None:
    """One task a line, as fast as it goes."""

    async def poll(line: Line) -> None:
        for _ in range(POLLS_EACH):
            await ask(line)

    await asyncio.gather(*map(poll, lines))


async def measure(links: int, dialects: Sequence[str]) -> Row:
    """Dial in, idle, poll steadily, poll flat out."""
    gateways = configs(links, dialects)
    before_kb = resident_kb()
    # Flat out, 10,000 requests queue up on one core: patience is not what is measured.
    timing = LineTiming.network(mobile=True, start_quiet_s=0.0, reply_timeout_s=PATIENCE_S)
    lines = {name: Line(name, timing) for name in gateways}
    listener = DialIn("127.0.0.1", 0, gateways, lambda name, link: lines[name].attach(link))
    await listener.start()
    began_s, cpu_s = time.perf_counter(), time.process_time()
    arguments = (str(listener.port), str(links), str(HEARTBEAT_S), ",".join(dialects))
    with python("-m", "bench._dtus", *arguments):
        async with asyncio.timeout(DIAL_S_MAX):
            for line in lines.values():
                await line.wait_up()
        up_s, up_cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        up_kb = resident_kb()
        cpu_s = time.process_time()
        await asyncio.sleep(IDLE_S)
        idle_cpu_s = time.process_time() - cpu_s
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await poll_steadily(list(lines.values()))
        steady_cpu_s, steady_s = time.process_time() - cpu_s, time.perf_counter() - began_s
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await poll_flat_out(list(lines.values()))
        polls = links * POLLS_EACH
        rate, poll_cpu_s = polls / (time.perf_counter() - began_s), time.process_time() - cpu_s
        polled_kb = resident_kb()
        heard = sum(session.heartbeats for session in listener.sessions())
        await listener.stop()
    assert heard > 0
    assert not any(line.health.silences for line in lines.values())
    return {
        "links": links,
        "dialects": len(dialects),
        "all up s": round(up_s, 2),
        "dial CPU us a link": round(1e6 * up_cpu_s / links),
        "KB a link": round((up_kb - before_kb) / links, 1),
        "KB after polls": round((polled_kb - before_kb) / links, 1),
        "idle CPU %": round(100 * idle_cpu_s / IDLE_S, 2),
        "beats /s": round(links / HEARTBEAT_S),
        "steady polls /s": round(links / steady_s),
        "steady CPU %": round(100 * steady_cpu_s / steady_s, 1),
        "flat out /s": round(rate),
        "CPU us a poll": round(1e6 * poll_cpu_s / polls, 1),
    }


def in_a_fresh_process(links: int, dialects: Sequence[str]) -> Row:
    """One case, so that no case begins with the memory another one left behind."""
    with python("-m", "bench.dial_in_links", str(links), ",".join(dialects)) as child:
        told, _ = child.communicate()
    row: Row = json.loads(told)
    return row


def main() -> None:
    """Each link is a socket, its session and its line with ring and health."""
    quiet()
    most = allow_descriptors(max(links for links, _ in CASES) + 200) - 200
    if len(sys.argv) > 1:
        print(json.dumps(uvloop.run(measure(int(sys.argv[1]), sys.argv[2].split(",")))))
        return
    report(
        "dial_in_links",
        "boxes that dial in on one process, each with its line: storm, memory and CPU",
        [in_a_fresh_process(min(links, most), dialects) for links, dialects in CASES],
        notes=[
            "memory of the kernel's socket buffers is not counted",
            "four dialects: transparent, Acrel 4G, Hongdian DDP and Four-Faith, a quarter each",
        ],
    )


if __name__ == "__main__":
    main()
