"""How long does it take to cut 40,000 circuits, with canary and ramp, each proved by its relay?

1,000 lines of 40 simulated circuits, each line a link with 300 ms from request to answer, in this
process; everything between is the product: bulk runner, orders, sender, drivers, PostgreSQL. Every
order is looked at by the supply rules when its turn comes and once more before it is sent. The
hard limits of the sender are taken away: they are there to make this impossible.

A second list meets meters that refuse, and has to halt by itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import uvloop

from bench._child import quiet
from bench._table import Row, report
from gateways.link import LinkUser
from headend.domain.bulk import BulkLimits, Job, JobState, Tally
from headend.domain.clock import SystemClock
from headend.domain.commands import CommandKind
from headend.domain.friendly_hours import Calendar
from headend.domain.limits import HardLimits
from headend.domain.places import Gateway, GatewayKind, LinePlace, MeterPlace, Site
from headend.services import bulk
from headend.services.bulk import BulkWish
from headend.services.bulk_runner import BulkRunner
from headend.services.importing import import_into
from headend.services.lines import LineBook
from headend.services.orders import Orders
from headend.services.sender import Sender
from headend.services.switching import last_check
from headend.store import bulk as store
from headend.store import bulk_items, places, readings, supply
from headend.store.database import Database
from headend.store.embedded import EmbeddedPostgres
from headend.store.migrate import migrate
from protocols.catalog import load_meter_types
from protocols.reading import Origin, Quantity, Reading
from simulators import rtu
from simulators.line_command import LineWish
from simulators.modbus_meter import Bus
from simulators.rtu import No

ZONE = ZoneInfo("Asia/Shanghai")
LINES, METERS_A_LINE = 1_000, 40
ANSWER_S = 0.3  # from request to answer, as over a mobile network
REFUSING = 50  # lines of the second list; all but the first fifteen refuse
SECONDS_MAX = 900.0  # then the figure is that it did not end
RAMP = BulkLimits(size_max=LINES * METERS_A_LINE, go_on_by_person=False, pause_s=2)


class SimulatedLink:
    """A pipe to one bus that answers whole requests after ANSWER_S. A ByteLink."""

    def __init__(self, name: str, bus: Bus, *, refuses: bool) -> None:
        self.name = name
        self._bus = bus
        self._refuses = refuses
        self._user: LinkUser | None = None

    def start(self, user: LinkUser) -> None:
        self._user = user

    def write(self, data: bytes) -> None:
        if self._refuses and data[1] not in {rtu.READ_HOLDING, rtu.REPORT_VERSION}:
            answer: bytes | None = rtu.exception(data[0], data[1], No.VALUE)
        else:
            answer = self._bus.answer(data)
        if answer is not None:
            asyncio.get_running_loop().call_later(ANSWER_S, self._answer, answer)

    def _answer(self, data: bytes) -> None:
        if self._user is not None:
            self._user.bytes_received(data)

    def close(self) -> None:
        self._user = None


def site(name: str, lines: int) -> Site:
    """Lines behind DTUs, full of single-phase meters."""
    numbers = range(1, lines + 1)
    return Site(
        name=name,
        time_zone=ZONE,
        buildings=(),
        rooms=(),
        gateways=tuple(
            Gateway(name=f"{name}-G{n}", kind=GatewayKind.DTU, registration=f"ascii:{name}{n}")
            for n in numbers
        ),
        lines=tuple(LinePlace(name=f"{name}-L{n}", gateway=f"{name}-G{n}") for n in numbers),
        cabinets=(),
        meters=tuple(
            MeterPlace(
                name=f"{name}-M{n}-{unit}",
                line=f"{name}-L{n}",
                meter_type="acrel_ddsy1352",
                unit=unit,
            )
            for n in numbers
            for unit in range(1, METERS_A_LINE + 1)
        ),
    )


async def move_in(database: Database, book: LineBook) -> tuple[list[int], Mapping[str, int]]:
    """Import, read and connect both sites; returns (two operators, sites by name)."""
    await import_into(database, site("many", LINES))
    await import_into(database, site("bad", REFUSING))
    now = SystemClock().now()
    async with database.transaction() as tx:
        await readings.make_partitions(tx, now)
        meter_ids = [row[0] for row in await tx.rows("SELECT meter_id FROM meter")]
        values = {Quantity.REMAINING_CREDIT: -1_200, Quantity.RELAY_CLOSED: 1}
        await readings.store_readings(
            tx,
            [
                Reading(
                    meter_id=meter_id, at=now, received_at=now, origin=Origin.POLLED, values=values
                )
                for meter_id in meter_ids
            ],
        )
        people = await tx.rows(
            "INSERT INTO operator (name, person, role, all_sites, created_at)"
            " VALUES ('wang', 'Wang Wei', 'manager', true, %(now)s),"
            " ('zhao', 'Zhao Yi', 'manager', true, %(now)s) RETURNING operator_id",
            named={"now": now},
        )
        sites: dict[str, int] = dict(await tx.rows("SELECT name, site_id FROM site"))
        any_hour = Calendar(time_zone=ZONE, friendly_hours=(), spare_weekends=False)
        for site_id in sites.values():
            await supply.set_calendar(tx, site_id, any_hour, by=None, at=now)
        await book.reload(
            await places.load_sites(tx),
            await places.load_lines(tx),
            await places.load_meters(tx),
            {},
        )
    for number, at_work in enumerate(book.lines.values(), 1):
        wish = LineWish.parse(
            meters=[f"ddsy:1-{METERS_A_LINE}"],
            pty=None,
            tcp="127.0.0.1:0",
            baud=9600,
            bits=10,
            turnaround_s=0.0,
            seed=number,
            faults="{}",
        )
        refuses = at_work.site == "bad" and int(at_work.name.rpartition("L")[2]) > 15
        at_work.line.attach(SimulatedLink(at_work.name, wish.bus(), refuses=refuses))
    return [operator_id for (operator_id,) in people], sites


async def begun(database: Database, site_id: int, people: list[int]) -> Job:
    """Plan, approve and start the cut of a whole site."""
    planner, approver = people
    now = SystemClock().now()
    wish = BulkWish(
        bulk_id=uuid4(),
        action=CommandKind.CUT,
        by=planner,
        reason="bench",
        site_id=site_id,
        limits=RAMP,
    )
    async with database.transaction() as tx:
        job = await bulk.plan(tx, wish, now)
        assert isinstance(job, Job), job
        await bulk.approve(tx, job.bulk_id, job.sha256, by=approver, now=now)
        started = await bulk.start(tx, job.bulk_id, by=planner, now=now)
    assert isinstance(started, Job), started
    return started


def processor_s(root: int) -> float:
    """Processor time of a process and its children so far, in seconds."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if stat.parent.name == str(root) or fields[1] == str(root):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def measure(database: Database, server: int, job: Job, list_name: str) -> Row:
    """Follow a job to its end."""
    own, servers = time.process_time(), processor_s(server)
    began = time.perf_counter()
    found: Job | None = job
    while found is not None and found.state not in {JobState.DONE, JobState.HALTED}:
        if time.perf_counter() - began > SECONDS_MAX:
            break
        await asyncio.sleep(1)
        async with database.transaction() as tx:
            found = await store.find_job(tx, job.bulk_id)
    seconds = time.perf_counter() - began
    assert found is not None
    async with database.transaction() as tx:
        tally: Tally = await bulk_items.tally(tx, job.bulk_id)
    return {
        "list": list_name,
        "meters": job.damage.meters,
        "end": found.state.value,
        "s": seconds,
        "cut": tally.done,
        "refused": tally.failed,
        "unknown": tally.unknown,
        "left alone": tally.left,
        "batches": found.batch + 1,
        "cuts/s": tally.done / seconds,
        "head-end CPU %": 100 * (time.process_time() - own) / seconds,
        "PostgreSQL CPU %": 100 * (processor_s(server) - servers) / seconds,
    }


