"""The daily bill of meters whose money is in the platform: once for each meter and day.

All lines of one meter are one transaction under the lock of its row, so two workers take turns and
the second finds nothing to do; a crash leaves all of it or nothing.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from headend.domain.alarms import AlarmKind
from headend.domain.billing import (
    Booked,
    CannotBill,
    Day,
    Night,
    booked_of,
    days_between,
    difference,
    exact_fen_x5,
)
from headend.domain.books import BooksWhy, NotBooked, may_not_ask
from headend.domain.charging import FEN, Cost, Point, booked_fen, cost_of
from headend.domain.ledger import AMOUNT_FEN_MAX, Operation
from headend.domain.money import yuan
from headend.domain.tariffs import Book
from headend.services.books import asker
from headend.store import accounts, alarms, charges, ledger, money_modes, sales, tariff_places
from headend.store.charges import Charge
from headend.store.database import Transaction
from headend.store.money_modes import PlatformMeter

log = logging.getLogger(__name__)

_TRANSFERS: Final = UUID("0d0f7a3e-52a5-5c0c-a0bb-1f6f6d9f7f10")


async def bill_meter(tx: Transaction, meter_id: int, at: datetime) -> int:
    """Charge the days of one meter up to its newest reading, and correct split days that turned
    out different; returns how many lines were booked. Nothing where its money is in the meter."""
    await sales.lock_meter(tx, meter_id)
    meter = await money_modes.platform_meter(tx, meter_id)
    if meter is None:
        return 0
    ends = await charges.nights(tx, meter_id, meter.anchor_day)
    if not ends:
        return 0
    if len(ends) < charges.NIGHTS_MAX:
        ends = [Night(meter.anchor_day, meter.anchor), *ends]
    since = ends[0].day
    biller = _Biller(
        tx,
        meter,
        (await tariff_places.books_of(tx, [meter_id]))[meter_id],
        await charges.lines(tx, meter_id, since=since + timedelta(days=1)),
        at,
    )
    return await biller.bill(ends)


async def bill_rest(tx: Transaction, meter_id: int, at: datetime) -> str:
    """Charge what was used up to the newest reading too, where it ends no night: the last line of
    a meter that leaves the platform. Why it cannot be, in words; empty: all of it is charged."""
    await bill_meter(tx, meter_id, at)
    meter = await money_modes.platform_meter(tx, meter_id)
    last = await charges.last_point(tx, meter_id)
    if meter is None or last is None or meter.doubt:
        return "no reading" if meter is None or last is None else meter.doubt
    nights = await charges.nights(tx, meter_id, meter.anchor_day)
    before = nights[-1] if nights else Night(meter.anchor_day, meter.anchor)
    if last.at <= before.point.at or last.energy_wh == before.point.energy_wh:
        return ""
    today = last.at.astimezone(meter.zone).date()
    after = Night(max(today, before.day + timedelta(days=1)), last)
    book = (await tariff_places.books_of(tx, [meter_id]))[meter_id]
    await _Biller(tx, meter, book, [], at).bill([before, after])
    left = await money_modes.platform_meter(tx, meter_id)
    return "" if left is None else left.doubt


@dataclass(frozen=True, slots=True)
class _Line:
    """What is to be booked."""

    day: date
    kind: str
    cost: Cost
    energy_wh: int
    used_before_wh: int
    basis: str
    reason: str = ""
    source: Day | None = None


class _Biller:
    """One meter's lines in one transaction, under the lock of its row."""

    def __init__(
        self,
        tx: Transaction,
        meter: PlatformMeter,
        book: Book,
        known: Sequence[Charge],
        at: datetime,
    ) -> None:
        self._tx = tx
        self._meter = meter
        self._book = book
        self._at = at
        self._by_day: dict[date, list[Charge]] = {}
        for line in known:
            self._by_day.setdefault(line.day, []).append(line)
        self._booked = 0
        #: by the first day of each tier year: energy that corrections moved, and their last day
        self._moved: dict[date, tuple[int, Day]] = {}

    async def bill(self, ends: Sequence[Night]) -> int:
        for before, after in itertools.pairwise(ends):
            if not self._is_news(before, after):
                continue
            try:
                await self._bill_between(before, after)
            except CannotBill as why:
                await self._stuck(after.day, str(why))
                await self._reprice()
                return self._booked
        await self._reprice()
        await charges.billed_until(self._tx, self._meter.meter_id, ends[-1].day, ends[-1].point.at)
        await alarms.clear_alarm(self._tx, AlarmKind.BILLING_STUCK, self._meter.meter_id, self._at)
        return self._booked

    def _is_news(self, before: Night, after: Night) -> bool:
        """Whether the days between these two were never booked, or from readings further apart."""
        day = before.day + timedelta(days=1)
        while day <= after.day:
            lines = self._by_day.get(day, [])
            if not lines:
                return True
            first = min(lines, key=lambda line: line.seq)
            if first.kind == "split" and not _follows_from(lines, before, after):
                return True
            day += timedelta(days=1)
        return False

    async def _bill_between(self, before: Night, after: Night) -> None:
        number = self._meter.meter_id
        between: Sequence[Point] = ()
        if after.day - before.day == timedelta(days=1):
            between = await charges.points_between(
                self._tx, number, before.point.at, after.point.at
            )
        days = days_between(before, after, between, self._book, self._meter.zone)
        for day in days:
            await self._book_day(day)

    async def _book_day(self, day: Day) -> None:
        """The charge of a day, or the correction of what is booked."""
        lines = self._by_day.get(day.day, [])
        cost, used_wh = await self._cost(day)
        if not lines:
            kind = "split" if day.split else "reading"
            await self._add(_Line(day.day, kind, cost, day.energy_wh, used_wh, day.basis.value,
                                  source=day))  # fmt: skip
            return
        if _follows_from(lines, day.before, day.after):
            return
        booked = _booked(lines)
        await self._add(
            _Line(
                day.day,
                "correction",
                difference(cost, booked),
                day.energy_wh - booked.energy_wh,
                used_wh,
                day.basis.value,
                "a reading inside the gap has come",
                day,
            )
        )
        begins, _ = day.version.terms.year_of(day.day)
        moved_wh, _ = self._moved.get(begins, (0, day))
        self._moved[begins] = (moved_wh + day.energy_wh - booked.energy_wh, day)

    async def _cost(self, day: Day) -> tuple[Cost, int]:
        terms = day.version.terms
        begins, _ = terms.year_of(day.day)
        used_wh = await charges.used_wh(self._tx, self._meter.meter_id, begins, day.day)
        return cost_of(terms, day.by_rate_wh, used_before_wh=used_wh, days=1), used_wh

    async def _reprice(self) -> None:
        for moved_wh, last in self._moved.values():
            if moved_wh and last.version.terms.tiers:
                await self._reprice_after(last)

    async def _reprice_after(self, last: Day) -> None:
        """Energy went from one year of the tiers into another: the days that follow begin at
        another place of their tiers."""
        begins, ends = last.version.terms.year_of(last.day)
        for day in sorted(one for one in self._by_day if last.day < one < ends):
            lines = self._by_day[day]
            version = self._book.version_on(day)
            if version is None:
                continue
            booked = _booked(lines)
            used_wh = await charges.used_wh(self._tx, self._meter.meter_id, begins, day)
            tiers_only = cost_of(
                version.terms, {next(iter(version.terms.rates)): booked.energy_wh},
                used_before_wh=used_wh,
            )  # fmt: skip
            wanted = Cost(tuple(p for p in tiers_only.parts if p.what.startswith("tier")), 0)
            kept = {k: wh for k, wh in booked.parts.items() if k[0].startswith("tier")}
            change = difference(wanted, Booked(0, kept, 0))
            if change.parts:
                why = "the tiers of its year began elsewhere"
                await self._add(_Line(day, "correction", change, 0, used_wh, "one_price", why))

    async def _add(self, line: _Line) -> None:
        lines = self._by_day.setdefault(line.day, [])
        seq = max((one.seq for one in lines), default=-1) + 1
        lines.append(await _post(self._tx, self._meter, line, seq, self._at))
        self._booked += 1

    async def _stuck(self, day: date, why: str) -> None:
        detail = f"{day.isoformat()}: {why}"
        if await charges.doubt(self._tx, self._meter.meter_id, detail):
            await alarms.raise_alarm(
                self._tx, AlarmKind.BILLING_STUCK, self._meter.meter_id, detail, self._at
            )


