"""Laws for meter types that answer to a number: looking never writes, money is written at most
once and after one intent, nothing but a later look is believed, and nothing raises but ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.catalog import load_meter_types
from protocols.dlt645_driver import OPTION_HELP
from protocols.exchange import (
    Answer,
    Conversation,
    Effect,
    Intent,
    KeyWork,
    ProtocolError,
    Refusal,
    Reply,
    Request,
    Silence,
)
from protocols.meter_type import Address, Addressing, BadOption, Driver, MeterType, Supply, TopUp
from protocols.reading import Quantity, Values

T = TypeVar("T")

TYPES = [t for t in load_meter_types().values() if t.addressing is Addressing.NUMBER]
every_type = pytest.mark.parametrize("meter_type", TYPES, ids=lambda t: t.name)
EVERYTHING = frozenset(Quantity)
STEPS_MAX = 250


class Keys:
    """A key holder that agrees to everything."""

    def authenticate(self, meter_number: str) -> bytes:
        return bytes(16)

    def seal(self, meter_number: str, challenge: bytes, fields: tuple[bytes, ...]) -> bytes:
        return bytes(8)

    def open(self, meter_number: str, challenge: bytes, field: bytes, mac: bytes) -> bytes:
        return field


def at(meter_type: MeterType) -> Address:
    return Address(number="12" * (meter_type.address_digits // 2))


def driver_of(meter_type: MeterType) -> Driver:
    return meter_type.new_driver({"key_holder": Keys()} if meter_type.needs_key_holder else {})


def run(
    conversation: Conversation[T], meter: Callable[[Request], Answer | None]
) -> tuple[T | None, list[Request | Intent]]:
    """To its end or to the ProtocolError it raises (then None); what it did comes along."""
    made: list[Request | Intent] = []
    try:
        step = next(conversation)
        while True:
            if isinstance(step, KeyWork):
                step = conversation.send(Reply(step.work()))
                continue
            made.append(step)
            assert len(made) <= STEPS_MAX, "a conversation must end"
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
        return result, made
    except ProtocolError:
        return None, made
    finally:
        conversation.close()


def looks(driver: Driver, where: Address) -> list[Conversation[object]]:
    return [
        driver.read(where, EVERYTHING),
        driver.identify(where),
        driver.evidence(where),
        driver.frozen(where),
        driver.recharges(where),
    ]


def whatever(data: st.DataObject) -> Callable[[Request], Answer | None]:
    answers = st.one_of(
        st.none(),
        st.integers(0, 0xFFFF).map(Refusal),
        st.binary(max_size=60).map(lambda rest: Reply(b"\x91" + rest)),
    )
    return lambda request: data.draw(answers)


@every_type
def test_it_says_what_it_is(meter_type: MeterType) -> None:
    assert meter_type.address_digits in (12, 14)
    assert len(meter_type.manual) > 10
    assert meter_type.quantities


@every_type
def test_a_wrong_option_is_refused_by_name(meter_type: MeterType) -> None:
    with pytest.raises(BadOption, match="no_such_option"):
        meter_type.new_driver({"no_such_option": 1})
    for option in set(meter_type.option_help) & set(OPTION_HELP):
        with pytest.raises(BadOption, match=option):
            meter_type.new_driver({option: "no such value"})


@every_type
@given(data=st.data())
def test_looking_never_writes_and_always_ends(meter_type: MeterType, data: st.DataObject) -> None:
    meter = whatever(data)
    for look in looks(driver_of(meter_type), at(meter_type)):
        _, made = run(look, meter)
        assert all(isinstance(s, Request) and s.effect is Effect.READ for s in made)


@every_type
@given(data=st.data())
def test_any_answer_gives_declared_integers_or_an_error(
    meter_type: MeterType, data: st.DataObject
) -> None:
    values: Values | None
    values, _ = run(driver_of(meter_type).read(at(meter_type), EVERYTHING), whatever(data))
    if values is not None:
        assert values.keys() <= meter_type.quantities
        assert all(type(value) is int for value in values.values())


@every_type
@given(data=st.data())
def test_an_order_intends_before_it_writes_and_writes_once(
    meter_type: MeterType, data: st.DataObject
) -> None:
    driver, where, meter = driver_of(meter_type), at(meter_type), whatever(data)
    orders: list[Conversation[object]] = [driver.set_supply(where, supply) for supply in Supply]
    orders.append(driver.top_up(where, TopUp(purchase_count=1, amount_fen=5000)))
    for order in orders:
        _, made = run(order, meter)
        kinds = ["intent" if isinstance(s, Intent) else s.effect.value for s in made]
        assert kinds.count("intent") <= 1
        assert kinds.count("write") <= 1
        if "write" in kinds:
            assert kinds.index("intent") < kinds.index("write")
