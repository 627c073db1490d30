"""One port, every dialect: a fresh connection finds its own at the beginning of a frame."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dialects import DIALECT_NAMES, DIALECTS, FreshStream, Switchboard, magic
from protocols.dtu import BYTES_BEFORE_NAME_MAX, BadPattern, meter_in
from protocols.stream import Box, Bytes, Event, Heartbeat, Introduced, Named, Overflow
from tests.protocols.test_acrel_4g import REGISTER as REGISTER_4G
from tests.protocols.test_acrel_4g import SERIAL
from tests.protocols.test_dtu_framed import FF_11, OTHER_PHONE, PHONE
from tests.protocols.test_dtu_framed import REGISTER as REGISTER_DDP
from tests.protocols.vectors import LIVE_FRAME

NOW = datetime(2023, 10, 10, 17, 7, 27)  # noqa: DTZ001  a dial
# DL/T 645: meter 012345678901 answers a read (spec field_protocols.md A1); CJ/T 188: a published
# answer to a read of the address.
FRAME_645 = bytes.fromhex("fefe68018967452301689104 33333433".replace(" ", ""))
FRAME_645 += bytes((sum(FRAME_645[2:]) & 0xFF, 0x16))
FRAME_188 = bytes.fromhex("68108967452301337883030A81A73416")

BOXES = {
    "meter": ("acrel_4g", Box(registration=SERIAL)),
    "gate": ("ddp", Box(registration=f"ascii:{PHONE}")),
    "park": ("four_faith", Box(registration=f"ascii:{OTHER_PHONE}")),
    "yard": ("transparent", Box(registration="ascii:YARD-01", heartbeat="ascii:ping")),
    "shed": ("transparent", Box(registration="hex:7b7b0102")),
    "mute": ("transparent", Box(registration="meter:012345678901")),
    "well": ("transparent", Box(registration="meter:78330123456789")),
}
FIRST = {
    "meter": (REGISTER_4G, "acrel_4g"),
    "gate": (REGISTER_DDP, "ddp"),
    "park": (FF_11, "four_faith"),
    "yard": (b"YARD-01", "transparent"),
    "shed": (b"{{\x01\x02", "transparent"),
    "mute": (FRAME_645, "transparent"),
    "well": (FRAME_188, "transparent"),
}
KNOWN = Switchboard(BOXES)


def fresh(switchboard: Switchboard = KNOWN) -> FreshStream:
    return switchboard.new_stream(lambda gateway: NOW)


def said(stream: FreshStream, *chunks: bytes, answer_due: bool = False) -> list[Event]:
    return [event for chunk in chunks for event in stream.receive(chunk, answer_due=answer_due)]


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("noise", [b"", b"\x00\xff", b"{", b"{{\x84", b"{\x09\x00\x20", b"1391"])
def test_each_box_is_found_whole_dribbled_and_behind_parked_bytes(name: str, noise: bytes) -> None:
    first, dialect = FIRST[name]
    dribbled = [bytes((byte,)) for byte in first]
    for chunks in ([noise, first], [noise, *dribbled], [*map(bytes, zip(noise)), *dribbled]):
        stream = fresh()
        assert Named(name) in said(stream, *chunks)
        assert (stream.name, stream.dialect) == (name, dialect)


def test_the_settled_dialect_carries_what_follows() -> None:
    stream = fresh()
    said(stream, REGISTER_DDP)
    assert stream.wrap(b"\x01")[:4] == b"{\x89\0\x11"
    stream = fresh()
    assert stream.wrap(b"\x01") == b"\x01"
    said(stream, b"YARD-01")
    assert said(stream, b"ping") == [Heartbeat(b"ping")]
    assert said(stream, LIVE_FRAME, answer_due=True) == [Bytes(LIVE_FRAME)]


def test_a_frame_of_a_meter_names_its_box_and_stays_whole() -> None:
    assert said(fresh(), FRAME_645) == [Named("mute"), Heartbeat(FRAME_645)]
    stream = fresh()
    said(stream, FRAME_645)
    assert said(stream, FRAME_645, answer_due=True) == [Bytes(FRAME_645)]


def test_frames_in_the_middle_of_a_chunk_are_payload() -> None:
    stream = fresh()
    assert said(stream, b"\x01\x03" + REGISTER_4G) == []
    assert stream.dialect == ""
    assert Named("meter") in said(stream, REGISTER_4G), "where a frame may begin it is one"


@pytest.mark.parametrize(
    ("first", "dialect", "registration"),
    [
        (REGISTER_4G, "acrel_4g", SERIAL),
        (REGISTER_DDP, "ddp", f"ascii:{PHONE}"),
        (FF_11, "four_faith", f"ascii:{OTHER_PHONE}"),
    ],
)
def test_a_stranger_tells_how_it_can_be_adopted(
    first: bytes, dialect: str, registration: str
) -> None:
    stream = fresh(Switchboard({}))
    assert said(stream, first) == [Introduced(registration)]
    assert (stream.name, stream.dialect) == (None, dialect)
    adopted = fresh(Switchboard({"new": (dialect, Box(registration=registration))}))
    assert Named("new") in said(adopted, stream.sample)


@pytest.mark.parametrize(
    ("sample", "registration"),
    [
        (FRAME_645, "meter:012345678901"),
        (FRAME_188, "meter:78330123456789"),
        (FRAME_645[:-1], ""),
        (FRAME_645[:-2] + b"\0\x16", ""),
        (b"\xfe\xfe\xfe\xfe", ""),
        (b"", ""),
        (bytes.fromhex("6810AAAAAAAAAAAAAA0303810A01B016"), ""),  # a request is no meter
    ],
)
def test_a_box_that_only_passes_its_meters_frames_is_told_by_them(
    sample: bytes, registration: str
) -> None:
    assert meter_in(sample) == registration
    if registration:
        adopted = fresh(Switchboard({"new": ("transparent", Box(registration=registration))}))
        assert Named("new") in said(adopted, sample)


def test_a_registration_that_looks_like_a_dialect_is_still_a_registration() -> None:
    box = Box(registration=f"hex:{FF_11.hex()}")
    assert said(fresh(Switchboard({"x": ("transparent", box)})), FF_11) == [Named("x")]


def test_who_never_says_a_name_is_cut_off() -> None:
    stream = fresh()
    events = said(stream, *([b"{{\x84" + b"x" * 96] * 30))
    assert [type(event) for event in events] == [Overflow]


def test_a_dialect_nobody_speaks_is_one_sentence() -> None:
    with pytest.raises(BadPattern, match="x: nothing here speaks klingon"):
        Switchboard({"x": ("klingon", Box(registration="1"))})
    assert len(set(DIALECT_NAMES)) == len(DIALECTS) + 1


def test_magic_needs_all_its_bytes() -> None:
    begins = magic(b"{{")
    assert [begins(data) for data in (b"", b"{", b"{{", b"{{x", b"x", b"{x")] == [
        None,
        None,
        True,
        True,
        False,
        False,
    ]


CHUNKS = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([first for first, _ in FIRST.values()]),
        st.sampled_from([b"{", b"{{", b"{\x09", b"\xfe", b"\xfd", b"ping"]),
    ),
    max_size=30,
)


@given(CHUNKS, st.booleans())
def test_any_bytes_give_events_and_no_exception(chunks: list[bytes], due: bool) -> None:
    stream = fresh()
    events = said(stream, *chunks, answer_due=due)
    named = [event.name for event in events if isinstance(event, Named)]
    assert named == ([] if stream.name is None else [stream.name])
    assert sum(map(len, stream._beginnings)) <= BYTES_BEFORE_NAME_MAX
