"""Our drivers against meters somebody else wrote from the same documents: the simulators."""

from __future__ import annotations

import pytest

from protocols.catalog import load_meter_types
from protocols.exchange import Evidence, WrongMeter
from protocols.meter_type import Address, Addressing, Driver
from protocols.meters.acrel_adf import CABINETS, CircuitKind, circuits, read_cabinet
from protocols.reading import Control, Values, meter_dial
from protocols.reading import Quantity as Q
from simulators.acrel_meter import DDSY1352, DTSY1352, Firmware, Model, acrel_unit
from simulators.adf_cabinet import CabinetPlan, cabinet_units
from simulators.load import HOUR_MS
from simulators.metering import Account, Look, Meter
from simulators.modbus_meter import Bus
from simulators.tariff import Rate
from tests.protocols.slave import play
from tests.sim.helpers import HandClock, meter

EVERYTHING = frozenset(Q)
AT = Address(9)
WH = 3_600_000  # simulated energy is counted in watt milliseconds
DAYS_70_MS = 70 * 24 * HOUR_MS  # two month ends
ACCOUNT = Account(overdraft_fen=300, alarm_2_fen=500, base_amount_fen=7)


def driver(name: str, **options: str | int) -> Driver:
    return load_meter_types()[name].new_driver(options)


def used(phases: int = 1) -> Meter:
    """A meter with purchases and two months of use behind it."""
    clock = HandClock()
    it = meter(clock, account=ACCOUNT, phases=phases, credit_fen=0)
    for count in (1, 2, 3):
        assert it.purchase(100_000, count)
        clock.at_ms += DAYS_70_MS // 3
    it.advance()
    return it


def register_wh(w_ms: int) -> int:
    """Energy as a register of 0.01 kWh shows it."""
    return w_ms // (10 * WH) * 10


