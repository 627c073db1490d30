"""When an alarm rises and falls, as tables: thresholds, bands, and what is not known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.domain.alarms import (
    AlarmKind,
    AlarmRules,
    MeterLook,
    Turn,
    below,
    look_at_gateway,
    look_at_meter,
)
from headend.web.told import told

NOW = datetime(2026, 3, 20, 2, 0, tzinfo=UTC)
K, T = AlarmKind, Turn
FINE = MeterLook(
    heard_at=NOW, credit_fen=9_000, credit_at=NOW, relay_closed_bits=1, power_w=800, drift_s=2
)


def turns(look: MeterLook) -> dict[AlarmKind, Turn]:
    return {one.kind: one.turn for one in look_at_meter(look, AlarmRules(), NOW)}


@pytest.mark.parametrize(
    ("changed", "kind", "turn"),
    [
        ({}, K.LOW_CREDIT, T.FALLS),
        ({"credit_fen": 2_000}, K.LOW_CREDIT, T.RISES),
        ({"credit_fen": 2_001}, K.LOW_CREDIT, T.HOLDS),
        ({"credit_fen": 2_100}, K.LOW_CREDIT, T.FALLS),
        ({"credit_fen": 501}, K.VERY_LOW_CREDIT, T.HOLDS),
        ({"credit_fen": 500}, K.VERY_LOW_CREDIT, T.RISES),
        ({"credit_fen": -1}, K.ARREARS, T.RISES),
        ({"credit_fen": 0}, K.ARREARS, T.FALLS),
        ({"credit_fen": None}, K.ARREARS, T.HOLDS),
        # A balance of three days ago says nothing, low or not.
        ({"credit_fen": 1, "credit_at": NOW - timedelta(days=3)}, K.LOW_CREDIT, T.HOLDS),
        ({"heard_at": NOW - timedelta(hours=31)}, K.METER_OFFLINE, T.RISES),
        ({"heard_at": NOW - timedelta(hours=29)}, K.METER_OFFLINE, T.FALLS),
        ({"relay_closed_bits": 0, "power_w": 30}, K.TAMPER, T.RISES),
        ({"relay_closed_bits": 0, "power_w": 29}, K.TAMPER, T.HOLDS),
        ({"relay_closed_bits": 0, "power_w": 5}, K.TAMPER, T.FALLS),
        ({"relay_closed_bits": 4, "power_w": 900}, K.TAMPER, T.FALLS),
        ({"relay_closed_bits": None}, K.TAMPER, T.HOLDS),
        ({"drift_s": -301}, K.CLOCK_WRONG, T.RISES),
        ({"drift_s": 300}, K.CLOCK_WRONG, T.HOLDS),
        ({"drift_s": 150}, K.CLOCK_WRONG, T.FALLS),
        ({"drift_s": None}, K.CLOCK_WRONG, T.HOLDS),
    ],
)
def test_what_a_look_says(changed: dict[str, object], kind: AlarmKind, turn: Turn) -> None:
    assert turns(replace(FINE, **changed))[kind] is turn  # type: ignore[arg-type]  # of the table


@pytest.mark.parametrize(
    ("drift_s", "said"),
    [
        (400, "its clock is 400 s ahead of the wall clock"),
        (-400, "its clock is 400 s behind the wall clock"),
        (-7_300, "its clock is 121 min behind the wall clock"),
        (-21_813_990, "its clock is 252 days behind the wall clock"),
        (200_000, "its clock is 2 days ahead of the wall clock"),
    ],
)
def test_a_wrong_clock_is_said_as_people_say_it(drift_s: int, said: str) -> None:
    (found,) = [
        one
        for one in look_at_meter(replace(FINE, drift_s=drift_s), AlarmRules(), NOW)
        if one.kind is K.CLOCK_WRONG
    ]
    assert found.detail == said
    assert told(said, "zh") != said


@pytest.mark.parametrize(
    ("down_min", "up_min", "turn"),
    [
        (16, None, T.RISES), (14, None, T.HOLDS), (None, 3, T.FALLS), (None, 1, T.HOLDS),
        (None, None, T.HOLDS),
    ],
)  # fmt: skip
def test_a_gateway_that_comes_and_goes_is_one_alarm(
    down_min: int | None, up_min: int | None, turn: Turn
) -> None:
    found = look_at_gateway(
        down_since=None if down_min is None else NOW - timedelta(minutes=down_min),
        up_since=None if up_min is None else NOW - timedelta(minutes=up_min),
        rules=AlarmRules(),
        now=NOW,
    )
    assert found.turn is turn


@given(st.lists(st.integers(1_950, 2_099), min_size=2, max_size=30))
def test_a_value_that_trembles_about_its_threshold_never_flaps(values: list[int]) -> None:
    seen = [turn for v in values if (turn := below(v, 2_000, 2_100)) is not Turn.HOLDS]
    assert set(seen) <= {Turn.RISES}, "between the two thresholds nothing falls"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clock_drift_s", 4), ("meter_offline_min", 0), ("low_credit_fen", -1),
        ("very_low_credit_fen", 2_001), ("unknown_min", 10**9),
    ],
)  # fmt: skip
def test_rules_that_cannot_be_are_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(ValueError, match="low_credit_fen" if "credit" in field else field):
        AlarmRules(**{field: value})
