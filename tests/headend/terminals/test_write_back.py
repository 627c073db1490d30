"""After a tap has landed, the card is told: pulled anywhere, copied or swapped, it costs nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from gateways.key_client import KeyRefused
from headend.domain.card_issues import CardIssue
from headend.domain.purchases import SaleState
from headend.services.cards import Looked
from headend.store import sales
from headend.store.database import Database
from headend.units.check_cards import KitKeys, on_reader
from protocols.card_desk import CardSeen, Seal
from protocols.card_image import CardKind
from protocols.card_note import LandingNote
from protocols.key_call import Denial, KeyCall, KeyDenied, KeyResult, Operation, Purpose
from protocols.security_unit import NotingUnit
from simulators import card_meter
from simulators.cards import VirtualCard
from simulators.rf_terminal import CARD_LINES, TerminalCard
from tests.headend.cards.counter import NUMBER
from tests.headend.terminals.stand import Stand, stand
from tests.headend.terminals.test_card_identity import (
    YesCard,
    blank_with_the_serial_of,
    foreign_with_the_serial_of,
)

WRITTEN, UNKNOWN, NOT_WRITTEN = CARD_LINES.values()
WRITE = 0xD6  # the instruction that changes a block


@pytest_asyncio.fixture
async def at(database: Database, tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(database, tmp_path) as opened:
        await opened.shop.open_sender()
        yield opened


async def tapped(at: Stand, card: TerminalCard, pull_at: int | None = None) -> tuple[str, str]:
    """What the screen says of the money, and after it of the card; "" for nothing."""
    at.terminal.tap(card)
    if card.chip is not None:
        card.chip.pull_at = pull_at
    await at.until(lambda: at.terminal.is_at_rest)
    said = at.terminal.screen[-1]
    return at.terminal.verdict, said if said in CARD_LINES.values() else ""


def on_desk(at: Stand, card: TerminalCard) -> CardSeen:
    """What a desk reads."""
    assert card.chip is not None
    card.chip.inserted_again()
    seen = on_reader(at.counter.unit.read(), card.chip, at.keys)
    card.chip.inserted_again()
    return seen


async def proving(at: Stand, card: TerminalCard) -> int:
    """How many commands of a tap are its card's proof; the rest writes it back."""
    bare, serial = await at.counter.card()
    on_reader(at.counter.unit.read(), bare, at.keys)
    bare.inserted_again()
    on_reader(at.counter.unit.read(), bare, at.keys)
    assert serial
    return bare.commands


async def test_what_the_meters_registers_show_is_written_on_the_card(at: Stand) -> None:
    card, issue = await at.card()
    asked = len(at.keys.asked)
    assert await tapped(at, card) == ("in_meter", WRITTEN)
    note = on_desk(at, card).note
    assert note is not None
    assert (note.meter_number, note.serial.hex(), note.amount_fen) == (NUMBER, card.serial, 5000)
    shown = at.shop.meter()
    assert note.purchase_count == shown.purchase_count == issue.purchase_count
    assert note.total_purchased_fen == shown.total_purchased_fen
    seals = {call.purpose for call in at.keys.asked[asked:] if call.operation is Operation.MAC} - {
        Purpose.CARD_ACCESS
    }
    assert seals == {Purpose.TERMINAL_WRITE_BACK}, "the meter's word is the meter's"
    assert await tapped(at, card) == ("nothing", ""), "the card told it already"
    assert at.shop.credited() == [5000]


async def test_pulled_at_each_step_it_costs_nothing_and_the_next_tap_writes_it(at: Stand) -> None:
    card, issue = await at.card()
    assert card.chip is not None
    first = await proving(at, card)
    assert await tapped(at, card, first) == ("in_meter", NOT_WRITTEN)
    assert (await at.counter.sale(issue)).state is SaleState.LANDED
    ends, step = [], 1
    while not on_desk(at, card).is_taken:
        ends.append(await tapped(at, card, first + step))
        seen = on_desk(at, card)
        assert (seen.seal, seen.record is not None) == (Seal.GOOD, True)
        assert seen.note is None or seen.is_taken, "old or new, never mixed"
        step += 1
        assert step < 100, "it came to no end"
    assert {money for money, _ in ends} == {"nothing"}
    assert [end for _, end in ends[:2]] == [NOT_WRITTEN] * 2
    assert ends[-1][1] == UNKNOWN, "the commit was written, nobody heard so"
    assert at.shop.credited() == [5000]
    assert len(at.shop.bus.writes()) == 1
    assert await at.shop.books() == (5000, 0, 0)
    assert await tapped(at, card) == ("nothing", "")


async def test_the_same_purchase_tapped_again_credits_nothing_and_repairs_it(at: Stand) -> None:
    card, _ = await at.card()
    assert await tapped(at, card, await proving(at, card)) == ("in_meter", NOT_WRITTEN)
    assert on_desk(at, card).note is None
    assert await tapped(at, card) == ("nothing", WRITTEN)
    assert on_desk(at, card).is_taken
    assert at.shop.credited() == [5000]
    assert card.written_back is not None


class WritesCounted(YesCard):
    """Says yes to everything, and counts what would have changed it."""

    def handle(self, command: bytes, *, torn: bool) -> bytes:
        self.writes += command[1] == WRITE
        return super().handle(command, torn=torn)


