"""The desk's pages of terminals: the state, the taps, a cap by two persons, a clash settled."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from headend.domain.roles import Role
from headend.services import sign_in
from headend.store import desk_sessions, people
from headend.web import desk as web
from simulators.cards import RfCard
from simulators.rf_terminal import TerminalCard
from tests.headend.terminals.whole import Whole, whole
from tests.web.shop import Browser

PASSWORD = "a lamp in every window"


@pytest_asyncio.fixture
async def at(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Whole]:
    async with whole(dsn, tmp_path, monkeypatch) as opened:
        yield opened


async def browser(at: Whole, role: Role, language: str = "en") -> Browser:
    services = at.head_end.services
    async with services.database.transaction() as tx:
        operator = await people.find_operator(tx, role.value)
        assert operator is not None
        cookie = await desk_sessions.begin_session(
            tx, operator.operator_id, "", services.clock.now()
        )
    return Browser(at.http, {web.SESSION_COOKIE: cookie}, language)


async def second_may_sign(at: Whole) -> None:
    services = at.head_end.services
    async with services.database.transaction() as tx:
        second = await people.find_operator(tx, "second manager")
        assert second is not None
        await sign_in.set_password(tx, second, PASSWORD, services.clock, by=None)


def words(answer: httpx.Response) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", answer.text))


async def capped(at: Whole, manager: Browser, card: str, total: str) -> httpx.Response:
    return await manager.post(
        "/terminals/G1/cap", card_amount=card, total_amount=total, cap_reason="it is often away",
        approver="second manager", approver_password=PASSWORD,
    )  # fmt: skip


async def test_what_a_manager_sees_and_does(at: Whole) -> None:
    await second_may_sign(at)
    manager = await browser(at, Role.MANAGER)
    assert "/terminals" in (await manager.get("/cards")).text
    listed = words(await manager.get("/terminals"))
    assert "G1" in listed
    assert "on-line" in listed
    shown = words(await manager.get("/terminals/G1"))
    assert "Nobody has tapped a card here yet." in shown
    assert "it has no cap for today" in shown

    card = await at.card(5000)
    assert await at.tap(card) == "in_meter"
    false = TerminalCard(
        card.serial, card.meter_number, 1, 1, chip=RfCard(bytes.fromhex(card.serial)[:4])
    )
    await at.tap(false)
    shown = words(await manager.get("/terminals/G1"))
    assert "M1" in shown
    assert "50.00" in shown
    assert "Cards that could not prove themselves: 1" in shown

    # Alone is not enough, oneself is no second person, more to a card than in all is nonsense.
    form = {"card_amount": "40", "total_amount": "40", "cap_reason": "r"}
    assert (await manager.post("/terminals/G1/cap", **form)).status_code == 422
    bad = await capped(at, manager, "80", "40")
    assert "at least 1 fen to a card" in words(bad)
    assert at.terminal.book.cap is None
    assert (await capped(at, manager, "40", "40")).status_code == 303
    await at.until(lambda: at.terminal.book.cap is not None)
    assert "at most 40.00 yuan to one card" in words(await manager.get("/terminals/G1"))


async def test_a_clash_waits_on_the_page_until_a_person_settles_it(at: Whole) -> None:
    await second_may_sign(at)
    manager = await browser(at, Role.MANAGER)
    await capped(at, manager, "40", "40")
    await at.until(lambda: at.terminal.book.cap is not None)
    card = await at.card(5000)
    await at.terminal.unplug()
    meter, cap = at.bus.units[1].meter, at.terminal.book.cap
    assert meter.purchase(5000, card.purchase_count)
    assert cap is not None
    at.terminal.record(card, cap["number"], (meter.purchase_count, meter.total_purchased_fen))
    away = words(await manager.get("/terminals"))
    await at.terminal.plug()
    await at.until(lambda: not at.terminal.book.untold)
    assert "away" in away

    chinese = await browser(at, Role.CASHIER, "zh")
    page = await chinese.get("/terminals/G1")
    assert "该卡超出单卡离线限额" in words(page)
    assert 'name="how"' not in page.text, "a cashier settles nothing"
    shown = await manager.get("/terminals/G1")
    assert "more than its cap" in words(shown)
    (number,) = re.findall(r"/clashes/(\d+)", shown.text)
    where = f"/terminals/G1/clashes/{number}"
    assert (await manager.post(where, how="book")).status_code == 422, "not without a reason"
    assert (
        await manager.post("/terminals/G1/clashes/999", how="book", settle_reason_999="r")
    ).status_code == 404
    done = await manager.post(where, how="book", **{f"settle_reason_{number}": "read at 8"})
    assert done.status_code == 303
    after = words(await manager.get("/terminals/G1"))
    assert "more than its cap" not in after
    assert "booked" in after