def new_folder() -> Path:
    """A folder that the database's own user may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="bench-bulk-"))
    folder.chmod(0o755)
    return folder


async def run() -> list[Row]:
    """Both lists on one head-end."""
    folder = new_folder()
    postgres = EmbeddedPostgres(folder / "postgres")
    conninfo = await postgres.start()
    await migrate(conninfo)
    database, clock, types = Database(conninfo), SystemClock(), load_meter_types()
    await database.open()
    book = LineBook(types)
    limits = HardLimits(rates={})
    sender = Sender(database, book, clock, limits=limits, last_check=last_check(clock))
    runner = BulkRunner(database, Orders(clock, types).switch_many, clock)
    try:
        people, sites = await move_in(database, book)
        await sender.start()
        runner.start()
        rows = []
        for name in ("bad", "many"):
            job = await begun(database, sites[name], people)
            assert postgres.pid is not None
            rows.append(await measure(database, postgres.pid, job, name))
        return rows
    finally:
        await runner.stop()
        await sender.stop()
        await book.close()
        await database.close()
        await postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    quiet()
    report(
        "bulk",
        f"cut {LINES * METERS_A_LINE:,} circuits on {LINES:,} lines of {1000 * ANSWER_S:.0f} ms",
        uvloop.run(run()),
        notes=["a cut is three exchanges: look, write once, look at the relay"],
    )
