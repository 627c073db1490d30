"""CJ/T 188: published frames both ways, noise, options of makers, and a valve that is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import cjt188 as wire
from protocols.catalog import load_meter_types
from protocols.exchange import (
    BadAnswer,
    Conversation,
    Effect,
    Intent,
    KeyWork,
    NotReady,
    Refusal,
    Refused,
    Reply,
    Request,
    Silence,
)
from protocols.meter_type import Address, Driver, Supply, TopUp
from protocols.reading import Alarm, Quantity, meter_dial
from simulators.cjt188_meter import Bus188, Unit188

T = TypeVar("T")
Q = Quantity
EVERYTHING = frozenset(Q)
NUMBER = "00000019121301"
AT = Address(number=NUMBER)

VECTORS = [  # shared vectors, "cs_ok" ones; the frame without its preamble
    ("6810AAAAAAAAAAAAAA0103901F01D216", 0x10, "A" * 14, 0x01, "901F01"),
    ("6810AAAAAAAAAAAAAA0303810A01B016", 0x10, "A" * 14, 0x03, "810A01"),
    ("6810AAAAAAAAAAAAAA03030A81A75616", 0x10, "A" * 14, 0x03, "0A81A7"),
    ("68108967452301337883030A81A73416", 0x10, "78330123456789", 0x83, "0A81A7"),
    ("68104433221100337801031F90008016", 0x10, "78330011223344", 0x01, "1F9000"),
    ("6810011312190000000404A0170155CC16", 0x10, NUMBER, 0x04, "A0170155"),
    ("6810011312190000000404A01701991016", 0x10, NUMBER, 0x04, "A0170199"),
    ("6810011312190000000404A0170166DD16", 0x10, NUMBER, 0x04, "A0170166"),
    ("6810011312190000000404A01701007716", 0x10, NUMBER, 0x04, "A0170100"),
]


def driver_of(name: str, **options: str) -> Driver:
    return load_meter_types()[name].new_driver(options)


def run(
    conversation: Conversation[T], bus: Bus188, *, garble: Callable[[bytes], bytes] = bytes
) -> tuple[T, list[Request | Intent]]:
    """Against the opponent; a request it does not answer is silence."""
    made: list[Request | Intent] = []
    try:
        step = next(conversation)
        while True:
            assert not isinstance(step, KeyWork), "such a meter has no keys"
            made.append(step)
            if isinstance(step, Intent):
                step = conversation.send(None)
                continue
            assert bus.is_whole(step.frame)
            reader = step.new_reader()
            for byte in garble(bus.answer(step.frame) or b""):
                reader.receive_data(bytes((byte,)))
            answer = reader.next_event()
            step = (
                conversation.throw(Silence(step.label))
                if answer is None
                else (conversation.send(answer))
            )
    except StopIteration as stop:
        result: T = stop.value
        return result, made


@pytest.mark.parametrize(("text", "kind", "address", "control", "data"), VECTORS)
def test_published_frames_both_ways(
    text: str, kind: int, address: str, control: int, data: str
) -> None:
    raw = bytes.fromhex(text)
    frame = wire.Frame(kind, address, control, bytes.fromhex(data))
    assert wire.frame_at(raw, 0) == frame
    assert wire.encode(frame, preamble=b"") == raw


def test_the_published_reply_with_a_wrong_sum_is_no_frame() -> None:
    text = "68104433221100337881161F9000007766552C007766552C3101221105152021840816"
    assert wire.frame_at(bytes.fromhex(text), 0) is None


def test_its_data_with_the_right_sum_are_read() -> None:
    text = "68104433221100337881161F9000007766552C007766552C31012211051520218413"
    raw = bytes.fromhex(text + "16")
    frame = wire.frame_at(raw, 0)
    assert frame is not None
    from protocols.cjt188_driver import decode_water

    values, status = decode_water(frame.data[wire.ITEM_BYTES :])
    assert values[Q.VOLUME] == 556_677_000
    assert str(meter_dial(values[Q.CLOCK])) == "2015-05-11 22:01:31"
    assert status == 0x21


def test_a_water_meter_is_read_in_either_order_of_bytes() -> None:
    for low_first in (True, False):
        unit = Unit188(NUMBER, litres=4_567_890, settled_litres=4_000_000, low_first=low_first)
        driver, bus = driver_of("cjt188_water"), Bus188([unit])
        values, made = run(driver.read(AT, EVERYTHING), bus)
        assert (values[Q.VOLUME], values[Q.VOLUME_SETTLED]) == (4_567_890, 4_000_000)
        assert str(meter_dial(values[Q.CLOCK])) == "2026-03-20 10:00:00"
        assert values[Q.ALARMS] == 0
        assert Q.RELAY_CLOSED not in values, "it has no valve"
        assert len(made) == (1 if low_first else 2)
        _, again = run(driver.read(AT, EVERYTHING), bus)
        assert len(again) == 1, "it remembers what this meter takes"
        fixed = driver_of("cjt188_water", item_order="high_first" if low_first else "low_first")
        with pytest.raises(Silence):
            run(fixed.read(AT, EVERYTHING), bus)


def test_a_heat_meter_tells_all_it_declares() -> None:
    unit = Unit188(
        NUMBER,
        kind=0x20,
        heat_wh=12_345_670,
        watts=4_560,
        litres_per_hour=789,
        litres=98_760,
        supply_cdeg=6_512,
        return_cdeg=4_203,
        hours=1_234,
        battery_low=True,
    )
    values, _ = run(driver_of("cjt188_heat").read(AT, EVERYTHING), Bus188([unit]))
    assert values.keys() == load_meter_types()["cjt188_heat"].quantities
    assert (values[Q.HEAT], values[Q.HEAT_POWER], values[Q.FLOW]) == (12_345_670, 4_560, 789)
    assert (values[Q.SUPPLY_TEMPERATURE], values[Q.RETURN_TEMPERATURE]) == (6_512, 4_203)
    assert (values[Q.VOLUME], values[Q.HOURS]) == (98_760, 1_234)
    assert values[Q.ALARMS] == Alarm.LOW_BATTERY


@pytest.mark.parametrize("high_bits", [False, True])
@pytest.mark.parametrize("free_words", [False, True])
@pytest.mark.parametrize("low_first", [False, True])
def test_a_valve_is_switched_once_and_looked_at(
    high_bits: bool, free_words: bool, low_first: bool
) -> None:
    unit = Unit188(
        NUMBER, has_valve=True, high_bits=high_bits, free_words=free_words, low_first=low_first
    )
    driver = driver_of(
        "cjt188_water_valve",
        status="high_bits" if high_bits else "standard",
        valve_words="free" if free_words else "forced",
    )
    bus = Bus188([unit])
    for supply, opens in ((Supply.TRIP, False), (Supply.CLOSE, True), (Supply.RELEASE, True)):
        outcome, made = run(driver.set_supply(AT, supply), bus)
        assert outcome.held
        assert (outcome.look.relay_closed_bits, outcome.look.forced) == (int(opens), not opens)
        effects = [s.effect for s in made if isinstance(s, Request)]
        assert effects.count(Effect.WRITE) == 1
        first_write = effects.index(Effect.WRITE)
        assert isinstance(made[first_write], Intent), "right before the write"
    assert unit.switched == [False, True, True]


def test_a_word_is_not_believed_a_look_is() -> None:
    turning = Unit188(NUMBER, has_valve=True, moves_after_looks=1)
    outcome, _ = run(driver_of("cjt188_water_valve").set_supply(AT, Supply.TRIP), Bus188([turning]))
    assert not outcome.held, "its motor still turns: looked at later"
    assert outcome.refusal is None
    other = Unit188(NUMBER, has_valve=True, free_words=True)
    outcome, _ = run(driver_of("cjt188_water_valve").set_supply(AT, Supply.TRIP), Bus188([other]))
    assert (outcome.held, outcome.refusal) == (False, 2), "it knows other words"
    stuck = Unit188(NUMBER, has_valve=True, valve_stuck=True)
    with pytest.raises(BadAnswer, match="stuck"):
        run(driver_of("cjt188_water_valve").set_supply(AT, Supply.TRIP), Bus188([stuck]))
    assert stuck.switched == [], "nothing is sent to a valve that cannot be looked at"
    values, _ = run(driver_of("cjt188_water_valve").read(AT, EVERYTHING), Bus188([stuck]))
    assert values[Q.ALARMS] == Alarm.FAULT
    assert Q.RELAY_CLOSED not in values


def test_what_it_cannot_do_is_never_sent() -> None:
    bus = Bus188([Unit188(NUMBER)])
    for order in (
        driver_of("cjt188_water").set_supply(AT, Supply.TRIP),
        driver_of("cjt188_water").top_up(AT, TopUp(purchase_count=1, amount_fen=100)),
    ):
        with pytest.raises(NotReady):
            run(order, bus)
    assert bus.heard == []


def test_an_unknown_unit_and_a_strange_length_are_errors_not_numbers() -> None:
    from protocols.cjt188_driver import decode_heat, decode_water

    payload = bytes.fromhex("123456782B" + "000000002C" + "00" * 9)
    with pytest.raises(BadAnswer, match="unit 2B"):
        decode_water(payload)
    empty = bytes.fromhex("FFFFFFFF2C" + "FFFFFFFF2C" + "FF" * 7 + "0000")
    assert decode_water(empty) == ({}, 0), "no digits, no value"
    for decode in (decode_water, decode_heat):
        with pytest.raises(BadAnswer, match="bytes"):
            decode(b"")


def test_a_refusal_of_every_order_is_a_refusal() -> None:
    conversation = driver_of("cjt188_water").read(AT, EVERYTHING)
    next(conversation)
    conversation.send(Refusal(1))
    with pytest.raises(Refused):
        conversation.send(Refusal(1))


REQUEST = wire.request("read 901F", wire.Frame(0x10, NUMBER, wire.READ, b"\x1f\x90\x07"))


def answer_frame(
    data: bytes, *, number: str = NUMBER, serial: int = 7, item: bytes = b"\x1f\x90"
) -> bytes:
    return wire.encode(wire.Frame(0x10, number, 0x81, item + bytes((serial,)) + data))


@given(
    noise=st.binary(max_size=40),
    data=st.binary(max_size=60),
    pieces=st.integers(1, 30),
    swapped=st.booleans(),
)
def test_the_answer_is_found_in_noise(
    noise: bytes, data: bytes, pieces: int, swapped: bool
) -> None:
    item = b"\x90\x1f" if swapped else b"\x1f\x90"
    stream = noise + REQUEST.frame + answer_frame(data, item=item) + b"rest"
    reader = REQUEST.new_reader()
    for at in range(0, len(stream), pieces):
        reader.receive_data(stream[at : at + pieces])
    assert reader.next_event() == Reply(data)
    assert reader.next_event() is None


@given(st.binary(max_size=60))
def test_what_is_somebody_elses_is_no_answer(data: bytes) -> None:
    for frame in (
        answer_frame(data, number="00000019121302"),
        answer_frame(data, serial=8),
        answer_frame(data, item=b"\x17\xa0"),
        REQUEST.frame,
    ):
        reader = REQUEST.new_reader()
        reader.receive_data(frame)
        assert reader.next_event() is None


@given(st.lists(st.binary(max_size=400), max_size=8))
def test_any_bytes_are_borne_in_bounded_memory(chunks: list[bytes]) -> None:
    reader = wire.Cjt188Reader(wire.Frame(0x10, NUMBER, wire.READ, b"\x1f\x90\x07"))
    for chunk in chunks:
        reader.receive_data(chunk)
        assert len(reader._buffer) < wire.FRAME_BYTES_MAX
        reader.next_event()
