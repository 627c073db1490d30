"""A small property whose meters are billed from the platform: nights, readings, a tariff."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

from headend.domain.charging import Point
from headend.domain.tariffs import Rate, Terms
from headend.services import tariffs as service
from headend.store import accounts, charges, money_modes, tariff_places, tariffs
from headend.store.charges import Charge
from headend.store.database import Database, Transaction
from headend.store.readings import store_readings
from protocols.reading import Origin, Quantity, Reading
from tests.headend.ledger.shop import Shop, open_shop

SHANGHAI = ZoneInfo("Asia/Shanghai")
FIRST = date(2026, 3, 20)  # the day that ends with the reading billing begins with
FLAT = Terms(prices_x4={Rate.FLAT: 5469})
REGISTERS = {
    Rate.SHARP: Quantity.ENERGY_SHARP,
    Rate.PEAK: Quantity.ENERGY_PEAK,
    Rate.FLAT: Quantity.ENERGY_FLAT,
    Rate.VALLEY: Quantity.ENERGY_VALLEY,
    Rate.DEEP_VALLEY: Quantity.ENERGY_DEEP_VALLEY,
}


def end_of(day: date) -> datetime:
    """Five past midnight, when the reading that ends a day is taken."""
    return datetime(day.year, day.month, day.day, 0, 5, tzinfo=SHANGHAI) + timedelta(days=1)


@dataclass
class Estate:
    """Two meters M1, M2 of the site; `meter` is M1's number."""

    shop: Shop
    site_id: int

    @property
    def database(self) -> Database:
        return self.shop.database

    @property
    def meter(self) -> int:
        return self.shop.meters[0]

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """As the database's own."""
        return self.database.transaction()

    async def tariff(self, terms: Terms, since: date = FIRST, *, name: str = "") -> int:
        """A tariff for the whole site from a day on, published the way people do."""
        at = end_of(since) - timedelta(days=1)
        async with self.transaction() as tx:
            made = await tariffs.add(tx, name or str(uuid4()), site_id=None,
                                     by=self.shop.manager, at=at)  # fmt: skip
            assert made is not None
            await self.version(tx, made.tariff_id, terms, since)
            await tariff_places.assign(
                tx, made.tariff_id, "site", self.site_id, from_day=since, reason="test",
                by=self.shop.manager, at=at,
            )  # fmt: skip
        return made.tariff_id

    async def version(self, tx: Transaction, tariff_id: int, terms: Terms, since: date) -> None:
        """One version more."""
        at = end_of(since)
        kept = await service.keep_draft(
            tx, tariff_id, terms, note="", by=self.shop.manager, at=at, edits=0
        )
        assert isinstance(kept, int)
        await tariffs.publish(
            tx, kept, valid_from=since, by=self.shop.manager, at=at, needs_second=False,
            approver=None,
        )  # fmt: skip

    async def platform(self, wh: int = 0, day: date = FIRST, **rates: int) -> None:
        """Billing begins with this reading at the end of a day."""
        point = Point(end_of(day), wh, {Rate(n): v for n, v in rates.items()} or None)
        async with self.transaction() as tx:
            await money_modes.set_mode(
                tx, self.meter, anchor=point, anchor_day=day, at=end_of(day),
                by=self.shop.manager, approver=None, reason="test",
            )  # fmt: skip

    async def night(
        self, day: date, wh: int | None, at: datetime | None = None, **rates: int
    ) -> None:
        """The night that ends a day, with its reading, or open without one; again: back-filled."""
        async with self.transaction() as tx:
            opens = end_of(day) - timedelta(minutes=10)
            await tx.execute(
                "INSERT INTO night (site_id, night, opens_at, closes_at) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                self.site_id, day, opens, opens + timedelta(hours=6),
            )  # fmt: skip
            number = await tx.value("SELECT night_id FROM night WHERE night = %s", day)
            await tx.execute(
                "INSERT INTO night_cell (night_id, meter_id, state, reason)"
                " VALUES (%s, %s, 'missing', 'meter_silent') ON CONFLICT DO NOTHING",
                number, self.meter,
            )  # fmt: skip
            if wh is None:
                return
            at = at or end_of(day)
            await self.read(tx, at, wh, **rates)
            await tx.execute(
                "UPDATE night_cell SET state = 'read', reason = NULL, reading_at = %s,"
                " energy_wh = %s WHERE night_id = %s AND meter_id = %s",
                at, wh, number, self.meter,
            )  # fmt: skip

    async def read(self, tx: Transaction, at: datetime, wh: int, **rates: int) -> None:
        """A reading at an instant."""
        values = {Quantity.ENERGY: wh} | {REGISTERS[Rate(n)]: v for n, v in rates.items()}
        await store_readings(
            tx,
            [Reading(meter_id=self.meter, at=at, received_at=at, origin=Origin.POLLED,
                     values=values)],
        )  # fmt: skip

    async def bill(self) -> list[Charge]:
        """All lines of M1, oldest first."""
        async with self.transaction() as tx:
            return list(reversed(await charges.lines(tx, self.meter)))

    async def balance_fen(self) -> int:
        """Of M1's customer."""
        async with self.transaction() as tx:
            customer = await accounts.customer_of_meter(tx, self.meter, datetime.now(UTC))
            return await accounts.balance_fen(tx, customer.account_id)


async def open_estate(database: Database) -> Estate:
    """Nobody is billed yet."""
    shop = await open_shop(database)
    async with database.transaction() as tx:
        site_id = await tx.value("SELECT min(site_id) FROM site")
    return Estate(shop, site_id)
