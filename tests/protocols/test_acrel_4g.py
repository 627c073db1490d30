"""4G meters: frames in both directions, what they tell, what they push, what proves nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.acrel_4g import (
    END,
    FRAME_BYTES_MAX,
    REGISTER_ACK,
    UPLOAD_ACK,
    Acrel4gStream,
    Frames,
    frame_of,
    known_meters,
    serial_of,
    time_answer,
    uploads_of,
)
from protocols.dtu import SAMPLE_BYTES_MAX, BadPattern
from protocols.modbus import read_registers, seal
from protocols.reading import Quantity as Q
from protocols.stream import (
    Answer,
    Box,
    Bytes,
    Event,
    Heartbeat,
    Introduced,
    Named,
    Pushed,
    Stream,
    Taken,
    Told,
    TurnedAway,
    Unrecognised,
)
from tests.protocols.slave import sealed
from tests.protocols.vectors import LIVE_FRAME, LIVE_PAYLOAD

SERIAL, OTHER_SERIAL = "12307210720085", "02121031700227"
NOW = datetime(2023, 10, 10, 17, 7, 27)  # noqa: DTZ001  a dial
VECTORS = {
    vector["name"]: bytes.fromhex(vector["hex"])
    for vector in json.loads(
        (Path(__file__).parent.parent / "vectors" / "dial_in.json").read_text()
    )["acrel_4g"]
}
REGISTER = VECTORS["4g_register_up_real"]
FACTS: dict[str, str | int] = {
    "iccid": "898604282219C0423610",
    "rssi_dbm": -61,
    "firmware": "01.00 01.00 01.00",
    "interval_s": 1800,
}
PADDED = SERIAL.encode().ljust(20, b"\0")


def fresh() -> Stream:
    boxes = {"one": Box(registration=SERIAL), "two": Box(registration=OTHER_SERIAL)}
    return known_meters(boxes)(lambda gateway: NOW)


def said(stream: Stream, *chunks: bytes) -> list[Event]:
    return [event for chunk in chunks for event in stream.receive(chunk)]


def named() -> Stream:
    stream = fresh()
    assert said(stream, REGISTER)[0] == Named("one")
    return stream


def frame(command: int, body: bytes = b"") -> bytes:
    """Written again here, from the spec."""
    return b"{{" + sealed(bytes((command,)) + body) + b"}}"


RATES = {
    Q.ENERGY: 1000,
    Q.ENERGY_SHARP: 100,
    Q.ENERGY_PEAK: 200,
    Q.ENERGY_FLAT: 300,
    Q.ENERGY_VALLEY: 400,
}
PUBLISHED: list[tuple[str, list[Event]]] = [
    ("4g_register_up_real", [Named("one"), Answer(REGISTER_ACK), Told(FACTS)]),
    ("4g_time_request_real", [Named("one"), Answer(time_answer(NOW))]),
    ("4g_downlink_ack_serial_plus_rtu", [Named("two"), Bytes(bytes.fromhex("0103020001 7984"))]),
]


@pytest.mark.parametrize(("name", "meaning"), PUBLISHED, ids=[name for name, _ in PUBLISHED])
def test_published_frames_mean_what_they_say(name: str, meaning: list[Event]) -> None:
    wire = VECTORS[name]
    assert said(fresh(), wire) == meaning
    for noise in (b"", b"\x00", b"{", b"{{", b"{{\x84", b"}}", wire[:-3]):
        dribbled = said(fresh(), *(bytes((byte,)) for byte in noise + wire + noise))
        assert dribbled == meaning, noise


def test_our_own_frames_are_the_published_ones() -> None:
    assert VECTORS["4g_register_ack_real"] == REGISTER_ACK
    assert VECTORS["4g_upload_ack"] == UPLOAD_ACK
    read_ct = read_registers(3, 0x0038, 1).frame
    assert named().wrap(read_ct) == VECTORS["4g_downlink_read_ct"]
    for name in ("forced_trip", "forced_close", "purchase"):
        wire = VECTORS[f"4g_downlink_{name}"]
        assert named().wrap(wire[3:-4]) == wire


def test_the_time_is_told_as_published_but_for_the_weekday() -> None:
    """The published example counts Sunday as 1, all other sources as 0 (spec acrel.md 3.5)."""
    published = VECTORS["4g_time_reply_real"]
    assert published[3:10] == bytes((23, 10, 10, 3, 17, 7, 27))
    assert time_answer(NOW) == frame(0x93, bytes((23, 10, 10, 2, 17, 7, 27)))
    sunday = datetime(2023, 10, 8)  # noqa: DTZ001  a dial
    assert time_answer(sunday)[6] == 0


@pytest.mark.parametrize(
    "name", ["4g_upload_rate4_no_serial_ems4j", "4g_upload_rate4_with_serial_ems4j"]
)
def test_published_uploads_carry_the_meters_instant(name: str) -> None:
    stream = fresh()
    said(stream, VECTORS["4g_register_up_ems4j"])
    [ack, pushed] = said(stream, VECTORS[name])
    assert ack == Answer(UPLOAD_ACK)
    assert isinstance(pushed, Pushed)
    upload = pushed.upload
    assert (upload.unit, upload.number, upload.port) == (1, "", 1)
    assert upload.dial == datetime(2021, 10, 21, 19, 37, 1)  # noqa: DTZ001  a dial
    assert {q: upload.values[q] for q in RATES} == RATES


def test_a_whole_live_block_is_the_same_pushed_as_polled() -> None:
    [_, _, pushed] = said(fresh(), VECTORS["4g_upload_full_live_block"])
    assert isinstance(pushed, Pushed)
    values = pushed.upload.values
    assert (values[Q.ENERGY], values[Q.REMAINING_CREDIT]) == (12_345_670, 8_856)
    assert (values[Q.PURCHASE_COUNT], values[Q.RELAY_CLOSED]) == (12, 1)
    assert pushed.upload.dial == datetime(2025, 3, 14, 10, 20, 30)  # noqa: DTZ001  a dial


def eight_rates() -> bytes:
    """144 bytes: the clock has no weekday, the deep valley stands at 96 (spec acrel.md 2.4)."""
    dial = bytes((25, 3, 14, 10, 20, 30))
    deep = (777).to_bytes(4, "big")
    return LIVE_PAYLOAD[:80] + dial + bytes(10) + deep + bytes(44)


def segment(payload: bytes, unit: int = 1) -> bytes:
    return b"((" + sealed(bytes((unit, 3, len(payload))) + payload) + b"))"


def test_eight_rates_are_told_by_their_length() -> None:
    uploads = uploads_of(b"[[1-1" + segment(eight_rates()) + b"]]")
    assert uploads is not None
    [upload] = uploads
    assert upload.values[Q.ENERGY_DEEP_VALLEY] == 7770
    assert upload.dial == datetime(2025, 3, 14, 10, 20, 30)  # noqa: DTZ001  a dial


def test_sections_and_segments_follow_each_other() -> None:
    body = b"[[1-1" + segment(LIVE_PAYLOAD) + segment(LIVE_PAYLOAD, 2) + b"]]"
    body += b"[[1-2" + segment(LIVE_PAYLOAD, 3) + b"]]"
    uploads = uploads_of(body)
    assert uploads is not None
    assert [upload.unit for upload in uploads] == [1, 2, 3]


def test_marks_inside_the_data_are_data() -> None:
    """An energy of 0x29295D5D is the closing mark, an amount of 0x7D7D the end of a frame."""
    payload = LIVE_PAYLOAD[:42] + b"))]]" + LIVE_PAYLOAD[46:62] + b"\0\0}}" + LIVE_PAYLOAD[66:]
    wire = frame(0x91, PADDED + b"[[1-1" + segment(payload) + b"]]")
    assert wire.count(END) > 1
    for chunks in ([wire], [bytes((byte,)) for byte in wire]):
        [_, _, pushed] = said(fresh(), *chunks)
        assert isinstance(pushed, Pushed)
        assert pushed.upload.values[Q.REMAINING_CREDIT] == 0x7D7D


WRONG_UPLOADS = [
    b"",
    b"]]",
    b"[[1-1]]",
    b"[[1-1((\x01\x03\x60))]]",
    b"[[1-1((\x01\x04\x60" + LIVE_PAYLOAD + b"))]]",
    b"[[1-1((\x01\x03\x62" + LIVE_PAYLOAD + b"\0\0))]]",
    b"[[" + b"k" * 30 + segment(LIVE_PAYLOAD) + b"]]",
    b"[[1-1" + segment(LIVE_PAYLOAD) + b"]",
    b"[[1-1" + segment(LIVE_PAYLOAD[:2] + b"\xff\xf0" + LIVE_PAYLOAD[4:]) + b"]]",  # 6,552.0 V
]


@pytest.mark.parametrize("body", WRONG_UPLOADS)
def test_an_upload_that_makes_no_sense_is_kept_as_a_sample(body: bytes) -> None:
    assert uploads_of(body) is None
    [ack, odd] = said(named(), frame(0x91, PADDED + body))
    assert ack == Answer(UPLOAD_ACK), "asking again would bring nothing better"
    assert odd == Unrecognised((b"\x91" + body)[:SAMPLE_BYTES_MAX])


RTU = seal(bytes.fromhex("01100057 0002"))


@pytest.mark.parametrize(
    ("body", "meaning"),
    [
        (RTU, [Bytes(RTU)]),
        (PADDED + RTU, [Bytes(RTU)]),
        (PADDED, [Taken()]),
        (b"", []),
        (PADDED + LIVE_FRAME, [Bytes(LIVE_FRAME)]),
    ],
)
def test_three_kinds_of_answers_to_a_request(body: bytes, meaning: list[Event]) -> None:
    assert said(named(), frame(0x90, body)) == meaning


def test_another_serial_number_ends_the_session() -> None:
    other = OTHER_SERIAL.encode().ljust(20, b"\0")
    [away] = said(named(), frame(0x90, other + RTU))
    assert away == TurnedAway(f"it called itself {SERIAL} and then {OTHER_SERIAL}")


def test_a_stranger_is_introduced_once_and_never_spoken_to() -> None:
    stream = known_meters({})(lambda gateway: NOW)
    assert said(stream, REGISTER) == [Introduced(SERIAL)]
    time_request, heartbeat = VECTORS["4g_time_request_real"], VECTORS["4g_heartbeat_real"]
    assert said(stream, time_request, heartbeat, REGISTER) == []
    assert stream.name is None
    assert stream.sample == (REGISTER + time_request + heartbeat)[:SAMPLE_BYTES_MAX]


def test_before_its_name_nothing_is_believed_or_answered() -> None:
    upload, answer = VECTORS["4g_upload_rate4_no_serial_ems4j"], VECTORS["4g_downlink_ack_rtu_only"]
    assert said(fresh(), VECTORS["4g_heartbeat_real"], upload, answer) == []


def test_signs_of_life_and_what_nobody_knows() -> None:
    stream = named()
    assert said(stream, VECTORS["4g_heartbeat_real"]) == [Heartbeat(b"")]
    for command in (0x82, 0x88, 0x89, 0x97):
        assert said(stream, frame(command, b"\x02")) == [Unrecognised(bytes((command, 2)))]
    assert said(stream, REGISTER) == [Answer(REGISTER_ACK), Told(FACTS)], "it says so again"
    assert said(stream, frame(0x84, b"no name")) == [Unrecognised(b"\x84no name")]
    longer = frame(0x84, PADDED + b"what a later firmware tells")
    [ack, odd] = said(stream, longer)
    assert ack == Answer(REGISTER_ACK), "or it would go on registering"
    assert odd == Unrecognised(b"\x84what a later firmware tells")


def test_doubtful_facts_are_left_out() -> None:
    body = PADDED + b"no card".ljust(30, b"\0") + bytes((99, 0xAB, 0, 1, 0, 1, 0, 0))
    assert said(named(), frame(0x84, body))[1] == Told({})


def test_torn_frames_cost_only_themselves() -> None:
    beat = VECTORS["4g_heartbeat_real"]
    stream = named()
    bad = bytearray(REGISTER)
    bad[30] ^= 1
    assert said(stream, bytes(bad) + beat, REGISTER[:40] + beat + beat) == [Heartbeat(b"")] * 3


def test_memory_and_work_are_bounded() -> None:
    frames = Frames()
    for _ in range(50):
        assert list(frames.receive(b"{{\x84" * 300)) == []
        assert list(frames.receive(b"}" * 900)) == []
        assert len(frames._buffer) <= FRAME_BYTES_MAX
    assert list(frames.receive(VECTORS["4g_heartbeat_real"])) in ([b"\x94"], [])
    assert list(frames.receive(bytes(FRAME_BYTES_MAX))) == []
    assert list(frames.receive(VECTORS["4g_heartbeat_real"])) == [b"\x94"]


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        ({"a": Box(registration="123 456")}, "is no serial number"),
        ({"a": Box(registration="1" * 21)}, "is no serial number"),
        ({"a": Box(registration=SERIAL), "b": Box(registration=SERIAL)}, "a and b have the same"),
    ],
)
def test_serial_numbers_that_cannot_be_are_refused(boxes: dict[str, Box], says: str) -> None:
    with pytest.raises(BadPattern, match=says):
        known_meters(boxes)


@given(st.integers(0x80, 0x9F), st.binary(max_size=300), st.binary(max_size=20), st.integers(1, 40))
def test_any_frame_comes_out_of_any_stream(
    command: int, body: bytes, noise: bytes, piece: int
) -> None:
    wire = frame_of(command, body)
    assert wire == frame(command, body)
    if b"{" in noise:
        noise = b""
    stream = noise + wire
    chunks = [stream[at : at + piece] for at in range(0, len(stream), piece)]
    frames = Frames()
    found = [inside for chunk in chunks for inside in frames.receive(chunk)]
    if found != [bytes((command,)) + body]:  # a frame inside a frame: its checksum holds as well
        assert any(frame(inside[0], inside[1:]) in wire[1:] for inside in found)


FEED: st.SearchStrategy[Sequence[bytes]] = st.lists(
    st.one_of(st.binary(max_size=60), st.sampled_from(sorted(VECTORS.values()))), max_size=20
)


@given(FEED)
def test_any_bytes_give_events_and_no_exception(chunks: Sequence[bytes]) -> None:
    stream = fresh()
    events = said(stream, *chunks)
    assert isinstance(stream, Acrel4gStream)
    assert sum(isinstance(event, Named) for event in events) == (stream.name is not None)
    spoken = [event for event in events if isinstance(event, Answer | Bytes | Pushed | Told)]
    assert not spoken or isinstance(events[0], Named | Introduced)
    assert len(stream._frames._buffer) <= FRAME_BYTES_MAX


@given(st.binary(max_size=40))
def test_a_serial_number_is_text_padded_with_zeros(body: bytes) -> None:
    serial = serial_of(body)
    assert serial is None or body.startswith(serial.encode().ljust(20, b"\0"))
