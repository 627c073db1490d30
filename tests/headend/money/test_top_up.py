"""A top-up from the order to the proof, over a real wire."""

from __future__ import annotations

from pathlib import Path

from headend.domain.commands import CommandState
from headend.domain.purchases import SaleState
from headend.store.database import Database
from tests.headend.money.shop import shop

S = CommandState


async def test_fifty_yuan_arrive_once_and_every_step_is_kept(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:
        count = s.meter().purchase_count
        await s.open_sender()
        command_id = await s.sell(5_000)
        command = await s.reaches(command_id, S.CONFIRMED)
        assert s.credited() == [5_000]
        assert command.purchase_count == count + 1
        assert await s.books() == (5_000, 0, 0)
        assert (await s.sale(command)).state is SaleState.LANDED
        (attempt,) = await s.attempts(command_id)
        assert attempt.outcome == "applied"
        assert attempt.before.purchase_count == count
        assert attempt.after is not None
        assert attempt.after.purchase_count == count + 1
        assert len([f for f in attempt.frames if f.get("out", "").startswith("0120")]) == 1
        stages = [e.stage for e in await s.events(command_id)]
        assert [stage for stage in stages if stage] == ["paid", "sent", "in_meter"]
