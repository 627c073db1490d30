"""A month behind the demonstration: nights with named gaps, sales, cuts and restores, daily seals.

Everything goes through the ways of a real property (store/nights, store/sales, store/ledger, the
states of an order), day by day, each day sealed when it is over. It ends where the meters stand:
what was sold in it is what their own registers say more than a month ago.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from headend.cli.demo_past import DAYS, Evening, evenings, with_masters
from headend.domain.clock import Clock
from headend.domain.commands import CommandKind, CommandState
from headend.domain.customers import Customer, Person
from headend.domain.ledger import Operation
from headend.domain.nights import GapReason, NightWindow, night_window
from headend.domain.purchases import SaleState
from headend.domain.roles import Role
from headend.domain.tariffs import Hours, Rate, Season, Slot, Terms
from headend.services.seals import seal_day
from headend.store import (
    accounts,
    commands,
    customers,
    debts,
    demo_history,
    ledger,
    nights,
    people,
    sales,
    tariffs,
)
from headend.store.commands import NewCommand
from headend.store.database import Database, Transaction
from headend.store.demo_history import History, Stands
from headend.store.nights import Gap, Look
from headend.store.places import KnownSite
from protocols.reading import Origin, Quantity, Reading

REASON: Final = "history of the demonstration"
# Since how many nights what is broken on purpose has been broken.
BROKEN_NIGHTS: Final = 3
GAP_PERMILLE: Final = 6
BACK_FILLED_PERMILLE: Final = 600  # of those gaps
CUT_PERMILLE: Final = 60  # of those who buy on a day
REFUND_PERMILLE: Final = 15
# In Latin letters, as the town is: a machine without Chinese fonts shows them too.
SURNAMES: Final = (
    "Wang",
    "Li",
    "Zhang",
    "Liu",
    "Chen",
    "Yang",
    "Huang",
    "Zhao",
    "Wu",
    "Zhou",
    "Lin",
)
GIVEN: Final = ("wei", "fang", "min", "jing", "li", "qiang", "lei", "jun", "yang", "yong", "jie")
# 0.75 yuan by day, 0.35 at night, against the 0.60 that the meters hold.
OFFERED: Final = Terms(
    prices_x4={Rate.PEAK: 7_500, Rate.VALLEY: 3_500},
    seasons=(
        Season(1, 1, Hours((Slot(0, Rate.VALLEY), Slot(420, Rate.PEAK), Slot(1320, Rate.VALLEY)))),
    ),
)
S = CommandState


@dataclass(frozen=True, slots=True)
class _Then:
    """The clock of a day that is over."""

    at: datetime

    def now(self) -> datetime:
        return self.at


@dataclass(frozen=True, slots=True, kw_only=True)
class _Month:
    """What the days are made of."""

    site: KnownSite
    chance: random.Random
    past: Sequence[tuple[Stands, Sequence[Evening]]]
    gaps: Mapping[str, str]  # meters that are broken on purpose: their reason
    cashiers: Sequence[int]
    manager: int
    last: date

    def at(self, day: date, clock: time) -> datetime:
        """An instant on the wall clock of the property."""
        zone: ZoneInfo = self.site.place.time_zone
        return datetime.combine(day, clock, zone).astimezone(UTC)

    def uuid(self) -> UUID:
        """An id by chance, but the same for the same property."""
        return UUID(int=self.chance.getrandbits(128), version=4)


async def lay_history(
    database: Database, clock: Clock, site: KnownSite, truth: Mapping[str, Any], seed: int
) -> History:
    """A month before tonight; nothing where books stand already."""
    now = clock.now()
    async with database.transaction() as tx:
        if await demo_history.has_books(tx):
            return await demo_history.counted(tx)
        month = await _month(tx, now, site, truth, seed)
        await _begin(tx, month)
    for n in range(DAYS):
        day = month.last - timedelta(days=DAYS - 1 - n)
        async with database.transaction() as tx:
            await _day(tx, month, n, day)
        over = _Then(month.at(day + timedelta(days=1), time(0, 1)))
        assert over.at <= now, "history is over"
        await seal_day(database, day, over)
    async with database.transaction() as tx:
        return await demo_history.counted(tx)


async def _month(
    tx: Transaction, now: datetime, site: KnownSite, truth: Mapping[str, Any], seed: int
) -> _Month:
    chance = random.Random(seed)
    last = now.astimezone(site.place.time_zone).date() - timedelta(days=1)
    while night_window(site.place, last).closes_at > now:
        last -= timedelta(days=1)
    operators = []
    for name, role in (
        ("demo cashier", Role.CASHIER),
        ("cashier", Role.CASHIER),
        ("demo manager", Role.MANAGER),
    ):
        made = await people.add_operator(tx, name, role, at=now - timedelta(days=DAYS + 1))
        found = made or await people.find_operator(tx, name)
        assert found is not None
        operators.append(found.operator_id)
    gaps = {one["name"]: one["gap"] for one in truth["meters"] if one["gap"] is not None}
    past = []
    for stands in await demo_history.stands(tx, site.site_id):
        if stands.meter in gaps:
            # Never read tonight: what it counted before is anybody's guess, and no money is known.
            stands = _guessed(chance, stands)  # noqa: PLW2901  # the same meter, with its guess
        past.append((stands, evenings(chance, stands, last)))
    return _Month(
        site=site,
        chance=chance,
        past=with_masters(past, truth),
        gaps=gaps,
        cashiers=operators[:2],
        manager=operators[2],
        last=last,
    )


def _guessed(chance: random.Random, stands: Stands) -> Stands:
    return Stands(
        meter_id=stands.meter_id,
        meter=stands.meter,
        site_id=stands.site_id,
        room=stands.room,
        energy_wh=chance.randrange(2_000_000, 6_000_000) // 10 * 10,
        volume_l=None,
        credit_fen=None,
        purchase_count=None,
        total_purchased_fen=None,
    )


async def _begin(tx: Transaction, month: _Month) -> None:
    """Customers for the rooms, the books of each meter where they begin, and a price to think
    about: what it would have cost is told from the month's readings."""
    at = month.at(month.last - timedelta(days=DAYS - 1), time(0, 5))
    made = await tariffs.add(tx, "Day and night", site_id=None, by=month.manager, at=at)
    if made is not None:
        await tariffs.keep_draft(
            tx, made.tariff_id, OFFERED, note=REASON, by=month.manager, at=at, edits=0
        )
    before: Customer | None = None
    for place, (stands, told) in enumerate(month.past):
        first = told[0]
        if first.purchase_count is not None and first.total_purchased_fen is not None:
            await demo_history.begins(
                tx,
                stands.meter_id,
                at=at,
                purchase_count=first.purchase_count,
                total_purchased_fen=first.total_purchased_fen,
            )
        if stands.room is None:
            continue
        # Now and then somebody pays for two meters.
        customer = before if place % 12 == 11 else None
        if customer is None:
            customer = await customers.add(tx, stands.site_id, _person(month, stands), at=at)
        assert customer is not None
        await customers.give_account(tx, customer, stands.meter_id, at=at)
        before = customer
        if place % 40 == 7:
            await _owes(tx, month, customer, at)


