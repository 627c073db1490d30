"""The demo story of PRODUCT.md from its first step to its last, in a real browser.

One head-end, one PostgreSQL, one key service, one DTU that dials in with a box of 36 circuits and a
corner shop behind it; everything the people do is done on pages. What became of money and light is
asked of the simulated meters themselves.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import zipfile
from datetime import time
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from headend.domain.roles import Role
from simulators import card_meter
from simulators.cards import VirtualCard
from tests.e2e.street import CIRCUITS, POOR, SHOP_UNIT, Street, open_street, until
from tests.e2e.walk import Walk, stages_seen
from tests.headend.cards.desk import uid
from tests.web.test_browser import CHROMIUM, chromium
from tests.web.test_cards import a_reader

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

SITE, HOUSE, BOX, BAKERY = "灯街", "甲楼", "地下室", "面包房"
SHOP = f"{BOX}-{SHOP_UNIT}"
FIRST = 5  # the canary of a bulk job
DONE = ["done", "done", "done", "done"]


# Two dozen pages on a machine that does much else.
@pytest.mark.timeout(600)
async def test_the_story(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven steps, then every page that was met in the other language on a telephone."""
    async with open_street(dsn, tmp_path, monkeypatch) as street, chromium() as browser:
        walk = Walk(street, browser)
        await a_box_is_commissioned_by_scan(walk)
        await a_room_is_sold_fifty_yuan(walk)
        await the_same_tenant_buys_by_card(walk)
        await low_dark_paid_and_light_again(walk)
        await a_bulk_cut_is_halted(walk)
        night = await a_night_without_the_box(walk)
        await the_auditor_has_the_proof(walk, tmp_path, night)
        await walk.again()


async def a_box_is_commissioned_by_scan(walk: Walk) -> None:
    """From an empty program: the box that dialled in, whom a scan finds, their rooms."""
    street = walk.street
    page = await walk.sign_in("manager")
    await walk.look(page, "1-empty", new=False)
    await page.click("main a[href='/setup']")
    await page.wait_for_url("**/setup")
    await walk.look(page, "1-setup")
    await page.fill("#name", SITE)
    await page.fill("#buildings", HOUSE)
    await page.click("form[action='/setup'] button.primary")
    await page.wait_for_url(re.compile("/gateway$"))
    await page.click(".results a:has-text('STREET-DTU-01')")
    await expect(page.locator("#registration")).to_have_value("ascii:STREET-DTU-01")
    await page.fill("#name", BOX)
    await walk.look(page, "1-gateway")
    await page.click("form[method=post][action$='/gateway'] button.primary")
    await page.wait_for_url(re.compile("/meters"))
    await page.fill("#last", str(SHOP_UNIT))
    await page.click("button[name=scan]")
    await expect(page.locator("#scan-progress")).to_contain_text(str(SHOP_UNIT))
    await expect(page.locator("#found section")).to_have_count(2)
    await expect(page.locator("#found section").first).to_contain_text(f"{CIRCUITS} circuits")
    rooms = [str(101 + n) for n in range(CIRCUITS)]
    for unit, typed in ((1, "\n".join(rooms)), (SHOP_UNIT, BAKERY)):
        await page.fill(f"#building-{unit}", HOUSE)
        await page.fill(f"#floor-{unit}", "1")
        await page.fill(f"#room-{unit}", typed)
    await page.select_option("#opens-1", "1")
    await walk.look(page, "1-found")
    await page.click("form[method=post][action$='/meters'] button.primary")
    await page.wait_for_url(re.compile("/setup$"))
    lines = street.services.lines
    await until(lambda: len(lines.meters) == CIRCUITS + 1)
    await page.reload()
    await page.click("form[action$='/read'] button")
    await expect(page.locator("main")).to_contain_text("37 of 37 meters were read")
    await walk.look(page, "1-steps")
    assert {one.known.room for one in lines.meters.values()} == {*rooms, BAKERY}
    await page.click("a[href='/rooms']")
    await page.click("a.house")
    await expect(page.locator("a.room")).to_have_count(CIRCUITS + 1)
    await walk.look(page, "1-board")
    await page.context.close()


