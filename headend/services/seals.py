"""The books are chained every minute, sealed every day, and verified by whoever wants to.

Verification needs no running head-end: a database or an export is enough. docs/ledger-seal.md has
the algorithm and a program of a few lines for those who trust neither.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import date, datetime, timedelta, tzinfo
from typing import Any, Final, TextIO

from headend.domain.clock import Clock
from headend.domain.problems import Problem
from headend.domain.seals import (
    BEGINNING,
    Anchor,
    BookedRow,
    DaySeal,
    Verifier,
    VerifyReport,
    next_link,
    seal_digest,
    seal_entry,
)
from headend.store import ledger, seals
from headend.store.database import Database, Transaction
from headend.store.errors import DatabaseAway

log = logging.getLogger(__name__)

# Between two looks for new rows: what was booked is tamper-evident after at most this.
CHAIN_EVERY_S = 60.0
# The first line of an export. Another format is another number.
EXPORT_FORMAT: Final = {"export": "headend-books", "format": 1}
# The last one, so that a file that was cut short is not taken for the whole.
EXPORT_END: Final = {"export": "end"}


async def chain(database: Database) -> int:
    """Chain whatever was booked since the last time; returns how many rows that were."""
    chained = 0
    while True:
        async with database.transaction() as tx:
            await ledger.under_grants(tx)
            count = await _chain_some(tx, look_back=seals.LOOK_BACK)
        chained += count
        if count < seals.ROWS_MAX:
            return chained


async def seal_day(database: Database, day: date, clock: Clock) -> DaySeal:
    """Close a day: everything booked until now gets its chain value, and the day its seal.

    A day that is sealed already stays as it is, and so does every day before it: what is booked
    later belongs to the next seal. The same day twice is one seal.
    """
    await chain(database)
    while True:
        async with database.transaction() as tx:
            await ledger.under_grants(tx)
            await seals.lock(tx)
            last = await seals.last_seal(tx)
            if last is not None and last.day >= day:
                return last
            if await _chain_some(tx, look_back=None) == seals.ROWS_MAX:
                continue
            return await _seal(tx, day, last, clock.now())


async def _chain_some(tx: Transaction, look_back: int | None) -> int:
    await seals.lock(tx)
    rows = await seals.unsealed(tx, look_back=look_back)
    if not rows:
        return 0
    position, link = await seals.last_link(tx)
    links = []
    for row in rows:
        assert row.entry is not None, "read from its own table"
        position += 1
        link = next_link(link, row.source, row.entry)
        links.append((position, row.source, row.entry_no, link))
    await seals.append(tx, links)
    return len(rows)


async def _seal(tx: Transaction, day: date, last: DaySeal | None, at: datetime) -> DaySeal:
    position, link = await seals.last_link(tx)
    transfers, events = await seals.count_after(tx, last.last_position if last else 0)
    facts: dict[str, Any] = {
        "day": day,
        "last_position": position,
        "transfers": transfers,
        "events": events,
        "chain_sha256": link,
        "previous_sha256": last.seal_sha256 if last else BEGINNING,
        "sealed_at": at,
    }
    digest = seal_digest(DaySeal(**facts, seal_sha256=BEGINNING))
    seal = DaySeal(**facts, seal_sha256=digest)
    await seals.add_seal(tx, seal)
    # The log goes to other disks and machines: there nobody can change it together with the books.
    log.info("day %s sealed: %d transfers, %d events, %s", day, transfers, events, digest.hex())
    return seal


async def keep_seals(database: Database, clock: Clock, zone: tzinfo) -> None:
    """Chain every minute and seal each day once it is over in `zone`; runs until cancelled.

    A day that ended while nothing ran is sealed at the next start.
    """
    while True:
        try:
            await chain(database)
            yesterday = clock.now().astimezone(zone).date() - timedelta(days=1)
            async with database.transaction() as tx:
                last = await seals.last_seal(tx)
            if last is None or last.day < yesterday:
                await seal_day(database, yesterday, clock)
        except DatabaseAway:
            pass  # the database has said so itself
        await asyncio.sleep(CHAIN_EVERY_S)


async def verify_database(database: Database, anchor: Anchor | None = None) -> VerifyReport:
    """Verify the books where they lie, all of one moment."""
    verifier = Verifier(anchor)
    async with database.transaction() as tx:
        async for row in seals.everything(tx):
            if not verifier.add(row):
                break
    return verifier.report()


async def export(database: Database, file: TextIO) -> int:
    """Write the whole books as JSON lines, for somebody else to verify; returns their rows."""
    rows = 0
    _write(file, EXPORT_FORMAT)
    async with database.transaction() as tx:
        async for row in seals.everything(tx):
            _write(file, _as_line(row))
            rows += 1
    _write(file, EXPORT_END)
    return rows


def verify_export(file: TextIO, anchor: Anchor | None = None) -> VerifyReport:
    """Verify an export, without any database. Raises Problem when it is not one."""
    verifier = Verifier(anchor)
    for row in _read(file):
        if not verifier.add(row):
            break
    return verifier.report()


def chain_values(file: TextIO) -> dict[int, str]:
    """The chain of an export by position, once the whole of it is found sound.

    Raises Problem when it is none, or not sound.
    """
    verifier, values = Verifier(), {}
    for row in _read(file):
        verifier.add(row)
        if isinstance(row, BookedRow) and row.position is not None and row.chain_sha256 is not None:
            values[row.position] = row.chain_sha256.hex()
    report = verifier.report()
    if report.fault is not None:
        raise Problem("books-broken", detail=report.fault)
    return values


def parse_anchor(text: str) -> Anchor:
    """ "2026-03-20:<64 hex digits>", as a verification prints it. Raises Problem."""
    day, _, digest = text.partition(":")
    try:
        kept = Anchor(date.fromisoformat(day), bytes.fromhex(digest))
    except ValueError:
        kept = None
    if kept is None or len(kept.seal_sha256) != len(BEGINNING):
        raise Problem("bad-request", detail=f"{text} is not a seal like 2026-03-20:0f3a…")
    return kept


def _write(file: TextIO, line: object) -> None:
    file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def _as_line(row: BookedRow | DaySeal) -> dict[str, object]:
    if isinstance(row, DaySeal):
        return {
            "table": "day_seal",
            "entry": seal_entry(row),
            "seal_sha256": row.seal_sha256.hex(),
        }
    return {
        "table": row.source,
        "entry_no": row.entry_no,
        "position": row.position,
        "entry": row.entry,
        "chain_sha256": None if row.chain_sha256 is None else row.chain_sha256.hex(),
    }


def _read(file: TextIO) -> Iterator[BookedRow | DaySeal]:
    number, line = 0, None
    for number, text in enumerate(file, 1):
        try:
            line = json.loads(text)
            if (line == EXPORT_FORMAT) != (number == 1):
                raise ValueError("an export begins with its format, and only there")
            if number > 1 and line != EXPORT_END:
                yield _from_line(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Problem(
                "bad-request", detail=f"line {number} is not of an export of the books: {error}"
            ) from error
    if line != EXPORT_END:
        raise Problem(
            "bad-request", detail=f"the export ends in line {number}, without its last line"
        )


def _from_line(line: dict[str, Any]) -> BookedRow | DaySeal:
    entry = line["entry"]
    if line["table"] == "day_seal":
        seal = DaySeal(
            day=date.fromisoformat(entry["day"]),
            last_position=entry["last_position"],
            transfers=entry["transfers"],
            events=entry["events"],
            chain_sha256=bytes.fromhex(entry["chain_sha256"]),
            previous_sha256=bytes.fromhex(entry["previous_sha256"]),
            sealed_at=datetime.fromisoformat(entry["sealed_at"]),
            seal_sha256=bytes.fromhex(line["seal_sha256"]),
        )
        if seal_entry(seal) != entry:
            raise ValueError("a seal has other fields than it should")
        return seal
    link = line["chain_sha256"]
    return BookedRow(
        source=line["table"],
        entry_no=line["entry_no"],
        entry=entry,
        position=line["position"],
        chain_sha256=None if link is None else bytes.fromhex(link),
    )
