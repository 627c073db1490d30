"""Files of customers and accounts: what they are checked against, and many accounts at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from headend.domain.customers import Customer, Person
from headend.domain.roles import Scope
from headend.store.customers import CUSTOMER, customer_of_row
from headend.store.database import Row, Transaction
from headend.store.desk_accounts import IN_SCOPE

# A file that nobody said yes to is a list of names and telephones: it goes.
KEPT_FOR: Final = timedelta(days=1)

_METER_IN_SCOPE: Final[LiteralString] = """
    (%(sites)s::integer[] IS NULL OR meter.site_id = ANY(%(sites)s)
        OR room.building_id = ANY(%(buildings)s))"""
_HELD: Final[LiteralString] = """
    SELECT meter.name, meter.meter_id, meter.site_id, site.name, building.name, room.name,
        customer.customer_id, customer_no, customer.name, phone, customer.address
    FROM meter JOIN site ON site.site_id = meter.site_id
    LEFT JOIN room ON room.room_id = meter.room_id
    LEFT JOIN building ON building.building_id = room.building_id
    LEFT JOIN account ON account.meter_id = meter.meter_id AND account.kind = 'customer'
        AND account.closed_at IS NULL
    LEFT JOIN customer ON customer.customer_id = account.customer_id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hung:
    """A meter, where it stands and who pays for it now."""

    meter: str
    meter_id: int
    site_id: int
    site: str
    building: str
    room: str
    customer_id: int | None  # None: nobody was named
    customer_no: str
    person: Person


async def meters_named(tx: Transaction, names: Collection[str], scope: Scope) -> Mapping[str, Hung]:
    """Meters of these names inside a scope; one that is retired is not there."""
    rows = await tx.rows(
        f"{_HELD} WHERE meter.name = ANY(%(names)s) AND meter.retired_at IS NULL"
        f" AND {_METER_IN_SCOPE}",
        named={**scope.named(), "names": list(names)},
    )
    return {row[0]: _hung(row) for row in rows}


async def everything(tx: Transaction, scope: Scope) -> AsyncIterator[Hung]:
    """Every meter of a scope with who pays for it, by property, building, room and name."""
    async with tx.connection.cursor(name="accounts_file") as cursor:
        await cursor.execute(
            f"{_HELD} WHERE meter.retired_at IS NULL AND {_METER_IN_SCOPE}"
            " ORDER BY site.name, building.name, room.name, meter.name",
            scope.named(),
        )
        async for row in cursor:
            yield _hung(row)


async def customers_numbered(
    tx: Transaction, numbers: Collection[str], scope: Scope, *, lock: bool
) -> tuple[Mapping[str, Customer], frozenset[str]]:
    """Customers of these numbers inside a scope; and the numbers that somebody outside has.

    `lock`: they stay as they are until the transaction ends.
    """
    rows = await tx.rows(
        f"""
        SELECT {IN_SCOPE}, {CUSTOMER} FROM customer WHERE customer_no = ANY(%(numbers)s)
        ORDER BY customer_id"""
        + (" FOR NO KEY UPDATE" if lock else ""),
        named={**scope.named(), "numbers": list(numbers)},
    )
    found = [(row[0], customer_of_row(row[1:])) for row in rows]
    inside = {one.customer_no: one for is_inside, one in found if is_inside}
    return inside, frozenset(one.customer_no for is_inside, one in found if not is_inside)


async def busy(tx: Transaction, meter_ids: Collection[int]) -> frozenset[int]:
    """Which of these meters have work, a sale, an order or a freeze that has not ended."""
    rows = await tx.rows(
        """
        SELECT meter_id FROM account_case
            WHERE step NOT IN ('done', 'cancelled') AND meter_id = ANY(%(meters)s)
        UNION SELECT meter_id FROM sale WHERE state = 'open' AND meter_id = ANY(%(meters)s)
        UNION SELECT meter_id FROM command WHERE meter_id = ANY(%(meters)s)
            AND state IN ('queued', 'claimed', 'sent', 'unknown', 'escalated')
        UNION SELECT meter_id FROM sales_freeze
            WHERE thawed_at IS NULL AND meter_id = ANY(%(meters)s)""",
        named={"meters": list(meter_ids)},
    )
    return frozenset(row[0] for row in rows)


async def add_customers(
    tx: Transaction, wanted: Sequence[tuple[int, str, Person]], at: datetime
) -> list[Customer]:
    """New customers in the order of `wanted` (site, number or none, person).

    Their numbers are free: they were looked for under a lock; the database refuses one that is not.
    """
    numbers = await _numbers(tx, [number for _, number, _ in wanted])
    rows = await tx.rows(
        f"""
        INSERT INTO customer (customer_no, site_id, name, phone, address, opened_at)
        SELECT *, %s FROM unnest(%s::text[], %s::integer[], %s::text[], %s::text[], %s::text[])
        RETURNING {CUSTOMER}""",
        at,
        numbers,
        [site_id for site_id, _, _ in wanted],
        [person.name for _, _, person in wanted],
        [person.phone for _, _, person in wanted],
        [person.address for _, _, person in wanted],
    )
    made = {one.customer_no: one for one in map(customer_of_row, rows)}
    return [made[number] for number in numbers]


