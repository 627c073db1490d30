"""What is known of relays through the orders they got: toggles, limits, who sits in the dark."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from headend.domain.commands import Command, CommandKind
from headend.domain.limits import HardLimits, Rate, free_at
from headend.store.commands import COLUMNS, as_command
from headend.store.database import Transaction

_SWITCHING_LOCK: Final = 0x7377_6974_6368


async def one_at_a_time(tx: Transaction) -> None:
    """Intents of switching are recorded one after the other, so that no two count past a limit."""
    await tx.execute("SELECT pg_advisory_xact_lock(%s)", _SWITCHING_LOCK)


async def last_switch(tx: Transaction, meter_id: int) -> tuple[CommandKind, datetime] | None:
    """The newest switching order that may have moved this meter's relay, and when it left."""
    row = await tx.row(
        """
        SELECT kind, sent_at FROM attempt
        WHERE meter_id = %s AND kind IN ('cut', 'restore', 'release')
        ORDER BY sent_at DESC, attempt_no DESC LIMIT 1""",
        meter_id,
    )
    return (CommandKind(row[0]), row[1]) if row else None


async def last_switches(
    tx: Transaction, meter_ids: Collection[int]
) -> dict[int, tuple[CommandKind, datetime]]:
    """`last_switch` for many, by meter; those whose relay was never ordered are left out."""
    rows = await tx.rows(
        """
        SELECT meter_id, kind, sent_at FROM unnest(%s::integer[]) AS chosen (meter_id)
        CROSS JOIN LATERAL (
            SELECT kind, sent_at FROM attempt
            WHERE attempt.meter_id = chosen.meter_id AND kind IN ('cut', 'restore', 'release')
            ORDER BY sent_at DESC, attempt_no DESC LIMIT 1
        ) AS last""",
        list(meter_ids),
    )
    return {meter_id: (CommandKind(kind), sent_at) for meter_id, kind, sent_at in rows}


async def cancel_queued_cuts(tx: Transaction, why: Mapping[int, str], at: datetime) -> int:
    """Take back the cuts of these meters that still wait, each for its reason; how many."""
    return await tx.execute(
        """
        UPDATE command SET state = 'cancelled', outcome = given.why, changed_at = %s
        FROM unnest(%s::integer[], %s::text[]) AS given (meter_id, why)
        WHERE command.meter_id = given.meter_id AND state = 'queued' AND kind = 'cut'""",
        at,
        list(why),
        list(why.values()),
    )


async def last_proved(tx: Transaction, meter_id: int) -> tuple[CommandKind, datetime] | None:
    """The newest switching order the meter was seen to obey, and when."""
    row = await tx.row(
        """
        SELECT kind, changed_at FROM command WHERE meter_id = %s AND state = 'confirmed'
            AND kind IN ('cut', 'restore', 'release')
        ORDER BY changed_at DESC, ordered_at DESC LIMIT 1""",
        meter_id,
    )
    return (CommandKind(row[0]), row[1]) if row else None


async def is_dark(tx: Transaction, meter_id: int) -> bool | None:
    """Whether the relay is open, by what is newer: the last reading or our own proved order.

    None: nobody knows.
    """
    proved = await last_proved(tx, meter_id)
    row = await tx.row(
        "SELECT relay_closed_bits, at FROM meter_last"
        " WHERE meter_id = %s AND relay_closed_bits IS NOT NULL",
        meter_id,
    )
    # A release leaves the relay to the meter: only a look tells what came of it.
    if proved is not None and (row is None or proved[1] >= row[1]):
        return {CommandKind.CUT: True, CommandKind.RESTORE: False}.get(proved[0])
    return None if row is None else bool(row[0] == 0)


async def full_until(
    tx: Transaction, kind: CommandKind, limits: HardLimits, now: datetime
) -> datetime | None:
    """When this kind may be sent again; None: now."""
    waits = [
        free_at(rate, await _nth_newest(tx, kind, rate), now) for rate in limits.rates.get(kind, ())
    ]
    return max((at for at in waits if at is not None), default=None)


async def _nth_newest(tx: Transaction, kind: CommandKind, rate: Rate) -> datetime | None:
    at: datetime | None = await tx.value(
        """
        SELECT sent_at FROM attempt WHERE kind = %s AND kind IN ('cut', 'restore', 'release')
        ORDER BY sent_at DESC OFFSET %s LIMIT 1""",
        kind.value,
        rate.at_most - 1,
    )
    return at


async def queued(tx: Transaction, meter_id: int) -> list[Command]:
    """Switching orders of a meter that still wait, locked for this transaction."""
    rows = await tx.rows(
        f"""
        SELECT {COLUMNS} FROM command WHERE meter_id = %s AND state = 'queued'
            AND kind IN ('cut', 'restore', 'release') ORDER BY ordered_at FOR UPDATE""",
        meter_id,
    )
    return [as_command(row) for row in rows]
