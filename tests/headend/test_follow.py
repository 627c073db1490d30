"""An import is followed also where the database was away in the moment it said so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headend import app
from headend.store import places
from headend.store.database import Transaction
from headend.store.errors import DatabaseAway
from headend.store.places import KnownSite
from tests.headend.test_api import served


async def test_places_are_followed_once_the_database_is_back(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "FOLLOW_AGAIN_S", 0.05)
    load_sites = places.load_sites
    missed: list[Transaction] = []

    async def away_twice(tx: Transaction) -> list[KnownSite]:
        if len(missed) < 2:
            missed.append(tx)
            raise DatabaseAway("all its connections stayed busy")
        return list(await load_sites(tx))

    async with served(dsn, tmp_path, "ddsy:1-2") as up:
        services = up.head_end.services
        monkeypatch.setattr(places, "load_sites", away_twice)
        async with services.database.transaction() as tx:
            await tx.execute(
                "UPDATE meter SET room_id = (SELECT room_id FROM room) WHERE name = 'M1'"
            )
            await tx.execute("SELECT pg_notify('places_changed', 'court')")
        async with asyncio.timeout(30):
            while services.lines.meters["M1"].known.building != "A":
                await asyncio.sleep(0.02)
        assert len(missed) == 2, "it was away when it was told"
