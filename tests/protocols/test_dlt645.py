"""DL/T 645 frames: published ones both ways, byte by byte, with noise around them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import dlt645 as wire
from protocols import dlt645_items as items
from protocols import dlt645_prepaid as prepaid
from protocols.dlt645 import Dlt645Reader, Frame, encode, take_frame
from protocols.exchange import Answer, Effect, Refusal, Reply
from protocols.reading import Quantity as Q

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "dlt645.json").read_text(encoding="utf-8")
)
GOOD = [v for v in VECTORS if v["checksum_ok"]]
every_good_frame = pytest.mark.parametrize("vector", GOOD, ids=lambda v: v["name"])
REPLIES = [v for v in GOOD if v["direction"] == "meter->head-end"]
METER = "123456789012"
NOISE = (b"", b"\x00", b"\xfe\xfe\xfe", b"\x68", b"\x68\x12\x90\x78\x56\x34\x12\x68\x91\xc8")


def frame_of(vector: dict[str, Any]) -> Frame:
    told = vector["decoded"]
    return Frame(told["address"], int(told["control"], 16), bytes.fromhex(told["data_minus33"]))


def asked_for(vector: dict[str, Any]) -> Dlt645Reader:
    frame = frame_of(vector)
    echoed = bytes.fromhex(vector["decoded"]["di"])[::-1] if "di" in vector["decoded"] else b""
    return Dlt645Reader(frame.address, frame.function, echoed)


def heard(reader: Dlt645Reader, data: bytes, *, dribbled: bool = False) -> Answer | None:
    if not dribbled:
        reader.receive_data(data)
        return reader.next_event()
    for at in range(len(data)):
        reader.receive_data(data[at : at + 1])
        if (answer := reader.next_event()) is not None:
            return answer
    return None


@every_good_frame
def test_a_published_frame_is_read_and_made_again(vector: dict[str, Any]) -> None:
    raw = bytes.fromhex(vector["hex"])
    frame, rest = take_frame(raw)
    assert (frame, rest) == (frame_of(vector), b"")
    assert encode(frame_of(vector), b"\xfe" * vector["decoded"]["preamble_fe"]) == raw


def test_a_frame_with_a_wrong_sum_is_none() -> None:
    (bad,) = (v for v in VECTORS if not v["checksum_ok"])
    frame, _ = take_frame(bytes.fromhex(bad["hex"]))
    assert frame is None


@pytest.mark.parametrize("vector", REPLIES, ids=lambda v: v["name"])
@pytest.mark.parametrize("noise", NOISE, ids=lambda n: n.hex() or "none")
@pytest.mark.parametrize("dribbled", [False, True])
def test_an_answer_is_found_in_noise(vector: dict[str, Any], noise: bytes, dribbled: bool) -> None:
    raw = bytes.fromhex(vector["hex"])
    answer = heard(asked_for(vector), noise + raw + b"\x16\x68", dribbled=dribbled)
    told = vector["decoded"]
    if told["abnormal"]:
        assert answer == Refusal(int(told["error_word"], 16))
        return
    data = bytes.fromhex(told["data_minus33"])
    skipped = 4 if "di" in told else 0
    assert answer == Reply(bytes((int(told["control"], 16),)) + data[skipped:])


def test_the_published_values_come_out_in_our_units() -> None:
    by_name = {v["name"]: bytes.fromhex(v["decoded"]["data_minus33"])[4:] for v in REPLIES}
    three, one = items.live_items(3), items.live_items(1)
    block = items.decode(items.ENERGY, by_name["energy block total+4 tariffs"])
    assert block == {
        Q.ENERGY: 1290,
        Q.ENERGY_SHARP: 620,
        Q.ENERGY_PEAK: 600,
        Q.ENERGY_FLAT: 30,
        Q.ENERGY_VALLEY: 20,
    }
    assert items.decode(one[0], by_name["phase A voltage 100.1 V"]) == {Q.VOLTAGE_L1: 1001}
    assert items.decode(one[1], by_name["phase A current 4.999 A"]) == {Q.CURRENT_L1: 4999}
    assert items.decode(three[2], by_name["total active power 0.2512 kW"]) == {Q.POWER: 251}
    assert items.decode(one[3], by_name["power factor 0.501"]) == {Q.POWER_FACTOR: 501}
    assert items.decode(items.ENERGY, by_name["dirty: non-BCD nibble in energy"]) == {}
    frozen = items.decode(items.ENERGY, by_name["last day-freeze fwd active block"])
    assert frozen[Q.ENERGY] == 1_234_560


def test_a_negative_power_keeps_its_sign() -> None:
    power = items.live_items(1)[2]
    assert items.decode(power, bytes.fromhex("122580")) == {Q.POWER: -251}


def test_a_clock_goes_both_ways_and_a_wrong_weekday_is_none() -> None:
    dial = datetime(2026, 8, 2, 10, 30, 45)  # noqa: DTZ001  a dial
    raw = items.encode_clock(dial)
    assert items.decode_clock(raw) == dial
    assert items.decode_clock(raw[:3] + b"\x03" + raw[4:]) is None
    assert items.decode_clock(raw[:5] + b"\x13" + raw[6:]) is None


def test_orders_are_the_published_frames() -> None:
    named = {v["name"]: bytes.fromhex(v["hex"]) for v in GOOD}
    address, operator = "000012345678", bytes((1, 0, 0, 0))
    assert wire.read_address().frame == named["read address, wildcard"]
    bought = prepaid.credit_request(
        address,
        prepaid.TOP_UP,
        operator,
        fields=(
            (10_000).to_bytes(4, "big"),
            (6).to_bytes(4, "big"),
            bytes.fromhex("000000012345"),
        ),
        macs=bytes.fromhex("A0B0C0D00A0B0C0D"),
    )
    assert bought.frame == named["remote top-up 100.00 yuan, count 6"]
    assert bought.effect is Effect.WRITE
    asked = prepaid.security("query", address, prepaid.QUERY, operator, effect=Effect.READ)
    assert asked.frame == named["prepay status query"]


def test_an_echo_a_neighbour_and_another_item_are_no_answer() -> None:
    reader = Dlt645Reader(METER, wire.READ, wire.di_bytes(0x00010000))
    data = wire.di_bytes(0x00010000) + b"\x01\x00\x00\x00"
    for other in (
        Frame(METER, wire.READ, wire.di_bytes(0x00010000)),
        Frame("123456789013", 0x91, data),
        Frame(METER, 0x91, wire.di_bytes(0x00020000) + bytes(4)),
        Frame(METER, 0x94, b""),
    ):
        assert heard(reader, encode(other)) is None
    assert heard(reader, encode(Frame(METER, 0x91, data))) == Reply(b"\x91\x01\x00\x00\x00")


@given(st.binary(max_size=300))
def test_any_bytes_give_a_frame_or_nothing(data: bytes) -> None:
    rest = data
    for _ in range(len(data) + 1):
        frame, rest = take_frame(rest)
        if frame is None:
            break
    assert len(rest) <= 10 + 255 + 2


@given(
    st.text("0123456789", min_size=12, max_size=12),
    st.integers(0, 0xFF),
    st.binary(max_size=200),
    st.integers(0, 7),
)
def test_what_is_made_is_read(address: str, control: int, data: bytes, preamble: int) -> None:
    frame = Frame(address, control, data)
    assert take_frame(encode(frame, b"\xfe" * preamble)) == (frame, b"")
