"""A short campaign of real processes; the long one is `python -m headend.trial.real`."""

from __future__ import annotations

from pathlib import Path

from headend.trial.real import Campaign

TOPUPS = 20


async def test_sold_through_real_deaths(reachable_folder: Path) -> None:
    folder = reachable_folder / "real"
    folder.mkdir(mode=0o755)
    outcome = await Campaign(folder, TOPUPS, seed=1).run()
    assert outcome.broken == []
    assert outcome.topups == outcome.confirmed == TOPUPS
    assert outcome.headend_kills + outcome.postgres_kills >= 1
