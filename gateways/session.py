"""One TCP connection of a box that dials in: nameless first, then a link for each of its lines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from gateways.link import LinkDown, LinkUser
from gateways.sockets import tune, why_lost
from protocols.dialects import FreshStream
from protocols.dtu import SAMPLE_BYTES_MAX
from protocols.stream import (
    Answer,
    Bytes,
    Event,
    Heartbeat,
    Introduced,
    Named,
    Overflow,
    Pushed,
    Said,
    Stream,
    Taken,
    Told,
    TurnedAway,
    Unrecognised,
)
from protocols.uplink import Upload


class SessionOwner(Protocol):
    """The listener, as its sessions see it."""

    def now_s(self) -> float: ...
    def may_open(self, session: Session) -> bool: ...
    def named(self, session: Session) -> None: ...
    def told(self, gateway: str, facts: Mapping[str, str | int]) -> None: ...
    def pushed(self, gateway: str, upload: Upload) -> None: ...
    def said(self, gateway: str, said: Said) -> None: ...
    def ended(self, session: Session) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """A live session for the console. Instants are ages, so that no clock has to agree."""

    gateway: str
    dialect: str
    address: str
    age_s: float
    heard_s_ago: float
    spoken_s_ago: float | None  # None: not yet
    heartbeats: int  # those that were certain enough to be taken out of the stream
    uploads: int
    bytes_in: int
    bytes_out: int
    dropped_bytes: int  # came before our first request
    unrecognised: int  # sound frames nobody understands …
    unrecognised_sample: bytes  # … and the last of them


class PortLink:
    """A ByteLink: one line behind a session."""

    __slots__ = ("_asked", "_session", "_user", "name", "port")

    def __init__(self, session: Session, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self._session = session
        self._user: LinkUser | None = None
        self._asked = False

    def start(self, user: LinkUser) -> None:
        self._user = user

    def write(self, data: bytes) -> None:
        self._session.send(data, self.port)
        self._asked = True

    def close(self) -> None:
        """The box has one connection: its other lines lose it too, until it dials again."""
        self._user = None
        self._session.hang_up(f"{self.name} was closed by this program")

    # for the session

    def pass_up(self, data: bytes) -> bool:
        """False for bytes nobody asked for: some boxes send what they had stored while away."""
        if self._asked and self._user is not None:
            self._user.bytes_received(data)
            return True
        return False

    def taken(self) -> None:
        if self._asked and self._user is not None:
            self._user.write_taken()

    def lost(self, why: str) -> None:
        user, self._user = self._user, None
        if user is not None:
            user.link_lost(why)


class Session(asyncio.Protocol):
    """Speaks its box's dialect. A stranger is only listened to, except where its dialect asks who
    it is."""

    __slots__ = (
        "_is_over",
        "_links",
        "_owner",
        "_stream",
        "_transport",
        "_why_closed",
        "address",
        "bytes_in",
        "bytes_out",
        "dialect",
        "dropped_bytes",
        "first_words",
        "gateway",
        "heard_s",
        "heartbeats",
        "introduced",
        "name",
        "opened_s",
        "over",
        "probed_s",
        "requests",
        "spoken_s",
        "turned_away",
        "unrecognised",
        "unrecognised_sample",
        "uploads",
    )

    def __init__(self, owner: SessionOwner, stream: FreshStream) -> None:
        self._owner = owner
        self._stream: Stream = stream
        self._transport: asyncio.Transport | None = None
        self._links: tuple[PortLink, ...] = ()
        self._is_over = False
        self._why_closed: str | None = None
        self.gateway: str | None = None
        # What came first, in one piece: most likely the registration and nothing else.
        self.first_words = b""
        self.dialect = ""  # once it is certain
        self.introduced = ""  # the registration of a stranger whose dialect is certain
        self.turned_away = ""  # why
        self.name = "nameless"  # for people; who it is, is `gateway`
        self.address = ""
        self.over = asyncio.Event()  # its transport is gone
        self.opened_s = self.heard_s = self.probed_s = owner.now_s()
        self.spoken_s: float | None = None
        self.requests = self.heartbeats = self.uploads = self.unrecognised = 0
        self.unrecognised_sample = b""
        self.bytes_in = self.bytes_out = self.dropped_bytes = 0

    def send(self, frame: bytes, port: int) -> None:
        """A request to the line behind `port`. Raises LinkDown."""
        assert self.gateway is not None, "a stranger is never spoken to"
        transport = self._transport
        if transport is None or transport.is_closing():
            raise LinkDown(self._why_closed or f"{self.name}: the connection is closed")
        self.requests += 1
        self._speak(transport, self._stream.wrap(frame, port))

    def say(self, data: bytes) -> bool:
        """Something for the box itself, as it is; False: the connection is gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._speak(self._transport, data)
        return True

    def _speak(self, transport: asyncio.Transport, data: bytes) -> None:
        self.spoken_s = self._owner.now_s()
        self.bytes_out += len(data)
        transport.write(data)

    def open_links(self, ports: Sequence[int]) -> tuple[PortLink, ...]:
        """A link for each line behind this box. Called once, when it has a name."""
        shown = itertools.cycle(("",)) if len(ports) == 1 else (f", port {n}" for n in ports)
        self._links = tuple(
            PortLink(self, self.name + tail, port) for port, tail in zip(ports, shown, strict=False)
        )
        return self._links

    def replaced(self, why: str) -> None:
        """A newer session of this box is being attached: whoever loses this one is told that."""
        self._why_closed = why

    def hang_up(self, why: str) -> None:
        """Close from our side, and let the lines know the reason."""
        if self._is_over:
            return
        self._is_over = True
        self._why_closed = why = self._why_closed or why
        if self._transport is not None:
            self._transport.abort()
        for link in self._links:
            link.lost(why)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if not self.address:  # of a serial port it is known before
            self.address = f"{peer[0]}:{peer[1]}" if peer else "unknown"
        if not self._owner.may_open(self):
            self._is_over = True
            self._transport.abort()
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            tune(sock)

    def data_received(self, data: bytes) -> None:
        self.heard_s = self._owner.now_s()
        if self.bytes_in == 0:
            self.first_words = data[:SAMPLE_BYTES_MAX]
        self.bytes_in += len(data)
        # Once we have spoken, any bytes may be part of an answer; the stream still takes out what
        # is certainly a heartbeat, and readers step over the rest.
        for event in self._stream.receive(data, answer_due=self.requests > 0):
            if self._is_over:
                return
            match event:
                case Bytes():
                    self._pass_up(event)
                case Heartbeat():
                    self.heartbeats += 1
                case _:
                    self._heard_of_the_box(event)

    def _pass_up(self, event: Bytes) -> None:
        link = self._link(event.port)
        if link is None or not link.pass_up(event.data):
            self.dropped_bytes += len(event.data)

    def _link(self, port: int) -> PortLink | None:
        for link in self._links:
            if link.port == port:
                return link
        return None

    def _heard_of_the_box(self, event: Event) -> None:
        """What concerns the box itself, not one of its lines."""
        match event:
            case Answer():
                if self._transport is not None and not self._transport.is_closing():
                    self._speak(self._transport, event.data)
            case Pushed():
                self.uploads += 1
                self._owner.pushed(self._certain_gateway(), event.upload)
            case Said():
                self._owner.said(self._certain_gateway(), event)
            case Taken():
                if (link := self._link(event.port)) is not None:
                    link.taken()
            case Told():
                self._owner.told(self._certain_gateway(), event.facts)
            case Unrecognised():
                self.unrecognised += 1
                self.unrecognised_sample = event.sample
            case _:
                self._heard_a_name(event)

    def _heard_a_name(self, event: Event) -> None:
        fresh = self._stream
        if isinstance(fresh, FreshStream) and fresh.settled is not None:
            self.dialect, self._stream = fresh.settled
        match event:
            case Named():
                self.gateway = event.name
                self.name = f"{_SHOWN.get(self.dialect, 'dtu')} {event.name} from {self.address}"
                self._owner.named(self)
            case Introduced():
                self.introduced = event.registration
            case TurnedAway():
                self.turned_away = event.why
                self.hang_up(f"{self.name} was turned away: {event.why}")
            case Overflow():
                self.hang_up("too many bytes without a name")
            case _:
                raise AssertionError(f"{event} is handled elsewhere")

    def _certain_gateway(self) -> str:
        assert self.gateway is not None, "a stream names its gateway first"
        return self.gateway

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._is_over = True
        self.over.set()
        if self._why_closed is None:
            self._why_closed = f"{_SHOWN.get(self.dialect, 'DTU')} {self.gateway}: {why_lost(exc)}"
        self._owner.ended(self)
        for link in self._links:
            link.lost(self._why_closed)

    # for the console

    def state(self, now_s: float) -> SessionState:
        """The session as it is now."""
        return SessionState(
            gateway=self.gateway or "",
            dialect=self.dialect,
            address=self.address,
            age_s=now_s - self.opened_s,
            heard_s_ago=now_s - self.heard_s,
            spoken_s_ago=None if self.spoken_s is None else now_s - self.spoken_s,
            heartbeats=self.heartbeats,
            uploads=self.uploads,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            dropped_bytes=self.dropped_bytes,
            unrecognised=self.unrecognised,
            unrecognised_sample=self.unrecognised_sample,
        )


# What a box is called in sentences, where it is no DTU.
_SHOWN = {"acrel_4g": "4G meter", "acrel_gateway": "gateway", "terminal": "terminal"}
