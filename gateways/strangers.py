"""Who dialled in and is nobody we know, or could not prove it: a short list for the console."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateways.session import Session
from protocols.dtu import meter_in, printable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """Somebody who dialled in and is nobody we know. An operator may adopt it."""

    sample: bytes  # what it said first; empty: it said nothing
    address: str  # of its last call
    calls: int
    last_seen_s: float  # since 1970
    dialect: str = ""  # once a whole frame has told it
    registration: str = ""  # under which it can be adopted, where its dialect tells one
    turned_away: str = ""  # it claimed to be somebody we know and could not prove it: why

    @property
    def shown(self) -> str:
        """The sample as hex and as text."""
        return printable(self.sample)


class Strangers:
    """The last of them, each once, however often it called."""

    def __init__(self, port: Callable[[], int], kept_max: int) -> None:
        self._port = port
        self._kept_max = kept_max
        self._known: OrderedDict[object, Stranger] = OrderedDict()
        self.turned_away = 0  # calls

    def remember(self, session: Session, last_seen_s: float) -> None:
        """A session ended without a name, or was turned away."""
        self.turned_away += bool(session.turned_away)
        key = _key(session)
        known = self._known.pop(key, None)
        if known is None:
            log.info(
                "a stranger called port %d from %s: %s",
                self._port(),
                session.address,
                session.turned_away
                or session.introduced
                or printable(session.first_words)
                or "said nothing",
            )
        self._known[key] = _met(session, known, last_seen_s)
        while len(self._known) > self._kept_max:
            self._known.popitem(last=False)

    def forget(self, is_known_now: Callable[[Stranger], bool]) -> None:
        """Take those off the list who are no strangers any more."""
        for key, stranger in tuple(self._known.items()):
            if is_known_now(stranger):
                del self._known[key]

    def listed(self, connected: Iterable[tuple[Session, float]]) -> tuple[Stranger, ...]:
        """The last first; nameless sessions still connected, with when they were last heard,
        included."""
        seen = dict(self._known)
        for session, last_seen_s in connected:
            if session.first_words:
                key = _key(session)
                seen[key] = _met(session, seen.get(key), last_seen_s)
        return tuple(sorted(seen.values(), key=lambda stranger: -stranger.last_seen_s))


def _key(session: Session) -> object:
    """What stays the same from call to call: a signal strength beside the name does not."""
    return (session.dialect, session.introduced) if session.introduced else session.first_words


def _met(session: Session, known: Stranger | None, last_seen_s: float) -> Stranger:
    return Stranger(
        sample=session.first_words,
        address=session.address,
        calls=1 + (0 if known is None else known.calls),
        last_seen_s=last_seen_s,
        dialect=session.dialect,
        registration=session.introduced or meter_in(session.first_words),
        turned_away=session.turned_away,
    )