def assert_tells_the_truth(values: Values, look: Look) -> None:
    by_rate = [register_wh(w_ms) for w_ms in look.energy_w_ms]
    assert values[Q.ENERGY] == register_wh(look.total_w_ms) > 0
    rates = (Q.ENERGY_SHARP, Q.ENERGY_PEAK, Q.ENERGY_FLAT, Q.ENERGY_VALLEY)
    assert [values[q] for q in rates] == by_rate[:4]
    assert values[Q.REMAINING_CREDIT] == look.remaining_fen
    assert values[Q.TOTAL_PURCHASED] == look.total_purchased_fen == 300_000
    assert values[Q.PURCHASE_COUNT] == look.purchase_count == 3
    assert values[Q.BASE_AMOUNT] == ACCOUNT.base_amount_fen
    assert values[Q.OVERDRAFT] == ACCOUNT.overdraft_fen
    assert values[Q.ALARM_AMOUNT_2] == ACCOUNT.alarm_2_fen
    assert values[Q.PRICE_VALLEY] == ACCOUNT.prices_fen_per_kwh[3]
    assert values[Q.VOLTAGE_L1] == look.phases[0].voltage_dv > 2000
    assert values[Q.CURRENT_L1] == look.phases[0].current_ca * 10
    assert values[Q.POWER] == sum(phase.power_w for phase in look.phases)
    assert values[Q.CONTROLS] == Control.PREPAID
    assert meter_dial(values[Q.CLOCK]).timestamp() == meter_dial(look.dial_ms // 1000).timestamp()


@pytest.mark.parametrize("eight_rates", [False, True])
@pytest.mark.parametrize(
    ("name", "model"), [("acrel_ddsy1352", DDSY1352), ("acrel_dtsy1352", DTSY1352)]
)
def test_ddsy_and_dtsy_are_read_as_they_are(name: str, model: Model, eight_rates: bool) -> None:
    it = used(model.phases)
    bus = Bus({AT.unit: acrel_unit(model, it, AT.unit, Firmware(eight_rates=eight_rates))})
    one = driver(name, rates=8 if eight_rates else 4)
    values = play(one.read(AT, EVERYTHING), bus.answer)
    assert_tells_the_truth(values, it.look())
    assert values[Q.RELAY_CLOSED] == (1 if model.phases == 1 else 7)
    assert (Q.ENERGY_DEEP_VALLEY in values) == eight_rates
    if eight_rates:
        deep = it.look().energy_w_ms[Rate.DEEP_VALLEY - 1]
        assert values[Q.ENERGY_DEEP_VALLEY] == register_wh(deep)
    relays = values[Q.RELAY_CLOSED]
    assert play(one.evidence(AT), bus.answer) == Evidence(
        3, 300_000, it.remaining_fen, relays, False
    )
    identity = play(one.identify(AT), bus.answer)
    assert (identity.type_code, identity.meter_number) == (model.type_code, it.number)


@pytest.mark.parametrize("eight_rates", [False, True])
def test_the_variant_is_found_by_asking(eight_rates: bool) -> None:
    it = used()
    bus = Bus({AT.unit: acrel_unit(DDSY1352, it, AT.unit, Firmware(eight_rates=eight_rates))})
    values = play(driver("acrel_ddsy1352", rates="auto").read(AT, EVERYTHING), bus.answer)
    assert values[Q.ENERGY] == register_wh(it.look().total_w_ms)
    assert (Q.ENERGY_DEEP_VALLEY in values) == eight_rates


def test_each_type_knows_the_others() -> None:
    bus = Bus({AT.unit: acrel_unit(DDSY1352, used(), AT.unit)})
    for name, kind in load_meter_types().items():
        if kind.addressing is not Addressing.UNIT:
            continue
        if name != "acrel_ddsy1352":
            with pytest.raises(WrongMeter, match="DDSY1352"):
                play(driver(name).read(AT, EVERYTHING), bus.answer)


WIRING = {"ct_users": 1, "three_phase_users": 2, "single_phase_users": 3}


def test_a_cabinet_is_read_circuit_by_circuit() -> None:
    plan = CabinetPlan(base_unit=37, **WIRING)
    meters = [used(1 if unit >= 46 else 3) for unit, _ in plan.users()]
    bus = Bus(cabinet_units(plan, meters, number="012307210085"))
    found = circuits(37, 36, **WIRING)
    assert [circuit.unit for circuit in found] == [unit for unit, _ in plan.users()]
    for circuit, it in zip(found, meters, strict=True):
        at = Address(circuit.unit)
        one = driver(CABINETS["acrel_adf300l"][circuit.kind])
        values = play(one.read(at, EVERYTHING), bus.answer)
        assert_tells_the_truth(values, it.look())
        assert values[Q.FREQUENCY] == 5000
        assert values[Q.RELAY_CLOSED] == (1 if circuit.kind is CircuitKind.SINGLE_PHASE else 7)
        relays = values[Q.RELAY_CLOSED]
        evidence = play(one.evidence(at), bus.answer)
        assert evidence == Evidence(3, 300_000, it.remaining_fen, relays, False)


def test_a_cabinet_gives_back_its_months_and_purchases() -> None:
    plan = CabinetPlan(base_unit=1, size=12, single_phase_users=1)
    it = used()
    bus = Bus(cabinet_units(plan, [it], number="012307210085"))
    one = driver("acrel_adf400l_1p")
    at = Address(1)
    months = play(one.frozen(at), bus.answer)
    ends = it.look().month_ends  # newest first
    assert len(months) == len(ends) >= 2
    for month, end in zip(months, reversed(ends), strict=True):
        assert month.values[Q.ENERGY_FLAT] == register_wh(end.energy_w_ms[Rate.FLAT - 1])
        assert (month.dial.day, month.dial.hour) == (1, 0)
    bought = play(one.recharges(at), bus.answer)
    assert [(r.purchase_count, r.amount_fen) for r in bought] == [
        (3, 100_000),
        (2, 100_000),
        (1, 100_000),
    ]
    newest = it.applied[-1]
    assert bought[0].remaining_credit_fen == newest.remaining_fen
    assert bought[0].energy_wh == register_wh(newest.energy_w_ms)


def test_a_cabinet_says_at_its_base_what_is_in_it() -> None:
    plan = CabinetPlan(base_unit=37, **WIRING)
    meters = [used(1 if unit >= 46 else 3) for unit, _ in plan.users()]
    bus = Bus(cabinet_units(plan, meters, number="012307210085"))
    facts = play(read_cabinet(Address(37)), bus.answer)
    assert (facts.meter_number, facts.size) == ("012307210085", 36)
    assert (facts.ct_users, facts.three_phase_users, facts.single_phase_users) == (1, 2, 3)


def test_a_wrongly_counted_cabinet_is_noticed() -> None:
    """One CT user too few in the site file shifts every circuit behind it by three units."""
    plan = CabinetPlan(base_unit=1, **WIRING)
    meters = [used(1 if unit >= 10 else 3) for unit, _ in plan.users()]
    bus = Bus(cabinet_units(plan, meters, number="012307210085"))
    first_single = circuits(1, 36, 0, 2, 3)[2]
    look = driver("acrel_adf300l_1p").read(Address(first_single.unit), EVERYTHING)
    with pytest.raises(WrongMeter, match="three-phase"):
        play(look, bus.answer)
