"""Acrel gateways: frames, login, clock, and answers that cannot be taken for another's."""

from __future__ import annotations

import pickle
import re
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.acrel_gateway import BYTES_BEFORE_NAME_MAX, random_sequence
from protocols.acrel_gateway_cipher import decipher, is_proof, proof
from protocols.acrel_gateway_frames import (
    FrameKind,
    make_frame,
)
from protocols.acrel_gateway_xml import (
    read_login,
    result_answer,
    sequence_answer,
    time_answer,
)
from protocols.dialects import Switchboard
from protocols.dtu import BadPattern
from protocols.modbus import read_registers, seal
from protocols.reading import Quantity
from protocols.stream import (
    Answer,
    Box,
    Bytes,
    Heartbeat,
    Introduced,
    Named,
    Overflow,
    Pushed,
    TurnedAway,
    Unrecognised,
)
from tests.protocols.gateway_box import (
    DIAL_NOW,
    FRAMES,
    KEY,
    REGISTRATION,
    SECRET,
    SEQUENCE,
    answer,
    dribbled,
    fresh,
    hidden,
    knowing,
    logged_in,
    secret_of,
)

ONE = read_registers(1, 0x0200, 2).frame
REPLY = seal(b"\x01\x03\x04\x00\x07\x09\x00")
HEART = make_frame(FrameKind.HEARTBEAT, b"<root/>")
TIME = Answer(make_frame(FrameKind.HEARTBEAT, time_answer("B1", "GW-001", DIAL_NOW)))
Q = Quantity


# ---- vectors, both ways -------------------------------------------------------------------------


def test_what_we_say_is_what_the_vectors_say() -> None:
    sequence = sequence_answer("B1", "GW-001", SEQUENCE)
    assert make_frame(FrameKind.LOGIN, sequence) == FRAMES["auth_sequence"]
    passed = result_answer("B1", "GW-001", passed=True)
    assert make_frame(FrameKind.LOGIN, passed) == FRAMES["auth_result_pass"]
    assert proof(KEY, SEQUENCE) == "444970c526b0d24391ad92180cb15150"
    assert is_proof("444970C526B0D24391AD92180CB15150", KEY, SEQUENCE)
    time = time_answer("", "GW-001", datetime(2025, 3, 14, 10, 20, 30))  # noqa: DTZ001
    assert make_frame(FrameKind.HEARTBEAT, time) == FRAMES["heartbeat_reply"]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("downlink_read_ct", b"02030038000105f4"),
        ("downlink_purchase", b"0120010000040800002710000d0000d21c"),
    ],
)
def test_a_frame_for_a_port_is_what_the_vectors_say(name: str, plain: bytes) -> None:
    assert logged_in().wrap(bytes.fromhex(plain.decode())) == FRAMES[name]


def test_the_login_of_the_vectors() -> None:
    stream = fresh()
    assert stream.receive(FRAMES["auth_request"]) == (Answer(FRAMES["auth_sequence"]),)
    assert stream.name is None
    assert stream.receive(FRAMES["auth_md5"]) == (
        Named("gateway-D"),
        Answer(FRAMES["auth_result_pass"]),
    )
    assert stream.name == "gateway-D"


def test_the_report_of_the_vectors() -> None:
    (pushed,) = logged_in().receive(FRAMES["data_aes"])
    assert isinstance(pushed, Pushed)
    upload = pushed.upload
    assert (upload.port, upload.unit, upload.number) == (1, 2, "")
    assert upload.dial == datetime(2025, 1, 1, 12, 30)  # noqa: DTZ001
    assert upload.values == {
        Q.ENERGY: 123_450,
        Q.ENERGY_SHARP: 10_110,
        Q.ENERGY_PEAK: 20_220,
        Q.ENERGY_FLAT: 30_330,
        Q.ENERGY_VALLEY: 40_440,
        Q.ENERGY_DEEP_VALLEY: 50_550,
    }
    assert upload.is_history, "of January, and the clock says March"


@pytest.mark.parametrize(
    "noise", [b"", b"\x00", b"\x1f", b"\x1f\x1f", b"\x1f\x1f\x03\x00\x00", b"hi"]
)
def test_a_whole_conversation_byte_by_byte_with_noise_between(noise: bytes) -> None:
    stream = fresh()
    events = dribbled(stream, noise + FRAMES["auth_request"] + noise + FRAMES["auth_md5"])
    stream.wrap(ONE, 2)
    rest = noise.join((b"", HEART, FRAMES["data_aes"], answer("02001", REPLY), b""))
    events += dribbled(stream, rest)
    assert [event for event in events if not isinstance(event, Pushed)] == [
        Answer(FRAMES["auth_sequence"]),
        Named("gateway-D"),
        Answer(FRAMES["auth_result_pass"]),
        Heartbeat(b"<root/>"),
        TIME,
        Bytes(REPLY, 2),
    ]
    assert len(events) == 7


