"""Laws for every meter type: a new file in protocols/meters/ is tested by its existence."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.catalog import load_meter_types
from protocols.exchange import (
    Answer,
    Conversation,
    Effect,
    Evidence,
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
    BadOption,
    Driver,
    Frozen,
    Keeps,
    MeterType,
    Recharge,
)
from protocols.reading import Control, Quantity, Values, meter_dial

T = TypeVar("T")

# Modbus types; those that answer to a number have laws of their own (test_numbered_types.py).
TYPES = [t for t in load_meter_types().values() if t.addressing is Addressing.UNIT]
every_type = pytest.mark.parametrize("meter_type", TYPES, ids=lambda t: t.name)
AT = Address(7)
EVERYTHING = frozenset(Quantity)
# A meter that answers anything is asked for no more than this: records of years included.
REQUESTS_MAX = 200

Meter = Callable[[Request], Answer | None]

# What a quantity can be, whatever a meter says: wider than any meter, narrower than garbage.
POSSIBLE: dict[str, range] = {
    "wh": range(0xFFFFFFFF * 10),
    "varh": range(0xFFFFFFFF * 10),
    "l": range(100_000_000 * 10),
    "h": range(100_000_000),  # litres per hour
    "cdeg": range(1_000_000),
    "hours": range(1_000_000),
    "fen": range(-(2**31) * 100, 2**32 * 100),
    "kwh": range(2**32 * 100),  # prices, fen per kWh
    "dv": range(10_001),
    "ma": range(0xFFFF * 10),
    "w": range(-0x8000, 0x8000),
    "var": range(-0x8000, 0x8000),
    "permille": range(-1000, 1001),
    "chz": range(4000, 7001),
    "count": range(0xFFFF),
    "bits": range(128),
    "ratio": range(1, 0xFFFF),
    "s": range(100 * 366 * 86400),
}


def converse(conversation: Conversation[T], meter: Meter) -> tuple[T, list[Request]]:
    """Run to the end; the requests that were made come with the result."""
    made: list[Request] = []
    answer: Answer | None = None
    try:
        step = next(conversation)
        while True:
            assert isinstance(step, Request), "looking needs no intent"
            made.append(step)
            assert len(made) <= REQUESTS_MAX, "a conversation must end"
            answer = meter(step)
            step = (
                conversation.throw(Silence(step.label))
                if answer is None
                else conversation.send(answer)
            )
    except StopIteration as stop:
        result: T = stop.value
        return result, made


def payload_bytes(request: Request) -> int:
    """How long the payload of this request's answer is, found from outside."""
    return request.reply_bytes_max - 5


def looks(driver: Driver) -> list[Conversation[object]]:
    return [
        driver.read(AT, EVERYTHING),
        driver.identify(AT),
        driver.evidence(AT),
        driver.frozen(AT),
        driver.recharges(AT),
    ]


def possible(values: Values) -> bool:
    return all(v in POSSIBLE[q.value.rsplit("_", 1)[-1]] for q, v in values.items())


def test_every_unit_has_its_range() -> None:
    assert {q.value.rsplit("_", 1)[-1] for q in Quantity} == set(POSSIBLE)


@every_type
def test_it_says_what_it_is(meter_type: MeterType) -> None:
    assert re.fullmatch("[a-z0-9_]+", meter_type.name)
    assert meter_type.phases in (1, 3)
    assert meter_type.maker
    assert meter_type.title
    assert len(meter_type.manual) > 10, "name the manual the map was taken from"
    assert Quantity.ENERGY in meter_type.quantities


@every_type
def test_an_unknown_option_is_refused_by_name(meter_type: MeterType) -> None:
    with pytest.raises(BadOption, match="no_such_option"):
        meter_type.new_driver({"no_such_option": 1})
    for option in meter_type.option_help:
        with pytest.raises(BadOption, match=option):
            meter_type.new_driver({option: "no such value"})


