"""What energy costs: nothing is lost by splitting, whatever the tariff and the clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.domain.charging import (
    FEN,
    Basis,
    Point,
    booked_fen,
    cost_of,
    energy_by_rate,
    fen_for,
    instant,
    seconds_by_rate,
    shares,
    spread,
    wh_for,
)
from headend.domain.tariff_records import from_record, to_record
from headend.domain.tariffs import BadTerms, Hours, Rate, Season, Slot, Terms, Tier

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")
TOU = Hours((Slot(0, Rate.VALLEY), Slot(480, Rate.PEAK), Slot(1320, Rate.VALLEY)))

rates = st.sampled_from(list(Rate))
prices = st.integers(0, 30_000)
minutes = st.sets(st.integers(1, 1439), max_size=6)


@st.composite
def hours(draw: st.DrawFn) -> Hours:
    return Hours(tuple(Slot(minute, draw(rates)) for minute in [0, *sorted(draw(minutes))]))


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    dates = sorted(draw(st.sets(st.tuples(st.integers(1, 12), st.integers(1, 28)), min_size=1,
                                max_size=4)))  # fmt: skip
    weekend = draw(st.booleans())
    seasons = tuple(
        Season(month, day, draw(hours()), draw(hours()) if weekend else None)
        for month, day in dates
    )
    steps = sorted(draw(st.sets(st.integers(1, 3_000_000), max_size=3)))
    return Terms(
        prices_x4={rate: draw(prices) for rate in Rate},
        seasons=seasons,
        rest_weekdays=frozenset({6, 7}) if weekend else frozenset(),
        tiers=tuple(Tier(step, draw(prices)) for step in steps),
        tier_reset=draw(st.sampled_from([(1, 1), (7, 1), (2, 29), (12, 31)])),
        service_x4=draw(prices),
        fee_fen_per_day=draw(st.integers(0, 500)),
    )


energies = st.dictionaries(rates, st.integers(0, 200_000))


@given(terms())
def test_terms_survive_their_record(one: Terms) -> None:
    assert from_record(to_record(one)) == one


@given(terms(), st.lists(energies, max_size=5), st.integers(0, FEN - 1), st.integers(0, 10**7))
def test_a_split_period_costs_what_the_whole_costs_to_the_fen(
    one: Terms, pieces: list[dict[Rate, int]], carry: int, used: int
) -> None:
    whole: dict[Rate, int] = {}
    for piece in pieces:
        for rate, wh in piece.items():
            whole[rate] = whole.get(rate, 0) + wh
    at_once = booked_fen(carry, cost_of(one, whole, used_before_wh=used).total_fen_x5)
    total_fen, left = 0, carry
    for piece in pieces:
        cost = cost_of(one, piece, used_before_wh=used)
        fen, left = booked_fen(left, cost.total_fen_x5)
        total_fen += fen
        used += sum(piece.values())
    assert (total_fen, left) == at_once


@given(terms(), energies, st.integers(0, 10**7))
def test_the_parts_of_a_cost_hold_all_of_its_energy(
    one: Terms, used: dict[Rate, int], before: int
) -> None:
    cost = cost_of(one, used, used_before_wh=before)
    by_rate = [part for part in cost.parts if not part.what.startswith("tier")]
    assert sum(part.energy_wh for part in by_rate) == sum(used.values())
    tiered = sum(part.energy_wh for part in cost.parts if part.what.startswith("tier"))
    first = one.tiers[0].above_wh if one.tiers else None
    above = 0 if first is None else (
        max(0, before + sum(used.values()) - first) - max(0, before - first)
    )  # fmt: skip
    assert tiered == above


def test_tiers_by_hand() -> None:
    one = Terms(prices_x4={Rate.FLAT: 5000}, tiers=(Tier(2_160_000, 500), Tier(4_200_000, 3000)))
    # 100 kWh below, 2,040 in the second tier, 60 in the third.
    cost = cost_of(one, {Rate.FLAT: 2_200_000}, used_before_wh=2_060_000)
    assert [(part.what, part.energy_wh) for part in cost.parts] == [
        ("flat", 2_200_000),
        ("tier 2160000", 2_040_000),
        ("tier 4200000", 60_000),
    ]
    assert cost.total_fen_x5 == (2_200 * 5000 + 2_040 * 500 + 60 * 3000) * 1000


@pytest.mark.parametrize(
    ("reset", "day", "year"),
    [
        ((1, 1), date(2026, 12, 31), (date(2026, 1, 1), date(2027, 1, 1))),
        ((7, 1), date(2026, 6, 30), (date(2025, 7, 1), date(2026, 7, 1))),
        ((7, 1), date(2026, 7, 1), (date(2026, 7, 1), date(2027, 7, 1))),
        ((2, 29), date(2027, 3, 1), (date(2027, 3, 1), date(2028, 2, 29))),
        ((2, 29), date(2028, 2, 28), (date(2027, 3, 1), date(2028, 2, 29))),
    ],
)
def test_the_year_of_the_tiers(reset: tuple[int, int], day: date, year: tuple[date, date]) -> None:
    assert Terms(prices_x4={Rate.FLAT: 1}, tier_reset=reset).year_of(day) == year


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=9))
def test_shares_add_up_and_none_is_negative(whole: int, weights: list[int]) -> None:
    parts = shares(whole, weights)
    assert sum(parts) == whole
    assert min(parts) >= 0


instants = st.integers(1_770_000_000, 1_800_000_000).map(lambda s: datetime.fromtimestamp(s, UTC))


@given(terms(), instants, st.integers(0, 10 * 86_400), st.sampled_from([SHANGHAI, BERLIN]))
def test_the_seconds_of_the_rates_are_all_there_are(
    one: Terms, begins: datetime, long_s: int, zone: ZoneInfo
) -> None:
    found = seconds_by_rate(one, begins, begins + timedelta(seconds=long_s), zone)
    assert sum(found.values()) == long_s


@given(terms(), instants, st.sampled_from([SHANGHAI, BERLIN]))
def test_the_seconds_of_a_day_follow_the_wall_clock(
    one: Terms, at: datetime, zone: ZoneInfo
) -> None:
    """The opponent looks at each minute by itself."""
    begins = at.replace(second=0, microsecond=0)
    ends = begins + timedelta(hours=6)
    counted: dict[Rate, int] = {}
    for minute in range(360):
        wall = (begins + timedelta(minutes=minute)).astimezone(zone).replace(tzinfo=None)
        rate = one.hours_of(wall.date()).rate_at(wall.hour * 60 + wall.minute)
        counted[rate] = counted.get(rate, 0) + 60
    repeated = begins.astimezone(zone).utcoffset() != ends.astimezone(zone).utcoffset()
    if not repeated:
        assert seconds_by_rate(one, begins, ends, zone) == counted


def test_where_clocks_go_forward_a_missing_time_is_the_jump_itself() -> None:
    jump = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    for minute in (120, 135, 179, 180):
        assert instant(date(2026, 3, 29), minute, BERLIN) == jump
    assert instant(date(2026, 3, 29), 181, BERLIN) == jump + timedelta(minutes=1)


def test_where_clocks_go_back_a_change_comes_the_first_time() -> None:
    first = instant(date(2026, 10, 25), 150, BERLIN)
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def point(hour: int, wh: int, **by_rate: int) -> Point:
    at = datetime(2026, 3, 20, 16, tzinfo=UTC) + timedelta(hours=hour)  # midnight in Shanghai
    named = {Rate(name): value for name, value in by_rate.items()}
    return Point(at, wh, named or None)


TWO = Terms(prices_x4={Rate.PEAK: 9000, Rate.VALLEY: 3000}, seasons=(Season(1, 1, TOU),))


def test_registers_tell_hours_apart_and_the_bill_is_the_total() -> None:
    before = point(0, 1000, peak=400, valley=590)
    after = point(24, 9010, peak=2400, valley=6590)
    assert energy_by_rate(TWO, [before, after], SHANGHAI) == (
        {Rate.PEAK: 2000, Rate.VALLEY: 6010},
        Basis.REGISTERS,
    )


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (point(24, 9000), "it shows a total only"),
        (point(24, 9000, peak=2400, valley=3000), "registers miss three kWh"),
        (point(24, 9000, peak=300, valley=8600), "a register fell"),
        (point(24, 9000, peak=400, valley=600, sharp=8000), "a rate without a price"),
    ],
)
def test_where_registers_do_not_tell_the_time_between_does(after: Point, why: str) -> None:
    before = point(0, 1000, peak=400, valley=600)
    by_rate, basis = energy_by_rate(TWO, [before, after], SHANGHAI)
    assert basis is Basis.SPREAD, why
    assert by_rate == {Rate.PEAK: 8000 * 14 // 24 + 1, Rate.VALLEY: 8000 - 8000 * 14 // 24 - 1}


def test_readings_in_between_make_the_spread_finer() -> None:
    points = [point(0, 0), point(8, 100), point(22, 7100), point(24, 7200)]
    assert spread(TWO, points, SHANGHAI) == {Rate.VALLEY: 200, Rate.PEAK: 7000}
    fell = [point(0, 0), point(8, 9000), point(22, 7100), point(24, 7200)]
    assert sum(spread(TWO, fell, SHANGHAI).values()) == 7200


@given(st.integers(1, 10**7), st.integers(0, 6_000_000))
def test_energy_asked_for_is_energy_bought(wh: int, used: int) -> None:
    one = Terms(
        prices_x4={Rate.FLAT: 5469},
        tiers=(Tier(2_160_000, 500), Tier(4_200_000, 3000)),
        service_x4=31,
    )
    fen = fen_for(one, wh, used_before_wh=used)
    assert fen is not None
    bought = wh_for(one, fen, used_before_wh=used)
    less = wh_for(one, fen - 1, used_before_wh=used)
    assert bought is not None
    assert less is not None
    assert less < wh <= bought


def test_money_is_not_turned_into_energy_where_the_price_depends_on_the_hour() -> None:
    assert wh_for(TWO, 5000) is None
    assert fen_for(TWO, 5000) is None
    free = Terms(prices_x4={Rate.FLAT: 0})
    assert wh_for(free, 5000) is None


def test_the_fraction_of_a_fen_is_carried() -> None:
    assert booked_fen(0, 99_999) == (0, 99_999)
    assert booked_fen(99_999, 1) == (1, 0)
    assert booked_fen(0, -1) == (-1, 99_999), "given back early by less than a fen, then carried"


@pytest.mark.parametrize(
    ("record", "where"),
    [
        ({}, "prices_x4"),
        ({"prices_x4": {}}, "flat"),
        ({"prices_x4": {"flat": -1}}, "flat"),
        ({"prices_x4": {"flat": 0.5}}, "flat"),
        ({"prices_x4": {"flat": True}}, "flat"),
        ({"prices_x4": {"dawn": 1}}, "hours"),
        ({"prices_x4": {"flat": 1}, "colour": "red"}, "terms"),
        ({"prices_x4": {"flat": 1}, "seasons": []}, "season"),
        ({"prices_x4": {"flat": 1}, "seasons": [{"from": "02-30", "hours": [["00:00", "flat"]]}]},
         "season"),
        ({"prices_x4": {"flat": 1}, "seasons": [{"from": "01-01", "hours": [["08:00", "flat"]]}]},
         "hours"),
        ({"prices_x4": {"flat": 1}, "seasons": [{"from": "01-01", "hours": [["24:00", "flat"]]}]},
         "hours"),
        ({"prices_x4": {"flat": 1}, "seasons": [{"from": "01-01", "hours": [
            ["00:00", "flat"], ["08:00", "flat"], ["08:00", "flat"]]}]}, "hours"),
        ({"prices_x4": {"flat": 1}, "tiers": [{"above_wh": 0, "extra_x4": 1}]}, "tiers"),
        ({"prices_x4": {"flat": 1}, "tier_reset": "13-01"}, "tier_reset"),
        ({"prices_x4": {"flat": 1}, "rest_weekdays": [8]}, "rest_weekdays"),
        ({"prices_x4": {"flat": 1}, "holidays": ["1 May"]}, "holidays"),
        ({"prices_x4": {"flat": 1}, "service_x4": "1"}, "service"),
        ({"prices_x4": {"flat": 1}, "fee_fen_per_day": 10**9}, "fee"),
        ([], "terms"),
        ("flat", "terms"),
    ],
)  # fmt: skip
def test_wrong_terms_name_their_field(record: object, where: str) -> None:
    with pytest.raises(BadTerms) as told:
        from_record(record)
    assert told.value.where == where
