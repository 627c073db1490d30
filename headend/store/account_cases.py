"""Cases as stored: begun once by their id, moved on step by step, each step kept."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from headend.domain.cases import STEPS, Case, CaseKind, Step
from headend.store.database import Row, Transaction

# Notified with the id of a case that moved.
CASES_CHANGED = "account_cases"

_CASE: Final[LiteralString] = (
    "case_id, kind, step, meter_id, customer_id, to_customer_id, holds_sales, wish, facts, note,"
    " operator_id, approver_id, reason, began_at, changed_at"
)


async def begin(tx: Transaction, case: Case) -> None:
    """Keep a new case. The meter is locked and has no open one; the database refuses a second."""
    await tx.execute(
        f"""
        INSERT INTO account_case ({_CASE})
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        case.case_id,
        case.kind.value,
        case.step.value,
        case.meter_id,
        case.customer_id,
        case.to_customer_id,
        case.holds_sales,
        Jsonb(dict(case.wish)),
        Jsonb(dict(case.facts)),
        case.note,
        case.operator_id,
        case.approver_id,
        case.reason,
        case.began_at,
        case.changed_at,
    )


async def find(tx: Transaction, case_id: UUID, *, lock: bool = False) -> Case | None:
    """One case; `lock` holds it until the transaction ends."""
    row = await tx.row(
        f"SELECT {_CASE} FROM account_case WHERE case_id = %s" + (" FOR UPDATE" if lock else ""),
        case_id,
    )
    return _case(row) if row else None


async def open_of_meter(tx: Transaction, meter_id: int) -> Case | None:
    """The case of this meter that has not ended."""
    row = await tx.row(
        f"SELECT {_CASE} FROM account_case"
        " WHERE meter_id = %s AND step NOT IN ('done', 'cancelled')",
        meter_id,
    )
    return _case(row) if row else None


async def that_wait(tx: Transaction) -> list[Case]:
    """Every case that goes on by itself, the oldest first."""
    rows = await tx.rows(
        f"SELECT {_CASE} FROM account_case WHERE step IN ('look', 'ordered', 'sold')"
        " ORDER BY began_at"
    )
    return [_case(row) for row in rows]


async def move(
    tx: Transaction,
    case: Case,
    step: Step,
    *,
    at: datetime,
    note: str = "",
    facts: Mapping[str, Any] | None = None,
    wish: Mapping[str, Any] | None = None,
    holds_sales: bool | None = None,
    approver_id: int | None = None,
    to_customer_id: int | None = None,
) -> Case:
    """On to a step, or the same one with more facts or another note. What is None stays."""
    assert step is case.step or step in STEPS[case.kind].get(case.step, frozenset()), (
        f"{case.kind.value}: {case.step.value} is not followed by {step.value}"
    )
    row = await tx.row(
        f"""
        UPDATE account_case SET step = %(step)s, note = %(note)s, facts = facts || %(facts)s,
            wish = wish || %(wish)s, holds_sales = coalesce(%(holds)s, holds_sales),
            approver_id = coalesce(%(approver)s, approver_id),
            to_customer_id = coalesce(%(to)s, to_customer_id), changed_at = %(at)s
        WHERE case_id = %(case_id)s RETURNING {_CASE}""",
        named={
            "case_id": case.case_id,
            "step": step.value,
            "note": note,
            "facts": Jsonb(dict(facts or {})),
            "wish": Jsonb(dict(wish or {})),
            "holds": holds_sales,
            "approver": approver_id,
            "to": to_customer_id,
            "at": at,
        },
    )
    assert row is not None, "a case is never deleted"
    return _case(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEvent:
    """One step of a case, as it was kept then."""

    at: datetime
    step: Step
    note: str


async def events(tx: Transaction, case_id: UUID) -> list[CaseEvent]:
    """How a case went, oldest first."""
    rows = await tx.rows(
        "SELECT at, step, note FROM account_case_event WHERE case_id = %s ORDER BY event_id",
        case_id,
    )
    return [CaseEvent(at=at, step=Step(step), note=note) for at, step, note in rows]


async def listing(
    tx: Transaction,
    *,
    meter_ids: Collection[int] | None = None,
    customer_id: int | None = None,
    open_only: bool = False,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[Case]:
    """Cases of some meters or of a customer, the newest first; `before`: past that one."""
    rows = await tx.rows(
        f"""
        SELECT {_CASE} FROM account_case
        WHERE (%(meters)s::integer[] IS NULL OR meter_id = ANY(%(meters)s))
            AND (%(customer)s::integer IS NULL OR %(customer)s IN (customer_id, to_customer_id))
            AND (NOT %(open)s OR step NOT IN ('done', 'cancelled'))
            AND (%(at)s::timestamptz IS NULL OR (began_at, case_id) < (%(at)s, %(id)s::uuid))
        ORDER BY began_at DESC, case_id DESC LIMIT %(limit)s""",
        named={
            "meters": None if meter_ids is None else list(meter_ids),
            "customer": customer_id,
            "open": open_only,
            "at": None if before is None else before[0],
            "id": None if before is None else before[1],
            "limit": limit,
        },
    )
    return [_case(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """A photograph of a case, without its bytes."""

    photo_id: int
    case_id: UUID
    sha256: str
    media_type: str
    size_bytes: int
    title: str
    added_at: datetime
    added_by: str


async def add_photo(
    tx: Transaction,
    case_id: UUID,
    content: bytes,
    *,
    media_type: str,
    title: str,
    by: int,
    at: datetime,
) -> None:
    """Keep a photograph; the same bytes twice are one."""
    await tx.execute(
        """
        INSERT INTO case_photo (case_id, sha256, media_type, bytes, title, added_at, added_by)
        VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
        case_id,
        hashlib.sha256(content).digest(),
        media_type,
        content,
        title,
        at,
        by,
    )


async def photos(tx: Transaction, case_id: UUID) -> Sequence[Photo]:
    """What was photographed, oldest first."""
    rows = await tx.rows(
        """
        SELECT photo_id, case_id, encode(sha256, 'hex'), media_type, octet_length(bytes), title,
            added_at, operator.name
        FROM case_photo JOIN operator ON operator_id = added_by
        WHERE case_id = %s ORDER BY photo_id""",
        case_id,
    )
    return [
        Photo(
            photo_id=row[0],
            case_id=row[1],
            sha256=row[2],
            media_type=row[3],
            size_bytes=row[4],
            title=row[5],
            added_at=row[6],
            added_by=row[7],
        )
        for row in rows
    ]


async def photo(tx: Transaction, case_id: UUID, photo_id: int) -> tuple[str, bytes] | None:
    """Its type and its bytes."""
    row = await tx.row(
        "SELECT media_type, bytes FROM case_photo WHERE case_id = %s AND photo_id = %s",
        case_id,
        photo_id,
    )
    return (row[0], bytes(row[1])) if row else None


def _case(row: Row) -> Case:
    case_id, kind, step, meter_id, customer_id, to_customer_id, holds_sales, wish, facts = row[:9]
    note, operator_id, approver_id, reason, began_at, changed_at = row[9:]
    return Case(
        case_id=case_id,
        kind=CaseKind(kind),
        step=Step(step),
        meter_id=meter_id,
        customer_id=customer_id,
        to_customer_id=to_customer_id,
        holds_sales=holds_sales,
        wish=wish,
        facts=facts,
        note=note,
        operator_id=operator_id,
        approver_id=approver_id,
        reason=reason,
        began_at=began_at,
        changed_at=changed_at,
    )
