"""Every dialect that may dial the one port, and how a fresh connection finds its own.

A connection is looked at where a frame may begin: at its first byte, and where bytes arrive after a
pause. A dialect with a frame of its own is told by its magic, and believed once a whole frame has
named somebody: until then the bytes are also offered to the transparent DTUs' patterns, so that a
chance beginning costs nobody the line (spec field_protocols.md C1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from protocols.acrel_4g import MAGIC as ACREL_4G_MAGIC
from protocols.acrel_4g import known_meters
from protocols.acrel_gateway import FIRST_BYTES as ACREL_GATEWAY_MAGIC
from protocols.acrel_gateway import known_gateways
from protocols.dtu import BadPattern, DtuPatterns, DtuStream, Registry, parse_pattern
from protocols.dtu_framed import ddp_begins, four_faith_begins, known_ddp, known_four_faith
from protocols.stream import Box, DialNow, Event, Introduced, Named, NewStream, Stream, TurnedAway
from protocols.terminal_stream import known_terminals, terminal_begins

# Whether bytes begin as a dialect does; None: too few to tell, for some tens of bytes at most.
Begins: TypeAlias = Callable[[bytes], bool | None]

# Places in dribbled first bytes where a frame may have begun: each byte of a phone number is one.
BEGINNINGS_MAX = 32


@dataclass(frozen=True, slots=True)
class Dialect:
    """A way of speaking with frames of its own."""

    name: str  # as in the site file: the kind of the gateway, or its option `dialect`
    begins: Begins
    # Makes the streams that know these boxes, by gateway. Raises BadPattern.
    knowing: Callable[[Mapping[str, Box]], NewStream]
    # Its first bytes alone tell it. Otherwise only its whole shape does, and the registrations of
    # transparent DTUs are compared first.
    told_by_magic: bool = True


def magic(first: bytes) -> Begins:
    """A dialect whose frames all begin with these bytes."""

    def begins(data: bytes) -> bool | None:
        if len(data) < len(first):
            return None if first.startswith(data) else False
        return data.startswith(first)

    return begins


TRANSPARENT = "transparent"  # a DTU without frames of its own; see protocols/dtu.py
# In the order in which they are asked. One line is a dialect.
DIALECTS = (
    Dialect("acrel_4g", magic(ACREL_4G_MAGIC), known_meters),
    Dialect("acrel_gateway", magic(ACREL_GATEWAY_MAGIC), known_gateways),
    Dialect("terminal", terminal_begins, known_terminals),
    Dialect("ddp", ddp_begins, known_ddp),
    Dialect("four_faith", four_faith_begins, known_four_faith, told_by_magic=False),
)
DIALECT_NAMES = (TRANSPARENT, *(dialect.name for dialect in DIALECTS))


class Switchboard:
    """All boxes that may dial one port. Immutable: a change makes a new one.

    Raises BadPattern where a box cannot be recognised or two could be taken for each other.
    """

    __slots__ = ("_framed", "_registry", "_wanted")

    def __init__(self, boxes: Mapping[str, tuple[str, Box]]) -> None:
        """`boxes`: dialect and box of each gateway."""
        by_dialect: dict[str, dict[str, Box]] = {name: {} for name in DIALECT_NAMES}
        for gateway, (dialect, box) in boxes.items():
            if dialect not in by_dialect:
                raise BadPattern(f"{gateway}: nothing here speaks {dialect}")
            by_dialect[dialect][gateway] = box
        self._registry = Registry(
            {gateway: _patterns(box) for gateway, box in by_dialect[TRANSPARENT].items()}
        )
        self._framed = tuple(
            (dialect, dialect.knowing(by_dialect[dialect.name])) for dialect in DIALECTS
        )

    def new_stream(self, dial_now: DialNow) -> FreshStream:
        """The stream of a connection that has just been opened."""
        return FreshStream(self._framed, DtuStream(self._registry), dial_now)


def _patterns(box: Box) -> DtuPatterns:
    return DtuPatterns(
        registration=parse_pattern(box.registration),
        heartbeat=parse_pattern(box.heartbeat) if box.heartbeat else None,
    )


class FreshStream:
    """A connection that has not said yet which dialect it speaks. Never raises.

    Once it is `settled`, that stream takes over and this one only passes on.
    """

    __slots__ = (
        "_beginnings",
        "_candidates",
        "_dial_now",
        "_framed",
        "_heard_bytes",
        "_transparent",
        "settled",
    )

    def __init__(
        self,
        framed: tuple[tuple[Dialect, NewStream], ...],
        transparent: DtuStream,
        dial_now: DialNow,
    ) -> None:
        self.settled: tuple[str, Stream] | None = None  # dialect and its stream
        self._framed = framed
        self._transparent = transparent
        self._dial_now = dial_now
        # Where a frame may have begun, with what came since; kept while that cannot be told yet.
        self._beginnings: list[bytes] = []
        self._heard_bytes = 0
        self._candidates: dict[str, Stream] = {}

    @property
    def name(self) -> str | None:
        """Of the gateway, once it has named itself."""
        return None if self.settled is None else self.settled[1].name

    @property
    def dialect(self) -> str:
        """Which dialect it speaks, once that is proven; empty: not yet."""
        return "" if self.settled is None else self.settled[0]

    @property
    def sample(self) -> bytes:
        """Of the first bytes, while it has no name."""
        return (self._transparent if self.settled is None else self.settled[1]).sample

    def receive(self, data: bytes, *, answer_due: bool = False) -> tuple[Event, ...]:
        """What these bytes mean."""
        if self.settled is not None:
            return self.settled[1].receive(data, answer_due=answer_due)
        if not data:
            return ()
        self._heard_bytes += len(data)
        self._beginnings = [*(beginning + data for beginning in self._beginnings), data]
        events = self._of_framed(data, told_by_magic=True)
        if self._is_settled():
            return events
        events += self._transparent.receive(data)
        if self._transparent.name is not None:
            self._settle(TRANSPARENT, self._transparent)
            return events
        events += self._of_framed(data, told_by_magic=False)
        hopeful = [b for b in self._beginnings if self._may_become(b)]
        self._beginnings = hopeful[:1] + hopeful[1:][1 - BEGINNINGS_MAX :]
        return events

    def wrap(self, frame: bytes, port: int = 1) -> bytes:
        """One frame for the line behind `port`, as the settled dialect carries it."""
        return frame if self.settled is None else self.settled[1].wrap(frame, port)

    def _is_settled(self) -> bool:
        return self.settled is not None

    def _may_become(self, beginning: bytes) -> bool:
        return any(dialect.begins(beginning) is None for dialect, _ in self._framed)

    def _of_framed(self, data: bytes, *, told_by_magic: bool) -> tuple[Event, ...]:
        """What dialects with frames of their own make of it. One is tried from where a frame of it
        begins, and then hears everything until somebody is named."""
        said: tuple[Event, ...] = ()
        for dialect, new_stream in self._framed:
            if dialect.told_by_magic is not told_by_magic:
                continue
            stream, heard = self._candidates.get(dialect.name), data
            if stream is None:
                beginning = next((b for b in self._beginnings if dialect.begins(b)), None)
                if beginning is None:
                    continue
                stream, heard = new_stream(self._dial_now), beginning
                self._candidates[dialect.name] = stream
            events = stream.receive(heard)
            if any(isinstance(event, Named | TurnedAway) for event in events):
                self._settle(dialect.name, stream)
                return (*said, *events)
            if any(isinstance(event, Introduced) for event in events):
                # A stranger by its shape alone may be a chance in the middle of something else.
                if told_by_magic or (len(heard) == self._heard_bytes):
                    self._settle(dialect.name, stream)
                    return (*said, *events)
                del self._candidates[dialect.name]
                continue
            said += events
        return said

    def _settle(self, dialect: str, stream: Stream) -> None:
        self.settled = (dialect, stream)
        self._candidates = {}
        self._beginnings = []
