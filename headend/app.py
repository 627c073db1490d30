"""Ties one head-end together: database, sink, lines, nights, schedule, web. Nothing else does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zoneinfo import ZoneInfo

from headend.app_parts import (
    backup_plan,
    books_zone,
    cancelled,
    card_parts,
    evidence_desk,
    hosts_of,
    known_meter_types,
    line_book,
    outgoing_roads,
    report_desk,
    retention_of,
)
from headend.domain.clock import Clock, SystemClock
from headend.domain.problems import Problem
from headend.services.alarm_watch import keep_alarms
from headend.services.backups import BackupPlan, keep_backups
from headend.services.billing_rounds import keep_billed
from headend.services.bulk_runner import BulkRunner
from headend.services.case_keeper import keep_cases
from headend.services.decisions import Decisions
from headend.services.gateway_health import FactsBook
from headend.services.housekeeping import (
    Retention,
    keep_line_events,
    keep_partitions,
    keep_tidy,
)
from headend.services.lines import LineBook
from headend.services.machine_key import machine_key
from headend.services.mqtt_service import mqtt_running
from headend.services.nightly import Pace
from headend.services.nights import NightService
from headend.services.orders import Orders
from headend.services.outgoing import Outgoing
from headend.services.patience import for_ever
from headend.services.platform_money import keep_platform_supply
from headend.services.reconcile import keep_reconciled
from headend.services.reports import keep_reports
from headend.services.schedule import Schedule
from headend.services.seals import keep_seals
from headend.services.sender import Sender
from headend.services.services import Services
from headend.services.sink import Sink
from headend.services.switching import last_check
from headend.services.tariff_push import TariffPushes
from headend.services.uplinks import Uplinks
from headend.settings import Settings
from headend.store import nights, places, readings
from headend.store.database import Database
from headend.store.embedded import EmbeddedPostgres, running_conninfo
from headend.store.errors import DatabaseAway
from headend.store.migrate import migrate
from headend.store.nights import Gap, Look
from headend.store.spool import Spool
from headend.web.server import bound_socket, build, serving

log = logging.getLogger(__name__)

PLACES_CHANGED = "places_changed"  # the channel an import notifies
FOLLOW_AGAIN_S = 2.0


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
            await self.services.mqtt.follow()
            self._schedule.plan(sites)
            for site in changed:
                night_service.restart(site)
        for known in sites:
            await night_service.tick(known.name)

    async def follow(self) -> None:
        """Reload whenever an import says so; runs until cancelled."""
        async for _ in self._database.listen(PLACES_CHANGED):
            # An import says so once: where the database was away just then, nobody says it again.
            while True:
                if await self._followed():
                    break
                await asyncio.sleep(FOLLOW_AGAIN_S)

    async def _followed(self) -> bool:
        """False: the database was away, and it is worth to try again soon."""
        try:
            await self.reload()
        except DatabaseAway as error:
            log.warning("the places are followed later: %s", error)
            return False
        except Problem as problem:
            log.warning("the places are followed later: %s", problem)
        except Exception:
            # The lines at work go on; the next import or restart tries again.
            log.exception("the places in the database cannot be followed")
        return True


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    clock: Clock | None = None,
    pace: Pace | None = None,
    seal_after: asyncio.Event | None = None,
) -> AsyncIterator[HeadEnd]:
    """A whole head-end, from its port to its nights, for as long as the block runs.

    `seal_after`: no day is sealed by itself before this, as days that are over are still booked.

    Raises Problem; ports are taken first, so that a clash is said before anything is touched.
    """
    clock = clock or SystemClock()
    meter_types, zone = known_meter_types(), books_zone(settings)
    plan = backup_plan(settings)
    async with AsyncExitStack() as stack:
        http = bound_socket(settings.http_host, settings.http_port)
        stack.callback(http.close)
        facts = FactsBook(clock)
        book = await _listening(stack, settings, line_book(settings, meter_types, clock, facts))
        database = (await stack.enter_async_context(open_database(settings, own=True))).database
        roads = outgoing_roads(settings, clock, zone)
        sink = _sink(stack, settings, database)
        uplinks = await stack.enter_async_context(_taking(Uplinks(database, book, sink, clock)))
        book.dial_ins.on_upload = uplinks.take
        mqtt = await stack.enter_async_context(
            mqtt_running(settings, database, book, uplinks, clock)
        )
        night_service = NightService(database, book, sink, clock, pace)
        stack.push_async_callback(night_service.stop)
        sender = Sender(database, book, clock, last_check=last_check(clock))
        orders = Orders(clock, meter_types)
        bulk_runner = BulkRunner(database, orders.switch_many, clock)
        schedule = _schedule(stack, night_service)
        card_counter, terminals = await card_parts(
            stack, settings, database, clock, book=book, orders=orders, nights=night_service
        )
        services = Services(
            database=database,
            lines=book,
            facts=facts,
            nights=night_service,
            sink=sink,
            uplinks=uplinks,
            orders=orders,
            decisions=Decisions(clock),
            clock=clock,
            started_at=clock.now(),
            version=version("headend"),
            cards=card_counter,
            terminals=terminals,
            mqtt=mqtt,
            reports=report_desk(settings, database, clock, zone, roads.mailer),
            outgoing=roads,
            machine_key=stack.enter_context(machine_key(http.getsockname()[1])),
            public_url=settings.public_url,
            evidence=evidence_desk(settings, database, clock),
            backup_age_max=None if plan is None else plan.age_max,
        )
        head_end = HeadEnd(services, schedule, database, http.getsockname()[1])
        await head_end.reload()
        await _start_sending(stack, sender, bulk_runner)
        _start_standing_work(
            stack, head_end, zone, plan, seal_after=seal_after, kept=retention_of(settings)
        )
        await stack.enter_async_context(serving(build(services, hosts_of(settings)), http))
        yield head_end


async def _listening(stack: AsyncExitStack, settings: Settings, book: LineBook) -> LineBook:
    """Its port for boxes that dial in is taken; nobody is known yet."""
    stack.push_async_callback(book.close)
    await book.listen(
        settings.dial_in_host, settings.dial_in_port, sockets_max=settings.dial_in_sockets_max
    )
    return book


async def _start_sending(stack: AsyncExitStack, sender: Sender, bulk_runner: BulkRunner) -> None:
    """Once the lines are known: what an earlier process left half done is taken up first."""
    await sender.start()
    stack.push_async_callback(sender.stop)
    bulk_runner.start()
    stack.push_async_callback(bulk_runner.stop)


def _sink(stack: AsyncExitStack, settings: Settings, database: Database) -> Sink:
    """Where readings wait for the database, at work."""
    spool = Spool(settings.data_folder / "waiting", bytes_max=settings.spool_bytes_max)
    sink = Sink(_saving(database), spool, waiting_max=settings.waiting_readings_max)
    sink.start()
    stack.push_async_callback(sink.stop)
    return sink


def _schedule(stack: AsyncExitStack, night_service: NightService) -> Schedule:
    """What looks at the calendar, at work."""
    schedule = Schedule(night_service.tick)
    schedule.start()
    stack.callback(schedule.stop)
    return schedule


def _saving(database: Database) -> Callable[[Sequence[Look], Sequence[Gap]], Awaitable[None]]:
    async def save(looks: Sequence[Look], gaps: Sequence[Gap]) -> None:
        async with database.transaction() as tx:
            await nights.save(tx, looks, gaps)

    return save


def _start_standing_work(
    stack: AsyncExitStack,
    head_end: HeadEnd,
    books_zone: ZoneInfo,
    plan: BackupPlan | None,
    *,
    seal_after: asyncio.Event | None,
    kept: Retention,
) -> None:
    """What goes on beside the lines for as long as the head-end runs, each work by itself."""
    services = head_end.services
    database, clock = services.database, services.clock
    assert services.terminals is not None, "made with every head-end"
    reports = None if services.reports is None else services.reports.folder

    async def seal() -> None:
        if seal_after is not None:
            await seal_after.wait()
        await keep_seals(database, clock, books_zone)

    for what, work in (
        ("following the places", head_end.follow),
        ("keeping line events", lambda: keep_line_events(database, services.lines, clock)),
        ("making partitions", lambda: keep_partitions(database, clock)),
        ("letting go of what is old", lambda: keep_tidy(database, clock, kept, reports)),
        ("sealing the books", seal),
        ("billing", lambda: keep_billed(database, clock)),
        (
            "warning and cutting by balance",
            lambda: keep_platform_supply(database, services.orders, clock),
        ),
        ("pushing prices", TariffPushes(database, services.orders, clock, known_meter_types()).run),
        ("reconciling", lambda: keep_reconciled(database, clock)),
        ("making reports", lambda: keep_reports(services.reports)),
        ("letting gateways in", services.mqtt.users.keep),
        ("keeping cases", lambda: keep_cases(services)),
        ("watching for alarms", lambda: keep_alarms(database, clock)),
        ("telling the outside", Outgoing(database, clock, services.outgoing).run),
        ("making backups", lambda: keep_backups(database, plan, clock, books_zone)),
        ("answering terminals", services.terminals.run),
    ):
        task = asyncio.create_task(for_ever(what, work), name=what)
        stack.push_async_callback(cancelled, task)


@asynccontextmanager
async def _taking(uplinks: Uplinks) -> AsyncIterator[Uplinks]:
    uplinks.start()
    try:
        yield uplinks
    finally:
        await uplinks.stop()
