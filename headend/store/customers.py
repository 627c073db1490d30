"""Customers and the accounts they have, one for each meter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from headend.domain.customers import Customer, Person
from headend.domain.ledger import AccountKind
from headend.store import accounts
from headend.store.accounts import Account
from headend.store.database import Row, Transaction

# The columns of customer_of_row().
CUSTOMER: Final[LiteralString] = (
    "customer_id, customer_no, customer.site_id, customer.name, phone, address,"
    " customer.opened_at, customer.closed_at"
)


async def add(
    tx: Transaction, site_id: int, person: Person, *, at: datetime, customer_no: str = ""
) -> Customer | None:
    """A new customer; None when the number is taken. Without a number: the next free one."""
    while True:
        number = customer_no or str(await tx.value("SELECT nextval('customer_number')"))
        row = await tx.row(
            f"""
            INSERT INTO customer (customer_no, site_id, name, phone, address, opened_at)
            VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (customer_no) DO NOTHING
            RETURNING {CUSTOMER}""",
            number,
            site_id,
            person.name,
            person.phone,
            person.address,
            at,
        )
        if row is not None:
            return customer_of_row(row)
        if customer_no:
            return None


async def find(tx: Transaction, customer_no: str) -> Customer | None:
    """The customer of that number, closed or not."""
    row = await tx.row(f"SELECT {CUSTOMER} FROM customer WHERE customer_no = %s", customer_no)
    return customer_of_row(row) if row else None


async def get(tx: Transaction, customer_id: int) -> Customer | None:
    """The customer with that key."""
    row = await tx.row(f"SELECT {CUSTOMER} FROM customer WHERE customer_id = %s", customer_id)
    return customer_of_row(row) if row else None


async def lock(tx: Transaction, customer_no: str) -> None:
    """Nobody else changes this customer before the transaction ends."""
    await tx.execute("SELECT FROM customer WHERE customer_no = %s FOR NO KEY UPDATE", customer_no)


async def of_meter(tx: Transaction, meter_id: int) -> Customer | None:
    """Whose account on this meter is open now; None: nobody's, or nobody has said whose."""
    row = await tx.row(
        f"""
        SELECT {CUSTOMER} FROM customer JOIN account USING (customer_id)
        WHERE account.meter_id = %s AND account.closed_at IS NULL""",
        meter_id,
    )
    return customer_of_row(row) if row else None


async def change(tx: Transaction, customer: Customer, person: Person) -> bool:
    """Another name, telephone or address, on the open accounts too; False when nothing differs."""
    if customer.person == person:
        return False
    await tx.execute(
        "UPDATE customer SET name = %s, phone = %s, address = %s WHERE customer_id = %s",
        person.name,
        person.phone,
        person.address,
        customer.customer_id,
    )
    await tx.execute(
        "UPDATE account SET name = %s, contact = %s WHERE customer_id = %s AND closed_at IS NULL",
        person.name,
        person.phone,
        customer.customer_id,
    )
    return True


async def close_if_left(tx: Transaction, customer_id: int, at: datetime) -> bool:
    """End a customer who has no open account left; False while there is one."""
    touched = await tx.execute(
        """
        UPDATE customer SET closed_at = %(at)s WHERE customer_id = %(customer_id)s
            AND closed_at IS NULL AND NOT EXISTS (SELECT FROM account
                WHERE account.customer_id = %(customer_id)s AND account.closed_at IS NULL)""",
        named={"at": at, "customer_id": customer_id},
    )
    return touched == 1


async def give_account(
    tx: Transaction, customer: Customer, meter_id: int, *, at: datetime
) -> Account | None:
    """This customer's account on a meter, opened here; None when the meter has another customer's.

    An open account that nobody was named for yet becomes theirs, with what waits on it.
    """
    row = await tx.row(
        "SELECT account_id, customer_id FROM account"
        " WHERE meter_id = %s AND kind = 'customer' AND closed_at IS NULL FOR NO KEY UPDATE",
        meter_id,
    )
    if row is None:
        made = await accounts.open_account(
            tx,
            AccountKind.CUSTOMER,
            customer.person.name,
            at=at,
            contact=customer.person.phone,
            site_id=customer.site_id,
            meter_id=meter_id,
        )
        account_id = made.account_id
    elif row[1] in (None, customer.customer_id):
        account_id = row[0]
    else:
        return None
    await tx.execute(
        "UPDATE account SET customer_id = %s, name = %s, contact = %s WHERE account_id = %s",
        customer.customer_id,
        customer.person.name,
        customer.person.phone,
        account_id,
    )
    return await accounts.account(tx, account_id)


async def site_of_meter(tx: Transaction, meter_id: int) -> int | None:
    """The number of the site a meter is on."""
    found: int | None = await tx.value("SELECT site_id FROM meter WHERE meter_id = %s", meter_id)
    return found


async def site_account(tx: Transaction, kind: AccountKind, site_id: int, at: datetime) -> Account:
    """The account of a property for its fees, or for what it bears; opened at its first use."""
    assert kind in (AccountKind.FEE, AccountKind.PROPERTY)
    find_it: LiteralString = "SELECT account_id FROM account WHERE kind = %s AND site_id = %s"
    account_id = await tx.value(find_it, kind.value, site_id)
    if account_id is None:
        await tx.execute(
            "INSERT INTO account (kind, name, site_id, opened_at)"
            " SELECT %s, name, site_id, %s FROM site WHERE site_id = %s ON CONFLICT DO NOTHING",
            kind.value,
            at,
            site_id,
        )
        account_id = await tx.value(find_it, kind.value, site_id)
    found = await accounts.account(tx, account_id)
    assert found is not None, "just made"
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """One customer on one meter, from when to when."""

    account_id: int
    customer_no: str | None  # None: nobody was named
    name: str
    opened_at: datetime
    closed_at: datetime | None


async def tenancies(tx: Transaction, meter_id: int) -> Sequence[Tenancy]:
    """Who paid for a meter, the newest first."""
    rows = await tx.rows(
        """
        SELECT account_id, customer_no, account.name, account.opened_at, account.closed_at
        FROM account LEFT JOIN customer USING (customer_id)
        WHERE meter_id = %s AND kind = 'customer' ORDER BY account_id DESC""",
        meter_id,
    )
    return [
        Tenancy(
            account_id=row[0], customer_no=row[1], name=row[2], opened_at=row[3], closed_at=row[4]
        )
        for row in rows
    ]


def customer_of_row(row: Row) -> Customer:
    """A customer from the columns of CUSTOMER."""
    customer_id, customer_no, site_id, name, phone, address, opened_at, closed_at = row
    return Customer(
        customer_id=customer_id,
        customer_no=customer_no,
        site_id=site_id,
        person=Person(name=name, phone=phone, address=address),
        opened_at=opened_at,
        closed_at=closed_at,
    )