def test_the_one_port_knows_it_by_its_first_bytes() -> None:
    box = Box(registration=REGISTRATION, secret=secret_of(SECRET))
    board = Switchboard({"gateway-D": ("acrel_gateway", box)})
    stream = board.new_stream(lambda _: DIAL_NOW)
    (challenge,) = [e for byte in FRAMES["auth_request"] for e in stream.receive(bytes((byte,)))]
    assert isinstance(challenge, Answer)
    sequence = read_login(challenge.data[7:])
    assert (sequence.operation, sequence.registration) == ("sequence", REGISTRATION)
    (said,) = re.findall(rb"<sequence>([0-9]+)</sequence>", challenge.data)
    proved = FRAMES["auth_md5"].replace(
        proof(KEY, SEQUENCE).encode(), proof(KEY, said.decode()).encode()
    )
    assert stream.receive(proved)[0] == Named("gateway-D")
    assert stream.dialect == "acrel_gateway"
    assert stream.wrap(ONE, 2)[:3] == b"\x1f\x1f\xf1"


# ---- who it is ----------------------------------------------------------------------------------


def test_a_wrong_secret_is_told_so_and_turned_away() -> None:
    stream = fresh("another secret!!")
    stream.receive(FRAMES["auth_request"])
    told, refused = stream.receive(FRAMES["auth_md5"])
    fail = result_answer("B1", "GW-001", passed=False)
    assert told == Answer(make_frame(FrameKind.LOGIN, fail))
    assert isinstance(refused, TurnedAway)
    assert "another secret" in refused.why
    assert SECRET not in refused.why
    assert stream.name is None
    assert stream.receive(FRAMES["auth_request"]) == (), "it is over"


@pytest.mark.parametrize("secret", ["", "fifteen letters", "seventeen letters"])
def test_a_secret_that_cannot_be_one_lets_nobody_in(secret: str) -> None:
    (refused,) = fresh(secret).receive(FRAMES["auth_request"])
    assert isinstance(refused, TurnedAway)
    assert "16 bytes" in refused.why
    assert not secret or secret not in refused.why


def test_a_gateway_without_a_secret_is_told_as_that() -> None:
    stream = knowing({"gateway-D": Box(registration=REGISTRATION)})
    (refused,) = stream.receive(FRAMES["auth_request"])
    assert isinstance(refused, TurnedAway)
    assert "does not say where it lies" in refused.why


def test_two_gateways_cannot_share_a_registration() -> None:
    box = Box(registration=REGISTRATION, secret=secret_of(SECRET))
    with pytest.raises(BadPattern, match="a and b have the same building and number"):
        knowing({"a": box, "b": box})


def test_a_proof_is_good_once() -> None:
    stream = fresh()
    (refused,) = stream.receive(FRAMES["auth_md5"])
    assert isinstance(refused, TurnedAway)
    stream = logged_in()
    (refused,) = stream.receive(FRAMES["auth_md5"])
    assert isinstance(refused, TurnedAway)


def test_it_may_log_in_again_as_itself_only() -> None:
    stream = logged_in()
    stream.receive(FRAMES["auth_request"])
    assert stream.receive(FRAMES["auth_md5"]) == (Answer(FRAMES["auth_result_pass"]),)
    other = FRAMES["auth_request"].replace(b"GW-001", b"GW-002")
    (refused,) = stream.receive(other)
    assert isinstance(refused, TurnedAway)
    assert stream.receive(HEART) == ()


def test_a_stranger_gets_no_answer_and_leaves_its_registration() -> None:
    stream = knowing({})
    assert stream.receive(FRAMES["auth_request"]) == (Introduced(REGISTRATION),)
    assert stream.sample == REGISTRATION.encode()
    assert stream.receive(FRAMES["auth_request"]) == ()
    assert stream.receive(FRAMES["auth_md5"]) == ()
    assert stream.receive(HEART) == ()
    assert stream.name is None


def test_nothing_counts_before_the_login() -> None:
    stream = fresh()
    stream.receive(FRAMES["auth_request"])
    assert stream.receive(HEART + FRAMES["data_aes"] + answer("01001", REPLY)) == ()
    assert Named("gateway-D") in stream.receive(FRAMES["auth_md5"])


def test_too_much_without_a_login_ends_it() -> None:
    stream = fresh()
    assert stream.receive(bytes(BYTES_BEFORE_NAME_MAX)) == ()
    (overflow,) = stream.receive(b"\0")
    assert isinstance(overflow, Overflow)
    assert len(overflow.sample) <= 256
    assert stream.receive(FRAMES["auth_request"]) == ()


def test_sequences_are_nineteen_digits_and_never_the_same() -> None:
    sequences = {random_sequence() for _ in range(100)}
    assert len(sequences) == 100
    assert all(len(s) == 19 and s.isdigit() and int(s) < 2**63 for s in sequences)


