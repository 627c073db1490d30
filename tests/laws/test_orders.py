"""Laws of writing for every meter type: whatever a meter answers, money is written at most once,
after one intent, and nothing but its registers is believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.catalog import load_meter_types
from protocols.evidence import Verdict
from protocols.exchange import (
    Answer,
    Conversation,
    CountOutOfStep,
    Effect,
    Evidence,
    Intent,
    KeyWork,
    NotReady,
    ProtocolError,
    Refusal,
    Reply,
    Request,
    Silence,
    WrongMeter,
)
from protocols.meter_type import (
    Address,
    Addressing,
    Driver,
    MeterType,
    Supply,
    SupplyOutcome,
    TopUp,
    TopUpOutcome,
    Write,
    write_of,
)
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

T = TypeVar("T")

# Modbus types; those that answer to a number have laws of their own (test_numbered_types.py).
TYPES = [t for t in load_meter_types().values() if t.writes and t.addressing is Addressing.UNIT]
every_type = pytest.mark.parametrize("meter_type", TYPES, ids=lambda t: t.name)
AT = Address(1)  # also the unit that answers for a cabinet
REQUESTS_MAX = 60
FULL = 0x0000_0001  # what the registers of a healthy meter below show: count 1, purchased 0.01
NOON = datetime(2025, 3, 14, 12)  # noqa: DTZ001  a dial has no zone

PRICES = Prices(sharp_fen=120, peak_fen=95, flat_fen=65, valley_fen=35)
ALARMS = AlarmAmounts(alarm_1_fen=2000, alarm_2_fen=500)
POINT = SwitchPoint(on=True, minute_of_day=360)
# None of them is what the meters below show.
SETTINGS: tuple[Setting, ...] = (
    PRICES,
    ALARMS,
    Overdraft(overdraft_fen=300),
    OpenAccount(prices=PRICES, alarms=ALARMS),
    ClearAccount(),
    PrepaidSwitch(on=False),
    DayTable(number=2, slots=(TariffSlot(rate=4, minute_of_day=0),)),
    DatePlan(zones=(DateZone(month=1, day=1, table=2),)),
    TimeControl(on=True, rest_days=(6, 7), rest_points=(POINT,), working_points=(POINT,)),
    LoadControl(
        on=True,
        power_w_max=5000,
        power_step_w_max=3000,
        power_factor_permille=900,
        recover_s=60,
        trips_allowed=3,
    ),
    ResetLoadTrips(),
    SetClock(),
)
every_setting = pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: type(s).__name__)


@dataclass
class Run:
    """What was asked of a meter, in order."""

    steps: list[Request | Intent] = field(default_factory=list)

    @property
    def writes(self) -> list[Request]:
        return [s for s in self.steps if isinstance(s, Request) and s.effect is Effect.WRITE]

    @property
    def intents(self) -> list[Intent]:
        return [step for step in self.steps if isinstance(step, Intent)]

    def check(self) -> None:
        """One intent at most, and no write before it."""
        kinds = ["intent" if isinstance(s, Intent) else s.effect.value for s in self.steps]
        assert kinds.count("intent") <= 1
        if "write" in kinds:
            assert "intent" in kinds[: kinds.index("write")], "a write without an intent"


def run(conversation: Conversation[T], meter: Callable[[Request], Answer | None], made: Run) -> T:
    """To the end, or to what it raises; silence is thrown, as a line does."""
    try:
        step = next(conversation)
        while True:
            assert not isinstance(step, KeyWork), "a Modbus meter needs no keys"
            made.steps.append(step)
            assert len(made.steps) <= REQUESTS_MAX, "a conversation must end"
            if isinstance(step, Intent):
                step = conversation.send(None)
                continue
            answer = meter(step)
            step = (
                conversation.throw(Silence(step.label))
                if answer is None
                else conversation.send(answer)
            )
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        made.check()


def unmoved(
    meter_type: MeterType, *, forced: bool = False, empty: bool = False
) -> Callable[[Request], Answer]:
    """A meter that says yes to every write and does nothing. It is in prepaid mode at count 1."""
    shown = {
        0x0200: min(meter_type.type_codes, default=0),
        0x0224: 0x0008 if forced else 0x0000,  # open; held open by forced control or not
        0x0225: 0x0008,  # prepaid
        0x022F: 1 if meter_type.phases == 1 else 0,
        0x0228: 0x0101,  # Tuesday 2 January 2001 03:04:05
        0x0229: 0x0202,
        0x022A: 0x0304,
        0x022B: 0x0500,
    }
    money = (*range(0x021F, 0x0222), 0x0401, *range(0x0412, 0x0416))
    money += (*range(0x030A, 0x030F), *range(0x0362, 0x0367))
    if empty:
        shown |= dict.fromkeys(money, 0)

    def meter(request: Request) -> Answer:
        if request.effect is Effect.WRITE:
            return Reply(bytes(max(0, request.reply_bytes_max - 4)))
        first, count = (int.from_bytes(request.frame[at : at + 2], "big") for at in (2, 4))
        words = (shown.get(address, FULL) for address in range(first, first + count))
        return Reply(b"".join(word.to_bytes(2, "big") for word in words))

    return meter


def driver_of(meter_type: MeterType) -> Driver:
    known = {"forced_open_state": 1}
    return meter_type.new_driver({k: v for k, v in known.items() if k in meter_type.option_help})


def evidence_of(driver: Driver, meter: Callable[[Request], Answer]) -> Evidence:
    return run(driver.evidence(AT), meter, Run())


def purchase(meter_type: MeterType, amount_fen: int = 5000) -> TopUp:
    count = evidence_of(driver_of(meter_type), unmoved(meter_type)).purchase_count
    assert count is not None
    return TopUp(purchase_count=count + 1, amount_fen=amount_fen)


def orders(meter_type: MeterType) -> list[tuple[Conversation[object], Callable[[Request], Answer]]]:
    """Every order this type takes, each with a meter that would have to change."""
    driver = driver_of(meter_type)
    plain = unmoved(meter_type)
    found: list[tuple[Conversation[object], Callable[[Request], Answer]]] = []
    if Write.TOP_UP in meter_type.writes:
        found.append((driver.top_up(AT, purchase(meter_type)), plain))
    if Write.BURN in meter_type.writes:
        found.append((driver.top_up(AT, purchase(meter_type, 0)), plain))
    if Write.SWITCH in meter_type.writes:
        for supply in Supply:
            before = unmoved(meter_type, forced=supply is Supply.RELEASE)
            found.append((driver.set_supply(AT, supply), before))
    for setting in SETTINGS:
        if write_of(setting) in meter_type.writes:
            before = unmoved(meter_type, empty=isinstance(setting, OpenAccount))
            found.append((driver.configure(AT, setting, lambda: NOON), before))
    return found


def test_every_kind_of_write_has_its_setting() -> None:
    of_settings = {write_of(setting) for setting in SETTINGS}
    assert of_settings == set(Write) - {Write.TOP_UP, Write.BURN, Write.SWITCH}


@every_type
def test_a_meter_that_says_yes_and_does_nothing_is_not_believed(meter_type: MeterType) -> None:
    for conversation, meter in orders(meter_type):
        made = Run()
        outcome = run(conversation, meter, made)
        assert made.writes
        assert made.steps[-1] not in made.writes, "every write is followed by a look"
        match outcome:
            case TopUpOutcome():
                assert outcome.verdict is Verdict.NOT_APPLIED
                assert made.intents == [Intent(outcome.before)]
                assert len(made.writes) == 1
            case SupplyOutcome():
                assert not outcome.held
                assert len(made.writes) == 1
            case _:
                assert outcome is False


@every_type
def test_a_refused_write_is_looked_at_and_not_repeated(meter_type: MeterType) -> None:
    for conversation, meter in orders(meter_type):

        def refusing(request: Request, meter: Callable[[Request], Answer] = meter) -> Answer:
            return Refusal(3) if request.effect is Effect.WRITE else meter(request)

        made = Run()
        outcome = run(conversation, refusing, made)
        assert len(made.writes) == 1
        assert made.steps[-1] not in made.writes
        if isinstance(outcome, TopUpOutcome):
            assert (outcome.verdict, outcome.refusal) == (Verdict.NOT_APPLIED, 3)
        elif isinstance(outcome, SupplyOutcome):
            assert (outcome.held, outcome.refusal) == (False, 3)
        else:
            assert outcome is False


@every_type
def test_silence_at_any_place_surfaces(meter_type: MeterType) -> None:
    """And before the write there was none, so the order may simply be given again."""
    for number in range(len(orders(meter_type))):
        for silent_at in range(REQUESTS_MAX):
            conversation, meter = orders(meter_type)[number]
            asked = 0

            def falling_silent(
                request: Request,
                meter: Callable[[Request], Answer] = meter,
                silent_at: int = silent_at,
            ) -> Answer | None:
                nonlocal asked
                asked += 1
                return None if asked > silent_at else meter(request)

            try:
                run(conversation, falling_silent, Run())
            except Silence:
                continue
            assert asked <= silent_at, "silence was explained away"
            break


@every_type
@given(data=st.data())
def test_whatever_is_answered_money_is_written_once(
    meter_type: MeterType, data: st.DataObject
) -> None:
    """A meter that lies at random: what is called applied is what its registers said."""
    healthy = unmoved(meter_type)

    def liar(request: Request) -> Answer | None:
        answer = healthy(request)
        assert isinstance(answer, Reply)
        size = len(answer.payload)
        noise = st.binary(min_size=size, max_size=size)
        # Around the count and the total: by one, so that a step of one is not a rarity.
        near = noise.map(
            lambda b: Reply(
                bytes((a + (n & 1)) & 0xFF for a, n in zip(answer.payload, b, strict=True))
            )
        )
        return data.draw(
            st.one_of(st.just(answer), near, noise.map(Reply), st.none(), st.just(Refusal(2)))
        )

    order = TopUp(purchase_count=2, amount_fen=data.draw(st.sampled_from([0, 1, 5000])))
    made = Run()
    try:
        outcome = run(driver_of(meter_type).top_up(AT, order), liar, made)
    except (NotReady, CountOutOfStep):
        assert not made.writes
        return
    except ProtocolError:
        assert len(made.writes) <= 1
        return
    assert len(made.writes) == 1
    assert made.intents[0].before == outcome.before
    assert outcome.before.purchase_count == order.purchase_count - 1
    if outcome.verdict is Verdict.APPLIED:
        assert outcome.after.purchase_count in (order.purchase_count, None)


@every_type
@pytest.mark.parametrize("step", [-1, 1, 2, 1000])
def test_a_count_out_of_step_stops_before_any_intent(meter_type: MeterType, step: int) -> None:
    right = purchase(meter_type)
    order = TopUp(purchase_count=max(1, right.purchase_count + step), amount_fen=5000)
    made = Run()
    meter = unmoved(meter_type)
    with pytest.raises(CountOutOfStep) as stopped:
        run(driver_of(meter_type).top_up(AT, order), meter, made)
    assert stopped.value.before == evidence_of(driver_of(meter_type), meter)
    assert not made.intents
    assert not made.writes


@every_type
@every_setting
def test_a_setting_is_declared_or_refused(meter_type: MeterType, setting: Setting) -> None:
    """What a type does not declare is refused before any intent; what holds is looked at only."""
    made = Run()
    look = driver_of(meter_type).holds(AT, setting, lambda: NOON)
    meter = unmoved(meter_type)
    if write_of(setting) in meter_type.writes:
        assert run(look, meter, made) is False
    else:
        with pytest.raises(NotReady):
            run(look, meter, made)
        order = driver_of(meter_type).configure(AT, setting, lambda: NOON)
        with pytest.raises(NotReady):
            run(order, meter, made)
    assert not made.writes
    assert not made.intents


@every_type
def test_looking_at_supply_never_writes(meter_type: MeterType) -> None:
    if Write.SWITCH not in meter_type.writes:
        pytest.skip("this type does not switch")
    made = Run()
    look = run(driver_of(meter_type).supply(AT), unmoved(meter_type, forced=True), made)
    assert (look.relay_closed_bits, look.forced) == (0, True)
    assert not made.writes


@every_type
def test_another_meter_is_never_written_to(meter_type: MeterType) -> None:
    if not meter_type.type_codes:
        pytest.skip("this type has no code of its own to tell it by")
    for conversation, meter in orders(meter_type):

        def stranger(request: Request, meter: Callable[[Request], Answer] = meter) -> Answer:
            answer = meter(request)
            if isinstance(answer, Reply) and request.frame[2:4] == b"\x02\x00":
                return Reply(b"\x00\x3f" + answer.payload[2:])
            return answer

        made = Run()
        with pytest.raises(WrongMeter):
            run(conversation, stranger, made)
        assert not made.intents
        assert not made.writes
