"""Several processes share one campaign, each on a database of its own: a seed keeps one core busy,
its own half the time and the server's the other half."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack

from headend.trial.ground import Ground, ground_on
from headend.trial.mutations import MUTATIONS, USUAL
from headend.trial.road_counts import summed
from headend.trial.run import Result, Say, broken_ground, campaign
from headend.trial.server import own_database

# Seeds that one process lives through before it tells how they went.
SEEDS_AT_ONCE = 20

_ground: Ground | None = None


def shared_campaign(
    seeds: Sequence[int], server: str, mutation: str | None, *, jobs: int, say: Say
) -> Result:
    """Live through these seeds in `jobs` processes. Each seed's history is the same as alone."""
    began = time.perf_counter()
    parts = [seeds[at : at + SEEDS_AT_ONCE] for at in range(0, len(seeds), SEEDS_AT_ONCE)]
    whole = Result(seeds=0, broken=0, faults=0, crashes=0, seconds=0.0)
    with ProcessPoolExecutor(
        min(jobs, max(1, len(parts))),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_settle,
        initargs=(server, mutation),
    ) as pool:
        for part, told in pool.map(_live_through, parts, [mutation] * len(parts)):
            for line in told:
                say(line)
            seconds = round(time.perf_counter() - began, 1)
            whole = Result(
                seeds=whole.seeds + part.seeds,
                broken=whole.broken + part.broken,
                faults=whole.faults + part.faults,
                crashes=whole.crashes + part.crashes,
                seconds=seconds,
                first_broken=whole.first_broken or part.first_broken,
                roads=summed(whole.roads, part.roads),
            )
            say(f"{whole.seeds} seeds, {whole.broken} broken, {whole.seeds / seconds:.1f}/s")
    return whole


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def _settle(server: str, mutation: str | None) -> None:
    global _ground  # noqa: PLW0603  one for each process, for as long as it lives
    stack = ExitStack()
    usual = stack.enter_context(ground_on(stack.enter_context(own_database(server))))
    arrangement = MUTATIONS[mutation] if mutation else USUAL
    _ground = stack.enter_context(broken_ground(server, usual, arrangement))
    atexit.register(stack.close)


def _live_through(seeds: Sequence[int], mutation: str | None) -> tuple[Result, list[str]]:
    assert _ground is not None, "settled before"
    told: list[str] = []
    arrangement = MUTATIONS[mutation] if mutation else USUAL
    return campaign(seeds, _ground, arrangement, say=told.append), told
