"""Looks every minute at everything an alarm may be about; raises what began, ends what is over.

One transaction reads and writes: an alarm that is raised has its event in the outbox, or neither
is there. A second head-end that looks too finds the same and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from headend.domain.alarms import (
    AlarmKind,
    AlarmRules,
    Finding,
    MeterLook,
    Turn,
    look_at_gateway,
    look_at_loss,
    look_at_meter,
)
from headend.domain.clock import Clock
from headend.services.restored_watch import look_after_restore
from headend.store import alarm_looks, alarms, reports
from headend.store.alarm_looks import KnownRules, Standing
from headend.store.database import Database, Transaction
from headend.store.errors import DatabaseAway

log = logging.getLogger(__name__)

WATCH_EVERY_S = 60.0
# A standing alarm is written again this often, so that its age of sight is known and a site with a
# thousand of them does not rewrite them each minute.
SEEN_EVERY = timedelta(hours=1)
# Nights change once a day, and by back-fills until noon.
LOSSES_EVERY = timedelta(minutes=15)
# A loss is of the last days: what was mended the day before yesterday is over.
LOSS_NIGHTS = 3


@dataclass(frozen=True, slots=True)
class _At:
    """A finding and its subject."""

    found: Finding
    meter_id: int | None = None
    gateway_id: int | None = None
    command_id: UUID | None = None

    @property
    def standing(self) -> Standing:
        return Standing(self.found.kind.value, self.meter_id, self.gateway_id, self.command_id)


@dataclass(frozen=True, slots=True)
class Watched:
    """What one look changed."""

    raised: int
    ended: int


async def watch(database: Database, clock: Clock) -> Watched:
    """One look at everything."""
    at = clock.now()
    raised = ended = 0
    async with database.transaction() as tx:
        standing = await alarm_looks.not_over(tx)
        meters = await alarm_looks.meter_looks(tx)
        gateways = await alarm_looks.gateway_looks(tx)
        unknowns = await alarm_looks.open_unknowns(tx)
        # Last: a site that came while we looked has its rules then too.
        rules = await alarm_looks.rules_of_sites(tx)
        findings = [*_meters(meters, rules, at), *_gateways(gateways, rules, at)]
        for one in findings:
            if one.found.turn is Turn.RISES:
                raised += await _raise(tx, one, at)
            elif one.found.turn is Turn.FALLS and one.standing in standing:
                ended += await _end(tx, one.standing, at)
        for gone in _retired(standing, findings):
            ended += await _end(tx, gone, at)
        for kind, current in (
            (AlarmKind.UNKNOWN_TOO_LONG, _unknowns(unknowns, rules, at)),
            (AlarmKind.GHOST_PURCHASE, await _ghosts(tx)),
        ):
            for one in current:
                raised += await _raise(tx, one, at)
            for gone in _others(kind, standing, current):
                ended += await _end(tx, gone, at)
    if raised or ended:
        log.info("alarms: %d raised, %d over", raised, ended)
    return Watched(raised, ended)


async def watch_losses(database: Database, clock: Clock) -> Watched:
    """Each master meter against its circuits over the last days that all of them were read.

    A meter that is master of nothing any more has no loss.
    """
    at = clock.now()
    # The night of a day is read after it: everywhere on earth the newest is of tomorrow at most.
    last = at.date() + timedelta(days=1)
    raised = ended = 0
    async with database.transaction() as tx:
        standing = await alarm_looks.not_over(tx)
        counted = await reports.masters(tx, last - timedelta(days=LOSS_NIGHTS), last)
        rules = await alarm_looks.rules_of_sites(tx)
        holding = []
        for one in counted:
            found = look_at_loss(one.master_wh, one.circuits_wh, rules[one.site_id].rules)
            here = _At(found, meter_id=one.meter_id)
            if found.turn is Turn.RISES:
                raised += await _raise(tx, here, at)
            if found.turn is not Turn.FALLS:
                holding.append(here)
        for gone in _others(AlarmKind.LOSS, standing, holding):
            ended += await _end(tx, gone, at)
    return Watched(raised, ended)


async def keep_alarms(database: Database, clock: Clock) -> None:
    """Look every minute, and every quarter of an hour for losses; runs until cancelled."""
    losses_at: datetime | None = None
    while True:
        with contextlib.suppress(DatabaseAway):  # the database has said so itself
            await watch(database, clock)
            await look_after_restore(database, clock)
            if losses_at is None or clock.now() - losses_at >= LOSSES_EVERY:
                losses_at = clock.now()
                await watch_losses(database, clock)
        await asyncio.sleep(WATCH_EVERY_S)


def _meters(
    looks: Sequence[tuple[int, int, MeterLook]], rules: dict[int, KnownRules], at: datetime
) -> list[_At]:
    return [
        _At(found, meter_id=meter_id)
        for meter_id, site_id, look in looks
        for found in look_at_meter(look, rules[site_id].rules, at)
    ]


def _gateways(
    looks: Sequence[tuple[int, int, datetime | None, datetime | None]],
    rules: dict[int, KnownRules],
    at: datetime,
) -> list[_At]:
    return [
        _At(
            look_at_gateway(
                down_since=down_since, up_since=up_since, rules=rules[site_id].rules, now=at
            ),
            gateway_id=gateway_id,
        )
        for gateway_id, site_id, down_since, up_since in looks
    ]


def _unknowns(
    looks: Sequence[tuple[UUID, int, int, datetime, str]],
    rules: dict[int, KnownRules],
    at: datetime,
) -> list[_At]:
    found = []
    for command_id, meter_id, site_id, since, state in looks:
        if _is_long(since, rules[site_id].rules, at):
            detail = f"its outcome is {state} since {since:%Y-%m-%d %H:%M} UTC"
            finding = Finding(AlarmKind.UNKNOWN_TOO_LONG, Turn.RISES, detail)
            found.append(_At(finding, meter_id=meter_id, command_id=command_id))
    return found


def _is_long(since: datetime, rules: AlarmRules, at: datetime) -> bool:
    return at - since > timedelta(minutes=rules.unknown_min)


async def _ghosts(tx: Transaction) -> list[_At]:
    return [
        _At(Finding(AlarmKind.GHOST_PURCHASE, Turn.RISES, detail), meter_id=meter_id)
        for meter_id, detail in (await alarm_looks.ghosts(tx)).items()
    ]


def _retired(standing: set[Standing], findings: list[_At]) -> Iterator[Standing]:
    """What stands about a meter or gateway that is not there any more: over."""
    looked_at = {one.standing for one in findings}
    watched = {one.found.kind.value for one in findings}
    for one in standing:
        if one.code in watched and one not in looked_at:
            yield one


def _others(kind: AlarmKind, standing: set[Standing], current: list[_At]) -> Iterator[Standing]:
    """What stands and is not among `current`: over."""
    still = {one.standing for one in current}
    for one in standing:
        if one.code == kind.value and one not in still:
            yield one


async def _raise(tx: Transaction, one: _At, at: datetime) -> bool:
    return await alarms.raise_alarm(
        tx,
        one.found.kind,
        one.meter_id,
        one.found.detail,
        at,
        gateway_id=one.gateway_id,
        command_id=one.command_id,
        seen_every=SEEN_EVERY,
    )


async def _end(tx: Transaction, one: Standing, at: datetime) -> bool:
    return await alarms.clear_alarm(
        tx,
        AlarmKind(one.code),
        one.meter_id,
        at,
        gateway_id=one.gateway_id,
        command_id=one.command_id,
    )
