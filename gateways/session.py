"""One TCP connection of a DTU, from accept to close: nameless first, then a link of its line."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol, cast

from gateways.link import LinkDown, LinkUser
from gateways.sockets import tune, why_lost
from protocols.dtu import SAMPLE_BYTES_MAX, Bytes, DtuStream, Heartbeat, Named, Overflow


class SessionOwner(Protocol):
    """The listener, as its sessions see it."""

    def now_s(self) -> float: ...
    def may_open(self, session: Session) -> bool: ...
    def named(self, session: Session, name: str) -> None: ...
    def ended(self, session: Session) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """A live session for the console. Instants are ages, so that no clock has to agree."""

    gateway: str
    address: str
    age_s: float
    heard_s_ago: float
    spoken_s_ago: float | None  # None: not yet
    heartbeats: int  # those that were certain enough to be taken out of the stream
    bytes_in: int
    bytes_out: int
    dropped_bytes: int  # came before our first request


class Session(asyncio.Protocol):
    """A ByteLink once it has a name. Before that it is never written to."""

    __slots__ = (
        "_owner",
        "_stream",
        "_transport",
        "_user",
        "_why_closed",
        "address",
        "bytes_in",
        "bytes_out",
        "dropped_bytes",
        "first_words",
        "gateway",
        "heard_s",
        "heartbeats",
        "name",
        "opened_s",
        "probed_s",
        "spoken_s",
    )

    def __init__(self, owner: SessionOwner, stream: DtuStream) -> None:
        self._owner = owner
        self._stream = stream
        self._transport: asyncio.Transport | None = None
        self._user: LinkUser | None = None
        self._why_closed: str | None = None
        self.gateway: str | None = None
        # What came first, in one piece: most likely the registration and nothing else.
        self.first_words = b""
        self.name = "nameless"  # for people; who it is, is `gateway`
        self.address = ""
        self.opened_s = self.heard_s = self.probed_s = owner.now_s()
        self.spoken_s: float | None = None
        self.heartbeats = self.bytes_in = self.bytes_out = self.dropped_bytes = 0

    # ByteLink

    def start(self, user: LinkUser) -> None:
        self._user = user

    def write(self, data: bytes) -> None:
        assert self.gateway is not None, "a stranger is never spoken to"
        transport = self._transport
        if transport is None or transport.is_closing():
            raise LinkDown(self._why_closed or f"{self.name}: the connection is closed")
        self.spoken_s = self._owner.now_s()
        self.bytes_out += len(data)
        transport.write(data)

    def close(self) -> None:
        self._user = None
        if self._transport is not None:
            self._transport.abort()

    def hang_up(self, why: str) -> None:
        """Close from our side, and let the line know the reason."""
        self._why_closed = why
        user, self._user = self._user, None
        if self._transport is not None:
            self._transport.abort()
        if user is not None:
            user.link_lost(why)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = f"{peer[0]}:{peer[1]}" if peer else "unknown"
        if not self._owner.may_open(self):
            self._transport.abort()
            return
        tune(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        self.heard_s = self._owner.now_s()
        if self.bytes_in == 0:
            self.first_words = data[:SAMPLE_BYTES_MAX]
        self.bytes_in += len(data)
        # Once we have spoken, any bytes may be part of an answer; the stream still takes out what
        # is certainly a heartbeat, and readers step over the rest.
        for event in self._stream.receive(data, answer_due=self.spoken_s is not None):
            match event:
                case Bytes():
                    self._pass_up(event.data)
                case Heartbeat():
                    self.heartbeats += 1
                case Named():
                    self.gateway = event.name
                    self.name = f"dtu {event.name} from {self.address}"
                    self._owner.named(self, event.name)
                case Overflow():
                    self.hang_up("too many bytes without a name")

    def _pass_up(self, data: bytes) -> None:
        """Some DTUs send what they had stored while they were away: nobody asked for that."""
        if self.spoken_s is None or self._user is None:
            self.dropped_bytes += len(data)
        else:
            self._user.bytes_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._why_closed is None:
            self._why_closed = f"DTU {self.gateway}: {why_lost(exc)}"
        self._owner.ended(self)
        if self._user is not None:
            self._user.link_lost(self._why_closed)

    # for the console

    def state(self, now_s: float) -> SessionState:
        return SessionState(
            gateway=self.gateway or "",
            address=self.address,
            age_s=now_s - self.opened_s,
            heard_s_ago=now_s - self.heard_s,
            spoken_s_ago=None if self.spoken_s is None else now_s - self.spoken_s,
            heartbeats=self.heartbeats,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            dropped_bytes=self.dropped_bytes,
        )
