"""Meter against books, as statements: openings, what the books expect, and differences."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from headend.domain.reconciliation import DifferenceKind, Doubtful, Expected, Finding, Registers
from headend.store.database import Row, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Everything needed to judge one meter. Without a look or an opening nothing can be said."""

    meter_id: int
    meter: str
    site_id: int
    looked_at: datetime | None
    look: Registers | None
    expected: Expected | None
    #: what the books had credited up to the look, since they began: (count, fen)
    booked: tuple[int, int]
    epoch: int
    count_used: int | None  # the highest one that a sale of this epoch has used
    sale_is_open: bool

    @property
    def began_anew(self) -> bool:
        """Whether its registers are others than those the books knew: counts used before return."""
        shown = None if self.look is None else self.look.purchase_count
        return shown is not None and self.count_used is not None and shown < self.count_used


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference as stored, with its age and who looks after it."""

    difference_id: int
    meter_id: int
    meter: str
    kind: DifferenceKind
    ahead_count: int | None
    ahead_fen: int | None
    detail: str
    first_seen_at: datetime
    last_seen_at: datetime
    owner_id: int | None
    closed_at: datetime | None
    closed_by: int | None
    closed_reason: str | None


# One row for each meter with an account in the books. A sale counts as certain once it was posted
# (or burned) by the instant of the look. A correction is a person's word about what the meter has,
# whenever it was given, so it always counts.
_COMPARED = """
    SELECT meter.meter_id, meter.name, meter.site_id,
        meter_last.at, meter_last.purchase_count, meter_last.total_purchased_fen,
        opening.purchase_count, opening.total_purchased_fen,
        opening.booked_count, opening.booked_fen,
        posted.count + burned.count,
        posted.fen + corrected.fen,
        doubtful.sales,
        EXISTS (SELECT FROM command WHERE command.meter_id = meter.meter_id
            AND state = 'escalated' AND kind IN ('top_up', 'burn')),
        meter_epoch(meter.meter_id),
        (SELECT max(sale.purchase_count) FROM sale WHERE sale.meter_id = meter.meter_id
            AND sale.epoch = meter_epoch(meter.meter_id) AND state IN ('landed', 'burned')),
        EXISTS (SELECT FROM sale WHERE sale.meter_id = meter.meter_id AND state = 'open')
    FROM account JOIN meter USING (meter_id) LEFT JOIN meter_last USING (meter_id)
    LEFT JOIN LATERAL (
        SELECT purchase_count, total_purchased_fen, booked_count, booked_fen
        FROM meter_opening WHERE meter_opening.meter_id = meter.meter_id
        ORDER BY opening_id DESC LIMIT 1
    ) AS opening ON true
    CROSS JOIN LATERAL (
        SELECT count(*) AS count, coalesce(sum(amount_fen), 0)::bigint AS fen
        FROM transfer WHERE credit = account_id AND phase = 'post' AND at <= meter_last.at
    ) AS posted
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(CASE credit WHEN account_id THEN amount_fen ELSE -amount_fen END), 0)
            ::bigint AS fen
        FROM transfer WHERE (credit = account_id OR debit = account_id)
            AND phase = 'direct' AND operation = 'correction'
    ) AS corrected
    CROSS JOIN LATERAL (
        SELECT count(*) AS count FROM sale
        WHERE sale.meter_id = meter.meter_id AND state = 'burned' AND closed_at <= meter_last.at
    ) AS burned
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'amount_fen', amount_fen, 'state', state, 'burning', EXISTS (
                SELECT FROM command WHERE command.sale_id = sale.sale_id AND kind = 'burn')
            ) ORDER BY epoch, purchase_count), '[]') AS sales
        FROM sale
        WHERE sale.meter_id = meter.meter_id AND opened_at <= meter_last.at
            AND (state = 'open' OR (state <> 'reversed' AND closed_at > meter_last.at))
    ) AS doubtful
    WHERE account.kind = 'meter' AND meter.retired_at IS NULL
        AND (%(meter_id)s::integer IS NULL OR meter.meter_id = %(meter_id)s)
    ORDER BY meter.meter_id"""


async def compared(tx: Transaction, meter_id: int | None = None) -> list[Compared]:
    """Look and books of every meter in the books, or of one, all of one moment."""
    rows = await tx.rows(_COMPARED, named={"meter_id": meter_id})
    return [_compared(row) for row in rows]


def _compared(row: Row) -> Compared:
    meter_id, meter, site_id, looked_at, shown_count, shown_fen = row[:6]
    opening_count, opening_fen, before_count, before_fen, count, fen, sales, escalated = row[6:14]
    epoch, count_used, sale_is_open = row[14:]
    look = Registers(shown_count, shown_fen)
    opening = Registers(opening_count, opening_fen)
    expected = None
    if before_count is not None:
        expected = Expected(
            opening=opening,
            certain=Registers(
                None if opening_count is None else opening_count + count - before_count,
                None if opening_fen is None else opening_fen + fen - before_fen,
            ),
            doubtful=[_doubtful(sale) for sale in sales],
            escalated=escalated,
        )
    return Compared(
        meter_id=meter_id,
        meter=meter,
        site_id=site_id,
        looked_at=looked_at,
        look=None if look == Registers(None, None) else look,
        expected=expected,
        booked=(count, fen),
        epoch=epoch,
        count_used=count_used,
        sale_is_open=sale_is_open,
    )


def _doubtful(sale: dict[str, object]) -> Doubtful:
    amount_fen, state = sale["amount_fen"], sale["state"]
    assert isinstance(amount_fen, int)
    if state == "burned":
        return Doubtful((0,), is_open=False)
    both = state == "open" and sale["burning"]
    return Doubtful((amount_fen, 0) if both else (amount_fen,), is_open=state == "open")


async def begin_anew(
    tx: Transaction,
    seen: Compared,
    *,
    epoch: int,
    operator_id: int | None,
    approver_id: int | None,
    reason: str,
) -> None:
    """From now on the books of a meter count from what `seen` shows of it."""
    assert seen.look is not None
    await tx.execute(
        "INSERT INTO meter_opening (meter_id, opened_at, purchase_count, total_purchased_fen,"
        " booked_count, booked_fen, epoch, operator_id, approver_id, reason)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        seen.meter_id,
        seen.looked_at,
        seen.look.purchase_count,
        seen.look.total_purchased_fen,
        *seen.booked,
        epoch,
        operator_id,
        approver_id,
        reason,
    )


async def record(tx: Transaction, meter_id: int, found: Finding, at: datetime) -> bool:
    """Open a difference, or see the open one again; True when it is new or turned into another."""
    row = await tx.row(
        """
        WITH before AS (
            SELECT kind FROM meter_difference
            WHERE meter_id = %(meter_id)s AND closed_at IS NULL
        )
        INSERT INTO meter_difference
            (meter_id, kind, ahead_count, ahead_fen, detail, first_seen_at, last_seen_at)
        VALUES (%(meter_id)s, %(kind)s, %(count)s, %(fen)s, %(detail)s, %(at)s, %(at)s)
        ON CONFLICT (meter_id) WHERE closed_at IS NULL DO UPDATE SET
            kind = excluded.kind, ahead_count = excluded.ahead_count,
            ahead_fen = excluded.ahead_fen, detail = excluded.detail,
            last_seen_at = excluded.last_seen_at
        RETURNING (SELECT kind FROM before)""",
        named={
            "meter_id": meter_id,
            "kind": found.kind.value,
            "count": found.ahead_count,
            "fen": found.ahead_fen,
            "detail": found.detail,
            "at": at,
        },
    )
    assert row is not None
    return bool(row[0] != found.kind.value)


async def close(
    tx: Transaction, meter_id: int, *, closed_by: int | None, reason: str, at: datetime
) -> bool:
    """End the open difference of a meter; False when it has none."""
    touched = await tx.execute(
        "UPDATE meter_difference SET closed_at = %s, closed_by = %s, closed_reason = %s"
        " WHERE meter_id = %s AND closed_at IS NULL",
        at,
        closed_by,
        reason,
        meter_id,
    )
    return touched == 1


async def give_to(tx: Transaction, difference_id: int, owner_id: int) -> bool:
    """Somebody looks after it from now on; False when it is closed or unknown."""
    touched = await tx.execute(
        "UPDATE meter_difference SET owner_id = %s WHERE difference_id = %s AND closed_at IS NULL",
        owner_id,
        difference_id,
    )
    return touched == 1


_DIFFERENCE = """
    SELECT difference_id, meter_id, meter.name, kind, ahead_count, ahead_fen, detail,
        first_seen_at, last_seen_at, owner_id, closed_at, closed_by, closed_reason
    FROM meter_difference JOIN meter USING (meter_id)"""


async def open_differences(tx: Transaction) -> list[Difference]:
    """What is not explained yet, oldest first."""
    rows = await tx.rows(
        _DIFFERENCE + " WHERE closed_at IS NULL ORDER BY first_seen_at, difference_id"
    )
    return [_difference(row) for row in rows]


async def differences_of_meter(tx: Transaction, meter_id: int) -> list[Difference]:
    """The history of one meter, newest first."""
    rows = await tx.rows(_DIFFERENCE + " WHERE meter_id = %s ORDER BY difference_id DESC", meter_id)
    return [_difference(row) for row in rows]


def _difference(row: Row) -> Difference:
    difference_id, meter_id, meter, kind, ahead_count, ahead_fen, detail = row[:7]
    first_seen_at, last_seen_at, owner_id, closed_at, closed_by, closed_reason = row[7:]
    return Difference(
        difference_id=difference_id,
        meter_id=meter_id,
        meter=meter,
        kind=DifferenceKind(kind),
        ahead_count=ahead_count,
        ahead_fen=ahead_fen,
        detail=detail,
        first_seen_at=first_seen_at,
        last_seen_at=last_seen_at,
        owner_id=owner_id,
        closed_at=closed_at,
        closed_by=closed_by,
        closed_reason=closed_reason,
    )
