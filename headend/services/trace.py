"""The frames of a line for people: hex and what it means."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gateways.wiretap import Frame, Wiretap
from protocols.explain import explain


async def frames(wiretap: Wiretap, *, follow: bool) -> AsyncIterator[dict[str, object]]:
    """The kept frames, then (with `follow`) the live ones, each with its meaning.

    What a watcher was too slow for is told as a row of its own, never silently left out.
    """
    asked: Frame | None = None
    with wiretap.watch() as watcher:
        for frame in wiretap.frames():
            yield _row(frame, asked)
            asked = frame if frame.sent else asked
        if not follow:
            return
        lost = 0
        async for frame in watcher:
            if watcher.lost != lost:
                yield {"lost": watcher.lost - lost}
                lost = watcher.lost
            yield _row(frame, asked)
            asked = frame if frame.sent else asked


def _row(frame: Frame, asked: Frame | None) -> dict[str, object]:
    request = asked.data if asked is not None and not frame.sent else None
    return {
        "at": frame.at.isoformat(timespec="milliseconds"),
        "direction": "sent" if frame.sent else "received",
        "hex": frame.data.hex(" "),
        "meaning": explain(frame.data, request),
    }
