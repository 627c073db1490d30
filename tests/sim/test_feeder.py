"""A master meter counts what its circuits count, and what is lost before them, whatever happens."""

from __future__ import annotations

import random

from simulators.feeder import feeder_meter
from simulators.load import Load
from simulators.metering import Forced, Meter
from tests.sim.helpers import START_MS, HandClock, meter

LOST_PERMILLE, CT = 130, 20
HOUR_MS = 3_600_000


def circuits_of(clock: HandClock) -> list[Meter]:
    return [meter(clock, Load(seed=seed, peak_w=4_000)) for seed in range(5)]


def test_it_moves_on_by_what_its_circuits_used_and_what_was_lost() -> None:
    for seed in range(20):
        chance, clock = random.Random(seed), HandClock()
        circuits = circuits_of(clock)
        master = feeder_meter(
            circuits, number="241000000001", seed=1, lost_permille=LOST_PERMILLE, ct=CT,
            now_ms=clock.now_ms,
        )  # fmt: skip
        # Looked at in any order and at any time, with circuits cut and restored in between.
        for _ in range(40):
            clock.at_ms += chance.randrange(HOUR_MS)
            one = chance.choice(circuits)
            what = chance.randrange(4)
            if what == 0:
                one.force(chance.choice((Forced.OPEN, Forced.RELEASED)))
            elif what == 1:
                one.look()
            elif what == 2:
                master.look()
        shown = master.look()
        used = sum(one.look().total_w_ms for one in circuits)
        assert used > 0
        # By rate each fraction is cut once.
        exact = used * (1000 + LOST_PERMILLE) / (1000 * CT)
        assert exact - len(shown.energy_w_ms) <= shown.total_w_ms <= exact
        assert shown.account.prepaid is False
        assert shown.relay_closed


def test_its_power_is_that_of_the_circuits_that_are_on() -> None:
    clock = HandClock(START_MS)
    circuits = circuits_of(clock)
    master = feeder_meter(
        circuits, number="241000000001", seed=1, lost_permille=0, ct=1, now_ms=clock.now_ms
    )
    alone = sum(sum(phase.power_w for phase in one.look().phases) for one in circuits)
    assert abs(sum(phase.power_w for phase in master.look().phases) - alone) < len(circuits)
    for one in circuits:
        one.force(Forced.OPEN)
    assert sum(phase.power_w for phase in master.look().phases) == 0
    before = master.look().total_w_ms
    clock.at_ms += HOUR_MS
    assert master.look().total_w_ms == before
