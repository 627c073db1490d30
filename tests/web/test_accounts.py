"""Accounts at the desk: each wizard survives what a browser does, and books once."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from uuid import uuid4

import pytest

from headend.domain.roles import Role
from headend.store import account_rules, desk_sessions, people
from headend.store.account_rules import Rules
from headend.web import desk
from tests.web.shop import PASSWORD, Browser, Shop, open_shop

# The shop that tests share lives in one loop with them.
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def place(browser: Browser, path: str) -> str:
    """Where a page sends its visitor, without what was asked."""
    answer = await browser.get(path)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].split("?")[0]


async def ended(browser: Browser, where: str, said: str = "finished") -> str:
    """A case's page once it has come that far."""
    async with asyncio.timeout(90):
        while True:
            page = await browser.get(where)
            assert page.status_code == 200, page.text
            if f'role="status">{said}</span>' in page.text:
                return page.text
            await asyncio.sleep(0.1)


async def opened(browser: Browser, meter: str = "M1", **typed: str) -> tuple[str, str]:
    """An account on a meter: the page of the case, and the customer's number."""
    where = await place(browser, f"/openings?meter={meter}")
    answer = await browser.post(where, **{"meter": meter, "name": "王芳", **typed})
    assert answer.status_code == 303, answer.text
    case = answer.headers["location"]
    page = await ended(browser, case)
    number = re.search(r'href="/accounts/([0-9A-Za-z-]+)"', page)
    assert number is not None
    return case, number[1]


