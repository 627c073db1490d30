"""Customers over HTTP: found by anything, with their accounts, balances, debts and lines."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headend.domain.customers import (
    Customer,
    Person,
    is_address,
    is_customer_number,
    is_name,
    is_phone,
)
from headend.domain.problems import Problem
from headend.domain.roles import Caller
from headend.services.services import Services
from headend.store import accounts, customers, debts, desk_accounts, desk_days, desk_sessions
from headend.store import desk_guards as guards
from headend.store.database import Transaction
from headend.store.debts import Debt
from headend.store.desk_accounts import Held
from headend.web.api_ledger import line_record
from headend.web.auth import Seller, Viewer, meter_for
from headend.web.common import Asked, Words
from headend.web.edits import (
    AfterText,
    Limit,
    SeenVersion,
    cut,
    fingerprint,
    numbered,
    same,
    tag,
)

router = APIRouter(prefix="/api/v1", tags=["accounts"])

CustomerNo = Annotated[str, Path(max_length=24, examples=["10023"])]


class PersonWish(BaseModel):
    """How a customer is called and reached."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: Words = Field(examples=["Li Hua"])
    phone: Words = Field(default="", examples=["13800000000"])
    address: Words = Field(default="", examples=["building A, room 101"])

    def person(self) -> Person:
        """Raises Problem("bad-request") for what no page would take either."""
        for field, taken in (
            ("name: 1 to 80 characters", is_name(self.name)),
            ("phone: digits, and at most + - ( ) / # * between them", is_phone(self.phone)),
            ("address: at most 200 characters in one line", is_address(self.address)),
        ):
            if not taken:
                raise Problem("bad-request", detail=field)
        return Person(name=self.name, phone=self.phone, address=self.address)


