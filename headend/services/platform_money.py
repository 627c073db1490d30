"""Money in the platform: paying in, light at once for who paid, warnings, and cuts at zero.

The meter keeps no account and trips by nothing of its own; so the rules of supply do it, with all
their protections, and only a few at a time without a person.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from headend.domain.alarms import AlarmKind
from headend.domain.books import Booked, BooksWhy, NotBooked
from headend.domain.bulk import Job
from headend.domain.charging import Point
from headend.domain.clock import Clock
from headend.domain.commands import CommandKind
from headend.domain.ledger import Transfer
from headend.domain.limits import TOGGLE_GAP, may_toggle_at
from headend.domain.rooms import LOW_BELOW_FEN
from headend.domain.supply import CutRules, MeterFacts, plan_cut
from headend.services import billing, books, bulk, settling
from headend.services.books import Wish
from headend.services.bulk import BulkWish
from headend.services.orders import ConfigureOrder, Orders, SwitchOrder
from headend.services.persons import same_person
from headend.store import (
    accounts,
    alarms,
    charges,
    commands,
    money_modes,
    platform_supply,
    sales,
    supply,
    switches,
)
from headend.store.commands import NewCommand
from headend.store.database import Database, Transaction
from headend.store.errors import DatabaseAway
from headend.store.platform_supply import Held
from protocols.settings import PrepaidSwitch

log = logging.getLogger(__name__)

LOOK_S: Final = 120.0
#: fen; a balance of nothing is cut, too
CUT_BELOW_FEN: Final = 1
# Nobody goes dark in the minute they are told.
WARNED_BEFORE: Final = timedelta(hours=1)
# Without a person: five, then the rest is a list that somebody has to approve.
CUTS_ALONE: Final = 5
CUTS_ALONE_IN: Final = timedelta(hours=1)
_REASON: Final = "the balance in the platform is used up"
_IDS: Final = UUID("52c6dcb7-3c4c-5f1c-8f5d-3f6a1a0f9d51")
ANCHOR_AGE_MAX: Final = timedelta(hours=24)
# What is used after it is nobody's, so it is taken for the purpose.
LAST_AGE_MAX: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Paid:
    """The money is in the balance; `restore_id`: light was ordered in the same transaction."""

    transfer: Transfer
    balance_fen: int
    restore_id: UUID | None


async def pay(tx: Transaction, wish: Wish, clock: Clock, *, meter_id: int) -> Paid | NotBooked:
    """Take money for a platform meter. Whoever sits in the dark and has credit again gets light.

    The same id twice is one payment. The caller has seen that its money is in the platform.
    """
    await sales.lock_meter(tx, meter_id)
    if not await money_modes.is_platform(tx, meter_id):
        return NotBooked(BooksWhy.WRONG_ACCOUNTS, "its money is in the meter")
    done = await books.payment(tx, wish, clock, meter_id=meter_id)
    if isinstance(done, NotBooked):
        return done
    customer = await accounts.customer_of_meter(tx, meter_id, clock.now())
    balance_fen = await accounts.available_fen(tx, customer.account_id)
    restore_id = uuid5(done.transfer.transfer_id, "restore")
    if done.repeated:
        known = await commands.find(tx, restore_id)
        return Paid(done.transfer, balance_fen, restore_id if known else None)
    lit = False
    if balance_fen >= CUT_BELOW_FEN:
        lit = await _light(tx, meter_id, done, restore_id, clock.now())
    return Paid(done.transfer, balance_fen, restore_id if lit else None)


async def _light(
    tx: Transaction,
    meter_id: int,
    paid: Booked,
    restore_id: UUID,
    at: datetime,
) -> bool:
    await settling.cancel_queued(tx, meter_id, {CommandKind.CUT}, at, "credit has arrived")
    if not await switches.is_dark(tx, meter_id):
        return False
    last = await switches.last_switch(tx, meter_id)
    return await commands.insert(
        tx,
        NewCommand(
            command_id=restore_id,
            meter_id=meter_id,
            kind=CommandKind.RESTORE,
            details={"payment_id": str(paid.transfer.transfer_id)},
            ordered_by=paid.transfer.operator_id,
            ordered_at=at,
            reason="credit has arrived",
            not_before=may_toggle_at(CommandKind.RESTORE, last, at, TOGGLE_GAP),
        ),
    )


async def keep_platform_supply(database: Database, orders: Orders, clock: Clock) -> None:
    """Warn and cut; runs until cancelled."""
    while True:
        try:
            async with database.transaction() as tx:
                await look(tx, orders, clock.now())
        except DatabaseAway:
            log.debug("the database has said so itself")
        await asyncio.sleep(LOOK_S)


async def look(tx: Transaction, orders: Orders, now: datetime) -> None:
    """Warn whoever has little, forget warnings that are over, cut whoever has nothing."""
    if not await platform_supply.one_look_at_a_time(tx):
        return
    held = await platform_supply.balances(tx, LOW_BELOW_FEN)
    low = [one for one in held if one.balance_fen < LOW_BELOW_FEN]
    await platform_supply.warned(tx, [o.meter_id for o in low if o.warned_at is None], now)
    over = [one for one in held if one.balance_fen >= LOW_BELOW_FEN]
    await platform_supply.warned(tx, [one.meter_id for one in over], None)
    due = [
        one
        for one in low
        if one.balance_fen < CUT_BELOW_FEN
        and one.warned_at is not None
        and one.warned_at <= now - WARNED_BEFORE
    ]
    await _cut(tx, orders, due, now)


async def _cut(tx: Transaction, orders: Orders, due: Sequence[Held], now: datetime) -> None:
    if not due:
        return
    by = {one.meter_id: one.set_by for one in due}
    facts = await supply.facts(tx, now, meter_ids=list(by))
    plan = plan_cut(facts, CutRules(cut_below_fen=CUT_BELOW_FEN), now)
    alone = CUTS_ALONE - await platform_supply.cuts_since(tx, _REASON, now - CUTS_ALONE_IN)
    if len(plan.switched) > alone:
        await _ask_a_person(tx, plan.switched, due, now)
        return
    given = [
        SwitchOrder(
            command_id=uuid5(_IDS, f"{meter.meter_id}/{now.isoformat()}"),
            meter_id=meter.meter_id,
            kind=CommandKind.CUT,
            operator_id=by[meter.meter_id],
            reason=_REASON,
            cut_below_fen=CUT_BELOW_FEN,
        )
        for meter in plan.switched
    ]
    if given:
        await orders.switch_many(tx, given)


async def _ask_a_person(
    tx: Transaction, meters: Sequence[MeterFacts], due: Sequence[Held], now: datetime
) -> None:
    """Too many at once may be a wrong price: a bulk job for each property, planned and not begun;
    one a day."""
    of = {one.meter_id: one for one in due}
    for site in sorted({meter.site for meter in meters}):
        here = [meter.meter_id for meter in meters if meter.site == site]
        job = await bulk.plan(
            tx,
            BulkWish(
                bulk_id=uuid5(_IDS, f"{site}/{now.date().isoformat()}"),
                action=CommandKind.CUT,
                by=of[here[0]].set_by,
                reason=_REASON,
                meter_ids=here,
                cut_below_fen=CUT_BELOW_FEN,
            ),
            now,
        )
        what = str(job.bulk_id) if isinstance(job, Job) else job.why.value
        detail = f"{site}: {len(here)} meters have used up their balance; bulk job {what} waits"
        await alarms.raise_alarm(tx, AlarmKind.PLATFORM_CUTS_WAIT, None, detail, now)


class ModeWhy:
    """Codes of why a mode was not changed."""

    SAME_PERSON = "same-person"
    SO_ALREADY = "mode-is-so"
    NOT_READ = "not-read-lately"
    MONEY_IN_METER = "money-in-meter"
    NO_LAST_READING = "mode-no-last-reading"
    REST_UNBILLED = "mode-rest-unbilled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeWish:
    """Money into the platform, or back into the meter."""

    meter_id: int
    platform: bool
    operator_id: int
    approver_id: int | None
    reason: str
    command_id: UUID  # of the order that turns the meter's own account off or on


async def _not_asked_for(tx: Transaction, wish: ModeWish) -> str:
    if await same_person(tx, wish.operator_id, wish.approver_id):
        return ModeWhy.SAME_PERSON
    if await money_modes.is_platform(tx, wish.meter_id) == wish.platform:
        return ModeWhy.SO_ALREADY
    return ""


async def set_mode(
    tx: Transaction, orders: Orders, wish: ModeWish, now: datetime
) -> tuple[str, str] | None:
    """None: done. Else a code and its detail; nothing changed.

    Billing begins with the newest reading, at most a day old. The meter's own account is turned
    off by an order that is read back; it must be empty, or its money would be lost sight of.
    Billing ends with the newest reading, at most LAST_AGE_MAX old: what was used since the last
    night is charged here, or the platform is not left.
    """
    await sales.lock_meter(tx, wish.meter_id)
    if why := await _not_asked_for(tx, wish):
        return why, ""
    anchor: Point | None = None
    day = None
    if wish.platform:
        anchor = await charges.last_point(tx, wish.meter_id)
        if anchor is None or not timedelta() <= now - anchor.at <= ANCHOR_AGE_MAX:
            return ModeWhy.NOT_READ, ""
        money = await money_modes.money_in_meter(tx, wish.meter_id)
        if money:
            return ModeWhy.MONEY_IN_METER, money
        day = await money_modes.day_ended_by(tx, wish.meter_id, anchor.at)
        # A day that was charged when the meter left is not opened again.
        day = max(day, await charges.last_day(tx, wish.meter_id) or day)
    else:
        last = await charges.last_point(tx, wish.meter_id)
        if last is None or not timedelta() <= now - last.at <= LAST_AGE_MAX:
            return ModeWhy.NO_LAST_READING, ""
        if why := await billing.bill_rest(tx, wish.meter_id, now):
            return ModeWhy.REST_UNBILLED, why
    await money_modes.set_mode(
        tx,
        wish.meter_id,
        anchor=anchor,
        anchor_day=day,
        at=now,
        by=wish.operator_id,
        approver=wish.approver_id,
        reason=wish.reason,
    )
    # Where the type has no such switch there is no account in the meter either.
    await orders.configure(
        tx,
        ConfigureOrder(
            command_id=wish.command_id,
            meter_id=wish.meter_id,
            setting=PrepaidSwitch(on=not wish.platform),
            operator_id=wish.operator_id,
            approver_id=wish.approver_id,
            reason=wish.reason,
        ),
    )
    return None
