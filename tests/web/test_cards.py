"""The card desk in a browser, its reader served beside it as `headend card desk` does."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from headend.domain.roles import Role
from headend.store import desk_sessions, people
from headend.web import desk as web
from simulators import card_meter
from simulators.cards import Pulled, VirtualCard
from tests.headend.cards.desk import Desk, desk, uid
from tests.web.shop import Browser

NO_READER = "No reader of yours is there"


async def signed_in(at: Desk, role: Role, language: str = "en") -> Browser:
    services = at.head_end.services
    async with services.database.transaction() as tx:
        operator = await people.find_operator(tx, role.value)
        assert operator is not None
        cookie = await desk_sessions.begin_session(
            tx, operator.operator_id, "", services.clock.now()
        )
    return Browser(at.http, {web.SESSION_COOKIE: cookie}, language)


@asynccontextmanager
async def a_reader(at: Desk, lying: list[VirtualCard], role: Role) -> AsyncIterator[None]:
    """The reader of this person's machine; whatever lies in the list lies on it."""
    url = f"http://127.0.0.1:{at.port}"

    async def serve() -> None:
        headers = {"authorization": f"Bearer {at.tokens[role]}"}
        async with httpx.AsyncClient(
            base_url=url, timeout=60, trust_env=False, headers=headers
        ) as http:
            while True:
                step = (await http.get("/api/v1/cards/desk")).json()
                session = step["session"]
                while session and "apdu" in step:
                    said: dict[str, Any]
                    try:
                        said = {"answer": lying[0].apdu(bytes.fromhex(step["apdu"])).hex()}
                    except (Pulled, IndexError):
                        said = {"gone": True}
                    answer = await http.post(f"/api/v1/cards/sessions/{session}", json=said)
                    step = answer.json()
                for card in lying:
                    card.inserted_again()

    task = asyncio.create_task(serve())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def works(browser: Browser, **typed: str) -> str:
    """A piece of work to its end; the page's last piece."""
    where = f"/cards/of/M1/work/{uuid4()}"
    async with asyncio.timeout(60):
        answer = await browser.post(where, **typed)
        while answer.status_code == 422 and NO_READER in answer.text:
            await asyncio.sleep(0.05)  # it has not asked yet
            answer = await browser.post(where, **typed)
        assert answer.status_code == 303, answer.text
        page = answer.headers["location"]
        again = await browser.post(where, **typed)
        assert again.headers["location"] == page, "the same form begins it once"
        while True:
            now = (await browser.get(f"{page}/now")).text
            if "hx-trigger" not in now:
                return now
            await asyncio.sleep(0.05)


async def test_a_tenant_at_the_desk(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(dsn, tmp_path, monkeypatch) as at:
        at.slot.customer = None  # nobody ever had an account here
        cashier = await signed_in(at, Role.CASHIER)
        assert NO_READER in (await cashier.get("/cards")).text
        refused = await cashier.post(f"/cards/of/M1/work/{uuid4()}", action="read")
        assert refused.status_code == 422
        assert NO_READER in refused.text
        lying: list[VirtualCard] = [uid(40)]
        async with a_reader(at, lying, Role.CASHIER):
            await _sold_and_landed(at, cashier, lying)
            await _errors_stand_beside_their_fields(cashier)
            await _lost(at, cashier, lying)


async def _sold_and_landed(at: Desk, cashier: Browser, lying: list[VirtualCard]) -> None:
    done = await works(cashier, action="purchase", amount="50")
    assert "Done: the card may be taken off." in done
    receipt = re.search(r'href="(/cards/issue/[^"]+)"', done)
    assert receipt is not None
    page = (await cashier.get(receipt[1])).text
    assert page.count('class="done"') == 2, "paid, and on the card"
    assert "opening" in page, "its first card opens the account"
    assert "¥ 50.00" in page
    assert "/cards/of/M1" in (await cashier.get("/cards")).text, "it is out"
    assert at.slot.hold(lying[0]) == card_meter.DONE
    read = await works(cashier, action="read")
    assert "Proved by this card: in the meter" in read
    assert (await cashier.get(receipt[1])).text.count('class="done"') == 4
    assert await at.books() == (5000, 0)


async def _errors_stand_beside_their_fields(cashier: Browser) -> None:
    for typed, field, says in (
        ({"action": "purchase"}, "amount", "Enter an amount"),
        ({"action": "purchase", "amount": "1,5"}, "amount", "digits"),
        ({"action": "take_back"}, "reason", "Say why"),
        ({"action": "parameter", "reason": "r"}, "action", "Your role may not"),
        ({"action": "eat"}, "action", "Choose"),
    ):
        answer = await cashier.post(f"/cards/of/M1/work/{uuid4()}", **typed)
        assert answer.status_code == 422, typed
        assert 'value="take_back"' not in answer.text, "an RF card can be cloned: it is burned"
        beside = re.search(rf'id="{field}-error">([^<]+)<', answer.text)
        assert beside is not None, typed
        assert says in beside[1], typed


async def _lost(at: Desk, cashier: Browser, lying: list[VirtualCard]) -> None:
    await works(cashier, action="purchase", amount="20")
    told = await cashier.post("/cards/of/M1/paper", what="lost", paper_reason="in a bus")
    assert told.status_code == 303
    cashier.language = "zh"
    assert "挂失" in (await cashier.get("/cards/of/M1")).text
    cashier.language = "en"
    lost = lying.pop()
    failed = await works(cashier, action="read")
    assert "The card was taken off the reader before anything was written" in failed
    lying.append(uid(41))
    done = await works(cashier, action="replacement", reason="lost")
    assert "Done" in done
    assert at.slot.hold(lying[0]) == card_meter.DONE
    assert at.slot.hold(lost) != card_meter.DONE
    assert (await at.books())[0] == 5000, "not proved yet"
    await works(cashier, action="read")
    assert await at.books() == (7000, 0)
