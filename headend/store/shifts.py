"""Cashier shifts: float, what the till took meanwhile, the count, over or short."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

from headend.store.database import Row, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One cashier's drawer from the float to the count."""

    shift_id: UUID  # made by who opens it: the same id twice is one shift
    operator_id: int
    operator: str
    opened_at: datetime
    float_fen: int
    taken_fen: int | None  # payments less refunds, once closed
    counted_fen: int | None
    closed_at: datetime | None
    note: str

    @property
    def expected_fen(self) -> int | None:
        """What must lie in the drawer; None while the shift is open."""
        return None if self.taken_fen is None else self.float_fen + self.taken_fen

    @property
    def over_fen(self) -> int | None:
        """Above zero: more than there must be; below: short. None while it is open."""
        if self.counted_fen is None or self.expected_fen is None:
            return None
        return self.counted_fen - self.expected_fen


_SHIFT: Final[LiteralString] = """
    SELECT shift_id, operator_id, operator.name, opened_at, float_fen,
        till_opened_fen - till_closed_fen, counted_fen, closed_at, note
    FROM cashier_shift JOIN operator USING (operator_id)"""


async def current(tx: Transaction, operator_id: int) -> Shift | None:
    """The shift this cashier is in."""
    row = await tx.row(_SHIFT + " WHERE operator_id = %s AND closed_at IS NULL", operator_id)
    return _shift(row) if row else None


async def find(tx: Transaction, shift_id: UUID) -> Shift | None:
    """One shift."""
    row = await tx.row(_SHIFT + " WHERE shift_id = %s", shift_id)
    return _shift(row) if row else None


async def listing(
    tx: Transaction,
    operator_id: int | None,
    *,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 30,
) -> list[Shift]:
    """Shifts of one cashier or of all, the newest first; `before`: past that one."""
    rows = await tx.rows(
        _SHIFT
        + """
        WHERE (%(operator)s::integer IS NULL OR operator_id = %(operator)s)
            AND (%(at)s::timestamptz IS NULL OR (opened_at, shift_id) < (%(at)s, %(id)s::uuid))
        ORDER BY opened_at DESC, shift_id DESC LIMIT %(limit)s""",
        named={
            "operator": operator_id,
            "at": None if before is None else before[0],
            "id": None if before is None else before[1],
            "limit": limit,
        },
    )
    return [_shift(row) for row in rows]


async def begin(
    tx: Transaction,
    shift_id: UUID,
    operator_id: int,
    *,
    float_fen: int,
    till_fen: int,
    at: datetime,
) -> bool:
    """Open a shift; False when this cashier is in one already, or the id was used."""
    touched = await tx.execute(
        """
        INSERT INTO cashier_shift (shift_id, operator_id, opened_at, float_fen, till_opened_fen)
        VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
        shift_id,
        operator_id,
        at,
        float_fen,
        till_fen,
    )
    return touched == 1


async def end(
    tx: Transaction,
    shift_id: UUID,
    *,
    counted_fen: int,
    till_fen: int,
    note: str,
    at: datetime,
) -> bool:
    """Close a shift with what was counted; False when it is closed already."""
    touched = await tx.execute(
        """
        UPDATE cashier_shift SET closed_at = %s, counted_fen = %s, till_closed_fen = %s, note = %s
        WHERE shift_id = %s AND closed_at IS NULL""",
        at,
        counted_fen,
        till_fen,
        note,
        shift_id,
    )
    return touched == 1


def _shift(row: Row) -> Shift:
    shift_id, operator_id, operator, opened_at, float_fen, taken, counted, closed_at, note = row
    return Shift(
        shift_id=shift_id,
        operator_id=operator_id,
        operator=operator,
        opened_at=opened_at,
        float_fen=float_fen,
        taken_fen=taken,
        counted_fen=counted,
        closed_at=closed_at,
        note=note,
    )
