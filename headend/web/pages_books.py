"""The books: today's takings by operator, sealed days, and every row with its proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from fastapi import APIRouter, Response

from headend.domain.seals import DaySeal
from headend.store import desk_days, seals
from headend.store.desk_days import Line, Takings
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import Viewer

router = APIRouter(include_in_schema=False)

LINES: Final = 50
SEALS: Final = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class BooksView:
    """One day of takings, the newest seals, one page of rows."""

    day: date
    is_today: bool
    before: date
    after: date | None
    takings: Sequence[Takings]
    taken_fen: int
    given_fen: int
    posted_fen: int
    seals: Sequence[DaySeal]
    sealed: bool  # the day shown
    lines: Sequence[Line]
    older: int | None


@router.get("/books")
async def books(
    services: Asked, viewer: Viewer, day: date | None = None, before: int | None = None
) -> Response:
    """Sales by operator on a day; the ledger, newest first."""
    zone = desk.zone_of(services)
    today = services.clock.now().astimezone(zone).date()
    shown = min(day or today, today)
    begins = datetime.combine(shown, time(), tzinfo=zone)
    ends = datetime.combine(shown + timedelta(days=1), time(), tzinfo=zone)
    async with services.database.transaction() as tx:
        takings = await desk_days.takings(tx, viewer.scope, begins, ends)
        days = await seals.sealed_days(tx)
        lines = await desk_days.ledger_lines(tx, viewer.scope, before=before, limit=LINES + 1)
    view = BooksView(
        day=shown,
        is_today=shown == today,
        before=shown - timedelta(days=1),
        after=shown + timedelta(days=1) if shown < today else None,
        takings=takings,
        taken_fen=sum(one.payment_fen for one in takings),
        given_fen=sum(one.refund_fen for one in takings),
        posted_fen=sum(one.posted_fen for one in takings),
        seals=list(reversed(days))[:SEALS],
        sealed=any(seal.day == shown for seal in days),
        lines=lines[:LINES],
        older=lines[LINES - 1].entry_no if len(lines) > LINES else None,
    )
    return desk.show("books.html", viewer, services, view)
