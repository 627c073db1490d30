"""A meter that leaves the platform: what it used since its last night is charged, or it stays."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from headend.services.orders import Orders
from headend.services.platform_money import LAST_AGE_MAX, ModeWish, set_mode
from headend.store import charges, money_modes
from protocols.catalog import load_meter_types
from tests.headend.house import TestClock
from tests.headend.prices.estate import FIRST, FLAT, Estate, end_of

DAY = timedelta(days=1)
# Noon of the second day after billing began.
NOON = end_of(FIRST + DAY) + timedelta(hours=12)


async def changed(
    estate: Estate, *, platform: bool = False, later: timedelta = timedelta()
) -> tuple[str, str] | None:
    clock = TestClock(instant=NOON + later)
    async with estate.transaction() as tx:
        return await set_mode(
            tx,
            Orders(clock, load_meter_types()),
            ModeWish(
                meter_id=estate.meter, platform=platform, operator_id=estate.shop.manager,
                approver_id=None, reason="test", command_id=uuid4(),
            ),
            clock.now(),
        )  # fmt: skip


async def is_platform(estate: Estate) -> bool:
    async with estate.transaction() as tx:
        return await money_modes.is_platform(tx, estate.meter)


async def lived(estate: Estate, wh: int = 7_000) -> None:
    """A night is read and billed by nobody yet, then a reading at noon."""
    await estate.platform(1_000)
    await estate.night(FIRST + DAY, 4_000)
    async with estate.transaction() as tx:
        await estate.read(tx, NOON, wh)


async def test_what_was_used_since_the_last_night_is_charged_before_it_leaves(
    estate: Estate,
) -> None:
    await estate.tariff(FLAT)
    await lived(estate)
    assert await changed(estate) is None
    assert not await is_platform(estate)
    first, rest = await estate.bill()
    assert (first.day, first.energy_wh) == (FIRST + DAY, 3_000)
    assert (rest.day, rest.from_wh, rest.to_wh) == (FIRST + 2 * DAY, 4_000, 7_000)
    assert await estate.balance_fen() == -(6_000 * 5469 // 100_000), "to the fen, once"


async def test_without_a_reading_of_now_it_stays(estate: Estate) -> None:
    await estate.tariff(FLAT)
    await lived(estate)
    late = LAST_AGE_MAX + timedelta(seconds=1)
    assert await changed(estate, later=late) == ("mode-no-last-reading", "")
    assert await is_platform(estate)
    assert await estate.bill() == []
    assert await changed(estate, later=LAST_AGE_MAX) is None


@pytest.mark.parametrize(
    ("priced", "wh", "why"), [(False, 7_000, "tariff"), (True, 3_000, "the counter fell")]
)
async def test_what_cannot_be_charged_keeps_it(
    estate: Estate, *, priced: bool, wh: int, why: str
) -> None:
    if priced:
        await estate.tariff(FLAT)
    await lived(estate, wh)
    refused = await changed(estate)
    assert refused is not None
    assert refused[0] == "mode-rest-unbilled"
    assert why in refused[1]
    assert await is_platform(estate)


async def test_nothing_used_is_no_line_and_the_day_is_not_opened_again(estate: Estate) -> None:
    await estate.tariff(FLAT)
    await lived(estate)
    assert await changed(estate) is None
    async with estate.transaction() as tx:
        await estate.read(tx, NOON + timedelta(hours=2), 7_500)  # in the meter: its own affair
    assert await changed(estate, platform=True, later=timedelta(hours=2)) is None
    async with estate.transaction() as tx:
        meter = await money_modes.platform_meter(tx, estate.meter)
        assert meter is not None
        assert meter.anchor_day == await charges.last_day(tx, estate.meter)
    await estate.night(FIRST + 2 * DAY, 8_000)
    await estate.night(FIRST + 3 * DAY, 9_500)
    async with estate.transaction() as tx:
        await estate.read(tx, end_of(FIRST + 3 * DAY) + timedelta(hours=1), 9_500)
    assert await changed(estate, later=timedelta(hours=37)) is None
    *_, last = await estate.bill()
    assert (last.from_wh, last.to_wh) == (7_500, 9_500), "from the reading it came back with"
    assert len(await estate.bill()) == 3, "nothing was used after the last night"