@every_type
@given(data=st.data())
def test_looking_never_writes(meter_type: MeterType, data: st.DataObject) -> None:
    """Whatever is answered, each request is a read with an honest length, and the look ends."""

    def meter(request: Request) -> Answer | None:
        assert request.effect is Effect.READ
        assert request.frame[1] in (3, 4), "a Modbus read"
        assert request.frame[0] == AT.unit, "only this meter is spoken to"
        return data.draw(
            st.one_of(
                st.none(),
                st.integers(0, 255).map(Refusal),
                st.binary(min_size=payload_bytes(request), max_size=payload_bytes(request)).map(
                    Reply
                ),
            )
        )

    for look in looks(meter_type.new_driver({})):
        try:
            converse(look, meter)
        except ProtocolError:
            continue


@every_type
def test_silence_is_silence_and_leaves_the_driver_usable(meter_type: MeterType) -> None:
    """Silent at the first request, at the second and so on; then healthy: as if nothing was."""
    healthy = fitting(meter_type)
    for silent_at in range(4):
        driver = meter_type.new_driver({})
        count = 0

        def meter(request: Request, silent_at: int = silent_at) -> Answer | None:
            nonlocal count
            count += 1
            return None if count == silent_at + 1 else healthy(request)

        for look in looks(driver):
            count = 0
            try:
                converse(look, meter)
            except Silence:
                assert count == silent_at + 1, "silence ends the look"
        values, _ = converse(driver.read(AT, EVERYTHING), healthy)
        fresh, _ = converse(meter_type.new_driver({}).read(AT, EVERYTHING), healthy)
        assert values == fresh


@every_type
@given(payload=st.binary(min_size=250, max_size=250), code=st.integers(0, 300))
def test_any_answer_gives_possible_values_or_an_error(
    meter_type: MeterType, payload: bytes, code: int
) -> None:
    """With the right type code in front, so that the rest is really decoded."""
    for type_code in {*meter_type.type_codes, code}:
        head = type_code.to_bytes(2, "big")

        def meter(request: Request, head: bytes = head) -> Answer:
            return Reply((head + payload)[: payload_bytes(request)])

        driver = meter_type.new_driver({})
        try:
            values, _ = converse(driver.read(AT, EVERYTHING), meter)
        except ProtocolError:
            continue
        assert values.keys() <= meter_type.quantities
        assert possible(values), values
        assert all(type(value) is int for value in values.values())


@every_type
@given(st.lists(st.binary(min_size=20, max_size=20), min_size=1, max_size=6))
def test_records_are_ordered_and_possible(meter_type: MeterType, records: list[bytes]) -> None:
    healthy = fitting(meter_type)
    queue = list(records)

    def meter(request: Request) -> Answer:
        if payload_bytes(request) == 20:
            return Reply(queue.pop()) if queue else Refusal(2)
        return healthy(request)

    driver = meter_type.new_driver({})
    months: tuple[Frozen, ...] = converse(driver.frozen(AT), meter)[0]
    assert [m.dial for m in months] == sorted(m.dial for m in months)
    assert all(possible(month.values) for month in months)
    queue[:] = records
    bought: tuple[Recharge, ...] = converse(driver.recharges(AT), meter)[0]
    assert [r.dial for r in bought] == sorted((r.dial for r in bought), reverse=True)
    assert not months or meter_type.keeps & {Keeps.DAILY, Keeps.MONTHLY}
    assert not bought or Keeps.RECHARGES in meter_type.keeps


# Words that 1 does not fit: frequency (0.01 Hz) in the two maps of ADF users; in the live block
# states, and a dial on Tuesday 2 January 2001 03:04:05 that is a date in the 8-rate form too.
SHOWN = {
    0x0305: 5000,
    0x0351: 5000,
    0x0228: 0x0101,
    0x0229: 0x0202,
    0x022A: 0x0304,
    0x022B: 0x0500,
}


