"""Drivers of DL/T 645 against meters written by somebody else, without a wire."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import TypeVar

import pytest

from gateways.key_box import SchemeHolder
from protocols.catalog import load_meter_types
from protocols.evidence import Verdict
from protocols.exchange import (
    Conversation,
    CountOutOfStep,
    Intent,
    KeyWork,
    NotReady,
    Reply,
    Silence,
)
from protocols.keys import CountsCodes
from protocols.meter_type import Address, Driver, Supply, TopUp
from protocols.reading import Quantity as Q
from protocols.reading import meter_dial
from protocols.settings import SetClock
from simulators.dial import dial_datetime
from simulators.dlt645_meter import Bus645, Unit645, opened
from simulators.dlt645_purse import MAC_FAILURES_MAX, Purse
from simulators.metering import Forced
from tests.headend.money.test_dlt645 import KEY, SealsWrong, mac
from tests.sim.helpers import HandClock, meter

T = TypeVar("T")
AT = Address(number="230615000007")
NUMBER = "230615000001"
DAY_MS = 86_400_000
EVERYTHING = frozenset(Q)


class Bench:
    """One meter on a bench with its driver."""

    def __init__(
        self, name: str, phases: int = 1, key: bytes = KEY, password: str = "000000"
    ) -> None:
        self.clock = HandClock()
        self.meter = meter(self.clock, phases=phases, number=NUMBER, credit_fen=10_000)
        purse = Purse(key=key) if "prepaid" in name else None
        self.unit = Unit645(meter=self.meter, address=AT.number, purse=purse, password=password)
        self.bus = Bus645([self.unit])
        options = {"key_holder": SchemeHolder(mac(KEY))} if purse else {}
        self.driver: Driver = load_meter_types()[name].new_driver(options)

    def play(self, conversation: Conversation[T]) -> T:
        try:
            step = next(conversation)
            while True:
                if isinstance(step, Intent):
                    step = conversation.send(None)
                    continue
                if isinstance(step, KeyWork):
                    step = conversation.send(Reply(step.work()))
                    continue
                heard, reader = self.bus.answer(step.frame), step.new_reader()
                reader.receive_data(heard or b"")
                answer = reader.next_event()
                step = (
                    conversation.throw(Silence(step.label))
                    if answer is None
                    else conversation.send(answer)
                )
        except StopIteration as stop:
            result: T = stop.value
            return result

    def dial(self) -> datetime:
        return dial_datetime(self.meter.look().dial_ms)


@pytest.mark.parametrize(
    ("name", "phases"), [("dlt645_single_phase", 1), ("dlt645_three_phase", 3)]
)
def test_everything_it_declares_is_what_the_meter_shows(name: str, phases: int) -> None:
    bench = Bench(name, phases)
    bench.clock.at_ms += DAY_MS // 2
    values = bench.play(bench.driver.read(AT, EVERYTHING))
    assert values.keys() == load_meter_types()[name].quantities
    look = bench.meter.look()
    assert values[Q.ENERGY] == look.total_w_ms // 36_000_000 * 10
    assert values[Q.VOLTAGE_L1] == look.phases[0].voltage_dv
    assert abs(values[Q.POWER] - sum(p.power_w for p in look.phases)) <= 1
    assert values[Q.RELAY_CLOSED] == (1 << phases) - 1
    assert meter_dial(values[Q.CLOCK]) == bench.dial().replace(microsecond=0)
    assert bench.play(bench.driver.identify(AT)).meter_number == NUMBER


def test_midnights_come_from_the_meters_own_memory() -> None:
    bench = Bench("dlt645_single_phase")
    first = bench.dial().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    bench.clock.at_ms += 3 * DAY_MS
    frozen = bench.play(bench.driver.frozen(AT))
    assert [f.dial for f in frozen] == [first + timedelta(days=n) for n in range(3)]
    assert [f.values[Q.ENERGY] for f in frozen] == [
        sum(day.energy_w_ms) // 36_000_000 * 10 for day in bench.meter.day_ends
    ]
    assert frozen[0].values[Q.ENERGY] < frozen[2].values[Q.ENERGY]


def test_a_relay_is_tripped_closed_and_given_back() -> None:
    bench = Bench("dlt645_single_phase")
    assert bench.play(bench.driver.set_supply(AT, Supply.TRIP)).held
    assert bench.meter.forced is Forced.OPEN
    assert bench.play(bench.driver.set_supply(AT, Supply.CLOSE)).held
    assert bench.meter.look().relay_closed
    writes = len(bench.bus.writes())
    assert bench.play(bench.driver.set_supply(AT, Supply.RELEASE)).held
    assert len(bench.bus.writes()) == writes, "nobody holds it: there is nothing to write"


def test_an_order_that_was_held_back_too_long_does_nothing() -> None:
    bench = Bench("dlt645_single_phase")
    conversation = bench.driver.set_supply(AT, Supply.TRIP)
    held: list[bytes] = []
    step = next(conversation)
    while not held:
        if isinstance(step, Intent):
            step = conversation.send(None)
            assert not isinstance(step, Intent | KeyWork)
            held.append(step.frame)
            continue
        assert not isinstance(step, KeyWork)
        reader = step.new_reader()
        reader.receive_data(bench.bus.answer(step.frame) or b"")
        step = conversation.send(reader.next_event())
    bench.clock.at_ms += 10 * 60_000
    bench.bus.answer(held[0])
    assert bench.meter.look().relay_closed


def test_a_wrong_password_is_a_no_for_good() -> None:
    bench = Bench("dlt645_single_phase", password="123456")
    outcome = bench.play(bench.driver.set_supply(AT, Supply.TRIP))
    assert not outcome.held
    assert outcome.refusal == 1
    assert bench.unit.wrong_passwords == 1


def test_a_clock_is_set_and_read_back() -> None:
    bench = Bench("dlt645_single_phase")
    wanted = bench.dial() + timedelta(minutes=20)
    assert bench.play(bench.driver.configure(AT, SetClock(), lambda: wanted))
    assert abs(bench.dial() - wanted) < timedelta(seconds=1)


def test_a_purchase_is_proved_by_the_chip_and_recorded() -> None:
    bench = Bench("dlt645_prepaid_single_phase")
    outcome = bench.play(bench.driver.top_up(AT, TopUp(purchase_count=1, amount_fen=5_000)))
    assert outcome.verdict is Verdict.APPLIED
    assert outcome.after.remaining_credit_fen == 15_000
    assert bench.meter.purchase_count == 1
    (bought,) = bench.play(bench.driver.recharges(AT))
    assert (bought.purchase_count, bought.amount_fen) == (1, 5_000)
    values = bench.play(bench.driver.read(AT, EVERYTHING))
    assert values[Q.TOTAL_PURCHASED] == 5_000
    assert values[Q.PURCHASE_COUNT] == 1
    with pytest.raises(CountOutOfStep):
        bench.play(bench.driver.top_up(AT, TopUp(purchase_count=1, amount_fen=5_000)))


def test_a_count_is_burned() -> None:
    bench = Bench("dlt645_prepaid_single_phase")
    outcome = bench.play(bench.driver.top_up(AT, TopUp(purchase_count=1, amount_fen=0)))
    assert outcome.verdict is Verdict.APPLIED
    assert bench.meter.look().remaining_fen == 10_000


def test_two_wrong_codes_and_the_chip_is_asked_no_more() -> None:
    bench = Bench("dlt645_prepaid_single_phase", key=b"another")
    purse = bench.unit.purse
    assert purse is not None
    for _ in range(6):
        with pytest.raises(Exception):  # noqa: B017, PT011  what it is, the next lines tell
            bench.play(bench.driver.top_up(AT, TopUp(purchase_count=1, amount_fen=5_000)))
    assert purse.mac_failures == 2 < MAC_FAILURES_MAX
    with pytest.raises(NotReady, match="two codes"):
        bench.play(bench.driver.top_up(AT, TopUp(purchase_count=1, amount_fen=5_000)))


def test_a_session_that_opens_clears_no_wrong_code_of_a_purchase() -> None:
    bench = Bench("dlt645_prepaid_single_phase")
    purse, holder = bench.unit.purse, SealsWrong(mac(KEY))
    assert purse is not None
    bench.driver = load_meter_types()["dlt645_prepaid_single_phase"].new_driver(
        {"key_holder": holder}
    )
    for _ in range(6):
        with contextlib.suppress(NotReady):
            bench.play(bench.driver.top_up(AT, TopUp(purchase_count=1, amount_fen=5_000)))
    assert purse.mac_failures == 2


def test_a_proved_purchase_clears_what_was_wrong_before_it() -> None:
    bench = Bench("dlt645_prepaid_single_phase")
    assert isinstance(bench.driver, CountsCodes)
    bench.driver.codes_refused = 1
    bench.play(bench.driver.evidence(AT))
    assert bench.driver.codes_refused == 1
    bench.play(bench.driver.top_up(AT, TopUp(purchase_count=1, amount_fen=5_000)))
    assert bench.driver.codes_refused == 0


def test_an_old_frame_means_nothing_in_a_new_session() -> None:
    bench = Bench("dlt645_prepaid_single_phase")
    bench.play(bench.driver.top_up(AT, TopUp(purchase_count=1, amount_fen=5_000)))
    (old,) = bench.bus.writes()
    bench.play(bench.driver.evidence(AT))  # a new session
    said = opened(bench.bus.answer(old) or b"")
    assert said is not None
    assert said[1] == 0xC3
    assert bench.meter.total_purchased_fen == 5_000


def test_an_old_meter_is_read() -> None:
    driver = load_meter_types()["dlt645_1997"].new_driver({})
    conversation = driver.read(AT, frozenset({Q.ENERGY}))
    step = next(conversation)
    assert not isinstance(step, Intent | KeyWork)
    reader = step.new_reader()
    body = b"\x68" + bytes.fromhex(AT.number)[::-1] + b"\x68\x81\x06"
    body += bytes((b + 0x33) & 0xFF for b in bytes.fromhex("109056341200"))
    reader.receive_data(body + bytes((sum(body) & 0xFF, 0x16)))
    with pytest.raises(StopIteration) as stop:
        conversation.send(reader.next_event())
    assert stop.value.value == {Q.ENERGY: 1_234_560}
