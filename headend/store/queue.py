"""The queue of orders: what goes next on a line, what is due when, and what a crash left behind.

Meters are given by number: those of one line that may be spoken to now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final, LiteralString

from psycopg.types.json import Jsonb

from headend.domain.commands import RESETS_COUNTS, Command, CommandKind
from headend.store.commands import COLUMNS, as_command
from headend.store.database import Transaction

# Money and light first; what takes light away last, so that it meets whatever was paid meanwhile.
_RANK: Final = (
    "array_position(ARRAY['restore', 'top_up', 'burn', 'release', 'configure', 'cut'], kind)"
)

# What holds an order back, each by its name. `next` is the order; times are those of claim().
_NOT_HELD: LiteralString = """
    NOT EXISTS (SELECT FROM command AS other WHERE other.meter_id = next.meter_id
        AND other.state IN ('claimed', 'sent', 'unknown', 'escalated'))"""
_LIGHT_FIRST: LiteralString = """
    NOT (next.kind = 'cut' AND EXISTS (SELECT FROM command AS light
        WHERE light.meter_id = next.meter_id AND light.state = 'queued'
            AND light.kind IN ('restore', 'release')))"""
_NOT_FROZEN: LiteralString = """
    NOT (next.kind = 'top_up' AND EXISTS (SELECT FROM sales_freeze AS stop
        WHERE stop.meter_id = next.meter_id AND stop.thawed_at IS NULL))"""
# A copy that left a while ago and was doubled by the network could still come: of a refused
# purchase, whose count is to be used for another amount;
_NO_COPY_OF_A_REFUSED: LiteralString = """
    NOT (next.kind = 'top_up' AND EXISTS (SELECT FROM attempt
        WHERE attempt.meter_id = next.meter_id AND attempt.outcome = 'refused'
            AND attempt.kind IN ('top_up', 'burn') AND attempt.ended_at > %(dead_by)s))"""
# of a purchase of an earlier epoch, or of a setting that puts counts back to zero;
_NO_COPY_OF_ANOTHER_LIFE: LiteralString = """
    NOT (next.kind IN ('top_up', 'burn') AND EXISTS (
        SELECT FROM attempt JOIN command AS older USING (command_id)
            LEFT JOIN sale ON sale.sale_id = older.sale_id
        WHERE attempt.meter_id = next.meter_id AND attempt.sent_at > %(dead_by)s
            AND (older.details ->> 'kind' = ANY(%(resets)s) OR sale.epoch < (
                SELECT epoch FROM sale WHERE sale.sale_id = next.sale_id))))"""
# of a purchase, which such a setting would let in once more.
_NO_COPY_OF_A_PURCHASE: LiteralString = """
    NOT (coalesce(next.details ->> 'kind' = ANY(%(resets)s), false) AND EXISTS (SELECT FROM attempt
        WHERE attempt.meter_id = next.meter_id AND attempt.kind IN ('top_up', 'burn')
            AND attempt.sent_at > %(dead_by)s))"""


async def claim(
    tx: Transaction,
    meter_ids: Collection[int],
    now: datetime,
    *,
    not_kinds: Collection[CommandKind] = (),
    in_flight_s_max: float = 0.0,
) -> Command | None:
    """Take the next order of these meters, those of one line; None when nothing can go now.

    Left out: kinds in `not_kinds` (their hard limit is reached), and whatever the conditions above
    hold back; what left less than `in_flight_s_max` ago may still come twice.
    """
    row = await tx.row(
        f"""
        UPDATE command SET state = 'claimed', changed_at = %(now)s WHERE command_id = (
            SELECT command_id FROM command AS next
            WHERE next.state = 'queued' AND next.meter_id = ANY(%(meter_ids)s)
                AND next.not_before <= %(now)s AND next.expires_at > %(now)s
                AND next.kind <> ALL(%(not_kinds)s)
                AND {_NOT_HELD} AND {_LIGHT_FIRST} AND {_NOT_FROZEN} AND {_NO_COPY_OF_A_REFUSED}
                AND {_NO_COPY_OF_ANOTHER_LIFE} AND {_NO_COPY_OF_A_PURCHASE}
            ORDER BY {_RANK}, next.ordered_at, next.command_id
            LIMIT 1 FOR UPDATE OF next SKIP LOCKED)
        RETURNING {COLUMNS}""",
        named={
            "now": now,
            "meter_ids": list(meter_ids),
            "not_kinds": [kind.value for kind in not_kinds],
            "dead_by": now - timedelta(seconds=in_flight_s_max),
            "resets": list(RESETS_COUNTS),
        },
    )
    return as_command(row) if row else None


async def due_unknown(tx: Transaction, meter_ids: Collection[int], now: datetime) -> Command | None:
    """The unknown of these meters that has waited longest past its instant, if one is due."""
    row = await tx.row(
        f"""
        SELECT {COLUMNS} FROM command
        WHERE state = 'unknown' AND look_again_at <= %s AND meter_id = ANY(%s)
        ORDER BY look_again_at, command_id LIMIT 1""",
        now,
        list(meter_ids),
    )
    return as_command(row) if row else None


async def are_wanted(tx: Transaction, meter_ids: Collection[int], now: datetime) -> bool:
    """Whether something is due for any of these meters."""
    found: bool = await tx.value(
        """
        SELECT EXISTS (SELECT FROM command WHERE meter_id = ANY(%(meter_ids)s)
            AND (state = 'queued' AND not_before <= %(now)s
                OR state = 'unknown' AND look_again_at <= %(now)s))""",
        named={"meter_ids": list(meter_ids), "now": now},
    )
    return found


async def next_due(tx: Transaction, meter_ids: Collection[int], now: datetime) -> datetime | None:
    """When the next thing that is not due yet becomes due for these meters."""
    at: datetime | None = await tx.value(
        """
        SELECT min(CASE state WHEN 'queued' THEN not_before ELSE look_again_at END) FROM command
        WHERE meter_id = ANY(%(meter_ids)s)
            AND (state = 'queued' AND not_before > %(now)s
                OR state = 'unknown' AND look_again_at > %(now)s)""",
        named={"meter_ids": list(meter_ids), "now": now},
    )
    return at


async def due_lines(tx: Transaction, now: datetime) -> tuple[set[int], datetime | None]:
    """Lines with something to do now, and when the next thing becomes due."""
    rows = await tx.rows(
        """
        SELECT line_id, min(due) FROM (
            SELECT meter_id, not_before AS due FROM command WHERE state = 'queued'
            UNION ALL
            SELECT meter_id, look_again_at FROM command WHERE state = 'unknown'
        ) AS waiting JOIN meter USING (meter_id) GROUP BY line_id""",
    )
    later = [due for _, due in rows if due > now]
    return {line_id for line_id, due in rows if due <= now}, min(later, default=None)


async def expired(tx: Transaction, now: datetime, *, limit: int = 100) -> list[Command]:
    """Queued commands whose deadline has passed, locked for this transaction."""
    rows = await tx.rows(
        f"""
        SELECT {COLUMNS} FROM command WHERE state = 'queued' AND expires_at <= %s
        ORDER BY expires_at, command_id LIMIT %s FOR UPDATE SKIP LOCKED""",
        now,
        limit,
    )
    return [as_command(row) for row in rows]


async def recover(
    tx: Transaction,
    now: datetime,
    *,
    line_ids: Collection[int] | None,
    in_flight_s: Mapping[int, float],
) -> int:
    """Nothing was sent for what is claimed; anything may have happened to what was sent.

    The whole recovery after a crash: claimed → queued, sent → unknown. `line_ids` None: every
    line. `in_flight_s`: by line, how long what was sent may still be on its way; a line that is
    not known takes the longest. Returns how many moved.
    """
    longest_s = max(in_flight_s.values(), default=0.0)
    return await tx.execute(
        """
        UPDATE command SET changed_at = %(now)s,
            state = CASE state WHEN 'claimed' THEN 'queued' ELSE 'unknown' END,
            look_again_at = CASE state WHEN 'sent' THEN %(now)s + make_interval(secs =>
                coalesce((%(in_flight_s)s ->> line_id::text)::float, %(longest_s)s)) END,
            outcome = CASE state WHEN 'claimed'
                THEN 'interrupted before anything was sent'
                ELSE 'interrupted after the order may have left' END
        FROM meter
        WHERE meter.meter_id = command.meter_id AND state IN ('claimed', 'sent')
            AND (%(line_ids)s::integer[] IS NULL OR line_id = ANY(%(line_ids)s))""",
        named={
            "now": now,
            "line_ids": None if line_ids is None else list(line_ids),
            "in_flight_s": Jsonb({str(line): seconds for line, seconds in in_flight_s.items()}),
            "longest_s": longest_s,
        },
    )


async def stale_unknown(tx: Transaction, sent_before: datetime, *, limit: int) -> list[Command]:
    """Unknowns whose last try left before that, locked for this transaction."""
    rows = await tx.rows(
        f"""
        SELECT {COLUMNS} FROM command WHERE state = 'unknown' AND (
            SELECT max(sent_at) FROM attempt WHERE attempt.command_id = command.command_id) < %s
        ORDER BY ordered_at LIMIT %s FOR UPDATE SKIP LOCKED""",
        sent_before,
        limit,
    )
    return [as_command(row) for row in rows]


async def open_by_state(tx: Transaction) -> dict[str, int]:
    """How many commands have not ended, by state; states without one are 0."""
    rows = await tx.rows(
        """
        SELECT 'queued', count(*) FROM command WHERE state = 'queued'
        UNION ALL
        SELECT state, count(*) FROM command
        WHERE state IN ('claimed', 'sent', 'unknown', 'escalated') GROUP BY state"""
    )
    counts = dict.fromkeys(("queued", "claimed", "sent", "unknown", "escalated"), 0)
    return counts | dict(rows)
