"""Pushed data meets polled data: one reading an instant, newer truth stays, broken clocks decide
nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headend.domain.clock import SystemClock
from headend.domain.places import Gateway, GatewayKind, LinePlace, MeterPlace
from headend.services.uplinks import Uplinks
from headend.store import nights, readings, supply
from headend.store.alarms import standing
from headend.store.database import Database
from headend.store.doubtful import KEPT_PER_METER_MAX, doubtful_readings
from protocols.reading import Quantity as Q
from protocols.reading import Values
from protocols.uplink import Upload
from simulators.acrel_4g import Acrel4g
from tests.headend.house import House, ddsy, site_on, small_house
from tests.headend.money.shop import PATIENCE_S
from tests.headend.money.test_roads import dialled_shop

FULL = {Q.ENERGY: 5_000, Q.REMAINING_CREDIT: -300, Q.PURCHASE_COUNT: 4, Q.RELAY_CLOSED: 1}
METERS: tuple[MeterPlace, ...] = (ddsy(1), replace(ddsy(2), options={"money_step_fen": 10}))


class Pushing:
    """A court whose meters push, and what the database says about the first one."""

    def __init__(self, house: House, database: Database, uplinks: Uplinks) -> None:
        self.house = house
        self.database = database
        self.uplinks = uplinks
        self.ids = {m.known.name: m.known.meter_id for m in house.book.by_id.values()}

    async def push(self, at: datetime | None = None, *, unit: int = 1, **more: Any) -> None:
        given: dict[str, Any] = {"unit": unit, "at": at, "values": FULL} | more
        self.uplinks.take("G1", Upload(**given))
        await self.uplinks.flush()
        await self.house.sink.flush()

    async def series(self, meter: str = "M1") -> list[dict[str, Any]]:
        async with self.database.transaction() as tx:
            far = datetime(2100, 1, 1, tzinfo=UTC)
            early = datetime(1990, 1, 1, tzinfo=UTC)
            return await readings.series(tx, self.ids[meter], early, far, limit=1000)

    async def last(self, meter: str = "M1") -> dict[str, Any]:
        async with self.database.transaction() as tx:
            return (await readings.last_readings(tx)).get(self.ids[meter], {})

    async def doubts(self) -> list[str]:
        async with self.database.transaction() as tx:
            return [row["doubt"] for row in await doubtful_readings(tx)]

    async def alarms(self) -> list[str]:
        async with self.database.transaction() as tx:
            return [alarm.code for alarm in await standing(tx)]

    def ago(self, **step: float) -> datetime:
        return self.house.clock.now() - timedelta(**step)


@asynccontextmanager
async def pushing(
    database: Database, folder: Path, kind: GatewayKind = GatewayKind.MQTT
) -> AsyncIterator[Pushing]:
    court = replace(
        site_on(1, METERS),
        gateways=(Gateway(name="G1", kind=kind, registration="7001"),),
        lines=(LinePlace(name="L1", gateway="G1"),),
    )
    async with small_house(database, folder) as house:
        await house.move_in(court)
        uplinks = Uplinks(database, house.book, house.sink, house.clock)
        uplinks.start()
        try:
            yield Pushing(house, database, uplinks)
        finally:
            await uplinks.stop()


async def test_a_pushed_reading_is_a_reading_and_fills_its_night(
    database: Database, tmp_path: Path
) -> None:
    async with pushing(database, tmp_path) as p:
        await p.house.collect()
        p.house.later(minutes=30)
        at = p.ago(minutes=5)
        await p.push(at)
        await p.push(at)  # QoS 1 sends it again
        (stored,) = await p.series()
        assert stored["origin"] == "pushed"
        assert datetime.fromisoformat(stored["at"]) == at
        assert stored["values"]["remaining_credit_fen"] == -300
        assert (await p.house.cells())["M1"] == "read"
        assert (await p.last())["values"]["energy_wh"] == 5_000


async def test_history_fills_holes_and_never_replaces_newer_truth(
    database: Database, tmp_path: Path
) -> None:
    async with pushing(database, tmp_path) as p:
        await p.push(p.ago(minutes=5))
        older: Values = {**FULL, Q.ENERGY: 4_000, Q.REMAINING_CREDIT: 900}
        await p.push(p.ago(hours=5), values=older, is_history=True)
        assert [row["values"]["energy_wh"] for row in await p.series()] == [4_000, 5_000]
        assert (await p.last())["values"]["remaining_credit_fen"] == -300
        await p.push(p.ago(hours=4), values={**FULL, Q.ENERGY: 6_000}, is_history=True)
        assert await p.doubts() == ["implausible"], "more energy than later"
        await p.push(p.ago(minutes=1), values={**FULL, Q.ENERGY: 5_001})
        assert (await p.last())["values"]["energy_wh"] == 5_001


async def test_after_a_restart_history_is_still_older(database: Database, tmp_path: Path) -> None:
    async with pushing(database, tmp_path) as p:
        await p.push(p.ago(minutes=5))
        again = Uplinks(database, p.house.book, p.house.sink, p.house.clock)
        for meter in p.house.book.by_id.values():
            meter.energy_at = None
        p.uplinks = again
        again.start()
        await p.push(p.ago(hours=5), values={**FULL, Q.ENERGY: 4_000})
        await again.stop()
        assert await p.doubts() == []
        assert (await p.last())["values"]["energy_wh"] == 5_000


@pytest.mark.parametrize(
    ("ahead", "doubt"),
    [
        (timedelta(hours=3), "future"),
        (timedelta(days=-9_500), "broken_clock"),
    ],
)
async def test_a_broken_clock_is_flagged_once_and_decides_nothing(
    ahead: timedelta, doubt: str, database: Database, tmp_path: Path
) -> None:
    async with pushing(database, tmp_path) as p:
        good: Values = {**FULL, Q.REMAINING_CREDIT: 800}
        await p.push(p.ago(minutes=30), values=good)
        wrong = p.house.clock.now() + ahead
        for second in range(3):
            await p.push(wrong + timedelta(seconds=second))
        assert await p.doubts() == [doubt] * 3
        assert await p.alarms() == ["doubtful-upload"], "once for the meter"
        assert len(await p.series()) == 1
        async with database.transaction() as tx:
            (facts,) = await supply.facts(tx, p.house.clock.now(), meter_ids=[p.ids["M1"]])
        assert facts.credit_fen == 800, "the debt of the wrong clock is not seen"
        await p.push(p.ago(minutes=1), values=good)
        assert await p.alarms() == [], "its clock was set"


async def test_a_pushed_instant_is_only_as_good_as_the_clock_of_its_box(
    database: Database, tmp_path: Path
) -> None:
    """The dial is some minutes fast: read before a payment, it must not seem later than it."""
    async with pushing(database, tmp_path) as p:
        now = p.house.clock.now()
        await p.push(now + timedelta(minutes=8))
        assert datetime.fromisoformat((await p.last())["at"]) == now
        async with database.transaction() as tx:
            (facts,) = await supply.facts(tx, now, meter_ids=[p.ids["M1"]])
        assert facts.read_at == now - readings.AHEAD_MAX


async def test_energy_alone_does_not_hide_the_credit(database: Database, tmp_path: Path) -> None:
    async with pushing(database, tmp_path) as p:
        full_at = p.ago(minutes=9)
        await p.push(full_at)
        await p.push(p.ago(minutes=5), values={Q.ENERGY: 5_100})
        assert len(await p.series()) == 2
        last = await p.last()
        assert last["values"]["remaining_credit_fen"] == -300
        assert datetime.fromisoformat(last["at"]) == full_at, "and not as if it were newer"


async def test_an_energy_that_fell_and_a_number_too_large_are_put_aside(
    database: Database, tmp_path: Path
) -> None:
    async with pushing(database, tmp_path) as p:
        await p.push(p.ago(minutes=5))
        await p.push(p.ago(minutes=4), values={**FULL, Q.ENERGY: 4_999})
        await p.push(p.ago(minutes=3), values={**FULL, Q.VOLTAGE_L1: 1 << 31})
        assert await p.doubts() == ["implausible", "implausible"]
        assert len(await p.series()) == 1


async def test_doubtful_readings_are_bounded(database: Database, tmp_path: Path) -> None:
    async with pushing(database, tmp_path) as p:
        for second in range(KEPT_PER_METER_MAX + 5):
            at = p.house.clock.now() + timedelta(days=1, seconds=second)
            p.uplinks.take("G1", Upload(unit=1, at=at, values=FULL))
        await p.uplinks.flush()
        assert await database_count(database) == KEPT_PER_METER_MAX


async def database_count(database: Database) -> int:
    async with database.transaction() as tx:
        count = await tx.value("SELECT count(*) FROM doubtful_reading")
    assert isinstance(count, int)
    return count


async def test_register_units_are_scaled_as_the_meter_says_and_a_dial_is_local(
    database: Database, tmp_path: Path
) -> None:
    async with pushing(database, tmp_path, GatewayKind.ACREL_4G) as p:
        dial = datetime(2026, 3, 20, 9, 55)  # noqa: DTZ001  Shanghai's wall
        strange: Values = {**FULL, Q.ENERGY_EXPORT: 1}
        await p.push(unit=2, dial=dial, values=strange)
        (stored,) = await p.series("M2")
        assert stored["at"] == "2026-03-20T01:55:00+00:00"
        assert stored["values"]["remaining_credit_fen"] == -3_000
        told = p.house.book.meters["M2"].meter_type.quantities
        assert (Q.ENERGY_EXPORT in told) == ("energy_export_wh" in stored["values"])


async def test_uploads_of_no_meter_of_ours_are_counted_and_shown(
    database: Database, tmp_path: Path
) -> None:
    async with pushing(database, tmp_path) as p:
        await p.push(unit=9)
        await p.push(unit=0)  # two meters: it is not certain which
        await p.push(port=2)
        await p.push(unit=0, number="M2")
        (stray,) = p.uplinks.strays()
        assert stray["uploads"] == p.uplinks.counts["stray"] == 3
        assert len(await p.series("M2")) == 1


async def test_too_many_at_once_are_dropped_and_counted(database: Database, tmp_path: Path) -> None:
    async with pushing(database, tmp_path) as p:
        few = Uplinks(database, p.house.book, p.house.sink, p.house.clock, waiting_max=2)
        for _ in range(5):
            few.take("G1", Upload(unit=1, values=FULL))
        assert (few.waiting, few.counts["dropped"]) == (2, 3)


async def test_the_night_takes_history_as_back_filled(database: Database, tmp_path: Path) -> None:
    async with pushing(database, tmp_path) as p:
        await p.house.collect()
        p.house.later(hours=7)
        await p.house.nights.tick("court")
        await p.push(p.ago(hours=6, minutes=30), is_history=True)
        async with database.transaction() as tx:
            (night,) = await nights.completeness(tx, site="court", count=1)
        assert night.read + night.back_filled >= 1


async def test_a_4g_meter_pushes_over_its_own_socket(database: Database, tmp_path: Path) -> None:
    async with dialled_shop(database, tmp_path, "4g") as s:
        uplinks = Uplinks(database, s.house.book, s.house.sink, s.house.clock)
        uplinks.start()
        try:
            s.house.book.dial_ins.on_upload = uplinks.take
            assert isinstance(s.wire, Acrel4g)
            s.house.clock.instant = SystemClock().now()  # as on the dial of the meter
            assert s.wire.push()
            async with asyncio.timeout(PATIENCE_S):
                while not uplinks.counts["taken"]:
                    await asyncio.sleep(0.01)
            await uplinks.flush()
            await s.house.sink.flush()
            assert uplinks.counts["kept"] == 1
            pushed = [
                row
                for row in await Pushing(s.house, database, uplinks).series()
                if row["origin"] == "pushed"
            ]
            assert len(pushed) == 1
            assert pushed[0]["values"]["energy_wh"] > 0
        finally:
            await uplinks.stop()
