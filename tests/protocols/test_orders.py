"""Orders against the simulated meters, which somebody else wrote from the same documents: the
meter's own books say what really happened."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from protocols.catalog import load_meter_types
from protocols.evidence import Verdict
from protocols.exchange import CountOutOfStep, NotReady, Silence, WrongMeter
from protocols.meter_type import Address, Supply, TopUp, write_of
from protocols.reading import METER_EPOCH
from protocols.settings import (
    AlarmAmounts,
    ClearAccount,
    DatePlan,
    DateZone,
    DayTable,
    LoadControl,
    OpenAccount,
    Overdraft,
    PrepaidSwitch,
    Prices,
    ResetLoadTrips,
    SetClock,
    Setting,
    SwitchPoint,
    TariffSlot,
    TimeControl,
)
from simulators.acrel_meter import Firmware
from simulators.metering import Account, CountRule, Forced
from simulators.tariff import Rate
from tests.protocols.orders import AT, DIRECT, EVERY_TYPE, Bench
from tests.sim.helpers import START_MS

every_type = pytest.mark.parametrize("name", EVERY_TYPE)
FIFTY = TopUp(purchase_count=4, amount_fen=5000)
BURN = TopUp(purchase_count=4, amount_fen=0)
START = METER_EPOCH + timedelta(milliseconds=START_MS)
ADF_1P = "acrel_adf400l_1p"


# ---- purchases ----------------------------------------------------------------------------------


@every_type
@pytest.mark.parametrize("order", [FIFTY, BURN], ids=["top-up", "burn"])
def test_a_purchase_lands_once_and_is_proved(name: str, order: TopUp) -> None:
    bench = Bench(name)
    outcome = bench.play(bench.driver.top_up(AT, order))
    assert outcome.verdict is Verdict.APPLIED
    assert [(a.purchase_count, a.amount_fen) for a in bench.meter.applied] == [
        (4, order.amount_fen)
    ]
    assert len(bench.writes) == 1
    assert bench.intents[0].before == outcome.before
    assert (outcome.before.purchase_count, outcome.after.purchase_count) == (3, 4)
    assert outcome.after.total_purchased_fen == order.amount_fen


@every_type
@pytest.mark.parametrize("rule", CountRule)
def test_an_order_given_again_after_it_landed_is_stopped_by_the_count(
    name: str, rule: CountRule
) -> None:
    """Also for a meter that would credit a repeated frame twice."""
    bench = Bench(name, rule=rule)
    bench.play(bench.driver.top_up(AT, FIFTY))
    with pytest.raises(CountOutOfStep, match="count is 4, not 3"):
        bench.play(bench.driver.top_up(AT, FIFTY))
    assert not bench.writes
    assert len(bench.meter.applied) == 1


@every_type
def test_a_lost_answer_surfaces_as_silence_and_a_look_finds_the_money(name: str) -> None:
    bench = Bench(name)

    def loses_it(frame: bytes) -> bytes | None:
        heard = bench.bus.answer(frame)
        return heard if frame[1] == 3 else None

    with pytest.raises(Silence):
        bench.play(bench.driver.top_up(AT, FIFTY), loses_it)
    assert len(bench.writes) == 1
    assert bench.play(bench.driver.evidence(AT)).purchase_count == 4
    assert len(bench.meter.applied) == 1


@every_type
def test_a_meter_that_answers_yes_and_does_nothing_is_not_believed(name: str) -> None:
    """A card lands between the look and the write: the meter ignores the count, and says yes."""
    bench = Bench(name)

    def card_lands_first(frame: bytes) -> bytes | None:
        if frame[1] != 3:
            assert bench.meter.purchase(700, 4)
        return bench.bus.answer(frame)

    outcome = bench.play(bench.driver.top_up(AT, FIFTY), card_lands_first)
    assert outcome.verdict is Verdict.UNCLEAR, "the count moved, but not for this money"
    assert [a.amount_fen for a in bench.meter.applied] == [700]


def test_a_burn_that_meets_a_copy_of_the_purchase_is_unclear() -> None:
    bench = Bench("acrel_ddsy1352")

    def copy_lands_first(frame: bytes) -> bytes | None:
        if frame[1] != 3:
            assert bench.meter.purchase(5000, 4)
        return bench.bus.answer(frame)

    outcome = bench.play(bench.driver.top_up(AT, BURN), copy_lands_first)
    assert outcome.verdict is Verdict.UNCLEAR


def test_a_meter_that_refuses_aloud_is_looked_at() -> None:
    bench = Bench("acrel_ddsy1352", firmware=Firmware(refuse_aloud=True))

    def count_moves_on(frame: bytes) -> bytes | None:
        if frame[1] != 3:
            bench.meter.set_account(purchase_count=9)  # the write is refused ...
            heard = bench.bus.answer(frame)
            bench.meter.set_account(purchase_count=3)  # ... and nothing is changed
            return heard
        return bench.bus.answer(frame)

    outcome = bench.play(bench.driver.top_up(AT, FIFTY), count_moves_on)
    assert (outcome.verdict, outcome.refusal) == (Verdict.NOT_APPLIED, 3)
    assert not bench.meter.applied


@every_type
def test_nothing_is_sold_to_a_meter_whose_prepaid_switch_is_off(name: str) -> None:
    bench = Bench(name, account=Account(prepaid=False))
    with pytest.raises(NotReady, match="switch is off"):
        bench.play(bench.driver.top_up(AT, FIFTY))
    assert not bench.intents
    assert not bench.writes


@pytest.mark.parametrize("name", DIRECT)
def test_the_number_on_the_front_is_compared_before_money_is_sent(name: str) -> None:
    bench = Bench(name)
    with pytest.raises(WrongMeter, match="012307210085 answers where 012307210099"):
        bench.play(bench.driver.top_up(AT, replace(FIFTY, meter_number="012307210099")))
    assert not bench.intents
    right = replace(FIFTY, meter_number="012307210085")
    assert bench.play(bench.driver.top_up(AT, right)).verdict is Verdict.APPLIED


@every_type
@pytest.mark.parametrize(("amount_fen", "says"), [(5005, "steps of 10"), (10**11, "register")])
def test_an_amount_the_meter_cannot_hold_is_refused(name: str, amount_fen: int, says: str) -> None:
    bench = Bench(name, options={"money_step_fen": 10})
    with pytest.raises(NotReady, match=says):
        bench.play(bench.driver.top_up(AT, replace(FIFTY, amount_fen=amount_fen)))
    assert not bench.intents


@every_type
def test_other_money_steps_reach_the_meter_as_steps(name: str) -> None:
    bench = Bench(name, options={"money_step_fen": 10})
    outcome = bench.play(bench.driver.top_up(AT, FIFTY))
    assert outcome.verdict is Verdict.APPLIED
    assert bench.meter.applied[0].amount_fen == 500, "in steps of ten fen"


@pytest.mark.parametrize("name", [n for n in EVERY_TYPE if n not in DIRECT])
def test_a_cabinet_sells_by_register_when_told(name: str) -> None:
    bench = Bench(name, options={"top_up_path": "registers"})
    outcome = bench.play(bench.driver.top_up(AT, FIFTY))
    assert outcome.verdict is Verdict.APPLIED
    assert bench.writes[0].frame[1] == 16
    assert [a.amount_fen for a in bench.meter.applied] == [5000]


@pytest.mark.parametrize(("count", "amount"), [(0, 1), (0xFFFF, 1), (1, -1)])
def test_an_impossible_purchase_cannot_be_written_down(count: int, amount: int) -> None:
    with pytest.raises(ValueError, match="is none"):
        TopUp(purchase_count=count, amount_fen=amount)


# ---- supply -------------------------------------------------------------------------------------


@every_type
def test_supply_is_tripped_closed_and_released_and_read_back(name: str) -> None:
    bench = Bench(name)
    everything = (1 << load_meter_types()[name].phases) - 1
    for supply, forced, closed_bits in (
        (Supply.TRIP, Forced.OPEN, 0),
        (Supply.CLOSE, Forced.CLOSED, everything),
        (Supply.RELEASE, Forced.RELEASED, everything),
    ):
        outcome = bench.play(bench.driver.set_supply(AT, supply))
        assert outcome.held
        assert bench.meter.forced is forced
        assert outcome.look.relay_closed_bits == closed_bits
        assert outcome.look == bench.play(bench.driver.supply(AT))
        assert outcome.look.forced is (supply is not Supply.RELEASE)


@every_type
def test_a_debtor_released_goes_dark_and_the_release_holds(name: str) -> None:
    bench = Bench(name, credit_fen=-500)
    assert bench.play(bench.driver.set_supply(AT, Supply.CLOSE)).held
    outcome = bench.play(bench.driver.set_supply(AT, Supply.RELEASE))
    assert outcome.held
    assert outcome.look.relay_closed_bits == 0, "its own controls have the relay again"


def test_a_relay_that_needs_a_moment_is_looked_at_again() -> None:
    bench = Bench("acrel_ddsy1352")
    reads_after = 0
    late: list[bytes] = []

    def slow_relay(frame: bytes) -> bytes | None:
        nonlocal reads_after
        if frame[1] == 16:
            late.append(frame)
            return frame[:6] + b"\xf0\x18"  # the vector's acknowledgement of unit 1
        reads_after += bool(late)
        if reads_after == 3:
            bench.bus.answer(late[0])
        return bench.bus.answer(frame)

    assert bench.play(bench.driver.set_supply(AT, Supply.TRIP), slow_relay).held
    assert (len(bench.writes), reads_after) == (1, 3)


def test_no_relay_of_a_cabinet_is_forced_before_its_polarity_is_proven() -> None:
    bench = Bench(ADF_1P, options={"forced_open_state": "unproven"})
    for supply in (Supply.TRIP, Supply.CLOSE):
        with pytest.raises(NotReady, match="forced_open_state"):
            bench.play(bench.driver.set_supply(AT, supply))
        assert not bench.intents
    assert bench.play(bench.driver.set_supply(AT, Supply.RELEASE)).held


def test_a_wrong_polarity_is_seen_and_not_called_held() -> None:
    bench = Bench(ADF_1P, options={"forced_open_state": 0})
    outcome = bench.play(bench.driver.set_supply(AT, Supply.TRIP))
    assert not outcome.held
    assert outcome.look.relay_closed_bits == 1


# ---- settings -----------------------------------------------------------------------------------

PRICES = Prices(sharp_fen=120, peak_fen=95, flat_fen=65, valley_fen=35)
ALARMS = AlarmAmounts(alarm_1_fen=3000, alarm_2_fen=700)
POINTS = (SwitchPoint(on=True, minute_of_day=390), SwitchPoint(on=False, minute_of_day=1380))
LOAD = LoadControl(
    on=True,
    power_w_max=5000,
    power_step_w_max=3000,
    power_factor_permille=900,
    recover_s=120,
    trips_allowed=5,
)
SLOTS = (TariffSlot(rate=4, minute_of_day=0), TariffSlot(rate=1, minute_of_day=615))
SETTINGS: tuple[Setting, ...] = (
    PRICES,
    ALARMS,
    Overdraft(overdraft_fen=400),
    ClearAccount(),
    PrepaidSwitch(on=False),
    DayTable(number=1, slots=SLOTS),
    DayTable(number=2, slots=SLOTS[:1]),
    DatePlan(
        zones=(DateZone(month=1, day=1, table=1), DateZone(month=7, day=15, table=2)),
    ),
    TimeControl(on=True, rest_days=(6, 7), rest_points=POINTS[:1], working_points=POINTS),
    LOAD,
    SetClock(),
)


@every_type
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: type(s).__name__)
def test_a_setting_is_written_once_and_proved(name: str, setting: Setting) -> None:
    if write_of(setting) not in load_meter_types()[name].writes:
        pytest.skip("this type does not declare it")
    bench = Bench(name, account=Account(overdraft_fen=1))
    bench.clock.at_ms += 3600_000  # an hour on a clock that is wrong by a day
    bench.meter.set_clock(START_MS - 86_400_000)
    now = lambda: START + timedelta(hours=1)  # noqa: E731
    assert bench.play(bench.driver.holds(AT, setting, now)) is False
    assert not bench.writes
    assert bench.play(bench.driver.configure(AT, setting, now)) is True
    frames = [request.frame for request in bench.writes]
    assert len(frames) == len(set(frames)) >= 1
    assert bench.play(bench.driver.holds(AT, setting, now)) is True
    assert not bench.writes


def test_settings_reach_the_meter_as_they_were_meant() -> None:
    bench = Bench("acrel_ddsy1352", account=Account(overdraft_fen=1))
    for setting in (*SETTINGS[:3], *SETTINGS[5:]):
        assert bench.play(bench.driver.configure(AT, setting, lambda: START))
    it = bench.meter
    assert it.account == Account(
        prices_fen_per_kwh=(120, 95, 65, 35), alarm_1_fen=3000, alarm_2_fen=700, overdraft_fen=400
    )
    assert [(slot.minute, slot.rate) for slot in it.day_table.slots] == [
        (0, Rate.VALLEY),
        (615, Rate.SHARP),
    ]
    assert (it.load_limit.max_w, it.load_limit.recover_s) == (5000, 120)
    assert (it.purchase_count, it.remaining_fen) == (3, 10_000), "money is left alone"


@every_type
def test_an_account_is_cleared_and_then_opened(name: str) -> None:
    bench = Bench(name, account=Account(prepaid=True, overdraft_fen=1))
    account = OpenAccount(prices=PRICES, alarms=ALARMS, overdraft_fen=500, base_amount_fen=100)
    now = lambda: START  # noqa: E731
    with pytest.raises(NotReady, match="clear it first"):
        bench.play(bench.driver.configure(AT, account, now))
    assert not bench.intents
    assert bench.play(bench.driver.configure(AT, ClearAccount(), now))
    assert (bench.meter.remaining_fen, bench.meter.purchase_count) == (0, 0)
    assert bench.meter.look().account.prepaid is False
    assert bench.play(bench.driver.configure(AT, account, now))
    assert bench.meter.look().account.prepaid is True
    assert bench.meter.account.prices_fen_per_kwh == (120, 95, 65, 35)
    first = bench.play(bench.driver.top_up(AT, TopUp(purchase_count=1, amount_fen=1)))
    assert first.verdict is Verdict.APPLIED


def test_a_new_number_is_written_with_the_account_and_proved() -> None:
    bench = Bench("acrel_ddsy1352", count=0, credit_fen=0)
    account = OpenAccount(prices=PRICES, alarms=ALARMS, meter_number="000011112222")
    assert bench.play(bench.driver.configure(AT, account, lambda: START))
    assert bench.meter.number == "000011112222"
    other = replace(account, meter_number="999911112222")
    assert bench.play(bench.driver.holds(AT, other, lambda: START)) is False


@pytest.mark.parametrize("name", ["acrel_ddsy1352", "acrel_dtsy1352", ADF_1P])
def test_load_trips_are_counted_from_zero_again(name: str) -> None:
    bench = Bench(name)
    bench.meter.load_trips = 2
    assert not bench.play(bench.driver.holds(AT, ResetLoadTrips(), lambda: START))
    assert bench.play(bench.driver.configure(AT, ResetLoadTrips(), lambda: START))
    assert bench.meter.load_trips == 0


@pytest.mark.parametrize("name", ["acrel_ddsy1352", "acrel_dtsy1352", ADF_1P])
def test_time_control_switched_off_keeps_its_tables(name: str) -> None:
    bench = Bench(name)
    on = TimeControl(on=True, rest_days=(7,), rest_points=POINTS, working_points=POINTS)
    assert bench.play(bench.driver.configure(AT, on, lambda: START))
    assert bench.play(bench.driver.configure(AT, TimeControl(on=False), lambda: START))
    off_with_tables = replace(on, on=False)
    assert bench.play(bench.driver.holds(AT, off_with_tables, lambda: START))


def test_bytes_nobody_can_name_are_kept() -> None:
    """The simulated meters carry 07 00, 07 01, 07 02 in the two bytes of register 0x0422."""
    bench = Bench("acrel_dtsy1352")
    on = TimeControl(on=True, rest_points=POINTS, working_points=POINTS)
    assert bench.play(bench.driver.configure(AT, on, lambda: START))
    unknown = [bench.bus.units[1].read_registers(0x0422 + 26 * phase, 1) for phase in range(3)]
    assert unknown == [b"\x07\x00", b"\x07\x01", b"\x07\x02"]


def test_the_clock_of_a_cabinet_is_set_at_its_base_alone() -> None:
    for options in ({}, {"clock_path": "registers"}):
        bench = Bench(ADF_1P, options=options)
        bench.meter.set_clock(0)
        assert bench.play(bench.driver.configure(AT, SetClock(), lambda: START))
        assert bench.meter.look().dial_ms == START_MS
    other = Bench("acrel_adf400l_3p")
    for setting in (SetClock(), DayTable(number=1, slots=SLOTS)):
        one_phase = load_meter_types()[ADF_1P].new_driver({})
        order = one_phase.configure(Address(2), setting, lambda: START)
        with pytest.raises(NotReady, match="order them of unit 1"):
            other.play(order)
        assert not other.intents


def test_deep_valley_is_for_firmware_that_has_it() -> None:
    deep = DayTable(number=1, slots=(TariffSlot(rate=5, minute_of_day=0),))
    bench = Bench("acrel_ddsy1352")
    with pytest.raises(NotReady, match="four rates"):
        bench.play(bench.driver.configure(AT, deep, lambda: START))
    bench = Bench("acrel_ddsy1352", options={"rates": 8}, firmware=Firmware(eight_rates=True))
    assert bench.play(bench.driver.configure(AT, deep, lambda: START))
    assert bench.meter.day_table.slots[0].rate is Rate.DEEP_VALLEY
