"""A night as somebody sees it who wants its empty cells filled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from headend.store.database import Transaction
from headend.store.nights import NIGHT_REACH_HOURS


@dataclass(frozen=True, slots=True, kw_only=True)
class NightToFill:
    """A night whose empty cells somebody wants filled."""

    night_id: int
    night: date
    is_over: bool  # its window has closed
    reaches_now: bool  # a reading of this moment belongs to it


async def night_to_fill(
    tx: Transaction, site_id: int, night: date, now: datetime
) -> NightToFill | None:
    """A night of a site as back-filling sees it at `now`; None: there is no such night."""
    row = await tx.row(
        """
        SELECT night_id, closes_at <= %(now)s,
            opens_at <= %(now)s AND %(now)s < opens_at + make_interval(hours => %(reach)s)
            AND NOT EXISTS (SELECT FROM night AS next WHERE next.site_id = night.site_id
                AND next.opens_at > night.opens_at AND next.opens_at <= %(now)s)
        FROM night WHERE site_id = %(site_id)s AND night = %(night)s""",
        named={"site_id": site_id, "night": night, "now": now, "reach": NIGHT_REACH_HOURS},
    )
    if row is None:
        return None
    return NightToFill(night_id=row[0], night=night, is_over=row[1], reaches_now=row[2])


async def has_reading(tx: Transaction, night_id: int, meter_id: int) -> bool:
    """Whether this cell has its reading."""
    state = await tx.value(
        "SELECT state FROM night_cell WHERE night_id = %s AND meter_id = %s", night_id, meter_id
    )
    return state in ("read", "back_filled")
