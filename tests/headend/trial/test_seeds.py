"""Seeds of bad days: none broken, each one history."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator

import pytest

from headend.store import queue
from headend.store.database import Transaction
from headend.trial.ground import Ground, ground_on
from headend.trial.run import campaign, replay
from headend.trial.server import own_database
from simulators import clockloop

# As many seeds as fit: a slow machine lives through fewer of them, never through none.
SECONDS = 30.0
SEEDS_MIN, SEEDS_MAX = 60, 400
REPLAYED = (1, 5, 7)


@pytest.fixture(scope="module")
def ground(server: str) -> Iterator[Ground]:
    with own_database(server) as conninfo, ground_on(conninfo) as ready:
        yield ready


def test_no_seed_breaks_an_invariant(ground: Ground) -> None:
    began, seed, crashes, faults = time.monotonic(), 0, 0, 0
    while seed < SEEDS_MIN or (seed < SEEDS_MAX and time.monotonic() - began < SECONDS):
        result = campaign([seed], ground)
        broken = result.first_broken
        assert broken is None, f"headend simulate --seed {seed}: {broken and broken.broken}"
        crashes, faults = crashes + result.crashes, faults + result.faults
        seed += 1
    assert crashes > seed, "a trial without deaths proves little"
    assert faults > 5 * seed, "nor one on good wires"


@pytest.mark.parametrize("seed", REPLAYED)
def test_a_seed_is_one_history(ground: Ground, seed: int) -> None:
    first, second = replay(seed, ground), replay(seed, ground)
    assert len(first.history) > 50
    assert first == second


# What waited when the seed was given up is only found by the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::RuntimeWarning")
def test_a_wait_for_the_wire_inside_a_transaction_is_a_broken_seed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait_for_a_wire(tx: Transaction, *_: object, **__: object) -> None:
        await asyncio.sleep(1.0)

    with monkeypatch.context() as patched:
        patched.setattr(queue, "recover", wait_for_a_wire)
        patched.setattr(clockloop, "FROZEN_WAIT_S_MAX", 0.2)
        verdict = replay(0, ground)
    assert verdict.broken == ("time is frozen: a transaction is open and no socket answers",)
    gc.collect()
    assert not replay(0, ground).broken, "the next seed stands on clean ground"
