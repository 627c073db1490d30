"""Which purchase count comes next. Pure.

The meter's own count is the only counter. A number once given to a sale is never changed: a sale
whose number the meter does not expect any more met a purchase from elsewhere, and a person has to
find it. Numbering the sale anew would credit it and hide the other one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from protocols.meter_type import PURCHASE_COUNT_MAX


@dataclass(frozen=True, slots=True)
class Counted:
    """A purchase count, and the instant it was true."""

    count: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Doubt:
    """The books and the meter tell different stories; one clause for people."""

    detail: str


def next_count(agreed: Counted | None, seen: Counted | None) -> int | Doubt | None:
    """The count of the next sale; None when the meter was never read.

    `agreed`: where the books end: the last sale that landed or was burned, or what a person agreed
    to later. `seen`: the newest look at the meter. A look older than the books says nothing new.
    """
    if seen is None and agreed is None:
        return None
    if agreed is None or seen is None or seen.at <= agreed.at:
        newest = agreed or seen
        assert newest is not None
        return _after(newest.count)
    if seen.count != agreed.count:
        way = "ahead of" if seen.count > agreed.count else "behind"
        return Doubt(
            f"the meter shows purchase count {seen.count}, {way} the books, which end at "
            f"{agreed.count}"
        )
    return _after(seen.count)


def _after(count: int) -> int | Doubt:
    if count >= PURCHASE_COUNT_MAX:
        return Doubt(f"the meter has used up its {PURCHASE_COUNT_MAX} purchase counts")
    return count + 1
