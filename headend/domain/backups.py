"""Backups: what their files are called, when one is due, and which are kept. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any, Final

_NAME: Final = re.compile(r"headend-(\d{8}T\d{6})Z\.backup")
SUFFIX_PART: Final = ".part"
# A backup nobody has restored for this long may be one that cannot be.
DRILL_AGE_MAX: Final = timedelta(days=92)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookFacts:
    """What a backup says of the books in it, and what they must say once restored."""

    made_at: str
    migrations: list[list[Any]]  # [number, name, sha256]
    transfers: int
    last_entry_no: int
    balance_sum_fen: int
    commands: int
    meters: int
    last_seal: str | None  # DAY:SHA256


def name_of(made_at: datetime) -> str:
    """The file of a backup made then."""
    return f"headend-{made_at.astimezone(UTC):%Y%m%dT%H%M%S}Z.backup"


def made_at_of(name: str) -> datetime | None:
    """When the backup of that name was made; None: some other file."""
    understood = _NAME.fullmatch(name)
    if understood is None:
        return None
    try:
        return datetime.strptime(understood[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def last_due(now: datetime, at: time, zone: tzinfo) -> datetime:
    """The newest instant, not after `now`, at which a daily backup was due."""
    today = now.astimezone(zone).replace(
        hour=at.hour, minute=at.minute, second=at.second, microsecond=0
    )
    return today if today <= now else today - timedelta(days=1)


def not_kept(made: Iterable[datetime], *, daily: int, weekly: int) -> set[datetime]:
    """Which backups may go: all but the newest of the last `daily` days and `weekly` weeks that
    have one. The newest one of all always stays."""
    newest_first = sorted(made, reverse=True)
    kept = set(newest_first[:1])
    for count, key in ((daily, "%Y-%m-%d"), (weekly, "%G-%V")):
        seen: set[str] = set()
        for one in newest_first:
            period = one.strftime(key)
            if period not in seen and len(seen) < count:
                seen.add(period)
                kept.add(one)
    return set(newest_first) - kept
