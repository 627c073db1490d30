"""Published prices on their way into the meters, from the first minute of their day on.

Each setting is an order of its own that goes out once and is read back; a meter holds the version
when all of them were proved. Five meters first, the others only once those hold it; too many that
refuse or give no proof stop the rest, and a person can stop it at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from headend.domain.clock import Clock
from headend.domain.commands import Accepted, CommandState
from headend.domain.tariff_meter import CannotHold, settings_for
from headend.domain.tariffs import Terms
from headend.services.orders import ConfigureOrder, Orders
from headend.store import commands, money_modes, tariff_places, tariff_pushes, tariffs
from headend.store.database import Database, Transaction
from headend.store.errors import DatabaseAway
from headend.store.money_modes import MeterPlace
from headend.store.tariff_pushes import Fate, NewItem, Push
from protocols.meter_type import MeterType, Write
from protocols.settings import Setting, from_record, to_record

log = logging.getLogger(__name__)

TARIFFS: Final = "tariffs"  # the channel on which the database tells of changes
LOOK_S: Final = 1.0  # a push at work
IDLE_LOOK_S: Final = 20.0  # nothing at work: whether a day has begun
CANARY: Final = 5
ON_THEIR_WAY_MAX: Final = 200
FAILED_PERMILLE_MAX: Final = 200
SAMPLE_MIN: Final = 5
assert SAMPLE_MIN <= CANARY

_STEP_OF: Final[Mapping[CommandState, str]] = {
    CommandState.QUEUED: "ordered",
    CommandState.CLAIMED: "ordered",
    CommandState.SENT: "ordered",
    CommandState.UNKNOWN: "unknown",
    CommandState.ESCALATED: "unknown",
    CommandState.CONFIRMED: "holds",
    CommandState.CANCELLED: "waiting",
    CommandState.REFUSED: "refused",
    CommandState.EXPIRED: "refused",
}
assert set(_STEP_OF) == set(CommandState)


def in_flight_max(holds: int) -> int:
    """How many may be on their way when so many hold it already; pure."""
    return CANARY if holds < CANARY else ON_THEIR_WAY_MAX


def why_stop(counts: Mapping[str, int]) -> str | None:
    """One sentence when the push must not go on by itself; pure."""
    bad = counts.get("refused", 0) + counts.get("unknown", 0)
    tried = bad + counts.get("holds", 0)
    if tried < SAMPLE_MIN or bad * 1000 <= FAILED_PERMILLE_MAX * tried:
        return None
    return f"{bad} of {tried} meters refused or gave no proof."


@dataclass(frozen=True, slots=True)
class Plan:
    """What one meter is told, or why it cannot be."""

    settings: tuple[Setting, ...]
    cannot: str = ""


def plan_for(
    terms: Terms, meter_type: MeterType | None, place: MeterPlace, *, tables: bool
) -> Plan:
    """The settings of one meter; pure."""
    writes: frozenset[Write] = frozenset() if meter_type is None else frozenset(meter_type.writes)
    try:
        found = settings_for(terms, writes, own_ledger=not place.platform, tables=tables)
    except CannotHold as why:
        return Plan((), str(why))
    if not found:
        return Plan((), "nothing is written into it: the platform bills it")
    return Plan(tuple(found))


class TariffPushes:
    """Runs every push of this head-end. One of several processes feeds a push at a time."""

    def __init__(
        self,
        database: Database,
        orders: Orders,
        clock: Clock,
        meter_types: Mapping[str, MeterType],
    ) -> None:
        self._database = database
        self._orders = orders
        self._clock = clock
        self._meter_types = meter_types

    async def run(self) -> None:
        """Follow all pushes until cancelled."""
        news = asyncio.Event()
        listening = asyncio.create_task(self._listen(news))
        try:
            await self._follow(news)
        finally:
            listening.cancel()

    async def _listen(self, news: asyncio.Event) -> None:
        async for _ in self._database.listen(TARIFFS):
            news.set()

    async def _follow(self, news: asyncio.Event) -> None:
        """Orders on their way are looked at each second; whom a tariff is for, when somebody has
        changed something, and now and then because days begin by themselves."""
        loop = asyncio.get_running_loop()
        looked_s = -IDLE_LOOK_S
        while True:
            take_in = news.is_set() or loop.time() - looked_s >= IDLE_LOOK_S
            if take_in:
                news.clear()
                looked_s = loop.time()
            try:
                await self.look(take_in=take_in)
                busy = await self._busy()
            except DatabaseAway:
                busy = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if busy else IDLE_LOOK_S):
                    await news.wait()

    async def look(self, *, take_in: bool = True) -> None:
        """One move of each push."""
        async with self._database.transaction() as tx:
            wanted = await tariff_pushes.in_force(tx, self._clock.now())
        for push_id in wanted:
            await self.step(push_id, take_in=take_in)

    async def _busy(self) -> bool:
        async with self._database.transaction() as tx:
            return await tariff_pushes.any_at_work(tx)

    async def step(self, push_id: UUID, *, take_in: bool = True) -> None:
        """Learn, take in meters whose day has begun, order the next few; one transaction."""
        async with self._database.transaction() as tx:
            push = await tariff_pushes.lock(tx, push_id)
            if push is None:
                return
            now = self._clock.now()
            await self._learn(tx, push, now)
            if push.state == "stopped":
                return
            taken = await self._take_in(tx, push, now) if take_in else 0
            await tariff_pushes.fail_followers(tx, push_id, now)
            counts = await tariff_pushes.counts(tx, push_id)
            if not counts:
                return
            if push.state == "waits" or taken:
                await tariff_pushes.to_state(tx, push_id, "runs", at=now, by=None)
            why = why_stop(counts)
            if why is not None and push.state == "runs":
                await tariff_pushes.to_state(tx, push_id, "stopped", at=now, by=None, why=why)
                return
            await self._feed(tx, push, counts, now)
            open_states = ("waiting", "ordered", "unknown")
            if not any(counts.get(state) for state in open_states):
                await tariff_pushes.to_state(tx, push_id, "done", at=now, by=None)

    async def _learn(self, tx: Transaction, push: Push, now: datetime) -> None:
        for fate in await tariff_pushes.fates(tx, push.push_id):
            state, step = self._next_of(fate)
            await tariff_pushes.move(
                tx, push.push_id, fate.meter_id, state, at=now, step=step, detail=fate.outcome
            )

    def _next_of(self, fate: Fate) -> tuple[str, int]:
        state = _STEP_OF[fate.state]
        if state != "holds":
            return state, fate.step
        step = fate.step + 1
        return ("holds" if step == fate.steps else "waiting"), step

    async def _take_in(self, tx: Transaction, push: Push, now: datetime) -> int:
        """Meters of this tariff whose site has reached the version's day join the push, and those
        that came back from another tariff are told anew; returns how many."""
        wanted = await tariff_places.meters_of_version(tx, push.tariff_id, push.version_id, now)
        known = await tariff_pushes.known_meters(tx, push.push_id)
        places = await money_modes.places(tx, wanted - known, now)
        version = await tariffs.version(tx, push.version_id)
        assert version is not None, "a push has its version"
        leaders: dict[int, int] = await tariff_pushes.leaders(tx, push.push_id)
        new: list[NewItem] = []
        for meter_id, place in places.items():
            leader = None if place.cabinet_id is None else leaders.get(place.cabinet_id)
            plan = plan_for(
                version.terms,
                self._meter_types.get(place.meter_type),
                place,
                tables=leader is None,
            )
            if place.cabinet_id is not None and leader is None and not plan.cannot:
                leaders[place.cabinet_id] = meter_id
            new.append(
                NewItem(
                    meter_id=meter_id,
                    settings=[to_record(setting) for setting in plan.settings],
                    leader_id=leader,
                    cannot=plan.cannot,
                )
            )
        await tariff_pushes.supersede(tx, push.push_id, wanted, now)
        if new:
            await tariff_pushes.add_items(tx, push.push_id, new, now)
        again = await tariff_pushes.tell_anew(tx, push.push_id, wanted & known, now)
        return len(new) + again

    async def _feed(
        self, tx: Transaction, push: Push, counts: Mapping[str, int], now: datetime
    ) -> None:
        on_their_way = counts.get("ordered", 0) + counts.get("unknown", 0)
        room = in_flight_max(counts.get("holds", 0)) - on_their_way
        if room <= 0:
            return
        for turn in await tariff_pushes.next_waiting(tx, push.push_id, room):
            command_id = uuid5(push.push_id, f"{turn.meter_id}/{turn.step}/{turn.tries}")
            answer = await self._orders.configure(
                tx,
                ConfigureOrder(
                    command_id=command_id,
                    meter_id=turn.meter_id,
                    setting=from_record(turn.setting),
                    operator_id=push.ordered_by,
                    approver_id=push.approved_by,
                    reason=f"prices from {push.valid_from.isoformat()} on",
                ),
            )
            if isinstance(answer, Accepted):
                await tariff_pushes.move(
                    tx, push.push_id, turn.meter_id, "ordered", at=now, step=turn.step,
                    command_id=command_id,
                )  # fmt: skip
            else:
                detail = f"{answer.why.value} {answer.detail}".strip()
                await tariff_pushes.move(
                    tx, push.push_id, turn.meter_id, "refused", at=now, step=turn.step,
                    detail=detail,
                )  # fmt: skip


async def stop(tx: Transaction, push_id: UUID, *, by: int, reason: str, at: datetime) -> bool:
    """Nothing more leaves: orders that still wait are taken back. False: it does not run."""
    push = await tariff_pushes.lock(tx, push_id)
    if push is None or push.state not in ("waits", "runs"):
        return False
    await tariff_pushes.to_state(tx, push_id, "stopped", at=at, by=by, why=reason)
    for command_id in await tariff_pushes.queued_commands(tx, push_id):
        await commands.move(
            tx, command_id, CommandState.QUEUED, CommandState.CANCELLED, at, outcome="stopped"
        )
    return True


async def go_on(tx: Transaction, push_id: UUID, *, by: int, at: datetime) -> bool:
    """Go on, and give those that refused another try. False: it is not stopped or done."""
    push = await tariff_pushes.lock(tx, push_id)
    if push is None or push.state not in ("stopped", "done"):
        return False
    await tariff_pushes.wait_again(tx, push_id, at)
    await tariff_pushes.to_state(tx, push_id, "runs", at=at, by=by)
    return True
