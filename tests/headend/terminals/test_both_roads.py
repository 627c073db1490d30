"""One sale at the terminal and on the line: it credits once, whichever of them is first.

The witness is the meter: its purchase count, its total and the list of what it really took.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headend.domain.card_issues import CardIssue
from headend.domain.commands import FINAL, Accepted, CommandState
from headend.domain.purchases import SaleState
from headend.store import commands
from headend.store.database import Database
from simulators.rf_terminal import TerminalCard
from tests.headend.money.shop import Fate, once
from tests.headend.terminals.stand import Stand, stand

FEN = 5000
S = CommandState


@pytest_asyncio.fixture
async def at(database: Database, tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(database, tmp_path) as opened:
        yield opened


async def move(at: Stand) -> Accepted:
    """Somebody at the desk moves the sale to the line."""
    async with at.shop.database.transaction() as tx:
        moved = await at.counter.returns.move_to_remote(
            tx, at.counter.meter_id, operator_id=at.shop.li, reason="the tenant called"
        )
    assert isinstance(moved, Accepted), moved
    return moved


async def settled(at: Stand) -> None:
    """Until nothing of this sale is under way any more."""
    for _ in range(20):
        async with at.shop.database.transaction() as tx:
            under_way = [one for one in await commands.listing(tx) if one.state not in FINAL]
        waits = "waiting" in await at.log()
        if not (under_way or waits or at.terminal.book.untold or at.terminal.book.taps):
            return
        at.shop.later(minutes=5)
        await at.service.merge.look_at_waiting()
        await asyncio.sleep(0.2)
    raise AssertionError(f"still under way: {under_way}, {await at.log()}")


async def credited_once(at: Stand, issue: CardIssue) -> None:
    """By the meter's own registers, and the books say the same."""
    meter = at.shop.meter()
    assert at.shop.credited() == [FEN]
    assert (meter.purchase_count, meter.total_purchased_fen) == (
        issue.purchase_count,
        at.total(FEN),
    )
    assert (await at.counter.sale(issue)).state is SaleState.LANDED
    assert await at.shop.books() == (FEN, 0, 0)
    assert await at.counter.frozen() is None
    assert await at.clashes() == []
    assert set(await at.log()) <= {"landed", "known"}


async def a_sale(at: Stand) -> tuple[TerminalCard, CardIssue]:
    await at.cap()
    return await at.card(FEN)


async def test_the_terminal_alone_is_first_and_the_line_follows(at: Stand) -> None:
    card, issue = await a_sale(at)
    await at.alone()
    at.terminal.tap(card)
    assert at.shop.credited() == [FEN]
    moved = await move(at)
    await at.shop.open_sender()
    await at.back()
    await settled(at)
    await credited_once(at, issue)
    assert len(at.shop.bus.writes()) <= 1
    # Whichever saw it first ended the other: the order says so in its own words.
    ended = await at.shop.command(moved.command.command_id)
    assert ended.state in (S.CONFIRMED, S.CANCELLED)


async def test_its_record_is_merged_first_and_the_order_is_not_sent(at: Stand) -> None:
    card, issue = await a_sale(at)
    await at.alone()
    at.terminal.tap(card)
    moved = await move(at)
    await at.back()
    await at.until(lambda: not at.terminal.book.untold)
    assert await at.log() == ["landed"]
    assert (await at.shop.command(moved.command.command_id)).state is S.CANCELLED
    await at.shop.open_sender()
    await settled(at)
    await credited_once(at, issue)
    assert at.shop.bus.writes() == [], "the line never spoke of it"


async def test_the_line_is_first_and_the_tap_finds_nothing(at: Stand) -> None:
    card, issue = await a_sale(at)
    await at.shop.open_sender()
    moved = await move(at)
    await at.shop.reaches(moved.command.command_id, S.CONFIRMED)
    at.terminal.tap(card)
    await at.until(lambda: not at.terminal.book.taps)
    assert at.terminal.verdict == "nothing"
    await credited_once(at, issue)
    assert len(at.shop.bus.writes()) == 1


async def test_the_line_is_first_and_a_terminal_alone_sells_nothing(at: Stand) -> None:
    card, issue = await a_sale(at)
    await at.shop.open_sender()
    moved = await move(at)
    await at.shop.reaches(moved.command.command_id, S.CONFIRMED)
    await at.alone()
    at.terminal.tap(card)
    assert "not the next purchase" in at.terminal.verdict
    await at.back()
    await settled(at)
    await credited_once(at, issue)


async def test_the_line_is_first_and_a_terminal_without_rules_brings_it_again(at: Stand) -> None:
    """The meter takes no count twice; what the terminal claims is known already."""
    card, issue = await a_sale(at)
    await at.shop.open_sender()
    moved = await move(at)
    await at.shop.reaches(moved.command.command_id, S.CONFIRMED)
    await at.alone()
    meter = at.shop.meter()
    assert not meter.purchase(card.amount_fen, card.purchase_count)
    cap = at.terminal.book.cap
    assert cap is not None
    at.terminal.record(card, cap["number"], (meter.purchase_count, meter.total_purchased_fen))
    await at.back()
    await settled(at)
    await credited_once(at, issue)
    assert await at.log() == ["known"]


async def test_both_at_once_on_line_are_one_order_and_one_write(at: Stand) -> None:
    card, issue = await a_sale(at)
    moved = await move(at)
    at.terminal.tap(card)
    at.terminal.tap(card)
    await at.until(lambda: at.terminal.screen.count("paid") == 2)
    await at.shop.open_sender()
    await settled(at)
    await credited_once(at, issue)
    assert len(at.shop.bus.writes()) == 1
    assert (await at.shop.command(moved.command.command_id)).state is S.CONFIRMED


@pytest.mark.parametrize(("fate", "sells"), [(Fate.LOSE, True), (Fate.MUTE, False)], ids=str)
async def test_an_order_in_flight_and_a_terminal_that_falls_alone(
    at: Stand, fate: Fate, sells: bool
) -> None:
    """LOSE: the write never came, so the tap credits. MUTE: it came, so the tap credits nothing.
    Either way the head-end knows neither when the link falls."""
    card, issue = await a_sale(at)
    await at.shop.open_sender()
    at.shop.bus.script = once(fate, write=True)
    moved = await move(at)
    await at.shop.reaches(moved.command.command_id, S.SENT, S.UNKNOWN)
    await at.alone()
    at.terminal.tap(card)
    assert ("sold off-line" in at.terminal.verdict) is sells
    assert at.shop.credited() == [FEN]
    await at.back()
    await settled(at)
    await credited_once(at, issue)
    assert (await at.shop.command(moved.command.command_id)).state is S.CONFIRMED
