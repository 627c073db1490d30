"""Lines and gateways: what is up, how well it answers, what passes, who else calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from headend.domain.problems import Problem
from headend.services import scan, trace
from headend.services.scan_dlt645 import scan_dlt645
from headend.store.doubtful import doubtful_readings
from headend.web.auth import Asker, Looker, Viewer, line_for
from headend.web.common import Asked
from headend.web.edits import Page

router = APIRouter(prefix="/api/v1", tags=["lines"])


@router.get("/lines", summary="Every line: up or down, counts, answer times")
async def lines(services: Asked, looker: Looker, page: Page) -> list[dict[str, Any]]:
    """By name. `state` is up or down; a line that is down says why and since when."""
    mine = (one for one in services.lines.lines.values() if looker.may_touch(one.known.site_id))
    return [at_work.record() for at_work in page.of(mine, key=lambda at_work: at_work.name)]


@router.get("/lines/{line}/trace", summary="The frames on a line, live")
async def trace_line(
    services: Asked,
    looker: Looker,
    line: str,
    follow: Annotated[bool, Query(description="false: the last frames only")] = True,
) -> StreamingResponse:
    """One JSON object a line: instant, direction, hex, and what the frame means."""
    at_work = line_for(services, looker, line)
    return _ndjson(trace.frames(at_work.line.wiretap, follow=follow))


@router.post("/lines/{line}/scan", summary="Find meters by asking every unit id")
async def scan_line(
    services: Asked,
    asker: Asker,
    line: str,
    first: Annotated[int, Query(ge=1, le=247)] = 1,
    last: Annotated[int, Query(ge=1, le=247)] = 247,
    protocol: Annotated[Literal["modbus", "dlt645"], Query()] = "modbus",
) -> StreamingResponse:
    """Only reads. One JSON object for each unit asked; polling goes on in between. With `dlt645`
    meters are searched by their addresses, whatever `first` and `last` say."""
    at_work = line_for(services, asker, line)
    if not at_work.line.is_up:
        raise Problem("line-down", line=line, detail=at_work.line.down_reason)
    if protocol == "dlt645":
        return _ndjson(scan_dlt645(at_work.line))
    return _ndjson(scan.scan(at_work.line, range(first, last + 1)))


@router.get("/gateways/strangers", summary="Boxes that dialled in and nobody knows")
async def strangers(services: Asked, looker: Looker, page: Page) -> list[dict[str, Any]]:
    """What they sent before they were closed, or pushed over MQTT, and the dialect and registration
    under which they can be adopted, where they told. `turned_away`: why somebody could not prove
    who it is. They belong to no site yet: only who may see all of them sees any."""
    found = services.strangers() if looker.operator.sites is None else []
    return page.of(found, key=_told_apart)


@router.get("/gateways/sessions", summary="Boxes that have dialled in and are connected now")
async def sessions(services: Asked, looker: Looker, page: Page) -> list[dict[str, Any]]:
    """`unrecognised`: sound frames that nothing here understands, and the last of them. For who may
    see every site."""
    found = services.lines.dial_ins.sessions() if looker.operator.sites is None else []
    return page.of(found, key=_told_apart)


def _told_apart(box: dict[str, Any]) -> str:
    named = (box.get(name) or "" for name in ("gateway", "registration", "sample", "address"))
    # A cursor is short: a sample may be a kilobyte, and its beginning tells boxes apart.
    return "/".join(str(part)[:40] for part in named)


@router.get("/uplinks", summary="Readings that boxes push: kept, put aside, nobody's")
async def uplinks(services: Asked, _viewer: Viewer) -> dict[str, Any]:
    """`counts`: taken = kept + doubtful + stray + dropped + waiting. `doubtful`: the last readings
    that nothing may be decided by, and why. `strays`: by gateway, uploads of no meter of ours."""
    async with services.database.transaction() as tx:
        doubtful = await doubtful_readings(tx)
    return {
        "counts": dict(services.uplinks.counts),
        "waiting": services.uplinks.waiting,
        "strays": services.uplinks.strays(),
        "doubtful": doubtful,
    }


def _ndjson(rows: AsyncIterator[dict[str, object]]) -> StreamingResponse:
    async def text() -> AsyncIterator[str]:
        async for row in rows:
            yield json.dumps(row, ensure_ascii=False) + "\n"

    return StreamingResponse(text(), media_type="application/x-ndjson")
