"""DDSY1352 and DTSY1352: what their two blocks say, and what they must never be taken to say."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from protocols.catalog import load_meter_types
from protocols.exchange import BadAnswer, Evidence, Refused, WrongMeter
from protocols.meter_type import Address, BadOption, Driver, Options
from protocols.reading import Alarm, Control, Values, meter_dial
from protocols.reading import Quantity as Q
from tests.protocols.slave import Slave, play, sealed, words_of
from tests.protocols.vectors import ACREL, LIVE_PAYLOAD

AT = Address(1)
EVERYTHING = frozenset(Q)

# 12 purchases, prices 0.78 0.60 0.50 0.35, alarms 20.00 and 5.00, overdraft 3.00, bought 500.00.
PREPAID_PAYLOAD = bytes.fromhex(
    "0001 000c 0000004e 0000003c 00000032 00000023 000007d0 000001f4 0000012c 00000000"
    "0000c350 00002298 00000064 0000"
)


def live_payload(type_code: int = 7, **patches: str) -> bytes:
    """The published live block with some bytes changed: at_72="20e0"."""
    payload = bytearray(LIVE_PAYLOAD)
    payload[0:2] = type_code.to_bytes(2, "big")
    for where, new in patches.items():
        at = int(where.removeprefix("at_"))
        payload[at : at + len(bytes.fromhex(new))] = bytes.fromhex(new)
    return bytes(payload)


def slave(live: bytes = LIVE_PAYLOAD, prepaid: bytes = PREPAID_PAYLOAD) -> Slave:
    return Slave({**words_of(0x0200, live), **words_of(0x0400, prepaid)})


def driver(name: str = "acrel_ddsy1352", options: Options | None = None) -> Driver:
    return load_meter_types()[name].new_driver(options or {})


def read(live: bytes, name: str = "acrel_ddsy1352", **options: str | int) -> Values:
    return play(driver(name, options).read(AT, EVERYTHING), slave(live))


def test_the_published_live_block_reads_as_published() -> None:
    meter = slave()
    wanted = EVERYTHING - {Q.TOTAL_PURCHASED, Q.OVERDRAFT}
    wanted -= {q for q in Q if "price" in q.value or "alarm_amount" in q.value}
    values = play(driver().read(AT, wanted), meter)
    expected = dict(ACREL["live block values"])
    dial = meter_dial(values.pop(Q.CLOCK))
    assert f"{dial:%Y-%m-%d %H:%M:%S}" == expected.pop("dial")
    assert {q.value: v for q, v in values.items()} == expected
    assert meter.asked == [(0x0200, 48)]


def test_a_full_look_takes_two_requests_and_adds_the_prepaid_block() -> None:
    meter = slave()
    values = play(driver().read(AT, EVERYTHING), meter)
    assert meter.asked == [(0x0200, 48), (0x0400, 25)]
    assert values[Q.TOTAL_PURCHASED] == 50000
    assert values[Q.PURCHASE_COUNT] == 12
    assert values[Q.REMAINING_CREDIT] == 8856
    assert [values[q] for q in (Q.ALARM_AMOUNT_1, Q.ALARM_AMOUNT_2, Q.OVERDRAFT)] == [
        2000,
        500,
        300,
    ]
    prices = (Q.PRICE_SHARP, Q.PRICE_PEAK, Q.PRICE_FLAT, Q.PRICE_VALLEY)
    assert [values[q] for q in prices] == [78, 60, 50, 35]


def test_money_of_one_look_comes_from_one_block() -> None:
    """A purchase lands between the two blocks: count, total and credit must still agree."""
    live = live_payload(at_62="00000000", at_66="000b")
    values = play(driver().read(AT, EVERYTHING), slave(live))
    assert (values[Q.PURCHASE_COUNT], values[Q.TOTAL_PURCHASED]) == (12, 50000)
    assert values[Q.REMAINING_CREDIT] == 8856


def test_a_three_phase_meter_tells_all_phases() -> None:
    live = live_payload(5, at_2="08fc090008fe", at_8="000100020003", at_14="fffe000100020001")
    values = read(live, "acrel_dtsy1352")
    assert [values[q] for q in (Q.VOLTAGE_L1, Q.VOLTAGE_L2, Q.VOLTAGE_L3)] == [2300, 2304, 2302]
    assert [values[q] for q in (Q.CURRENT_L1, Q.CURRENT_L2, Q.CURRENT_L3)] == [10, 20, 30]
    assert [values[q] for q in (Q.POWER_L1, Q.POWER_L2, Q.POWER_L3, Q.POWER)] == [-2, 1, 2, 1]


@pytest.mark.parametrize(
    ("bits", "relay", "alarms", "controls"),
    [
        ("e0000000", 7, 0, 0),
        ("20000000", 1, 0, 0),
        ("80000000", 4, 0, 0),
        ("01000000", 0, Alarm.FAULT, 0),
        ("00100000", 0, Alarm.OVER_LIMIT, 0),
        ("00200000", 0, Alarm.ARREARS, 0),
        ("00400000", 0, Alarm.LOW_CREDIT_1, 0),
        ("00800000", 0, Alarm.LOW_CREDIT_2, 0),
        ("00080000", 0, 0, Control.FORCED),
        ("00070000", 0, 0, Control.FORCED_L1 | Control.FORCED_L2 | Control.FORCED_L3),
        ("00000800", 0, 0, Control.LOAD),
        ("00000008", 0, 0, Control.PREPAID),
        ("00000080", 0, 0, Control.TIME),
    ],
)
def test_every_state_bit_is_its_own(bits: str, relay: int, alarms: int, controls: int) -> None:
    values = read(live_payload(5, at_72=bits), "acrel_dtsy1352")
    assert (values[Q.RELAY_CLOSED], values[Q.ALARMS], values[Q.CONTROLS]) == (
        relay,
        alarms,
        controls,
    )


def test_a_single_phase_meter_has_one_relay() -> None:
    values = read(live_payload(at_72="e0070000"))
    assert values[Q.RELAY_CLOSED] == 1
    assert values[Q.CONTROLS] == Control.FORCED_L1


def test_credit_may_be_below_zero_by_one_fen() -> None:
    prepaid = PREPAID_PAYLOAD[:40] + bytes.fromhex("ffffffff") + PREPAID_PAYLOAD[44:]
    values = play(driver().read(AT, EVERYTHING), slave(live_payload(at_62="ffffffff"), prepaid))
    assert values[Q.REMAINING_CREDIT] == -1


@pytest.mark.parametrize("type_code", [5, 10, 23])
def test_another_type_at_this_address_gives_no_reading(type_code: int) -> None:
    for conversation in (
        driver().read(AT, EVERYTHING),
        driver().evidence(AT),
        driver().identify(AT),
    ):
        with pytest.raises(WrongMeter, match=f"type code {type_code}"):
            play(conversation, slave(live_payload(type_code)))


@pytest.mark.parametrize("payload", [bytes(96), b"\xff" * 96])
def test_an_empty_block_gives_no_reading(payload: bytes) -> None:
    with pytest.raises(BadAnswer, match="type code"):
        read(payload)


def test_fields_that_are_not_available_are_left_out() -> None:
    values = read(live_payload()[:2] + b"\xff" * 94)
    prepaid_only = {q for q in values if q.value.startswith(("price", "alarm_amount"))}
    money = {Q.TOTAL_PURCHASED, Q.OVERDRAFT, Q.BASE_AMOUNT, Q.REMAINING_CREDIT, Q.PURCHASE_COUNT}
    assert set(values) == prepaid_only | money


def test_a_voltage_no_meter_can_show_makes_the_block_unbelievable() -> None:
    with pytest.raises(BadAnswer, match="voltage_l1_dv reads 65000"):
        read(live_payload(at_2="fde8"))


def test_an_impossible_power_factor_is_left_out_and_the_rest_kept() -> None:
    values = read(live_payload(at_36="03e9"))
    assert Q.POWER_FACTOR not in values
    assert values[Q.ENERGY] == 12345670


@pytest.mark.parametrize(
    "clock",
    [
        "190d0e050a141e",  # month 13
        "191e0e050a141e",
        "19030e05181400",  # hour 24
        "19030e050a3c00",  # minute 60
        "19030e020a141e",  # 14 March 2025 was no Tuesday: an hour read as a weekday
        "00000000000000",
        "ffffffffffffff",
    ],
)
def test_a_dial_that_shows_no_date_is_left_out(clock: str) -> None:
    values = read(live_payload(at_80=clock))
    assert Q.CLOCK not in values
    assert values[Q.ENERGY] == 12345670


EIGHT_RATES = live_payload(at_80="19030e0a141e00") + bytes.fromhex("000003e8") + bytes(44)


def test_the_eight_rate_block_has_deep_valley_and_no_weekday() -> None:
    values = read(EIGHT_RATES, rates=8)
    assert values[Q.ENERGY_DEEP_VALLEY] == 10000
    assert meter_dial(values[Q.CLOCK]) == datetime(2025, 3, 14, 10, 20, 30)  # noqa: DTZ001


def test_auto_finds_the_variant_once() -> None:
    eight = driver(options={"rates": "auto"})
    values = play(eight.read(AT, EVERYTHING), slave(EIGHT_RATES))
    assert values[Q.ENERGY_DEEP_VALLEY] == 10000
    four = driver(options={"rates": "auto"})
    meter = slave()
    for _ in range(2):
        values = play(four.read(AT, frozenset({Q.ENERGY})), meter)
        assert values == {Q.ENERGY: 12345670}
    assert meter.asked == [(0x0200, 72), (0x0200, 48), (0x0200, 48)]


def test_auto_leaves_out_a_dial_that_reads_well_in_both_forms() -> None:
    """A 4-rate meter that answers a longer read too: its weekday would pass for an hour."""
    longer = slave(LIVE_PAYLOAD + bytes(48))
    values = play(driver(options={"rates": "auto"}).read(AT, EVERYTHING), longer)
    assert Q.CLOCK not in values


def test_money_may_be_kept_in_other_steps() -> None:
    values = read(LIVE_PAYLOAD, money_step_fen=10)
    assert (values[Q.REMAINING_CREDIT], values[Q.TOTAL_PURCHASED]) == (88560, 500000)
    assert values[Q.PURCHASE_COUNT] == 12
    assert values[Q.ENERGY] == 12345670


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"rate": 4},
            "option rate is unknown to this meter type; "
            "known: date_plan_order, encryption, money_step_fen, rates",
        ),
        ({"rates": 5}, 'option rates is 5; allowed: 4, 8, "auto"'),
        ({"rates": "8"}, 'option rates is "8"; allowed: 4, 8, "auto"'),
        ({"money_step_fen": True}, "option money_step_fen is true; allowed: 1, 10, 100"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: Options, says: str) -> None:
    with pytest.raises(BadOption, match=re.escape(says)):
        driver(options=options)


def test_evidence_is_count_total_and_credit() -> None:
    assert play(driver().evidence(AT), slave()) == Evidence(12, 50000, 8856, 1, False)


def test_evidence_whose_two_counts_differ_is_none() -> None:
    with pytest.raises(BadAnswer, match="reads 11 and then 12"):
        play(driver().evidence(AT), slave(live_payload(at_66="000b")))


def test_a_meter_without_a_prepaid_block_is_still_read() -> None:
    meter = Slave(words_of(0x0200, LIVE_PAYLOAD))
    one = driver()
    for _ in range(2):
        values = play(one.read(AT, EVERYTHING), meter)
        assert values[Q.ENERGY] == 12345670
        assert Q.TOTAL_PURCHASED not in values
    assert meter.asked == [(0x0200, 48), (0x0400, 25), (0x0200, 48)]
    assert play(one.evidence(AT), meter) == Evidence(12, None, 8856, 1, False)


def test_a_meter_without_a_live_block_is_refused_not_guessed() -> None:
    with pytest.raises(Refused):
        play(driver().read(AT, EVERYTHING), Slave({}))


def test_a_busy_prepaid_block_is_not_a_missing_one() -> None:
    meter = slave()

    def busy_at_0400(frame: bytes) -> bytes | None:
        if frame[2:4] == b"\x04\x00":
            return sealed(b"\x01\x83\x06")
        return meter(frame)

    one = driver()
    with pytest.raises(Refused, match="code 6"):
        play(one.read(AT, EVERYTHING), busy_at_0400)
    assert play(one.read(AT, EVERYTHING), meter)[Q.TOTAL_PURCHASED] == 50000


def test_identity_is_type_number_and_hardware() -> None:
    meter = slave()
    meter.words |= {0x0022: 0x0049, **words_of(0x0043, bytes.fromhex("012307210085"))}
    identity = play(driver().identify(AT), meter)
    assert identity.type_code == 7
    assert identity.meter_number == "012307210085"
    assert identity.note == "multi-rate, external control"
    meter.words |= words_of(0x0043, bytes.fromhex("0123072100ff"))
    assert play(driver().identify(AT), meter).meter_number is None
    assert play(driver().identify(AT), slave()).meter_number is None
