"""The tenant's page: opened by its link alone, shows one account, changes nothing, soon closed."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from headend.domain.roles import Role
from headend.store import accounts, tenant_links
from headend.web.pages_tenant import WRONG_A_MINUTE, Gate
from tests.web.shop import Browser, Shop, open_shop
from tests.web.test_browser import CHROMIUM, chromium, page_of, seen
from tests.web.test_vend import form_of, proved


async def link_to(cashier: Browser, meter: str, **typed: str) -> str:
    """A fresh link's path."""
    made = await cashier.post(f"/meters/{meter}/links", days="30", **typed)
    assert made.status_code == 200, made.text[-300:]
    found = re.search(r"https?://[^<\s]+?(/t/[\w-]{40,})<", made.text)
    assert found is not None
    assert "data:image/svg+xml" in made.text
    return found[1]


async def opened(shop: Shop, path: str, **headers: str) -> httpx.Response:
    shop.served.http.cookies.clear()
    return await shop.served.http.get(path, headers={"accept": "text/html"} | headers)


async def sold(cashier: Browser, meter: str, yuan: str) -> None:
    where, after = await form_of(cashier, meter)
    await cashier.post(where, meter=meter, amount=yuan, after=after)
    await proved(cashier, where.replace("/new/", "/"))


async def test_one_account_without_signing_in_and_nobody_elses(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        await cashier.post("/meters/M1/customer", customer="王小明", contact="138 0013 8000")
        await cashier.post("/meters/M2/customer", customer="Neighbour Ltd", contact="1")
        await sold(cashier, "M1", "50.50")
        await sold(cashier, "M2", "77")
        path = await link_to(cashier, "M1")
        page = await opened(shop, path)
        assert page.status_code == 200
        assert "王小明" in page.text
        assert "50.50" in page.text
        assert page.text.count('class="done"') == 4, "the four stages"
        assert "ago" in page.text, "a balance has its age"
        for foreign in ("Neighbour", "77.00", "M2", "138 0013 8000", "/meters/", "<form"):
            assert foreign not in page.text, foreign
        assert page.headers["referrer-policy"] == "no-referrer"
        assert "no-store" in page.headers["cache-control"]
        assert "set-cookie" not in page.headers
        assert "余额" in (await opened(shop, path, **{"accept-language": "zh-CN"})).text
        assert "余额" in (await opened(shop, path + "?lang=zh")).text
        # It opens nothing else, and is no session.
        assert (await opened(shop, "/meters/M1")).status_code == 401
        assert (await shop.served.http.post(path)).status_code == 405
        async with shop.services.database.transaction() as tx:
            kept = await tx.rows("SELECT sha256, opened_at FROM tenant_link")
        ((sha256, at),) = kept
        assert sha256 == tenant_links.digest(path.removeprefix("/t/"))
        assert at is not None


async def test_a_link_ends_by_time_by_hand_and_with_the_account(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        first = await link_to(cashier, "M1")
        second = await link_to(cashier, "M1", revoke_old="yes")
        assert (await opened(shop, first)).status_code == 404, "a new one ended the old one"
        assert (await opened(shop, second)).status_code == 200
        page = (await cashier.get("/meters/M1/links")).text
        assert second.removeprefix("/t/") not in page, "a secret is shown once"
        (number,) = re.findall(r'action="/meters/M1/links/(\d+)/revoke"', page)
        assert (await cashier.post(f"/meters/M2/links/{number}/revoke")).status_code == 404
        assert (await opened(shop, second)).status_code == 200
        assert (await cashier.post(f"/meters/M1/links/{number}/revoke")).status_code == 303
        assert (await opened(shop, second)).status_code == 404
        for days in ("0", "-1", "9999", "x", "３"):
            wrong = await cashier.post("/meters/M1/links", days=days)
            assert wrong.status_code == 422, days
            assert 'id="days-error"' in wrong.text
        third = await link_to(cashier, "M1")
        now = shop.services.clock.now()
        async with shop.services.database.transaction() as tx:
            secret = third.removeprefix("/t/")
            late = await tenant_links.tenancy_of(tx, secret, now + timedelta(days=31))
            assert late is None
            number = shop.services.lines.find_meter("M1").known.meter_id
            customer = await accounts.customer_of_meter(tx, number, now)
            await accounts.close_account(tx, customer.account_id, now)
        assert (await opened(shop, third)).status_code == 404, "who moved out sees no more"


async def test_guessing_is_slowed_down(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        path = await link_to(cashier, "M1")
        answers = [(await opened(shop, f"/t/{'x' * 43}")).status_code for _ in range(12)]
        assert answers == [404] * WRONG_A_MINUTE + [429] * 2
        assert (await opened(shop, path)).status_code == 429, "also when the next guess is right"


def test_a_gate_forgets_after_a_minute() -> None:
    gate = Gate()
    for _ in range(WRONG_A_MINUTE):
        assert gate.lets("a", 0.0, wrong=True)
    assert gate.has_guessed("a", 59.0)
    assert not gate.has_guessed("a", 60.5)
    assert not gate.has_guessed("b", 1.0)


async def test_a_sheet_for_a_building_is_printed_once(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        async with shop.services.database.transaction() as tx:
            await tx.execute("UPDATE meter SET room_id = (SELECT room_id FROM room LIMIT 1)")
        cashier = await shop.browser(Role.CASHIER)
        form = (await cashier.get("/rooms/court/A/links")).text
        sheet_id = re.findall(r'name="sheet_id" value="([^"]+)"', form)[0]
        sheet = await cashier.post("/rooms/court/A/links", days="365", sheet_id=sheet_id)
        assert sheet.status_code == 200
        assert sheet.text.count("<figure>") == 3
        again = await cashier.post("/rooms/court/A/links", days="365", sheet_id=sheet_id)
        assert again.status_code == 409
        assert "<figure>" not in again.text
        async with shop.services.database.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM tenant_link") == 3
        assert (await cashier.get("/rooms/court/Nowhere/links")).status_code == 404


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
async def test_on_a_telephone_and_in_reports_with_a_real_browser(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop, chromium() as browser:
        cashier = await shop.browser(Role.CASHIER)
        await sold(cashier, "M1", "50")
        path = await link_to(cashier, "M1")
        for language in ("zh", "en"):
            page = await page_of(browser, shop, language=language, width="phone")
            await page.goto(path)
            await expect(page.locator(".huge")).to_be_visible()
            await seen(page, f"{language}-phone-tenant")
            await page.goto("/t/nothing")
            page.faults.clear()  # type: ignore[attr-defined]  # a 404 is told on the console
            await seen(page, f"{language}-phone-tenant-no")
            await page.context.close()
        manager = await shop.browser(Role.MANAGER)
        auditor = await shop.browser(Role.AUDITOR)
        for who, paths in (
            (manager, ["/reports", "/reports/turnover?by=operator", "/reports/lines",
                       "/reports/arrears", "/meters/M1/links", "/rooms"]),
            (auditor, ["/meters/M1/evidence"]),
        ):  # fmt: skip
            for language, width in (("zh", "phone"), ("en", "desk")):
                page = await page_of(browser, shop, language=language, width=width)
                await page.context.add_cookies(
                    [{"name": name, "value": value, "url": shop.url}
                     for name, value in who.cookies.items()]
                )  # fmt: skip
                for where in paths:
                    await page.goto(where)
                    name = re.sub(r"\W+", "-", where).strip("-")
                    await seen(page, f"{language}-{width}-{name}")
                await page.context.close()
