"""When nights are: time zones, daylight saving, downtime. Pure, and the scheduler that asks."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.domain.nights import MISSED_NIGHTS_MAX, due_nights, night_window
from headend.domain.places import Site
from headend.services.schedule import Schedule
from headend.store.places import KnownSite

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def site(zone: str = "Asia/Shanghai", opens: time = time(23, 55), closes: time = time(6)) -> Site:
    return Site(
        name="court",
        time_zone=ZoneInfo(zone),
        night_opens=opens,
        night_closes=closes,
        buildings=(),
        rooms=(),
        gateways=(),
        lines=(),
        cabinets=(),
        meters=(),
    )


def test_a_night_is_named_by_the_day_it_closes_the_books_of() -> None:
    window = night_window(site(), date(2026, 3, 20))
    assert window.opens_at == datetime(2026, 3, 20, 15, 55, tzinfo=UTC)
    assert window.closes_at == datetime(2026, 3, 20, 22, 0, tzinfo=UTC)


def test_a_night_over_a_clock_change_keeps_wall_times() -> None:
    # Berlin put its clocks forward on 29 March 2026 at 02:00.
    window = night_window(site("Europe/Berlin"), date(2026, 3, 28))
    assert window.opens_at == datetime(2026, 3, 28, 22, 55, tzinfo=UTC)
    assert window.closes_at == datetime(2026, 3, 29, 4, 0, tzinfo=UTC)


def test_a_window_inside_one_day() -> None:
    window = night_window(site(opens=time(1), closes=time(5)), date(2026, 3, 20))
    assert window.closes_at - window.opens_at == timedelta(hours=4)


def test_a_site_imported_at_noon_waits_for_its_first_night() -> None:
    noon = datetime(2026, 3, 20, 4, 0, tzinfo=UTC)
    assert due_nights(site(), noon, noon - timedelta(minutes=1), None).current is None
    tonight = datetime(2026, 3, 20, 15, 55, tzinfo=UTC)
    due = due_nights(site(), tonight, noon, None)
    assert due.current is not None
    assert due.current.night == date(2026, 3, 20)
    assert due.missed == ()


def test_the_day_belongs_to_the_night_before() -> None:
    last = night_window(site(), date(2026, 3, 19))
    due = due_nights(site(), datetime(2026, 3, 20, 10, 0, tzinfo=UTC), LONG_AGO, last)
    assert due.current == last


def test_downtime_is_a_list_of_nights_and_has_an_end() -> None:
    last = night_window(site(), date(2026, 3, 16))
    due = due_nights(site(), datetime(2026, 3, 20, 16, 0, tzinfo=UTC), LONG_AGO, last)
    assert [w.night.day for w in due.missed] == [17, 18, 19]
    assert due.current is not None
    assert due.current.night.day == 20
    years = due_nights(site(), datetime(2030, 1, 1, tzinfo=UTC), LONG_AGO, last)
    assert len(years.missed) == MISSED_NIGHTS_MAX


@given(
    now=st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    zone=st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/Santiago", "Asia/Kathmandu"]),
    opens=st.times(),
    closes=st.times(),
)
def test_the_current_night_has_always_begun(
    now: datetime, zone: str, opens: time, closes: time
) -> None:
    here = site(zone, opens.replace(second=0, microsecond=0), closes.replace(microsecond=0))
    due = due_nights(here, now, LONG_AGO, None)
    assert due.current is not None
    assert due.current.opens_at <= now
    assert due.current.opens_at > now - timedelta(hours=50)
    following = night_window(here, due.current.night + timedelta(days=1))
    assert following.opens_at > now - timedelta(hours=2), "a clock change may repeat an hour"


async def test_each_turn_of_each_night_has_its_job_in_the_sites_time_zone() -> None:
    async def tick(name: str) -> None:
        raise AssertionError("nothing is due in this test")

    schedule = Schedule(tick)
    schedule.start()
    schedule.plan([KnownSite(site_id=1, place=site("Europe/Berlin"), known_since=LONG_AGO)])
    planned = {job["job"]: datetime.fromisoformat(job["next"]) for job in schedule.jobs()}
    assert len(planned) == 3
    berlin = ZoneInfo("Europe/Berlin")
    assert planned["court: night opens"].astimezone(berlin).time() == time(23, 55)
    assert planned["court: night closes"].astimezone(berlin).time() == time(6)
    schedule.stop()
    await asyncio.sleep(0)


async def test_a_tick_comes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headend.services.schedule.LOOK_S", 1)
    ticked = asyncio.Event()

    async def tick(name: str) -> None:
        assert name == "court"
        ticked.set()

    schedule = Schedule(tick)
    schedule.start()
    schedule.plan([KnownSite(site_id=1, place=site(), known_since=LONG_AGO)])
    async with asyncio.timeout(30):
        await ticked.wait()
    schedule.stop()
    await asyncio.sleep(0)
