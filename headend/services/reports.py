"""Reports made into files: asked for at the desk, or by schedule into a folder or by mail.

A run is entered in the database first and made afterwards, so that a restart makes what was asked
for; an instant of a schedule is entered once, however often a tick looks. A file is whole or not
there. Whoever owns the schedule lends it their eyes as they are when it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Sequence
from datetime import date, tzinfo
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID, uuid5

from headend.domain.clock import Clock
from headend.domain.problems import Problem
from headend.domain.reports import TITLES, BadReport, Report, due_instants, period_of
from headend.domain.roles import Operator
from headend.services.report_files import (
    MEDIA_TYPES,
    Reader,
    Say,
    TooManyRows,
    Totals,
    digest_of,
    write_file,
)
from headend.store import people, report_schedules, reports
from headend.store.database import Database
from headend.store.errors import DatabaseAway
from headend.store.report_schedules import Run, Schedule

log = logging.getLogger(__name__)

# Between two looks for what is due or was asked for.
LOOK_S: Final = 15.0
TELL_S: Final = 0.5  # between two rows written about progress
_RUNS: Final = UUID("2f5e0a5c-6f0e-5d0f-8a53-7d6c2b1e9a44")
# A folder below the folder of reports: words, no dots that lead elsewhere.
FOLDER: Final = re.compile(r"[\w-][\w -]{0,58}[\w-]|[\w-]", re.UNICODE)
_NOT_IN_NAMES: Final = re.compile(r"[^\w-]+", re.UNICODE)


class Mailer(Protocol):
    """Who sends letters. One letter, one file; raises Problem when it did not leave."""

    async def send_file(
        self, to: Sequence[str], subject: str, text: str, *, name: str, media_type: str, data: bytes
    ) -> None:
        """Send it now."""


class ReportDesk:
    """Makes files of reports. `folder` holds all of them; `mailer` None: nothing is mailed."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        folder: Path,
        zone: tzinfo,
        say: Say,
        mailer: Mailer | None = None,
    ) -> None:
        self.folder = folder
        self.zone = zone
        self.mailer = mailer
        self._database = database
        self._clock = clock
        self._say = say
        self._asked = asyncio.Event()

    def reader(self, language: str) -> Reader:
        """Who a file in this language is for."""
        return Reader(language=language, zone=self.zone, say=self._say)

    def today(self) -> date:
        """The day on the wall clock of the books."""
        return self._clock.now().astimezone(self.zone).date()

    async def write(self, report: Report, kind: str, language: str, path: Path) -> Totals:
        """A report at `path`, now."""
        async with self._database.transaction() as tx:
            rows = reports.rows(tx, report)
            reader = self.reader(language)
            return await write_file(path, kind, report, rows, reader=reader, told=lambda _: None)

    def ask(self) -> None:
        """Something was entered: it is made at once and not at the next look."""
        self._asked.set()

    async def keep(self) -> None:
        """Make what is asked for and what is due; runs until cancelled."""
        while True:
            with contextlib.suppress(DatabaseAway):  # the database has said so itself
                await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._asked.wait()
            self._asked.clear()

    async def look(self) -> int:
        """Enter what is due and make whatever waits; returns how many files were made."""
        made = 0
        # The lock is held by a transaction of its own: a maker that dies lets go of it.
        async with self._database.transaction() as held:
            if not await report_schedules.one_maker(held):
                return 0
            await self._enter_due()
            while True:
                async with self._database.transaction() as tx:
                    run = await report_schedules.next_run(tx)
                if run is None:
                    return made
                await self._make(run)
                made += 1

    async def _enter_due(self) -> None:
        now = self._clock.now()
        async with self._database.transaction() as tx:
            for schedule in await report_schedules.all_schedules(tx):
                since = await report_schedules.last_due(tx, schedule.schedule_id)
                for due in due_instants(
                    schedule.cadence,
                    schedule.at_time,
                    self.zone,
                    since or schedule.created_at,
                    now,
                ):
                    first, last = period_of(schedule.cadence, due.astimezone(self.zone).date())
                    await report_schedules.add_run(
                        tx,
                        run_id=uuid5(_RUNS, f"{schedule.schedule_id} {due.isoformat()}"),
                        asked_by=schedule.owner_id,
                        kind=schedule.kind,
                        grouping=schedule.grouping,
                        site_id=schedule.site_id,
                        first=first,
                        last=last,
                        format=schedule.format,
                        language=schedule.language,
                        at=now,
                        schedule_id=schedule.schedule_id,
                        due_at=due,
                    )

    async def _make(self, run: Run) -> None:
        rows, file, sha256, note = 0, None, None, ""
        try:
            report, schedule = await self._question(run)
            path = self.folder / self._name(run, report, schedule)
            rows = (await self._written(run, report, path)).rows
            sha256 = await asyncio.to_thread(digest_of, path)
            file = str(path.relative_to(self.folder))
            if schedule is not None and schedule.mail_to:
                note = await self._mailed(schedule, report, path)
        except (BadReport, TooManyRows) as error:
            note = str(error)
        except Problem as problem:
            note = problem.text(run.language)
        except OSError as error:
            note = f"{error.strerror or type(error).__name__}: {error.filename or self.folder}"
        except DatabaseAway:
            raise  # it is made when the database is back
        except Exception as error:
            # One report that cannot be made does not keep the others waiting for ever.
            log.exception("report %s of %s met a fault", run.kind.value, run.operator)
            note = type(error).__name__
        async with self._database.transaction() as tx:
            await report_schedules.end_run(
                tx,
                run.run_id,
                at=self._clock.now(),
                rows=rows,
                file=file,
                sha256=sha256,
                note=note,
            )
        if file is None:
            log.warning("report %s of %s was not made: %s", run.kind.value, run.operator, note)

    async def _question(self, run: Run) -> tuple[Report, Schedule | None]:
        """What the run asks with the eyes its operator has today. Raises Problem, BadReport."""
        async with self._database.transaction() as tx:
            owner = await people.operator(tx, run.asked_by)
            schedules = await report_schedules.all_schedules(tx)
        if owner is None or owner.disabled_at is not None:
            raise Problem("report-owner-gone", operator=run.operator)
        schedule = next((one for one in schedules if one.schedule_id == run.schedule_id), None)
        return (
            Report(
                kind=run.kind,
                grouping=run.grouping,
                first=run.first,
                last=run.last,
                sites=eyes_of(owner),
                site_id=run.site_id,
            ),
            schedule,
        )

    def _name(self, run: Run, report: Report, schedule: Schedule | None) -> Path:
        name = f"{report.name}.{run.format}"
        if schedule is None:
            # Two people may ask for the same: each has a file of their own.
            return Path("asked") / f"{run.run_id}-{name}"
        within = _NOT_IN_NAMES.sub("-", schedule.name).strip("-") or str(schedule.schedule_id)
        return Path(schedule.folder or ".") / f"{within}-{name}"

    async def _written(self, run: Run, report: Report, path: Path) -> Totals:
        written = 0

        def told(rows: int) -> None:
            nonlocal written
            written = rows

        async def tell() -> None:
            while True:
                await asyncio.sleep(TELL_S)
                async with self._database.transaction() as tx:
                    await report_schedules.progress(tx, run.run_id, written)

        teller = asyncio.create_task(tell(), name="tells how far a report is")
        try:
            async with self._database.transaction() as tx:
                rows = reports.rows(tx, report)
                reader = self.reader(run.language)
                return await write_file(path, run.format, report, rows, reader=reader, told=told)
        finally:
            teller.cancel()
            await asyncio.gather(teller, return_exceptions=True)

    async def _mailed(self, schedule: Schedule, report: Report, path: Path) -> str:
        """Send it; what is wrong with the post becomes a note, since the file itself is there."""
        if self.mailer is None:
            return Problem("no-mail").text(schedule.language)
        title = TITLES[report.kind][1 if schedule.language == "zh" else 0]
        data = await asyncio.to_thread(path.read_bytes)
        try:
            await self.mailer.send_file(
                schedule.mail_to,
                f"{title} {report.first} – {report.last}",
                f"{schedule.name}\n{title} {report.first} – {report.last}\n{path.name}\n",
                name=path.name,
                media_type=MEDIA_TYPES[schedule.format].partition(";")[0],
                data=data,
            )
        except Problem as problem:
            return problem.text(schedule.language)
        return ""


async def keep_reports(desk: ReportDesk | None) -> None:
    """Make what is asked for and what is due; without a desk wait. Runs until cancelled."""
    if desk is None:
        await asyncio.Event().wait()
    else:
        await desk.keep()


def eyes_of(operator: Operator) -> tuple[int, ...] | None:
    """The properties an operator may see, for a report; None: all."""
    return None if operator.sites is None else tuple(sorted(operator.sites))
