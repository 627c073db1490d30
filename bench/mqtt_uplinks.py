"""How many MQTT uplinks a second become committed rows, and how late?

A whole head-end with its own mosquitto and its own PostgreSQL; ten gateways in another process
publish Acrel reports of one meter each with QoS 1. First as fast as they can: from the first
publish to the last commit. Then at steady rates: from the hand-over of a message to the commit of
its row, p50 and p99. Each message must have had its row committed; one without fails the bench.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import time as daytime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import uvloop

from bench._child import python, quiet
from bench._table import Row, report
from headend.app import HeadEnd, running
from headend.domain.places import Gateway, GatewayKind, LinePlace, MeterPlace, Site
from headend.domain.roles import Caller, Role
from headend.services.importing import import_into
from headend.settings import Settings
from headend.store import people
from headend.store.nights import Gap, Look

GATEWAYS, METERS = 10, 50
FLAT_OUT = 15_000  # below what may wait in memory: nothing is dropped
STEADY_PER_S, STEADY_S = (100, 500), 10
PATIENCE_S = 120.0


class Commits:
    """When each row was committed, by (meter, unix second)."""

    def __init__(self, head_end: HeadEnd) -> None:
        self.at_s: dict[tuple[int, int], float] = {}
        sink = head_end.services.sink
        save = sink._save

        async def noted(looks: Sequence[Look], gaps: Sequence[Gap]) -> None:
            await save(looks, gaps)
            now_s = time.time()
            for look in looks:
                self.at_s[look.reading.meter_id, int(look.reading.at.timestamp())] = now_s

        sink._save = noted


def property_() -> Site:
    names = [f"G{n:02d}" for n in range(GATEWAYS)]
    return Site(
        name="bench",
        time_zone=ZoneInfo("Asia/Shanghai"),
        night_opens=daytime(23, 55),
        night_closes=daytime(6),
        buildings=(),
        rooms=(),
        gateways=tuple(Gateway(name=n, kind=GatewayKind.MQTT, registration=n) for n in names),
        lines=tuple(LinePlace(name=name, gateway=name) for name in names),
        cabinets=(),
        meters=tuple(
            MeterPlace(name=f"{n}-{unit}", line=n, meter_type="acrel_ddsy1352", unit=unit)
            for n in names
            for unit in range(1, METERS + 1)
        ),
    )


async def access(head_end: HeadEnd) -> list[tuple[str, str]]:
    services = head_end.services
    async with services.database.transaction() as tx:
        made = await people.add_operator(tx, "li", Role.TECHNICIAN, at=services.clock.now())
    assert made is not None
    caller = Caller(operator=made, token_id=0, permissions=made.permissions)
    return [await services.mqtt.users.give(caller, f"G{n:02d}") for n in range(GATEWAYS)]


async def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="headend-bench-") as folder:
        os.chmod(folder, 0o755 if os.geteuid() == 0 else 0o700)  # noqa: PTH101
        settings = Settings(
            data_folder=Path(folder),
            http_port=0,
            dial_in_host="127.0.0.1",
            dial_in_port=0,
            mqtt_broker_port=0,
        )
        async with running(settings) as head_end:
            await import_into(head_end.services.database, property_())
            await head_end.reload()
            broker = head_end.services.mqtt.broker
            assert broker is not None, "this bench needs mosquitto"
            assert broker.trouble is None, broker.trouble
            given = await access(head_end)
            await _until(lambda: head_end.services.mqtt.state == "up")
            commits = Commits(head_end)
            with python("-m", "bench._publisher") as child:
                setting = {"port": broker.port, "meters": METERS, "access": given}
                assert await _told(child, setting) == "ready"
                now_s = int(time.time())
                runs = [(0, FLAT_OUT), *((rate, rate * STEADY_S) for rate in STEADY_PER_S)]
                rows: list[Row] = []
                for index, (per_s, messages) in enumerate(runs):
                    # Each run tells of an hour of its own, the later one later.
                    order = {
                        "messages": messages,
                        "per_s": per_s,
                        "begin_s": now_s - (len(runs) - index) * 3600,
                        "energy": 10_000 * (index + 1),
                    }
                    rows.append(await _run(head_end, child, commits, order))
                return rows


async def _run(
    head_end: HeadEnd, child: subprocess.Popen[str], commits: Commits, order: dict[str, Any]
) -> Row:
    commits.at_s.clear()
    told = json.loads(await _told(child, order))
    await _until(lambda: len(commits.at_s) >= order["messages"])
    ids = {name: m.known.meter_id for name, m in head_end.services.lines.meters.items()}
    delays_ms = []
    for i, sent_s in enumerate(told["sent_s"]):
        turn, of_gateway = divmod(i, GATEWAYS)
        step, unit = divmod(turn, METERS)
        key = ids[f"G{of_gateway:02d}-{unit + 1}"], order["begin_s"] + step
        delays_ms.append(1000 * (commits.at_s[key] - sent_s))
    began_s, ended_s = told["sent_s"][0], max(commits.at_s.values())
    ranked = sorted(delays_ms)
    return {
        "offered/s": order["per_s"] or "flat out",
        "uplinks": order["messages"],
        "acknowledged/s": round(order["messages"] / (told["acknowledged_s"] - began_s)),
        "committed/s": round(order["messages"] / (ended_s - began_s)),
        "p50 ms": round(ranked[len(ranked) // 2]),
        "p99 ms": round(ranked[len(ranked) * 99 // 100]),
    }


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  what is waited for is another process and a database
            await asyncio.sleep(0.02)


async def _told(child: subprocess.Popen[str], words: dict[str, Any]) -> str:
    """Tell the other process, and wait for its one line."""
    stdin, stdout = child.stdin, child.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(json.dumps(words) + "\n")
    stdin.flush()
    return (await asyncio.to_thread(stdout.readline)).strip()


def main() -> None:
    """Print the table and write it as JSON."""
    quiet()
    logging.getLogger("headend").setLevel(logging.ERROR)
    rows = uvloop.run(measure())
    report(
        "mqtt_uplinks",
        "MQTT uplinks: from publish to the committed row",
        rows,
        notes=(
            f"{GATEWAYS} gateways, {METERS} meters each, QoS 1, one meter a message; the broker, "
            "the head-end and PostgreSQL share the machine with whoever publishes",
            "readings gather for up to 0.1 s before a commit: that is in every delay",
        ),
    )


if __name__ == "__main__":
    main()
