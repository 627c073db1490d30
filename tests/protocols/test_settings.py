"""Settings: what a meter can have, and their way through JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.meter_type import Write, write_of
from protocols.settings import (
    KINDS,
    AlarmAmounts,
    BadSetting,
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
    from_record,
    to_record,
)

PRICES = Prices(sharp_fen=120, peak_fen=95, flat_fen=65, valley_fen=35)
ALARMS = AlarmAmounts(alarm_1_fen=2000, alarm_2_fen=500)
POINT = SwitchPoint(on=True, minute_of_day=390)
LOAD = LoadControl(
    on=True,
    power_w_max=5000,
    power_step_w_max=3000,
    power_factor_permille=900,
    recover_s=60,
    trips_allowed=3,
)
ONE_OF_EACH: tuple[Setting, ...] = (
    PRICES,
    DayTable(number=1, slots=(TariffSlot(rate=4, minute_of_day=0),)),
    DatePlan(zones=(DateZone(month=2, day=29, table=1),)),
    ALARMS,
    Overdraft(overdraft_fen=1),
    OpenAccount(prices=PRICES, alarms=ALARMS, meter_number="012307210085"),
    ClearAccount(),
    PrepaidSwitch(on=False),
    TimeControl(on=True, rest_days=(6, 7), rest_points=(POINT,), working_points=(POINT,)),
    LOAD,
    ResetLoadTrips(),
    SetClock(),
)


@pytest.mark.parametrize("setting", ONE_OF_EACH, ids=lambda s: type(s).__name__)
def test_a_setting_comes_back_from_json_as_it_was(setting: Setting) -> None:
    assert from_record(json.loads(json.dumps(to_record(setting)))) == setting
    assert write_of(setting) in Write


def test_every_kind_was_among_them() -> None:
    assert {type(setting) for setting in ONE_OF_EACH} == set(KINDS.values())


SLOT = {"rate": 1, "minute_of_day": 0}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({}, "no setting is called None; there are prices, day_table"),
        ({"kind": ["prices"]}, "no setting is called"),
        ({"kind": "overdraft"}, "Overdraft needs overdraft_fen"),
        ({"kind": "overdraft", "overdraft_fen": 1, "x": 2}, "Overdraft has no x"),
        ({"kind": "overdraft", "overdraft_fen": 1.0}, "overdraft_fen is 1.0; it is a whole"),
        ({"kind": "overdraft", "overdraft_fen": True}, "overdraft_fen is True"),
        ({"kind": "overdraft", "overdraft_fen": -1}, "a whole number from 0 to 100000000"),
        ({"kind": "prepaid_switch", "on": 1}, "on is 1; it is true or false"),
        ({"kind": "day_table", "number": 3, "slots": [SLOT]}, "number is 3"),
        ({"kind": "day_table", "number": 1, "slots": []}, "slots has 0 entries"),
        ({"kind": "day_table", "number": 1, "slots": SLOT}, "slots is a list"),
        ({"kind": "day_table", "number": 1, "slots": [7]}, "TariffSlot is written as an object"),
        ({"kind": "day_table", "number": 1, "slots": [SLOT, SLOT]}, "ascending order"),
        ({"kind": "day_table", "number": 1, "slots": [{**SLOT, "rate": 6}]}, "rate is 6"),
        ({"kind": "date_plan", "zones": [{"month": 2, "day": 30, "table": 1}]}, "no year has"),
        (
            {"kind": "date_plan", "zones": [{"month": 2, "day": 3, "table": t} for t in (1, 2)]},
            "same date",
        ),
        ({"kind": "time_control", "on": True}, "rest_points has 0 entries; from 1 to 8"),
        ({"kind": "time_control", "on": False, "rest_days": [7, 6]}, "ascending order"),
        ({"kind": "time_control", "on": False, "rest_days": ["7"]}, "rest_days is '7'"),
        (
            {
                "kind": "time_control",
                "on": False,
                "rest_points": [{"on": False, "minute_of_day": 0}],
            },
            "use 00:01",
        ),
        ({**to_record(LOAD), "recover_s": 65}, "steps of 10"),
        ({**to_record(ONE_OF_EACH[5]), "meter_number": "1234"}, "it has 12 digits"),
        ({**to_record(ONE_OF_EACH[5]), "prices": None}, "Prices is written as an object"),
    ],
)
def test_what_no_meter_can_have_is_one_sentence(record: dict[str, Any], says: str) -> None:
    with pytest.raises(BadSetting, match=says) as refused:
        from_record(record)
    assert "\n" not in str(refused.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside),
    max_leaves=5,
)


@given(data=st.data())
def test_any_json_is_a_setting_or_refused(data: st.DataObject) -> None:
    """One field of a good setting becomes anything."""
    record = to_record(data.draw(st.sampled_from(ONE_OF_EACH)))
    record[data.draw(st.sampled_from(sorted(record)))] = data.draw(json_values)
    try:
        setting = from_record(record)
    except BadSetting:
        return
    assert from_record(to_record(setting)) == setting
