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

from protocols.stream import Bytes, Event, Heartbeat, Named, Overflow

# A stranger may be a meter speaking another protocol: enough to recognise it, not to fill memory.
BYTES_BEFORE_NAME_MAX = 2048
# A registration comes within seconds of the connection; weak 4G signals cost some tens of them.
BEFORE_NAME_S_MAX = 60
SAMPLE_BYTES_MAX = 96  # of a stranger's first words, for the console: longer than any registration
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
    meter: str = ""  # it is named by the first frame of the meter of this number behind it


def parse_pattern(text: str) -> Pattern:
    """Read "ascii:…", "hex:…", "iccid:…", "imei:…", "meter:…" or "regex:…". Raises BadPattern.

    A regular expression is matched from the first byte on; write it so that its end is certain,
    as TCP may deliver a registration in two parts.
    """
    kind, colon, rest = text.partition(":")
    parse = _PARSERS.get(kind)
    if not colon or parse is None:
        raise BadPattern(f'"{text}" must begin with ascii:, hex:, iccid:, imei:, meter: or regex:')
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


def _parse_meter(text: str, rest: str) -> Pattern:
    if not re.fullmatch("[0-9]{12}|[0-9]{14}", rest):
        raise BadPattern(f'"{text}" is no meter number: 12 digits (DL/T 645) or 14 (CJ/T 188)')
    return Pattern(text, (), meter=rest)


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
    "meter": _parse_meter,
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

    __slots__ = ("_exact", "_expressions", "_heartbeats", "_longest_first", "_meters", "_sorted")

    def __init__(self, dtus: Mapping[str, DtuPatterns]) -> None:
        self._exact: dict[bytes, str] = {}
        self._expressions: list[tuple[re.Pattern[bytes], str]] = []
        self._meters: dict[str, str] = {}
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
        if (number := dtu.registration.meter) in self._meters:
            raise BadPattern(f"{self._meters[number]} and {name} have the same registration")
        if number:
            self._meters[number] = name
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
        if self._meters:
            number = _meter_number(first)
            if number in self._meters:
                return Match(self._meters[number], 0)  # its frame stays whole
            may_grow |= number is None
        return NoMatch.NEED_MORE if may_grow or self._expressions else NoMatch.STRANGER


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

    def wrap(self, frame: bytes, port: int = 1) -> bytes:
        """A transparent DTU carries the frame as it is."""
        return frame

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
        if len(registration) >= REPEAT_BYTES_MIN and data.startswith(registration):
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


# DL/T 645: 68, number (6), 68, control, length. CJ/T 188: 68, type, number (7), control, length.
_NUMBER_BYTES = slice(1, 7), slice(2, 9)
_CONTROL_AT = 8, 9
CJT188_TYPES = range(0x10, 0x50)


def _meter_number(data: bytes) -> str | None:
    """The number in front of a meter's own frame; empty: this is none, None: too few bytes."""
    frame = data.lstrip(b"\xfe")
    if len(frame) < _CONTROL_AT[True]:
        return "" if frame and frame[0] != 0x68 else None
    is_188 = frame[7] != 0x68
    if frame[0] != 0x68 or (is_188 and frame[1] not in CJT188_TYPES):
        return ""
    digits = frame[_NUMBER_BYTES[is_188]][::-1].hex()
    return digits if digits.isdecimal() else ""


def meter_in(sample: bytes) -> str:
    """The registration "meter:…" under which a box can be adopted that says nothing but its meter's
    frames; empty when there is no whole DL/T 645 or CJ/T 188 frame from a meter in front."""
    number = _meter_number(sample)
    frame = sample.lstrip(b"\xfe")
    control_at = _CONTROL_AT[number is not None and len(number) == 14]
    if not number or len(frame) < control_at + 2 or not frame[control_at] & 0x80:
        return ""
    end = control_at + 2 + frame[control_at + 1]
    sealed = len(frame) > end + 1 and frame[end] == sum(frame[:end]) & 0xFF
    return f"meter:{number}" if sealed and frame[end + 1] == 0x16 else ""


def printable(sample: bytes) -> str:
    """A sample as hex and as text, for the console's list of strangers."""
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in sample)
    return f"{sample.hex(' ')}  {text}"
