"""Restoring: rehearsed beside the live one, or for real into an empty place.

Both do the same up to the last step: everything is decrypted and checked against the manifest, the
database is brought up, and its books are verified. Only then is anything put in place, and then
everything that would go on by itself from older books is stopped (store/restored.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from headend.domain.clock import Clock
from headend.domain.money import yuan
from headend.domain.problems import Problem
from headend.services import seals
from headend.services.backup_file import BackupReader
from headend.services.backups import (
    ALSO_PARTS,
    DATA_PARTS,
    DATABASE_PART,
    SERVER_FOLDER,
    STAGING,
    staging,
)
from headend.store import dumps, restored
from headend.store.database import Database
from headend.store.embedded import EmbeddedPostgres, running_conninfo
from headend.store.errors import FolderBusy
from headend.store.migrate import load_migrations, migrate
from headend.store.restored import Marked

DRILL, RESTORING = STAGING
# What a restored copy must repeat.
COMPARED = ("migrations", "transfers", "last_entry_no", "commands", "meters", "last_seal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A backup that was decrypted and checked, in a folder of its own."""

    made_at: datetime
    facts: Mapping[str, Any]
    files: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What the books in a backup are once they are up again."""

    made_at: datetime
    migrations: int
    transfers: int
    sealed_days: int
    last_seal: str | None
    files: int
    faults: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A restore for real."""

    examined: Examined
    marked: Marked
    aside: Sequence[str]
    also: str


def unpack(file: Path, passphrase: bytes, into: Path) -> Opened:
    """Decrypt everything into a folder; nothing of it is believed before all of it was right.

    Raises Problem: not a backup, wrong passphrase, cut short, damaged.
    """
    try:
        with file.open("rb") as source:
            reader = BackupReader(source, passphrase, file.name)
            files = []
            for about, pieces in reader.parts():
                name = str(about["name"])
                path = into / _safe(name, file)
                path.parent.mkdir(parents=True, exist_ok=True)
                mode = int(about.get("mode", 0o600)) & 0o777
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
                with os.fdopen(fd, "wb") as target:
                    for piece in pieces:
                        target.write(piece)
                files.append(name)
    except OSError as error:
        detail = error.strerror or type(error).__name__
        raise Problem("settings-unreadable", file=file, detail=detail) from error
    return Opened(made_at=reader.made_at, facts=reader.facts, files=files)


def _safe(name: str, file: Path) -> PurePosixPath:
    """A name that stays inside its folder. Raises Problem."""
    path = PurePosixPath(name)
    known = name == DATABASE_PART or name.startswith((DATA_PARTS, ALSO_PARTS))
    if not known or path.is_absolute() or ".." in path.parts:
        raise Problem("backup-damaged", file=file.name)
    return path


async def drill(file: Path, passphrase: bytes, data_folder: Path) -> Examined:
    """Bring a copy up beside the live one, verify it, and leave nothing behind. Raises Problem."""
    async with staging(data_folder, DRILL) as folder:
        opened = await asyncio.to_thread(unpack, file, passphrase, folder)
        async with _brought_up(folder) as database:
            return await _examine(database, opened)


async def restore(
    file: Path,
    passphrase: bytes,
    *,
    data_folder: Path,
    database_url: str,
    clock: Clock,
    force: bool,
) -> Restored:
    """Put a backup in place, in an empty data folder (and an empty site database).

    `force`: what is in the data folder is moved aside first; a database is never emptied. Raises
    Problem with nothing changed.
    """
    _refuse_what_is_there(data_folder, force=force)
    stamp = f"before-restore-{clock.now():%Y%m%dT%H%M%SZ}"
    async with staging(data_folder, RESTORING) as folder:
        opened = await asyncio.to_thread(unpack, file, passphrase, folder)
        place = _site_database(database_url, folder) if database_url else _brought_up(folder)
        async with place as database:
            examined = await _examine(database, opened)
            if examined.faults:
                raise Problem("restore-failed", detail="; ".join(examined.faults))
            await migrate(database.conninfo)
            async with database.transaction() as tx:
                marked = await restored.mark(
                    tx, made_at=opened.made_at, restored_at=clock.now(), file=file.name
                )
        aside = await asyncio.to_thread(_put_in_place, folder, data_folder, stamp)
    also = data_folder / "also" if any(n.startswith(ALSO_PARTS) for n in opened.files) else ""
    return Restored(examined=examined, marked=marked, aside=aside, also=str(also))


