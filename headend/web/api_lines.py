"""Lines and gateways: what is up, how well it answers, what passes, who else calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from headend.domain.problems import Problem
from headend.services import scan, trace
from headend.web.common import Asked

router = APIRouter(prefix="/api/v1", tags=["lines"])


@router.get("/lines", summary="Every line: up or down, counts, answer times")
async def lines(services: Asked) -> list[dict[str, Any]]:
    """`state` is up or down; a line that is down says why and since when."""
    return [at_work.record() for at_work in services.lines.lines.values()]


@router.get("/lines/{line}/trace", summary="The frames on a line, live")
async def trace_line(
    services: Asked,
    line: str,
    follow: Annotated[bool, Query(description="false: the last frames only")] = True,
) -> StreamingResponse:
    """One JSON object a line: instant, direction, hex, and what the frame means."""
    at_work = services.lines.find_line(line)
    return _ndjson(trace.frames(at_work.line.wiretap, follow=follow))


@router.post("/lines/{line}/scan", summary="Find meters by asking every unit id")
async def scan_line(
    services: Asked,
    line: str,
    first: Annotated[int, Query(ge=1, le=247)] = 1,
    last: Annotated[int, Query(ge=1, le=247)] = 247,
) -> StreamingResponse:
    """Only reads. One JSON object for each unit asked; polling goes on in between."""
    at_work = services.lines.find_line(line)
    if not at_work.line.is_up:
        raise Problem("line-down", line=line, detail=at_work.line.down_reason)
    return _ndjson(scan.scan(at_work.line, range(first, last + 1)))


@router.get("/gateways/strangers", summary="DTUs that dialled in and nobody knows")
async def strangers(services: Asked) -> list[dict[str, Any]]:
    """What they sent before they were closed. They were never spoken to."""
    return services.lines.strangers()


def _ndjson(rows: AsyncIterator[dict[str, object]]) -> StreamingResponse:
    async def text() -> AsyncIterator[str]:
        async for row in rows:
            yield json.dumps(row, ensure_ascii=False) + "\n"

    return StreamingResponse(text(), media_type="application/x-ndjson")