async def sold(page: Page, amount: str) -> None:
    """At the counter, from the search field to the page of the sale."""
    await page.goto("/vend")
    await page.fill("#q", BAKERY)
    await page.click("#found a")
    await page.fill("#amount", amount)
    await expect(page.locator("#preview")).to_contain_text(f"{amount}.00")


async def a_room_is_sold_fifty_yuan(walk: Walk) -> None:
    """The four stages come one after the other, and the proof is the meter's own."""
    street = walk.street
    before = street.shop.look()
    page = await walk.sign_in("cashier", "/vend")
    await walk.look(page, "2-find")
    await sold(page, "50")
    await walk.look(page, "2-form")
    street.slow(0.3)
    await page.click("button.big")
    await page.wait_for_url(re.compile(r"/vend/[0-9a-f-]{36}$"))
    await expect(page.locator(".stages li.done")).to_have_count(4)
    street.slow(0.0)
    await walk.look(page, "2-sale")
    steps = await stages_seen(page)
    assert steps[0][0] == "done", "paid is true before anything else"
    assert ["done", "now", "later", "later"] in steps
    assert ["done", "done", "now", "later"] in steps
    assert steps[-1] == DONE
    after = street.shop.look()
    assert after.purchase_count == before.purchase_count + 1
    assert after.total_purchased_fen == before.total_purchased_fen + 5000
    rows = page.locator("main table tbody tr")
    await expect(rows.nth(1)).to_be_visible()
    proof = await rows.all_inner_texts()
    assert [re.findall(r"\d[\d.,]*", row) for row in proof[:2]] == [
        [str(before.purchase_count), str(after.purchase_count)],
        [yuan(before.total_purchased_fen), yuan(after.total_purchased_fen)],
    ]
    await page.click("main a:has-text('Receipt')")
    await page.wait_for_url("**/receipts/**")
    await walk.look(page, "2-receipt")
    await page.context.close()


def yuan(fen: int) -> str:
    return f"{fen // 100}.{fen % 100:02}"


async def worked(page: Page, action: str, amount: str = "", reason: str = "") -> None:
    """A piece of work with the card on the reader, from its form to its last word."""
    await page.goto(f"/cards/of/{SHOP}")
    await page.select_option("#action", action)
    if amount:
        await page.fill("#amount", amount)
    if reason:
        await page.fill("#reason", reason)
    await page.click("button.big")
    await page.wait_for_url(re.compile("/cards/work/"))
    await expect(page.locator("#work:not([hx-trigger])")).to_be_visible()


async def the_same_tenant_buys_by_card(walk: Walk) -> None:
    """The next number of the same sequence, by card; then a card that is not the newest."""
    street = walk.street
    counter = street.counter()
    blank: list[VirtualCard] = [uid(1)]
    page = await walk.sign_in("cashier", "/cards")
    async with a_reader(counter, blank, Role.CASHIER):
        await page.fill("#meter", SHOP)
        await page.click("main form button.primary")
        await page.wait_for_url("**/cards/of/**")
        await walk.look(page, "3-card")
        count = street.shop.purchase_count
        await worked(page, "purchase", "10")
        await expect(page.locator("#work")).to_contain_text("Done")
        await walk.look(page, "3-written")
        await page.click("#work a.primary")
        await expect(page.locator(".stages li.done")).to_have_count(2)
        older = blank[0]
        assert counter.slot.hold(older) == card_meter.DONE
        assert street.shop.purchase_count == count + 1, "the same sequence, by another road"
        await worked(page, "read")
        await page.click("#work a.primary")
        await expect(page.locator(".stages li.done")).to_have_count(4)
        await walk.look(page, "3-landed", new=False)

        # It is lost; the next purchase goes on another card. Then the old one turns up.
        await page.goto(f"/cards/of/{SHOP}")
        await page.fill("#paper_reason_lost", "掉在公交车上")
        await page.click("form:has(#paper_reason_lost) button")
        blank[:] = [uid(2)]
        await worked(page, "purchase", "10")
        await expect(page.locator("#work")).to_contain_text("Done")
        assert counter.slot.hold(blank[0]) == card_meter.DONE
        await worked(page, "read")
        money = street.shop.look()
        assert money.purchase_count == count + 2
        assert counter.slot.hold(older) == card_meter.OLD
        blank[:] = [older]
        await worked(page, "read")
        said = page.locator("#work")
        await expect(said).to_contain_text("an earlier purchase than the meter has already")
        await expect(said.locator(".tone-bad")).to_contain_text("掉在公交车上")
        await walk.look(page, "3-older-read")
        assert street.shop.look().purchase_count == money.purchase_count
        assert street.shop.total_purchased_fen == money.total_purchased_fen
    await page.context.close()


