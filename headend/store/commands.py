"""Commands: given, claimed, sent, settled. Each function is one statement in a transaction.

States move by domain/commands.py TRANSITIONS; the database refuses every other move and writes an
event for each. Instants are the caller's, so that a simulation has one clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from headend.domain.commands import EXPIRES_AFTER, Command, CommandKind, CommandState
from headend.store.database import Row, Transaction

COMMANDS = "commands"  # notified with the line's number when something there waits for its sender
COMMAND_EVENTS = "command_events"  # notified with the event's number

COLUMNS: Final = (
    "command_id, meter_id, kind, state, amount_fen, purchase_count, sale_id, details, ordered_by,"
    " approved_by, reason, ordered_at, not_before, expires_at, look_again_at, attempts, outcome,"
    " bulk_id, cause_id"
)
# Each miss in a row doubles the wait, up to a longest.
_WAIT: Final = "least(%(wait_max)s::interval, %(wait)s::interval * power(2, least(misses, 20)))"
# Money and light first; what takes light away last, so that it meets whatever was paid meanwhile.
_RANK: Final = (
    "array_position(ARRAY['restore', 'top_up', 'burn', 'release', 'configure', 'cut'], kind)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCommand:
    """An order as it is given."""

    command_id: UUID
    meter_id: int
    kind: CommandKind
    ordered_by: int
    ordered_at: datetime
    reason: str
    amount_fen: int | None = None
    purchase_count: int | None = None
    sale_id: UUID | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    approved_by: int | None = None
    not_before: datetime | None = None  # None: at once
    bulk_id: UUID | None = None
    cause_id: UUID | None = None


async def insert(tx: Transaction, new: NewCommand) -> bool:
    """Queue an order and wake its line's sender; False when its id is already taken."""
    not_before = new.not_before or new.ordered_at
    touched = await tx.execute(
        """
        INSERT INTO command (command_id, meter_id, kind, amount_fen, purchase_count, sale_id,
            details, ordered_by, approved_by, reason, cause_id, bulk_id, ordered_at, changed_at,
            not_before, expires_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (command_id) DO NOTHING""",
        new.command_id,
        new.meter_id,
        new.kind.value,
        new.amount_fen,
        new.purchase_count,
        new.sale_id,
        Jsonb(dict(new.details)),
        new.ordered_by,
        new.approved_by,
        new.reason,
        new.cause_id,
        new.bulk_id,
        new.ordered_at,
        new.ordered_at,
        not_before,
        not_before + EXPIRES_AFTER[new.kind],
    )
    return touched == 1


async def find(tx: Transaction, command_id: UUID, *, lock: bool = False) -> Command | None:
    """One command. `lock`: nobody else moves it until this transaction ends."""
    row = await tx.row(
        f"SELECT {COLUMNS} FROM command WHERE command_id = %s" + (" FOR UPDATE" if lock else ""),
        command_id,
    )
    return as_command(row) if row else None


async def listing(
    tx: Transaction,
    *,
    meter_ids: Collection[int] | None = None,
    states: Collection[CommandState] | None = None,
    kinds: Collection[CommandKind] | None = None,
    bulk_id: UUID | None = None,
    since: datetime | None = None,
    limit: int = 100,
) -> list[Command]:
    """Commands that match everything given, newest first."""
    rows = await tx.rows(
        f"""
        SELECT {COLUMNS} FROM command
        WHERE (%(meters)s::integer[] IS NULL OR meter_id = ANY(%(meters)s))
            AND (%(states)s::text[] IS NULL OR state = ANY(%(states)s))
            AND (%(kinds)s::text[] IS NULL OR kind = ANY(%(kinds)s))
            AND (%(bulk_id)s::uuid IS NULL OR bulk_id = %(bulk_id)s)
            AND (%(since)s::timestamptz IS NULL OR ordered_at >= %(since)s)
        ORDER BY ordered_at DESC, command_id LIMIT %(limit)s""",
        named={
            "meters": None if meter_ids is None else list(meter_ids),
            "states": None if states is None else [state.value for state in states],
            "kinds": None if kinds is None else [kind.value for kind in kinds],
            "bulk_id": bulk_id,
            "since": since,
            "limit": limit,
        },
    )
    return [as_command(row) for row in rows]


