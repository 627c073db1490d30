"""The judge of settings and lists objects to each kind of wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from headend.domain.bulk import BulkLimits
from headend.trial.bulk_office import BulkPromise
from headend.trial.judge_lists import (
    JobRow,
    Lists,
    SentRow,
    SettingRow,
    judge_lists,
    judge_settings,
)
from headend.trial.settings import Shown
from protocols.settings import AlarmAmounts, Overdraft, Prices, SetClock, Setting, to_record

NOON = datetime(2026, 3, 18, 4, 0, tzinfo=UTC)
CUT, UNDO = UUID(int=1), UUID(int=2)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def job(**given: Any) -> JobRow:
    usual: dict[str, Any] = {
        "bulk_id": CUT,
        "action": "cut",
        "state": "done",
        "planner": "Wang",
        "approver": "Li",
        "needs_approval": True,
        "undo_of": None,
    }
    return JobRow(**usual | given)


# One meter, a look, two more; then everything is taken back.
SENT = [
    SentRow(CUT, "A", at(1), planned=True),
    SentRow(CUT, "B", at(5), planned=True),
    SentRow(CUT, "C", at(6), planned=True),
    SentRow(UNDO, "A", at(20), planned=True),
]
GOOD = Lists(
    settings=[],
    jobs=[job(), job(bulk_id=UNDO, action="restore", needs_approval=False, undo_of=CUT)],
    sent=SENT,
    cut_by={CUT: {"A", "B", "C"}, UNDO: {"A"}},
)
LIMITS = BulkLimits(size_max=3, canary=1, sample_min=1)
PROMISED = BulkPromise(CUT, LIMITS, went_on_at=at(4), stopped_at=at(10), undo_id=UNDO)


def test_a_careful_job_is_not_objected_to() -> None:
    assert list(judge_lists(GOOD, [PROMISED])) == []


WRONG = {
    "who planned it": (replace(GOOD, jobs=[job(approver="Wang")]), replace(PROMISED, undo_id=None)),
    "had not been cut by it": (replace(GOOD, cut_by=GOOD.cut_by | {UNDO: {"D"}}), PROMISED),
    "is not on the list": (
        replace(GOOD, sent=[*SENT, SentRow(CUT, "D", at(7), planned=False)]),
        PROMISED,
    ),
    "planner could approve": (GOOD, replace(PROMISED, own_approval_accepted=True)),
    "by its old hash": (GOOD, replace(PROMISED, changed_list_accepted=True)),
    "longer than its cap": (GOOD, replace(PROMISED, too_long_accepted=True)),
    "never ended": (replace(GOOD, jobs=[job(state="ramp"), GOOD.jobs[1]]), PROMISED),
    "restore never ended": (
        replace(GOOD, jobs=[job(), replace(GOOD.jobs[1], state="ramp")]),
        PROMISED,
    ),
    "more than 2": (GOOD, replace(PROMISED, limits=replace(LIMITS, size_max=2))),
    "before anybody said go on": (GOOD, replace(PROMISED, went_on_at=None)),
    "after the stop": (GOOD, replace(PROMISED, stopped_at=at(5.5))),
}


@pytest.mark.parametrize("objection", WRONG)
def test_a_careless_job(objection: str) -> None:
    lists, promise = WRONG[objection]
    found = list(judge_lists(lists, [promise]))
    assert any(objection in sentence for sentence in found), found


PRICES = Prices(sharp_fen=98, peak_fen=83, flat_fen=62, valley_fen=34)
SHOWN = Shown(prices_fen=(98, 83, 62, 34), alarm_1_fen=500, overdraft_fen=0, dial_set=())


def written(setting: Setting, minute: float) -> SettingRow:
    return SettingRow("A", to_record(setting), at(minute), at(minute + 1))


@pytest.mark.parametrize(
    ("settings", "shown", "holds"),
    [
        ([written(PRICES, 1)], SHOWN, True),
        ([written(PRICES, 1)], replace(SHOWN, prices_fen=(98, 83, 62, 35)), False),
        ([written(AlarmAmounts(alarm_1_fen=500, alarm_2_fen=0), 1)], SHOWN, True),
        ([written(AlarmAmounts(alarm_1_fen=501, alarm_2_fen=0), 1)], SHOWN, False),
        (
            [written(Overdraft(overdraft_fen=7), 1), written(Overdraft(overdraft_fen=0), 2)],
            SHOWN,
            True,
        ),
        (
            [written(Overdraft(overdraft_fen=0), 1), written(Overdraft(overdraft_fen=7), 2)],
            SHOWN,
            False,
        ),
        ([written(SetClock(), 1)], SHOWN, True),
        ([written(SetClock(), 1)], replace(SHOWN, dial_set=((at(0), 900.0),)), False),
        ([written(SetClock(), 1)], replace(SHOWN, dial_set=((at(0), 900.0), (at(1), 0.5))), True),
        ([written(SetClock(), 1)], replace(SHOWN, dial_set=((at(0), 900.0), (at(3), 0.5))), False),
    ],
)
def test_a_confirmed_setting_is_in_the_meter(
    settings: list[SettingRow], shown: Shown, *, holds: bool
) -> None:
    assert (list(judge_settings({"A": shown}, settings)) == []) is holds
