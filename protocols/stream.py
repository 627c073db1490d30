"""What a box that dials in says, whatever its dialect: a stream and its events.

A stream is one TCP connection from its first byte to its last, as a value machine: bytes in, events
out. It is told when an answer is due and what time it is; it never waits, never raises and never
keeps more than a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from protocols.keys import GatewaySecret
from protocols.meter_type import Options
from protocols.uplink import Upload


@dataclass(frozen=True, slots=True)
class Named:
    """The stream belongs to this gateway; said once, first."""

    name: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life without meaning for the line."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes of the RS485 line behind `port`, or noise: its readers can tell."""

    data: bytes
    port: int = 1


@dataclass(frozen=True, slots=True)
class Introduced:
    """A sound frame of this dialect, from a box under a name nobody here knows: a stranger, whom a
    person may adopt under this registration. Said once; nothing else follows from its stream."""

    registration: str


@dataclass(frozen=True, slots=True)
class Taken:
    """The box says it took the last frame for `port`, and shows no answer of the meter. That proves
    nothing; it only means that waiting longer for an answer is of no use."""

    port: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What the box waits for (an acknowledgement, the time): send it at once, as it is."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """What the box says about itself: iccid, imei, rssi_dbm, firmware, interval_s."""

    facts: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Pushed:
    """A reading the box sent by itself."""

    upload: Upload


@dataclass(frozen=True, slots=True)
class Said:
    """What a terminal says to us and not for its line; HELLO once it has proved itself. The fields
    are whatever it sent: whoever uses them checks them."""

    what: str  # the name of its frame type
    sequence: int  # an answer repeats it
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """A sound frame that nothing here understands: counted, and a sample of it kept."""

    sample: bytes


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """The box could not prove who it is; hang up. `why` is one clause for people."""

    why: str


@dataclass(frozen=True, slots=True)
class Overflow:
    """Too much was said without a name; the stream gives no more events."""

    sample: bytes


Event: TypeAlias = (
    Named
    | Heartbeat
    | Bytes
    | Introduced
    | Taken
    | Answer
    | Told
    | Pushed
    | Said
    | Unrecognised
    | TurnedAway
    | Overflow
)


class Stream(Protocol):
    """One TCP connection of a box, from its first byte."""

    @property
    def name(self) -> str | None:
        """Of the gateway, once it has named itself."""
        ...

    @property
    def sample(self) -> bytes:
        """Of the first bytes, while it has no name."""
        ...

    def receive(self, data: bytes, *, answer_due: bool = False) -> tuple[Event, ...]:
        """What these bytes mean. `answer_due`: a request is out and its answer has not come."""
        ...

    def wrap(self, frame: bytes, port: int = 1) -> bytes:
        """One frame for the line behind `port`, as this dialect carries it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What a dialect must know of one gateway to recognise it."""

    registration: str  # as in the site file
    heartbeat: str | None = None  # transparent DTUs only
    options: Options = field(default_factory=dict)
    secret: GatewaySecret | None = None  # of a dialect that asks for proof


DialNow: TypeAlias = Callable[[str], datetime]  # the naive local time at the gateway of this name
NewStream: TypeAlias = Callable[[DialNow], Stream]  # one for each connection
