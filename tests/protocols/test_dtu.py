"""A DTU's stream: who it is, what is a sign of life, what belongs to the line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dtu import (
    BYTES_BEFORE_NAME_MAX,
    SAMPLE_BYTES_MAX,
    BadPattern,
    DtuPatterns,
    DtuStream,
    Match,
    NoMatch,
    Registry,
    idle_s_max,
    parse_pattern,
    printable,
)
from protocols.stream import Bytes, Event, Heartbeat, Named, Overflow
from tests.protocols.vectors import LIVE_FRAME

ICCID = "898604282219C0423610"


def dtu(registration: str, heartbeat: str | None = None) -> DtuPatterns:
    return DtuPatterns(parse_pattern(registration), parse_pattern(heartbeat) if heartbeat else None)


REGISTRY = Registry(
    {
        "garage": dtu("ascii:GARAGE-01", "ascii:ping"),
        "tower": dtu("hex:0A 0B 0C 0D", "hex:FE"),
        "yard": dtu(f"iccid:{ICCID}"),
        "annex": dtu("imei:861234567890123", "hex:01"),
    }
)
OTHERS = Registry({"any": dtu("regex:ID=([0-9]{4});", "ascii:beat")})


def said(stream: DtuStream, *chunks: bytes, answer_due: bool = False) -> list[Event]:
    return [event for chunk in chunks for event in stream.receive(chunk, answer_due=answer_due)]


def named(name: str, first: bytes) -> DtuStream:
    stream = DtuStream(REGISTRY)
    assert said(stream, first) == [Named(name)]
    return stream


@pytest.mark.parametrize(
    ("first", "name"),
    [
        (b"GARAGE-01", "garage"),
        (b"\x0a\x0b\x0c\x0d", "tower"),
        (ICCID.encode(), "yard"),
        (ICCID.lower().encode(), "yard"),
        (b"861234567890123", "annex"),
    ],
)
def test_each_registration_names_its_dtu_whole_and_dribbled(first: bytes, name: str) -> None:
    assert DtuStream(REGISTRY).receive(first) == (Named(name),)
    assert said(DtuStream(REGISTRY), *(bytes((b,)) for b in first)) == [Named(name)]


def test_a_custom_pattern_names_its_dtu_when_it_is_complete() -> None:
    stream = DtuStream(OTHERS)
    assert said(stream, b"ID=12") == []
    assert said(stream, b"34;") == [Named("any")]


def test_what_is_glued_to_a_registration_is_kept() -> None:
    assert said(DtuStream(REGISTRY), b"GARAGE-01ping") == [Named("garage"), Heartbeat(b"ping")]
    assert said(DtuStream(REGISTRY), b"GARAGE-01" + LIVE_FRAME) == [
        Named("garage"),
        Bytes(LIVE_FRAME),
    ]


def test_a_registration_is_found_behind_parked_bytes() -> None:
    assert said(DtuStream(REGISTRY), LIVE_FRAME, b"GARA", b"GE-01") == [Named("garage")]


def test_a_stranger_is_sampled_and_bounded() -> None:
    stream = DtuStream(REGISTRY)
    assert said(stream, b"\x7b\x7b\x84hello") == []
    assert stream.sample == b"\x7b\x7b\x84hello"
    [overflow] = said(stream, *([b"x" * 100] * 30))
    assert isinstance(overflow, Overflow)
    assert len(overflow.sample) == SAMPLE_BYTES_MAX
    assert said(stream, b"GARAGE-01") == []
    assert printable(b"\x7b\x84hi") == "7b 84 68 69  {.hi"


def test_a_heartbeat_is_no_payload_when_nothing_is_due() -> None:
    stream = named("garage", b"GARAGE-01")
    assert said(stream, b"ping") == [Heartbeat(b"ping")]
    assert said(stream, b"pingping") == [Heartbeat(b"ping")]
    assert said(stream, b"ping\x01\x03") == [Heartbeat(b"ping"), Bytes(b"\x01\x03")]
    assert said(stream, b"\x01\x03ping") == [Heartbeat(b"ping"), Bytes(b"\x01\x03")]
    assert said(stream, b"\x01ping\x03") == [Bytes(b"\x01ping\x03")]


def test_while_an_answer_is_due_nothing_is_taken_out_of_it() -> None:
    """The heartbeat of annex is one byte, 01: the first byte of unit 1's answer looks like it."""
    stream = named("annex", b"861234567890123")
    pieces = [LIVE_FRAME[:1], LIVE_FRAME[1:]]
    assert said(stream, *pieces, answer_due=True) == [Bytes(piece) for piece in pieces]
    assert said(stream, b"\x01") == [Heartbeat(b"\x01")]


def test_a_whole_heartbeat_is_known_even_while_an_answer_is_due() -> None:
    stream = named("garage", b"GARAGE-01")
    assert said(stream, b"ping", answer_due=True) == [Heartbeat(b"ping")]
    assert said(stream, b"ping\x01", answer_due=True) == [Bytes(b"ping\x01")]


