"""Accounts as the desk shows them: a customer with their meters, balances and what was seen last.

Everything is bounded by the scope of who looks; a customer none of whose meters is in it does not
exist for them, unless they have none at all and their property is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from headend.domain.roles import Scope
from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One of a customer's accounts: its meter, what waits and what the meter held last."""

    account_id: int
    meter_id: int
    meter: str
    building: str | None
    room: str | None
    balance_fen: int
    reserved_fen: int
    credit_fen: int | None
    seen_at: datetime | None
    opened_at: datetime
    closed_at: datetime | None


async def held_by(tx: Transaction, customer_id: int, scope: Scope) -> Sequence[Held]:
    """The accounts of a customer inside the scope, open ones first."""
    rows = await tx.rows(
        """
        SELECT account_id, meter_id, meter.name, building.name, room.name, posted_fen, reserved_fen,
            last.remaining_credit_fen, last.at, account.opened_at, account.closed_at
        FROM account JOIN account_balance USING (account_id) JOIN meter USING (meter_id)
        LEFT JOIN meter_last AS last USING (meter_id)
        LEFT JOIN room USING (room_id) LEFT JOIN building USING (building_id)
        WHERE customer_id = %(customer)s
            AND (%(sites)s::integer[] IS NULL OR meter.site_id = ANY(%(sites)s)
                OR room.building_id = ANY(%(buildings)s))
        ORDER BY account.closed_at IS NOT NULL, meter.name""",
        named=scope.named() | {"customer": customer_id},
    )
    return [
        Held(
            account_id=row[0],
            meter_id=row[1],
            meter=row[2],
            building=row[3],
            room=row[4],
            balance_fen=row[5],
            reserved_fen=row[6],
            credit_fen=row[7],
            seen_at=row[8],
            opened_at=row[9],
            closed_at=row[10],
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A customer in the list."""

    customer_no: str
    name: str
    phone: str
    site: str
    meters: int  # with an open account
    owed_fen: int
    closed_at: datetime | None


# Whose meters are all elsewhere is elsewhere too.
IN_SCOPE: Final[LiteralString] = """
    (%(sites)s::integer[] IS NULL OR customer.site_id = ANY(%(sites)s)
        OR EXISTS (SELECT FROM account JOIN meter USING (meter_id) JOIN room USING (room_id)
            WHERE account.customer_id = customer.customer_id
                AND room.building_id = ANY(%(buildings)s)))"""


async def is_in_scope(tx: Transaction, customer_id: int, scope: Scope) -> bool:
    """Whether a customer exists for somebody of this scope."""
    found: bool = await tx.value(
        f"SELECT EXISTS (SELECT FROM customer WHERE customer_id = %(customer)s AND {IN_SCOPE})",
        named=scope.named() | {"customer": customer_id},
    )
    return found


async def listing(
    tx: Transaction, scope: Scope, *, text: str = "", after: str = "", limit: int = 50
) -> Sequence[Listed]:
    """Customers by number: those whose number, name, telephone, room or meter has the text."""
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    rows = await tx.rows(
        f"""
        SELECT customer_no, customer.name, phone, site.name,
            (SELECT count(*) FROM account WHERE account.customer_id = customer.customer_id
                AND account.closed_at IS NULL),
            (SELECT coalesce(sum(left_fen), 0)::bigint FROM debt_left
                WHERE debt_left.customer_id = customer.customer_id),
            customer.closed_at
        FROM customer JOIN site USING (site_id)
        WHERE {IN_SCOPE} AND customer_no > %(after)s AND (%(text)s = '%%%%'
            OR customer_no ILIKE %(text)s OR customer.name ILIKE %(text)s OR phone ILIKE %(text)s
            OR EXISTS (SELECT FROM account JOIN meter USING (meter_id)
                LEFT JOIN room USING (room_id)
                WHERE account.customer_id = customer.customer_id AND account.closed_at IS NULL
                    AND (meter.name ILIKE %(text)s OR room.name ILIKE %(text)s)))
        ORDER BY customer_no LIMIT %(limit)s""",
        named=scope.named() | {"text": pattern, "after": after, "limit": limit},
    )
    return [
        Listed(
            customer_no=row[0],
            name=row[1],
            phone=row[2],
            site=row[3],
            meters=row[4],
            owed_fen=row[5],
            closed_at=row[6],
        )
        for row in rows
    ]
