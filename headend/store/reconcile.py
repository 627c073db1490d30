"""Meter against books, as statements: openings, differences and what they freeze."""

from __future__ import annotations

from headend.store.database import Transaction


async def sales_frozen(tx: Transaction, meter_id: int) -> str | None:
    """Why nothing may be sold to this meter now, in one sentence; None: nothing forbids it."""
    detail: str | None = await tx.value(
        """
        SELECT detail FROM meter_difference
        WHERE meter_id = %s AND closed_at IS NULL AND kind NOT IN ('in_flight', 'escalated')""",
        meter_id,
    )
    return detail
