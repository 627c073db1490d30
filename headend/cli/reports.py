"""What `headend report` does: a report from the database into a file, running or not."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from headend.app import open_database
from headend.cli.console import err, out, say
from headend.domain.clock import SystemClock
from headend.domain.problems import Problem, language_of_terminal
from headend.domain.reports import GROUPINGS, BadReport, Grouping, Report, ReportKind
from headend.services.report_files import FORMATS, Reader, write_file
from headend.settings import Settings
from headend.store import places, reports
from headend.store.database import Database
from headend.web.words import said

DAYS = 31


def report(
    settings: Settings,
    kind: ReportKind,
    file: Path,
    *,
    by: Grouping | None,
    first: str | None,
    last: str | None,
    site: str | None,
) -> None:
    """`headend report KIND FILE`"""
    ending = file.suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        raise Problem("bad-request", detail=f"{file.name} ends neither in .csv nor in .xlsx")
    zone = ZoneInfo(settings.books_time_zone)
    until = _day(last) or SystemClock().now().astimezone(zone).date()
    since = _day(first) or until - timedelta(days=DAYS - 1)

    async def work() -> int:
        async with open_database(settings) as opened:
            asked = await _question(opened.database, kind, by, (since, until), site)
            reader = Reader(language=language_of_terminal(), zone=zone, say=said)
            async with opened.database.transaction() as tx:
                rows = reports.rows(tx, asked)
                told = err.status("") if err.is_terminal else None
                if told is not None:
                    told.start()

                def tell(count: int) -> None:
                    if told is not None:
                        told.update(say(f"{count} 行", f"{count} rows"))

                try:
                    made = await write_file(file, ending, asked, rows, reader=reader, told=tell)
                finally:
                    if told is not None:
                        told.stop()
            return made.rows

    try:
        rows = asyncio.run(work())
    except OSError as error:
        detail = error.strerror or type(error).__name__
        raise Problem("settings-unreadable", file=file, detail=detail) from error
    out.print(say(f"已写入 {rows} 行：{file}。", f"Wrote {rows} rows to {file}."))


async def _question(
    database: Database,
    kind: ReportKind,
    by: Grouping | None,
    days: tuple[date, date],
    site: str | None,
) -> Report:
    """Whoever may open the database sees all of it. Raises Problem."""
    site_id = None
    if site is not None:
        async with database.transaction() as tx:
            site_id = await places.site_id(tx, site)
        if site_id is None:
            raise Problem("no-such-site", site=site)
    usual = GROUPINGS.get(kind)
    try:
        return Report(
            kind=kind,
            grouping=(by or usual[0]) if usual else by,
            first=days[0],
            last=days[1],
            sites=None,
            site_id=site_id,
        )
    except BadReport as error:
        raise Problem("bad-report", detail=error) from error


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Problem("bad-request", detail=f"{text} is no day like 2026-03-20") from None
