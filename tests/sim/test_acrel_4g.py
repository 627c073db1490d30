"""The simulated 4G meter and the boxes with frames of their own, against bytes from the spec."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from simulators import rtu
from simulators.acrel_4g import Acrel4gSpeech, Answers, Modem, frame
from simulators.dialects import Ddp, FourFaith, Speech, Transparent

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "dial_in.json").read_text())
SERIAL = b"12307210720085".ljust(20, b"\0")
ECHO = rtu.sealed(bytes.fromhex("01100057 0002"))
READ = rtu.sealed(bytes.fromhex("0103020001"))


def published(name: str) -> bytes:
    return bytes.fromhex(next(v["hex"] for v in VECTORS["acrel_4g"] if v["name"] == name))


def speech(answers: Answers = Answers.RTU) -> tuple[Acrel4gSpeech, Counter[str], list[bytes]]:
    counts: Counter[str] = Counter()
    times: list[bytes] = []
    modem = Modem(serial="12307210720085", answers=answers)
    return Acrel4gSpeech(modem, counts, times.append), counts, times


def test_it_says_what_the_published_meter_said() -> None:
    meter, counts, times = speech()
    assert meter.hello()[:54] == published("4g_register_up_real")[:54]
    assert meter.heartbeat() == meter.hello(), "until it is answered"
    frames, says = meter.downlink(published("4g_register_ack_real"))
    assert (frames, says) == ([], [published("4g_time_request_real")])
    assert meter.heartbeat() == published("4g_heartbeat_real")
    assert meter.downlink(published("4g_time_reply_real")) == ([], [])
    assert times == [bytes((23, 10, 10, 3, 17, 7, 27))]
    assert counts == {"got_84": 1, "got_93": 1}


def test_requests_come_out_whole_however_they_are_cut() -> None:
    meter, _, _ = speech()
    wire = published("4g_downlink_forced_trip") + published("4g_downlink_purchase")
    found = [f for at in range(len(wire)) for f in meter.downlink(wire[at : at + 1])[0]]
    assert [f.hex() for f in found] == [
        "01100057000204000100012775",
        "0120010000040800002710000d0000d21c",
    ]


@pytest.mark.parametrize(
    ("answers", "echo", "read"),
    [
        (Answers.RTU, ECHO, READ),
        (Answers.SERIAL_AND_RTU, SERIAL + ECHO, SERIAL + READ),
        (Answers.SERIAL_AFTER_WRITE, SERIAL, SERIAL + READ),
    ],
)
def test_three_kinds_of_answers(answers: Answers, echo: bytes, read: bytes) -> None:
    meter, _, _ = speech(answers)
    assert meter.packet(ECHO) == frame(0x90, echo)
    assert meter.packet(READ) == frame(0x90, read)


def test_an_upload_is_the_published_one() -> None:
    meter, _, _ = speech()
    whole = published("4g_upload_full_live_block")
    answer = whole[3 + 20 + 2 + 3 + 2 : -4 - 4]
    assert rtu.is_sealed(answer)
    assert meter.upload(answer) == whole


def test_hongdian_packets_have_the_published_shape() -> None:
    counts: Counter[str] = Counter()
    box = Ddp("15821049734", counts)
    assert box.hello()[:15].hex() == "7b010016" + b"15821049734".hex()
    assert box.heartbeat() == box.hello()
    frames, says = [], []
    for vector in VECTORS["ddp"]:
        down, up = box.downlink(bytes.fromhex(vector["hex"]))
        frames += down
        says += up
    assert [f.hex() for f in frames] == [
        "0101",
        "fefefe6810841311150000000103901f01e916",
    ]
    assert says == [b"{\x05\0\x1015821049734{"] * 2
    assert counts == {"got_89": 2}
    assert box.downlink(b"{\x89\0\x1113912345678\x01{") == ([], [])
    assert counts["bad_downlinks"] == 1


def test_four_faith_escapes_both_ways() -> None:
    box = FourFaith("13912345678")
    assert (len(box.hello()), box.heartbeat()) == (21, b"\xfe")
    assert box.packet(b"\xfe\xfe\x68\xfd") == b"\xfd\xee\xfd\xee\x68\xfd\xed"
    assert box.downlink(b"\x01\xfd") == ([b"\x01"], [])
    assert box.downlink(b"\xee\x02\xfd\xed") == ([b"\xfe\x02\xfd"], [])


def test_a_plain_box_adds_nothing_or_its_name() -> None:
    plain: Speech = Transparent(b"NAME", b"ping", False)
    named: Speech = Transparent(b"NAME", b"ping", True)
    assert (plain.heartbeat(), plain.packet(b"x")) == (b"ping", b"x")
    assert (named.heartbeat(), named.packet(b"x")) == (b"NAMEping", b"NAMEx")
    assert plain.downlink(b"x") == ([b"x"], [])
