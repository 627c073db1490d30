"""Prices in a real browser: a draft, its errors, published by two, pushed live into meters."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.async_api import expect

from headend.domain.roles import Role
from headend.services import platform_money, sign_in
from headend.services.platform_money import ModeWish
from headend.store import people
from tests.web.shop import PASSWORD, Shop, open_shop
from tests.web.test_browser import CHROMIUM, chromium, enter, let_in, page_of, seen

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

HOURS = "00:00 谷\n08:00 峰\n22:00 谷"


async def second_manager(shop: Shop) -> None:
    at = shop.services.clock.now()
    async with shop.services.database.transaction() as tx:
        made = await people.add_operator(tx, "boss", Role.MANAGER, at=at)
        assert made is not None
        assert await sign_in.set_password(tx, made, PASSWORD, shop.services.clock, by=None) is None


async def test_from_a_draft_to_every_meter(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop, chromium() as browser:
        await let_in(shop)
        await second_manager(shop)
        page = await page_of(browser, shop, language="zh", width="phone")
        await enter(page, Role.MANAGER, "/prices")
        await seen(page, "prices-empty")
        await page.fill("#name", "商铺电价")
        await page.click("text=新建")
        await page.wait_for_url(re.compile(r"/prices/\d+/draft$"))
        await page.fill("#price_peak", "八毛")
        await page.fill("#season_1_hours", HOURS)
        await page.click("button.big")
        await expect(page.locator("#price_peak-error")).to_be_visible()
        await expect(page.locator("#price_peak")).to_have_value("八毛")
        # The refusal is a 422, which the browser tells on its console.
        page.faults.clear()  # type: ignore[attr-defined]
        await seen(page, "prices-draft-wrong")
        await page.fill("#price_peak", "0.8312")
        await page.fill("#price_valley", "0.34")
        await page.click("button.big")
        await page.wait_for_url(re.compile(r"/prices/\d+$"))
        for meter in ("M1", "M2"):
            await page.select_option("#kind", "meter")
            await page.fill("#place_name", meter)
            await page.fill("#assign_reason", "新电价")
            await page.click("button[name=step][value=assign]")
            await expect(page.locator(f"text=电表 {meter}")).to_be_visible()
        await page.fill("#valid_from", await page.get_attribute("#valid_from", "min") or "")
        await page.click("summary:has-text('第二人')")
        await page.fill("#approver", "boss")
        await page.fill("#approver_password", PASSWORD)
        await page.click("form[action$='/publish'] button.primary")
        await expect(page.locator("#push")).to_be_visible()
        # Live: it comes by itself until both hold it.
        await expect(page.locator("#push td .chip.tone-good")).to_have_count(2, timeout=60_000)
        await seen(page, "prices-pushed")
        for unit in (1, 2):
            assert shop.meter(unit).account.prices_fen_per_kwh == (83, 83, 83, 34)
        await page.context.close()


async def test_the_screens_of_prices_and_bills_are_whole(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop, chromium() as browser:
        await let_in(shop)
        services = shop.services
        number = services.lines.find_meter("M1").known.meter_id
        async with services.database.transaction() as tx:
            await tx.execute("UPDATE meter_last SET remaining_credit_fen = 0")
            refused = await platform_money.set_mode(
                tx, services.orders,
                ModeWish(meter_id=number, platform=True, operator_id=shop.numbers[Role.MANAGER],
                         approver_id=None, reason="r", command_id=uuid4()),
                services.clock.now(),
            )  # fmt: skip
            assert refused is None
        for language, width in (("en", "desk"), ("zh", "phone")):
            page = await page_of(browser, shop, language=language, width=width)
            await enter(page, Role.MANAGER, "/prices")
            await page.fill("#name", f"Court {language}")
            await page.click("form[action='/prices'] button")
            await page.wait_for_url(re.compile(r"/prices/\d+/draft$"))
            await page.fill("#price_flat", "0.6")
            await page.fill("#tiers", "2160 0.05")
            await page.click("button.big")
            await page.wait_for_url(re.compile(r"/prices/\d+$"))
            where = page.url
            for path in ("", "/draft", "/what-if", "/what-if?site=court"):
                await page.goto(where + path)
                await seen(page, f"{language}-{width}-prices-{re.sub(r'[^a-z]+', '-', path)}")
            await page.goto("/meters/M1/bill")
            await seen(page, f"{language}-{width}-bill")
            await page.goto("/vend?meter=M1")
            await page.wait_for_url(re.compile("/pay/"))
            await seen(page, f"{language}-{width}-pay")
            await page.fill("#amount", "30")
            await page.dblclick("button.big")
            await page.wait_for_url(re.compile("/payments/"))
            await expect(page.locator("h1")).to_contain_text("30.00")
            await seen(page, f"{language}-{width}-payment")
            await page.context.close()
        assert await shop.booked() == 2, "a double click is one payment"
