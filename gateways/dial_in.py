"""The listener for boxes that dial in: who they are, who is a stranger, which session counts, who
has gone quiet.

A box on a mobile network dials us and says its registration, in whatever dialect. Its address means
nothing and changes with every call, so identity is the registration alone, and the newest session
wins.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateways.bus import precise_clock
from gateways.session import PortLink, Session, SessionState
from gateways.strangers import Stranger, Strangers
from protocols.dialects import TRANSPARENT, Switchboard
from protocols.dtu import BEFORE_NAME_S_MAX, DOWNLINK_S_MAX, idle_s_max
from protocols.stream import Box, DialNow, Named, Said
from protocols.uplink import Upload

log = logging.getLogger(__name__)

SWEEP_S = 1.0  # how often sessions are looked at for silence

# The idle probe is asked for this long before a DTU would miss our voice, and again until we spoke:
# its line may be busy waiting for a silent meter (30 s at most).
PROBE_AHEAD_S = 60.0
PROBE_EVERY_S = 5.0
assert PROBE_AHEAD_S < DOWNLINK_S_MAX

BACKLOG = 1024  # after a restart all DTUs of a town dial at once


class ListenError(Exception):
    """The listener could not start. The text is one sentence for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialInLimits:
    """What strangers can take from us."""

    sockets_max: int = 12_000  # 10,000 lines of one process, and their sessions while they change
    nameless_max: int = 2_000  # of these; more come only from an attack, or all at once: they retry
    before_name_s_max: float = BEFORE_NAME_S_MAX
    strangers_kept_max: int = 100  # as many as a person will read


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxConfig:
    """One box that may dial in."""

    box: Box
    dialect: str = TRANSPARENT  # of protocols/dialects.py
    heartbeat_s: int = 60
    ports: tuple[int, ...] = (1,)  # of its lines


def nothing_told(gateway: str, facts: Mapping[str, str | int]) -> None:
    """The default of `on_facts`: what boxes say about themselves is not kept."""


def nothing_pushed(gateway: str, upload: Upload) -> None:
    """The default of `on_upload`: what boxes read by themselves is not kept."""


def nothing_said(gateway: str, said: Said) -> None:
    """The default of `on_said`: no service is behind terminals."""


def utc_dial(gateway: str) -> datetime:
    """The default of `dial_now`: only right where nobody asks, or in Greenwich."""
    return datetime(*time.gmtime()[:6])  # noqa: DTZ001  a dial


