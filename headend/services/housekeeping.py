"""The small things that have to happen by themselves: partitions ahead, falls and rises kept, and
what is no book let go when it is old."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeAlias

from headend.domain.clock import Clock
from headend.services.lines import LineBook
from headend.store import line_events, retention
from headend.store.database import Database, Transaction
from headend.store.errors import DatabaseAway
from headend.store.readings import make_partitions

log = logging.getLogger(__name__)

# A line that falls and rises within this is not worth a row.
LOOK_S = 1.0
# Partitions are made two months ahead: any time of the day will do.
PARTITIONS_EVERY_S = 6 * 3600
# What is old is old for months: no hurry, and never in the first minutes after a start.
TIDY_AFTER_S = 600
TIDY_EVERY_S = 6 * 3600
# Between two batches, so that whoever serves people has the disk to himself most of the time.
BETWEEN_BATCHES_S = 0.2
DAYS_MAX = 36_500  # more is for ever, and no instant

#: One batch that went: as many entries as rows, with the file of each that has one.
Batch: TypeAlias = Callable[[Transaction, datetime], Awaitable[Sequence[str | None]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many days what is no book is kept; 0: for ever. The books have no such number."""

    events_days: int
    letters_days: int
    sessions_days: int
    doubtful_days: int
    line_events_days: int
    report_files_days: int

    def days_of(self, kind: str) -> int:
        """Those of a kind of rows of store/retention.py."""
        return {
            "letters": self.letters_days,
            "sessions": self.sessions_days,
            "sign-in tries": self.sessions_days,
            "doubtful readings": self.doubtful_days,
            "line events": self.line_events_days,
            "clock checks": self.line_events_days,
        }[kind]


async def keep_line_events(database: Database, lines: LineBook, clock: Clock) -> None:
    """Store each fall and each rise of each line; runs until cancelled.

    With the database away the state at its return is stored, not each swing in between.
    """
    stored: dict[int, bool] = {}
    while True:
        await asyncio.sleep(LOOK_S)
        turned = [
            at_work
            for at_work in lines.lines.values()
            if stored.get(at_work.known.line_id) != at_work.line.is_up
        ]
        if not turned:
            continue
        try:
            async with database.transaction() as tx:
                for at_work in turned:
                    await line_events.record_event(
                        tx,
                        at_work.known.line_id,
                        clock.now(),
                        is_up=at_work.line.is_up,
                        reason=at_work.line.down_reason or "",
                    )
        except DatabaseAway:
            continue  # the database has said so itself
        stored |= {at_work.known.line_id: at_work.line.is_up for at_work in turned}


async def keep_partitions(database: Database, clock: Clock) -> None:
    """Make the months to come; runs until cancelled."""
    while True:
        try:
            async with database.transaction() as tx:
                made = await make_partitions(tx, clock.now())
        except DatabaseAway:
            made = 0
        if made:
            log.info("made %d monthly partitions ahead", made)
        await asyncio.sleep(PARTITIONS_EVERY_S)


async def keep_tidy(
    database: Database, clock: Clock, rules: Retention, reports_folder: Path | None
) -> None:
    """Let go of what is old and no book, again and again; runs until cancelled."""
    await asyncio.sleep(TIDY_AFTER_S)
    while True:
        try:
            gone = await tidy(database, clock, rules, reports_folder)
        except DatabaseAway:
            gone = {}  # the database has said so itself
        if gone:
            log.info("let go of %s", ", ".join(f"{n} {kind}" for kind, n in gone.items()))
        await asyncio.sleep(TIDY_EVERY_S)


async def tidy(
    database: Database, clock: Clock, rules: Retention, reports_folder: Path | None
) -> dict[str, int]:
    """Everything that is older than its days, batch by batch; how many of each kind went."""
    now, gone = clock.now(), dict[str, int]()
    for kind, days, batch in _batches(rules):
        before = now - timedelta(days=min(days, DAYS_MAX))
        while days:
            async with database.transaction() as tx:
                went = await batch(tx, before)
            if went:
                gone[kind] = gone.get(kind, 0) + len(went)
            if reports_folder is not None:
                _unlink(reports_folder, went)  # what is committed is not taken back
            if len(went) < retention.BATCH:
                break
            await asyncio.sleep(BETWEEN_BATCHES_S)
    return gone


def _batches(rules: Retention) -> Iterator[tuple[str, int, Batch]]:
    for kind in retention.KINDS:
        yield kind, rules.days_of(kind), partial(retention.delete_old, kind=kind)
    yield "events", rules.events_days, retention.delete_events
    yield "report files", rules.report_files_days, retention.delete_report_runs


def _unlink(folder: Path, files: Sequence[str | None]) -> None:
    """The files themselves; one that somebody has moved away is nobody's loss."""
    whole = folder.resolve()
    for file in files:
        path = (folder / (file or ".")).resolve()
        if file is not None and path.is_relative_to(whole):
            path.unlink(missing_ok=True)
