"""Cards that are wrong, at the desk: a clear sentence in both languages, nothing written to a card
that is not ours, nothing booked that did not happen. And a card that a meter does not take.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from gateways.card_reader import CardUnsettled, NoCard, NoReader, ReaderBusy
from gateways.key_client import KeysAway
from headend.domain.problems import CATALOG
from headend.services.card_sessions import problem_of
from headend.units.check_cards import AREA, KitKeys, foreign_card, on_reader
from headend.units.finding import find_units
from headend.units.unit_process import UnitDown, UnitFailed
from protocols.card_apdu import (
    BlankCard,
    CardError,
    CardGone,
    CardRefused,
    CardSpent,
    Issuer,
    KeyNo,
    NotOurCard,
)
from protocols.card_image import CardKind, CardRecord
from protocols.key_call import Denial, KeyDenied
from simulators import card_meter
from simulators.cards import LogicCard, RfCard
from tests.headend.cards.desk import Desk, desk, uid

PULLED_EVERY = 17  # commands between two pulls of the walk through a write


@pytest_asyncio.fixture
async def at(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    async with desk(dsn, tmp_path, monkeypatch) as opened:
        yield opened


class WornOut(RfCard):
    """It says yes to every write, and keeps nothing any more."""

    worn = False

    def put(self, memory: bytearray, at: int, data: bytes, *, torn: bool) -> None:
        if not self.worn:
            super().put(memory, at, data, torn=torn)


def strangers() -> RfCard:
    card = foreign_card("rf_card")
    assert isinstance(card, RfCard)
    return card


def pulled_at_once() -> RfCard:
    card = uid(62)
    card.pull_at = 0
    return card


#: what lies there and what is done with it → the code. None of them writes a byte.
UNTOUCHED: dict[str, tuple[Callable[[], RfCard], str, str]] = {
    "a foreign card is read": (strangers, "read", "card-not-ours"),
    "a foreign card is sold on": (strangers, "purchase", "card-not-ours"),
    "a foreign card is replaced": (strangers, "replacement", "card-not-ours"),
    "a foreign card is cleared": (strangers, "clear_card", "card-not-ours"),
    "a foreign card is taken back": (strangers, "take_back", "card-not-ours"),
    "a blank card is read": (lambda: uid(60), "read", "card-blank"),
    "a blank card is sold on, unasked": (lambda: uid(61), "purchase", "card-blank"),
    "a card is pulled before anything": (pulled_at_once, "read", "card-gone"),
}


async def test_what_is_not_ours_is_left_as_it_is(at: Desk) -> None:
    before = await at.books()
    for name, (make, action, code) in UNTOUCHED.items():
        card = make()
        bytes_before = bytes(card.memory)
        more: dict[str, Any] = {"amount_fen": 5000} if action == "purchase" else {}
        answer = await at.do(card, action, reason="r", **more)
        assert answer.json()["code"] == code, name
        assert bytes(card.memory) == bytes_before, f"{name}: written to"
        assert await at.books() == before, f"{name}: booked"
    assert (await at.call("GET", "/out")).json() == []


async def test_the_card_of_another_meter(at: Desk) -> None:
    card = uid(63)
    serial = bytes.fromhex((await at.done(card, "make"))["serial"])
    database = at.head_end.services.database
    async with database.transaction() as tx:
        await tx.execute(
            "UPDATE card SET given_at = now(),"
            " meter_id = (SELECT meter_id FROM meter WHERE name = 'M2') WHERE serial = %s",
            serial,
        )
    bytes_before = bytes(card.memory)
    answer = await at.do(card, "purchase", amount_fen=5000)
    assert answer.json()["code"] == "card-wrong-meter"
    assert bytes(card.memory) == bytes_before
    assert await at.books() == (0, 0)


async def test_a_worn_out_card_keeps_nothing_and_its_sale_goes_onto_another(at: Desk) -> None:
    card = WornOut(b"\x09\x09\x09\x40")
    await at.done(card, "make")
    card.worn = True
    answer = await at.do(card, "purchase", amount_fen=5000)
    assert answer.json()["code"] == "card-spent"
    (pending,) = (await at.call("GET", "/out")).json()
    assert pending["state"] == "pending", "paid and reserved, never called issued"
    assert await at.books() == (0, 0)
    another = uid(64)
    done = await at.done(another, "replacement", reason="the card keeps nothing")
    assert (done["amount_fen"], done["purchase_count"]) == (5000, pending["purchase_count"])
    at.slot.serial = bytes.fromhex(done["serial"])
    assert at.slot.hold(another) == card_meter.DONE
    assert (await at.done(another, "read"))["landed_fen"] == 5000
    assert await at.books() == (5000, 0)


async def test_a_card_pulled_at_each_step_is_finished_by_the_same_wish(at: Desk) -> None:
    """One sale: pulled ever later, the same wish each time, until it goes through."""
    card, key, pull_at, codes = uid(65), uuid4(), 0, []
    while True:
        if pull_at % 2:
            card.tear_at = pull_at
        else:
            card.pull_at = pull_at
        answer = await at.do(card, "purchase", amount_fen=5000, new_card=True, key=key)
        if answer.status_code == 200:
            break
        codes.append(answer.json()["code"])
        assert codes[-1] in ("card-gone", "card-unsettled", "card-not-ours"), answer.text
        pull_at += PULLED_EVERY
    assert len(codes) > 3
    assert "card-unsettled" in codes
    assert answer.json()["done"]["state"] == "issued"
    assert len((await at.call("GET", "/out")).json()) == 1
    at.slot.serial = bytes.fromhex(answer.json()["done"]["serial"])
    assert at.slot.hold(card) == card_meter.DONE
    assert (await at.done(card, "read"))["landed_fen"] == 5000
    assert await at.books() == (5000, 0)


async def test_a_card_that_its_meter_does_not_take_is_replaced_on_itself(at: Desk) -> None:
    """A lost card that was found has put itself back into the meter; the write-back says so."""
    card = uid(66)
    await at.done(card, "purchase", amount_fen=1000, new_card=True)
    assert at.slot.hold(card) == card_meter.DONE
    await at.done(card, "read")
    await at.done(card, "purchase", amount_fen=2000)
    at.slot.serial = b"\x01" * 8
    assert at.slot.hold(card) == card_meter.WRONG_CARD
    read = await at.done(card, "read")
    assert read["meter"]["reason"] == "wrong_card"
    assert read["landed_fen"] is None
    done = await at.done(card, "replacement", reason="its meter does not know it")
    assert (done["kind"], done["amount_fen"]) == ("replacement", 2000)
    assert at.slot.hold(card) == card_meter.DONE
    assert (await at.done(card, "read"))["landed_fen"] == 2000
    assert await at.books() == (3000, 0)


def test_a_wrong_psc_costs_one_try_at_most_and_never_the_last_but_one() -> None:
    unit = find_units().units["hanhe_logic"].for_issuer(Issuer("site", AREA, bytes(8)))
    keys, card = KitKeys(), LogicCard()
    serial = on_reader(unit.personalise(b"LOGIC001"), card, keys)
    record = CardRecord(
        kind=CardKind.PURCHASE,
        key_version=1,
        meter_number="000000000101",
        customer_number="000000000001",
        serial=serial,
        issue_number=1,
        amount_fen=5000,
        purchase_count=1,
    )
    card.psc = b"\x12\x34\x56"  # somebody changed it
    for _ in range(5):
        card.inserted_again()
        bytes_before = bytes(card.memory)
        with pytest.raises((NotOurCard, CardSpent)):
            on_reader(unit.write(record), card, keys)
        assert bytes(card.memory) == bytes_before
    assert card.tries_min == 2


def failures() -> Iterator[tuple[CardError | KeysAway, str]]:
    denied = KeyDenied(Denial.CREDIT_LIMIT, "20000 fen today")
    yield KeysAway("no socket"), "keys-away"
    yield KeyNo(denied), "keys-refused"
    yield BlankCard("x"), "card-blank"
    yield NotOurCard("x"), "card-not-ours"
    yield CardSpent("x"), "card-spent"
    yield CardUnsettled("x"), "card-unsettled"
    yield CardGone("x"), "card-gone"
    yield UnitFailed("it hangs"), "unit-failed"
    yield UnitDown("it floods"), "unit-failed"
    yield CardRefused("write", 0x6982), "card-said-no"
    yield NoReader("x"), "no-reader"
    yield NoCard("x"), "card-gone"
    yield ReaderBusy("x"), "no-reader"


@pytest.mark.parametrize(
    ("error", "code"), list(failures()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_failure_has_its_sentence_in_both_languages(
    error: CardError | KeysAway, code: str
) -> None:
    problem = problem_of(error)
    assert problem.code == code
    english, chinese = problem.text("en"), problem.text("zh")
    assert english.endswith((".", ")"))
    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert not re.search(r"[\u4e00-\u9fff]", english)
    assert code in CATALOG
