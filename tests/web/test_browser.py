"""The desk in a real browser: the sale, in both languages, at the counter and on a telephone.

Screenshots go to the folder HEADEND_SCREENSHOTS where it is set, as artefacts of a build.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
from playwright.async_api import Browser, Error, Page, async_playwright, expect

from headend.domain.roles import Role
from headend.services import sign_in
from headend.store import people
from tests.headend.house import QUICK
from tests.web.shop import PASSWORD, Shop, open_shop

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
WIDTHS = {"desk": 1280, "phone": 390}
# The first start of a browser on a busy machine.
PATIENCE_MS = 60_000
LOOKS = 3

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


class Reachable(Protocol):
    """A head-end by its address."""

    @property
    def url(self) -> str: ...


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            # Chromium's own sandbox refuses to run as root.
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
            timeout=PATIENCE_MS,
        )
        try:
            yield browser
        finally:
            await browser.close()


async def page_of(browser: Browser, shop: Reachable, *, language: str, width: str) -> Page:
    context = await browser.new_context(
        base_url=shop.url,
        locale="zh-CN" if language == "zh" else "en-GB",
        viewport={"width": WIDTHS[width], "height": 860},
        color_scheme="light" if width == "desk" else "dark",
    )
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    faults: list[str] = []
    # A refusal of the content policy is told on the console and nowhere else.
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.faults = faults  # type: ignore[attr-defined]  # kept with the page it is about
    return page


async def seen(page: Page, name: str) -> None:
    """What holds of every screen: nothing broken, nothing that sticks out, no serious barrier.

    A page whose work has just ended loads itself anew; one that does so while it is looked at is
    looked at once more.
    """
    for left in reversed(range(LOOKS)):
        await page.wait_for_load_state()
        try:
            await _seen_now(page, name)
        except Error:
            if not left:
                raise
        else:
            return


async def _seen_now(page: Page, name: str) -> None:
    errors = [text for text in page.faults if "401" not in text]  # type: ignore[attr-defined]
    assert errors == [], name
    folder = os.environ.get("HEADEND_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=f"{folder}/{name}.png", full_page=True)
    sticks_out = await page.evaluate("document.documentElement.scrollWidth > innerWidth + 1")
    assert not sticks_out, f"{name} is wider than the window"
    assert await barriers(page) == [], name


async def barriers(page: Page) -> list[str]:
    """What axe-core finds on a page that is serious or worse."""
    found: list[str] = await page.evaluate(
        """async (source) => {
            if (!window.axe) (0, eval)(source);
            const found = await axe.run(document, {resultTypes: ["violations"]});
            return found.violations
                .filter(v => v.impact === "serious" || v.impact === "critical")
                .map(v => v.id + ": " + v.nodes.map(n => n.html.slice(0, 160)).join(" | "));
        }""",
        AXE.read_text(),
    )
    return found


async def let_in(shop: Shop) -> None:
    async with shop.services.database.transaction() as tx:
        for role in Role:
            who = await people.find_operator(tx, role.value)
            assert who is not None
            bad = await sign_in.set_password(tx, who, PASSWORD, shop.services.clock, by=None)
            assert bad is None


async def enter(page: Page, role: Role, where: str = "/") -> None:
    await page.goto(where)
    await page.fill("#name", role.value)
    await page.fill("#password", PASSWORD)
    await page.click("button.primary")
    await page.wait_for_selector("nav.nav", state="attached")


@pytest.mark.parametrize("width", list(WIDTHS))
async def test_a_sale_from_the_gate_to_the_light(dsn: str, tmp_path: Path, width: str) -> None:
    """Signed in, found, sold with a double click, watched, printed; in both languages."""
    async with open_shop(dsn, tmp_path) as shop, chromium() as browser:
        await let_in(shop)
        for language, amount in (("en", "50"), ("zh", "60")):
            page = await page_of(browser, shop, language=language, width=width)
            tag = f"{language}-{width}"
            await page.goto("/vend")
            await seen(page, f"{tag}-gate")
            await enter(page, Role.CASHIER, "/vend")
            assert page.url.endswith("/vend")
            await page.fill("#q", "M1")
            await page.wait_for_selector("#found a[href*='meter=M1']")
            await seen(page, f"{tag}-find")
            await page.click("#found a[href*='meter=M1']")
            await page.fill("#amount", amount)
            await expect(page.locator("#preview")).to_contain_text(f"{amount}.00")
            await seen(page, f"{tag}-form")
            await page.dblclick("button.big")
            await page.wait_for_url(re.compile(r"/vend/[0-9a-f-]{36}$"))
            # Live: the page is not loaded again, the stages come by themselves.
            await expect(page.locator(".stages li.done")).to_have_count(4)
            await seen(page, f"{tag}-sale")
            await page.go_back()
            await page.wait_for_url(re.compile(r"/vend/[0-9a-f-]{36}$|/vend(\?.*)?$"))
            await page.goto("/vend")
            await page.context.close()
        assert [one.amount_fen for one in shop.meter(1).applied] == [5000, 6000]
        assert await shop.booked() == 6, "two sales, three rows each"


async def test_every_screen_is_whole_in_both_languages(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop, chromium() as browser:
        await let_in(shop)
        nights = shop.services.nights
        await nights.collect_now("court", QUICK)
        await nights.finished("court")
        async with shop.services.database.transaction() as tx:
            night = await tx.value("SELECT max(night) FROM night")
        of_all = ["/", "/rooms", "/rooms?state=silent", "/rooms/court/A", "/meters/M1", "/commands",
                  "/bulk", "/nights", f"/nights/court/{night}", "/lines", "/lines/L1", "/books",
                  "/alarms", "/me", "/me/notices"]  # fmt: skip
        for role, paths in (
            (Role.MANAGER, [*of_all, "/bulk/new"]),
            (Role.ADMIN, ["/operators", "/operators/1"]),
            (Role.AUDITOR, ["/audit"]),
        ):
            for language, width in (("zh", "phone"), ("en", "desk")):
                page = await page_of(browser, shop, language=language, width=width)
                await enter(page, role)
                for path in paths:
                    await page.goto(path)
                    name = re.sub(r"\W+", "-", path).strip("-") or "overview"
                    await seen(page, f"{language}-{width}-{name}")
                await page.context.close()


async def test_language_and_theme_by_one_press_and_the_room_board_moves(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop, chromium() as browser:
        await let_in(shop)
        async with shop.services.database.transaction() as tx:
            await tx.execute(
                "UPDATE meter SET room_id = (SELECT room_id FROM room LIMIT 1) WHERE name = 'M1'"
            )
        page = await page_of(browser, shop, language="en", width="desk")
        await enter(page, Role.MANAGER, "/rooms/court/A")
        await expect(page.locator("a.room")).to_have_class(re.compile("tone-good"))
        other = await page.context.new_page()
        await other.goto("/meters/M1")
        await other.fill("#reason", "a test of the board")
        await other.click("button.danger")
        await other.wait_for_url(re.compile("/commands/"))
        await expect(other.locator(".chip", has_text="proved").first).to_be_visible()
        # Nobody loaded the board again.
        await expect(page.locator("a.room")).to_have_class(re.compile("tone-dark"))
        await page.click("button[name=language]")
        await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        await expect(page.locator("a.room .state")).to_contain_text("停电")
        await page.click("button[name=theme]")
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert page.url.endswith("/rooms/court/A")
