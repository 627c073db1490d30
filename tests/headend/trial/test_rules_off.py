"""Each safety rule is missed when it is off: the trial without it breaks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headend.trial.ground import Ground, ground_on
from headend.trial.mutations import CONTROLS, MUTATIONS
from headend.trial.run import broken_ground, campaign
from headend.trial.server import own_database

# Each mutation is caught far earlier; the first seeds that catch it move whenever the code does.
SEEDS_TO_CATCH = 150
# Where it takes long from the first seed on: near one that caught it when this was written.
BEGINS_AT = {
    "expiry": 58,
    "friendly_hours": 33,
    "unused": 30,
    "reissued_not_resold": 28,
    "quarantine": 18,
    "toggle_gap": 17,
    "in_flight_is_no_difference": 16,
    "canary": 15,
    "somebody_looks": 15,
    "stop": 14,
    "protection": 11,
    "an_exchange_begins_an_epoch": 10,
    "freeze": 9,
    "lost_is_burned": 7,
}
CONTROL_SEEDS = 15


@pytest.fixture(scope="module")
def ground(server: str) -> Iterator[Ground]:
    with own_database(server) as conninfo, ground_on(conninfo) as ready:
        yield ready


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_rule_that_is_off_is_missed(ground: Ground, server: str, name: str) -> None:
    with broken_ground(server, ground, MUTATIONS[name]) as stand:
        first = BEGINS_AT.get(name, 0)
        seeds = range(first, first + SEEDS_TO_CATCH)
        result = campaign(seeds, stand, MUTATIONS[name], stop_when_broken=True)
    assert result.broken, f"{name} was switched off and nobody noticed in {result.seeds} seeds"


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_a_rule_that_stands_alone_holds(ground: Ground, name: str) -> None:
    result = campaign(range(CONTROL_SEEDS), ground, CONTROLS[name], stop_when_broken=True)
    assert result.first_broken is None, f"without {name}'s twin: {result.first_broken}"
