"""Tenants with cards in the trial: they walk every way, and the judge looks at what is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from headend.trial.arrangement import USUAL
from headend.trial.ground import Ground, ground_on
from headend.trial.judge_cards import judge_cards
from headend.trial.roads import CARD_METERS
from headend.trial.run import replay
from headend.trial.server import own_database

WITH_CARDS = replace(USUAL, has_cards=True)
# Seeds are lived through, none of them broken, until every way was walked. Which seed walks which
# moves with the code; when this was written the first five walked all of them.
SEEDS_MIN, SEEDS_MAX = 3, 40
# What tenants and their head-end are seen to do in them.
DONE = (
    "kind=opening state=issued",
    "kind=purchase state=issued",
    "kind=replacement state=issued",
    "landed_fen=",
    "wants it over the line: accepted",
    "wants his money back: accepted",
    "gives his card back: kind=",
    "holds a card that was lost to the meter: 1",
    "while it wrote a card",
)


@pytest.fixture(scope="module")
def ground(server: str) -> Iterator[Ground]:
    with own_database(server) as conninfo, ground_on(conninfo) as ready:
        yield ready


def test_tenants_walk_every_way_and_nothing_breaks(ground: Ground) -> None:
    left = set(DONE)
    for seed in range(SEEDS_MAX):
        verdict = replay(seed, ground, WITH_CARDS)
        assert not verdict.broken, f"seed {seed}: {verdict.broken}"
        seen = "\n".join(verdict.history)
        left = {one for one in left if one not in seen}
        if not left and seed + 1 >= SEEDS_MIN:
            return
    assert not left, f"in {SEEDS_MAX} seeds nobody was seen to do this"


def test_a_seed_with_cards_is_one_history(ground: Ground) -> None:
    assert replay(9, ground, WITH_CARDS) == replay(9, ground, WITH_CARDS)


def test_the_judge_sees_a_sale_that_stays_open_and_a_card_that_outlives_its_sale(
    ground: Ground,
) -> None:
    ground.sweep()
    assert list(judge_cards(ground.sessions.admin)) == []
    meter = ground.meter_ids[next(iter(CARD_METERS))]
    cashier = ground.operators["cashier"]
    for statement in (
        "SET session_replication_role = replica",
        "INSERT INTO sale (sale_id, meter_id, purchase_count, amount_fen, state, channel,"
        " opened_at, closed_at) VALUES"
        f" ('00000000-0000-0000-0000-000000000001', {meter}, 7, 100, 'open', 'card', now(), NULL),"
        f" ('00000000-0000-0000-0000-000000000002', {meter}, 6, 100, 'landed', 'card',"
        " now() - interval '1 hour', now())",
        "INSERT INTO card (serial, unit, made_at, made_by)"
        f" VALUES ('\\x0102030405060708', 'hanhe_rf', now(), {cashier})",
        "INSERT INTO card_issue (issue_id, serial, kind, state, meter_id, sale_id, purchase_count,"
        " amount_fen, key_version, issued_by, reason, begun_at, changed_at) VALUES"
        " ('00000000-0000-0000-0000-000000000003', '\\x0102030405060708', 'purchase', 'pending',"
        f" {meter}, '00000000-0000-0000-0000-000000000002', 6, 999, 1, {cashier}, '',"
        " now() - interval '1 minute', now())",
        "SET session_replication_role = origin",
    ):
        ground.sessions.admin.execute(statement.encode())
    found = " | ".join(judge_cards(ground.sessions.admin))
    assert "count 6 was given out with 2 different amounts" in found
    assert "under count 7 is still open" in found
    assert "is pending though its sale is landed" in found
    ground.sweep()
