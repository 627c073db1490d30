"""Somebody who walks through the desk in a browser, and goes back to each page that was met.

What is met in one language at the counter and in light is opened again in the other language, on a
telephone and in dark. Screenshots go where tests/web/test_browser.py keeps its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from playwright.async_api import Browser, Page, expect

from headend.domain.roles import Role
from tests.e2e.street import Street
from tests.web.shop import PASSWORD
from tests.web.test_browser import page_of, seen

# Words of Latin letters that a Chinese page may show: names of things, units, what is typed.
_NAMES = (
    "Acrel ADF300L DDSY1352 DTU RS485 CAB kWh kW yuan fen PDF SHA headend English UTC CSV XLSX ID "
    "QR Modbus TCP MQTT forced_open_state imei iccid ascii transparent ddp four_faith"
)
NAMES = frozenset(_NAMES.split())
# Everybody sees which stages a page went through, though they pass in a second.
_WATCH_STAGES = """
    if (location.protocol.startsWith("http")) {
        const note = () => {
            const steps = [...document.querySelectorAll(".stages li")];
            const now = steps.map(one => one.className).join(" ");
            const all = JSON.parse(sessionStorage.getItem("stages") || "[]");
            if (now && all.at(-1) !== now) {
                sessionStorage.setItem("stages", JSON.stringify([...all, now]));
            }
        };
        new MutationObserver(note).observe(document, {subtree: true, childList: true});
    }"""
# What a reader reads: not what stands in code, in a field, or hidden.
_LATIN = """() => {
    const out = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const at = node.parentElement;
        if (at.closest(".mono, code, script, style, textarea, datalist, [lang=en]")) continue;
        if (!at.closest("option") && !at.checkVisibility()) continue;
        if (/[A-Za-z]{2,}/.test(node.data)) out.push(node.data.trim());
    }
    return out;
}"""


@dataclass
class Walk:
    """One walk: who opens which page, and which pages were met."""

    street: Street
    browser: Browser
    met: dict[tuple[str, str], str] = field(default_factory=dict)

    async def sign_in(
        self, who: str, where: str = "/", *, language: str = "en", width: str = "desk"
    ) -> Page:
        """A browser of their own, signed in."""
        page = await page_of(self.browser, self.street, language=language, width=width)
        await page.context.add_init_script(_WATCH_STAGES)
        await page.goto(where)
        await page.fill("#name", who)
        await page.fill("#password", PASSWORD)
        await page.click("button.primary")
        await page.wait_for_selector("nav.nav", state="attached")
        page.who = who  # type: ignore[attr-defined]  # kept with the page, as its faults are
        return page

    async def look(self, page: Page, name: str, *, new: bool = True) -> None:
        """Whole, within its width, without serious barriers; and met, if it is a new page."""
        await seen(page, f"story-{name}")
        if not new:
            return
        parts = urlsplit(page.url)
        where = parts.path + (f"?{parts.query}" if parts.query else "")
        self.met[page.who, where] = name  # type: ignore[attr-defined]

    async def again(self) -> None:
        """Every page that was met, in Chinese, on a telephone, in dark."""
        english: dict[str, list[str]] = {}
        for who in sorted({who for who, _ in self.met}):
            page = await self.sign_in(who, language="zh", width="phone")
            for (by, where), name in self.met.items():
                if by != who:
                    continue
                await page.goto(where)
                await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
                await seen(page, f"story-{name}-zh-phone-dark")
                left = latin(await page.evaluate(_LATIN))
                if left:
                    english[f"{name} {unquote(where)}"] = left
            await page.context.close()
        assert english == {}, english


# What says where something is: a path, and the id of an order.
_PLACES = re.compile(r"(file:)?(/[\w-]+)+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def latin(texts: list[str]) -> list[str]:
    """Those with a word of Latin letters in them that is no name."""
    people = {role.value for role in Role} | {"boss"}
    return [
        text
        for text in texts
        if set(re.findall(r"[A-Za-z]\w+", _PLACES.sub("", text), re.ASCII)) - NAMES - people
    ]


async def stages_seen(page: Page) -> list[list[str]]:
    """How the four stages stood, one after the other, since this browser was opened."""
    noted: list[str] = await page.evaluate("JSON.parse(sessionStorage.getItem('stages') || '[]')")
    return [one.split() for one in noted]
