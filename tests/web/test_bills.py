"""A bill at the desk and through the API; kWh at the counter; what-if as a table and as CSV."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from headend.domain.roles import Role
from headend.domain.tariffs import Rate, Terms, Tier
from headend.services import tariffs as service
from headend.services.billing_rounds import bill_all
from headend.store import people, tariff_places, tariffs
from headend.store.readings import store_readings
from headend.web import desk
from protocols.reading import Origin, Quantity, Reading
from tests.web.shop import Shop, open_shop
from tests.web.test_platform_money import into_the_platform, number

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def tariff(shop: Shop, terms: Terms) -> int:
    """For the whole property, since months ago."""
    at, by = shop.services.clock.now(), shop.numbers[Role.MANAGER]
    since = (at - timedelta(days=80)).date()
    async with shop.services.database.transaction() as tx:
        made = await tariffs.add(tx, "Court", site_id=None, by=by, at=at)
        assert made is not None
        kept = await service.keep_draft(tx, made.tariff_id, terms, note="", by=by, at=at, edits=0)
        assert isinstance(kept, int)
        await tariffs.publish(
            tx, kept, valid_from=since, by=by, at=at, needs_second=False, approver=None
        )
        site_id = shop.services.lines.sites["court"].site_id
        await tariff_places.assign(
            tx, made.tariff_id, "site", site_id, from_day=since, reason="test", by=by, at=at
        )
    return made.tariff_id


async def read(shop: Shop, meter: str, at: datetime, wh: int) -> None:
    async with shop.services.database.transaction() as tx:
        await store_readings(
            tx,
            [Reading(meter_id=await number(shop, meter), at=at, received_at=at,
                     origin=Origin.POLLED, values={Quantity.ENERGY: wh})],
        )  # fmt: skip


async def a_charged_day(shop: Shop) -> tuple[str, int]:
    """A night read and billed: its day, and the total it ended with."""
    meter_id = await number(shop, "M1")
    async with shop.services.database.transaction() as tx:
        day, wh = await tx.row(  # type: ignore[misc]  # it is there
            "SELECT anchor_day + 1, anchor_wh + 3210 FROM meter_mode WHERE meter_id = %s", meter_id
        )
    at = datetime(day.year, day.month, day.day, 16, 5, tzinfo=desk.zone_of(shop.services))
    at = max(at, shop.services.clock.now() + timedelta(seconds=1))
    await read(shop, "M1", at, wh)
    async with shop.services.database.transaction() as tx:
        site_id = shop.services.lines.sites["court"].site_id
        night = await tx.value(
            "INSERT INTO night (site_id, night, opens_at, closes_at)"
            " VALUES (%s, %s, %s, %s) RETURNING night_id",
            site_id, day, at - timedelta(minutes=1), at + timedelta(hours=1),
        )  # fmt: skip
        await tx.execute(
            "INSERT INTO night_cell (night_id, meter_id, state, reading_at, energy_wh)"
            " VALUES (%s, %s, 'read', %s, %s)",
            night, meter_id, at, wh,
        )  # fmt: skip
    assert await bill_all(shop.services.database, shop.services.clock) == 1
    return day.isoformat(), wh


async def ask(shop: Shop, path: str) -> Any:
    at = shop.services.clock.now()
    async with shop.services.database.transaction() as tx:
        owner = await people.find_operator(tx, "manager")
        assert owner is not None
        token = await people.add_token(
            tx, owner, str(uuid4()), at=at, expires_at=at + timedelta(hours=1)
        )
    answer = await shop.served.http.get(
        f"/api/v1{path}", headers={"authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_bill_explains_each_line_and_a_person_corrects_it(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        terms = Terms(prices_x4={Rate.FLAT: 5469}, tiers=(Tier(1_000, 500),), fee_fen_per_day=30)
        await tariff(shop, terms)
        await into_the_platform(shop)
        day, wh = await a_charged_day(shop)
        manager = await shop.browser(Role.MANAGER)
        page = (await manager.get("/meters/M1/bill")).text
        assert f"{wh // 1000:,}.{wh % 1000 // 10:02}" in page, "the reading it goes to"
        assert "3.210 × 0.5469" in page
        assert "above 1.00 kWh a year" in page
        assert "2.210 × 0.0500" in page
        cost_x5 = 3_210 * 5469 + 2_210 * 500 + 30 * 100_000
        assert f"{cost_x5 // 10**7}.{cost_x5 % 10**7:07}" in page
        (line,) = await ask(shop, "/meters/M1/charges")
        assert (line["day"], line["cost_fen_x5"]) == (day, cost_x5)
        price = await ask(shop, "/meters/M1/price?energy_wh=1000&amount_fen=597")
        assert (price["money_in"], price["price_x4"]) == ("platform", 5969)
        assert (price["energy_costs_fen"], price["amount_buys_wh"]) == (60, 10_001)
        right = {"day": day, "amount": "-1.50", "correct_reason": "wrong price",
                 "correction_id": str(uuid4())}  # fmt: skip
        for wrong, beside in (
            ({"day": "2001-01-01"}, "day"), ({"day": "x"}, "day"), ({"amount": "x"}, "amount"),
            ({"amount": "0"}, "amount"), ({"amount": "-600"}, "approver"),
            ({"correct_reason": ""}, "correct_reason"),
        ):  # fmt: skip
            told = await manager.post("/meters/M1/bill/correct", **(right | wrong))
            assert told.status_code == 422, wrong
            assert f'id="{beside}-error"' in told.text, wrong
        for _ in range(2):
            done = await manager.post("/meters/M1/bill/correct", **right)
            assert done.status_code == 303
        lines = await ask(shop, "/meters/M1/charges")
        assert [one["amount_fen"] for one in lines] == [-150, cost_x5 // 100_000]
        zh = await (await shop.browser(Role.MANAGER, language="zh")).get("/meters/M1/bill")
        assert "人工" in zh.text
        assert (await manager.get("/meters/M2/bill")).status_code == 200


async def test_a_platform_meter_is_paid_for_and_not_sold_to(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        await into_the_platform(shop)
        cashier = await shop.browser(Role.CASHIER)
        to_form = await cashier.get("/vend?meter=M1")
        form = await cashier.get(to_form.headers["location"])
        pay = form.headers["location"]
        assert pay.startswith("/pay/")
        where = pay.split("?")[0]
        sold = await cashier.post(where.replace("/pay/", "/vend/new/"), meter="M1", amount="5",
                                  after="")  # fmt: skip
        assert sold.status_code == 409
        for amount in ("", "0", "x", "1.234", "50000.01"):
            told = await cashier.post(where, meter="M1", amount=amount)
            assert told.status_code == 422
            assert 'id="amount-error"' in told.text
        assert await shop.booked() == 0
        for _ in range(2):
            done = await cashier.post(where, meter="M1", amount="50")
            assert done.status_code == 303
        assert await shop.booked() == 1
        assert "50.00" in (await cashier.get(done.headers["location"])).text
        elsewhere = await cashier.post(f"/pay/{uuid4()}", meter="M2", amount="5")
        assert elsewhere.status_code == 409
        assert "sell to it instead" in elsewhere.text


async def test_a_what_if_as_a_table_and_as_csv(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        tariff_id = await tariff(shop, Terms(prices_x4={Rate.FLAT: 5000}))
        zone = desk.zone_of(shop.services)
        first = shop.services.clock.now().astimezone(zone).replace(day=1, hour=0, minute=5)
        last = (first - timedelta(days=1)).replace(day=1)
        await read(shop, "M1", last, 1_000)
        await read(shop, "M1", first, 101_000)
        manager = await shop.browser(Role.MANAGER)
        where = f"/prices/{tariff_id}"
        await manager.post(f"{where}/draft", edits="0", price_flat="0.6", note="more")
        page = (await manager.get(f"{where}/what-if")).text
        assert "50.00" in page
        assert "60.00" in page
        assert "+10.00" in page
        table = await manager.get(f"{where}/what-if.csv")
        assert table.headers["content-type"].startswith("text/csv")
        lines = table.text.lstrip("\ufeff").splitlines()
        row = next(line for line in lines if ",M1," in line)
        assert ",100000,50.00,60.00,10.00," in row
        told = await ask(shop, f"/tariffs/{tariff_id}/what-if")
        assert (told["before_fen"], told["after_fen"], told["dearer"]) == (5_000, 6_000, 1)
        for odd in ("month=yesterday", "month=9999-01", "site=nowhere", "building=%00"):
            assert (await manager.get(f"{where}/what-if?{odd}")).status_code in (200, 422)