def _follows_from(lines: Sequence[Charge], before: Night, after: Night) -> bool:
    """Whether the newest line that comes from readings comes from these two."""
    told = [line for line in lines if line.from_at is not None]
    newest = max(told, key=lambda line: line.seq)
    return (newest.from_at, newest.to_at) == (before.point.at, after.point.at)


def _booked(lines: Sequence[Charge]) -> Booked:
    return booked_of([(one.parts, one.fee_fen) for one in lines if one.kind != "decided"])


async def _post(
    tx: Transaction,
    meter: PlatformMeter,
    line: _Line,
    seq: int,
    at: datetime,
    *,
    operator_id: int | None = None,
    approver_id: int | None = None,
) -> Charge:
    """Whole fen into the books, the fraction carried on, and the line that says why."""
    carried = await charges.carry(tx, meter.meter_id)
    amount_fen, left = booked_fen(carried, line.cost.total_fen_x5)
    if abs(amount_fen) > AMOUNT_FEN_MAX:
        raise CannotBill(f"a day of {yuan(amount_fen)} yuan cannot be true")
    transfer_id: UUID | None = None
    if amount_fen:
        transfer_id = uuid5(_TRANSFERS, f"{meter.meter_id}/{line.day.isoformat()}/{seq}")
        customer = (await accounts.customer_of_meter(tx, meter.meter_id, at)).account_id
        site_id = await charges.site_of(tx, meter.meter_id)
        energy = await charges.energy_account(tx, site_id, at)
        owed = amount_fen > 0
        operation = Operation.CHARGE if owed else Operation.CHARGE_BACK
        await ledger.direct(
            tx,
            Operation.CORRECTION if line.kind == "decided" else operation,
            transfer_id=transfer_id,
            debit=customer if owed else energy,
            credit=energy if owed else customer,
            amount_fen=abs(amount_fen),
            operator_id=meter.set_by if operator_id is None else operator_id,
            approver_id=approver_id,
            reason=line.reason or f"energy of {line.day.isoformat()}",
            at=at,
        )
    source = line.source
    made = Charge(
        charge_id=0,
        day=line.day,
        seq=seq,
        kind=line.kind,
        from_at=source.before.point.at if source else None,
        from_wh=source.before.point.energy_wh if source else None,
        to_at=source.after.point.at if source else None,
        to_wh=source.after.point.energy_wh if source else None,
        energy_wh=line.energy_wh,
        used_before_wh=line.used_before_wh,
        version_id=source.version.version_id if source else None,
        basis=line.basis,
        parts=line.cost.parts,
        fee_fen=line.cost.fee_fen,
        cost_fen_x5=line.cost.total_fen_x5,
        carry_before_x5=carried,
        carry_after_x5=left,
        amount_fen=amount_fen,
        transfer_id=transfer_id,
        reason=line.reason,
        booked_at=at,
    )
    await charges.add(tx, meter.meter_id, made)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionWish:
    """A day is to cost so much more (above 0) or less (below 0), by a person's decision."""

    correction_id: UUID  # made by who wants it; the same id twice is one correction
    meter_id: int
    day: date
    amount_fen: int
    operator_id: int
    approver_id: int | None
    reason: str


