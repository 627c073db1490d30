"""Backups: made every day, encrypted, whole or not there at all, and missed when they are not made.

What is in one: the database of one moment, and the files of the data folder that a head-end needs
to live again (secrets, readings that still wait) with whatever else the settings name. Not in it:
the running server's own files, sockets, logs, other backups.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Final

from headend.domain.alarms import AlarmKind
from headend.domain.backups import SUFFIX_PART, BookFacts, last_due, made_at_of, name_of, not_kept
from headend.domain.clock import Clock
from headend.domain.problems import Problem
from headend.services.backup_file import BackupWriter
from headend.store import alarms, backup_runs, dumps
from headend.store.backup_runs import Run
from headend.store.database import Database
from headend.store.errors import DatabaseAway, StoreError

log = logging.getLogger(__name__)

DATABASE_PART: Final = "database.dump"
DATA_PARTS: Final = "data/"
ALSO_PARTS: Final = "also/"
SERVER_FOLDER: Final = "postgres"
STAGING: Final = ("drill-", "restoring-")
PASSPHRASE_BYTES_MIN: Final = 12
PIECE_BYTES: Final = 1 << 18
LOOK_EVERY_S: Final = 60.0
# A backup that failed is tried again this much later.
RETRY_AFTER: Final = timedelta(hours=1)
# What the next one may be larger by than the last.
GROWTH: Final = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupPlan:
    """Where backups go, how they are locked, and when they are due."""

    data_folder: Path
    folder: Path
    passphrase_file: Path
    also: tuple[Path, ...] = ()
    at: time = time(3, 30)
    keep_daily: int = 14
    keep_weekly: int = 8
    age_max: timedelta = timedelta(hours=26)

    @property
    def server_folder(self) -> Path:
        """The embedded server's."""
        return self.data_folder / SERVER_FOLDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A finished backup."""

    file: Path
    bytes: int
    facts: BookFacts
    removed: tuple[str, ...]


def passphrase_of(file: Path) -> bytes:
    """The first line of a file that only its owner should be able to read. Raises Problem."""
    try:
        with file.open("rb") as source:
            passphrase = source.readline(4096).rstrip(b"\r\n")
    except OSError as error:
        raise Problem("settings-unreadable", file=file, detail=error.strerror) from error
    if len(passphrase) < PASSPHRASE_BYTES_MIN:
        raise Problem("backup-short-passphrase", file=file, count=PASSPHRASE_BYTES_MIN)
    if file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning("the passphrase of the backups, %s, can be read by others: chmod 600", file)
    return passphrase


async def back_up(database: Database, plan: BackupPlan, clock: Clock) -> Made:
    """Make one now and let go of those that are not kept. Raises Problem with nothing left."""
    began_at = clock.now()
    target = plan.folder / name_of(began_at)
    try:
        passphrase = await asyncio.to_thread(passphrase_of, plan.passphrase_file)
        await _room(database, plan)
        async with dumps.one_moment(database) as (snapshot, facts):
            size = await asyncio.to_thread(
                _write, target, passphrase, began_at, plan, database.conninfo, snapshot, facts
            )
    except (OSError, Problem) as error:
        problem = error if isinstance(error, Problem) else _failed(error)
        await _keep(database, clock, Run(
            kind="backup", file=target.name, began_at=began_at, ended_at=clock.now(), bytes=0,
            succeeded=False, detail=str(problem),
        ))  # fmt: skip
        raise problem from error
    removed = await asyncio.to_thread(_let_go, plan)
    detail = f"{facts.transfers} transfers, last seal {facts.last_seal or 'none'}"
    await _keep(database, clock, Run(
        kind="backup", file=target.name, began_at=began_at, ended_at=clock.now(), bytes=size,
        succeeded=True, detail=detail,
    ))  # fmt: skip
    log.info("backup %s: %d bytes, %s", target, size, detail)
    return Made(file=target, bytes=size, facts=facts, removed=removed)


async def keep_backups(
    database: Database, plan: BackupPlan | None, clock: Clock, zone: tzinfo
) -> None:
    """Make the daily one, and say when the last is too old; runs until cancelled."""
    if plan is None:
        await asyncio.Event().wait()
        return
    while True:
        try:
            await look(database, plan, clock, zone)
        except DatabaseAway:
            pass  # the database has said so itself
        except Problem as problem:
            log.error("%s", problem)
        await asyncio.sleep(LOOK_EVERY_S)


async def look(database: Database, plan: BackupPlan, clock: Clock, zone: tzinfo) -> Made | None:
    """One look: a backup if one is due, and the alarm of an old one. Raises Problem."""
    now = clock.now()
    async with database.transaction() as tx:
        good = await backup_runs.newest(tx, "backup")
        last = await backup_runs.newest(tx, "backup", succeeded=None)
        since = (
            good.began_at if good else await tx.value("SELECT min(applied_at) FROM schema_version")
        )
        if now - since > plan.age_max:
            detail = f"the last good backup is of {good.began_at:%Y-%m-%d %H:%M} UTC" if good else (
                "there is no backup")  # fmt: skip
            await alarms.raise_alarm(
                tx, AlarmKind.BACKUP_OLD, None, detail, now, seen_every=timedelta(hours=1)
            )
    waits = last is not None and not last.succeeded and now - last.began_at < RETRY_AFTER
    if waits or (good is not None and good.began_at >= last_due(now, plan.at, zone)):
        return None
    return await back_up(database, plan, clock)


async def _keep(database: Database, clock: Clock, run: Run) -> None:
    try:
        async with database.transaction() as tx:
            await backup_runs.add(tx, run)
            if run.succeeded:
                await alarms.clear_alarm(tx, AlarmKind.BACKUP_OLD, None, clock.now())
    except StoreError as error:
        log.warning("how the backup went is not kept: %s", error)


async def _room(database: Database, plan: BackupPlan) -> None:
    """Better no backup and a sentence than a full disk. Raises Problem, OSError."""
    async with database.transaction() as tx:
        last = await backup_runs.newest(tx, "backup")
    expected = last.bytes if last else await dumps.database_bytes(database)
    need = int(expected * GROWTH) + (16 << 20)

    def free() -> int:
        plan.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return shutil.disk_usage(plan.folder).free

    has = await asyncio.to_thread(free)
    if has < need:
        raise Problem("backup-no-space", folder=plan.folder, free_mb=has >> 20, need_mb=need >> 20)


def _write(
    target: Path,
    passphrase: bytes,
    made_at: datetime,
    plan: BackupPlan,
    *moment: object,
) -> int:
    """The file, whole or not at all; returns its bytes."""
    conninfo, snapshot, facts = moment
    assert isinstance(conninfo, str)
    assert isinstance(snapshot, str)
    assert isinstance(facts, BookFacts)
    part = target.with_name(target.name + SUFFIX_PART)
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            writer = BackupWriter(file, passphrase, made_at)
            writer.part(DATABASE_PART, dumps.dump(conninfo, snapshot, plan.server_folder))
            for name, path in files_of(plan):
                writer.part(name, _pieces(path), mode=stat.S_IMODE(path.stat().st_mode))
            writer.end(dataclasses.asdict(facts))
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return target.stat().st_size


def files_of(plan: BackupPlan) -> Iterator[tuple[str, Path]]:
    """(name of the part, file) of everything beside the database that a head-end lives by."""
    skipped = {plan.server_folder.resolve(), plan.folder.resolve()}
    yield from _regular(plan.data_folder, DATA_PARTS, skipped)
    for number, path in enumerate(plan.also, 1):
        if path.is_file():
            yield f"{ALSO_PARTS}{number}/{path.name}", path
        else:
            yield from _regular(path, f"{ALSO_PARTS}{number}/", skipped)


def _regular(folder: Path, prefix: str, skipped: set[Path]) -> Iterator[tuple[str, Path]]:
    """Regular files below a folder. No links, no sockets: they lead out or mean nothing later."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.resolve() in skipped or path.name.startswith((*STAGING, SERVER_FOLDER)):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            yield from _regular(path, f"{prefix}{path.name}/", skipped)
        elif stat.S_ISREG(mode):
            yield prefix + path.name, path


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except FileNotFoundError:
        return  # the readings in it were stored meanwhile


def _let_go(plan: BackupPlan) -> tuple[str, ...]:
    """Delete what is not kept, and what a killed backup left behind."""
    there = {made: path for path in plan.folder.iterdir() if (made := made_at_of(path.name))}
    going = [
        there[made]
        for made in sorted(not_kept(there, daily=plan.keep_daily, weekly=plan.keep_weekly))
    ]
    for path in plan.folder.glob(f"headend-*.backup{SUFFIX_PART}"):
        path.unlink(missing_ok=True)
    for path in going:
        path.unlink(missing_ok=True)
    return tuple(path.name for path in going)


def _failed(error: OSError) -> Problem:
    return Problem("backup-failed", detail=f"{error.filename or ''} {error.strerror}".strip())


@asynccontextmanager
async def staging(folder: Path, kind: str) -> AsyncIterator[Path]:
    """A folder of our own beside the data, removed at the end whatever happens."""
    path = folder / f"{kind}{os.urandom(4).hex()}"
    await asyncio.to_thread(path.mkdir, parents=True, mode=0o711)
    await asyncio.to_thread(path.chmod, 0o711)  # the database's user passes through
    try:
        yield path
    finally:
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
