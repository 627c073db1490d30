"""Keep a line supplied with a link: open, hand over, wait until it is lost, open again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from gateways.line import Line
from gateways.link import ByteLink, LinkDown


class KeptLink(ByteLink, Protocol):
    """A link that also tells its keeper when it is gone."""

    async def wait_closed(self) -> None:
        """Come back once the link is lost or was closed."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between two tries to open, doubling from the first to the longest."""

    first_s: float = 1.0  # an adapter plugged back in is found within a second
    longest_s: float = 30.0  # a converter that is away all night costs nothing
    # A link that lived this long was a good one: begin with the short pause again. A converter
    # that accepts and hangs up at once is not called every second for ever.
    good_after_s: float = 10.0


async def keep_open(
    line: Line, open_link: Callable[[], Awaitable[KeptLink]], backoff: Backoff | None = None
) -> None:
    """Runs until cancelled; then the line is detached.

    `open_link` raises LinkDown with the reason, which becomes the line's. The line logs each fall
    and each rise once, however often this tries in between.
    """
    backoff = Backoff() if backoff is None else backoff
    loop = asyncio.get_running_loop()
    pause_s = backoff.first_s
    try:
        while True:
            try:
                link = await open_link()
            except LinkDown as error:
                line.detach(str(error))
            else:
                line.attach(link)
                opened_s = loop.time()
                await link.wait_closed()
                if loop.time() - opened_s >= backoff.good_after_s:
                    pause_s = backoff.first_s
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, backoff.longest_s)
    finally:
        line.detach("closed by this program")
