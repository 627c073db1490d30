"""A card at a terminal proves who it is: a serial alone buys nothing, and is counted."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from headend.domain.purchases import SaleState
from headend.store.database import Database
from headend.units.check_cards import KitKeys, foreign_card, on_reader
from protocols.key_call import Purpose
from simulators.cards import OK, RfCard, VirtualCard
from simulators.rf_terminal import TerminalCard
from tests.headend.terminals.stand import Stand, stand


@pytest_asyncio.fixture
async def at(database: Database, tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(database, tmp_path) as opened:
        await opened.shop.open_sender()
        yield opened


async def ended(at: Stand) -> str:
    """What the screen says when nothing is under way any more."""
    await at.until(lambda: at.terminal.is_at_rest)
    return at.terminal.verdict


async def counted(at: Stand) -> list[tuple[int, str]]:
    """Alarms about cards that were not what they said: how often, and what was said last."""
    async with at.shop.database.transaction() as tx:
        return [
            (row[0], row[1])
            for row in await tx.rows(
                "SELECT seen_count, detail FROM alarm JOIN gateway USING (gateway_id)"
                " WHERE code = 'false-card' AND gateway.name = 'G1' ORDER BY raised_at"
            )
        ]


def blank_with_the_serial_of(card: TerminalCard) -> VirtualCard:
    return RfCard(bytes.fromhex(card.serial)[:4])


def foreign_with_the_serial_of(card: TerminalCard) -> VirtualCard:
    made = foreign_card("rf_card")
    assert isinstance(made, RfCard)
    made.uid = bytes.fromhex(card.serial)[:4]
    return made


class YesCard(VirtualCard):
    """Something that says yes to whatever is asked, with the right serial."""

    def __init__(self, card: TerminalCard) -> None:
        super().__init__()
        self.uid = bytes.fromhex(card.serial)[:4]

    def reset(self) -> None:
        pass

    def handle(self, command: bytes, *, torn: bool) -> bytes:
        if command[1] == 0xCA:
            return self.uid + OK
        return b"\x6d\x00" if command[1] == 0xB0 else OK


@pytest.mark.parametrize("copied", [blank_with_the_serial_of, foreign_with_the_serial_of, YesCard])
async def test_a_copied_serial_is_refused_and_counted(at: Stand, copied: type[YesCard]) -> None:
    true, issue = await at.card()
    await at.shop.pay(2000)
    false = copy.copy(true)
    false.chip = copied(true)
    at.terminal.tap(false)
    assert "could not prove" in await ended(at)
    at.terminal.buy(false, 2000)
    assert "未能证明" in await ended(at)
    assert at.shop.credited() == []
    assert at.shop.bus.writes() == []
    assert (await at.counter.sale(issue)).state is SaleState.OPEN
    assert await at.shop.books() == (0, 2000, 5000), "nothing was taken"
    ((times, detail),) = await counted(at)
    assert times == 2
    assert true.serial in detail
    at.terminal.tap(true)
    assert await ended(at) == "in_meter", "the true card is none the worse"
    assert at.shop.credited() == [5000]


async def test_a_card_of_ours_is_no_other_of_ours(at: Stand) -> None:
    card, _ = await at.card()
    other, _ = await at.counter.card()
    liar = TerminalCard(card.serial, card.meter_number, 1, 5000, chip=other)
    at.terminal.tap(liar)
    assert "could not prove" in await ended(at)
    assert len(await counted(at)) == 1
    assert at.shop.credited() == []


async def test_a_record_that_was_written_by_others_is_refused_and_counted(at: Stand) -> None:
    """Whoever broke its sector keys can write what he likes; what he writes has no seal of ours."""
    card, issue = await at.card()
    assert card.chip is not None
    theirs = KitKeys()
    theirs.roots[Purpose.RECHARGE] = b"a key of a thief"
    async with at.shop.database.transaction() as tx:
        record = await at.counter.desk.record_of(tx, issue)
    on_reader(at.counter.unit.write(replace(record, amount_fen=500_000)), card.chip, theirs)
    at.terminal.tap(card)
    assert "未" in await ended(at)
    ((times, detail),) = await counted(at)
    assert times == 1
    assert "sealed" in detail
    assert at.shop.credited() == []


@pytest.mark.parametrize("command", [0, 1, 2, 5, 9])
async def test_a_card_that_is_pulled_before_it_proved_itself_does_nothing(
    at: Stand, command: int
) -> None:
    card, issue = await at.card()
    assert card.chip is not None
    at.terminal.tap(card)
    card.chip.pull_at = command
    shown = await ended(at)
    assert "taken off" in shown
    assert at.shop.credited() == []
    assert await counted(at) == [], "gone is not false"
    at.terminal.tap(card)
    assert await ended(at) == "in_meter"
    assert (await at.counter.sale(issue)).state is SaleState.LANDED


async def test_a_terminal_that_falls_while_it_proves_a_card_asks_again(at: Stand) -> None:
    card, _ = await at.card()
    at.terminal.tap(card)
    at.terminal.drop()
    assert await ended(at) in ("in_meter", "联机 / on-line")
    await at.until(lambda: at.shop.credited() == [5000])
    assert len(at.shop.bus.writes()) == 1


async def test_answers_nobody_waits_for_are_nothing(at: Stand) -> None:
    card, _ = await at.card()
    for fields in ({}, {"about": 1, "step": 1, "answer": "9000"}, {"about": "x", "gone": True}):
        at.terminal.say(at.terminal._told(0x26, **fields))
    at.terminal.tap(card)
    assert await ended(at) == "in_meter"


async def test_the_list_of_recharges_is_for_the_card_itself(at: Stand) -> None:
    card, _ = await at.card()
    at.terminal.tap(card)
    await ended(at)
    copied = copy.copy(card)
    copied.chip = blank_with_the_serial_of(card)
    at.terminal.ask_recharges(copied)
    await at.until(lambda: "could not prove" in at.terminal.verdict)
    assert at.terminal.shown_recharges == []


async def test_each_proof_goes_through_the_key_service(at: Stand) -> None:
    card, _ = await at.card()
    before = len(at.keys.asked)
    at.terminal.tap(card)
    await ended(at)
    asked = at.keys.asked[before:]
    serial = bytes.fromhex(card.serial)
    assert {call.path[-1] for call in asked if call.purpose is Purpose.CARD_ACCESS} == {serial}
    assert any(call.purpose is Purpose.RECHARGE for call in asked), "its seal was checked"