def test_a_secret_is_neither_shown_nor_stored() -> None:
    secret = secret_of(SECRET)
    assert SECRET not in repr(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)


# ---- answers of the line ------------------------------------------------------------------------


def test_an_answer_is_taken_once() -> None:
    stream = logged_in()
    stream.wrap(ONE, 2)
    assert stream.receive(answer("02001", REPLY)) == (Bytes(REPLY, 2),)
    (again,) = stream.receive(answer("02001", REPLY))
    assert again == Unrecognised(b"02001|" + REPLY.hex().encode())
    stream.wrap(ONE, 2)
    upper = hidden(FrameKind.ANSWER, b"02001|" + REPLY.hex().upper().encode())
    assert stream.receive(upper) == (Bytes(REPLY, 2),)


@pytest.mark.parametrize("echo", ["01001", "02002", "02000", "2001", "102001"])
def test_an_answer_that_names_somebody_else_is_nobodys(echo: str) -> None:
    stream = logged_in()
    stream.wrap(ONE, 2)
    (event,) = stream.receive(answer(echo, REPLY))
    assert isinstance(event, Unrecognised)
    assert stream.receive(answer("02001", REPLY)) == (Bytes(REPLY, 2),)


def test_an_answer_of_an_earlier_connection_is_nobodys() -> None:
    before = logged_in()
    before.wrap(ONE, 2)
    (event,) = logged_in().receive(answer("02001", REPLY))
    assert isinstance(event, Unrecognised)


def test_a_late_answer_goes_to_its_own_line_and_leaves_the_next_request_alone() -> None:
    stream = logged_in()
    stream.wrap(ONE, 1)
    stream.wrap(ONE, 2)  # the first one was given up
    assert stream.receive(answer("01001", REPLY)) == (Bytes(REPLY, 1),)
    assert stream.receive(answer("02001", REPLY)) == (Bytes(REPLY, 2),)


def test_old_bytes_under_a_new_label_settle_nothing() -> None:
    stream = logged_in()
    stream.wrap(ONE, 1)
    for old in (
        seal(b"\x02\x03\x04\x00\x07\x09\x00"),  # of another unit
        seal(b"\x01\x03\x02\x00\x07"),  # of another request
        seal(b"\x01\x20\x01\x00\x00\x04"),  # of a write
    ):
        assert stream.receive(answer("01001", old)) == (Bytes(old, 1),), (
            "the line's readers can tell"
        )
    assert stream.receive(answer("01001", b"\xff" + REPLY)) == (Bytes(b"\xff" + REPLY, 1),)
    (event,) = stream.receive(answer("01001", REPLY))
    assert isinstance(event, Unrecognised)


def test_a_refusal_is_an_answer() -> None:
    stream = logged_in()
    stream.wrap(ONE, 1)
    no = seal(b"\x01\x83\x02")
    assert stream.receive(answer("01001", no)) == (Bytes(no, 1),)
    (event,) = stream.receive(answer("01001", no))
    assert isinstance(event, Unrecognised)


def test_an_answer_out_of_order_is_nobodys() -> None:
    stream = logged_in()
    stream.wrap(ONE, 1)
    stream.wrap(ONE, 2)
    assert stream.receive(answer("02001", REPLY)) == (Bytes(REPLY, 2),)
    (event,) = stream.receive(answer("01001", REPLY))
    assert isinstance(event, Unrecognised)


def test_what_is_no_modbus_frame_goes_without_an_address() -> None:
    stream = logged_in()
    ciphertext = bytes.fromhex("6238a95914f3153871f59d8396cf6144d076b362")
    wrapped = stream.wrap(ciphertext, 7)
    assert decipher(wrapped[7:], KEY) == b"07000|" + ciphertext.hex().encode()
    assert stream.receive(answer("07000", REPLY)) == (Bytes(REPLY, 7),)


@pytest.mark.parametrize("plain", [b"", b"01001", b"01001|", b"01001|0", b"01001|zz", b"\xff" * 20])
def test_an_answer_without_bytes_is_kept_as_a_sample(plain: bytes) -> None:
    stream = logged_in()
    stream.wrap(ONE)
    (event,) = stream.receive(hidden(FrameKind.ANSWER, plain))
    assert event == Unrecognised(plain)


@given(st.integers(1, 99), st.integers(1, 247), st.binary(min_size=1, max_size=256))
def test_every_port_unit_and_answer_makes_the_round_trip(port: int, unit: int, data: bytes) -> None:
    stream = logged_in()
    request = read_registers(unit, 0x0200, 48).frame
    wrapped = stream.wrap(request, port)
    echo, _, carried = decipher(wrapped[7:], KEY).decode().partition("|")
    assert echo == f"{port:02}{unit:03}"
    assert bytes.fromhex(carried) == request
    assert stream.receive(answer(echo, data)) == (Bytes(data, port),)
