"""What a tenant wants to know of their meter: how long it lasts, what it cost. Pure, integers.

All of it is arithmetics over looks at the meter (the last of each day) and the books. What two
looks cannot say is not said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Final

# The days whose spending tells how long the credit lasts: two weeks have both kinds of weekend.
PACE_DAYS: Final = 14
# Less than this says nothing about a day.
PACE_MIN: Final = timedelta(hours=20)
# "A year" is long enough to know.
DAYS_LEFT_MAX: Final = 365
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One reading as these sums need it."""

    at: datetime
    energy_wh: int | None
    credit_fen: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """Between two looks: what was there, came in and was used, fen and Wh."""

    since: datetime
    until: datetime
    credit_before_fen: int
    credited_fen: int
    spent_fen: int
    credit_after_fen: int
    used_wh: int | None


def bill(first: Look, last: Look, credited_fen: int) -> Bill | None:
    """What became of the credit between two looks; None where they do not tell.

    What was spent follows from the other three. Below zero it would be a purchase from elsewhere or
    an exchanged meter: then a person explains it, not this page.
    """
    if first.at >= last.at or first.credit_fen is None or last.credit_fen is None:
        return None
    spent_fen = first.credit_fen + credited_fen - last.credit_fen
    if spent_fen < 0:
        return None
    used_wh = None
    if first.energy_wh is not None and last.energy_wh is not None:
        used_wh = last.energy_wh - first.energy_wh
    if used_wh is not None and used_wh < 0:
        return None
    return Bill(
        since=first.at,
        until=last.at,
        credit_before_fen=first.credit_fen,
        credited_fen=credited_fen,
        spent_fen=spent_fen,
        credit_after_fen=last.credit_fen,
        used_wh=used_wh,
    )


def days_left(credit_fen: int | None, pace: Bill | None) -> int | None:
    """Whole days the credit lasts at this pace, 0 to DAYS_LEFT_MAX; None: nobody can say."""
    if credit_fen is None or pace is None or pace.spent_fen == 0:
        return None
    elapsed = pace.until - pace.since
    if elapsed < PACE_MIN:
        return None
    elapsed_s = int(elapsed.total_seconds())
    return max(0, min(DAYS_LEFT_MAX, credit_fen * elapsed_s // (pace.spent_fen * _DAY_S)))


def used_on_last_day(looks: Sequence[Look], zone: tzinfo) -> tuple[date, int] | None:
    """(the day of the newest look, Wh since the last look of a day before it)."""
    known = [look for look in looks if look.energy_wh is not None]
    if len(known) < 2:
        return None
    last, before = known[-1], known[-2]
    assert last.energy_wh is not None
    assert before.energy_wh is not None
    used_wh = last.energy_wh - before.energy_wh
    return None if used_wh < 0 else (last.at.astimezone(zone).date(), used_wh)