async def read_now(page: Page) -> None:
    await page.goto(f"/meters/{SHOP}")
    await page.click("form[action$='/read'] button")
    await expect(page.locator("main")).to_contain_text("The meter has answered.")


async def low_dark_paid_and_light_again(walk: Walk) -> None:
    """The bakery bakes on: warned, dark at zero, paid, light; the clock runs in between."""
    street, shop = walk.street, walk.street.shop
    while shop.look().remaining_fen > 1_500:
        street.clock.later(minutes=10)
    page = await walk.sign_in("manager")
    await read_now(page)
    await expect(page.locator(".head .chip").first).to_contain_text("runs out soon")
    await walk.look(page, "4-low")
    await page.goto("/alarms")
    await expect(page.locator("main")).to_contain_text("low credit")
    await walk.look(page, "4-warned")
    while shop.look().relay_closed:
        street.clock.later(minutes=10)
    assert shop.remaining_fen <= 0, "it cut itself, at zero"
    await read_now(page)
    await walk.look(page, "4-dark")
    cashier = await walk.sign_in("cashier", "/vend")
    await sold(cashier, "30")
    await expect(cashier.locator("#preview")).to_contain_text("comes back by itself")
    await walk.look(cashier, "4-form", new=False)
    street.slow(0.4)
    await cashier.click("button.big")
    await cashier.wait_for_url(re.compile(r"/vend/[0-9a-f-]{36}$"))
    await expect(cashier.locator("#now")).to_contain_text("In the dark")
    await page.goto("/")
    await expect(page.locator("main")).to_contain_text("Paid and still dark")
    await walk.look(page, "4-clock-runs", new=False)
    street.slow(0.0)
    await expect(cashier.locator(".stages li.done")).to_have_count(4)
    await expect(cashier.locator("#now")).to_contain_text("after the payment")
    await walk.look(cashier, "4-light")
    assert shop.look().relay_closed
    assert (await stages_seen(cashier))[-1] == DONE
    await page.goto("/")
    await expect(page.locator("main")).not_to_contain_text("Paid and still dark")
    await cashier.context.close()
    await page.context.close()


def dark_rooms(street: Street) -> int:
    return sum(not meter.look().relay_closed for meter in street.rooms)


async def a_bulk_cut_is_halted(walk: Walk) -> None:
    """Who would be cut and who is spared by name, a second person, five first, and one button."""
    street = walk.street
    page = await walk.sign_in("manager")
    for room in ("101", "102"):
        await page.goto(f"/meters/CAB-{BOX}-1-{int(room) - 100:02}")
        await page.click("summary:has-text('Protect')")
        await page.fill("#protect_reason", "肺气肿病人")
        await page.click("form[action$='/protect'] button")
        await expect(page.locator("main .chip", has_text="protected")).to_be_visible()
    await page.goto("/bulk")
    await page.click("main a[href='/bulk/new']")
    await page.fill("#below", "20")
    await page.fill("#reason", "逾期")
    await page.click("button[value=preview]")
    spared = page.locator("section", has_text="Spared, and by which rule")
    for room in ("101", "102"):
        await expect(spared.locator("tr", has_text=room)).to_contain_text("protected")
    await expect(
        page.locator("section", has_text="Would be switched").locator(".chip")
    ).to_have_text(str(POOR - 2))
    await walk.look(page, "5-dry-run")
    await page.click("button[value=plan]")
    await page.wait_for_url(re.compile(r"/bulk/[0-9a-f-]{36}$"))
    await expect(page.locator("main")).to_contain_text("Somebody else has to approve")
    await walk.look(page, "5-planned", new=False)
    where = page.url
    boss = await walk.sign_in("boss")
    await boss.goto(where)
    await boss.click("button:has-text('Approve exactly this list')")
    await expect(boss.locator("main")).to_contain_text("approved by boss")
    assert dark_rooms(street) == 0, "nothing has left"
    await boss.context.close()
    await page.reload()
    await page.click("button:has-text('Start with the first five')")
    await expect(page.locator("button:has-text('go on')")).to_be_visible()
    assert dark_rooms(street) == FIRST
    await walk.look(page, "5-canary")
    await page.click("button:has-text('Stop')")
    await expect(page.locator("main .chip", has_text="halted").first).to_be_visible()
    rest = page.locator("tbody .chip", has_text="left alone")
    await expect(rest).to_have_count(POOR - 2 - FIRST)
    await walk.look(page, "5-halted")
    assert dark_rooms(street) == FIRST
    await page.context.close()


