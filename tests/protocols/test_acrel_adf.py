"""ADF300L/ADF400L: which circuit answers where, and the two maps behind each unit id."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.catalog import load_meter_types
from protocols.exchange import BadAnswer, Evidence, Refused, WrongMeter
from protocols.meter_type import Address, Driver, Recharge
from protocols.meters.acrel_adf import CABINETS, BadCabinet, CircuitKind, circuits, read_cabinet
from protocols.reading import Quantity as Q
from protocols.reading import meter_dial
from tests.protocols.slave import Slave, play, words_of
from tests.protocols.test_acrel import live_payload

AT = Address(25)
EVERYTHING = frozenset(Q)


def live(single_phase: bool, **patches: str) -> dict[int, int]:
    """A live block of a cabinet of 36; its last byte is 0 for a three-phase user."""
    return words_of(0x0200, live_payload(10, at_94="0001" if single_phase else "0000", **patches))


# U 229.9 V, I 1.50 A, P 0.344 kW, Q 0.010, PF 0.998, 49.98 Hz, 812.34 kWh, 12.00 kvarh,
# credit -0.05, bought 300.00, count 4, base 0, status, base remaining 0, overdraft 5.00.
MAP_1P = bytes.fromhex(
    "08fb 0096 0158 000a 03e6 1386 00013d52 000004b0 fffffffb 00007530 0004 00000000 0300"
    "00000000 0000 000001f4 0000 0000 00013d52 00000007 00000000 00000000"
)
RATES_1P = bytes.fromhex("00000064 000000c8 0000012c 00000190")
PRICES_1P = bytes.fromhex("00000015 00000016 00000017 00000018 000007d0 000001f4")


def single_phase(**patches: str) -> Slave:
    return Slave(
        {
            **live(True, **patches),
            **words_of(0x0300, MAP_1P),
            **words_of(0x0400, RATES_1P),
            **words_of(0x0501, PRICES_1P),
            0x0704: 2,
        }
    )


def three_phase() -> Slave:
    words = dict.fromkeys(range(0x033F, 0x0393), 0)
    words |= live(False)
    words |= words_of(0x0351, bytes.fromhex("1388"))
    words |= words_of(0x035E, bytes.fromhex("000f4240 00000064 000003e8 00002710 0007"))
    words |= words_of(0x0391, bytes.fromhex("0000000a"))
    return Slave(words)


def driver(name: str = "acrel_adf300l_1p", **options: str | int | bool) -> Driver:
    return load_meter_types()[name].new_driver(options)


def test_the_nightly_look_takes_two_requests() -> None:
    meter = single_phase(at_66="0004", at_62="fffffffb")
    wanted = frozenset(
        {Q.ENERGY, Q.REMAINING_CREDIT, Q.PURCHASE_COUNT, Q.TOTAL_PURCHASED, Q.RELAY_CLOSED, Q.CLOCK}
    )
    values = play(driver().read(AT, wanted), meter)
    assert set(values) == wanted
    assert (values[Q.REMAINING_CREDIT], values[Q.TOTAL_PURCHASED]) == (-5, 30000)
    assert values[Q.PURCHASE_COUNT] == 4
    assert meter.asked == [(0x0200, 48), (0x030A, 5)]


def test_what_the_live_block_lacks_comes_from_the_map() -> None:
    values = play(driver().read(AT, EVERYTHING), single_phase())
    assert values[Q.ENERGY] == 12345670  # live block
    assert values[Q.FREQUENCY] == 4998
    assert values[Q.REACTIVE_ENERGY] == 12000
    assert values[Q.ENERGY_EXPORT] == 70
    assert values[Q.OVERDRAFT] == 500
    assert [values[q] for q in (Q.PRICE_SHARP, Q.PRICE_VALLEY, Q.ALARM_AMOUNT_2)] == [21, 24, 500]


def test_a_three_phase_user_is_read_from_its_own_map() -> None:
    for name in ("acrel_adf300l_3p", "acrel_adf400l_ct"):
        meter = three_phase()
        values = play(driver(name).read(AT, EVERYTHING), meter)
        assert (values[Q.REMAINING_CREDIT], values[Q.TOTAL_PURCHASED]) == (1000, 10000)
        assert values[Q.PURCHASE_COUNT] == 7
        assert values[Q.FREQUENCY] == 5000
        assert values[Q.ENERGY_EXPORT] == 100


def test_a_firmware_without_the_live_block_is_read_from_the_map() -> None:
    meter = single_phase()
    meter.words = {at: word for at, word in meter.words.items() if not 0x0200 <= at < 0x0230}
    one = driver()
    for _ in range(2):
        values = play(one.read(AT, EVERYTHING), meter)
    assert values[Q.ENERGY] == 812340
    assert values[Q.VOLTAGE_L1] == 2299
    assert values[Q.CURRENT_L1] == 1500
    assert values[Q.POWER] == 344
    assert values[Q.ENERGY_VALLEY] == 4000
    assert Q.RELAY_CLOSED not in values
    assert meter.asked.count((0x0200, 48)) == 1
    assert play(one.evidence(AT), meter) == Evidence(4, 30000, -5)
    with pytest.raises(Refused):
        play(one.identify(AT), meter)


def test_a_meter_that_refuses_everything_is_refused() -> None:
    with pytest.raises(Refused):
        play(driver().read(AT, EVERYTHING), Slave({}))


def test_a_circuit_wired_otherwise_is_a_wrong_meter() -> None:
    with pytest.raises(WrongMeter, match="three-phase"):
        play(driver("acrel_adf300l_1p").read(AT, EVERYTHING), three_phase())
    with pytest.raises(WrongMeter, match="single-phase"):
        play(driver("acrel_adf300l_3p").evidence(AT), single_phase())
    unchecked = driver("acrel_adf300l_3p", check_phases=False)
    assert Q.ENERGY in play(unchecked.read(AT, EVERYTHING), single_phase())


def test_evidence_is_one_look_at_three_registers() -> None:
    meter = single_phase(at_66="0004")
    assert play(driver().evidence(AT), meter) == Evidence(4, 30000, -5, 1, False)
    assert meter.asked == [(0x0200, 48), (0x030A, 5)]
    with pytest.raises(BadAnswer, match="purchase count"):
        play(driver().evidence(AT), single_phase(at_66="0005"))


def test_money_may_be_kept_in_other_steps() -> None:
    meter = single_phase(at_66="0004")
    meter.records = {0x1B00: record("19030e0a141e", "0001", "00002710", "fffffffb", "00000064")}
    one = driver(money_step_fen=100)
    values = play(one.read(AT, EVERYTHING), meter)
    assert (values[Q.REMAINING_CREDIT], values[Q.TOTAL_PURCHASED]) == (-500, 3_000_000)
    assert values[Q.ENERGY] == 12345670
    assert play(one.evidence(AT), meter) == Evidence(4, 3_000_000, -500, 1, False)
    [bought] = play(one.recharges(AT), meter)
    assert (bought.amount_fen, bought.remaining_credit_fen) == (1_000_000, -500)
    assert bought.energy_wh == 1000


def test_without_the_purchase_registers_the_live_block_is_the_witness() -> None:
    meter = Slave(live(True))
    assert play(driver().evidence(AT), meter) == Evidence(12, None, 8856, 1, False)


def test_identity_names_the_cabinet_and_the_wiring() -> None:
    identity = play(driver().identify(AT), single_phase())
    assert (identity.type_code, identity.note) == (10, "cabinet of 36, single-phase user")


def record(*parts: str) -> bytes:
    return bytes.fromhex("".join(parts))


def test_months_come_oldest_first_without_empty_records() -> None:
    energies = "00000001 00000002 00000003 00000004"
    meter = single_phase()
    meter.records = {
        0x1A00: record("19030100", energies),
        0x1A01: record("19020100", energies),
        0x1A02: bytes(20),
        0x1A03: b"\xff" * 20,
        0x1A04: record("190d0100", energies),  # month 13
    }
    months = play(driver().frozen(AT), meter)
    assert [month.dial for month in months] == [
        datetime(2025, 2, 1),  # noqa: DTZ001
        datetime(2025, 3, 1),  # noqa: DTZ001
    ]
    assert months[0].values == {
        Q.ENERGY_SHARP: 10,
        Q.ENERGY_PEAK: 20,
        Q.ENERGY_FLAT: 30,
        Q.ENERGY_VALLEY: 40,
    }
    assert (0x1A05, 10) in meter.asked
    assert (0x1A06, 10) not in meter.asked  # the list ends at the first record it lacks


def test_recharges_come_newest_first() -> None:
    meter = single_phase()
    meter.records = {
        0x1B00 + at: record(dial, count, "00002710", "fffffffb", "00000064")
        for at, (dial, count) in enumerate(
            [("19030e0a141e", "0001"), ("19030f0a141e", "0002"), ("000000000000", "0000")]
        )
    }
    newest, older = play(driver().recharges(AT), meter)
    assert newest == Recharge(
        dial=datetime(2025, 3, 15, 10, 20, 30),  # noqa: DTZ001
        purchase_count=2,
        amount_fen=10000,
        remaining_credit_fen=-5,
        energy_wh=1000,
    )
    assert older.purchase_count == 1
    assert play(driver().recharges(AT), single_phase()) == ()


def test_circuits_lie_as_in_the_published_example() -> None:
    units = [circuit.unit for circuit in circuits(1, 36, 4, 4, 12)]
    assert units == [1, 4, 7, 10, 13, 16, 19, 22, *range(25, 37)]
    kinds = [circuit.kind for circuit in circuits(1, 36, 4, 4, 12)]
    assert (
        kinds
        == [CircuitKind.CT] * 4 + [CircuitKind.THREE_PHASE] * 4 + [CircuitKind.SINGLE_PHASE] * 12
    )


@pytest.mark.parametrize(
    ("cabinet", "says"),
    [
        ((2, 36, 0, 0, 1), "cannot have base address 2; allowed are 1, 37, 73"),
        ((0, 36, 0, 0, 1), "cannot have base address 0"),
        ((241, 12, 0, 0, 1), "up to 229"),
        ((1, 30, 0, 0, 1), "12, 24 or 36 circuits, not 30"),
        ((1, 12, 2, 2, 1), "take 13 circuits, but the cabinet has 12"),
        ((1, 12, -1, 0, 1), "negative"),
        ((217, 36, 0, 0, 32), "unit id 248"),
    ],
)
def test_an_impossible_cabinet_is_one_sentence(
    cabinet: tuple[int, int, int, int, int], says: str
) -> None:
    with pytest.raises(BadCabinet, match=says):
        circuits(*cabinet)


@given(
    st.sampled_from([12, 24, 36]),
    st.integers(0, 20),
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(0, 36),
)
def test_no_two_circuits_share_a_unit(size: int, box: int, ct: int, three: int, one: int) -> None:
    try:
        found = circuits(1 + box * size, size, ct, three, one)
    except BadCabinet:
        return
    taken = [unit for c in found for unit in range(c.unit, c.unit + c.kind.units)]
    assert len(set(taken)) == len(taken) <= size
    assert all(1 + box * size <= unit <= 247 for unit in taken)


def test_every_cabinet_has_a_meter_type_for_every_kind_of_circuit() -> None:
    types = load_meter_types()
    for by_kind in CABINETS.values():
        assert set(by_kind) == set(CircuitKind)
        for kind, name in by_kind.items():
            assert types[name].phases == (1 if kind is CircuitKind.SINGLE_PHASE else 3)


def system_area() -> Slave:
    return Slave(
        {
            **words_of(0x0903, bytes.fromhex("0004 000c 012307210085")),
            **words_of(0x090B, bytes.fromhex("1e14 0a05 0e03 1900 0000")),
            0x0962: 4,
        }
    )


def test_a_cabinet_says_what_is_in_it() -> None:
    facts = play(read_cabinet(Address(1)), system_area())
    assert (facts.meter_number, facts.size) == ("012307210085", 36)
    assert (facts.ct_users, facts.three_phase_users, facts.single_phase_users) == (4, 4, 12)
    assert facts.clock_s is not None
    assert meter_dial(facts.clock_s) == datetime(2025, 3, 14, 10, 20, 30)  # noqa: DTZ001


def test_registers_that_make_no_cabinet_are_no_cabinet() -> None:
    meter = system_area()
    meter.words[0x0904] = 0xFFFF
    with pytest.raises(BadAnswer, match="no cabinet answers at unit 1"):
        play(read_cabinet(Address(1)), meter)