@pytest.mark.parametrize(
    "copied", [blank_with_the_serial_of, foreign_with_the_serial_of, WritesCounted]
)
async def test_a_copied_serial_gets_nothing_written(
    at: Stand, copied: Callable[[TerminalCard], VirtualCard]
) -> None:
    """It is put there in the place of the card that proved itself."""
    card, _ = await at.card()
    true, false = card.chip, copied(card)
    at.terminal.tap(card)
    await at.until(lambda: "paid" in at.terminal.screen or "sent" in at.terminal.screen)
    card.chip = false
    await at.until(lambda: at.terminal.is_at_rest)
    assert (at.terminal.verdict, at.terminal.screen[-1]) == ("in_meter", NOT_WRITTEN)
    assert false.writes == 0
    card.chip = true
    assert await tapped(at, card) == ("nothing", WRITTEN), "the true card is none the worse"
    assert at.shop.credited() == [5000]


async def test_another_card_of_ours_in_its_place_gets_nothing_written(at: Stand) -> None:
    card, _ = await at.card()
    other, _ = await at.counter.card()
    writes = other.writes
    at.terminal.tap(card)
    await at.until(lambda: "paid" in at.terminal.screen or "sent" in at.terminal.screen)
    card.chip = other
    await at.until(lambda: at.terminal.is_at_rest)
    assert (at.terminal.screen[-1], other.writes) == (NOT_WRITTEN, writes)


async def test_what_was_bought_out_of_the_balance_is_told_too(at: Stand) -> None:
    card, _ = await at.card()
    await tapped(at, card)
    await at.shop.pay(2000)
    at.terminal.buy(card, 2000)
    await at.until(lambda: at.terminal.is_at_rest)
    assert (at.terminal.verdict, at.terminal.screen[-1]) == ("in_meter", WRITTEN)
    note = on_desk(at, card).note
    assert note is not None
    assert (note.amount_fen, note.total_purchased_fen) == (2000, at.total(7000))


async def test_the_next_purchase_is_still_an_opening_and_nothing_is_in_its_way(at: Stand) -> None:
    """Our word on the card is none of the meter's, which never saw it."""
    card, _ = await at.card()
    await tapped(at, card)
    assert card.chip is not None
    card.chip.inserted_again()
    _, issue = await at.sold(card.chip, bytes.fromhex(card.serial), 3000)
    assert issue.kind is CardKind.OPENING
    assert card_meter.is_blank_up(card.chip), "nothing is left in the meter's way"
    assert await tapped(at, card) == ("in_meter", WRITTEN)
    assert at.shop.credited() == [5000, 3000]


class NoSuchKey(KitKeys):
    """A site that had no ceremony for it."""

    def __call__(self, call: KeyCall) -> KeyResult:
        if call.purpose is Purpose.TERMINAL_WRITE_BACK:
            raise KeyRefused(KeyDenied(Denial.NO_SUCH_KEY))
        return super().__call__(call)


async def test_a_site_without_that_key_ends_a_tap_as_before(at: Stand) -> None:
    card, _ = await at.card()
    without = NoSuchKey(roots=at.keys.roots)

    async def ask(call: KeyCall) -> KeyResult:
        return without(call)

    at.service._backs._ask = ask
    assert await tapped(at, card) == ("in_meter", "")
    assert on_desk(at, card).note is None
    assert await tapped(at, card) == ("nothing", "")


# ---- read again ----------------------------------------------------------------------------------


async def told_by_the_card(
    at: Stand, *, more_fen: int = 0, under: Purpose = Purpose.TERMINAL_WRITE_BACK
) -> tuple[CardIssue, Looked]:
    """A sale that landed, of which the books know nothing: they are an older copy of themselves."""
    card, issue = await at.card()
    assert card.chip is not None
    assert issue.purchase_count is not None
    note = LandingNote(
        key_version=1, meter_number=NUMBER, serial=issue.serial, amount_fen=5000,
        total_purchased_fen=at.total(5000 + more_fen), purchase_count=issue.purchase_count,
        landed_at_s=1_800_000_000,
    )  # fmt: skip
    roots = at.keys.roots | {Purpose.TERMINAL_WRITE_BACK: at.keys.roots[under]}
    assert isinstance(at.counter.unit, NotingUnit)
    card.chip.inserted_again()
    on_reader(at.counter.unit.note(note), card.chip, replace(at.keys, roots=roots))
    async with at.shop.database.transaction() as tx:
        return issue, await at.counter.desk.look(tx, on_desk(at, card))


async def test_at_a_desk_it_is_a_witness(at: Stand) -> None:
    issue, looked = await told_by_the_card(at)
    assert looked.landed is not None
    assert (await at.counter.sale(issue)).state is SaleState.LANDED
    assert await at.shop.books() == (5000, 0, 0)


async def test_a_witness_of_another_total_lands_nothing_and_is_looked_at(at: Stand) -> None:
    issue, looked = await told_by_the_card(at, more_fen=1)
    assert looked.landed is None
    assert (await at.counter.sale(issue)).state is SaleState.OPEN
    async with at.shop.database.transaction() as tx:
        assert await sales.frozen(tx, at.counter.meter_id) is not None


async def test_under_the_meters_key_it_is_nothing(at: Stand) -> None:
    issue, looked = await told_by_the_card(at, under=Purpose.WRITE_BACK)
    assert looked.landed is None
    assert (await at.counter.sale(issue)).state is SaleState.OPEN
    async with at.shop.database.transaction() as tx:
        assert await sales.frozen(tx, at.counter.meter_id) is None