class DialIn:
    """Accepts boxes on one port. Those it knows become links, given to `on_link`."""

    def __init__(
        self,
        host: str,
        port: int,
        gateways: Mapping[str, BoxConfig],
        on_link: Callable[[str, PortLink], None],
        *,
        on_facts: Callable[[str, Mapping[str, str | int]], None] = nothing_told,
        on_upload: Callable[[str, Upload], None] = nothing_pushed,
        on_said: Callable[[str, Said], None] = nothing_said,
        dial_now: DialNow = utc_dial,
        idle_probe: Callable[[str], None] | None = None,
        limits: DialInLimits | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        """`on_link(gateway, link)` is called for each line of each new session; usually it is
        Line.attach. `on_facts(gateway, facts)` gets what a box says about itself,
        `on_upload(gateway, upload)` what it read by itself, `on_said(gateway, said)` what a
        terminal says; all must come back at once.
        `dial_now(gateway)` is the local time a box is told.
        `idle_probe(gateway)` is called when we have not spoken to a box for long: read something,
        or it reboots. Raises BadPattern when registrations could be confused.
        """
        self.host = host
        self.port = port  # 0: any; the true one after start()
        self._on_link = on_link
        self._on_facts = on_facts
        self._on_upload = on_upload
        self._on_said = on_said
        self._dial_now = dial_now
        self._idle_probe = idle_probe
        self._limits = limits or DialInLimits()
        self._wall_s = wall_s
        self.now_s = precise_clock(asyncio.get_running_loop())
        self._gateways: dict[str, BoxConfig] = {}
        self._switchboard = Switchboard({})
        self._nameless: set[Session] = set()
        self._by_name: dict[str, Session] = {}
        self._strangers = Strangers(lambda: self.port, self._limits.strangers_kept_max)
        self.refused = 0  # calls turned away because a limit was reached
        self._full = False
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.set_gateways(gateways)

    # ---- for the service ------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises ListenError."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Session(self, self._switchboard.new_stream(self._dial_now)),
                self.host,
                self.port,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise ListenError(_why_not_listening(self.host, self.port, error)) from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._sweeper = loop.create_task(self._sweep_for_ever(), name=f"dial-in {self.port}")
        log.info("listening for boxes that dial in on %s:%d", self.host, self.port)

    async def stop(self) -> None:
        """Hang up on everybody and close the port."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        if self._server is not None:
            self._server.close()
        for session in (*self._nameless, *self._by_name.values()):
            session.hang_up("the listener was stopped")
        if self._server is not None:
            await self._server.wait_closed()

    def at_port(self, device: str) -> Session:
        """A session for a box on a serial port of this machine; whoever opened that runs it."""
        session = Session(self, self._switchboard.new_stream(self._dial_now))
        session.address = device
        return session

    def set_gateways(self, gateways: Mapping[str, BoxConfig]) -> None:
        """Know these from now on. Raises BadPattern.

        Sessions of gateways that are gone or changed are closed, and those that have no name yet:
        they dial again and are met anew.
        """
        switchboard = Switchboard(
            {n: (config.dialect, config.box) for n, config in gateways.items()}
        )
        before, self._gateways = self._gateways, dict(gateways)
        self._switchboard = switchboard
        for name, session in tuple(self._by_name.items()):
            if self._gateways.get(name) != before.get(name):
                del self._by_name[name]
                session.hang_up(f"{name} was removed or changed")
        for session in tuple(self._nameless):
            self.ended(session)
            session.hang_up("introduce yourself again")
        self._strangers.forget(self._is_known)

    def _is_known(self, stranger: Stranger) -> bool:
        registered = (stranger.dialect, stranger.registration)
        if any((c.dialect, c.box.registration) == registered for c in self._gateways.values()):
            return True  # one that is named only once it has proved itself
        events = self._switchboard.new_stream(self._dial_now).receive(stranger.sample)
        return any(isinstance(event, Named) for event in events)

    def add_gateway(self, name: str, config: BoxConfig) -> None:
        """Know one more. Raises BadPattern."""
        self.set_gateways({**self._gateways, name: config})

    def remove_gateway(self, name: str) -> None:
        """Forget one; its session is closed."""
        self.set_gateways({known: c for known, c in self._gateways.items() if known != name})

    def say(self, gateway: str, data: bytes) -> bool:
        """Something for a box itself, as its dialect has it; False: it is not connected."""
        session = self._by_name.get(gateway)
        return session is not None and session.say(data)

    def sessions(self) -> tuple[SessionState, ...]:
        """The named sessions, by gateway."""
        now_s = self.now_s()
        return tuple(self._by_name[name].state(now_s) for name in sorted(self._by_name))

    def strangers(self) -> tuple[Stranger, ...]:
        """Who dialled in without being known, the last first; those still connected included."""
        return self._strangers.listed((one, self._last_seen_s(one)) for one in self._nameless)

    @property
    def turned_away(self) -> int:
        """Calls of boxes that could not prove who they are."""
        return self._strangers.turned_away

    # ---- SessionOwner ---------------------------------------------------------------------------

    def may_open(self, session: Session) -> bool:
        """Called for each new connection."""
        limits = self._limits
        everybody = len(self._nameless) + len(self._by_name)
        full = everybody >= limits.sockets_max or len(self._nameless) >= limits.nameless_max
        if full and not self._full:
            log.warning("port %d is full: %d sessions, more are turned away", self.port, everybody)
        self._full = full
        if full:
            self.refused += 1
            return False
        self._nameless.add(session)
        return True

    def ports_of(self, gateway: str) -> Sequence[int]:
        """The ports with a line of ours behind them."""
        return self._gateways[gateway].ports

    def named(self, session: Session) -> None:
        """A session said a name we know. It replaces an older one of that name."""
        name = session.gateway
        assert name is not None
        self._nameless.discard(session)
        old = self._by_name.get(name)
        if old is not None:
            log.info("%s dialled in again from %s", name, session.address)
            old.replaced(f"{name} dialled in again")
        self._by_name[name] = session
        for link in session.open_links(self.ports_of(name)):
            self._on_link(name, link)
        if old is not None:
            old.hang_up(f"{name} dialled in again")

    def said(self, gateway: str, said: Said) -> None:
        """A terminal said something to us."""
        self._on_said(gateway, said)

    def told(self, gateway: str, facts: Mapping[str, str | int]) -> None:
        """A box said something about itself."""
        self._on_facts(gateway, facts)

    def pushed(self, gateway: str, upload: Upload) -> None:
        """A box sent a reading by itself."""
        self._on_upload(gateway, upload)

    def ended(self, session: Session) -> None:
        """A session is over, whoever ended it."""
        gateway = session.gateway
        was_named = gateway is not None and self._by_name.get(gateway) is session
        if session in self._nameless or (was_named and session.turned_away):
            self._nameless.discard(session)
            self._strangers.remember(session, self._last_seen_s(session))
        if gateway is not None and was_named:
            del self._by_name[gateway]

    def _last_seen_s(self, session: Session) -> float:
        return self._wall_s() - (self.now_s() - session.heard_s)

    # ---- silence --------------------------------------------------------------------------------

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                self._sweep(self.now_s())
            except Exception:
                log.exception("the look for silent boxes failed; the next is in a second")

    def _sweep(self, now_s: float) -> None:
        for session in tuple(self._nameless):
            if now_s - session.opened_s > self._limits.before_name_s_max:
                session.hang_up("no name in time")
        for name, session in tuple(self._by_name.items()):
            quiet_s = now_s - session.heard_s
            if quiet_s > idle_s_max(self._gateways[name].heartbeat_s):
                session.hang_up(f"{name} was silent for {quiet_s:.0f} s")
            elif self._idle_probe is not None:
                self._probe_if_due(name, session, now_s)

    def _probe_if_due(self, name: str, session: Session, now_s: float) -> None:
        spoken_s = session.opened_s if session.spoken_s is None else session.spoken_s
        if now_s - spoken_s < DOWNLINK_S_MAX - PROBE_AHEAD_S:
            return
        if now_s - session.probed_s >= PROBE_EVERY_S:
            session.probed_s = now_s
            assert self._idle_probe is not None
            self._idle_probe(name)


def _why_not_listening(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use by another program: stop it or choose another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} may not be opened by this user: choose one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {host}: use 0.0.0.0 or one of its own"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"
