"""What the database refuses whatever a program does, and the tables that say the same twice."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headend.domain.card_issues import TRANSITIONS, CardIssue, IssueState
from headend.domain.commands import CommandState
from headend.store import cards
from headend.store.database import Database
from headend.store.errors import DatabaseRefused
from protocols.card_image import CardKind
from simulators.cards import VirtualCard
from tests.headend.cards.counter import Counter, counter

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


# --- what the database refuses whatever a program does ---


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("amount_fen = 9999", "carries the count and amount"),
        ("purchase_count = 77", "carries the count and amount"),
        ("kind = 'clear'", "credit_on_a_card|a_bearer_card_has_an_end"),
        ("state = 'issued'", "it begins pending"),
        ("reason = ''", "what_is_not_everyday"),
        ("approved_by = issued_by", "one person"),
    ],
)
async def test_no_card_carries_something_else(at: Counter, change: str, constraint: str) -> None:
    _, _, issue = await registered(at)
    new, serial = await at.card()
    async with at.shop.database.transaction() as tx:
        await cards.end_card(tx, issue.serial, "lost", at.shop.clock.now())
        await cards.give_card(tx, serial, at.meter_id, at.shop.clock.now())
    column, value = change.split(" = ")
    columns = (
        "serial, kind, state, meter_id, sale_id, purchase_count, amount_fen, key_version, "
        "issued_by, approved_by, reason, begun_at, changed_at"
    )
    chosen = ", ".join(
        {"serial": "%s", "kind": "'replacement'", "state": "'pending'", "reason": "'lost'"}.get(
            name, name
        )
        if name != column
        else value
        for name in columns.split(", ")
    )
    with pytest.raises(DatabaseRefused, match=constraint):
        async with at.shop.database.transaction() as tx:
            await tx.execute(
                f"INSERT INTO card_issue (issue_id, {columns}) "
                f"SELECT gen_random_uuid(), {chosen} FROM card_issue WHERE issue_id = %s",
                serial,
                issue.issue_id,
            )
    assert new


async def test_a_sale_on_two_cards_is_never_reversed(at: Counter) -> None:
    _, _, issue = await registered(at)
    new, serial = await at.card()
    await at.write(new, await at.replaced(serial))
    with pytest.raises(DatabaseRefused, match=r"two_copies_is_burned|may_still_land"):
        async with at.shop.database.transaction() as tx:
            await tx.execute(
                "UPDATE sale SET copies_refused = copies_left, state = 'reversed',"
                " closed_at = now() WHERE sale_id = %s",
                issue.sale_id,
            )


async def test_states_of_issues_move_by_one_table(at: Counter) -> None:
    """The trigger of the migration and the table of the domain say the same."""
    async with at.shop.database.transaction() as tx:
        source = await tx.value("SELECT prosrc FROM pg_proc WHERE proname = 'card_issue_moves'")
    stored = set(re.findall(r"\('(\w+)', '(\w+)'\)", source))
    ours = {(a.value, b.value) for a, after in TRANSITIONS.items() for b in after}
    assert stored == ours


async def test_kinds_and_states_are_the_databases(at: Counter) -> None:
    async with at.shop.database.transaction() as tx:
        rows = await tx.rows(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname IN"
            " ('a_card_is_of_a_known_kind', 'an_issue_is_in_a_known_state')"
        )
    words = {word for (text,) in rows for word in re.findall(r"'(\w+)'", text)}
    assert words == {k.name.lower() for k in CardKind} | {s.value for s in IssueState}
