"""One seed from its first order to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headend.trial import network
from headend.trial.arrangement import USUAL, Arrangement, applied
from headend.trial.bookkeeping import Auditor, not_frozen, wrongly_named
from headend.trial.bulk_office import few_meters
from headend.trial.card_desk import open_counter
from headend.trial.crashes import NO_PAINS, Pains, Process, owned_task
from headend.trial.ground import Ground
from headend.trial.history import History, logs_into
from headend.trial.judge import FINAL, Books, Witness, judge, rates_hold
from headend.trial.judge_cards import judge_cards
from headend.trial.judge_lists import Lists, judge_lists, judge_settings
from headend.trial.people import People
from headend.trial.road_counts import RoadCounts, carried
from headend.trial.roads import on_virtual_time
from headend.trial.settings import Shown
from headend.trial.world import TrialMeter, World, instant_of
from protocols.meter_type import MeterType
from simulators import clockloop

# The bad day, then patience: within so much virtual time of calm every order must have ended. A
# top-up of a meter that cannot be reached waits for days; here every meter can be reached again.
DAY_S = 1_000.0
CALM_S_MAX = 12 * 3_600.0
LOOK_S = 60.0
# Whatever people still wait for then has no end: it breaks the seed instead of running for ever.
ENDS_S_MAX = 3 * CALM_S_MAX
# A killed program is started again by its supervisor after so long.
REBOOT_S_MAX = 6.0
# Besides dying between two steps, a process may be killed at any instant; mean time to that.
KILLED_AFTER_S_MEAN = 500.0
DIES_MID_AIR = 1 / 12  # of frames, where that is what a trial is about


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
    #: what each road of this seed carried
    roads: Mapping[str, RoadCounts] = field(default_factory=dict)


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
        if self.arrangement.dies_mid_air:
            self._pains = replace(self._pains, dies_after_frame=DIES_MID_AIR)
        self.process = self._new()

    def _new(self) -> Process:
        return Process(
            self.crashes,
            self.world,
            self.ground.sessions,
            self.meter_types,
            rules=self.arrangement.rules,
            pains=self._pains,
            opens_counter=open_counter,
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
    patches = (*on_virtual_time(seed), *arrangement.patches)
    with logs_into(history) as faults, few_meters(), applied(patches):
        try:
            verdict = network.run(_live(seed, ground, meter_types, arrangement, history))
            broken = [*verdict.broken, *(f"a fault of the head-end: {said}" for said in faults.met)]
            return replace(verdict, broken=tuple(broken))
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
        long_outages=arrangement.long_outages,
        has_bulk=arrangement.has_bulk,
        has_cards=arrangement.has_cards,
        clones_are_taken_back=arrangement.clones_are_taken_back,
        exchanges=arrangement.exchanges,
    )
    house = House(world, ground, meter_types, arrangement)
    await ground.remember_last_night(world)
    people = People(world, ground, house, meter_types)
    auditor = Auditor(world, ground, people, people.technician)
    alive = loop.create_task(house.keep_alive())
    disturbing = [loop.create_task(house.strike()), loop.create_task(people.watch())]
    broken: list[str] = []
    try:
        await _until(people.day(DAY_S), alive)
        for task in disturbing:
            task.cancel()
        world.calm_down()
        house.calm_down()
        people.cards.calm_down()
        async with asyncio.timeout(ENDS_S_MAX):
            await _until(_calm(people, ground), alive)
            await _until(auditor.audit(), alive)
        house.process.kill("the day is over")
        await house.process.bury()
        await auditor.verify()
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
    broken += _judged_otherwise(world, ground, people)
    broken += [*auditor.objections, *people.cards.objections]
    return Verdict(
        seed=seed,
        broken=tuple(broken),
        faults=world.faults,
        crashes=house.crashes,
        orders=len(people.promises),
        virtual_s=loop.time(),
        history=tuple(history.lines),
        roads=carried(world, ground.sessions.admin),
    )


def _judged_otherwise(world: World, ground: Ground, people: People) -> Iterator[str]:
    lists = Lists.read(ground.sessions.admin)
    shown = {meter.name: Shown.of(meter) for meter in world.meters.values()}
    yield from judge_settings(shown, lists.settings)
    yield from judge_lists(lists, people.office.promises)
    yield from wrongly_named(world, ground.names)
    yield from not_frozen(world, ground)
    yield from judge_cards(ground.sessions.admin)


def _witness(meter: TrialMeter) -> Witness:
    look = meter.meter.look()
    own = meter.own_purchases()
    return Witness(
        name=meter.name,
        own=tuple((taken.purchase_count, taken.amount_fen) for taken in own),
        foreign=bool(meter.foreign or meter.exchanged_at_ms),
        forced=look.forced,
        credit_after_sale_fen=own[-1].remaining_fen if own else 0,
        unexplained_fen=meter.meter.credited_fen
        - meter.credited_fen_first
        - sum(one.amount_fen for one in meter.meter.applied),
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
        await people.cards.round()
        await people.technician.round()
        open_orders = ground.sessions.admin.execute(
            "SELECT count(*) FROM command WHERE state <> ALL(%s)", (list(FINAL),)
        ).fetchone()
        quiet = people.office.has_ended and people.cards.has_ended
        if people.all_answered and open_orders == (0,) and quiet:
            return
