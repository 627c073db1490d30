"""The alarm of a loss: raised when a master counts more than its circuits, over when it is back."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest

from headend.domain.alarms import AlarmKind, AlarmRules, Turn, look_at_loss
from headend.domain.nights import NightWindow
from headend.services.alarm_watch import watch, watch_losses
from headend.store import alarm_looks, alarms, nights
from headend.store.database import Database
from headend.store.nights import Look
from protocols.reading import Origin, Quantity, Reading
from tests.headend.house import TestClock
from tests.headend.store.places_for_tests import imported, meter, small_site

START = datetime(2026, 3, 1, 18, tzinfo=UTC)


class Cabinet:
    """Two circuits under a master; each night says what all of them used."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock = database, TestClock(instant=START)
        self.shown = {"MASTER": 9_000_000, "M1": 1_000_000, "M2": 2_000_000}

    async def night(self, *, master: int | None, circuits: int) -> tuple[int, int]:
        """A day of use and its night; None: the master was not read. What the watch changed."""
        self.clock.instant += timedelta(days=1)
        self.shown["MASTER"] += master or 0
        self.shown["M1"] += circuits // 2
        self.shown["M2"] += circuits - circuits // 2
        day = self.clock.instant.date()
        opens = datetime.combine(day, time(16), UTC)
        window = NightWindow(night=day, opens_at=opens, closes_at=opens + timedelta(hours=1))
        async with self.database.transaction() as tx:
            site_id = await tx.value("SELECT site_id FROM site")
            numbers: dict[str, int] = dict(await tx.rows("SELECT name, meter_id FROM meter"))
            await nights.open_night(tx, site_id, window)
            looks = [
                Look(
                    reading=Reading(
                        meter_id=numbers[name], at=opens, received_at=opens,
                        origin=Origin.POLLED, values={Quantity.ENERGY: wh},
                    )
                )
                for name, wh in self.shown.items()
                if name != "MASTER" or master is not None
            ]  # fmt: skip
            await nights.save(tx, looks, [])
            await nights.close_nights(tx, site_id, self.clock.now())
        seen = await watch_losses(self.database, self.clock)
        return seen.raised, seen.ended

    async def standing(self) -> list[tuple[str, str | None, str]]:
        async with self.database.transaction() as tx:
            return [(one.code, one.meter, one.detail) for one in await alarms.standing(tx)]


@pytest.fixture
async def cabinet(database: Database) -> Cabinet:
    meters = (
        meter("M1", 1, "L1", room=None, master="MASTER"),
        meter("M2", 2, "L1", room=None, master="MASTER"),
        meter("MASTER", 9, "L1", room=None),
    )
    await imported(database, small_site("Court", meters=meters))
    return Cabinet(database)


async def test_a_loss_is_raised_once_and_over_when_it_is_back(cabinet: Cabinet) -> None:
    assert await cabinet.night(master=100_000, circuits=97_000) == (0, 0), "one night is no day"
    assert await cabinet.night(master=100_000, circuits=97_000) == (0, 0)
    assert await cabinet.night(master=100_000, circuits=60_000) == (1, 0), "over the last days"
    assert await cabinet.standing() == [
        ("loss", "MASTER", "21.5 % of 200.0 kWh are on none of its circuits: 43.0 kWh")
    ]
    assert await cabinet.night(master=None, circuits=60_000) == (0, 0), "not known is not over"
    assert await cabinet.night(master=200_000, circuits=60_000) == (0, 0), "the same alarm"
    for _ in range(2):
        await cabinet.night(master=100_000, circuits=99_000)
    assert (await cabinet.standing()) == []


async def test_the_share_is_the_propertys_own_and_a_master_of_nothing_loses_nothing(
    cabinet: Cabinet,
) -> None:
    async with cabinet.database.transaction() as tx:
        site_id = await tx.value("SELECT site_id FROM site")
        rules = AlarmRules(loss_permille=20)
        await alarm_looks.set_rules(tx, site_id, rules, by=None, at=cabinet.clock.now())
        assert (await alarm_looks.rules_of_sites(tx))[site_id].rules == rules
    await cabinet.night(master=100_000, circuits=97_000)
    assert await cabinet.night(master=100_000, circuits=97_000) == (1, 0)
    async with cabinet.database.transaction() as tx:
        await tx.execute("UPDATE meter SET master_id = NULL")
    seen = await watch_losses(cabinet.database, cabinet.clock)
    assert (seen.raised, seen.ended) == (0, 1)


@pytest.mark.parametrize(
    ("master", "circuits", "turn"),
    [
        (100_000, 89_900, Turn.RISES),
        (100_000, 90_000, Turn.HOLDS),
        (100_000, 91_900, Turn.HOLDS),
        (100_000, 92_000, Turn.FALLS),
        (100_000, 120_000, Turn.FALLS),
        (999, 0, Turn.HOLDS),
        (None, None, Turn.HOLDS),
    ],
)
def test_when_a_loss_rises_and_falls(master: int | None, circuits: int | None, turn: Turn) -> None:
    found = look_at_loss(master, circuits, AlarmRules())
    assert (found.kind, found.turn) == (AlarmKind.LOSS, turn)


async def test_a_master_has_no_tenant_whose_credit_could_run_out(cabinet: Cabinet) -> None:
    at = cabinet.clock.now()
    async with cabinet.database.transaction() as tx:
        numbers: dict[str, int] = dict(await tx.rows("SELECT name, meter_id FROM meter"))
        shown = {Quantity.ENERGY: 9_000_000, Quantity.REMAINING_CREDIT: 0}
        looks = [
            Look(
                reading=Reading(
                    meter_id=number, at=at, received_at=at, origin=Origin.POLLED, values=shown
                )
            )
            for number in numbers.values()
        ]
        await nights.save(tx, looks, [])
    await watch(cabinet.database, cabinet.clock)
    low = {meter for code, meter, _ in await cabinet.standing() if code == "low-credit"}
    assert low == {"M1", "M2"}
