"""One seed from its first order to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from headend.trial.crashes import NO_PAINS, Pains, Process, owned_task
from headend.trial.ground import Ground
from headend.trial.history import History, logs_into
from headend.trial.judge import FINAL, Books, Witness, judge, rates_hold
from headend.trial.mutations import USUAL, Arrangement
from headend.trial.people import People
from headend.trial.world import TrialMeter, World, instant_of
from protocols.meter_type import MeterType
from simulators import clockloop

# The bad day, then patience: within so much virtual time of calm every order must have ended. A
# top-up of a meter that cannot be reached waits for days; here every meter can be reached again.
DAY_S = 1_000.0
CALM_S_MAX = 12 * 3_600.0
LOOK_S = 60.0
# A killed program is started again by its supervisor after so long.
REBOOT_S_MAX = 6.0
# Besides dying between two steps, a process may be killed at any instant; mean time to that.
KILLED_AFTER_S_MEAN = 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one seed."""

    seed: int
    broken: tuple[str, ...]  # one sentence for each invariant that does not hold
    faults: int
    crashes: int
    orders: int
    virtual_s: float
    history: tuple[str, ...] = ()


@dataclass
class House:
    """Where the head-end runs: starts it again whenever it dies."""

    world: World
    ground: Ground
    meter_types: Mapping[str, MeterType]
    arrangement: Arrangement
    crashes: int = 0
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.world.seed} house")
        self._pains = Pains.drawn(self._chance)
        self.process = self._new()

    def _new(self) -> Process:
        return Process(
            self.crashes,
            self.world,
            self.ground.sessions,
            self.meter_types,
            rules=self.arrangement.rules,
            pains=self._pains,
        )

    async def keep_alive(self) -> None:
        """Boot, wait for its death, boot the next one; for ever."""
        while True:
            if await self.process.boot():
                await self.process.killed.wait()
            await self.process.bury()
            self.crashes += 1
            await asyncio.sleep(self._chance.uniform(0.5, REBOOT_S_MAX))
            self.process = self._new()

    async def strike(self) -> None:
        """Kill it at instants that nothing else decides; for ever."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / KILLED_AFTER_S_MEAN))
            self.process.kill("at some instant")

    def calm_down(self) -> None:
        """From now on nothing happens to it."""
        self._pains = NO_PAINS
        self.process.pains = NO_PAINS


def run_seed(
    seed: int,
    ground: Ground,
    meter_types: Mapping[str, MeterType],
    arrangement: Arrangement = USUAL,
    *,
    with_history: bool = False,
) -> Verdict:
    """Live through one seed on a swept ground. The same seed gives the same verdict."""
    ground.sweep()
    history = History(wanted=with_history)
    with logs_into(history):
        try:
            return clockloop.run(_live(seed, ground, meter_types, arrangement, history))
        except clockloop.SimTimeError as error:  # somebody waits for a wire inside a transaction
            ground.sessions.forget()
            return Verdict(
                seed=seed,
                broken=(str(error),),
                faults=0,
                crashes=0,
                orders=0,
                virtual_s=0.0,
                history=tuple(history.lines),
            )


async def _live(
    seed: int,
    ground: Ground,
    meter_types: Mapping[str, MeterType],
    arrangement: Arrangement,
    history: History,
) -> Verdict:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(owned_task)
    world = World(
        seed,
        history,
        only_writes_are_late=arrangement.only_writes_are_late,
        much_is_parked=arrangement.much_is_parked,
    )
    house = House(world, ground, meter_types, arrangement)
    await ground.remember_last_night(world)
    people = People(world, ground, house, meter_types)
    alive = loop.create_task(house.keep_alive())
    disturbing = [loop.create_task(house.strike()), loop.create_task(people.watch())]
    broken: list[str] = []
    try:
        await _until(people.day(DAY_S), alive)
        for task in disturbing:
            task.cancel()
        world.calm_down()
        house.calm_down()
        await _until(_calm(people, ground), alive)
        house.process.kill("the day is over")
        await house.process.bury()
    except Exception as error:  # of the head-end, or of what people were told: it ends the seed
        history.say("trial", f"{type(error).__name__}: {error}")
        broken.append(f"the head-end failed: {type(error).__name__}: {error}")
    for task in (alive, *disturbing):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
    witnesses = [_witness(meter) for meter in world.meters.values()]
    books = Books.read(ground.sessions.admin)
    broken += [*judge(witnesses, books, people.paid_fen), *rates_hold(books)]
    broken += people.broken_promises(ground.sessions.admin)
    return Verdict(
        seed=seed,
        broken=tuple(broken),
        faults=world.faults,
        crashes=house.crashes,
        orders=len(people.promises),
        virtual_s=loop.time(),
        history=tuple(history.lines),
    )


def _witness(meter: TrialMeter) -> Witness:
    look = meter.meter.look()
    own = meter.own_purchases()
    return Witness(
        name=meter.name,
        own=tuple((taken.purchase_count, taken.amount_fen) for taken in own),
        foreign=bool(meter.foreign),
        forced=look.forced,
        credit_after_sale_fen=own[-1].remaining_fen if own else 0,
        forced_log=tuple((instant_of(at_ms), forced) for at_ms, forced in meter.meter.forced_log),
    )


async def _until(work: Coroutine[Any, Any, None], alive: asyncio.Task[None]) -> None:
    """Do this work while the head-end is kept alive; a fault of the head-end ends it."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task, alive], return_when=asyncio.FIRST_COMPLETED)
    if alive.done():
        task.cancel()
        await alive
    await task


async def _calm(people: People, ground: Ground) -> None:
    """Until every order has ended, or patience has."""
    loop = asyncio.get_running_loop()
    patience_until_s = loop.time() + CALM_S_MAX
    while loop.time() < patience_until_s:
        await asyncio.sleep(LOOK_S)
        await people.decide_escalated()
        open_orders = ground.sessions.admin.execute(
            "SELECT count(*) FROM command WHERE state <> ALL(%s)", (list(FINAL),)
        ).fetchone()
        if people.all_answered and open_orders == (0,):
            return
