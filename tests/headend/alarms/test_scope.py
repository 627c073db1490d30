"""Who is kept to one building of a property tends its alarms and no others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from headend.domain.alarms import AlarmKind
from headend.domain.problems import Problem
from headend.domain.roles import Operator
from headend.services.tending import Tending, may_own, may_own_some
from headend.store import alarms, people, work_orders
from headend.store.alarms import AlarmFilter
from headend.store.database import Transaction
from tests.headend.house import TestClock
from tests.headend.ledger.shop import Shop


@dataclass
class Court:
    """Two buildings with a meter and an alarm each, and one alarm about no meter."""

    shop: Shop
    keeper: Operator  # of the first building alone
    mine: int  # its alarm
    other: int
    of_none: int
    building_id: int
    clock: TestClock

    @property
    def tending(self) -> Tending:
        return Tending(self.keeper, self.clock)


async def housed(tx: Transaction, meter_id: int, name: str) -> int:
    """The meter is in a building of its own now."""
    building_id: int = await tx.value(
        "INSERT INTO building (site_id, name) SELECT site_id, %s FROM meter WHERE meter_id = %s"
        " RETURNING building_id",
        name,
        meter_id,
    )
    await tx.execute(
        "WITH made AS (INSERT INTO room (site_id, building_id, name, floor)"
        " SELECT site_id, building_id, name, 1 FROM building WHERE building_id = %s"
        " RETURNING room_id) UPDATE meter SET room_id = made.room_id FROM made WHERE meter_id = %s",
        building_id,
        meter_id,
    )
    return building_id


@pytest_asyncio.fixture
async def court(shop: Shop) -> Court:
    clock = TestClock(instant=shop.now())
    first, second = shop.meters[:2]
    async with shop.transaction() as tx:
        building_id = await housed(tx, first, "North")
        await housed(tx, second, "South")
        for meter_id in (first, second, None):
            await alarms.raise_alarm(tx, AlarmKind.TAMPER, meter_id, "x", clock.now())
        raised = {one.meter_id: one.alarm_id for one in await alarms.standing(tx)}
        wang = await people.find_operator(tx, "wang")
    assert wang is not None
    keeper = replace(wang, sites=frozenset(), buildings=frozenset({building_id}))
    return Court(shop, keeper, raised[first], raised[second], raised[None], building_id, clock)


async def test_they_see_the_alarms_of_their_building_alone(court: Court) -> None:
    scope = court.keeper.scope
    async with court.shop.transaction() as tx:
        assert [one.alarm_id for one in await alarms.standing(tx, scope)] == [court.mine]
        seen = await alarms.page(tx, AlarmFilter(whose=scope))
        assert [one.alarm_id for one in seen] == [court.mine]
        assert await alarms.count_raised(tx, scope) == 1
        assert await alarms.count_raised(tx, None) == 3


async def test_others_are_none_of_theirs_and_nothing_happens_to_them(court: Court) -> None:
    async with court.shop.transaction() as tx:
        for alarm_id in (court.other, court.of_none):
            for act in (
                court.tending.acknowledge(tx, alarm_id, "", None),
                court.tending.close_alarm(tx, alarm_id, "mended", None),
                court.tending.open_from_alarm(tx, alarm_id, "mend it", ""),
            ):
                with pytest.raises(Problem) as refused:
                    await act
                assert refused.value.code == "no-such-alarm"
        assert await alarms.count_raised(tx, None) == 3
        assert (await court.tending.acknowledge(tx, court.mine, "", None)).acknowledged_by == "wang"


async def test_so_are_work_orders(court: Court) -> None:
    boss = Tending(replace(court.keeper, sites=None), court.clock)
    scope = court.keeper.scope
    async with court.shop.transaction() as tx:
        theirs = await boss.open_from_alarm(tx, court.other, "South", "")
        mine = await court.tending.open_from_alarm(tx, court.mine, "North", "")
        for found in (
            await work_orders.open_ones(tx, scope),
            await work_orders.page(tx, scope, after=0, count=9, open_only=True),
        ):
            assert [one.work_order_id for one in found] == [mine.work_order_id]
        with pytest.raises(Problem) as refused:
            await court.tending.close_order(tx, theirs.work_order_id, "done", None)
        assert refused.value.code == "no-such-work-order"


async def test_work_is_given_to_who_may_be_there(court: Court) -> None:
    (site_id,) = {one.site_id for one in [await _alarm(court, court.mine)]}
    assert site_id is not None
    assert may_own(court.keeper, site_id, court.building_id)
    assert not may_own(court.keeper, site_id, court.building_id + 1)
    assert not may_own(court.keeper, site_id, None)
    assert not may_own(court.keeper, None, None)
    assert may_own_some(court.keeper, court.keeper.scope)
    assert may_own_some(replace(court.keeper, sites=None), court.keeper.scope)
    elsewhere = replace(court.keeper, sites=frozenset({site_id}), buildings=frozenset())
    assert not may_own_some(elsewhere, replace(elsewhere, sites=frozenset({site_id + 1})).scope)


async def _alarm(court: Court, alarm_id: int) -> alarms.Alarm:
    async with court.shop.transaction() as tx:
        found = await alarms.find(tx, alarm_id, None)
    assert found is not None
    return found
