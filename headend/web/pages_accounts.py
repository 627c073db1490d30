"""Customers: found by anything, each with their meters, balances, debts, money and history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Request, Response

from headend.domain.cases import Case
from headend.domain.customers import (
    Customer,
    Person,
    is_address,
    is_customer_number,
    is_name,
    is_phone,
)
from headend.domain.problems import Problem
from headend.domain.roles import Permission
from headend.services.services import Services
from headend.store import (
    account_cases,
    customers,
    debts,
    desk_accounts,
    desk_days,
    desk_sessions,
)
from headend.store.database import Transaction
from headend.store.debts import Debt
from headend.store.desk_accounts import Held, Listed
from headend.store.desk_days import Line, Order
from headend.web import desk
from headend.web.common import Asked
from headend.web.desk import Form, PageProblem, Seller, Viewer, Visitor, who_may

router = APIRouter(include_in_schema=False)

Configurer = Annotated[Visitor, Depends(who_may(Permission.CONFIGURE))]

LISTED: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ListView:
    """Customers that match; `more`: from which number on there are others."""

    q: str
    found: Sequence[Listed]
    more: str
    open_cases: Sequence[tuple[Case, str]]
    sites: Sequence[str]


@router.get("/accounts")
async def listing(services: Asked, viewer: Viewer, q: str = "", after: str = "") -> Response:
    """By number; a search over number, name, telephone, room and meter."""
    async with services.database.transaction() as tx:
        found = list(
            await desk_accounts.listing(
                tx, viewer.scope, text=q.strip(), after=after, limit=LISTED + 1
            )
        )
        open_cases = await account_cases.listing(tx, open_only=True)
    more = found[LISTED - 1].customer_no if len(found) > LISTED else ""
    mine = []
    assert viewer.caller is not None
    for case in open_cases:
        meter = services.lines.by_id.get(case.meter_id)
        if meter is not None and viewer.caller.may_touch_meter(meter.known):
            mine.append((case, meter.known.name))
    sites = [
        name for name, site in services.lines.sites.items() if viewer.caller.may_touch(site.site_id)
    ]
    view = ListView(q=q, found=found[:LISTED], more=more, open_cases=mine, sites=sites)
    return desk.show("accounts.html", viewer, services, view)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """Everything about one customer on one page."""

    customer: Customer
    site: str
    held: Sequence[Held]
    debts: Sequence[Debt]
    money: Sequence[Line]
    orders: Sequence[Order]
    cases: Sequence[tuple[Case, str]]
    form: Form = field(default_factory=Form)
    debt_id: UUID = field(default_factory=uuid4)
    done: str = ""

    @property
    def owed_fen(self) -> int:
        """What is left of all debts."""
        return sum(debt.left_fen for debt in self.debts)

    @property
    def balance_fen(self) -> int:
        """What waits on all accounts."""
        return sum(one.balance_fen for one in self.held)


async def customer_for(tx: Transaction, visitor: Visitor, customer_no: str) -> Customer:
    """The customer of that number inside the visitor's scope; outside of it there is none."""
    found = await customers.find(tx, customer_no)
    if found is None or not await desk_accounts.is_in_scope(tx, found.customer_id, visitor.scope):
        raise PageProblem(visitor, Problem("no-such-customer", detail=customer_no))
    return found


@router.get("/accounts/{customer_no}")
async def page(services: Asked, viewer: Viewer, customer_no: str) -> Response:
    """The account page; a customer elsewhere does not exist."""
    return await shown(services, viewer, customer_no, Form())


async def shown(
    services: Services, visitor: Visitor, customer_no: str, form: Form, *, status: int = 200
) -> Response:
    """The account page with what is wrong beside its fields; for forms of other modules too."""
    async with services.database.transaction() as tx:
        customer = await customer_for(tx, visitor, customer_no)
        held = await desk_accounts.held_by(tx, customer.customer_id, visitor.scope)
        meters = {one.meter_id for one in held if one.closed_at is None}
        money = await desk_days.ledger_lines(
            tx, None, account_ids=[one.account_id for one in held], limit=LISTED
        )
        orders: list[Order] = []
        for meter_id in sorted(meters):
            orders += await desk_days.orders(tx, visitor.scope, meter_id=meter_id, limit=10)
        names = {one.meter_id: one.meter for one in held}
        cases = await account_cases.listing(tx, customer_id=customer.customer_id)
        view = AccountView(
            customer=customer,
            site=next(
                (s.name for s in services.lines.sites.values() if s.site_id == customer.site_id),
                "",
            ),
            held=held,
            debts=await debts.of_customer(tx, customer.customer_id),
            money=money,
            orders=sorted(orders, key=lambda one: one.ordered_at, reverse=True)[:20],
            cases=[(case, names.get(case.meter_id, "")) for case in cases],
            form=form,
        )
    return desk.show("account.html", visitor, services, view, status=status)


@router.post("/accounts/{customer_no}")
async def change(request: Request, services: Asked, seller: Seller, customer_no: str) -> Response:
    """Another name, telephone or address."""
    form = desk.form_of(await request.form())
    async with services.database.transaction() as tx:
        customer = await customer_for(tx, seller, customer_no)
    person = person_of(form, seller)
    if person is None:
        return await shown(services, seller, customer_no, form, status=422)
    async with services.database.transaction() as tx:
        if await customers.change(tx, customer, person):
            await desk_sessions.tell(
                tx,
                "customer-changed",
                at=services.clock.now(),
                operator_id=seller.operator_id,
                subject=f"{customer_no}: {customer.person.name} → {person.name}",
            )
    return desk.go(f"/accounts/{customer_no}")


def person_of(form: Form, visitor: Visitor) -> Person | None:
    """Name, telephone and address; None: the fields say what is wrong."""
    say = desk.gettext(visitor)
    if not is_name(form.get("name")):
        form.wrong("name", say("A name of 1 to 80 characters."))
    if not is_phone(form.get("phone")):
        form.wrong("phone", say("A telephone has digits, and at most + - ( ) / # * between them."))
    if not is_address(form.get("address")):
        form.wrong("address", say("At most 200 characters in one line."))
    if {"name", "phone", "address"} & form.errors.keys():
        return None
    return Person(name=form.get("name"), phone=form.get("phone"), address=form.get("address"))


def number_of(form: Form, visitor: Visitor) -> str:
    """A customer number, or none; the field says what is wrong."""
    number = form.get("customer_no")
    if number and not is_customer_number(number):
        say = desk.gettext(visitor)
        form.wrong("customer_no", say("Up to 24 letters, digits and dashes."))
    return number
