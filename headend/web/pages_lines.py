"""Lines and gateways: what is up, how well it answers, and every frame as it passes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from fastapi import APIRouter, Response

from headend.domain.places import GatewayKind
from headend.domain.problems import Problem
from headend.services import trace
from headend.services.lines import LineAtWork
from headend.services.services import Services
from headend.store import line_events
from headend.store.line_events import LineEvent
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import PageProblem, Viewer, Visitor

router = APIRouter(include_in_schema=False)

FRAMES_SHOWN: Final = 60
EVENT_DAYS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRow:
    """One line with its counters."""

    name: str
    site: str
    gateway: str
    kind: GatewayKind
    up: bool
    detail: str
    down_since: datetime | None
    seen: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesView:
    """Every line of the visitor's sites, those that are down first; and who else calls."""

    lines: Sequence[LineRow]
    strangers: Sequence[Mapping[str, Any]]


@router.get("/lines")
async def lines(services: Asked, viewer: Viewer) -> Response:
    """Up or down and why, answers, silences, answer times."""
    assert viewer.caller is not None
    rows = [
        _row(at_work)
        for at_work in services.lines.lines.values()
        if viewer.caller.may_touch(at_work.known.site_id)
    ]
    rows.sort(key=lambda row: row.up)
    # A stranger belongs to no site yet: only who may see all of them may see it.
    strangers = services.strangers() if viewer.sites is None else []
    return desk.show("lines.html", viewer, services, LinesView(lines=rows, strangers=strangers))


def _row(at_work: LineAtWork) -> LineRow:
    seen = at_work.record()
    return LineRow(
        name=at_work.name,
        site=at_work.site,
        gateway=at_work.known.gateway.name,
        kind=at_work.known.gateway.kind,
        up=at_work.line.is_up,
        detail=str(seen["detail"] or ""),
        down_since=at_work.line.down_since,
        seen=seen,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineView:
    """One line: counters, falls and rises, its meters, the frames it keeps."""

    row: LineRow
    meters: Sequence[str]
    events: Sequence[LineEvent]
    frames: Sequence[Mapping[str, object]]


@router.get("/lines/{line}")
async def one(services: Asked, viewer: Viewer, line: str) -> Response:
    """The kept frames at once, the next ones live."""
    at_work = _line(services, viewer, line)
    since = services.clock.now() - timedelta(days=EVENT_DAYS)
    async with services.database.transaction() as tx:
        events = [
            event for event in await line_events.events_since(tx, since) if event.line == line
        ]
    frames = [row async for row in trace.frames(at_work.line.wiretap, follow=False)]
    view = LineView(
        row=_row(at_work),
        meters=[meter.known.name for meter in at_work.meters],
        events=list(reversed(events)),
        frames=list(islice(reversed(frames), FRAMES_SHOWN)),
    )
    return desk.show("line.html", viewer, services, view)


@router.get("/lines/{line}/live")
async def live(services: Asked, viewer: Viewer, line: str) -> Response:
    """Frames as they pass, the newest on top. What the page was too slow for is told."""
    at_work = _line(services, viewer, line)

    async def pieces() -> AsyncIterator[str]:
        kept = len(at_work.line.wiretap.frames())
        async for row in trace.frames(at_work.line.wiretap, follow=True):
            if kept > 0:
                kept -= 1  # these stand on the page already
                continue
            yield desk.rendered("frame.html", viewer, services, row)

    return desk.stream(pieces())


def _line(services: Services, viewer: Visitor, name: str) -> LineAtWork:
    at_work = services.lines.lines.get(name)
    assert viewer.caller is not None
    if at_work is None or not viewer.caller.may_touch(at_work.known.site_id):
        raise PageProblem(viewer, Problem("no-such-line", line=name))
    return at_work