def test_without_a_pattern_whatever_comes_when_idle_is_a_sign_of_life() -> None:
    stream = named("yard", ICCID.encode())
    assert said(stream, b"\xc0\x00") == [Heartbeat(b"\xc0\x00")]
    assert said(stream, LIVE_FRAME, answer_due=True) == [Bytes(LIVE_FRAME)]


def test_a_registration_in_front_of_every_packet_is_taken_out() -> None:
    stream = named("garage", b"GARAGE-01")
    one, two = LIVE_FRAME[:50], LIVE_FRAME[50:]
    assert said(stream, b"GARAGE-01" + one, b"GARAGE-01" + two, answer_due=True) == [
        Bytes(one),
        Bytes(two),
    ]
    glued = b"GARAGE-01" + one + b"GARAGE-01" + two
    assert said(stream, glued, answer_due=True) == [Bytes(LIVE_FRAME)]
    assert said(stream, b"GARAGE-01GARAGE-01") == [Heartbeat(b"GARAGE-01")]
    assert said(stream, b"GARAGE-01ping") == [Heartbeat(b"ping")]


def test_a_registration_said_again_is_a_sign_of_life() -> None:
    stream = named("garage", b"GARAGE-01")
    assert said(stream, b"GARAGE-01", answer_due=True) == [Heartbeat(b"GARAGE-01")]
    # It has not prefixed a packet, so the same bytes inside one are left alone.
    assert said(stream, b"\x01GARAGE-01", answer_due=True) == [Bytes(b"\x01GARAGE-01")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("GARAGE", "must begin with ascii:"),
        ("name:x", "must begin with ascii:"),
        ("ascii:", "nothing after the colon"),
        ("hex:  ", "nothing after the colon"),
        ("ascii:车库", "more than ASCII"),
        ("ascii:" + "x" * 81, "longer than 80 bytes"),
        ("hex:0A0", "is not hex"),
        ("hex:zz", "is not hex"),
        ("iccid:123", "is no ICCID"),
        ("imei:12345", "is no IMEI"),
        ("meter:1234567890123", "is no meter number"),
        ("regex:(", "is no regular expression"),
        ("regex:.*", "would name everybody"),
    ],
)
def test_a_wrong_pattern_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(BadPattern, match=says):
        parse_pattern(text)


@pytest.mark.parametrize(
    ("dtus", "says"),
    [
        ({"a": dtu("ascii:X1"), "b": dtu("hex:5831")}, "a and b have the same registration"),
        ({"a": dtu("ascii:DTU1"), "b": dtu("ascii:DTU12")}, "b begins with that of a"),
        ({"a": dtu("ascii:X1", "regex:p+")}, "heartbeat of a must be ascii: or hex:"),
        (
            {name: dtu("meter:012345678901") for name in ("a", "b")},
            "a and b have the same registration",
        ),
    ],
)
def test_registrations_that_cannot_be_told_apart_are_refused(
    dtus: dict[str, DtuPatterns], says: str
) -> None:
    with pytest.raises(BadPattern, match=says):
        Registry(dtus)


def test_a_registry_says_when_to_wait() -> None:
    assert REGISTRY.match(b"GARAGE") is NoMatch.NEED_MORE
    assert REGISTRY.match(b"GARAGF") is NoMatch.STRANGER
    assert REGISTRY.match(b"GARAGE-01\r\n") == Match("garage", 9)
    assert OTHERS.match(b"GARAGE") is NoMatch.NEED_MORE
    assert Registry({}).match(b"x") is NoMatch.STRANGER


def test_a_session_is_dead_after_two_and_a_half_heartbeats() -> None:
    assert idle_s_max(60) == 150


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"GARAGE-01", b"ping", b"\xfe", b"ID=1234;", b"\x0a\x0b\x0c\x0d"]),
    ),
    max_size=30,
)


@given(PIECES, st.booleans(), st.sampled_from([REGISTRY, OTHERS, Registry({})]))
def test_any_bytes_give_events_and_no_exception(
    chunks: list[bytes], answer_due: bool, registry: Registry
) -> None:
    stream = DtuStream(registry)
    events = said(stream, *chunks, answer_due=answer_due)
    assert sum(isinstance(event, Named) for event in events) == (stream.name is not None)
    if stream.name is None:
        assert all(isinstance(event, Overflow) for event in events)
        assert len(stream._first) <= BYTES_BEFORE_NAME_MAX
    assert all(event.data for event in events if isinstance(event, Bytes))


@given(st.binary(min_size=1, max_size=200), st.integers(1, 50))
def test_nothing_of_a_due_answer_is_lost_on_a_plain_stream(answer: bytes, piece: int) -> None:
    stream = named("tower", b"\x0a\x0b\x0c\x0d")
    chunks = [answer[at : at + piece] for at in range(0, len(answer), piece)]
    if any(chunk.startswith(b"\x0a\x0b\x0c\x0d") for chunk in chunks):
        return
    heard = said(stream, *chunks, answer_due=True)
    assert b"".join(e.data for e in heard if isinstance(e, Bytes)) == answer
