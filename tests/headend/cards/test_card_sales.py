"""One sequence for card and remote, with a real database, a real line and a meter with a slot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from headend.domain.card_issues import CardIssue, IssueState
from headend.domain.cards import CardNo, CardWhy
from headend.domain.commands import Accepted, CommandState, Rejected, Why
from headend.domain.purchases import SaleState
from headend.services import reconcile
from headend.services.books import asker
from headend.services.card_landings import land_by_readings
from headend.store import cards
from headend.store.database import Database
from headend.units.check_cards import on_reader
from protocols.card_image import CardReason
from simulators import card_meter
from simulators.cards import VirtualCard
from tests.headend.cards.counter import CardGone, Counter, counter, torn_at

S = CommandState


@pytest_asyncio.fixture
async def at(database: Database, tmp_path: Path) -> AsyncIterator[Counter]:
    async with counter(database, tmp_path) as opened:
        yield opened


async def held(at: Counter, card: VirtualCard) -> int:
    """The tenant holds the card to the meter."""
    return at.slot.hold(card)


async def registered(at: Counter, fen: int = 5000) -> tuple[VirtualCard, bytes, CardIssue]:
    """A tenant with a card the meter knows, and a sale on it."""
    card, serial = await at.card()
    at.slot.serial = serial
    return card, serial, await at.sold(card, serial, fen)


async def test_a_sale_goes_by_card_and_its_proof_comes_back(at: Counter) -> None:
    before = at.shop.meter().purchase_count
    card, _, issue = await registered(at)
    assert issue.state is IssueState.ISSUED
    assert issue.purchase_count == before + 1
    assert await at.shop.books() == (0, 0, 5000), "reserved, not spent"
    assert await held(at, card) == card_meter.DONE
    looked = await at.look(card)
    assert looked.no is None
    assert looked.landed is not None
    assert (await at.sale(issue)).state is SaleState.LANDED
    assert (await at.issue(issue)).state is IssueState.USED
    assert await at.shop.books() == (5000, 0, 0)
    assert at.shop.credited() == [5000]


async def test_the_sequence_goes_on_by_remote_and_by_card_again(at: Counter) -> None:
    card, serial, first = await registered(at)
    await held(at, card)
    await at.look(card)
    await at.shop.read_once()
    await at.shop.open_sender()
    assert first.purchase_count is not None
    remote = await at.shop.sell(3000)
    assert (await at.shop.reaches(remote, S.CONFIRMED)).purchase_count == first.purchase_count + 1
    third = await at.sold(card, serial, 2000)
    assert third.purchase_count == first.purchase_count + 2
    assert (await at.look(card)).is_old is False
    assert await held(at, card) == card_meter.DONE
    assert at.shop.credited() == [5000, 3000, 2000]
    landed = (await at.look(card)).landed
    assert landed is not None, "compared with what the top-up's own look showed"
    assert await at.frozen() is None


async def test_while_a_card_is_out_new_money_waits(at: Counter) -> None:
    card, serial, _ = await registered(at)
    await at.shop.pay(1000)
    for second in (await at.begin(serial, 1000), await at.shop.order(1000)):
        assert isinstance(second, Rejected)
        assert second.why is Why.SALE_OPEN
    assert (await at.shop.books())[1] == 1000
    assert card


async def test_the_same_wish_is_one_issue_and_another_wish_is_refused(at: Counter) -> None:
    card, serial = await at.card()
    await at.shop.pay(9000)
    wish = at.wish(serial, 5000, uuid4())
    async with at.shop.database.transaction() as tx:
        first = await at.desk.sell(tx, wish)
    async with at.shop.database.transaction() as tx:
        again = await at.desk.sell(tx, wish)
        other = await at.desk.sell(tx, at.wish(serial, 4000, wish.issue_id))
    assert first == again
    assert isinstance(other, Rejected)
    assert other.why is Why.ID_REUSED
    assert card


async def test_a_card_sale_moved_to_the_line_lands_once(at: Counter) -> None:
    card, _, issue = await registered(at)
    await at.shop.open_sender()
    async with at.shop.database.transaction() as tx:
        moved = await at.returns.move_to_remote(tx, at.meter_id, operator_id=1, reason="no time")
    assert isinstance(moved, Accepted)
    await at.shop.reaches(moved.command.command_id, S.CONFIRMED)
    assert await held(at, card) == card_meter.ALREADY
    assert (await at.sale(issue)).state is SaleState.LANDED
    assert (await at.issue(issue)).state is IssueState.USED
    assert at.shop.credited() == [5000]
    assert await at.shop.books() == (5000, 0, 0)


async def test_the_card_lands_while_its_move_waits(at: Counter) -> None:
    card, _, issue = await registered(at)
    async with at.shop.database.transaction() as tx:
        moved = await at.returns.move_to_remote(tx, at.meter_id, operator_id=1, reason="no time")
    assert isinstance(moved, Accepted)
    assert await held(at, card) == card_meter.DONE
    await at.shop.open_sender()
    done = await at.shop.reaches(moved.command.command_id, S.CONFIRMED, S.ESCALATED)
    assert done.state is S.CONFIRMED, "count and total say that it was this sale"
    assert at.shop.credited() == [5000]
    assert at.shop.bus.writes(1) == [], "nothing was written any more"
    assert await at.shop.books() == (5000, 0, 0)
    assert await at.frozen() is None
    assert issue


async def test_a_seen_card_ends_a_move_that_still_waits(at: Counter) -> None:
    card, _, _ = await registered(at)
    async with at.shop.database.transaction() as tx:
        moved = await at.returns.move_to_remote(tx, at.meter_id, operator_id=1, reason="no time")
        again = await at.returns.move_to_remote(tx, at.meter_id, operator_id=1, reason="no time")
    assert isinstance(moved, Accepted)
    assert isinstance(again, Accepted)
    assert again.repeated
    await held(at, card)
    assert (await at.look(card)).landed is not None
    assert (await at.shop.command(moved.command.command_id)).state is S.CANCELLED


async def test_a_lost_card_is_replaced_and_found_and_credits_nothing(at: Counter) -> None:
    lost, _, issue = await registered(at)
    new, serial = await at.card()
    again = await at.replaced(serial)
    assert (again.purchase_count, again.amount_fen) == (issue.purchase_count, 5000)
    assert (await at.issue(issue)).state is IssueState.LOST
    assert isinstance(await at.write(new, again), CardIssue)
    assert await held(at, new) == card_meter.DONE
    assert await held(at, lost) == card_meter.ALREADY, "an opening card meets an equal count"
    looked = await at.look(lost)
    assert looked.no is not None
    assert looked.no.why is CardWhy.REVOKED
    assert looked.landed is not None, "what the meter wrote on the lost card is a witness too"
    assert (await at.look(new)).landed is None
    assert at.shop.credited() == [5000]


async def test_the_lost_card_is_found_first(at: Counter) -> None:
    lost, _, _ = await registered(at)
    new, serial = await at.card()
    await at.write(new, await at.replaced(serial))
    assert await held(at, lost) == card_meter.DONE
    assert await held(at, new) == card_meter.ALREADY
    assert (await at.look(new)).landed is not None
    assert at.slot.serial == serial, "the meter knows the new card now"
    assert at.shop.credited() == [5000]


async def test_a_lost_empty_card_is_replaced_after_its_sale_landed(at: Counter) -> None:
    card, _, _ = await registered(at)
    await held(at, card)
    await at.look(card)
    new, serial = await at.card()
    assert isinstance(await at.write(new, await at.replaced(serial)), CardIssue)
    assert await held(at, new) == card_meter.ALREADY
    third = await at.sold(new, serial, 1000)
    assert await held(at, new) == card_meter.DONE
    assert at.shop.credited() == [5000, 1000]
    assert third


async def test_another_device_gets_no_copy_of_what_the_last_one_took(at: Counter) -> None:
    """Found by the trial: its counts begin lower, so the newest number was one of the old device,
    and its credit would have gone in a second time."""
    card, serial, first = await registered(at)
    assert first.purchase_count is not None
    await held(at, card)
    await at.look(card)
    at.shop.meter().set_account(purchase_count=first.purchase_count - 3, total_purchased_fen=0)
    await at.shop.read_once()
    async with at.shop.database.transaction() as tx:
        refused = await reconcile.accept_meter(
            tx,
            at.meter_id,
            at.shop.clock,
            asked_by=await asker(tx, at.shop.wang),
            approved_by=await asker(tx, at.shop.li),
            reason="another device hangs there",
        )
    assert refused is None
    new, other = await at.card()
    async with at.shop.database.transaction() as tx:
        nothing = await at.returns.replace(tx, at.wish(other, 0))
    assert isinstance(nothing, Rejected), "nothing was sold to this device yet"
    sold = await at.sold(card, serial, 1000)
    assert sold.purchase_count == first.purchase_count - 2
    again = await at.replaced(other)
    assert (again.purchase_count, again.amount_fen) == (sold.purchase_count, 1000)
    assert again.sale_id == sold.sale_id
    assert isinstance(await at.write(new, again), CardIssue)


async def test_a_card_pulled_while_it_is_written_is_finished_or_found_written(at: Counter) -> None:
    card, serial = await at.card()
    at.slot.serial = serial
    await at.shop.pay(5000)
    issue = await at.begin(serial, 5000)
    assert isinstance(issue, CardIssue)
    torn_at(card, 60)
    with pytest.raises(CardGone):
        await at.write(card, issue)
    looked = await at.look(card)
    assert looked.issue is not None
    state = looked.issue.state
    if state is IssueState.PENDING:  # the old is there: the same is written again
        assert isinstance(await at.write(card, issue), CardIssue)
    assert (await at.issue(issue)).state is IssueState.ISSUED
    assert await held(at, card) == card_meter.DONE
    assert at.shop.credited() == [5000]


async def test_a_card_that_reads_back_as_something_else_is_not_issued(at: Counter) -> None:
    card, serial = await at.card()
    await at.shop.pay(5000)
    issue = await at.begin(serial, 5000)
    assert isinstance(issue, CardIssue)
    async with at.shop.database.transaction() as tx:
        record = await at.desk.record_of(tx, issue)
        other = replace(record, amount_fen=9999)
        seen = on_reader(at.unit.write(other), card, at.keys)
        assert isinstance(await at.desk.written(tx, issue.issue_id, seen), CardNo)
    assert (await at.issue(issue)).state is IssueState.PENDING


async def test_a_write_whose_read_back_was_lost_is_found_by_the_next_look(at: Counter) -> None:
    card, serial = await at.card()
    await at.shop.pay(5000)
    issue = await at.begin(serial, 5000)
    assert isinstance(issue, CardIssue)
    async with at.shop.database.transaction() as tx:
        record = await at.desk.record_of(tx, issue)
    on_reader(at.unit.write(record), card, at.keys)
    assert (await at.issue(issue)).state is IssueState.PENDING
    looked = await at.look(card)
    assert looked.issue is not None
    assert looked.issue.state is IssueState.ISSUED
    assert looked.issue.note == "found written"


async def test_the_nightly_count_lands_a_card_that_never_came_back(at: Counter) -> None:
    card, _, issue = await registered(at)
    assert await land_by_readings(at.shop.database, at.desk) == 0
    await held(at, card)
    await at.shop.read_once()
    assert await land_by_readings(at.shop.database, at.desk) == 1
    assert (await at.sale(issue)).state is SaleState.LANDED
    assert await at.shop.books() == (5000, 0, 0)
    assert await land_by_readings(at.shop.database, at.desk) == 0


async def test_a_purchase_from_elsewhere_is_not_taken_for_the_card(at: Counter) -> None:
    """The bare count would say landed; count and total together do not."""
    card, _, issue = await registered(at)
    meter = at.shop.meter()
    assert meter.purchase(777, meter.purchase_count + 1)
    await at.shop.read_once()
    assert await land_by_readings(at.shop.database, at.desk) == 0
    assert (await at.sale(issue)).state is SaleState.OPEN
    assert "is not 50.00 yuan" in str(await at.frozen())
    assert card


async def test_a_forged_write_back_lands_nothing(at: Counter) -> None:
    card, _, issue = await registered(at)
    at.slot.back_key = bytes(16)
    body = bytes(16) + at.read(card).serial
    at.slot.write_back_on(card, body, CardReason.DONE.value)
    assert (await at.look(card)).landed is None
    assert (await at.sale(issue)).state is SaleState.OPEN


async def test_strangers_cards_and_other_tenants_cards(at: Counter) -> None:
    card, serial, _ = await registered(at)
    other, other_serial = await at.card()
    looked = await at.look(other)
    assert looked.meter_id is None, "nobody's"
    no = await at.begin(other_serial, 100)
    assert isinstance(no, Rejected), "a sale is open"
    async with at.shop.database.transaction() as tx:
        await cards.end_card(tx, serial, "worn out", at.shop.clock.now())
        foreign = await at.desk.look(tx, at.read(card))
    assert foreign.no is not None
    assert foreign.no.why is CardWhy.REVOKED
    unknown = on_reader(at.unit.read(), other, at.keys)
    object.__setattr__(unknown, "serial", b"NOTINBKS")
    async with at.shop.database.transaction() as tx:
        assert (await at.desk.look(tx, unknown)).no is not None
