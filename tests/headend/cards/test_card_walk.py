"""A tenant, two channels and every way a card can go, in random order: each fen lands once.

Judged by the meter's own list. `HEADEND_CARD_WALKS=1-40` walks more seeds than the suite has time
for.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from headend.domain.card_issues import CardIssue
from headend.domain.commands import Accepted
from headend.services.card_landings import land_by_readings
from headend.store import sales
from headend.store.database import Database
from headend.units.check_cards import on_reader
from simulators.cards import VirtualCard
from tests.headend.cards.counter import Counter, counter

STEPS = 30
SETTLE_S_MAX = 60.0


def seeds() -> list[int]:
    wish = os.environ.get("HEADEND_CARD_WALKS", "1-2")
    first, _, last = wish.partition("-")
    return list(range(int(first), int(last or first) + 1))


@dataclass
class Walk:
    """What the tenant has and did."""

    at: Counter
    chance: Random
    cards: list[tuple[VirtualCard, bytes]] = field(default_factory=list)
    paid_fen: int = 0
    told: list[str] = field(default_factory=list)

    async def step(self) -> None:
        wish = self.chance.choice(
            [self.sell, self.sell, self.hold, self.hold, self.look, self.look, self.lose,
             self.move, self.burn, self.take_back, self.remote, self.night, self.wait]
        )  # fmt: skip
        self.told.append(f"{wish.__name__}: {await wish()}")

    async def pay(self) -> int:
        fen = self.chance.randrange(100, 5000)
        await self.at.shop.pay(fen)
        self.paid_fen += fen
        return fen

    async def sell(self) -> object:
        if not self.cards:
            card, serial = await self.at.card()
            self.at.slot.serial = serial
            self.cards.append((card, serial))
        card, serial = self.cards[-1]
        issue = await self.at.begin(serial, await self.pay())
        if not isinstance(issue, CardIssue):
            return issue
        return await self.at.write(card, issue)

    async def remote(self) -> object:
        return await self.at.shop.order(await self.pay())

    async def hold(self) -> object:
        """Any card of the tenant's, a lost one that was found among them."""
        if not self.cards:
            return None
        return self.at.slot.hold(self.chance.choice(self.cards)[0])

    async def look(self) -> object:
        if not self.cards:
            return None
        return await self.at.look(self.chance.choice(self.cards)[0])

    async def lose(self) -> object:
        if not self.cards:
            return None
        card, serial = await self.at.card()
        async with self.at.shop.database.transaction() as tx:
            wish = self.at.wish(serial, 0)
            issue = await self.at.returns.replace(tx, wish)
        if not isinstance(issue, CardIssue):
            return issue
        self.cards.append((card, serial))
        return await self.at.write(card, issue)

    async def move(self) -> object:
        async with self.at.shop.database.transaction() as tx:
            return await self.at.returns.move_to_remote(
                tx, self.at.meter_id, operator_id=self.at.shop.li, reason="far away"
            )

    async def burn(self) -> object:
        async with self.at.shop.database.transaction() as tx:
            return await self.at.returns.burn(
                tx, self.at.meter_id, operator_id=self.at.shop.li, reason="gone"
            )

    async def take_back(self) -> object:
        if not self.cards:
            return None
        card, _ = self.cards[-1]
        seen = self.at.read(card)
        async with self.at.shop.database.transaction() as tx:
            begun = await self.at.returns.begin_taking_back(tx, seen)
        if not isinstance(begun, CardIssue):
            return begun
        empty = on_reader(self.at.unit.clear(), card, self.at.keys)
        async with self.at.shop.database.transaction() as tx:
            return await self.at.returns.taken_back(
                tx, begun.issue_id, empty, operator_id=self.at.shop.li, reason="wrong"
            )

    async def night(self) -> object:
        await self.at.shop.read_once()
        return await land_by_readings(self.at.shop.database, self.at.desk)

    async def wait(self) -> object:
        await asyncio.sleep(0.05)
        return None

    async def settled(self) -> None:
        """Everything lands or is burned; nothing new is sold."""
        async with asyncio.timeout(SETTLE_S_MAX):
            while True:
                await self.night()
                for card, _ in self.cards:
                    await self.at.look(card)
                async with self.at.shop.database.transaction() as tx:
                    sale = await sales.open_of_meter(tx, self.at.meter_id)
                if sale is None:
                    return
                if sale.channel == "card" and isinstance(await self.burn(), Accepted):
                    self.told.append("burned at the end")
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("seed", seeds())
async def test_each_fen_lands_once_whatever_the_tenant_does(
    database: Database, tmp_path: Path, seed: int
) -> None:
    # Every second site takes back cards that can be cloned; nobody clones one here.
    async with counter(database, tmp_path, clones_are_taken_back=seed % 2 == 0) as at:
        walk = Walk(at, Random(seed))
        await at.shop.open_sender()
        for _ in range(STEPS):
            await walk.step()
        await walk.settled()
        story = "\n".join(walk.told)
        in_meter, free, reserved = await at.shop.books()
        assert await at.frozen() is None, story
        assert in_meter == sum(at.shop.credited()), story
        assert reserved == 0, story
        assert in_meter + free == walk.paid_fen, story
        counts = [applied.purchase_count for applied in at.shop.meter().applied]
        assert len(set(counts)) == len(counts), story