async def a_night_without_the_box(walk: Walk) -> str:
    """The plug is pulled at midnight; the board says why, and in the morning what came late."""
    street, clock = walk.street, walk.street.clock
    night = clock.local().date().isoformat()
    clock.until(time(23, 54))
    await street.dtu.unplug()
    line = street.services.lines.lines[BOX].line
    await until(lambda: not line.is_up)
    clock.until(time(23, 56))
    await street.tick(SITE)
    clock.until(time(6, 5))
    await street.tick(SITE)
    page = await walk.sign_in("manager", "/nights")
    await expect(page.locator("main")).to_contain_text(f"line down {CIRCUITS + 1}")
    await walk.look(page, "6-board", new=False)
    await page.click(f"main a:has-text('line down {CIRCUITS + 1}')")
    await expect(page.locator("tbody tr").first).to_contain_text("missing")
    await walk.look(page, "6-reason")
    await page.goto("/lines")
    await expect(page.locator("main")).to_contain_text("hung up")
    await walk.look(page, "6-line-down")
    clock.until(time(8, 0))
    await street.dtu.plug()
    await until(lambda: line.is_up)
    await street.tick(SITE)
    await page.goto(f"/nights/{SITE}/{night}")
    rows = page.locator("tbody tr", has_text="back-filled")
    await expect(rows).to_have_count(CIRCUITS + 1)
    await expect(rows.first).to_contain_text("asked over the line")
    await walk.look(page, "6-back-filled")
    await page.goto("/nights")
    await expect(page.locator("main")).to_contain_text("100.00 %")
    await walk.look(page, "6-board-after")
    await page.context.close()
    return night


async def the_auditor_has_the_proof(walk: Walk, folder: Path, night: str) -> None:
    """The chain is recomputed on the page; one pack is opened by a program without a database."""
    page = await walk.sign_in("auditor")
    await page.click("nav a[href='/audit']")
    await page.click("button:has-text('Verify the books')")
    await expect(page.locator("main")).to_contain_text(
        re.compile("[1-9] sealed days, each link as it was made")
    )
    await walk.look(page, "7-verified", new=False)
    await page.goto("/audit")
    await walk.look(page, "7-audit")
    await page.goto("/books")
    await expect(page.locator("main")).to_contain_text(night)
    await walk.look(page, "7-books")
    await page.goto(f"/meters/{SHOP}")
    await page.click("main a:has-text('Evidence pack')")
    await page.wait_for_url("**/evidence**")
    await walk.look(page, "7-evidence")
    fingerprint = (
        await page.locator("section", has_text="The key that signs").locator("p.mono").inner_text()
    )
    async with page.expect_download() as coming:
        await page.click("button:has-text('Make the pack')")
    pack = folder / "pack.zip"
    await (await coming.value).save_as(pack)
    program = shutil.which("headend", path=str(Path(sys.executable).parent))
    assert program is not None
    asked = await asyncio.create_subprocess_exec(
        program, "verify-evidence", str(pack), "--key", fingerprint, cwd=folder,
        env={"HEADEND_LANG": "en"},
    )  # fmt: skip
    assert await asked.wait() == 0, "nothing but the file and the fingerprint"
    with zipfile.ZipFile(pack) as opened:
        shown = opened.read(next(name for name in opened.namelist() if name.endswith(".html")))
    for words in (SHOP, "50.00", "30.00"):
        assert words in shown.decode()
    await page.reload()
    await walk.look(page, "7-made", new=False)
    await page.context.close()
