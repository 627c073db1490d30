"""The parts of a head-end as its settings want them: app.py puts them together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import time, timedelta
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateways.key_client import KeyBoxClient
from headend.domain.clock import Clock
from headend.domain.problems import Problem
from headend.services.backups import BackupPlan
from headend.services.card_counter import CardCounter
from headend.services.card_landings import keep_card_landings
from headend.services.cards import CardDesk
from headend.services.evidence import KEY_FILE, EvidenceDesk
from headend.services.gateway_health import FactsBook
from headend.services.housekeeping import Retention
from headend.services.key_holders import key_holder_of
from headend.services.lines import LineBook
from headend.services.mail import Mailer, smtp_place
from headend.services.nights import NightService
from headend.services.orders import Orders
from headend.services.outgoing import Roads, outgoing_key
from headend.services.reports import ReportDesk
from headend.services.sms import sms_road
from headend.services.terminal_start import terminals_of
from headend.services.terminals import Terminals
from headend.settings import Settings
from headend.store.database import Database
from headend.store.errors import FolderUnusable
from headend.units.finding import find_units
from headend.web.words import said
from protocols.catalog import CatalogError, load_meter_types
from protocols.key_call import LEVEL_BYTES
from protocols.meter_type import MeterType
from protocols.security_unit import UnitError, UnitRegister


def line_book(
    settings: Settings, meter_types: Mapping[str, MeterType], clock: Clock, facts: FactsBook
) -> LineBook:
    """The lines of this head-end, none open yet. Raises Problem for a key box that cannot be."""
    return LineBook(
        meter_types,
        clock=clock,
        on_facts=facts.keep,
        key_holder=key_holder_of(settings.key_box),
    )


def known_meter_types() -> Mapping[str, MeterType]:
    """Every meter type, built in or of a package. Raises Problem."""
    try:
        return load_meter_types()
    except CatalogError as error:
        raise Problem("meter-types", detail=error) from error


def terminals_part(
    stack: AsyncExitStack,
    settings: Settings,
    database: Database,
    clock: Clock,
    *,
    book: LineBook,
    orders: Orders,
    nights: NightService,
    units: UnitRegister,
) -> Terminals:
    """The service behind recharge terminals; without a key service they take no card."""
    ask = None
    if settings.key_service_socket:
        keys = KeyBoxClient(Path(settings.key_service_socket))
        stack.push_async_callback(keys.close)
        ask = keys.ask
    return terminals_of(
        database,
        book,
        orders,
        nights=nights,
        clock=clock,
        units=units,
        ask=ask,
        scope=settings.card_scope,
        area=settings.card_area.encode(),
    )


async def card_parts(
    stack: AsyncExitStack,
    settings: Settings,
    database: Database,
    clock: Clock,
    *,
    book: LineBook,
    orders: Orders,
    nights: NightService,
) -> tuple[CardCounter | None, Terminals]:
    """The card desk, where a key service is set, and the terminals. Units that clash stop the
    start either way."""
    units = units_of(settings)
    terminals = terminals_part(
        stack, settings, database, clock, book=book, orders=orders, nights=nights, units=units
    )
    counter = await card_counter_of(stack, settings, database, clock, orders, units=units)
    return counter, terminals


def units_of(settings: Settings) -> UnitRegister:
    """Every security unit, one program for each closed one. Raises Problem where two clash."""
    folders = [Path(name) for name in settings.unit_folders.split(":") if name]
    try:
        return find_units(folders, type_codes=load_meter_types(), uid_first=settings.unit_uid_first)
    except UnitError as error:
        raise Problem("units", detail=error) from error


async def card_counter_of(
    stack: AsyncExitStack,
    settings: Settings,
    database: Database,
    clock: Clock,
    orders: Orders,
    *,
    units: UnitRegister,
) -> CardCounter | None:
    """The card desk, where a key service is set."""
    if not settings.key_service_socket:
        return None
    area = settings.card_area.encode()
    if len(area) != LEVEL_BYTES:
        detail = f"card_area has {LEVEL_BYTES} letters"
        raise Problem("settings-unreadable", file="the settings", detail=detail)
    keys = KeyBoxClient(Path(settings.key_service_socket))
    stack.push_async_callback(keys.close)
    desk = CardDesk(clock, orders, units)
    counter = CardCounter(
        database,
        clock,
        desk,
        units,
        keys.ask,
        scope=settings.card_scope,
        area=area,
        clones_are_taken_back=settings.clones_are_taken_back,
    )
    stack.push_async_callback(counter.sessions.close)
    looking = asyncio.create_task(keep_card_landings(database, desk))
    stack.push_async_callback(cancelled, looking)
    return counter


def retention_of(settings: Settings) -> Retention:
    """How long what is no book is kept."""
    return Retention(
        events_days=settings.keep_events_days,
        letters_days=settings.keep_letters_days,
        sessions_days=settings.keep_sessions_days,
        doubtful_days=settings.keep_doubtful_days,
        line_events_days=settings.keep_line_events_days,
        report_files_days=settings.keep_report_files_days,
    )


def report_desk(
    settings: Settings, database: Database, clock: Clock, zone: ZoneInfo, mailer: Mailer | None
) -> ReportDesk:
    """What makes the files of reports."""
    folder = settings.reports_folder
    return ReportDesk(
        database,
        clock,
        folder=Path(folder).expanduser() if folder else settings.data_folder / "reports",
        zone=zone,
        say=said,
        mailer=mailer,
    )


def evidence_desk(settings: Settings, database: Database, clock: Clock) -> EvidenceDesk:
    """What signs evidence packs; its key is made with the first of them."""
    return EvidenceDesk(
        database,
        clock,
        key_file=settings.data_folder / KEY_FILE,
        version=version("headend"),
        say=said,
    )


def hosts_of(settings: Settings) -> list[str]:
    """The names a browser may call this head-end by."""
    hosts = ["127.0.0.1", "localhost", "[::1]", settings.http_host]
    if (public := urlsplit(settings.public_url).hostname) is not None:
        hosts.append(public)
    return hosts


def outgoing_roads(settings: Settings, clock: Clock, zone: ZoneInfo) -> Roads:
    """How letters, messages and events leave. Raises Problem."""
    place = smtp_place(
        settings.smtp_url,
        password_file=settings.smtp_password_file,
        ca_file=settings.smtp_ca_file,
        sender=settings.mail_from,
    )
    try:
        key = outgoing_key(settings.data_folder)
    except OSError as error:
        raise FolderUnusable(settings.data_folder, error.strerror or "it cannot be used") from error
    return Roads(
        key=key,
        say=said,
        hosts=frozenset(name for name in settings.webhook_hosts.split(":") if name),
        mailer=None if place is None else Mailer(place, clock),
        sms=sms_road(settings.sms),
        sms_language=settings.sms_language,
        sms_a_day_max=settings.sms_a_day_max,
        zone=zone,
    )


def backup_plan(settings: Settings) -> BackupPlan | None:
    """Where and when backups are made; None: they are not set up. Raises Problem."""
    if not settings.backup_folder and not settings.backup_passphrase_file:
        return None
    for name in ("backup_folder", "backup_passphrase_file"):
        if not getattr(settings, name):
            raise Problem("backup-not-set", setting=name)
    try:
        at = time.fromisoformat(settings.backup_at)
    except ValueError as error:
        detail = f"backup_at {settings.backup_at} is not a time like 03:30"
        raise Problem("settings-unreadable", file="the settings", detail=detail) from error
    return BackupPlan(
        data_folder=settings.data_folder,
        folder=Path(settings.backup_folder),
        passphrase_file=Path(settings.backup_passphrase_file),
        also=tuple(Path(name) for name in settings.backup_also.split(":") if name),
        at=at,
        keep_daily=settings.backup_keep_daily,
        keep_weekly=settings.backup_keep_weekly,
        age_max=timedelta(hours=settings.backup_age_h_max),
    )


def books_zone(settings: Settings) -> ZoneInfo:
    """The wall clock by which a day of the books ends. Raises Problem."""
    try:
        return ZoneInfo(settings.books_time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        detail = f"books_time_zone {settings.books_time_zone} is not a time zone"
        raise Problem("settings-unreadable", file="the settings", detail=detail) from error


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its last word."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