async def claim(
    tx: Transaction,
    meter_ids: Collection[int],
    now: datetime,
    *,
    not_kinds: Collection[CommandKind] = (),
    in_flight_s_max: float = 0.0,
) -> Command | None:
    """Take the next order of these meters, those of one line; None when nothing can go now.

    Left out: kinds in `not_kinds` (their hard limit is reached), meters another order holds, sales
    to frozen meters, and meters that refused a purchase less than `in_flight_s_max` ago: a copy of
    it that the network doubled must be dead before its count is used for another amount.
    """
    row = await tx.row(
        f"""
        UPDATE command SET state = 'claimed', changed_at = %(now)s WHERE command_id = (
            SELECT command_id FROM command AS next
            WHERE next.state = 'queued' AND next.meter_id = ANY(%(meter_ids)s)
                AND next.not_before <= %(now)s AND next.expires_at > %(now)s
                AND next.kind <> ALL(%(not_kinds)s)
                AND NOT EXISTS (SELECT FROM command AS other
                    WHERE other.meter_id = next.meter_id
                        AND other.state IN ('claimed', 'sent', 'unknown', 'escalated'))
                AND NOT (next.kind = 'top_up' AND (
                    EXISTS (SELECT FROM sales_freeze AS stop
                        WHERE stop.meter_id = next.meter_id AND stop.thawed_at IS NULL)
                    OR EXISTS (SELECT FROM attempt WHERE attempt.meter_id = next.meter_id
                        AND attempt.outcome = 'refused' AND attempt.kind IN ('top_up', 'burn')
                        AND attempt.ended_at > %(dead_by)s)))
            ORDER BY {_RANK}, next.ordered_at, next.command_id
            LIMIT 1 FOR UPDATE OF next SKIP LOCKED)
        RETURNING {COLUMNS}""",
        named={
            "now": now,
            "meter_ids": list(meter_ids),
            "not_kinds": [kind.value for kind in not_kinds],
            "dead_by": now - timedelta(seconds=in_flight_s_max),
        },
    )
    return as_command(row) if row else None


async def move(
    tx: Transaction,
    command_id: UUID,
    move_from: CommandState,
    move_to: CommandState,
    at: datetime,
    *,
    outcome: str = "",
    look_again_at: datetime | None = None,
    not_before: datetime | None = None,
) -> None:
    """Into another state. Raises Moved when it is not where it was thought to be.

    `look_again_at` belongs to UNKNOWN; `not_before` holds a requeued one back.
    """
    touched = await tx.execute(
        """
        UPDATE command SET state = %s, changed_at = %s, outcome = %s, look_again_at = %s,
            not_before = coalesce(%s, not_before),
            misses = CASE WHEN %s = 'queued' THEN misses ELSE 0 END
        WHERE command_id = %s AND state = %s""",
        move_to.value,
        at,
        outcome,
        look_again_at,
        not_before,
        move_to.value,
        command_id,
        move_from.value,
    )
    if touched != 1:
        raise Moved(command_id, move_from)


class Moved(Exception):
    """Somebody else moved this command meanwhile; whatever was to follow is theirs."""

    def __init__(self, command_id: UUID, state: CommandState) -> None:
        super().__init__(f"command {command_id} is no longer {state.value}")


async def put_back(
    tx: Transaction,
    command_id: UUID,
    at: datetime,
    *,
    outcome: str,
    wait: timedelta,
    wait_max: timedelta,
) -> None:
    """Claimed, nothing sent, back into the queue; each miss in a row doubles the wait."""
    touched = await tx.execute(
        f"""
        UPDATE command SET state = 'queued', changed_at = %(at)s, outcome = %(outcome)s,
            misses = misses + 1, not_before = %(at)s + {_WAIT}
        WHERE command_id = %(command_id)s AND state = 'claimed'""",
        named={
            "at": at,
            "outcome": outcome,
            "command_id": command_id,
            "wait": wait,
            "wait_max": wait_max,
        },
    )
    if touched != 1:
        raise Moved(command_id, CommandState.CLAIMED)


async def look_later(
    tx: Transaction,
    command_id: UUID,
    at: datetime,
    *,
    outcome: str,
    wait: timedelta,
    wait_max: timedelta,
) -> None:
    """Still unknown: the meter could not be looked at; each miss in a row doubles the wait."""
    await tx.execute(
        f"""
        UPDATE command SET outcome = %(outcome)s, misses = misses + 1,
            look_again_at = %(at)s + {_WAIT}
        WHERE command_id = %(command_id)s AND state = 'unknown'""",
        named={
            "at": at,
            "outcome": outcome,
            "command_id": command_id,
            "wait": wait,
            "wait_max": wait_max,
        },
    )


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


def as_command(row: Row) -> Command:
    """A row of COLUMNS."""
    command_id, meter_id, kind, state, amount_fen, purchase_count, sale_id, details = row[:8]
    ordered_by, approved_by, reason, ordered_at, not_before, expires_at = row[8:14]
    look_again_at, attempts, outcome, bulk_id, cause_id = row[14:]
    return Command(
        command_id=command_id,
        meter_id=meter_id,
        kind=CommandKind(kind),
        state=CommandState(state),
        amount_fen=amount_fen,
        purchase_count=purchase_count,
        sale_id=sale_id,
        details=details,
        ordered_by=ordered_by,
        approved_by=approved_by,
        reason=reason,
        ordered_at=ordered_at,
        not_before=not_before,
        expires_at=expires_at,
        look_again_at=look_again_at,
        attempts=attempts,
        outcome=outcome,
        bulk_id=bulk_id,
        cause_id=cause_id,
    )