async def _numbers(tx: Transaction, wished: Sequence[str]) -> list[str]:
    """The wished numbers; where there is no wish, the next free one."""
    given = [number for number in wished if number]
    free: list[str] = []
    while (missing := len(wished) - len(given) - len(free)) > 0:
        rows = await tx.rows(
            """
            SELECT number FROM (SELECT nextval('customer_number')::text AS number
                FROM generate_series(1, %s)) AS next
            WHERE number <> ALL(%s) AND NOT EXISTS (SELECT FROM customer
                WHERE customer_no = number)""",
            missing,
            given,
        )
        free += [row[0] for row in rows]
    spare = iter(free)
    return [number or next(spare) for number in wished]


async def give_accounts(
    tx: Transaction, wanted: Sequence[tuple[Customer, int]], at: datetime
) -> Mapping[int, int]:
    """A customer's account on each meter, by meter: opened here, or the one nobody was named for.

    The meters are locked and nobody else's.
    """
    named = {
        "customers": [customer.customer_id for customer, _ in wanted],
        "meters": [meter_id for _, meter_id in wanted],
        "at": at,
    }
    await tx.execute(
        """
        UPDATE account SET customer_id = customer.customer_id, name = customer.name,
            contact = customer.phone
        FROM unnest(%(customers)s::integer[], %(meters)s::integer[])
            AS given (customer_id, meter_id)
        JOIN customer USING (customer_id)
        WHERE account.meter_id = given.meter_id AND kind = 'customer'
            AND account.closed_at IS NULL AND account.customer_id IS NULL""",
        named=named,
    )
    await tx.execute(
        """
        INSERT INTO account (kind, name, contact, site_id, meter_id, opened_at, customer_id)
        SELECT 'customer', customer.name, phone, site_id, given.meter_id, %(at)s, customer_id
        FROM unnest(%(customers)s::integer[], %(meters)s::integer[])
            AS given (customer_id, meter_id)
        JOIN customer USING (customer_id)
        WHERE NOT EXISTS (SELECT FROM account WHERE account.meter_id = given.meter_id
            AND kind = 'customer' AND account.closed_at IS NULL)""",
        named=named,
    )
    rows = await tx.rows(
        "SELECT meter_id, account_id FROM account WHERE meter_id = ANY(%(meters)s)"
        " AND kind = 'customer' AND closed_at IS NULL",
        named=named,
    )
    return dict(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file that somebody sent: what it did, once it was imported."""

    file_id: UUID
    name: str
    sha256: str
    sent_at: datetime
    content: bytes | None  # None: imported, and what was in it is dropped
    imported_at: datetime | None
    opened: int | None
    changed: int | None
    same: int | None


async def keep(
    tx: Transaction, file_id: UUID, name: str, content: bytes, *, by: int, at: datetime
) -> None:
    """Keep a file until its sender says yes; drops what nobody said yes to for a day."""
    await tx.execute(
        "DELETE FROM account_file WHERE imported_at IS NULL AND sent_at < %s", at - KEPT_FOR
    )
    await tx.execute(
        "INSERT INTO account_file (file_id, operator_id, name, sha256, sent_at, content)"
        " VALUES (%s, %s, %s, sha256(%s), %s, %s)",
        file_id,
        by,
        name,
        content,
        at,
        content,
    )


async def kept(tx: Transaction, file_id: UUID, *, by: int, lock: bool = False) -> KeptFile | None:
    """A file that this operator sent; `lock` holds it until the transaction ends."""
    row = await tx.row(
        "SELECT file_id, name, encode(sha256, 'hex'), sent_at, content, imported_at, opened,"
        " changed, same FROM account_file WHERE file_id = %s AND operator_id = %s"
        + (" FOR UPDATE" if lock else ""),
        file_id,
        by,
    )
    if row is None:
        return None
    return KeptFile(
        file_id=row[0],
        name=row[1],
        sha256=row[2],
        sent_at=row[3],
        content=None if row[4] is None else bytes(row[4]),
        imported_at=row[5],
        opened=row[6],
        changed=row[7],
        same=row[8],
    )


async def imported(
    tx: Transaction, file_id: UUID, *, at: datetime, opened: int, changed: int, same: int
) -> None:
    """What it did; its content is dropped."""
    await tx.execute(
        "UPDATE account_file SET content = NULL, imported_at = %s, opened = %s, changed = %s,"
        " same = %s WHERE file_id = %s",
        at,
        opened,
        changed,
        same,
        file_id,
    )


async def begin_cases(
    tx: Transaction,
    opened: Sequence[tuple[UUID, int, int, int]],
    *,
    by: int,
    at: datetime,
    reason: str,
) -> None:
    """The opening of each account as work that is done: (case, meter, customer, account).

    No money was taken, so that its page says what the desk's would.
    """
    await tx.execute_many(
        """
        INSERT INTO account_case (case_id, kind, step, meter_id, customer_id, holds_sales, wish,
            facts, operator_id, reason, began_at, changed_at)
        VALUES (%s, 'opening', 'done', %s, %s, false, %s, %s, %s, %s, %s, %s)""",
        [
            (
                case_id,
                meter_id,
                customer_id,
                Jsonb({"amount_fen": 0, "open_meter": False}),
                Jsonb({"fee_fen": 0, "paid_fen": 0, "account_id": account_id}),
                by,
                reason,
                at,
                at,
            )
            for case_id, meter_id, customer_id, account_id in opened
        ],
    )


def _hung(row: Row) -> Hung:
    return Hung(
        meter=row[0],
        meter_id=row[1],
        site_id=row[2],
        site=row[3],
        building=row[4] or "",
        room=row[5] or "",
        customer_id=row[6],
        customer_no=row[7] or "",
        person=Person(name=row[8] or "", phone=row[9] or "", address=row[10] or ""),
    )
