"""Ties one head-end together: database, sink, lines, nights, schedule, web. Nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from headend.domain.clock import Clock, SystemClock
from headend.domain.problems import Problem
from headend.services.bulk_runner import BulkRunner
from headend.services.decisions import Decisions
from headend.services.housekeeping import keep_line_events, keep_partitions
from headend.services.lines import LineBook
from headend.services.nightly import Pace
from headend.services.nights import NightService
from headend.services.orders import Orders
from headend.services.reconcile import keep_reconciled
from headend.services.schedule import Schedule
from headend.services.seals import keep_seals
from headend.services.sender import Sender
from headend.services.services import Services
from headend.services.sink import Sink
from headend.services.switching import last_check
from headend.settings import Settings
from headend.store import nights, places, readings
from headend.store.database import Database
from headend.store.embedded import EmbeddedPostgres, running_conninfo
from headend.store.migrate import migrate
from headend.store.nights import Gap, Look
from headend.store.spool import Spool
from headend.web.server import bound_socket, build, serving
from protocols.catalog import CatalogError, load_meter_types
from protocols.meter_type import MeterType

log = logging.getLogger(__name__)

PLACES_CHANGED = "places_changed"  # the channel an import notifies


@dataclass(frozen=True, slots=True)
class OpenedDatabase:
    """A database ready for use, and the migrations that opening it applied."""

    database: Database
    migrated: Sequence[int]


@asynccontextmanager
async def open_database(
    settings: Settings, *, own: bool = False, adopt_timescale: bool = False
) -> AsyncIterator[OpenedDatabase]:
    """The site's database, or the embedded one.

    The embedded one is started unless a running head-end has it; then that one is used, except
    with `own`, which insists. Raises StoreError.
    """
    async with AsyncExitStack() as stack:
        conninfo = settings.database_url or (None if own else running_conninfo(_folder(settings)))
        if conninfo is None:
            timescale = Path(settings.timescale_folder) if settings.timescale_folder else None
            embedded = EmbeddedPostgres(_folder(settings), timescale_folder=timescale)
            conninfo = await embedded.start()
            stack.push_async_callback(embedded.stop)
        applied = await migrate(conninfo, adopt_timescale=adopt_timescale)
        database = Database(conninfo)
        await database.open()
        stack.push_async_callback(database.close)
        yield OpenedDatabase(database, applied)


def _folder(settings: Settings) -> Path:
    return settings.data_folder / "postgres"


class HeadEnd:
    """Everything that runs in one process. Use `running()`."""

    def __init__(
        self, services: Services, schedule: Schedule, database: Database, http_port: int
    ) -> None:
        self.services = services
        self.http_port = http_port  # the true one where the settings say 0
        self._schedule = schedule
        self._database = database
        self._one_reload = asyncio.Lock()

    async def reload(self) -> None:
        """Follow the places in the database: lines, meters, nights, schedule."""
        book, night_service = self.services.lines, self.services.nights
        async with self._one_reload:
            async with self._database.transaction() as tx:
                await places.one_moment(tx)
                sites = await places.load_sites(tx)
                lines = await places.load_lines(tx)
                meters = await places.load_meters(tx)
                energies_wh = await readings.last_energies_wh(tx)
            changed = await book.reload(sites, lines, meters, energies_wh)
            self._schedule.plan(sites)
            for site in changed:
                night_service.restart(site)
        for known in sites:
            await night_service.tick(known.name)

    async def follow(self) -> None:
        """Reload whenever an import says so; runs until cancelled."""
        async for _ in self._database.listen(PLACES_CHANGED):
            try:
                await self.reload()
            except Problem as problem:
                log.warning("the places are followed later: %s", problem)
            except Exception:
                # The lines at work go on; the next import or restart tries again.
                log.exception("the places in the database cannot be followed")


@asynccontextmanager
async def running(
    settings: Settings, *, clock: Clock | None = None, pace: Pace | None = None
) -> AsyncIterator[HeadEnd]:
    """A whole head-end, from its port to its nights, for as long as the block runs.

    Raises Problem; ports are taken first, so that a clash is said before anything is touched.
    """
    clock = clock or SystemClock()
    meter_types, books_zone = _meter_types(), _books_zone(settings)
    async with AsyncExitStack() as stack:
        http = bound_socket(settings.http_host, settings.http_port)
        stack.callback(http.close)
        book = LineBook(meter_types)
        stack.push_async_callback(book.close)
        await book.listen(
            settings.dial_in_host, settings.dial_in_port, sockets_max=settings.dial_in_sockets_max
        )
        opened = await stack.enter_async_context(open_database(settings, own=True))
        database = opened.database

        async def save(looks: Sequence[Look], gaps: Sequence[Gap]) -> None:
            async with database.transaction() as tx:
                await nights.save(tx, looks, gaps)

        spool = Spool(settings.data_folder / "waiting", bytes_max=settings.spool_bytes_max)
        sink = Sink(save, spool, waiting_max=settings.waiting_readings_max)
        sink.start()
        stack.push_async_callback(sink.stop)
        night_service = NightService(database, book, sink, clock, pace)
        stack.push_async_callback(night_service.stop)
        sender = Sender(database, book, clock, last_check=last_check(clock))
        orders = Orders(clock, meter_types)
        bulk_runner = BulkRunner(database, orders.switch, clock)
        schedule = Schedule(night_service.tick)
        schedule.start()
        stack.callback(schedule.stop)
        services = Services(
            database=database,
            lines=book,
            nights=night_service,
            sink=sink,
            orders=orders,
            decisions=Decisions(clock),
            clock=clock,
            started_at=clock.now(),
            version=version("headend"),
        )
        head_end = HeadEnd(services, schedule, database, http.getsockname()[1])
        await head_end.reload()
        # Once the lines are known: what an earlier process left half done is taken up first.
        await sender.start()
        stack.push_async_callback(sender.stop)
        bulk_runner.start()
        stack.push_async_callback(bulk_runner.stop)
        for work in (
            head_end.follow(),
            keep_line_events(database, book, clock),
            keep_partitions(database, clock),
            keep_seals(database, clock, books_zone),
            keep_reconciled(database, clock),
        ):
            stack.push_async_callback(_cancelled, asyncio.create_task(work))
        hosts = ["127.0.0.1", "localhost", "[::1]", settings.http_host]
        await stack.enter_async_context(serving(build(services, hosts), http))
        yield head_end


def _meter_types() -> Mapping[str, MeterType]:
    try:
        return load_meter_types()
    except CatalogError as error:
        raise Problem("meter-types", detail=error) from error


def _books_zone(settings: Settings) -> ZoneInfo:
    try:
        return ZoneInfo(settings.books_time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        detail = f"books_time_zone {settings.books_time_zone} is not a time zone"
        raise Problem("settings-unreadable", file="the settings", detail=detail) from error


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