def _person(month: _Month, stands: Stands) -> Person:
    chance = month.chance
    given = "".join(chance.sample(GIVEN, chance.choice((1, 2))))
    name = f"{chance.choice(SURNAMES)} {given.capitalize()}"
    # Numbers that no network gives out begin like this one.
    return Person(name=name, phone=f"1380000{chance.randrange(10_000):04}", address="")


async def _owes(tx: Transaction, month: _Month, customer: Customer, at: datetime) -> None:
    await debts.book(
        tx,
        debt_id=month.uuid(),
        customer_id=customer.customer_id,
        site_id=customer.site_id,
        amount_fen=month.chance.randrange(20, 400) * 100,
        share_permille=0,  # what is sold tonight goes into the meters, all of it
        reason=REASON,
        by=month.manager,
        approver_id=None,
        at=at,
    )


async def _day(tx: Transaction, month: _Month, n: int, day: date) -> None:
    """What was sold, cut and restored on a day, then its night."""
    for stands, told in month.past:
        if told[n].sold_fen:
            await _sold(tx, month, stands, told[n], day)
    window = night_window(month.site.place, day)
    night_id = await nights.open_night(tx, month.site.site_id, window)
    looks, gaps, late = _night(month, n, night_id, window)
    await nights.save(tx, looks, gaps)
    await nights.close_nights(tx, month.site.site_id, window.closes_at)
    await nights.save(tx, late, [])
    if n:
        await nights.estimate_cells(tx, night_id - 1)


def _night(
    month: _Month, n: int, night_id: int, window: NightWindow
) -> tuple[list[Look], list[Gap], list[Look]]:
    """Readings, gaps with their reason, and readings that came after the night had closed."""
    chance = month.chance
    looks, gaps, late = [], [], []
    for stands, told in month.past:
        at = window.opens_at + timedelta(seconds=chance.randrange(120, 3_600))
        reason = None
        if stands.meter in month.gaps and n >= DAYS - BROKEN_NIGHTS:
            reason = GapReason(month.gaps[stands.meter])
        elif chance.randrange(1_000) < GAP_PERMILLE:
            reason = chance.choice((GapReason.METER_SILENT, GapReason.GARBLED))
        if reason is None:
            looks.append(_look(stands, told[n], chance, at, at))
            continue
        gaps.append(
            Gap(night_id=night_id, meter_id=stands.meter_id, reason=reason, detail=REASON, at=at)
        )
        if stands.meter not in month.gaps and chance.randrange(1_000) < BACK_FILLED_PERMILLE:
            after = window.closes_at + timedelta(seconds=chance.randrange(600, 20_000))
            late.append(_look(stands, told[n], chance, after, after))
    return looks, gaps, late