def _refuse_what_is_there(data_folder: Path, *, force: bool) -> None:
    if running_conninfo(data_folder / SERVER_FOLDER) is not None:
        raise FolderBusy(data_folder, "that runs there")
    there = [path.name for path in data_folder.iterdir()] if data_folder.is_dir() else []
    if there and not force:
        raise Problem("restore-not-empty", place=data_folder)


@asynccontextmanager
async def _brought_up(folder: Path) -> AsyncIterator[Database]:
    """An embedded server of its own with the dump in it."""
    postgres = EmbeddedPostgres(folder / SERVER_FOLDER)
    conninfo = await postgres.start()
    try:
        database = Database(conninfo, application_name="headend restore")
        await database.open()
        try:
            await _load(database, folder)
            yield database
        finally:
            await database.close()
    finally:
        await postgres.stop()


@asynccontextmanager
async def _site_database(url: str, folder: Path) -> AsyncIterator[Database]:
    """The site's own database, which has to be empty."""
    database = Database(url, application_name="headend restore")
    await database.open()
    try:
        async with database.transaction() as tx:
            if not await dumps.is_empty(tx):
                raise Problem("restore-not-empty", place="the database")
        await _load(database, folder)
        yield database
    finally:
        await database.close()


async def _load(database: Database, folder: Path) -> None:
    async with database.transaction() as tx:
        await dumps.make_roles(tx)
    dump, server = folder / DATABASE_PART, folder / SERVER_FOLDER
    await asyncio.to_thread(dumps.restore, database.conninfo, dump, server)
    await asyncio.to_thread(dump.unlink)


async def _examine(database: Database, opened: Opened) -> Examined:
    """The books as they are up again, against what the backup said of them."""
    async with database.transaction() as tx:
        facts = await dumps.facts(tx)
    report = await seals.verify_database(database)
    faults = []
    if report.fault is not None:
        faults.append(str(report.fault))
    faults += [
        f"{name} differ from what the backup says"
        for name in COMPARED
        if getattr(facts, name) != opened.facts.get(name)
    ]
    if facts.balance_sum_fen != 0:
        faults.append(f"the balances sum to {yuan(facts.balance_sum_fen)} yuan and not to zero")
    ours = load_migrations()
    for version, name, digest in facts.migrations:
        if version not in ours or ours[version].sha256 != digest:
            faults.append(f"migration {version:04d}_{name} is not of this program")
    return Examined(
        made_at=opened.made_at,
        migrations=len(facts.migrations),
        transfers=facts.transfers,
        sealed_days=report.seals,
        last_seal=facts.last_seal,
        files=len(opened.files) - 1,
        faults=faults,
    )


def _put_in_place(staged: Path, data_folder: Path, stamp: str) -> list[str]:
    """Rename everything into the data folder; what has the same name there is moved aside."""
    aside = []
    moves = [(staged / SERVER_FOLDER, data_folder / SERVER_FOLDER)]
    for prefix, target in ((DATA_PARTS, data_folder), (ALSO_PARTS, data_folder / "also")):
        root = staged / prefix.rstrip("/")
        moves += [
            (path, target / path.relative_to(root))
            for path in sorted(root.rglob("*"))
            if path.is_file()
        ]
    for source, target in moves:
        if not source.exists():
            continue
        if target.exists():
            former = target.with_name(f"{target.name}.{stamp}")
            target.rename(former)
            aside.append(str(former.relative_to(data_folder)))
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        source.rename(target)
    return aside
