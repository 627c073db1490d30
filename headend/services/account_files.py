"""Customers and accounts from and to a file: read, checked against what is stored, imported whole.

A dry run and an import are the same check; with one mistake anywhere nothing is imported. A row
says how things shall be, so the same file given twice changes nothing the second time. No money
moves: an account that is opened by a file takes neither fee nor first credit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

from headend.domain.account_rows import PLACE, Mistake, Row, mistake, mistakes_inside
from headend.domain.customers import Customer, Person
from headend.domain.problems import Problem
from headend.domain.roles import Scope
from headend.services.account_sheets import Sheet
from headend.services.services import Services
from headend.store import account_files, customers, desk_sessions, sales
from headend.store.account_files import Hung
from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a file would do, row by row; with `mistakes` it does nothing."""

    mistakes: Sequence[Mistake]
    #: rows whose meter gets a customer: the row, its meter, who it is if they are there already
    openings: Sequence[tuple[Row, Hung, Customer | None]]
    #: customers who are there and get another name, telephone or address
    changes: Sequence[tuple[Row, Customer, Person]]
    same: int  # rows that say what is so already
    empty: int  # rows that nobody filled in


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an import did: accounts opened, customers changed, rows that were so already."""

    opened: int
    changed: int
    same: int


async def check(tx: Transaction, sheet: Sheet, scope: Scope, *, lock: bool = False) -> Plan:
    """What this file would do here and now. `lock`: and nothing of it changes meanwhile."""
    wrong = [*sheet.mistakes, *mistakes_inside(sheet.rows)]
    rows = [row for row in sheet.rows if row.get("meter")]
    meters = await account_files.meters_named(tx, {row.get("meter") for row in rows}, scope)
    if lock:
        await sales.lock_meters(tx, [one.meter_id for one in meters.values()])
        meters = await account_files.meters_named(tx, set(meters), scope)
    numbers = {row.get("customer_no") for row in rows}
    numbers |= {one.customer_no for one in meters.values()}
    known, taken = await account_files.customers_numbered(tx, numbers - {""}, scope, lock=lock)
    weighing = _Weighing(meters, known, taken)
    for row in rows:
        weighing.weigh(row)
    ids = [hung.meter_id for _, hung, _ in weighing.openings]
    busy = await account_files.busy(tx, ids)
    wrong += weighing.mistakes
    wrong += [
        mistake(row, "meter", "accounts-row-busy", meter=hung.meter)
        for row, hung, _ in weighing.openings
        if hung.meter_id in busy
    ]
    # Of one cell the first thing said counts.
    first = {(one.row, one.column): one for one in reversed(wrong)}
    return Plan(
        mistakes=sorted(first.values(), key=lambda one: (one.row, one.column)),
        openings=weighing.openings,
        changes=list(weighing.changes.values()),
        same=weighing.same,
        empty=weighing.empty,
    )


class _Weighing:
    """Row by row against what is stored."""

    def __init__(
        self, meters: Mapping[str, Hung], known: Mapping[str, Customer], taken: frozenset[str]
    ) -> None:
        self._meters = meters
        self._known = known
        self._taken = taken
        self._sites: dict[str, int] = {}  # of numbers that are given to somebody new
        self.mistakes: list[Mistake] = []
        self.openings: list[tuple[Row, Hung, Customer | None]] = []
        self.changes: dict[str, tuple[Row, Customer, Person]] = {}
        self.same = 0
        self.empty = 0

    def weigh(self, row: Row) -> None:
        """What this row asks for, or what is wrong with it."""
        hung = self._meters.get(row.get("meter"))
        if hung is None:
            self._wrong(row, "meter", "accounts-row-meter", meter=row.get("meter"))
            return
        stands = {"property": hung.site, "building": hung.building, "room": hung.room}
        for column in PLACE:
            if row.get(column) and row.get(column) != stands[column]:
                where = stands[column] or "–"
                self._wrong(row, column, "accounts-row-place", meter=hung.meter, detail=where)
        if row.says_nothing:
            self.empty += 1
        elif hung.customer_id is not None:
            self._of_somebody(row, hung)
        else:
            self._of_nobody(row, hung)

    def _of_somebody(self, row: Row, hung: Hung) -> None:
        number = row.get("customer_no")
        is_them = number == hung.customer_no or (not number and row.get("name") == hung.person.name)
        if not is_them:
            whose = f"{hung.customer_no} {hung.person.name}"
            self._wrong(row, "customer_no", "accounts-row-taken", meter=hung.meter, detail=whose)
            return
        self._person(row, self._known[hung.customer_no])

    def _of_nobody(self, row: Row, hung: Hung) -> None:
        number = row.get("customer_no")
        customer = self._known.get(number)
        if number in self._taken:
            self._wrong(row, "customer_no", "accounts-row-number-taken", detail=number)
        elif customer is None:
            if number and not row.get("name"):
                self._wrong(row, "name", "accounts-row-no-name")
            if number and self._sites.setdefault(number, hung.site_id) != hung.site_id:
                self._wrong(row, "customer_no", "accounts-row-elsewhere", detail=number)
            self.openings.append((row, hung, None))
        elif customer.closed_at is not None:
            self._wrong(row, "customer_no", "accounts-row-closed", detail=number)
        elif customer.site_id != hung.site_id:
            self._wrong(row, "customer_no", "accounts-row-elsewhere", detail=number)
        else:
            self.openings.append((row, hung, customer))
            self._person(row, customer, opens=True)

    def _person(self, row: Row, customer: Customer, *, opens: bool = False) -> None:
        person = row.person(customer.person)
        if person != customer.person:
            self.changes[customer.customer_no] = (row, customer, person)
        elif not opens:
            self.same += 1

    def _wrong(self, row: Row, column: str, code: str, **facts: object) -> None:
        self.mistakes.append(mistake(row, column, code, **facts))


async def dry_run(services: Services, sheet: Sheet, scope: Scope) -> Plan:
    """What an import of this file would do now; changes nothing."""
    async with services.database.transaction() as tx:
        return await check(tx, sheet, scope)


async def carry_out(
    tx: Transaction,
    services: Services,
    sheet: Sheet,
    scope: Scope,
    *,
    file_id: UUID,
    name: str,
    operator_id: int,
) -> Done:
    """Everything this file says, inside the caller's transaction.

    Raises Problem("accounts-file-rows") with the first mistake, when there is one.
    """
    plan = await check(tx, sheet, scope, lock=True)
    if plan.mistakes:
        first = plan.mistakes[0]
        raise Problem("accounts-file-rows", count=len(plan.mistakes), row=first.row)
    at = services.clock.now()
    for _, customer, person in plan.changes:
        await customers.change(tx, customer, person)
    given = await _customers_of(tx, services, plan)
    accounts = await account_files.give_accounts(
        tx, [(customer, hung.meter_id) for hung, customer in given], at
    )
    await account_files.begin_cases(
        tx,
        [
            (uuid5(file_id, hung.meter), hung.meter_id, one.customer_id, accounts[hung.meter_id])
            for hung, one in given
        ],
        by=operator_id,
        at=at,
        reason=name,
    )
    done = Done(opened=len(given), changed=len(plan.changes), same=plan.same)
    await desk_sessions.tell(
        tx,
        "accounts-imported",
        at=at,
        operator_id=operator_id,
        subject=f"{name} ({sheet.sha256[:16]}): +{done.opened} ~{done.changed} ={done.same}",
    )
    return done


async def _customers_of(
    tx: Transaction, services: Services, plan: Plan
) -> list[tuple[Hung, Customer]]:
    """Each opening with its customer: who is there, or a new one; one number is one customer."""
    wanted: list[tuple[int, str, Person]] = []
    place: dict[str | int, int] = {}
    for row, hung, customer in plan.openings:
        key: str | int = row.get("customer_no") or row.number
        if customer is None and key not in place:
            place[key] = len(wanted)
            wanted.append((hung.site_id, row.get("customer_no"), row.person()))
    made = await account_files.add_customers(tx, wanted, services.clock.now())
    return [
        (hung, customer or made[place[row.get("customer_no") or row.number]])
        for row, hung, customer in plan.openings
    ]
