"""Who is spared, by which rule, and that no rule can be taken out unnoticed."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.domain import supply
from headend.domain.commands import CommandKind
from headend.domain.friendly_hours import Calendar, FriendlyHours, usual_calendar
from headend.domain.supply import CutRules, Rule, last_check, plan_cut, plan_restore
from tests.headend.supply.cases import (
    MINUTE,
    NOON,
    SHANGHAI,
    broken_by_cutting,
    debtor,
    hours_hold,
    some_case,
)

CASES = 100_000
HOUR = timedelta(hours=1)
FRIENDLY_AT_NOON = Calendar(
    time_zone=SHANGHAI, friendly_hours=(FriendlyHours(time(11), time(13)),), spare_weekends=False
)
# The fact that lets each rule spare the debtor.
SPOILT: dict[Rule, dict[str, object]] = {
    Rule.LOCKED_OUT: {"locked_out": "Li works there: new breaker"},
    Rule.PROTECTED: {"protected": "a dialysis machine", "protected_until": NOON + MINUTE},
    Rule.MASTER: {"masters": 36},
    Rule.PAYMENT_IN_FLIGHT: {"payment": "a sale has not landed"},
    Rule.FRIENDLY_HOURS: {"calendar": FRIENDLY_AT_NOON},
}


def test_no_cut_breaks_a_rule_and_nobody_is_spared_without_one() -> None:
    chance = random.Random(20_260_320)
    cut = 0
    for _ in range(CASES):
        meter, rules, now = some_case(chance)
        broken = broken_by_cutting(meter, rules, now)
        plan = plan_cut([meter], rules, now)
        if plan.switched:
            cut += 1
            assert not broken, (meter, rules, now)
        else:
            # The rule that is told is the first of those that hold.
            assert plan.spared[0].rule == min(broken, key=list(Rule).index), (meter, rules, now)
            assert plan.spared[0].detail
    assert CASES // 10 < cut < CASES, "the cases prove little"


@pytest.mark.parametrize("missing", [rule for rule, _ in supply.CUT_LADDER], ids=lambda r: r.value)
def test_a_missing_rule_is_noticed(missing: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    ladder = tuple((rule, objects) for rule, objects in supply.CUT_LADDER if rule is not missing)
    monkeypatch.setattr(supply, "CUT_LADDER", ladder)
    chance = random.Random(7)
    for _ in range(CASES):
        meter, rules, now = some_case(chance)
        if plan_cut([meter], rules, now).switched and broken_by_cutting(meter, rules, now):
            return
    pytest.fail(f"nothing in {CASES} cases misses {missing.value}")


def test_the_order_of_precedence_is_fixed() -> None:
    """The case above compares with the order of Rule; here that order itself is held."""
    assert [rule.value for rule in Rule] == [
        "locked-out", "protected", "master-meter", "already-cut", "already-on", "command-open",
        "payment-in-flight", "credit-arrived", "holiday", "weekend", "friendly-hours",
        "toggled-recently", "stale-balance", "flagged", "implausible", "enough-credit",
    ]  # fmt: skip


def test_each_rule_tells_its_facts() -> None:
    def told(**wrong: object) -> str:
        (spared,) = plan_cut([debtor(**wrong)], CutRules(), NOON).spared
        return f"{spared.rule.value}: {spared.detail}"

    assert plan_cut([debtor()], CutRules(), NOON).switched == (debtor(),)
    assert told(**SPOILT[Rule.LOCKED_OUT]) == "locked-out: Li works there: new breaker"
    assert (
        told(protected="a dialysis machine", protected_until=NOON + MINUTE)
        == "protected: a dialysis machine, until 2026-03-20 12:01"  # on the site's clock
    )
    assert told(**SPOILT[Rule.MASTER]) == "master-meter: 36 meters hang behind it"
    assert told(calendar=FRIENDLY_AT_NOON) == "friendly-hours: nobody is cut before 13:00"
    assert told(read_at=NOON - 25 * HOUR) == "stale-balance: its balance is 25 h old"
    assert told(read_at=None) == "stale-balance: its balance is not known"
    assert told(read_at=NOON + HOUR) == "stale-balance: its balance is dated in the future"
    assert told(credit_fen=0) == "enough-credit: 0.00 yuan remain"
    assert told(credit_fen=-300, overdraft_fen=300) == "enough-credit: -3.00 yuan remain"


def test_an_order_by_name_needs_no_arrears_but_keeps_every_rule_for_people() -> None:
    by_name = CutRules(cut_below_fen=None)
    rich = {"credit_fen": 90_000, "read_at": NOON - 99 * HOUR, "flagged": "energy fell"}
    assert plan_cut([debtor(**rich)], by_name, NOON).switched
    for rule, fact in SPOILT.items():
        (spared,) = plan_cut([debtor(**rich | fact)], by_name, NOON).spared
        assert spared.rule is rule


def test_the_newer_of_reading_and_order_says_whether_it_is_dark() -> None:
    lit, unlit = debtor(relay_closed_bits=1), debtor(relay_closed_bits=0)
    read_at = lit.read_at
    assert read_at is not None
    later, earlier = read_at + HOUR, read_at - HOUR
    cut = {"switched_to": CommandKind.CUT}
    assert supply.is_dark(lit) is False
    assert supply.is_dark(debtor(**cut, switched_at=later)) is True
    assert supply.is_dark(debtor(**cut, switched_at=earlier)) is False
    # An order that nobody proved, and a release, leave what was read behind.
    for left_open in (None, CommandKind.RELEASE):
        known = {"relay_closed_bits": 0, "switched_at": later, "switched_to": left_open}
        assert supply.is_dark(debtor(**known)) is None
    assert supply.is_dark(unlit) is True
    # Nobody knows: it is neither spared as cut nor left dark as lit.
    unknown = debtor(relay_closed_bits=None)
    assert plan_cut([unknown], CutRules(), NOON).switched
    assert plan_restore([unknown], CutRules(), NOON).switched


def test_light_comes_back_at_any_hour_but_not_under_a_hand() -> None:
    cut = {"relay_closed_bits": 0, "calendar": usual_calendar(SHANGHAI), "flagged": "energy fell"}
    midnight = NOON + 12 * HOUR
    assert plan_restore([debtor(**cut)], CutRules(), midnight).switched
    for rule, wrong in (
        (Rule.LOCKED_OUT, SPOILT[Rule.LOCKED_OUT]),
        (Rule.ALREADY_ON, {"relay_closed_bits": 1}),
        (Rule.COMMAND_OPEN, {"command_open": "cut"}),
        (Rule.TOGGLED_RECENTLY, {"switched_at": NOON - MINUTE, "switched_to": CommandKind.CUT}),
    ):
        (spared,) = plan_restore([debtor(**cut | wrong)], CutRules(), NOON).spared
        assert spared.rule is rule


def test_the_last_look_before_a_cut_sees_a_payment_made_since() -> None:
    rules = CutRules(ordered_at=NOON - HOUR)
    cut, restore = CommandKind.CUT, CommandKind.RESTORE
    assert last_check(cut, debtor(), rules, NOON) is None
    paid = debtor(paid_at=NOON - HOUR)
    assert last_check(cut, paid, rules, NOON) == (
        "Meter M1 was left as it is (credit-arrived): paid after the cut was ordered."
    )
    by_name = CutRules(cut_below_fen=None, ordered_at=NOON - HOUR)
    assert last_check(cut, paid, by_name, NOON) is not None
    assert last_check(cut, debtor(paid_at=NOON - 2 * HOUR), by_name, NOON) is None
    # A restore only asks whether somebody works there.
    assert last_check(restore, debtor(relay_closed_bits=1), rules, NOON) is None
    assert last_check(restore, debtor(locked_out="Li"), rules, NOON) is not None


@given(
    begins=st.times(), ends=st.times(),
    weekdays=st.frozensets(st.integers(0, 6)),
    wall=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),  # noqa: DTZ001  a wall clock
)  # fmt: skip
def test_friendly_hours_cover_what_lies_between(
    begins: time, ends: time, weekdays: frozenset[int], wall: datetime
) -> None:
    hours = FriendlyHours(begins, ends, weekdays)
    assert hours.covers(wall) == hours_hold(hours, wall)


def test_friday_night_ends_on_saturday_morning() -> None:
    hours = (FriendlyHours(time(20), time(8), frozenset({4})),)
    calendar = Calendar(time_zone=SHANGHAI, friendly_hours=hours, spare_weekends=False)
    friday_21h = datetime(2026, 3, 20, 13, tzinfo=UTC)
    assert calendar.friendly_until(friday_21h) == time(8)
    assert calendar.friendly_until(friday_21h + 10 * HOUR) == time(8)
    assert calendar.friendly_until(friday_21h + 11 * HOUR) is None
    assert calendar.friendly_until(friday_21h + 24 * HOUR) is None  # Saturday's own night is free
    assert calendar.friendly_until(friday_21h - 2 * HOUR) is None


def test_the_site_s_wall_clock_decides_also_when_it_jumps() -> None:
    """At 01:30 UTC on 29 March Berlin's clocks have gone from 02:00 to 03:00."""
    berlin = ZoneInfo("Europe/Berlin")
    hours = (FriendlyHours(time(22), time(3, 15)),)
    calendar = Calendar(time_zone=berlin, friendly_hours=hours, spare_weekends=False)
    jumped = datetime(2026, 3, 29, 1, 10, tzinfo=UTC)
    assert calendar.friendly_until(jumped) == time(3, 15)
    assert calendar.friendly_until(jumped + 5 * MINUTE) is None


