"""At a terminal: what a meter wrote back, under its own key only, and the versions of keys."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from headend.domain.roles import Role
from headend.keys.primitives import Algorithm, kcv
from headend.keys.records import stopped
from headend.services.terminal_caps import device_of
from headend.units.check_cards import AREA
from protocols.key_call import Purpose
from simulators.card_meter import DOWN, UP, cmac, device_key, newest, write
from simulators.rf_terminal import TerminalCard
from tests.headend.cards.counter import NUMBER
from tests.headend.terminals.whole import NAME, Whole, whole

FEN = 5000
DONE = 0  # what a slot shows


@pytest_asyncio.fixture
async def at(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Whole]:
    async with whole(dsn, tmp_path, monkeypatch) as opened:
        yield opened


def credited(at: Whole, before_fen: int) -> tuple[int, int]:
    """By the meter's own registers: fen since, and purchases since the stand was built."""
    meter = at.bus.units[1].meter
    return meter.total_purchased_fen - before_fen, len(meter.applied)


async def landed(at: Whole) -> list[tuple[int, str]]:
    """By the books: amount and how it was sold."""
    rows = await at.told("GET", "/terminals/recharges/M1", Role.AUDITOR)
    return [(row["amount_fen"], row["channel"]) for row in rows]


def forged_back(card: TerminalCard, key: bytes, total_fen: int) -> None:
    """Somebody writes on the card that the meter has read it, under a key of his choice."""
    assert card.chip is not None
    found = newest(card.chip, DOWN)
    assert found is not None
    record = found[2]
    body = (
        bytes((0x57, DONE))
        + struct.pack(">H", 1)
        + record[4:10]
        + record[16:24]
        + struct.pack(">i", FEN)
        + total_fen.to_bytes(5, "big")
        + struct.pack(">I", card.purchase_count)
    ).ljust(40, b"\0")
    write(card.chip, UP, body + cmac(key, body)[:8])


async def test_what_the_meter_wrote_back_lands_the_sale_at_the_tap(at: Whole) -> None:
    before = at.bus.units[1].meter.total_purchased_fen
    card = await at.card(FEN)
    assert card.chip is not None
    assert (await at.slot()).hold(card.chip) == DONE
    assert await landed(at) == [], "nobody has seen it yet"
    assert await at.tap(card) == "nothing", "there is nothing left to send"
    assert await landed(at) == [(FEN, "card")]
    assert credited(at, before)[0] == FEN


@pytest.mark.parametrize("purpose", [None, Purpose.RECHARGE, Purpose.TERMINAL_CAP])
async def test_a_write_back_under_any_other_key_is_no_witness(
    at: Whole, purpose: Purpose | None
) -> None:
    """A leaked recharge key must not prove that a meter was credited."""
    meter = at.bus.units[1].meter
    before, taken = meter.total_purchased_fen, len(meter.applied)
    card = await at.card(FEN)
    root = os.urandom(16) if purpose is None else at.roots[purpose]
    forged_back(card, device_key(root, AREA, bytes(2) + bytes.fromhex(NUMBER)), before + FEN)
    assert await at.tap(card) == "in_meter", "it was not believed: the sale went over the line"
    assert credited(at, before) == (FEN, taken + 1)
    assert await landed(at) == [(FEN, "card")]


async def test_the_right_key_makes_the_same_write_back_a_witness(at: Whole) -> None:
    """The control of the test before: only the key was wrong there."""
    meter = at.bus.units[1].meter
    card = await at.card(FEN)
    assert meter.purchase(FEN, card.purchase_count)
    root = at.roots[Purpose.WRITE_BACK]
    key = device_key(root, AREA, bytes(2) + bytes.fromhex(NUMBER))
    forged_back(card, key, meter.total_purchased_fen)
    assert await at.tap(card) == "nothing"
    assert await landed(at) == [(FEN, "card")]


async def test_a_write_back_of_a_stopped_version_is_no_witness(at: Whole) -> None:
    meter = at.bus.units[1].meter
    before = meter.total_purchased_fen
    card = await at.card(FEN)
    assert card.chip is not None
    assert (await at.slot()).hold(card.chip) == DONE
    now = at.head_end.services.clock.now()
    at.vault.change(stopped(at.record(Purpose.WRITE_BACK), accept=now))
    assert await at.tap(card) == "in_meter", "the meter itself was asked instead"
    assert credited(at, before)[0] == FEN, "and was credited once"
    assert await landed(at) == [(FEN, "card")]


def next_version(at: Whole, purpose: Purpose) -> bytes:
    """Version 2 issues from now on, version 1 is still accepted."""
    now, root = at.head_end.services.clock.now(), os.urandom(16)
    old = at.record(purpose)
    new = replace(
        old,
        version=2,
        kcv=kcv(Algorithm.AES128, root),
        created_at=now,
        active_from=now - timedelta(seconds=1),
    )
    at.vault.change(stopped(old, issue=now))
    at.vault.add(new, bytearray(root))
    return root


def version_on(card: TerminalCard) -> int:
    assert card.chip is not None
    found = newest(card.chip, DOWN)
    assert found is not None
    return int.from_bytes(found[2][2:4], "big")


async def test_a_card_of_the_old_version_is_good_until_it_is_not_accepted(at: Whole) -> None:
    old = await at.card(FEN)
    assert version_on(old) == 1
    next_version(at, Purpose.RECHARGE)
    assert await at.tap(old) == "in_meter", "stop-issue stops no card that is out"
    new = await at.card(FEN, old.chip)
    assert version_on(new) == 2, "what is sold now is sealed by the version that issues"
    now = at.head_end.services.clock.now()
    at.vault.change(stopped(at.record(Purpose.RECHARGE), accept=now))
    assert await at.tap(new) == "in_meter", "the new version is not the old one's"


async def test_a_card_of_a_version_that_is_not_accepted_is_refused(at: Whole) -> None:
    meter = at.bus.units[1].meter
    taken = len(meter.applied)
    card = await at.card(FEN)
    now = at.head_end.services.clock.now()
    at.vault.change(stopped(at.record(Purpose.RECHARGE), accept=now))
    assert "version 1" in await at.tap(card)
    assert len(meter.applied) == taken


async def cap_out(at: Whole) -> None:
    await at.told(
        "POST", "/terminals/of/G1/caps", Role.MANAGER, approver=at.second,
        card_fen=FEN, total_fen=FEN, reason="r",
    )  # fmt: skip


async def test_a_cap_is_sealed_by_the_version_that_issues(at: Whole) -> None:
    root = next_version(at, Purpose.TERMINAL_CAP)
    await cap_out(at)
    await at.until(lambda: "wrong seal" in at.terminal.verdict)
    assert not at.terminal.book.cap, "a terminal without that version does not believe it"
    at.terminal.cap_keys[2] = device_key(root, AREA, device_of(NAME))
    await cap_out(at)
    await at.until(lambda: at.terminal.book.cap is not None)
    assert (at.terminal.book.cap or {})["key_version"] == 2
    now = at.head_end.services.clock.now()
    at.vault.change(stopped(at.record(Purpose.TERMINAL_CAP, 2), issue=now))
    answer = await at.call(
        "POST", "/terminals/of/G1/caps", Role.MANAGER, approver=at.second,
        card_fen=FEN, total_fen=FEN, reason="r",
    )  # fmt: skip
    assert answer.json()["code"] == "cap-not-sealed"
