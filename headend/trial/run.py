"""`headend simulate`: seeds, mutations, one replay; the result as JSON on the last line."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from headend.trial.ground import Ground, ground_on
from headend.trial.mutations import MUTATIONS, SEEDS_TO_CATCH, USUAL, Arrangement
from headend.trial.road_counts import RoadCounts, summed
from headend.trial.seed import Verdict, run_seed
from headend.trial.server import own_database, throw_away_server
from protocols.catalog import load_meter_types

SAID_EVERY = 100  # seeds between two lines of progress

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a campaign."""

    seeds: int
    broken: int
    faults: int
    crashes: int
    seconds: float
    first_broken: Verdict | None = None
    roads: Mapping[str, RoadCounts] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "seeds": self.seeds,
            "broken": self.broken,
            "faults": self.faults,
            "crashes": self.crashes,
            "seconds": self.seconds,
            "roads": {name: asdict(counts) for name, counts in self.roads.items()},
        }


def campaign(
    seeds: Iterable[int],
    ground: Ground,
    arrangement: Arrangement = USUAL,
    *,
    stop_when_broken: bool = False,
    say: Say = lambda _: None,
) -> Result:
    """Live through these seeds."""
    meter_types = load_meter_types()
    began = time.perf_counter()
    done = broken = faults = crashes = 0
    first: Verdict | None = None
    roads: dict[str, RoadCounts] = {}
    for seed in seeds:
        verdict = run_seed(seed, ground, meter_types, arrangement)
        done, faults, crashes = done + 1, faults + verdict.faults, crashes + verdict.crashes
        bad = bool(verdict.broken)
        roads = summed(roads, {n: replace(c, broken=int(bad)) for n, c in verdict.roads.items()})
        if bad:
            broken += 1
            first = first or verdict
            say(f"seed {seed}: {'; '.join(verdict.broken)}")
            if stop_when_broken:
                break
        if done % SAID_EVERY == 0:
            say(f"{done} seeds, {broken} broken, {done / (time.perf_counter() - began):.1f}/s")
    return Result(
        seeds=done,
        broken=broken,
        faults=faults,
        crashes=crashes,
        seconds=round(time.perf_counter() - began, 1),
        first_broken=first,
        roads=roads,
    )


@contextmanager
def broken_ground(server: str, ground: Ground, arrangement: Arrangement) -> Iterator[Ground]:
    """The usual ground, or one of its own for whoever takes rules out of the database."""
    if not arrangement.sql:
        yield ground
        return
    with own_database(server, broken=arrangement.sql) as conninfo, ground_on(conninfo) as other:
        yield other


def catch_all(
    server: str, ground: Ground, *, say: Say = lambda _: None
) -> tuple[list[str], list[str]]:
    """Switch each safety rule off by itself: (those the judge objected to, those it missed)."""
    caught: list[str] = []
    missed: list[str] = []
    for name, arrangement in MUTATIONS.items():
        with broken_ground(server, ground, arrangement) as stand:
            result = campaign(range(SEEDS_TO_CATCH), stand, arrangement, stop_when_broken=True)
        if result.first_broken is None:
            missed.append(name)
            say(f"{name}: missed in {result.seeds} seeds")
        else:
            caught.append(name)
            say(f"{name}: seed {result.first_broken.seed}: {result.first_broken.broken[0]}")
    return caught, missed


def replay(seed: int, ground: Ground, arrangement: Arrangement = USUAL) -> Verdict:
    """One seed with its history."""
    return run_seed(seed, ground, load_meter_types(), arrangement, with_history=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code. 0: nothing broken, or every mutation caught."""
    wanted = _parser().parse_args(argv)

    def say(text: str) -> None:
        if not wanted.json:
            _out(text)

    arrangement = MUTATIONS[wanted.mutation] if wanted.mutation else USUAL
    with ExitStack() as stack:
        server = stack.enter_context(throw_away_server())
        seeds = range(wanted.first, wanted.first + wanted.seeds)
        if wanted.seed is None and not wanted.mutations and wanted.jobs > 1:
            shares = importlib.import_module("headend.trial.shares")
            shared: Result = shares.shared_campaign(
                seeds, server, wanted.mutation, jobs=wanted.jobs, say=say
            )
            _out(json.dumps(shared.record()))
            return 1 if shared.broken else 0
        ground = stack.enter_context(ground_on(stack.enter_context(own_database(server))))
        if wanted.mutations:
            caught, missed = catch_all(server, ground, say=say)
            _out(json.dumps({"caught": caught, "missed": missed}))
            return 1 if missed else 0
        ground = stack.enter_context(broken_ground(server, ground, arrangement))
        if wanted.seed is not None:
            return _replayed(replay(wanted.seed, ground, arrangement))
        result = campaign(seeds, ground, arrangement, say=say)
        _out(json.dumps(result.record()))
        return 1 if result.broken else 0


def _replayed(verdict: Verdict) -> int:
    for line in verdict.history:
        _out(line)
    for sentence in verdict.broken:
        _out(f"broken: {sentence}")
    record = {
        "seeds": 1,
        "broken": int(bool(verdict.broken)),
        "faults": verdict.faults,
        "crashes": verdict.crashes,
        "seconds": round(verdict.virtual_s, 1),
        "roads": {name: asdict(counts) for name, counts in verdict.roads.items()},
    }
    _out(json.dumps(record))
    return 1 if verdict.broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="headend simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="replay this one and print its history")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--mutation", choices=sorted(MUTATIONS), help="switch this rule off")
    one.add_argument("--mutations", action="store_true", help="each rule off once; all caught?")
    parser.add_argument("--json", action="store_true", help="only the last line")
    return parser


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