def test_a_weekend_worked_for_a_holiday_is_no_weekend() -> None:
    saturday = NOON + 24 * HOUR
    spares = Calendar(time_zone=SHANGHAI, friendly_hours=(), spare_weekends=True)
    works = Calendar(
        time_zone=SHANGHAI,
        friendly_hours=(),
        spare_weekends=True,
        working_days=frozenset({date(2026, 3, 21)}),
    )
    # 00:30 on Saturday in Shanghai is still Friday in UTC.
    assert spares.is_spared_weekend(datetime(2026, 3, 20, 16, 30, tzinfo=UTC))
    assert spares.is_spared_weekend(saturday)
    assert not works.is_spared_weekend(saturday)
    assert works.is_spared_weekend(saturday + 24 * HOUR)


def test_a_site_that_said_nothing_cuts_nobody_at_night_or_at_weekends() -> None:
    usual = debtor(calendar=usual_calendar(SHANGHAI))
    assert plan_cut([usual], CutRules(), NOON).switched
    rules = [
        plan_cut([usual], CutRules(), now).spared[0].rule
        for now in (NOON + 8 * HOUR, NOON + 20 * HOUR - MINUTE, NOON + 24 * HOUR)
    ]
    assert rules == [Rule.FRIENDLY_HOURS, Rule.WEEKEND, Rule.WEEKEND]
