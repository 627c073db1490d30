"""The card desk over HTTP: a reader that is elsewhere, keys that are nowhere here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from headend.domain.roles import Role
from simulators import card_meter
from simulators.cards import RfCard
from tests.headend.cards.desk import Desk, desk, uid


@pytest_asyncio.fixture
async def at(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    async with desk(dsn, tmp_path, monkeypatch) as opened:
        yield opened


async def sold(at: Desk, card: RfCard, fen: int = 5000) -> dict[str, Any]:
    done = await at.done(card, "purchase", amount_fen=fen, new_card=True)
    at.slot.serial = bytes.fromhex(done["serial"])
    return done


async def test_a_day_of_a_card(at: Desk) -> None:
    card = uid(1)
    assert (await at.do(card, "read")).json()["code"] == "card-blank"
    done = await sold(at, card)
    assert (done["state"], done["amount_fen"], done["kind"]) == ("issued", 5000, "opening")
    assert [one["state"] for one in (await at.call("GET", "/out")).json()] == ["issued"]
    assert at.slot.hold(card) == card_meter.DONE
    read = await at.done(card, "read")
    assert read["taken"]
    assert read["landed_fen"] == 5000
    assert read["meter"]["reason"] == "done"
    assert await at.books() == (5000, 0)
    assert (await at.call("GET", "/out")).json() == []
    again = await at.done(card, "purchase", amount_fen=3000)
    assert again["purchase_count"] == done["purchase_count"] + 1
    assert again["kind"] == "purchase", "the meter has said that it knows this card"
    assert at.slot.hold(card) == card_meter.DONE
    assert (await at.done(card, "read"))["landed_fen"] == 3000
    assert (await at.done(card, "clear_card"))["kind"] is None


async def test_a_card_pulled_while_it_is_written(at: Desk) -> None:
    card = uid(2)
    await at.done(card, "make")
    key = uuid4()
    # Through the look and the seal, into the writes of the record.
    card.tear_at = 66
    torn = await at.do(card, "purchase", amount_fen=5000, key=key)
    assert torn.json()["code"] == "card-unsettled", torn.text
    assert await at.books() == (0, 0), "paid and reserved, not posted"
    assert [one["state"] for one in (await at.call("GET", "/out")).json()] == ["pending"]
    other = await at.do(card, "purchase", amount_fen=5000)
    assert other.json()["code"] == "sale-open"
    done = await at.done(card, "finish")
    assert done["issue_id"] == str(key)
    assert done["state"] == "issued"
    same = await at.done(card, "purchase", amount_fen=5000, key=key)
    assert same["number"] == done["number"], "the same key is the same purchase"


async def who_may_do_what(at: Desk) -> None:
    card = uid(3)
    for role, action, status in (
        (Role.AUDITOR, "read", 403),
        (Role.TECHNICIAN, "purchase", 403),
        (Role.CASHIER, "parameter", 403),
        (Role.CASHIER, "clear", 403),
    ):
        assert (await at.do(card, action, role)).status_code == status, (role, action)
    bare = await at.http.post("/api/v1/cards/sessions", json={"action": "read", "meter": "M1"})
    assert bare.status_code == 401
    assert card.commands == 0


async def a_bearer_card_takes_two_persons_and_works_once(at: Desk) -> None:
    card = uid(4)
    wish = {"alarm_1_fen": 5000, "alarm_2_fen": 1000, "reason": "new limits", "days": 2}
    alone = await at.do(card, "parameter", Role.TECHNICIAN, **wish)
    assert alone.json()["code"] == "second-person-needed"
    done = await at.do(card, "parameter", Role.TECHNICIAN, approver=Role.MANAGER, **wish)
    assert done.status_code == 200, done.text
    issue = done.json()["done"]
    assert issue["valid_until"] is not None
    assert at.slot.hold(card) == card_meter.DONE
    assert at.slot.alarms_fen == (5000, 1000)
    assert at.slot.hold(card) == card_meter.ALREADY
    revoked = await at.call(
        "POST", f"/{issue['issue_id']}/revoke", meter="M1", reason="engineer left"
    )
    assert revoked.json()["state"] == "revoked"


async def test_lost_moved_and_burned_over_the_api(at: Desk) -> None:
    card, new = uid(5), uid(6)
    first = await sold(at, card)
    again = await at.done(new, "replacement", reason="lost")
    assert again["purchase_count"] == first["purchase_count"]
    twice = await at.do(new, "take_back", reason="x")
    assert twice.json()["code"] == "not-now"
    moved = await at.call("POST", "/move", meter="M1", reason="tenant is far away")
    assert moved.status_code == 202, moved.text
    assert (await at.call("POST", "/move", Role.AUDITOR, meter="M1", reason="x")).status_code == 403


async def a_card_that_can_be_cloned_is_not_taken_back(at: Desk) -> None:
    card = uid(7)
    await sold(at, card)
    written = bytes(card.memory)
    refused = await at.do(card, "take_back", reason="wrong room")
    assert refused.json()["code"] == "not-now"
    assert "burn" in refused.json()["title_en"]
    assert bytes(card.memory) == written
    assert [one["state"] for one in (await at.call("GET", "/out")).json()] == ["issued"]


async def test_the_only_copy_is_taken_back_where_the_site_says_so(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(dsn, tmp_path, monkeypatch, clones_are_taken_back=True) as at:
        card = uid(7)
        await sold(at, card)
        done = await at.done(card, "take_back", reason="wrong room")
        assert done["state"] == "wiped"
        assert await at.books() == (0, 5000)
        assert (await at.call("GET", "/out")).json() == []


async def test_the_daily_limit_of_the_key_stops_the_counter(at: Desk) -> None:
    card = uid(8)
    await sold(at, card, 15_000)
    at.slot.hold(card)
    await at.done(card, "read")
    refused = await at.do(card, "purchase", amount_fen=6000)
    assert refused.json()["code"] == "keys-refused"
    assert "credit-limit" in refused.json()["title_en"]
    assert at.slot.hold(card) == card_meter.ALREADY
    logged = [json.loads(line)["entry"] for line in at.log.read_text().splitlines()]
    assert [one["outcome"] for one in logged if one["credit_fen"] == 6000] == ["credit-limit"]


async def test_cards_that_are_not_used(at: Desk) -> None:
    card = uid(9)
    await sold(at, card)
    foreign = RfCard(b"\1\1\1\1")
    foreign.memory[48:1024] = bytes(976)
    clone = RfCard(b"\2\2\2\2")
    clone.memory[4:] = card.memory[4:]  # but its keys are not made for its UID
    for other in (foreign, clone):
        answer = await at.do(other, "purchase", amount_fen=100)
        assert answer.json()["code"] == "card-not-ours", answer.text
        assert other.writes == 0
    writes = card.writes
    card.pull_at = 0
    assert (await at.do(card, "purchase", amount_fen=100)).json()["code"] == "card-gone"
    assert card.writes == writes
    card.memory[70] ^= 1  # half-written
    assert (await at.do(card, "purchase", amount_fen=100)).json()["code"] == "sale-open"
    assert (await at.done(card, "finish"))["state"] == "issued"
    assert at.slot.hold(card) == card_meter.DONE


async def a_desk_that_answers_nonsense_or_somebody_elses_work(at: Desk) -> None:
    card, key = uid(10), uuid4()
    begun = await at.call("POST", "/sessions", key=key, action="read", meter="M1")
    assert "apdu" in begun.json()
    other = await at.call("POST", f"/sessions/{key}", Role.MANAGER, answer="9000")
    assert other.json()["code"] == "no-card-session", "it is the cashier's"
    assert (await at.call("POST", f"/sessions/{key}", answer="xyz")).status_code == 422
    again = await at.call("POST", "/sessions", key=key, action="read", meter="M1")
    assert again.json()["code"] == "card-not-given"
    ended = await at.call("POST", f"/sessions/{key}", gone=True)
    assert ended.json()["code"] == "card-gone"
    assert (await at.call("POST", f"/sessions/{uuid4()}", gone=True)).status_code == 404
    assert card.commands == 0


async def test_people_bearers_and_desks(at: Desk) -> None:
    """One head-end for all of these: starting it is most of the time."""
    await who_may_do_what(at)
    await a_bearer_card_takes_two_persons_and_works_once(at)
    await a_desk_that_answers_nonsense_or_somebody_elses_work(at)
    await a_card_that_can_be_cloned_is_not_taken_back(at)
