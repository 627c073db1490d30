"""The listener for DTUs: who they are, who is a stranger, which session counts, who has gone quiet.

A box on a mobile network dials us and says its registration. Its address means nothing and changes
with every call, so identity is the registration alone, and the newest session wins.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateways.bus import precise_clock
from gateways.link import ByteLink
from gateways.session import Session, SessionState
from protocols.dtu import (
    BEFORE_NAME_S_MAX,
    DOWNLINK_S_MAX,
    DtuPatterns,
    DtuStream,
    Registry,
    idle_s_max,
    printable,
)

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
class DtuConfig:
    """One DTU that may dial in."""

    patterns: DtuPatterns
    heartbeat_s: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """Somebody who dialled in and is nobody we know. An operator may adopt it."""

    sample: bytes  # what it said first; empty: it said nothing
    address: str  # of its last call
    calls: int
    last_seen_s: float  # since 1970

    @property
    def shown(self) -> str:
        """The sample as hex and as text."""
        return printable(self.sample)


class DialIn:
    """Accepts DTUs on one port. Names it knows become links, given to `on_link`."""

    def __init__(
        self,
        host: str,
        port: int,
        gateways: Mapping[str, DtuConfig],
        on_link: Callable[[str, ByteLink], None],
        *,
        idle_probe: Callable[[str], None] | None = None,
        limits: DialInLimits | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        """`on_link(gateway, link)` is called for each new session; usually it is Line.attach.
        `idle_probe(gateway)` is called when we have not spoken to a DTU for long: read something,
        or the DTU reboots. Raises BadPattern when registrations could be confused.
        """
        self.host = host
        self.port = port  # 0: any; the true one after start()
        self._on_link = on_link
        self._idle_probe = idle_probe
        self._limits = limits or DialInLimits()
        self._wall_s = wall_s
        self.now_s = precise_clock(asyncio.get_running_loop())
        self._gateways: dict[str, DtuConfig] = {}
        self._registry = Registry({})
        self._nameless: set[Session] = set()
        self._by_name: dict[str, Session] = {}
        self._strangers: OrderedDict[bytes, Stranger] = OrderedDict()
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
                lambda: Session(self, DtuStream(self._registry)),
                self.host,
                self.port,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise ListenError(_why_not_listening(self.host, self.port, error)) from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._sweeper = loop.create_task(self._sweep_for_ever(), name=f"dial-in {self.port}")
        log.info("listening for DTUs on %s:%d", self.host, self.port)

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

    def set_gateways(self, gateways: Mapping[str, DtuConfig]) -> None:
        """Know these from now on. Raises BadPattern.

        Sessions of gateways that are gone or changed are closed, and those that have no name yet:
        they dial again and are met anew.
        """
        registry = Registry({name: config.patterns for name, config in gateways.items()})
        before, self._gateways, self._registry = self._gateways, dict(gateways), registry
        for name, session in tuple(self._by_name.items()):
            if self._gateways.get(name) != before.get(name):
                del self._by_name[name]
                session.hang_up(f"DTU {name} was removed or changed")
        for session in tuple(self._nameless):
            self.ended(session)
            session.hang_up("introduce yourself again")
        for sample in tuple(self._strangers):
            if DtuStream(registry).receive(sample):
                del self._strangers[sample]

    def add_gateway(self, name: str, config: DtuConfig) -> None:
        """Know one more. Raises BadPattern."""
        self.set_gateways({**self._gateways, name: config})

    def remove_gateway(self, name: str) -> None:
        """Forget one; its session is closed."""
        self.set_gateways({known: c for known, c in self._gateways.items() if known != name})

    def sessions(self) -> tuple[SessionState, ...]:
        """The named sessions, by gateway."""
        now_s = self.now_s()
        return tuple(self._by_name[name].state(now_s) for name in sorted(self._by_name))

    def strangers(self) -> tuple[Stranger, ...]:
        """Who dialled in without being known, the last first; those still connected included."""
        seen = {stranger.sample: stranger for stranger in self._strangers.values()}
        for session in self._nameless:
            if session.first_words:
                seen[session.first_words] = self._met(session, seen.get(session.first_words))
        return tuple(sorted(seen.values(), key=lambda stranger: -stranger.last_seen_s))

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

    def named(self, session: Session, name: str) -> None:
        """A session said a name we know. It replaces an older one of that name."""
        self._nameless.discard(session)
        old = self._by_name.get(name)
        self._by_name[name] = session
        self._on_link(name, session)
        if old is not None:
            log.info("DTU %s dialled in again from %s", name, session.address)
            old.hang_up(f"{name} dialled in again")

    def ended(self, session: Session) -> None:
        """A session is over, whoever ended it."""
        if session in self._nameless:
            self._nameless.discard(session)
            self._remember(session)
        elif session.gateway is not None and self._by_name.get(session.gateway) is session:
            del self._by_name[session.gateway]

    # ---- strangers ------------------------------------------------------------------------------

    def _remember(self, session: Session) -> None:
        known = self._strangers.pop(session.first_words, None)
        if known is None:
            log.info(
                "a stranger called port %d from %s: %s",
                self.port,
                session.address,
                printable(session.first_words) or "said nothing",
            )
        self._strangers[session.first_words] = self._met(session, known)
        while len(self._strangers) > self._limits.strangers_kept_max:
            self._strangers.popitem(last=False)

    def _met(self, session: Session, known: Stranger | None) -> Stranger:
        return Stranger(
            sample=session.first_words,
            address=session.address,
            calls=1 + (0 if known is None else known.calls),
            last_seen_s=self._wall_s() - (self.now_s() - session.heard_s),
        )

    # ---- silence --------------------------------------------------------------------------------

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                self._sweep(self.now_s())
            except Exception:
                log.exception("the look for silent DTUs failed; the next is in a second")

    def _sweep(self, now_s: float) -> None:
        for session in tuple(self._nameless):
            if now_s - session.opened_s > self._limits.before_name_s_max:
                session.hang_up("no name in time")
        for name, session in tuple(self._by_name.items()):
            quiet_s = now_s - session.heard_s
            if quiet_s > idle_s_max(self._gateways[name].heartbeat_s):
                session.hang_up(f"DTU {name} was silent for {quiet_s:.0f} s")
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
