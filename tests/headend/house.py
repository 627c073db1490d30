"""A small property for tests: real meters' simulators on real sockets, a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from headend.domain.places import Building, Gateway, GatewayKind, LinePlace, MeterPlace, Room, Site
from headend.services.importing import import_into
from headend.services.lines import LineBook
from headend.services.nightly import Pace
from headend.services.nights import NightService
from headend.services.sink import Sink
from headend.store import nights, places, readings
from headend.store.database import Database
from headend.store.nights import Gap, Look
from headend.store.spool import Spool
from protocols.catalog import load_meter_types
from simulators.line_command import LineWish
from simulators.tcp_slave import TcpLine

SHANGHAI = ZoneInfo("Asia/Shanghai")
# Meters answer at once and nobody waits for morning.
QUICK = Pace(retry_s_first=0.01, retry_s_max=0.05, tries_max=2, line_patience_s=0.3)


@dataclass
class TestClock:
    """Stands still until it is moved."""

    __test__ = False
    instant: datetime = datetime(2026, 3, 20, 2, 0, tzinfo=UTC)  # ten in the morning in Shanghai

    def now(self) -> datetime:
        return self.instant


def line_of(*meters: str, turnaround_s: float = 0.0) -> TcpLine:
    """A converter with simulated meters, as in "ddsy:1-3"; without wire time."""
    wish = LineWish.parse(
        meters=list(meters),
        pty=None,
        tcp="127.0.0.1:0",
        baud=1_000_000,
        bits=10,
        turnaround_s=turnaround_s,
        seed=1,
        faults="{}",
    )
    return TcpLine(wish.bus(), timing=wish.timing)


def site_on(port: int, meters: tuple[MeterPlace, ...], name: str = "court") -> Site:
    """One line L1 on a converter of this machine."""
    return Site(
        name=name,
        time_zone=SHANGHAI,
        night_opens=time(23, 55),
        night_closes=time(6, 0),
        buildings=(Building(name="A"),),
        rooms=(Room(name="A-101", building="A", floor=1),),
        gateways=(Gateway(name="G1", kind=GatewayKind.TCP, host="127.0.0.1", port=port),),
        lines=(LinePlace(name="L1", gateway="G1", reply_timeout_ms=150, reply_late_ms_max=200),),
        cabinets=(),
        meters=meters,
    )


def ddsy(unit: int, number: str | None = None, meter_type: str = "acrel_ddsy1352") -> MeterPlace:
    return MeterPlace(
        name=f"M{unit}", line="L1", meter_type=meter_type, unit=unit, meter_number=number
    )


@dataclass
class House:
    """The services of a small head-end, without its web and its schedule."""

    database: Database
    book: LineBook
    sink: Sink
    nights: NightService
    clock: TestClock
    spool: Spool

    async def move_in(self, site: Site) -> None:
        await import_into(self.database, site)
        await self.reload()

    async def reload(self) -> set[str]:
        async with self.database.transaction() as tx:
            await places.one_moment(tx)
            return await self.book.reload(
                await places.load_sites(tx),
                await places.load_lines(tx),
                await places.load_meters(tx),
                await readings.last_energies_wh(tx),
            )

    async def collect(self, site: str = "court", pace: Pace = QUICK) -> dict[str, str]:
        """A night now; what became of each meter: its reason, or its state."""
        await self.nights.collect_now(site, pace)
        await self.nights.finished(site)
        return await self.cells(site)

    async def cells(self, site: str = "court") -> dict[str, str]:
        async with self.database.transaction() as tx:
            night = (await nights.completeness(tx, site=site, count=1))[0].night
            found = await nights.cells(tx, site=site, night=night)
        assert found is not None
        return {c.meter: c.reason.value if c.reason else c.state.value for c in found}

    def later(self, **step: float) -> None:
        self.clock.instant += timedelta(**step)


@asynccontextmanager
async def small_house(database: Database, folder: Path) -> AsyncIterator[House]:
    async def save(looks: list[Look], gaps: list[Gap]) -> None:
        async with database.transaction() as tx:
            await nights.save(tx, looks, gaps)

    clock = TestClock()
    spool = Spool(folder / "waiting")
    sink = Sink(save, spool, waiting_max=1000)  # type: ignore[arg-type]
    sink.start()
    book = LineBook(load_meter_types(), clock=clock)
    service = NightService(database, book, sink, clock, replace(QUICK, tries_max=None))
    try:
        yield House(database, book, sink, service, clock, spool)
    finally:
        await service.stop()
        await book.close()
        await sink.stop()
