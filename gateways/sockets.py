"""What every TCP socket to the field gets."""

from __future__ import annotations

import socket

# A box that lost its power says nothing: find out in about two minutes, not in the two hours of
# the system's default. Mobile networks drop idle flows silently after 3 to 5 minutes.
KEEPALIVE_IDLE_S = 60
KEEPALIVE_EVERY_S = 15
KEEPALIVE_PROBES = 4
UNACKNOWLEDGED_MS_MAX = 1000 * (KEEPALIVE_IDLE_S + KEEPALIVE_EVERY_S * KEEPALIVE_PROBES)


def tune(sock: socket.socket) -> None:
    """Small frames at once, and a dead peer found in minutes."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every system knows these by name; without them its own defaults hold.
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_EVERY_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS_MAX),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def why_lost(error: Exception | None) -> str:
    """The end of a connection, as a clause for people."""
    if error is None:
        return "the other side hung up"
    if isinstance(error, TimeoutError):
        return "the other side is gone without a word"
    if isinstance(error, ConnectionResetError):
        return "the other side broke the connection"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or repr(error)
