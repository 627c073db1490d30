"""Balances of customers whose money is in the platform, and what was told and done about them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headend.store.database import Transaction

_ONE_LOOK: Final = 0x706C_6174_666F_726D


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a customer in the platform has."""

    meter_id: int
    meter: str
    site_id: int
    set_by: int
    balance_fen: int  # below zero: arrears
    warned_at: datetime | None


async def one_look_at_a_time(tx: Transaction) -> bool:
    """False: another process looks right now."""
    found: bool = await tx.value("SELECT pg_try_advisory_xact_lock(%s)", _ONE_LOOK)
    return found


async def balances(tx: Transaction, below_fen: int) -> list[Held]:
    """Whoever has less than this, or was warned before."""
    rows = await tx.rows(
        """
        SELECT * FROM (
            SELECT platform_meter.meter_id, meter.name, meter.site_id, set_by,
                coalesce(available_fen(account_id), 0) AS balance_fen, warned_at
            FROM platform_meter JOIN meter_mode USING (mode_id)
            JOIN meter ON meter.meter_id = platform_meter.meter_id AND retired_at IS NULL
            LEFT JOIN account ON account.meter_id = meter.meter_id AND kind = 'customer'
                AND closed_at IS NULL
        ) AS held WHERE balance_fen < %s OR warned_at IS NOT NULL ORDER BY meter_id""",
        below_fen,
    )
    return [
        Held(
            meter_id=meter_id,
            meter=meter,
            site_id=site_id,
            set_by=set_by,
            balance_fen=balance_fen,
            warned_at=warned_at,
        )
        for meter_id, meter, site_id, set_by, balance_fen, warned_at in rows
    ]


async def warned(tx: Transaction, meter_ids: Collection[int], at: datetime | None) -> None:
    """These customers are warned since then; None: they need no warning any more."""
    await tx.execute(
        "UPDATE platform_meter SET warned_at = %s WHERE meter_id = ANY(%s)", at, list(meter_ids)
    )


async def cuts_since(tx: Transaction, reason: str, since: datetime) -> int:
    """How many cuts were ordered for this reason since then."""
    count: int = await tx.value(
        "SELECT count(*) FROM command WHERE kind = 'cut' AND ordered_at > %s AND reason = %s",
        since,
        reason,
    )
    return count
