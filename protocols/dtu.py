"""A transparent DTU's byte stream: who dialled in, heartbeats, and the bytes of its RS485 line.

No two makers agree (spec field_protocols.md C1). The registration comes once, or in front of every
packet; heartbeats come when the DTU thinks it is idle, glued to whatever else is there. What holds
for all: a name is settled before anything is believed, and while an answer is due nothing is taken
out of the stream that could be part of it. Answers carry a checksum, so their readers step over a
heartbeat by themselves.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

# A stranger may be a meter speaking another protocol: enough to recognise it, not to fill memory.
BYTES_BEFORE_NAME_MAX = 2048
# A registration comes within seconds of the connection; weak 4G signals cost some tens of them.
BEFORE_NAME_S_MAX = 60
SAMPLE_BYTES_MAX = 64  # of a stranger's first words, for the console: longer than any registration
PATTERN_BYTES_MAX = 80  # the longest registration or heartbeat a maker's tool takes
# A repeat of fewer bytes than this could be payload by chance, so it is not taken out.
REPEAT_BYTES_MIN = 4
STARTS_MAX = 8  # places in the first bytes where a registration may begin: junk may come before it
assert SAMPLE_BYTES_MAX <= BYTES_BEFORE_NAME_MAX
assert PATTERN_BYTES_MAX < BYTES_BEFORE_NAME_MAX

# Ebyte and other DTUs reboot after 300 s without a byte from us: speak before that.
DOWNLINK_S_MAX = 240
assert DOWNLINK_S_MAX < 300


def idle_s_max(heartbeat_s: int) -> int:
    """How long a session may be silent before it is dead: two and a half heartbeats."""
    return heartbeat_s * 5 // 2


class BadPattern(ValueError):
    """A registration or heartbeat pattern is wrong: one sentence that names it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a DTU sends as its registration or heartbeat."""

    text: str  # as written in the site file
    exact: tuple[bytes, ...]  # its spellings on the wire; none for a regular expression
    expression: re.Pattern[bytes] | None = None


def parse_pattern(text: str) -> Pattern:
    """Read "ascii:…", "hex:…", "iccid:…", "imei:…" or "regex:…". Raises BadPattern.

    A regular expression is matched from the first byte on; write it so that its end is certain,
    as TCP may deliver a registration in two parts.
    """
    kind, colon, rest = text.partition(":")
    parse = _PARSERS.get(kind)
    if not colon or parse is None:
        raise BadPattern(f'"{text}" must begin with ascii:, hex:, iccid:, imei: or regex:')
    if not rest.strip():
        raise BadPattern(f'"{text}" has nothing after the colon')
    pattern = parse(text, rest)
    if any(len(spelling) > PATTERN_BYTES_MAX for spelling in pattern.exact):
        raise BadPattern(f'"{text}" is longer than {PATTERN_BYTES_MAX} bytes')
    return pattern


def _parse_ascii(text: str, rest: str) -> Pattern:
    if not rest.isascii():
        raise BadPattern(f'"{text}" holds more than ASCII; write such bytes as hex:')
    return Pattern(text, (rest.encode(),))


def _parse_hex(text: str, rest: str) -> Pattern:
    try:
        return Pattern(text, (bytes.fromhex(rest),))
    except ValueError:
        raise BadPattern(f'"{text}" is not hex: two digits 0-9 A-F for each byte') from None


def _parse_iccid(text: str, rest: str) -> Pattern:
    if not re.fullmatch("89[0-9A-Fa-f]{16,20}", rest):
        raise BadPattern(f'"{text}" is no ICCID: 18 to 22 digits that begin with 89')
    return Pattern(text, tuple({rest.upper().encode(), rest.lower().encode()}))


def _parse_imei(text: str, rest: str) -> Pattern:
    if not re.fullmatch("[0-9]{15}", rest):
        raise BadPattern(f'"{text}" is no IMEI: 15 digits')
    return Pattern(text, (rest.encode(),))


def _parse_regex(text: str, rest: str) -> Pattern:
    try:
        expression = re.compile(rest.encode(), re.DOTALL)
    except re.error as error:
        raise BadPattern(f'"{text}" is no regular expression: {error}') from None
    if expression.match(b""):
        raise BadPattern(f'"{text}" also matches nothing at all, so it would name everybody')
    return Pattern(text, (), expression)


_PARSERS = {
    "ascii": _parse_ascii,
    "hex": _parse_hex,
    "iccid": _parse_iccid,
    "imei": _parse_imei,
    "regex": _parse_regex,
}


@dataclass(frozen=True, slots=True)
class Match:
    """The first bytes are the registration of this DTU."""

    name: str
    consumed: int  # bytes of registration


class NoMatch(Enum):
    """Why first bytes name nobody."""

    NEED_MORE = "need_more"  # it may still become a registration we know
    STRANGER = "stranger"  # nothing we know begins like this


@dataclass(frozen=True, slots=True)
class DtuPatterns:
    """How one configured DTU is recognised."""

    registration: Pattern
    heartbeat: Pattern | None = None  # None: whatever comes when nothing is due


class Registry:
    """All configured DTUs of a listener. Immutable: a change makes a new one.

    Raises BadPattern where two registrations could be taken for each other.
    """

    __slots__ = ("_exact", "_expressions", "_heartbeats", "_longest_first", "_sorted")

    def __init__(self, dtus: Mapping[str, DtuPatterns]) -> None:
        self._exact: dict[bytes, str] = {}
        self._expressions: list[tuple[re.Pattern[bytes], str]] = []
        self._heartbeats: dict[str, bytes | None] = {}
        for name, dtu in dtus.items():
            self._add(name, dtu)
        self._sorted = sorted(self._exact)
        self._longest_first = sorted({len(exact) for exact in self._exact}, reverse=True)
        for one, other in zip(self._sorted, self._sorted[1:], strict=False):
            if other.startswith(one):
                raise BadPattern(
                    f"the registration of {self._exact[other]} begins with that of "
                    f"{self._exact[one]}, so they cannot be told apart; make them equally long"
                )

    def _add(self, name: str, dtu: DtuPatterns) -> None:
        for exact in dtu.registration.exact:
            if exact in self._exact:
                raise BadPattern(f"{self._exact[exact]} and {name} have the same registration")
            self._exact[exact] = name
        if dtu.registration.expression is not None:
            self._expressions.append((dtu.registration.expression, name))
        if dtu.heartbeat is not None and len(dtu.heartbeat.exact) != 1:
            raise BadPattern(f"the heartbeat of {name} must be ascii: or hex:")
        self._heartbeats[name] = dtu.heartbeat.exact[0] if dtu.heartbeat else None

    def heartbeat(self, name: str) -> bytes | None:
        return self._heartbeats[name]

    def match(self, first: bytes) -> Match | NoMatch:
        """Whose registration these bytes begin with. Never raises."""
        for length in self._longest_first:
            name = self._exact.get(first[:length])
            if name is not None:
                return Match(name, length)
        for expression, name in self._expressions:
            found = expression.match(first)
            if found is not None and found.end() > 0:
                return Match(name, found.end())
        at = bisect_left(self._sorted, first)
        may_grow = at < len(self._sorted) and self._sorted[at].startswith(first)
        return NoMatch.NEED_MORE if may_grow or self._expressions else NoMatch.STRANGER


@dataclass(frozen=True, slots=True)
class Named:
    """The stream belongs to this DTU; said once, first."""

    name: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life without meaning for the line."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes of the RS485 line, or noise: its readers can tell."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Overflow:
    """Too much was said without a name; the stream gives no more events."""

    sample: bytes


Event: TypeAlias = Named | Heartbeat | Bytes | Overflow


class DtuStream:
    """One TCP connection of a DTU, from its first byte. Never raises."""

    __slots__ = (
        "_first",
        "_heartbeat",
        "_overflowed",
        "_prefixed",
        "_registration",
        "_registry",
        "_starts",
        "name",
        "sample",
    )

    def __init__(self, registry: Registry) -> None:
        self.name: str | None = None
        self.sample = b""  # of the first bytes, while it has no name
        self._registry = registry
        self._first = b""
        self._starts: list[int] = []
        self._overflowed = False
        self._registration = b""
        self._heartbeat: bytes | None = None
        self._prefixed = False  # it has put its registration in front of a packet

    def receive(self, data: bytes, *, answer_due: bool = False) -> tuple[Event, ...]:
        """What these bytes mean. `answer_due`: a request is out and its answer has not come."""
        if self.name is not None:
            return self._of_known(data, answer_due)
        if self._overflowed or not data:
            return ()
        return self._of_unknown(data)

    def _of_unknown(self, data: bytes) -> tuple[Event, ...]:
        self._starts.append(len(self._first))
        self._first += data
        self.sample = self._first[:SAMPLE_BYTES_MAX]
        hopeful: list[int] = []
        for start in self._starts:
            found = self._registry.match(self._first[start : start + BYTES_BEFORE_NAME_MAX])
            if isinstance(found, Match):
                return self._settle(found, start)
            if found is NoMatch.NEED_MORE:
                hopeful.append(start)
        self._starts = hopeful[:1] + hopeful[1:][1 - STARTS_MAX :]
        if len(self._first) > BYTES_BEFORE_NAME_MAX:
            self._overflowed = True
            self._first = b""
            return (Overflow(self.sample),)
        return ()

    def _settle(self, found: Match, start: int) -> tuple[Event, ...]:
        end = start + found.consumed
        rest = self._first[end:]
        self.name = found.name
        self._registration = self._first[start:end]
        self._heartbeat = self._registry.heartbeat(found.name)
        self._first, self._starts = b"", []
        return (Named(found.name), *self._of_known(rest, answer_due=False))

    def _of_known(self, data: bytes, answer_due: bool) -> tuple[Event, ...]:
        if not data:
            return ()
        registration = self._registration
        if data.startswith(registration) and len(registration) >= REPEAT_BYTES_MIN:
            if len(data) == len(registration):
                return (Heartbeat(data),)  # said its name again and nothing else
            self._prefixed = True
        if self._prefixed:
            # Packets may be glued, so it may stand anywhere.
            data = data.replace(registration, b"")
            if not data:
                return (Heartbeat(registration),)
        if answer_due:
            whole = data == self._heartbeat and len(data) >= REPEAT_BYTES_MIN
            return (Heartbeat(data),) if whole else (Bytes(data),)
        return self._idle(data)

    def _idle(self, data: bytes) -> tuple[Event, ...]:
        beat = self._heartbeat
        if beat is None:
            return (Heartbeat(data),)
        rest = data
        while rest.startswith(beat):
            rest = rest[len(beat) :]
        while rest.endswith(beat):
            rest = rest[: -len(beat)]
        events: tuple[Event, ...] = (Heartbeat(beat),) if len(rest) < len(data) else ()
        return (*events, Bytes(rest)) if rest else events


def printable(sample: bytes) -> str:
    """A sample as hex and as text, for the console's list of strangers."""
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in sample)
    return f"{sample.hex(' ')}  {text}"