def _look(
    stands: Stands, told: Evening, chance: random.Random, at: datetime, received: datetime
) -> Look:
    values = {
        Quantity.ENERGY: told.energy_wh,
        Quantity.VOLUME: told.volume_l,
        Quantity.REMAINING_CREDIT: told.credit_fen,
        Quantity.PURCHASE_COUNT: told.purchase_count,
        Quantity.TOTAL_PURCHASED: told.total_purchased_fen,
    }
    if told.energy_wh is not None:
        values |= {
            Quantity.VOLTAGE_L1: chance.randrange(2_240, 2_360),
            Quantity.POWER: chance.randrange(20, 900),
        }
    return Look(
        reading=Reading(
            meter_id=stands.meter_id,
            at=at,
            received_at=received,
            origin=Origin.POLLED,
            values={quantity: value for quantity, value in values.items() if value is not None},
        )
    )


async def _sold(tx: Transaction, month: _Month, stands: Stands, told: Evening, day: date) -> None:
    """A payment, its sale and order, in the meter half a minute later; some had been cut."""
    chance = month.chance
    at = month.at(day, time(chance.randrange(8, 21), chance.randrange(60), chance.randrange(60)))
    cashier = month.cashiers[chance.randrange(2)]
    cut = chance.randrange(1_000) < CUT_PERMILLE
    if cut:
        before = month.at(day, time(0, chance.randrange(10, 59)))
        await _order(tx, month, stands, CommandKind.CUT, by=month.manager, at=before)
    till = await accounts.till_of(tx, cashier, at)
    customer = await accounts.customer_of_meter(tx, stands.meter_id, at)
    held = await accounts.account_of_meter(tx, stands.meter_id, at)
    paid = told.sold_fen
    if chance.randrange(1_000) < REFUND_PERMILLE:
        paid += 1_000
    await ledger.direct(
        tx, Operation.PAYMENT, transfer_id=month.uuid(), debit=till.account_id,
        credit=customer.account_id, amount_fen=paid, operator_id=cashier, at=at,
    )  # fmt: skip
    if paid > told.sold_fen:
        await ledger.direct(
            tx, Operation.REFUND, transfer_id=month.uuid(), debit=customer.account_id,
            credit=till.account_id, amount_fen=paid - told.sold_fen, operator_id=cashier,
            at=at + timedelta(minutes=2), reason=REASON,
        )  # fmt: skip
    command_id = await _topped_up(tx, month, stands, told, cashier=cashier, at=at,
                                  accounts_of=(customer.account_id, held.account_id))  # fmt: skip
    if cut:
        lit = at + timedelta(seconds=40)
        await _order(
            tx, month, stands, CommandKind.RESTORE, by=cashier, at=lit, cause_id=command_id
        )


async def _topped_up(
    tx: Transaction,
    month: _Month,
    stands: Stands,
    told: Evening,
    *,
    cashier: int,
    at: datetime,
    accounts_of: tuple[int, int],
) -> UUID:
    sale_id, command_id, transfer_id = month.uuid(), month.uuid(), month.uuid()
    landed = at + timedelta(seconds=month.chance.randrange(4, 30))
    assert told.purchase_count is not None
    await sales.open_sale(
        tx, sale_id=sale_id, meter_id=stands.meter_id, purchase_count=told.purchase_count,
        amount_fen=told.sold_fen, channel="remote", at=at,
    )  # fmt: skip
    new = NewCommand(
        command_id=command_id, meter_id=stands.meter_id, kind=CommandKind.TOP_UP,
        ordered_by=cashier, ordered_at=at, reason=REASON, amount_fen=told.sold_fen,
        purchase_count=told.purchase_count, sale_id=sale_id,
    )  # fmt: skip
    await commands.insert(tx, new)
    await ledger.pending(
        tx, transfer_id=transfer_id, debit=accounts_of[0], credit=accounts_of[1],
        amount_fen=told.sold_fen, operator_id=cashier, at=at, sale_id=sale_id,
        command_id=command_id,
    )  # fmt: skip
    await sales.copy_leaves(tx, sale_id)
    await _obeyed(tx, command_id, at, landed)
    await sales.close(tx, sale_id, SaleState.LANDED, landed)
    await ledger.post(tx, transfer_id, at=landed)
    return command_id


async def _order(
    tx: Transaction,
    month: _Month,
    stands: Stands,
    kind: CommandKind,
    *,
    by: int,
    at: datetime,
    cause_id: UUID | None = None,
) -> None:
    command_id = month.uuid()
    new = NewCommand(
        command_id=command_id, meter_id=stands.meter_id, kind=kind, ordered_by=by, ordered_at=at,
        reason=REASON, cause_id=cause_id,
    )  # fmt: skip
    await commands.insert(tx, new)
    await _obeyed(tx, command_id, at, at + timedelta(seconds=month.chance.randrange(1, 9)))


async def _obeyed(tx: Transaction, command_id: UUID, at: datetime, done: datetime) -> None:
    """Through its states to its end, inside one transaction: no sender ever sees it."""
    for move_from, move_to, when in (
        (S.QUEUED, S.CLAIMED, at),
        (S.CLAIMED, S.SENT, at),
        (S.SENT, S.CONFIRMED, done),
    ):
        await commands.move(tx, command_id, move_from, move_to, when, outcome=REASON)