class PayerWish(BaseModel):
    """What a cashier finds a meter by, where no customer has been named."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: Annotated[Words, Field(min_length=1, max_length=80)] = Field(examples=["Li Hua"])
    contact: Annotated[Words, Field(max_length=80)] = Field(default="", examples=["13800000000"])


def customer_record(customer: Customer, site: str) -> dict[str, Any]:
    """A customer for programs."""
    return {
        "customer_no": customer.customer_no,
        "site": site,
        **asdict(customer.person),
        "opened_at": customer.opened_at.isoformat(),
        "closed_at": _told(customer.closed_at),
    }


def debt_record(debt: Debt) -> dict[str, Any]:
    """A debt for programs."""
    return {
        "debt_id": str(debt.debt_id),
        "amount_fen": debt.amount_fen,
        "left_fen": debt.left_fen,
        "share_permille": debt.share_permille,
        "reason": debt.reason,
        "booked_at": debt.booked_at.isoformat(),
        "booked_by": debt.booked_by,
        "let_off_at": _told(debt.let_off_at),
        "let_off_reason": debt.let_off_reason,
    }


def _held_record(held: Held) -> dict[str, Any]:
    return {
        "meter": held.meter,
        "building": held.building,
        "room": held.room,
        "balance_fen": held.balance_fen,
        "reserved_fen": held.reserved_fen,
        "meter_credit_fen": held.credit_fen,
        "seen_at": _told(held.seen_at),
        "opened_at": held.opened_at.isoformat(),
        "closed_at": _told(held.closed_at),
    }


def _told(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


@router.get("/customers", summary="Customers by number")
async def listed(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    q: Annotated[Words, Query(description="in number, name, telephone, room or meter")] = "",
    after: AfterText = "",
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """`owed_fen`: what is left of all debts. Closed ones too."""
    async with services.database.transaction() as tx:
        found = await desk_accounts.listing(
            tx,
            viewer.operator.scope,
            text=q.strip(),
            after=after if is_customer_number(after) else "",
            limit=limit + 1,
        )
    last = found[limit - 1].customer_no if len(found) > limit else None
    return [
        {
            "customer_no": one.customer_no,
            "name": one.name,
            "phone": one.phone,
            "site": one.site,
            "meters": one.meters,
            "owed_fen": one.owed_fen,
            "closed_at": _told(one.closed_at),
        }
        for one in cut(request, response, found, last, limit)
    ]


@router.get("/customers/{customer_no}", summary="One customer, their accounts and debts")
async def one(
    services: Asked, viewer: Viewer, customer_no: CustomerNo, response: Response
) -> dict[str, Any]:
    """`accounts`: one a meter, those that are open first. The ETag is of name, telephone and
    address: what PUT wants back."""
    async with services.database.transaction() as tx:
        customer = await customer_for(tx, viewer, customer_no)
        held = await desk_accounts.held_by(tx, customer.customer_id, viewer.operator.scope)
        owed = await debts.of_customer(tx, customer.customer_id)
    tag(response, fingerprint(asdict(customer.person)))
    return customer_record(customer, _site_name(services, customer)) | {
        "accounts": [_held_record(account) for account in held],
        "debts": [debt_record(debt) for debt in owed],
    }


@router.put("/customers/{customer_no}", summary="Another name, telephone or address")
async def change(
    services: Asked,
    seller: Seller,
    customer_no: CustomerNo,
    wish: PersonWish,
    version: SeenVersion,
    response: Response,
) -> dict[str, Any]:
    """On the open accounts too. Only with the ETag of what is changed."""
    person = wish.person()
    async with services.database.transaction() as tx:
        customer = await customer_for(tx, seller, customer_no, lock=True)
        same(version, fingerprint(asdict(customer.person)))
        if await customers.change(tx, customer, person):
            await desk_sessions.tell(
                tx,
                "customer-changed",
                at=services.clock.now(),
                operator_id=seller.operator.operator_id,
                subject=f"{customer_no}: {customer.person.name} → {person.name}",
            )
        now = await customers.get(tx, customer.customer_id)
    assert now is not None, "a customer is never deleted"
    tag(response, fingerprint(asdict(now.person)))
    return customer_record(now, _site_name(services, now))


@router.get("/customers/{customer_no}/lines", summary="What was booked for a customer")
async def lines(
    request: Request,
    response: Response,
    services: Asked,
    viewer: Viewer,
    customer_no: CustomerNo,
    after: AfterText = "",
    limit: Limit = 100,
) -> list[dict[str, Any]]:
    """Rows of the books that touch their accounts, the newest first."""
    before = numbered(after) or None
    async with services.database.transaction() as tx:
        customer = await customer_for(tx, viewer, customer_no)
        held = await desk_accounts.held_by(tx, customer.customer_id, viewer.operator.scope)
        found = await desk_days.ledger_lines(
            tx,
            viewer.operator.scope,
            before=before,
            account_ids=[account.account_id for account in held],
            limit=limit + 1,
        )
    last = found[limit - 1].entry_no if len(found) > limit else None
    return [line_record(line) for line in cut(request, response, found, last, limit)]


@router.get("/meters/{meter}/customer", summary="Who pays for a meter")
async def payer(services: Asked, viewer: Viewer, meter: str, response: Response) -> dict[str, Any]:
    """`customer_no` is null where nobody has been named a customer yet."""
    number = meter_for(services, viewer, meter).known.meter_id
    async with services.database.transaction() as tx:
        record = await _payer(tx, services, number)
    tag(response, fingerprint(record))
    return {"meter": meter} | record


@router.put("/meters/{meter}/customer", summary="Name who pays for a meter")
async def name_payer(
    services: Asked,
    seller: Seller,
    meter: str,
    wish: PayerWish,
    version: SeenVersion,
    response: Response,
) -> dict[str, Any]:
    """Name and contact of its account: what it is found by. Only with its ETag."""
    number, at = meter_for(services, seller, meter).known.meter_id, services.clock.now()
    async with services.database.transaction() as tx:
        known = await accounts.customer_of_meter(tx, number, at)
        await accounts.lock(tx, known.account_id)
        same(version, fingerprint(await _payer(tx, services, number)))
        if known.closed_at is not None:
            raise Problem("account-closed", meter=meter, detail="")
        await guards.name_customer(tx, known.account_id, wish.name, wish.contact)
        await desk_sessions.tell(
            tx,
            "customer-changed",
            at=at,
            operator_id=seller.operator.operator_id,
            subject=f"{meter}: {known.name} → {wish.name}",
        )
        record = await _payer(tx, services, number)
    tag(response, fingerprint(record))
    return {"meter": meter} | record


async def _payer(tx: Transaction, services: Services, meter_id: int) -> dict[str, Any]:
    account = await accounts.customer_of_meter(tx, meter_id, services.clock.now())
    customer = await customers.of_meter(tx, meter_id)
    return {
        "customer_no": None if customer is None else customer.customer_no,
        "name": account.name,
        "contact": account.contact,
    }


async def customer_for(
    tx: Transaction, caller: Caller, customer_no: str, *, lock: bool = False
) -> Customer:
    """The customer of that number inside the caller's scope. Raises Problem("no-such-customer").

    `lock`: nobody else changes them before the transaction ends.
    """
    found = None
    if is_customer_number(customer_no):
        if lock:
            await customers.lock(tx, customer_no)
        found = await customers.find(tx, customer_no)
    scope = caller.operator.scope
    if found is None or not await desk_accounts.is_in_scope(tx, found.customer_id, scope):
        raise Problem("no-such-customer", detail=customer_no)
    return found


def _site_name(services: Services, customer: Customer) -> str:
    named = (s.name for s in services.lines.sites.values() if s.site_id == customer.site_id)
    return next(named, "")
