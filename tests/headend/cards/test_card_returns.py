"""Money back for a card: taken back where that proves something, else its number is burned."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from headend.domain.card_issues import CardIssue, IssueState
from headend.domain.cards import CardNo
from headend.domain.commands import Accepted, CommandState, Rejected
from headend.domain.purchases import SaleState
from headend.services.card_returns import CardReturns
from headend.store.database import Database
from headend.units.check_cards import on_reader
from headend.units.finding import find_units
from simulators import card_meter
from tests.headend.cards.counter import Counter, counter
from tests.headend.cards.test_card_sales import held, registered

S = CommandState


@pytest_asyncio.fixture
async def at(database: Database, tmp_path: Path) -> AsyncIterator[Counter]:
    async with counter(database, tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture
async def trusting(database: Database, tmp_path: Path) -> AsyncIterator[Counter]:
    """A site that takes back cards that can be cloned."""
    async with counter(database, tmp_path, clones_are_taken_back=True) as opened:
        yield opened


async def test_a_card_that_can_be_cloned_is_burned_and_its_clone_credits_nothing(
    at: Counter,
) -> None:
    """Its holder keeps a clone and brings the original: no money but through a burn."""
    card, _, issue = await registered(at)
    clone = copy.deepcopy(card)
    async with at.shop.database.transaction() as tx:
        refused = await at.returns.begin_taking_back(tx, at.read(card))
    assert isinstance(refused, Rejected)
    assert "cloned" in refused.detail
    assert "burn" in refused.detail
    assert (await at.sale(issue)).state is SaleState.OPEN
    await at.shop.open_sender()
    async with at.shop.database.transaction() as tx:
        given = await at.returns.burn(tx, at.meter_id, operator_id=at.shop.li, reason="wrong")
    assert isinstance(given, Accepted)
    await at.shop.reaches(given.command.command_id, S.CONFIRMED)
    assert await at.shop.books() == (0, 5000, 0)
    assert await held(at, clone) == card_meter.ALREADY
    assert at.shop.credited() == [0]


async def test_a_cpu_card_is_taken_back_and_any_where_the_site_says_so(at: Counter) -> None:
    cpu = find_units().units["hanhe_cpu"]
    assert not at.returns.takes_back(at.unit)
    assert at.returns.takes_back(cpu)
    trusting = CardReturns(at.shop.clock, at.desk, clones_are_taken_back=True)
    assert trusting.takes_back(at.unit)


async def test_the_only_copy_is_taken_back_unused_and_its_count_used_again(
    trusting: Counter,
) -> None:
    at = trusting
    card, serial, issue = await registered(at)
    seen = at.read(card)
    async with at.shop.database.transaction() as tx:
        begun = await at.returns.begin_taking_back(tx, seen)
    assert isinstance(begun, CardIssue)
    empty = on_reader(at.unit.clear(), card, at.keys)
    async with at.shop.database.transaction() as tx:
        done = await at.returns.taken_back(
            tx, issue.issue_id, empty, operator_id=at.shop.li, reason="wrong amount"
        )
    assert isinstance(done, CardIssue)
    assert done.state is IssueState.WIPED
    assert (await at.sale(issue)).state is SaleState.REVERSED
    assert await at.shop.books() == (0, 5000, 0)
    again = await at.begin(serial, 4000)
    assert isinstance(again, CardIssue)
    assert again.purchase_count == issue.purchase_count


async def test_nothing_is_taken_back_that_was_used_or_exists_twice(trusting: Counter) -> None:
    at = trusting
    card, serial, _ = await registered(at)
    async with at.shop.database.transaction() as tx:
        await at.returns.move_to_remote(tx, at.meter_id, operator_id=1, reason="x")
        twice = await at.returns.begin_taking_back(tx, at.read(card))
    assert isinstance(twice, Rejected)
    assert "burn" in twice.detail
    await held(at, card)
    async with at.shop.database.transaction() as tx:
        used = await at.returns.begin_taking_back(tx, at.read(card))
    assert isinstance(used, Rejected)
    assert serial


async def test_a_lost_sale_is_burned_and_the_found_card_credits_nothing(at: Counter) -> None:
    card, _, issue = await registered(at)
    await at.shop.open_sender()
    async with at.shop.database.transaction() as tx:
        given = await at.returns.burn(tx, at.meter_id, operator_id=at.shop.li, reason="card lost")
    assert isinstance(given, Accepted)
    await at.shop.reaches(given.command.command_id, S.CONFIRMED)
    assert (await at.sale(issue)).state is SaleState.BURNED
    assert await at.shop.books() == (0, 5000, 0), "the money is free again"
    assert await held(at, card) == card_meter.ALREADY
    assert at.shop.credited() == [0]
    assert isinstance(await at.begin((await at.card())[1], 100), CardNo), "the lost card is theirs"


async def test_what_is_being_burned_has_no_new_copy(at: Counter) -> None:
    await registered(at)
    _, serial = await at.card()
    async with at.shop.database.transaction() as tx:
        await at.returns.burn(tx, at.meter_id, operator_id=at.shop.li, reason="card lost")
    async with at.shop.database.transaction() as tx:
        moved = await at.returns.move_to_remote(tx, at.meter_id, operator_id=1, reason="x")
        again = await at.returns.replace(tx, at.wish(serial, 0))
    for refused in (moved, again):
        assert isinstance(refused, Rejected)
        assert "burned" in refused.detail


async def test_a_burn_that_comes_too_late_leaves_the_sale(at: Counter) -> None:
    card, _, issue = await registered(at)
    assert await held(at, card) == card_meter.DONE
    await at.shop.open_sender()
    async with at.shop.database.transaction() as tx:
        given = await at.returns.burn(tx, at.meter_id, operator_id=at.shop.li, reason="card lost")
    assert isinstance(given, Accepted)
    await at.shop.reaches(given.command.command_id, S.REFUSED)
    assert (await at.sale(issue)).state is SaleState.LANDED
    assert await at.shop.books() == (5000, 0, 0)
    assert at.shop.credited() == [5000]
