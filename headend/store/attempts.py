"""Attempts: each try whose intent was recorded, with what was seen before, after and on the wire.

An attempt begins in the same transaction that makes its command SENT, before the first byte of the
write leaves, and ends in the transaction that settles it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from psycopg.types.json import Jsonb

from headend.domain.commands import Command, CommandState
from headend.store.commands import Moved
from headend.store.database import Row, Transaction
from protocols.exchange import Evidence

# Frames of one conversation as JSON: {"at", "out", "label"} or {"at", "in"}, "refused", "silence".
Frames: TypeAlias = Sequence[Mapping[str, Any]]
_SHOWN: Final = frozenset(field.name for field in dataclasses.fields(Evidence))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try as stored."""

    attempt_no: int
    began_at: datetime
    sent_at: datetime
    ended_at: datetime | None
    before: Evidence
    after: Evidence | None
    looks: Frames  # looks that did not settle it
    frames: Frames
    outcome: str | None  # applied, not_applied, refused, decided


def as_record(evidence: Evidence) -> dict[str, Any]:
    """Evidence as JSON: only what the meter told."""
    return {k: v for k, v in dataclasses.asdict(evidence).items() if v is not None}


def from_record(record: Mapping[str, Any]) -> Evidence:
    """Evidence out of JSON; fields of later programs are left out."""
    return Evidence(**{name: record[name] for name in _SHOWN & record.keys()})


async def begin(
    tx: Transaction, command: Command, *, began_at: datetime, at: datetime, before: Evidence
) -> int:
    """CLAIMED → SENT with what the meter shows now; returns the attempt's number.

    Once this is committed anything may have happened. Raises Moved when it is not claimed any more.
    """
    attempt_no: int | None = await tx.value(
        """
        UPDATE command SET state = 'sent', changed_at = %s, outcome = '', misses = 0,
            attempts = attempts + 1
        WHERE command_id = %s AND state = 'claimed' RETURNING attempts""",
        at,
        command.command_id,
    )
    if attempt_no is None:
        raise Moved(command.command_id, CommandState.CLAIMED)
    await tx.execute(
        """
        INSERT INTO attempt (command_id, attempt_no, kind, meter_id, began_at, sent_at, before)
        VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        command.command_id,
        attempt_no,
        command.kind.value,
        command.meter_id,
        began_at,
        at,
        Jsonb(as_record(before)),
    )
    return attempt_no


async def add_look(
    tx: Transaction, command_id: UUID, at: datetime, look: Mapping[str, Any], frames: Frames
) -> None:
    """A look at the running attempt, or its frames so far, that did not settle it."""
    await tx.execute(
        """
        UPDATE attempt SET looks = looks || %s, frames = frames || %s
        WHERE command_id = %s AND ended_at IS NULL""",
        Jsonb([{"at": at.isoformat(), **look}] if look else []),
        Jsonb(list(frames)),
        command_id,
    )


async def end(
    tx: Transaction,
    command_id: UUID,
    at: datetime,
    outcome: str,
    *,
    after: Evidence | None = None,
    frames: Frames = (),
) -> None:
    """The running attempt is settled."""
    await tx.execute(
        """
        UPDATE attempt SET ended_at = %s, outcome = %s, after = %s, frames = frames || %s
        WHERE command_id = %s AND ended_at IS NULL""",
        at,
        outcome,
        None if after is None else Jsonb(as_record(after)),
        Jsonb(list(frames)),
        command_id,
    )


_COLUMNS: Final = "attempt_no, began_at, sent_at, ended_at, before, after, looks, frames, outcome"


async def of_command(tx: Transaction, command_id: UUID) -> list[Attempt]:
    """Every try of a command, first to last."""
    rows = await tx.rows(
        f"SELECT {_COLUMNS} FROM attempt WHERE command_id = %s ORDER BY attempt_no", command_id
    )
    return [_attempt(row) for row in rows]


async def newest(tx: Transaction, command_id: UUID) -> Attempt | None:
    """The last try of a command, None when none was recorded."""
    row = await tx.row(
        f"SELECT {_COLUMNS} FROM attempt WHERE command_id = %s ORDER BY attempt_no DESC LIMIT 1",
        command_id,
    )
    return _attempt(row) if row else None


async def before_sale(tx: Transaction, sale_id: UUID) -> Evidence | None:
    """What the meter showed before the first copy of a sale left; None when none ever did."""
    record = await tx.value(
        """
        SELECT coalesce(
            (SELECT before FROM card_sale WHERE sale_id = %(sale_id)s),
            (SELECT before FROM attempt JOIN command USING (command_id)
                WHERE sale_id = %(sale_id)s AND command.kind = 'top_up'
                ORDER BY attempt_no LIMIT 1))""",
        named={"sale_id": sale_id},
    )
    return None if record is None else from_record(record)


def _attempt(row: Row) -> Attempt:
    attempt_no, began_at, sent_at, ended_at, before, after, looks, frames, outcome = row
    return Attempt(
        attempt_no=attempt_no,
        began_at=began_at,
        sent_at=sent_at,
        ended_at=ended_at,
        before=from_record(before),
        after=None if after is None else from_record(after),
        looks=looks,
        frames=frames,
        outcome=outcome,
    )
