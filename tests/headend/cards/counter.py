"""A counter for tests: a real shop, a meter with a line and a slot, cards and a reader."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID, uuid4

from headend.domain.card_issues import CardIssue
from headend.domain.cards import CardNo
from headend.domain.commands import Rejected
from headend.domain.purchases import Sale
from headend.services.card_returns import CardReturns
from headend.services.cards import CardDesk, CardSale, Looked
from headend.store import cards, sales
from headend.store.database import Database
from headend.units.check_cards import AREA, KitKeys, on_reader
from headend.units.finding import find_units
from protocols.card_apdu import CardGone, Issuer
from protocols.card_desk import CardSeen
from protocols.card_image import CardKind
from protocols.key_call import Purpose
from protocols.security_unit import SecurityUnit
from simulators.card_meter import CardReader
from simulators.cards import RfCard, VirtualCard
from simulators.metering import Meter
from tests.headend.money.shop import Shop, shop

NUMBER = "000000000101"
ISSUER = Issuer("site", AREA, b"12345678")


@dataclass
class MeterAccount:
    """The simulated meter's own registers, as its slot sees them."""

    meter: Meter

    @property
    def purchase_count(self) -> int:
        return self.meter.purchase_count

    @property
    def remaining_fen(self) -> int:
        return self.meter.look().remaining_fen

    @property
    def total_fen(self) -> int:
        return self.meter.total_purchased_fen

    def credit(self, count: int, amount_fen: int) -> None:
        assert self.meter.purchase(amount_fen, count)


@dataclass
class Counter:
    """The desk, the tenant's cards, and the slot in the tenant's meter."""

    shop: Shop
    desk: CardDesk
    returns: CardReturns
    unit: SecurityUnit
    slot: CardReader
    keys: KitKeys = field(default_factory=KitKeys)
    uids: int = 0

    @property
    def meter_id(self) -> int:
        return self.shop.ids["M1"]

    async def card(self) -> tuple[VirtualCard, bytes]:
        """A new card, made ours and in the books."""
        self.uids += 1
        card = RfCard(bytes((1, 2, 3, self.uids)))
        serial = on_reader(self.unit.personalise(bytes(8)), card, self.keys)
        async with self.shop.database.transaction() as tx:
            at = self.shop.clock.now()
            assert await cards.add_card(tx, serial, "hanhe_rf", made_by=self.shop.li, at=at)
        return card, serial

    def wish(self, serial: bytes, fen: int, issue_id: UUID | None = None) -> CardSale:
        return CardSale(
            issue_id=issue_id or uuid4(),
            meter_id=self.meter_id,
            serial=serial,
            amount_fen=fen,
            key_version=1,
            operator_id=self.shop.li,
            reason="at the counter",
        )

    async def begin(self, serial: bytes, fen: int) -> CardIssue | Rejected | CardNo:
        async with self.shop.database.transaction() as tx:
            return await self.desk.sell(tx, self.wish(serial, fen))

    async def write(self, card: VirtualCard, issue: CardIssue) -> CardIssue | CardNo:
        """Onto the card, read back, issued."""
        async with self.shop.database.transaction() as tx:
            record = await self.desk.record_of(tx, issue)
        try:
            seen = on_reader(self.unit.write(record), card, self.keys)
        finally:
            card.inserted_again()
        async with self.shop.database.transaction() as tx:
            return await self.desk.written(tx, issue.issue_id, seen)

    async def sold(self, card: VirtualCard, serial: bytes, fen: int) -> CardIssue:
        """Paid, sold, written."""
        await self.shop.pay(fen)
        issue = await self.begin(serial, fen)
        assert isinstance(issue, CardIssue), issue
        written = await self.write(card, issue)
        assert isinstance(written, CardIssue), written
        return written

    def read(self, card: VirtualCard) -> CardSeen:
        seen = on_reader(self.unit.read(), card, self.keys)
        card.inserted_again()
        return seen

    async def look(self, card: VirtualCard) -> Looked:
        async with self.shop.database.transaction() as tx:
            return await self.desk.look(tx, self.read(card))

    async def replaced(self, serial: bytes) -> CardIssue:
        """The old card is lost; the new one carries the same."""
        async with self.shop.database.transaction() as tx:
            wish = replace(self.wish(serial, 0), kind=CardKind.REPLACEMENT, reason="lost in a bus")
            issue = await self.returns.replace(tx, wish)
        assert isinstance(issue, CardIssue), issue
        return issue

    async def sale(self, issue: CardIssue) -> Sale:
        assert issue.sale_id is not None
        async with self.shop.database.transaction() as tx:
            found = await sales.find(tx, issue.sale_id)
        assert found is not None
        return found

    async def issue(self, issue: CardIssue) -> CardIssue:
        async with self.shop.database.transaction() as tx:
            found = await cards.find(tx, issue.issue_id)
        assert found is not None
        return found

    async def frozen(self) -> str | None:
        async with self.shop.database.transaction() as tx:
            found = await sales.frozen(tx, self.meter_id)
        return None if found is None else found.reason


@asynccontextmanager
async def counter(
    database: Database, folder: Path, *, clones_are_taken_back: bool = False
) -> AsyncIterator[Counter]:
    """The meter was opened and read once; nobody has a card yet. Cards are RF cards."""
    async with shop(database, folder) as opened:
        register = find_units()
        unit = register.for_type("acrel_ddsy1352")
        assert unit is not None
        desk = CardDesk(opened.clock, opened.orders, register)
        async with database.transaction() as tx:
            await tx.execute("UPDATE meter SET meter_number = %s WHERE name = 'M1'", NUMBER)
            customer = await opened.customer(tx)
        keys = KitKeys()
        slot = CardReader(
            NUMBER,
            AREA,
            keys.roots[Purpose.RECHARGE],
            keys.roots[Purpose.PARAMETERS],
            keys.roots[Purpose.WRITE_BACK],
            account=MeterAccount(opened.meter()),  # type: ignore[arg-type]
            customer=f"{customer.account_id:012d}",
            now_s=int(opened.clock.now().timestamp()),
        )
        yield Counter(
            opened,
            desk,
            CardReturns(opened.clock, desk, clones_are_taken_back=clones_are_taken_back),
            unit.for_issuer(ISSUER),
            slot,
            keys,
        )


def torn_at(card: VirtualCard, command: int) -> None:
    """The card will be pulled in the middle of this command."""
    card.inserted_again()
    card.tear_at = command


__all__ = ["CardGone", "Counter", "counter", "torn_at"]
