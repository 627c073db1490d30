"""Hongdian DDP and Four-Faith PROT: packets, escapes, heartbeats, in both directions."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dtu import BadPattern
from protocols.dtu_framed import (
    DDP_BYTES_MAX,
    ddp_begins,
    ddp_packet,
    escape,
    four_faith_begins,
    known_ddp,
    known_four_faith,
)
from protocols.stream import (
    Answer,
    Box,
    Bytes,
    Event,
    Heartbeat,
    Introduced,
    Named,
    NewStream,
    Stream,
    TurnedAway,
    Unrecognised,
)
from tests.protocols.vectors import LIVE_FRAME

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "dial_in.json").read_text())
PHONE, OTHER_PHONE = "15821049734", "13912345678"
FF_REGISTRATION = bytes.fromhex(VECTORS["four_faith"][0]["hex"])
FF_PHONE = FF_REGISTRATION[4:16].decode()
FF_11 = b"\x78\x56\x34\x12" + OTHER_PHONE.encode() + bytes.fromhex("00 c0a80142 00")
BEAT = Heartbeat(b"\xfe")


def never(gateway: str) -> datetime:
    raise AssertionError("no DTU asks for the time")


def opened(new_stream: NewStream) -> Stream:
    return new_stream(never)


def ddp() -> Stream:
    return opened(known_ddp({"gate": Box(registration=f"ascii:{PHONE}")}))


def four_faith() -> Stream:
    boxes = {"park": FF_PHONE, "yard": OTHER_PHONE}
    return opened(known_four_faith({n: Box(registration=f"ascii:{p}") for n, p in boxes.items()}))


def said(stream: Stream, *chunks: bytes, answer_due: bool = False) -> list[Event]:
    return [event for chunk in chunks for event in stream.receive(chunk, answer_due=answer_due)]


def one_by_one(wire: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in wire]


# ---- Hongdian DDP -------------------------------------------------------------------------------


def packet(kind: int, data: bytes = b"", phone: str = PHONE) -> bytes:
    """Written again here, from the spec."""
    length = 16 + len(data)
    return b"\x7b" + bytes((kind, length >> 8, length & 255)) + phone.encode() + data + b"\x7b"


REGISTER = packet(0x01, bytes.fromhex("0a000007 1389"))
OK, TOOK = packet(0x81), packet(0x85)
DDP_NAMED = [Named("gate"), Answer(OK), Heartbeat(bytes.fromhex("0a000007 1389"))]


def ddp_named() -> Stream:
    stream = ddp()
    assert said(stream, REGISTER) == DDP_NAMED
    return stream


@pytest.mark.parametrize("vector", VECTORS["ddp"], ids=lambda vector: vector["name"])
def test_published_downlinks_are_ours(vector: dict[str, str]) -> None:
    wire = bytes.fromhex(vector["hex"])
    assert ddp_named().wrap(wire[15:-1]) == wire


def test_a_register_packet_has_the_published_lengths() -> None:
    assert REGISTER[:4].hex() == "7b010016"
    assert OK[:4].hex() == "7b810010"


@pytest.mark.parametrize(
    "noise", [b"", b"\x00", b"\x7b", b"\x7b\x7b", b"\x7b\x09\xff\xff", b"\x7b\x09"]
)
def test_packets_whole_dribbled_and_in_noise(noise: bytes) -> None:
    meaning = [*DDP_NAMED, Answer(TOOK), Bytes(LIVE_FRAME)]
    wire = noise + REGISTER + packet(0x09, LIVE_FRAME)
    assert said(ddp(), wire) == meaning
    assert said(ddp(), *one_by_one(wire)) == meaning


def test_data_may_hold_the_mark_and_whole_packets() -> None:
    inside = packet(0x09, b"\x7b" * 40)
    assert said(ddp_named(), *one_by_one(packet(0x09, inside))) == [Answer(TOOK), Bytes(inside)]


@pytest.mark.parametrize("noise", [b"", b"\x00"])
def test_a_damaged_length_holds_no_answer_back(noise: bytes) -> None:
    """An answer that comes out later would pass for that of a later request."""
    stream, first = ddp_named(), bytearray(packet(0x09, LIVE_FRAME))
    first[2] ^= 0x02  # 512 bytes more
    assert said(stream, bytes(first)) == []
    second, third = packet(0x09, b"second" + bytes(90)), packet(0x09, b"third" + bytes(91))
    at_once = [event for event in said(stream, noise + second) if isinstance(event, Bytes)]
    assert at_once == ([] if noise else [Bytes(b"second" + bytes(90))])
    assert said(stream, *one_by_one(third)) == [Answer(TOOK), Bytes(b"third" + bytes(91))]
    later = said(stream, *(packet(0x09, bytes((n,))) for n in range(40)))
    assert [event for event in later if isinstance(event, Bytes)] == [
        Bytes(bytes((n,))) for n in range(40)
    ], "and nothing of the first or second comes after it"


def test_any_packet_names_its_box() -> None:
    assert said(ddp(), packet(0x09, b"\x01")) == [Named("gate"), Answer(TOOK), Bytes(b"\x01")]


def test_each_type_has_its_answer() -> None:
    stream = ddp_named()
    assert said(stream, REGISTER) == DDP_NAMED[1:], "said again: its heartbeat"
    assert said(stream, packet(0x05)) == [Heartbeat(b"")]
    assert said(stream, packet(0x02)) == [Answer(packet(0x82))]
    assert said(stream, packet(0x09)) == [Answer(TOOK)]
    for kind in (0x04, 0x0B, 0x0D, 0x0E, 0x0F):
        assert said(stream, packet(kind, b"x")) == [Unrecognised(packet(kind, b"x")[:-1])]
    assert said(stream, packet(0x09, b"x", phone="1391234567x")) == []


def test_another_number_ends_the_session() -> None:
    [away] = said(ddp_named(), packet(0x09, b"x", phone=OTHER_PHONE))
    assert away == TurnedAway(f"it called itself {PHONE} and then {OTHER_PHONE}")


def test_a_strange_box_is_introduced_once_and_never_spoken_to() -> None:
    stream = opened(known_ddp({}))
    assert said(stream, REGISTER, REGISTER, packet(0x09, b"x")) == [Introduced(f"ascii:{PHONE}")]
    assert stream.name is None


@pytest.mark.parametrize(
    ("first", "begins"),
    [
        ("", None),
        ("7b", None),
        ("7b01", None),
        ("7b010016", True),
        ("7b090410", True),
        ("7b090411", False),
        ("7b09000f", False),
        ("7b7b84", False),
        ("7b81", False),
        ("68", False),
    ],
)
def test_how_a_packet_begins(first: str, begins: bool | None) -> None:
    assert ddp_begins(bytes.fromhex(first)) is begins


@given(st.lists(st.binary(max_size=1024), max_size=4), st.integers(1, 700))
def test_all_data_arrives_however_it_is_cut(pieces: list[bytes], size: int) -> None:
    wire = b"".join(packet(0x09, piece) for piece in pieces)
    stream = ddp_named()
    heard = said(stream, *(wire[at : at + size] for at in range(0, len(wire), size)))
    assert [e.data for e in heard if isinstance(e, Bytes)] == [piece for piece in pieces if piece]


# ---- Four-Faith PROT ----------------------------------------------------------------------------


def ff_named() -> Stream:
    stream = four_faith()
    assert said(stream, FF_REGISTRATION) == [Named("park")]
    return stream


@pytest.mark.parametrize(
    ("registration", "name"),
    [
        (FF_REGISTRATION, "park"),
        (FF_11, "yard"),
        (FF_11[:16] + b"\xc0\xa8\xfe\xfd" + b"\0", "yard"),  # not escaped
        (FF_11[:16] + b"\xc0\xa8\xfd\xee\xfd\xed" + b"\0", "yard"),  # escaped
    ],
)
def test_registrations_of_both_lengths_escaped_or_not(registration: bytes, name: str) -> None:
    frame = b"\xfe\xfe\x68\xfd\x16"
    wire = registration + escape(frame)
    for chunks in ([wire], one_by_one(wire)):
        events = said(four_faith(), *chunks)
        assert events[0] == Named(name)
        assert BEAT not in events
        assert b"".join(e.data for e in events if isinstance(e, Bytes)) == frame


def test_the_only_published_registration_has_twelve_digits() -> None:
    """The text beside it says 21 bytes with eleven; both are read."""
    assert (len(FF_REGISTRATION), len(FF_11)) == (22, 21)


@pytest.mark.parametrize(
    ("chunks", "meaning"),
    [
        ([b"\xfe"], [BEAT]),
        ([b"\xfe\xfe"], [BEAT]),
        ([b"\xfe\x01\x03"], [BEAT, Bytes(b"\x01\x03")]),
        ([b"\x01\x03\xfe"], [BEAT, Bytes(b"\x01\x03")]),
        ([b"\xfd\xee\xfd\xee\x68"], [Bytes(b"\xfe\xfe\x68")]),
        ([b"\x01\xfd", b"\xed\x02"], [Bytes(b"\x01"), Bytes(b"\xfd\x02")]),
        ([b"\x01\xfd", b"\xee"], [Bytes(b"\x01"), Bytes(b"\xfe")]),
        ([b"\xfd\xed\xee"], [Bytes(b"\xfd\xee")]),
        ([b"\x01\xfd\x02"], [Bytes(b"\x01\xfd\x02")]),
        ([b"\x01\xfe\x02"], [Bytes(b"\x01\xfe\x02")]),  # a box that does not escape
        ([FF_REGISTRATION], [Heartbeat(FF_REGISTRATION)]),
        ([FF_REGISTRATION + b"\x01"], [Heartbeat(FF_REGISTRATION), Bytes(b"\x01")]),
        ([b""], []),
    ],
)
def test_heartbeats_stand_between_frames_and_escapes_inside(
    chunks: list[bytes], meaning: list[Event]
) -> None:
    for answer_due in (False, True):
        assert said(ff_named(), *chunks, answer_due=answer_due) == meaning


def test_what_goes_down_is_escaped() -> None:
    assert ff_named().wrap(b"\xfe\xfe\x68\xfd\xed") == b"\xfd\xee\xfd\xee\x68\xfd\xed\xed"


def test_a_strange_box_of_this_kind_is_introduced() -> None:
    stream = opened(known_four_faith({}))
    assert said(stream, FF_11, b"\xfe", FF_11) == [Introduced(f"ascii:{OTHER_PHONE}")]


@pytest.mark.parametrize(
    "first",
    [
        b"89860012345678901234",
        b"GARAGE-DTU-0001-x",
        b"\x68" * 22,
        FF_11[:15] + b"\1",
        b"\1\2\3\4\0",
    ],
)
def test_what_is_no_registration(first: bytes) -> None:
    assert four_faith_begins(first) is False
    assert said(four_faith(), first) == []


@pytest.mark.parametrize("length", range(22))
def test_a_registration_is_waited_for(length: int) -> None:
    assert four_faith_begins(FF_REGISTRATION[:length]) is None


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=8), st.integers(1, 50))
def test_nothing_is_lost_between_escapes(frames: list[bytes], size: int) -> None:
    wire = b"".join(map(escape, frames))
    heard = said(ff_named(), *(wire[at : at + size] for at in range(0, len(wire), size)))
    assert b"".join(e.data for e in heard if isinstance(e, Bytes)) == b"".join(frames)
    assert all(isinstance(event, Bytes) for event in heard)


# ---- both ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("registration", ["ascii:1582104973", "ascii:1582104973x", "regex:1+", "x"])
def test_a_phone_number_is_eleven_digits(registration: str) -> None:
    for known in (known_ddp, known_four_faith):
        with pytest.raises(BadPattern):
            known({"a": Box(registration=registration)})
    with pytest.raises(BadPattern, match="a and b have the same registration"):
        known_ddp({name: Box(registration=f"ascii:{PHONE}") for name in ("a", "b")})


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from(
                [REGISTER, FF_REGISTRATION, FF_11, b"\xfd", b"\xfe", b"\x7b\x09\x04\x10"]
            ),
        ),
        max_size=20,
    ),
    st.booleans(),
)
def test_any_bytes_give_events_and_no_exception(chunks: list[bytes], due: bool) -> None:
    for stream in (ddp(), four_faith()):
        events = said(stream, *chunks, answer_due=due)
        assert sum(isinstance(event, Named) for event in events) == (stream.name is not None)
        held = getattr(stream, "_buffer", b"") + getattr(stream, "_held", b"")
        assert len(held) <= DDP_BYTES_MAX


def test_a_packet_too_long_for_its_length_is_a_fault_of_ours() -> None:
    with pytest.raises(AssertionError):
        ddp_packet(0x89, PHONE, bytes(1025))
