"""A byte pipe to one line of meters. Several ways to get one; nothing above can tell which.

Bytes are pushed up as they come and written down as they are given: no queue between the socket
and the line, which is where the speed of a poll is won.
"""

from __future__ import annotations

from typing import Protocol


class LinkDown(Exception):
    """The pipe is gone. Whatever was sent may or may not have arrived. The text says why."""


class LinkUser(Protocol):
    """Who sits on top of a link: a Line. All calls come from the event loop, never re-entrantly
    from inside `write`."""

    def bytes_received(self, data: bytes) -> None: ...
    def link_lost(self, reason: str) -> None: ...

    def write_taken(self) -> None:
        """The box took the last frame and will show no answer of the meter. Proves nothing."""
        ...


class ByteLink(Protocol):
    """One open pipe. Used once: after `link_lost` it is dead and a new one takes its place."""

    name: str  # for people: "/dev/ttyUSB0", "tcp 10.1.2.3:502", "dtu 13800000001"

    def start(self, user: LinkUser) -> None:
        """From now on `user` gets the bytes. Called once."""
        ...

    def write(self, data: bytes) -> None:
        """Hand over one whole frame. Raises LinkDown."""
        ...

    def close(self) -> None:
        """Close at once; safe to call twice. `link_lost` is not called for it."""
        ...