def fitting(meter_type: MeterType) -> Callable[[Request], Answer]:
    """A healthy meter: its type code in the live block, and 1 wherever nothing else is needed."""
    shown = {
        0x0200: min(meter_type.type_codes, default=0),
        0x022F: 1 if meter_type.phases == 1 else 0,  # how an ADF user is wired
        **SHOWN,
    }

    def meter(request: Request) -> Answer:
        first, count = (int.from_bytes(request.frame[at : at + 2], "big") for at in (2, 4))
        words = (shown.get(address, 1) for address in range(first, first + count))
        return Reply(b"".join(word.to_bytes(2, "big") for word in words))

    return meter


@every_type
def test_it_tells_all_it_declares_and_no_more(meter_type: MeterType) -> None:
    told: set[Quantity] = set()
    choices = [
        {},
        *({"rates": rates} for rates in (8, "auto") if "rates" in meter_type.option_help),
    ]
    for options in choices:
        values, _ = converse(
            meter_type.new_driver(options).read(AT, EVERYTHING), fitting(meter_type)
        )
        told |= values.keys()
    assert told == meter_type.quantities


@every_type
def test_asked_for_one_quantity_it_tells_no_other(meter_type: MeterType) -> None:
    healthy = fitting(meter_type)
    for quantity in meter_type.quantities:
        values, made = converse(meter_type.new_driver({}).read(AT, frozenset({quantity})), healthy)
        assert values.keys() <= {quantity}
        assert len(made) <= 2
    assert converse(meter_type.new_driver({}).read(AT, frozenset()), healthy)[0] == {}


@every_type
def test_a_night_costs_few_requests(meter_type: MeterType) -> None:
    billing = frozenset(
        {
            Quantity.ENERGY,
            Quantity.REMAINING_CREDIT,
            Quantity.PURCHASE_COUNT,
            Quantity.TOTAL_PURCHASED,
            Quantity.RELAY_CLOSED,
            Quantity.ALARMS,
            Quantity.CLOCK,
        }
    )
    wanted = billing & meter_type.quantities
    values, made = converse(meter_type.new_driver({}).read(AT, wanted), fitting(meter_type))
    assert values.keys() == wanted
    assert len(made) <= 2


@every_type
def test_evidence_is_what_a_look_shows(meter_type: MeterType) -> None:
    healthy = fitting(meter_type)
    evidence, _ = converse(meter_type.new_driver({}).evidence(AT), healthy)
    values, _ = converse(meter_type.new_driver({}).read(AT, EVERYTHING), healthy)
    controls = values.get(Quantity.CONTROLS)
    assert evidence == Evidence(
        purchase_count=values.get(Quantity.PURCHASE_COUNT),
        total_purchased_fen=values.get(Quantity.TOTAL_PURCHASED),
        remaining_credit_fen=values.get(Quantity.REMAINING_CREDIT),
        relay_closed_bits=values.get(Quantity.RELAY_CLOSED),
        forced=None if controls is None else bool(controls & Control.FORCED),
    )


@every_type
def test_another_types_code_gives_no_reading(meter_type: MeterType) -> None:
    if not meter_type.type_codes:
        pytest.skip("this type has no code of its own to tell it by")
    for code in range(1, 64):
        if code in meter_type.type_codes:
            continue
        payload = code.to_bytes(2, "big") + b"\x00\x01" * 124

        def meter(request: Request, payload: bytes = payload) -> Answer:
            return Reply(payload[: payload_bytes(request)])

        for look in looks(meter_type.new_driver({}))[:3]:
            with pytest.raises(WrongMeter):
                converse(look, meter)


@every_type
def test_identity_fits_the_type(meter_type: MeterType) -> None:
    identity, _ = converse(meter_type.new_driver({}).identify(AT), fitting(meter_type))
    if meter_type.type_codes:
        assert identity.type_code in meter_type.type_codes


@every_type
def test_a_dial_is_a_dial(meter_type: MeterType) -> None:
    if Quantity.CLOCK not in meter_type.quantities:
        pytest.skip("this type has no clock")
    values, _ = converse(meter_type.new_driver({}).read(AT, EVERYTHING), fitting(meter_type))
    assert f"{meter_dial(values[Quantity.CLOCK]):%Y-%m-%d %H:%M:%S}" == "2001-01-02 03:04:05"
