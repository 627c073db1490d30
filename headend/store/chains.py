"""Chains from money received to light on: a top-up, and the restore that follows from it.

Where the money is in the platform, a payment is in the balance at once and its restore is the whole
chain; the chain then goes by the id of that restore.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, LiteralString
from uuid import UUID

from headend.store.database import Row, Transaction

# Whoever sat in the dark for so long is no longer a matter of minutes but of a visit.
FORGOTTEN_AFTER = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The instants of one payment's way to light."""

    command_id: UUID  # the top-up; of a payment into the platform, its restore
    meter_id: int
    meter: str
    amount_fen: int
    paid_at: datetime
    sent_at: datetime | None  # the first try
    in_meter_at: datetime | None
    light_on_at: datetime | None  # the relay was seen closed
    waits_for: str  # what became of the last order of the chain, in words


_CHAIN: Final[LiteralString] = """
    SELECT paid.command_id, paid.meter_id, meter.name, paid.amount_fen, paid.ordered_at,
        (SELECT min(sent_at) FROM attempt WHERE attempt.command_id = paid.command_id),
        CASE WHEN paid.state = 'confirmed' THEN paid.changed_at END,
        CASE WHEN light.state = 'confirmed' THEN light.changed_at
            -- It had cut itself, and closed by itself with the money: the look says so.
            WHEN light.state IS NULL AND paid.state = 'confirmed' AND EXISTS (
                SELECT FROM attempt WHERE attempt.command_id = paid.command_id
                    AND attempt.outcome = 'applied' AND (after ->> 'relay_closed_bits')::int > 0)
                THEN paid.changed_at END,
        CASE WHEN light.state IS NULL THEN paid.kind || ' is ' || paid.state
            ELSE light.kind || ' is ' || light.state END
        || CASE WHEN coalesce(light.outcome, paid.outcome) = '' THEN ''
            ELSE ', ' || coalesce(light.outcome, paid.outcome) END
    FROM command AS paid JOIN meter USING (meter_id)
    LEFT JOIN command AS light ON light.cause_id = paid.command_id AND light.kind = 'restore'"""


_PLATFORM_CHAIN: Final[LiteralString] = """
    SELECT light.command_id, light.meter_id, meter.name, transfer.amount_fen, transfer.at,
        (SELECT min(sent_at) FROM attempt WHERE attempt.command_id = light.command_id),
        transfer.at, CASE WHEN light.state = 'confirmed' THEN light.changed_at END,
        light.kind || ' is ' || light.state
            || CASE WHEN light.outcome = '' THEN '' ELSE ', ' || light.outcome END
    FROM command AS light JOIN meter USING (meter_id)
    JOIN transfer ON transfer.transfer_id::text = light.details ->> 'payment_id'
    WHERE light.kind = 'restore' AND light.details ? 'payment_id'"""


async def without_light(tx: Transaction, now: datetime) -> list[Chain]:
    """Tenants who have paid and whose relay was not yet seen closed, longest first."""
    rows = await tx.rows(
        _CHAIN
        + """
        WHERE paid.kind = 'top_up' AND paid.command_id IN (
            SELECT command_id FROM command WHERE kind = 'top_up' AND details @> '{"dark": true}'
                AND state IN ('queued', 'claimed', 'sent', 'unknown', 'escalated')
            UNION
            SELECT cause_id FROM command AS late WHERE kind = 'restore' AND cause_id IS NOT NULL
                AND state NOT IN ('confirmed', 'cancelled') AND ordered_at > %s
                AND NOT EXISTS (SELECT FROM command AS other
                    WHERE other.meter_id = late.meter_id AND other.kind = 'restore'
                        AND other.state = 'confirmed' AND other.ordered_at > late.ordered_at))
        ORDER BY paid.ordered_at, paid.command_id""",
        now - FORGOTTEN_AFTER,
    )
    rows += await tx.rows(
        _PLATFORM_CHAIN
        + """
            AND light.state NOT IN ('confirmed', 'cancelled') AND light.ordered_at > %s
            AND NOT EXISTS (SELECT FROM command AS other
                WHERE other.meter_id = light.meter_id AND other.kind = 'restore'
                    AND other.state = 'confirmed' AND other.ordered_at > light.ordered_at)
        ORDER BY transfer.at, light.command_id""",
        now - FORGOTTEN_AFTER,
    )
    return sorted((_chain(row) for row in rows), key=lambda chain: chain.paid_at)


async def find(tx: Transaction, command_id: UUID) -> Chain | None:
    """The chain of this top-up, or of this restore that follows from a payment."""
    row = await tx.row(_CHAIN + " WHERE paid.kind = 'top_up' AND paid.command_id = %s", command_id)
    if row is None:
        row = await tx.row(_PLATFORM_CHAIN + " AND light.command_id = %s", command_id)
    return _chain(row) if row else None


def _chain(row: Row) -> Chain:
    command_id, meter_id, meter, amount_fen, paid_at = row[:5]
    sent_at, in_meter_at, light_on_at, waits_for = row[5:]
    return Chain(
        command_id=command_id,
        meter_id=meter_id,
        meter=meter,
        amount_fen=amount_fen,
        paid_at=paid_at,
        sent_at=sent_at,
        in_meter_at=in_meter_at,
        light_on_at=light_on_at,
        waits_for=waits_for,
    )
