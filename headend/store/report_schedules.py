"""What is reported by itself, and each time a report was made into a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Final, LiteralString
from uuid import UUID

from headend.domain.reports import Cadence, Grouping, ReportKind
from headend.store.database import Row, Transaction

# One maker of files at a time, over all processes.
_MAKER_LOCK: Final = 0x6D65746572_7270


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A report that is made by itself. Times are on the wall clock of the books."""

    schedule_id: int
    name: str
    kind: ReportKind
    grouping: Grouping | None
    site_id: int | None
    format: str
    language: str
    cadence: Cadence
    at_time: time
    folder: str
    mail_to: Sequence[str]
    owner_id: int
    owner: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSchedule:
    """What somebody wants to have reported."""

    name: str
    kind: ReportKind
    grouping: Grouping | None
    site_id: int | None
    format: str
    language: str
    cadence: Cadence
    at_time: time
    folder: str
    mail_to: Sequence[str]
    owner_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One time a report was, or will be, made into a file."""

    run_id: UUID
    schedule_id: int | None
    schedule: str | None
    due_at: datetime | None
    asked_by: int
    operator: str
    kind: ReportKind
    grouping: Grouping | None
    site_id: int | None
    first: date
    last: date
    format: str
    language: str
    state: str  # waiting, running, done, failed
    rows: int
    file: str | None
    note: str
    asked_at: datetime
    ended_at: datetime | None


async def add_schedule(tx: Transaction, new: NewSchedule, at: datetime) -> int | None:
    """Its number; None when a live one has that name."""
    number: int | None = await tx.value(
        """
        INSERT INTO report_schedule (name, kind, grouping, site_id, format, language, cadence,
            at_time, folder, mail_to, owner_id, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (name) WHERE ended_at IS NULL DO NOTHING RETURNING schedule_id""",
        new.name,
        new.kind.value,
        None if new.grouping is None else new.grouping.value,
        new.site_id,
        new.format,
        new.language,
        new.cadence.value,
        new.at_time,
        new.folder,
        list(new.mail_to),
        new.owner_id,
        at,
    )
    return number


async def end_schedule(
    tx: Transaction, schedule_id: int, sites: Sequence[int] | None, *, by: int, at: datetime
) -> bool:
    """It is made no more; False when there is none in that scope, or it has ended."""
    touched = await tx.execute(
        f"""
        UPDATE report_schedule SET ended_at = %(at)s, ended_by = %(by)s
        WHERE schedule_id = %(schedule_id)s AND ended_at IS NULL AND {_SEEN}""",
        named={"at": at, "by": by, "schedule_id": schedule_id, "sites": sites, "operator": by},
    )
    return touched == 1


# One's own, and those about a property one may see.
_SEEN: Final[LiteralString] = """
    (%(sites)s::integer[] IS NULL OR owner_id = %(operator)s
        OR site_id = ANY(%(sites)s))"""
_SCHEDULE: Final[LiteralString] = """
    SELECT schedule_id, report_schedule.name, kind, grouping, site_id, format, language, cadence,
        at_time, folder, mail_to, owner_id, operator.name, report_schedule.created_at
    FROM report_schedule JOIN operator ON operator_id = owner_id
    WHERE ended_at IS NULL"""


async def schedules(
    tx: Transaction, sites: Sequence[int] | None, operator_id: int
) -> list[Schedule]:
    """Those somebody may see, by name."""
    rows = await tx.rows(
        f"{_SCHEDULE} AND {_SEEN} ORDER BY report_schedule.name",
        named={"sites": sites, "operator": operator_id},
    )
    return [_schedule(row) for row in rows]


async def all_schedules(tx: Transaction) -> list[Schedule]:
    """Every live one, for whoever makes them."""
    return [_schedule(row) for row in await tx.rows(_SCHEDULE)]


def _schedule(row: Row) -> Schedule:
    return Schedule(
        schedule_id=row[0],
        name=row[1],
        kind=ReportKind(row[2]),
        grouping=None if row[3] is None else Grouping(row[3]),
        site_id=row[4],
        format=row[5],
        language=row[6],
        cadence=Cadence(row[7]),
        at_time=row[8],
        folder=row[9],
        mail_to=row[10],
        owner_id=row[11],
        owner=row[12],
        created_at=row[13],
    )


async def last_due(tx: Transaction, schedule_id: int) -> datetime | None:
    """The newest instant a run was entered for; None: none yet."""
    found: datetime | None = await tx.value(
        "SELECT max(due_at) FROM report_run WHERE schedule_id = %s", schedule_id
    )
    return found


async def add_run(
    tx: Transaction,
    *,
    run_id: UUID,
    asked_by: int,
    kind: ReportKind,
    grouping: Grouping | None,
    site_id: int | None,
    first: date,
    last: date,
    format: str,  # noqa: A002  # the word people use
    language: str,
    at: datetime,
    schedule_id: int | None = None,
    due_at: datetime | None = None,
) -> bool:
    """Enter a file to make; False when it is entered already."""
    touched = await tx.execute(
        """
        INSERT INTO report_run (run_id, schedule_id, due_at, asked_by, kind, grouping, site_id,
            first_day, last_day, format, language, asked_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
        run_id,
        schedule_id,
        due_at,
        asked_by,
        kind.value,
        None if grouping is None else grouping.value,
        site_id,
        first,
        last,
        format,
        language,
        at,
    )
    return touched == 1


_RUN: Final[LiteralString] = """
    SELECT run_id, schedule_id, report_schedule.name, due_at, asked_by, operator.name,
        report_run.kind, report_run.grouping, report_run.site_id, first_day, last_day,
        report_run.format, report_run.language, state, rows, file, note, asked_at,
        report_run.ended_at
    FROM report_run JOIN operator ON operator_id = asked_by
    LEFT JOIN report_schedule USING (schedule_id)"""


async def one_maker(tx: Transaction) -> bool:
    """Be the only one who makes files until this transaction ends; False: somebody else is."""
    found: bool = await tx.value("SELECT pg_try_advisory_xact_lock(%s)", _MAKER_LOCK)
    return found


async def next_run(tx: Transaction) -> Run | None:
    """The oldest file that waits, or that somebody began and never ended, now running."""
    run_id = await tx.value(
        """
        UPDATE report_run SET state = 'running', rows = 0, note = '' WHERE run_id = (
            SELECT run_id FROM report_run WHERE state IN ('waiting', 'running')
            ORDER BY asked_at, run_id LIMIT 1)
        RETURNING run_id"""
    )
    return None if run_id is None else await run(tx, run_id)


async def run(tx: Transaction, run_id: UUID) -> Run | None:
    """One of them."""
    row = await tx.row(_RUN + " WHERE run_id = %s", run_id)
    return _run(row) if row else None


async def runs(
    tx: Transaction,
    operator_id: int,
    *,
    see_all: bool,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[Run]:
    """Those somebody asked for, by hand or by schedule; `see_all`: everybody's. Newest first.

    `before`: past that one.
    """
    rows = await tx.rows(
        _RUN
        + """
        WHERE (%(all)s OR asked_by = %(operator)s)
            AND (%(at)s::timestamptz IS NULL OR (asked_at, run_id) < (%(at)s, %(id)s::uuid))
        ORDER BY asked_at DESC, run_id DESC LIMIT %(limit)s""",
        named={
            "all": see_all,
            "operator": operator_id,
            "at": None if before is None else before[0],
            "id": None if before is None else before[1],
            "limit": limit,
        },
    )
    return [_run(row) for row in rows]


async def progress(tx: Transaction, run_id: UUID, rows: int) -> None:
    """How many rows it has so far."""
    await tx.execute("UPDATE report_run SET rows = %s WHERE run_id = %s", rows, run_id)


async def end_run(
    tx: Transaction,
    run_id: UUID,
    *,
    at: datetime,
    rows: int = 0,
    file: str | None = None,
    sha256: bytes | None = None,
    note: str = "",
) -> None:
    """It is there; without a file it failed, for the reason in the note."""
    await tx.execute(
        """
        UPDATE report_run SET state = %s, rows = %s, file = %s, sha256 = %s, note = %s,
            ended_at = %s WHERE run_id = %s""",
        "failed" if file is None else "done",
        rows,
        file,
        sha256,
        note,
        at,
        run_id,
    )


def _run(row: Row) -> Run:
    return Run(
        run_id=row[0],
        schedule_id=row[1],
        schedule=row[2],
        due_at=row[3],
        asked_by=row[4],
        operator=row[5],
        kind=ReportKind(row[6]),
        grouping=None if row[7] is None else Grouping(row[7]),
        site_id=row[8],
        first=row[9],
        last=row[10],
        format=row[11],
        language=row[12],
        state=row[13],
        rows=row[14],
        file=row[15],
        note=row[16],
        asked_at=row[17],
        ended_at=row[18],
    )
