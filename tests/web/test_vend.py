"""A sale at the desk: whatever a cashier's browser does, the money is booked once and proved."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from headend.domain.roles import Role
from headend.web import desk
from tests.web.shop import Browser, Shop, open_shop

# The shop that tests share lives in one loop with them.
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def form_of(browser: Browser, meter: str = "M1") -> tuple[str, str]:
    """A fresh form: its address, and which sale was the newest when it was made."""
    answer = await browser.get(f"/vend?meter={meter}")
    assert answer.status_code == 303, answer.text
    where = answer.headers["location"]
    page = await browser.get(where)
    assert page.status_code == 200
    after = re.search(r'name="after" value="([^"]*)"', page.text)
    assert after is not None
    return where.split("?")[0], after[1]


async def proved(browser: Browser, where: str) -> httpx.Response:
    """The sale's page once the meter has the money."""
    async with asyncio.timeout(60):
        while True:
            page = await browser.get(where)
            if "The meter has the money." in page.text:
                return page
            await asyncio.sleep(0.05)


async def test_a_double_click_a_reload_and_the_back_button_are_one_sale(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        where, after = await form_of(cashier)
        sale = where.replace("/vend/new/", "/vend/")
        csrf = await cashier.csrf()
        clicks = await asyncio.gather(
            *(
                cashier.post(where, csrf=csrf, meter="M1", amount="50", after=after)
                for _ in range(8)
            )
        )
        assert {(one.status_code, one.headers.get("location")) for one in clicks} == {(303, sale)}
        page = await proved(cashier, sale)
        assert page.text.count('class="done"') == 4, "paid, sent, in meter, light on"
        assert [one.amount_fen for one in shop.meter(1).applied] == [5000]
        assert await shop.booked() == 3, "payment, reserved, posted"
        back = await cashier.get(where + "?meter=M1")
        assert (back.status_code, back.headers["location"]) == (303, sale), "Back finds the sale"
        again = await cashier.post(where, meter="M1", amount="50", after=after)
        assert again.headers["location"] == sale
        assert await shop.booked() == 3
        receipt = await cashier.get(sale.replace("/vend/", "/receipts/"))
        assert "¥ 50.00" in receipt.text
        first, second = [
            (await cashier.get(sale.replace("/vend/", "/receipts/") + "/pdf")).content
            for _ in range(2)
        ]
        assert first.startswith(b"%PDF")
        assert first == second, "a reprint is the same receipt"


async def test_two_tabs_are_one_sale_until_somebody_says_otherwise(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        one, after_one = await form_of(cashier)
        two, after_two = await form_of(cashier)
        assert one != two
        await cashier.post(one, meter="M1", amount="50", after=after_one)
        await proved(cashier, one.replace("/new/", "/"))
        told = await cashier.post(two, meter="M1", amount="50", after=after_two)
        assert told.status_code == 422
        assert "50.00 yuan were sold to this meter" in told.text
        assert await shop.booked() == 3, "the second tab booked nothing"
        newest = re.search(r'name="after" value="([^"]*)"', told.text)
        assert newest is not None
        meant = await cashier.post(two, meter="M1", amount="50", after=newest[1])
        assert meant.status_code == 303
        await proved(cashier, two.replace("/new/", "/"))
        assert [sale.amount_fen for sale in shop.meter(1).applied] == [5000, 5000]


@pytest.mark.parametrize(
    "amount",
    [
        "",
        "0",
        "-5",
        "abc",
        "1.234",
        "1e3",
        "50000.01",
        "1,000",
        "99999999999999999999",
        "½",
        "0x10",
    ],
)
async def test_every_wrong_amount_is_told_beside_the_field_and_books_nothing(
    shop_of_wrongs: Shop, amount: str
) -> None:
    cashier = await shop_of_wrongs.browser(Role.CASHIER)
    where, after = await form_of(cashier)
    answer = await cashier.post(where, meter="M1", amount=amount, after=after)
    assert answer.status_code == 422
    assert 'id="amount-error"' in answer.text
    assert f'value="{amount}"' in answer.text, "what was typed stays"
    assert await shop_of_wrongs.booked() == 0
    assert shop_of_wrongs.meter(1).applied == []


@pytest.mark.parametrize(
    ("meter", "status", "said"),
    [("M9", 404, "no-such-meter"), ("M4", 409, "purchase count of meter M4 is not known")],
)
async def test_a_meter_that_cannot_be_sold_to_is_told_why(
    shop_of_wrongs: Shop, meter: str, status: int, said: str
) -> None:
    cashier = await shop_of_wrongs.browser(Role.CASHIER)
    answer = await cashier.post(f"/vend/new/{uuid4()}", meter=meter, amount="50", after="")
    assert answer.status_code == status
    assert said in answer.text
    assert await shop_of_wrongs.booked() == 0


async def test_digits_of_a_chinese_keyboard_are_digits(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER, language="zh-CN")
        where, after = await form_of(cashier)
        answer = await cashier.post(where, meter="M1", amount="５０．５元", after=after)
        assert answer.status_code == 303
        page = await cashier.get(answer.headers["location"])
        assert "50.50" in page.text
        assert "元" in page.text


async def test_a_session_that_ends_in_mid_sale_loses_nothing_and_books_nothing(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        where, after = await form_of(cashier)
        gone = Browser(shop.served.http, cookies={desk.SESSION_COOKIE: "ended"})
        answer = await gone.post(
            where, csrf="old", page=where, meter="M1", amount="50", after=after
        )
        assert answer.status_code == 401
        assert "Your session has ended" in answer.text
        back = re.search(r'name="next" value="([^"]+)"', answer.text)
        assert back is not None
        assert await shop.booked() == 0
        page = await cashier.get(back[1].replace("&amp;", "&"))
        assert page.status_code == 200
        assert 'value="50"' in page.text, "the amount is still there"
        assert "csrf" not in back[1]


async def test_found_by_room_name_telephone_and_meter(shop_of_wrongs: Shop) -> None:
    cashier = await shop_of_wrongs.browser(Role.CASHIER)
    for asked in ("M1", "m1"):
        assert "/vend?meter=M1" in (await cashier.get(f"/vend?q={asked}")).text
    nobody = await cashier.get("/vend?q=%25")
    assert "Nobody found" in nobody.text, "a sign of SQL is no joker"
