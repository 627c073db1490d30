"""What a meter can never do is refused at once, and its money is free again; nothing is sent."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

from headend.domain.commands import CommandKind, CommandState
from headend.domain.places import MeterPlace
from headend.services.switching import LOCK_OUT_LOOK, last_check
from headend.store import protections
from headend.store.database import Database
from protocols.exchange import Evidence
from simulators.metering import Forced
from tests.headend.house import ddsy
from tests.headend.money.shop import shop

S, K = CommandState, CommandKind


async def test_a_meter_without_prepayment_is_not_sold_to(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        meter = s.meter()
        meter.account = replace(meter.account, prepaid=False)
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000), S.REFUSED, S.CONFIRMED)
        assert command.state is S.REFUSED
        assert "prepa" in command.outcome
        assert s.bus.writes() == []
        assert await s.books() == (0, 5_000, 0), "the money waits as balance"
        assert (await s.sale(command)).state.value == "reversed"


async def test_a_meter_of_another_type_is_not_sold_to(database: Database, tmp_path: Path) -> None:
    places = (ddsy(1), ddsy(9))
    async with shop(database, tmp_path, "ddsy:1", "dtsy:9", places=places) as s:
        await s.open_sender()
        command = await s.reaches(await s.sell(5_000, unit=9), S.REFUSED, S.CONFIRMED)
        assert command.state is S.REFUSED
        assert s.bus.writes() == []
        assert await s.books(9) == (0, 5_000, 0)


async def test_a_circuit_whose_polarity_nobody_proved_is_not_cut(
    database: Database, tmp_path: Path
) -> None:
    circuit = MeterPlace(name="M13", line="L1", meter_type="acrel_adf300l_1p", unit=13)
    async with shop(database, tmp_path, "adf:1", places=(circuit,)) as s:
        await s.open_sender()
        command = await s.reaches(await s.switched(K.CUT, unit=13), S.REFUSED, S.CONFIRMED)
        assert command.state is S.REFUSED
        assert s.bus.writes() == []
        assert s.meter(13).forced is Forced.RELEASED


async def test_light_waits_for_the_technician_and_a_cut_does_not(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        s.meter().force(Forced.OPEN)
        async with s.database.transaction() as tx:
            number = await protections.lock_out(
                tx, reason="works", by=s.li, now=s.clock.now, meter_id=s.ids["M1"]
            )
        check = last_check(s.clock)
        restore = await s.command(await s.switched(K.RESTORE))
        async with s.database.transaction() as tx:
            held = await check(tx, restore, Evidence())
            assert held is not None
            assert held.again_at is not None
            assert held.again_at - s.clock.now() <= LOCK_OUT_LOOK
            cut = replace(restore, kind=K.CUT)
            refused = await check(tx, cut, Evidence())
            assert refused is not None
            assert refused.again_at is None
        await s.open_sender(last_check=check)
        await s.reaches(restore.command_id, S.QUEUED)
        assert s.bus.writes() == []
        async with s.database.transaction() as tx:
            await protections.lift_lock_out(tx, number, reason="done", by=s.li, at=s.clock.now())
        s.later(minutes=2)
        await s.reaches(restore.command_id, S.CONFIRMED)
        assert s.meter().look().relay_closed


async def test_nobody_is_told_locked_out_while_an_order_is_about_to_leave(
    database: Database, tmp_path: Path
) -> None:
    """A technician is told "locked out" only once an order that was looked at before has left."""
    async with shop(database, tmp_path) as s:
        restore = await s.command(await s.switched(K.RESTORE))
        told: list[int] = []

        async def lock_out() -> None:
            async with s.database.transaction() as tx:
                told.append(
                    await protections.lock_out(
                        tx, reason="works", by=s.li, now=s.clock.now, meter_id=s.ids["M1"]
                    )
                )

        async with s.database.transaction() as tx:
            assert await last_check(s.clock)(tx, restore, Evidence()) is None
            locking = asyncio.create_task(lock_out())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await asyncio.shield(locking)
            assert not told, "the intent of the restore is not committed yet"
        await locking
        assert told
