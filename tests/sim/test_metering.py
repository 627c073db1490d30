"""A meter's arithmetic: exact, however often one looks."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.dial import Dial, dial_ms_of
from simulators.load import DAY_MS, HOUR_MS, MINUTE_MS, Load, Profile
from simulators.metering import (
    W_MS_PER_KWH,
    Account,
    CountRule,
    Forced,
    LoadLimit,
    Meter,
)
from simulators.tariff import COMMON_DAY, DayTable, Rate, Slot, decode_day_table
from tests.sim.helpers import START_MS, HandClock, meter

ALL_DAY_FLAT = DayTable((Slot(0, Rate.FLAT),))


def state(of: Meter) -> dict[str, Any]:
    """Every register and hidden accumulator of a meter."""
    return {
        f.name: getattr(of, f.name)
        for f in fields(of)
        if f.name not in {"now_ms", "load", "day_table"}
    }


class SteadyLoad(Load):
    """Draws its peak, always."""

    def watts(self, at_ms: int) -> int:
        return self.peak_w


def steady(watts: int) -> SteadyLoad:
    return SteadyLoad(seed=0, peak_w=watts)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    profile=st.sampled_from(Profile),
    credit_fen=st.integers(0, 3_000),
    alarm_2_fen=st.sampled_from([0, 500]),
    overdraft_fen=st.sampled_from([0, 300]),
    recover_s=st.sampled_from([0, 40]),
    drift_ppm=st.integers(-200, 200),
    offset_ms=st.integers(-HOUR_MS, HOUR_MS),
    limit_w=st.sampled_from([0, 1_500]),
    steps_ms=st.lists(st.integers(1, 9 * HOUR_MS), min_size=1, max_size=12),
)
def test_one_step_and_many_give_the_same_registers(  # noqa: PLR0917  hypothesis draws many
    seed: int,
    profile: Profile,
    credit_fen: int,
    alarm_2_fen: int,
    overdraft_fen: int,
    recover_s: int,
    drift_ppm: int,
    offset_ms: int,
    limit_w: int,
    steps_ms: list[int],
) -> None:
    clock = HandClock()

    def make() -> Meter:
        return meter(
            clock,
            Load(seed=seed, profile=profile),
            Account(alarm_2_fen=alarm_2_fen, overdraft_fen=overdraft_fen, recover_s=recover_s),
            credit_fen=credit_fen,
            drift_ppm=drift_ppm,
            offset_ms=offset_ms,
            limit=LoadLimit(on=limit_w > 0, max_w=limit_w, recover_s=70),
        )

    often, once = make(), make()
    for step_ms in steps_ms:
        clock.at_ms += step_ms
        often.look()
    assert once.look() == often.look()
    assert state(once) == state(often)


def test_credit_falls_by_price_and_fractions_are_carried() -> None:
    clock = HandClock()
    account = Account(prices_fen_per_kwh=(0, 0, 61, 0))
    it = meter(clock, steady(1_000), account, credit_fen=1_000, table=ALL_DAY_FLAT)
    for _ in range(3 * 3600 + 7):  # 1 kW, looked at each second: 61 fen an hour
        clock.at_ms += 1000
        it.look()
    spent_fen_w_ms = 61 * 1_000 * (3 * 3600 + 7) * 1000
    assert it.spent_fen_w_ms == spent_fen_w_ms
    assert it.remaining_fen == 1_000 - spent_fen_w_ms // W_MS_PER_KWH == 1_000 - 183


@pytest.mark.parametrize("overdraft_fen", [0, 250])
def test_relay_opens_when_credit_is_used_up_and_closes_when_bought(overdraft_fen: int) -> None:
    clock = HandClock()
    account = Account(prices_fen_per_kwh=(0, 0, 100, 0), overdraft_fen=overdraft_fen)
    it = meter(clock, steady(1_000), account, credit_fen=100, table=ALL_DAY_FLAT)
    lasts_ms = (100 + overdraft_fen) * HOUR_MS // 100
    clock.at_ms = START_MS + lasts_ms - 1
    assert it.look().relay_closed
    clock.at_ms += 1
    look = it.look()
    assert not look.relay_closed
    assert look.remaining_fen == -overdraft_fen
    used_w_ms = look.total_w_ms
    clock.at_ms += DAY_MS
    assert it.look().total_w_ms == used_w_ms, "an open relay meters nothing"
    assert it.purchase(5_000, 1)
    assert it.look().relay_closed
    assert it.look().remaining_fen == 5_000 - overdraft_fen


def test_forced_control_outranks_an_empty_account() -> None:
    clock = HandClock()
    it = meter(clock, steady(500), credit_fen=0)
    assert not it.look().relay_closed
    it.force(Forced.CLOSED)
    assert it.look().relay_closed
    clock.at_ms += 2 * HOUR_MS
    assert it.look().remaining_fen < 0
    it.force(Forced.RELEASED)
    assert not it.look().relay_closed
    it.purchase(10_000, 1)
    it.force(Forced.OPEN)
    assert not it.look().relay_closed


def test_alarm_2_opens_once_for_the_recover_time() -> None:
    clock = HandClock()
    account = Account(prices_fen_per_kwh=(0, 0, 100, 0), alarm_2_fen=50, recover_s=30)
    it = meter(clock, steady(1_000), account, credit_fen=100, table=ALL_DAY_FLAT)
    clock.at_ms += HOUR_MS // 2  # 50 fen used: exactly at the alarm
    assert not it.look().relay_closed
    clock.at_ms += 29_999
    assert not it.look().relay_closed
    clock.at_ms += 1
    assert it.look().relay_closed
    clock.at_ms += MINUTE_MS
    assert it.look().relay_closed, "the reminder comes once"


def test_load_limit_trips_recovers_and_gives_up() -> None:
    clock = HandClock()
    limit = LoadLimit(on=True, max_w=900, trips_allowed=3, recover_s=60)
    it = meter(clock, steady(1_000), limit=limit)
    assert it.look().load_trips == 1
    clock.at_ms += 3 * 60_000
    look = it.look()
    assert (look.load_trips, look.relay_closed) == (3, False)
    clock.at_ms += DAY_MS
    assert it.look().load_trips == 3, "after the last allowed trip it stays open"
    it.set_load_limit(LoadLimit(on=True, max_w=2_000), trips=0)
    assert it.look().relay_closed


@pytest.mark.parametrize(
    ("rule", "count", "applied"),
    [
        (CountRule.NEXT_ONLY, 13, True),
        (CountRule.NEXT_ONLY, 12, False),  # repeated
        (CountRule.NEXT_ONLY, 14, False),  # skipped
        (CountRule.ANY, 12, True),  # the meter one must fear: it credits twice
    ],
)
def test_purchase_counts(rule: CountRule, count: int, applied: bool) -> None:
    it = meter(HandClock(), credit_fen=500, count=12, rule=rule)
    assert it.purchase(10_000, count) is applied
    assert [(a.purchase_count, a.amount_fen) for a in it.applied] == (
        [(count, 10_000)] if applied else []
    )
    assert it.remaining_fen == 500 + 10_000 * applied
    assert it.total_purchased_fen == 10_000 * applied


def test_energy_goes_to_the_rate_of_the_meters_own_clock() -> None:
    midday = dial_ms_of(datetime(2025, 3, 14, 12, 0))  # noqa: DTZ001
    clock = HandClock(midday)
    wrong = meter(clock, steady(1_000), offset_ms=6 * HOUR_MS)  # its dial shows 18:00, peak
    clock.at_ms += HOUR_MS
    by_rate = dict(zip(Rate, wrong.look().energy_w_ms, strict=True))
    assert by_rate[Rate.PEAK] == 1_000 * HOUR_MS
    assert by_rate[Rate.SHARP] == 0


def test_tariff_hours_split_energy_exactly() -> None:
    clock = HandClock(dial_ms_of(datetime(2025, 3, 14, 0, 0)))  # noqa: DTZ001
    it = meter(clock, steady(600))
    clock.at_ms += DAY_MS
    hours = {
        rate: w_ms // (600 * HOUR_MS)
        for rate, w_ms in zip(Rate, it.look().energy_w_ms, strict=True)
    }
    assert hours == {
        Rate.SHARP: 3,
        Rate.PEAK: 4,
        Rate.FLAT: 9,
        Rate.VALLEY: 8,
        Rate.DEEP_VALLEY: 0,
    }
    assert it.look().total_w_ms == 24 * 600 * HOUR_MS


def test_the_dial_drifts_and_is_set() -> None:
    clock = HandClock()
    it = meter(clock, drift_ppm=100, offset_ms=5_000)
    clock.at_ms += 10_000_000
    assert it.look().dial_ms == clock.at_ms + 5_000 + 1_000
    it.set_clock(clock.at_ms)
    assert it.look().dial_ms == clock.at_ms
    clock.at_ms += 10_000_000
    assert it.look().dial_ms == clock.at_ms + 1_000


@given(
    st.integers(-999_999, 10_000_000), st.integers(-(10**9), 10**12), st.integers(-(10**6), 10**12)
)
def test_when_a_dial_first_shows_a_time(drift_ppm: int, set_to_ms: int, dial_ms: int) -> None:
    if abs(drift_ppm) > 999:
        drift_ppm %= 1_000
    dial = Dial(set_at_ms=1_000, set_to_ms=set_to_ms, drift_ppm=drift_ppm)
    first = dial.when_ms(dial_ms)
    assert dial.shows_ms(first) >= dial_ms > dial.shows_ms(first - 1)


def test_month_ends_are_kept_at_the_dials_midnight() -> None:
    clock = HandClock(dial_ms_of(datetime(2025, 1, 31, 23, 0)))  # noqa: DTZ001
    it = meter(clock, steady(1_000), credit_fen=10**9, offset_ms=-30 * MINUTE_MS)
    clock.at_ms += 400 * DAY_MS
    ends = it.look().month_ends
    assert len(ends) == 12, "the oldest make room"
    assert ends[0].dial_ms == dial_ms_of(datetime(2026, 3, 1))  # noqa: DTZ001
    january = [e for e in ends if e.dial_ms == dial_ms_of(datetime(2025, 4, 1))]  # noqa: DTZ001
    # From 22:30 on the dial on 31 January to midnight before 1 April.
    assert sum(january[0].energy_w_ms) == 1_000 * (90 * MINUTE_MS + 59 * DAY_MS)


def test_a_day_table_survives_its_registers() -> None:
    assert decode_day_table(COMMON_DAY.encode()) == COMMON_DAY
    assert decode_day_table(bytes(42)) is None
    assert decode_day_table(bytes((3, 0, 8, 1, 0, 7)).ljust(42, b"\0")) is None, "must ascend"
    assert decode_day_table(bytes((3, 60, 8)).ljust(42, b"\0")) is None