async def correct(tx: Transaction, wish: CorrectionWish, at: datetime) -> Charge | NotBooked | None:
    """A named line more on a day that is charged; None: there is no such day."""
    await sales.lock_meter(tx, wish.meter_id)
    meter = await money_modes.platform_meter(tx, wish.meter_id)
    lines = await charges.lines(tx, wish.meter_id, since=wish.day, until=wish.day)
    if meter is None or not lines:
        return None
    marked = f"{wish.reason} ({wish.correction_id})"
    for one in lines:
        if one.kind == "decided" and one.reason == marked:
            same = one.cost_fen_x5 == exact_fen_x5(wish.amount_fen)
            return one if same else NotBooked(BooksWhy.ID_REUSED, str(wish.correction_id))
    by = await asker(tx, wish.operator_id)
    second = None if wish.approver_id is None else await asker(tx, wish.approver_id)
    refused = may_not_ask(Operation.CORRECTION, abs(wish.amount_fen), wish.reason, by, second)
    if refused is None and not wish.amount_fen:
        refused = NotBooked(BooksWhy.AMOUNT_OUT_OF_RANGE, "0.00 yuan")
    if refused is not None:
        return refused
    cost = Cost((), 0)
    fixed = _Decided(cost.parts, cost.fee_fen, exact_fen_x5(wish.amount_fen))
    line = _Line(wish.day, "decided", fixed, 0, 0, "decided", marked)
    seq = max(one.seq for one in lines) + 1
    return await _post(
        tx, meter, line, seq, at, operator_id=wish.operator_id, approver_id=wish.approver_id
    )


@dataclass(frozen=True, slots=True)
class _Decided(Cost):
    """A cost a person has named, with no energy behind it."""

    decided_fen_x5: int = 0

    @property
    def total_fen_x5(self) -> int:
        assert self.decided_fen_x5 % FEN == 0
        return self.decided_fen_x5
