"""Commands: given, claimed, sent, settled. Each function is one statement in a transaction.

States move by domain/commands.py TRANSITIONS; the database refuses every other move and writes an
event for each. Instants are the caller's, so that a simulation has one clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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


_INSERT: Final = """
    INSERT INTO command (command_id, meter_id, kind, amount_fen, purchase_count, sale_id,
        details, ordered_by, approved_by, reason, cause_id, bulk_id, ordered_at, changed_at,
        not_before, expires_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (command_id) DO NOTHING"""


async def insert(tx: Transaction, new: NewCommand) -> bool:
    """Queue an order and wake its line's sender; False when its id is already taken."""
    return await tx.execute(_INSERT, *_row_of(new)) == 1


async def insert_many(tx: Transaction, new: Sequence[NewCommand]) -> int:
    """Queue many orders and wake their senders; how many had an id that was not taken yet."""
    return await tx.execute_many(_INSERT, [_row_of(one) for one in new]) if new else 0


def _row_of(new: NewCommand) -> tuple[Any, ...]:
    not_before = new.not_before or new.ordered_at
    return (
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


async def find(tx: Transaction, command_id: UUID, *, lock: bool = False) -> Command | None:
    """One command. `lock`: nobody else moves it until this transaction ends."""
    row = await tx.row(
        f"SELECT {COLUMNS} FROM command WHERE command_id = %s" + (" FOR UPDATE" if lock else ""),
        command_id,
    )
    return as_command(row) if row else None


async def find_many(tx: Transaction, command_ids: Collection[UUID]) -> dict[UUID, Command]:
    """Those of these commands that exist, by id."""
    rows = await tx.rows(
        f"SELECT {COLUMNS} FROM command WHERE command_id = ANY(%s)", list(command_ids)
    )
    return {command.command_id: command for command in map(as_command, rows)}


async def listing(
    tx: Transaction,
    *,
    meter_ids: Collection[int] | None = None,
    states: Collection[CommandState] | None = None,
    kinds: Collection[CommandKind] | None = None,
    bulk_id: UUID | None = None,
    since: datetime | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Command]:
    """Commands that match everything given, newest first; `before`: past that one."""
    rows = await tx.rows(
        f"""
        SELECT {COLUMNS} FROM command
        WHERE (%(meters)s::integer[] IS NULL OR meter_id = ANY(%(meters)s))
            AND (%(states)s::text[] IS NULL OR state = ANY(%(states)s))
            AND (%(kinds)s::text[] IS NULL OR kind = ANY(%(kinds)s))
            AND (%(bulk_id)s::uuid IS NULL OR bulk_id = %(bulk_id)s)
            AND (%(since)s::timestamptz IS NULL OR ordered_at >= %(since)s)
            AND (%(at)s::timestamptz IS NULL OR ordered_at < %(at)s
                OR ordered_at = %(at)s AND command_id > %(id)s::uuid)
        ORDER BY ordered_at DESC, command_id LIMIT %(limit)s""",
        named={
            "meters": None if meter_ids is None else list(meter_ids),
            "states": None if states is None else [state.value for state in states],
            "kinds": None if kinds is None else [kind.value for kind in kinds],
            "bulk_id": bulk_id,
            "since": since,
            "at": None if before is None else before[0],
            "id": None if before is None else before[1],
            "limit": limit,
        },
    )
    return [as_command(row) for row in rows]


async def is_open_setting(tx: Transaction, meter_id: int, kinds: Collection[str]) -> bool:
    """Whether a CONFIGURE of one of these settings has not ended yet."""
    found: bool = await tx.value(
        """
        SELECT EXISTS (SELECT FROM command WHERE meter_id = %s AND kind = 'configure'
            AND state IN ('queued', 'claimed', 'sent', 'unknown', 'escalated')
            AND details ->> 'kind' = ANY(%s))""",
        meter_id,
        list(kinds),
    )
    return found


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
