"""How wrong each meter's clock is, every time somebody looked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockCheck:
    """One look at a dial. `drift_s` > 0: the meter is ahead of the site's wall clock."""

    meter_id: int
    checked_at: datetime
    drift_s: int
    meter_clock_s: int | None = None  # what the dial showed (Quantity.CLOCK)


async def record_checks(tx: Transaction, checks: Sequence[ClockCheck]) -> None:
    """Store checks; the same one twice is one."""
    if checks:
        await tx.execute(
            """
            INSERT INTO meter_clock (meter_id, checked_at, drift_s, meter_clock_s)
            SELECT * FROM unnest(%s::integer[], %s::timestamptz[], %s::integer[], %s::bigint[])
            ORDER BY 1, 2
            ON CONFLICT DO NOTHING""",
            [check.meter_id for check in checks],
            [check.checked_at for check in checks],
            [check.drift_s for check in checks],
            [check.meter_clock_s for check in checks],
        )


async def last_checks(
    tx: Transaction, meter_ids: Collection[int] | None = None
) -> dict[int, ClockCheck]:
    """The newest check of every live meter that was ever checked, or of these alone."""
    rows = await tx.rows(
        """
        SELECT meter_id, newest.checked_at, newest.drift_s, newest.meter_clock_s
        FROM meter CROSS JOIN LATERAL (
            SELECT checked_at, drift_s, meter_clock_s FROM meter_clock
            WHERE meter_clock.meter_id = meter.meter_id ORDER BY checked_at DESC LIMIT 1
        ) AS newest
        WHERE retired_at IS NULL AND (%(meters)s::integer[] IS NULL
            OR meter_id = ANY(%(meters)s))""",
        named={"meters": None if meter_ids is None else list(meter_ids)},
    )
    return {row[0]: _check(*row) for row in rows}


async def checks_of(tx: Transaction, meter_id: int, since: datetime) -> list[ClockCheck]:
    """The history of one dial, oldest first."""
    rows = await tx.rows(
        "SELECT meter_id, checked_at, drift_s, meter_clock_s FROM meter_clock"
        " WHERE meter_id = %s AND checked_at >= %s ORDER BY checked_at",
        meter_id,
        since,
    )
    return [_check(*row) for row in rows]


def _check(
    meter_id: int, checked_at: datetime, drift_s: int, meter_clock_s: int | None
) -> ClockCheck:
    return ClockCheck(
        meter_id=meter_id, checked_at=checked_at, drift_s=drift_s, meter_clock_s=meter_clock_s
    )
