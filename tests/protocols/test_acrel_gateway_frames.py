"""Frames of an Acrel gateway, in noise and in nonsense: nothing raises, little is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.acrel_gateway_cipher import encipher
from protocols.acrel_gateway_frames import (
    AFTER_LOGIN,
    REPORT_FRAME_BYTES_MAX,
    SEARCHED_MAX,
    Frame,
    FrameKind,
    FrameReader,
    make_frame,
)
from protocols.acrel_gateway_xml import (
    time_answer,
)
from protocols.modbus import read_registers
from protocols.stream import (
    Answer,
    Bytes,
    Heartbeat,
    Named,
    Pushed,
    Unrecognised,
)
from tests.protocols.gateway_box import (
    DIAL_NOW,
    KEY,
    answer,
    fresh,
    hidden,
    logged_in,
    report,
)

ONE = read_registers(1, 0x0200, 2).frame
HEART = make_frame(FrameKind.HEARTBEAT, b"<root/>")
TIME = Answer(make_frame(FrameKind.HEARTBEAT, time_answer("B1", "GW-001", DIAL_NOW)))


def read_all(reader: FrameReader) -> list[Frame]:
    frames = []
    while (frame := reader.next_frame()) is not None:
        reader.settle(made_sense=True)
        frames.append(frame)
    return frames


@given(st.lists(st.tuples(st.sampled_from((1, 2, 9)), st.binary(max_size=60))), st.integers(1, 50))
def test_frames_come_out_as_they_went_in(said: list[tuple[int, bytes]], piece: int) -> None:
    wire = b"".join(b"\x1f\x1f" + bytes((k,)) + len(d).to_bytes(4, "big") + d for k, d in said)
    reader = FrameReader(AFTER_LOGIN)
    frames = []
    for at in range(0, len(wire), piece):
        reader.receive_data(wire[at : at + piece])
        frames += read_all(reader)
    assert [(frame.kind, frame.data) for frame in frames] == said


def test_a_frame_swallowed_by_noise_that_looked_like_a_head_is_found() -> None:
    stream = logged_in()
    noise = b"\x1f\x1f\x03" + len(HEART + HEART[:-2]).to_bytes(4, "big")
    padded = noise[:-1] + bytes((16 * (len(HEART) // 16 + 1),))
    events = stream.receive(padded + HEART + HEART + HEART)
    assert events.count(TIME) == 3


def test_a_damaged_length_holds_no_answer_back() -> None:
    """An answer that comes out later would pass for that of a later request."""
    stream = logged_in()
    stream.wrap(ONE)
    first = bytearray(answer("01001", ONE))
    first[5] ^= 0x02  # 512 bytes more
    assert stream.receive(bytes(first)) == ()
    stream.wrap(ONE)
    assert stream.receive(answer("01001", ONE)) == (Bytes(ONE, 1),)
    stream.wrap(ONE)
    for _ in range(20):
        assert stream.receive(HEART) == (Heartbeat(HEART[7:]), TIME)


def test_nonsense_is_not_searched_for_ever() -> None:
    reader = FrameReader(AFTER_LOGIN)
    # Heads one behind the other, each with a length that ends at a byte that is no head.
    head = b"\x1f\x1f\x09\x00\x00\x00\x40"
    reader.receive_data(head * 200)
    looked = 0
    while reader.next_frame() is not None:
        reader.settle(made_sense=False)
        looked += 1
    assert looked <= SEARCHED_MAX + 200 * len(head) // 0x47 + 1


def test_a_frame_longer_than_any_is_noise_and_little_is_kept() -> None:
    stream = logged_in()
    too_long = (REPORT_FRAME_BYTES_MAX + 16).to_bytes(4, "big")
    stream.receive(b"\x1f\x1f\x03" + too_long + bytes(10_000))
    assert len(stream._frames._buffer) < 8
    assert TIME in stream.receive(HEART)


def test_an_unknown_type_is_kept_as_a_sample() -> None:
    (event,) = logged_in().receive(b"\x1f\x1f\x77\x00\x00\x00\x03abc")
    assert event == Unrecognised(b"\x1f\x1f\x77\x00\x00\x00\x03abc")


def test_another_gateways_report_is_not_taken() -> None:
    body = report('<meter id="01001"><function id="WPP">1</function></meter>')
    body = body.replace(b"GW-001", b"GW-002")
    (event,) = logged_in().receive(hidden(FrameKind.REPORT, body))
    assert isinstance(event, Unrecognised)


@given(st.binary(max_size=300))
def test_any_bytes_give_events_or_nothing(data: bytes) -> None:
    for stream in (fresh(), logged_in()):
        for event in stream.receive(data):
            assert not isinstance(event, Named | Pushed | Bytes)
        assert stream.receive(b"") == ()


@given(st.sampled_from(list(FrameKind)), st.binary(max_size=300))
def test_any_plain_text_under_a_good_secret_gives_events_or_nothing(
    kind: FrameKind, plain: bytes
) -> None:
    stream = logged_in()
    stream.wrap(ONE)
    stream.receive(make_frame(kind, encipher(plain, KEY)))
    assert TIME in stream.receive(HEART)
