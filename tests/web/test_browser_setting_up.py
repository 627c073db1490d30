"""The first ten minutes in a real browser: from nothing to a meter in its room, the scan live."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from headend.domain.roles import Role
from tests.web.shop import open_shop
from tests.web.test_browser import CHROMIUM, chromium, enter, let_in, page_of, seen
from tests.web.test_setting_up import new_wire

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.mark.parametrize(("language", "width"), [("en", "desk"), ("zh", "phone")])
async def test_from_nothing_to_a_meter_in_its_room(
    dsn: str, tmp_path: Path, language: str, width: str
) -> None:
    tag = f"{language}-{width}-setup"
    async with open_shop(dsn, tmp_path) as shop, chromium() as browser, new_wire("ddsy:1-2") as w:
        await let_in(shop)
        page = await page_of(browser, shop, language=language, width=width)
        await enter(page, Role.MANAGER, "/setup")
        await page.fill("#name", "Hill")
        await page.fill("#buildings", "A\nB")
        await page.click("form[action='/setup'] button.primary")
        await page.wait_for_url(re.compile("/setup/Hill/gateway"))
        await seen(page, f"{tag}-gateway")
        await page.select_option("#kind", "tcp")
        await page.fill("#name", "cellar")
        await page.fill("#host", "127.0.0.1")
        await page.click("form[method=post][action$='/gateway'] button.primary")
        await expect(page.locator("#port-error")).to_be_visible()
        assert await page.input_value("#host") == "127.0.0.1", "what was typed is kept"
        # What is wrong came with 422: the console of the browser says so, and rightly.
        page.faults.clear()  # type: ignore[attr-defined]
        await page.fill("#port", str(w.port))
        await page.click("form[method=post][action$='/gateway'] button.primary")
        await page.wait_for_url(re.compile("/setup/Hill/meters"))
        await page.fill("#last", "3")
        await page.click("button[name=scan]")
        await expect(page.locator("#found section")).to_have_count(2)
        await expect(page.locator("#scan-progress")).to_contain_text("3")
        await page.fill("#building-1", "A")
        await page.fill("#room-1", "201")
        await page.uncheck("input[name=use-2]")
        await seen(page, f"{tag}-found")
        await page.click("form[method=post][action$='/meters'] button.primary")
        await page.wait_for_url(re.compile("/setup$"))
        async with asyncio.timeout(30):
            while "cellar-1" not in shop.services.lines.meters:
                await asyncio.sleep(0.02)
        await page.reload()
        await seen(page, f"{tag}-steps")
        assert shop.services.lines.meters["cellar-1"].known.room == "201"
        assert "cellar-2" not in shop.services.lines.meters