def shown(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="(-?\d+)"', page)
    assert found is not None, page
    return found[1]


async def second(shop: Shop) -> dict[str, str]:
    """A second person's name and password, as a form carries them."""
    from headend.services import sign_in

    async with shop.services.database.transaction() as tx:
        manager = await people.find_operator(tx, Role.MANAGER.value)
        assert manager is not None
        await sign_in.set_password(tx, manager, PASSWORD, shop.services.clock, by=None)
    return {"approver": Role.MANAGER.value, "approver_password": PASSWORD}


async def test_opening_sale_transfer_and_closure_are_each_done_once(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        csrf = await cashier.csrf()
        where = await place(cashier, "/openings?meter=M1")
        clicks = await asyncio.gather(
            *(
                cashier.post(where, csrf=csrf, meter="M1", name="王芳", phone="138", amount="50")
                for _ in range(4)
            )
        )
        assert {one.status_code for one in clicks} == {303}
        assert len({one.headers["location"] for one in clicks}) == 1
        case = clicks[0].headers["location"]
        await ended(cashier, case)
        assert (await cashier.get(where + "?meter=M1")).headers["location"] == case, "Back"
        assert [sale.amount_fen for sale in shop.meter(1).applied] == [5000]
        account = await cashier.get("/accounts/100001")
        assert "王芳" in account.text
        assert "/vend?meter=M1" in account.text
        found = await cashier.get("/vend?q=100001")
        assert "M1" in found.text, "by customer number"

        approver = await second(shop)
        work = await place(cashier, "/meters/M1/work/transfer")
        begun = await cashier.post(work, reason="moved out")
        case = begun.headers["location"]
        page = (await cashier.get(case)).text
        assert await place(cashier, "/meters/M1/work/closure") == case, "one work at a time"
        blocked = await cashier.get("/vend?meter=M1")
        sale = await cashier.get(blocked.headers["location"])
        after = re.search(r'name="after" value="([^"]*)"', sale.text)
        assert after is not None
        refused = await cashier.post(
            blocked.headers["location"].split("?")[0], meter="M1", amount="5", after=after[1]
        )
        assert refused.status_code == 409, "nothing is sold while it is settled"
        typed = {
            "credit_shown": shown(page, "credit_shown"),
            "balance_shown": shown(page, "balance_shown"),
            "credit": "settled",
            "who": "new",
        }
        wrong = await cashier.post(case + "/confirm", **typed, name="", **approver)
        assert wrong.status_code == 422
        assert 'id="name-error"' in wrong.text
        for _ in range(2):
            done = await cashier.post(case + "/confirm", **typed, name="Li Si", **approver)
            assert done.status_code == 303, done.text
        assert "Li Si" in await ended(cashier, case)
        assert "100002" in (await cashier.get("/accounts?q=Li+Si")).text
        assert "closed" in (await cashier.get("/accounts/100001")).text

        work = await place(cashier, "/meters/M1/work/closure")
        case = (await cashier.post(work, reason="left")).headers["location"]
        page = (await cashier.get(case)).text
        typed = {
            "credit_shown": shown(page, "credit_shown"),
            "balance_shown": shown(page, "balance_shown"),
            "clear_meter": "1",
        }
        alone = await cashier.post(case + "/confirm", **typed)
        assert 'id="approver-error"' in alone.text, "above 500 yuan two persons"
        await cashier.post(case + "/confirm", **typed, **approver)
        assert "Paid out" in await ended(cashier, case)
        assert shop.meter(1).remaining_fen == 0
        gone = await cashier.post(f"/vend/new/{uuid4()}", meter="M1", amount="5", after="")
        assert gone.status_code in (409, 422)


async def test_an_exchange_with_its_photograph(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path, "ddsy:1-3") as shop:
        cashier = await shop.browser(Role.CASHIER)
        technician = await shop.browser(Role.TECHNICIAN)
        await opened(cashier, amount="50")
        approver = await second(shop)
        forbidden = await cashier.get("/meters/M1/work/exchange")
        assert forbidden.status_code == 403
        work = await place(technician, "/meters/M1/work/exchange")
        begun = await technician.post(work, reason="display broken", **approver)
        assert begun.status_code == 303, begun.text
        case = begun.headers["location"]
        for unit, said in (("2", "answers at this address"), ("0", "from 1 to 247"), ("x", "247")):
            wrong = await technician.post(case + "/device", meter_type="acrel_ddsy1352", unit=unit)
            assert 'id="unit-error"' in wrong.text
            assert said in wrong.text
            assert f'value="{unit}"' in wrong.text, "what was typed stays"
        number = shop.meter(3).number
        device = {"meter_type": "acrel_ddsy1352", "unit": "3", "meter_number": number}
        for _ in range(2):
            hung = await technician.post(case + "/device", **device)
            assert hung.status_code == 303, hung.text
        page = await ended(technician, case)
        assert f"meter_number = &#34;{number}&#34;" in page, "for the site's file"
        picture = b"\x89PNG\r\n\x1a\n" + b"0" * 100
        kept = await technician.upload(case + "/photos", "photo", picture, title="old meter")
        assert kept.status_code == 303, kept.text
        answer = await technician.get(case + "/photos/1")
        assert answer.content == picture
        assert answer.headers["content-type"] == "image/png"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        script = await technician.upload(case + "/photos", "photo", b"<svg onload=x>")
        assert script.status_code == 422
        assert 'id="photo-error"' in script.text


async def test_a_debt_is_paid_back_at_sales_and_shown_before(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier, manager = await shop.browser(Role.CASHIER), await shop.browser(Role.MANAGER)
        _, number = await opened(cashier)
        async with shop.services.database.transaction() as tx:
            rules = Rules(sale_fee_fen=100, hoarding_limit_fen=10_000_000)
            site = shop.services.lines.sites["court"].site_id
            await account_rules.set_for_site(tx, site, rules, by=None, at=shop.services.clock.now())
        debt = {"debt": "20", "share": "30", "debt_reason": "old rent", "command_id": str(uuid4())}
        for name, bad in (("debt", "x"), ("share", "91"), ("debt_reason", "")):
            wrong = await manager.post(f"/accounts/{number}/debts", **{**debt, name: bad})
            assert f'id="{name}-error"' in wrong.text, name
        for _ in range(2):
            booked = await manager.post(f"/accounts/{number}/debts", **debt)
            assert booked.status_code == 303, booked.text
        assert "20.00" in (await cashier.get(f"/accounts/{number}")).text
        where = await place(cashier, "/vend?meter=M1")
        preview = await cashier.get(where + "/preview?meter=M1&amount=50")
        assert 'value="5000:3400"' in preview.text, "1 fee, 15 share, 34 into the meter"
        stale = await cashier.post(
            where, meter="M1", amount="50", after="", credit_shown="5000:4900"
        )
        assert stale.status_code == 409
        assert "have changed since" in stale.text
        sold = await cashier.post(
            where, meter="M1", amount="50", after="", credit_shown="5000:3400"
        )
        assert sold.status_code == 303, sold.text
        await proved(cashier, sold.headers["location"])
        assert shop.meter(1).applied[-1].amount_fen == 3400
        receipt = await cashier.get(sold.headers["location"].replace("/vend/", "/receipts/"))
        for part in ("1.00", "15.00", "34.00", "¥ 50.00"):
            assert part in receipt.text
        again = await cashier.post(where, meter="M1", amount="50", after="")
        assert again.headers["location"] == sold.headers["location"], "the same sale"
        assert "5.00" in (await cashier.get(f"/accounts/{number}")).text, "what is left"


async def proved(browser: Browser, where: str) -> None:
    async with asyncio.timeout(60):
        while "The meter has the money." not in (await browser.get(where)).text:
            await asyncio.sleep(0.05)


async def test_an_operator_of_one_building_sees_what_stands_there_and_nothing_else(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        case, number = await opened(cashier, amount="5")
        async with shop.services.database.transaction() as tx:
            await tx.execute("INSERT INTO building (site_id, name) SELECT site_id, 'B' FROM site")
            await tx.execute(
                "UPDATE meter SET room_id = (SELECT room_id FROM room) WHERE name = 'M1'"
            )
            await tx.execute("SELECT pg_notify('places_changed', 'court')")
        async with asyncio.timeout(30):
            while shop.services.lines.meters["M1"].known.building != "A":
                await asyncio.sleep(0.05)
        near, far = await kept_to(shop, "A"), await kept_to(shop, "B")
        assert (await near.get(f"/accounts/{number}")).status_code == 200
        assert (await near.get("/meters/M1")).status_code == 200
        assert (await near.get("/meters/M2")).status_code == 404, "in no building at all"
        assert (await near.get("/rooms/court/A")).status_code == 200
        csrf = await far.csrf()
        for path in (
            f"/accounts/{number}",
            case,
            "/meters/M1",
            "/rooms/court/A",
            "/openings?meter=M1",
            "/vend?meter=M1",
            "/meters/M1/work/closure",
            f"{case}/photos/1",
            "/account-rules/court",
        ):
            assert (await far.get(path)).status_code == 404, path
        for path in (
            f"/accounts/{number}",
            f"/accounts/{number}/debts",
            f"{case}/cancel",
            f"{case}/confirm",
            f"{case}/device",
            f"{case}/look",
            f"/meters/M1/work/closure/{uuid4()}",
        ):
            assert (await far.post(path, csrf=csrf, reason="r")).status_code == 404, path
        for path in ("/accounts", "/books", "/commands", "/vend?q=M1", "/", "/rooms"):
            assert "/meters/M1" not in (await far.get(path)).text, path
            assert f"/accounts/{number}" not in (await far.get(path)).text, path
        assert "Nobody found" in (await far.get("/vend?q=M1")).text
        for path in ("/books", "/commands"):
            assert "/meters/M1" in (await near.get(path)).text, path
        assert number in (await near.get("/accounts")).text


async def kept_to(shop: Shop, building: str) -> Browser:
    """A manager of one building, made at the operators' page."""
    administrator = await shop.browser(Role.ADMIN)
    typed = {"name": f"of {building}", "role": "manager", "password": PASSWORD, "scope": "some"}
    wrong = await administrator.post("/operators", **typed, site="court", buildings="A, Nowhere")
    assert 'id="buildings-error"' in wrong.text
    made = await administrator.post("/operators", **typed, site="court", buildings=building)
    assert made.status_code == 303, made.text
    page = await administrator.get(made.headers["location"])
    assert f"court / {building}" in page.text
    operator_id = int(made.headers["location"].rpartition("/")[2])
    async with shop.services.database.transaction() as tx:
        cookie = await desk_sessions.begin_session(tx, operator_id, "", shop.services.clock.now())
    return Browser(shop.served.http, {desk.SESSION_COOKIE: cookie})


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("name", ""),
        ("name", "x" * 81),
        ("phone", "mother"),
        ("address", "x" * 201),
        ("customer_no", "no blanks here"),
        ("amount", "1.234"),
        ("amount", "-5"),
        ("amount", "50000.01"),
    ],
)
async def test_every_wrong_field_of_an_opening_is_told_beside_it(
    shop_of_wrongs: Shop, field: str, bad: str
) -> None:
    cashier = await shop_of_wrongs.browser(Role.CASHIER)
    where = await place(cashier, "/openings?meter=M1")
    typed = {"meter": "M1", "name": "A", "amount": "5", field: bad}
    answer = await cashier.post(where, **typed)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    assert f'value="{bad}"' in answer.text, "what was typed stays"
    assert await shop_of_wrongs.booked() == 0
