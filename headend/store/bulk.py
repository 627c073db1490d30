"""Bulk jobs and their items. The database keeps both tables of moves; see migration 0007.

Whoever changes a job locks its row first (`lock_job`), so that a stop and a batch never cross.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from headend.domain.bulk import (
    BulkLimits,
    Damage,
    Job,
    JobState,
)
from headend.domain.commands import CommandKind
from headend.domain.roles import Whose, scope_of
from headend.domain.supply import Rule
from headend.store.database import Row, Transaction

BULK_CHANNEL = "bulk"  # notified with the job's id on every change of a job


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """One meter of a plan: its turn, or the rule that spares it."""

    meter_id: int
    position: int | None
    rule: Rule | None = None
    detail: str = ""


_JOB: LiteralString = """
    SELECT bulk_id, action, state, cut_below_fen, reason, planned_by, planned_at, sha256,
        needs_approval, approved_by, approved_at, limits, damage, undo_of, batch, batch_began_at,
        batch_ended_at, halted_by, halt_reason
    FROM bulk_job"""


def _job(row: Row) -> Job:
    names = [field.name for field in dataclasses.fields(Job)]
    columns = (
        "bulk_id", "action", "state", "cut_below_fen", "reason", "planned_by", "planned_at",
        "sha256", "needs_approval", "approved_by", "approved_at", "limits", "damage", "undo_of",
        "batch", "batch_began_at", "batch_ended_at", "halted_by", "halt_reason",
    )  # fmt: skip
    assert set(names) == set(columns)
    values: dict[str, Any] = dict(zip(columns, row, strict=True))
    values["action"] = CommandKind(values["action"])
    values["state"] = JobState(values["state"])
    values["limits"] = BulkLimits(**values["limits"])
    damage = values["damage"]
    values["damage"] = Damage(**damage | {"buildings_dark": tuple(damage["buildings_dark"])})
    return Job(**values)


async def insert_job(tx: Transaction, job: Job, items: Sequence[NewItem]) -> None:
    """Store a plan. The job must be in state PLANNED; its items stay as they are from then on."""
    assert job.state is JobState.PLANNED
    await tx.execute(
        """
        INSERT INTO bulk_job (bulk_id, action, state, changed_at, changed_by, cut_below_fen, reason,
            planned_by, planned_at, sha256, needs_approval, limits, damage, undo_of)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        job.bulk_id,
        job.action.value,
        job.state.value,
        job.planned_at,
        job.planned_by,
        job.cut_below_fen,
        job.reason,
        job.planned_by,
        job.planned_at,
        job.sha256,
        job.needs_approval,
        Jsonb(dataclasses.asdict(job.limits)),
        Jsonb(dataclasses.asdict(job.damage)),
        job.undo_of,
    )
    await tx.execute(
        """
        INSERT INTO bulk_item (bulk_id, meter_id, position, state, rule, detail)
        SELECT %s, meter_id, position, CASE WHEN position IS NULL THEN 'spared' ELSE 'waiting' END,
            rule, detail
        FROM unnest(%s::integer[], %s::integer[], %s::text[], %s::text[])
            AS given (meter_id, position, rule, detail)""",
        job.bulk_id,
        [item.meter_id for item in items],
        [item.position for item in items],
        [item.rule.value if item.rule else "" for item in items],
        [item.detail for item in items],
    )


async def one_wish_at_a_time(tx: Transaction, bulk_id: UUID) -> None:
    """Equal wishes in the same instant are planned one after the other: the second finds the first.

    Held until this transaction ends.
    """
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", f"bulk {bulk_id}")


async def find_job(tx: Transaction, bulk_id: UUID) -> Job | None:
    """The job, or None."""
    row = await tx.row(_JOB + " WHERE bulk_id = %s", bulk_id)
    return _job(row) if row else None


async def lock_job(tx: Transaction, bulk_id: UUID) -> Job | None:
    """The job with its row locked until the transaction ends, or None."""
    row = await tx.row(_JOB + " WHERE bulk_id = %s FOR UPDATE", bulk_id)
    return _job(row) if row else None


async def list_jobs(
    tx: Transaction,
    *,
    states: Collection[JobState] = tuple(JobState),
    whose: Whose = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Job]:
    """Jobs in any of the states, newest first. `whose`: all meters of which are in this scope;
    `before`: past that one."""
    rows = await tx.rows(
        _JOB
        + """
        WHERE state = ANY(%(states)s)
            AND (%(at)s::timestamptz IS NULL OR planned_at < %(at)s
                OR planned_at = %(at)s AND bulk_id > %(id)s::uuid)
            AND (%(sites)s::integer[] IS NULL OR NOT EXISTS (
                SELECT FROM bulk_item AS item JOIN meter USING (meter_id) LEFT JOIN room
                    USING (room_id)
                WHERE item.bulk_id = bulk_job.bulk_id AND NOT (meter.site_id = ANY(%(sites)s)
                    OR coalesce(room.building_id = ANY(%(buildings)s), false))))
        ORDER BY planned_at DESC, bulk_id LIMIT %(limit)s""",
        named={
            **scope_of(whose).named(),
            "states": [state.value for state in states],
            "at": None if before is None else before[0],
            "id": None if before is None else before[1],
            "limit": limit,
        },
    )
    return [_job(row) for row in rows]


async def to_state(
    tx: Transaction,
    bulk_id: UUID,
    state: JobState,
    *,
    at: datetime,
    by: int | None,
    halt_reason: str = "",
) -> None:
    """Move a job along its table; the database refuses any other move and keeps the event."""
    halted = state is JobState.HALTED
    await tx.execute(
        """
        UPDATE bulk_job SET state = %s, changed_at = %s, changed_by = %s,
            halted_by = CASE WHEN %s THEN %s ELSE halted_by END, halt_reason = %s
        WHERE bulk_id = %s""",
        state.value,
        at,
        by,
        halted,
        by,
        halt_reason,
        bulk_id,
    )


async def approve(tx: Transaction, bulk_id: UUID, sha256: str, *, by: int, at: datetime) -> None:
    """Keep the approval and move the job. The database refuses the planner and another list."""
    await tx.execute(
        "INSERT INTO bulk_approval (bulk_id, sha256, approved_by, approved_at)"
        " VALUES (%s, %s, %s, %s)",
        bulk_id,
        sha256,
        by,
        at,
    )
    await tx.execute(
        "UPDATE bulk_job SET state = 'approved', changed_at = %s, changed_by = %s,"
        " approved_by = %s, approved_at = %s WHERE bulk_id = %s",
        at,
        by,
        by,
        at,
        bulk_id,
    )


async def list_changed(
    tx: Transaction, bulk_id: UUID, sha256: str, *, by: int, at: datetime
) -> None:
    """Store the hash of a changed list; whatever was approved is void."""
    await tx.execute(
        "UPDATE bulk_job SET state = 'planned', sha256 = %s, approved_by = NULL,"
        " approved_at = NULL, changed_at = %s, changed_by = %s WHERE bulk_id = %s",
        sha256,
        at,
        by,
        bulk_id,
    )


async def begin_batch(tx: Transaction, bulk_id: UUID, batch: int, at: datetime) -> None:
    """A batch begins; its meters follow one by one."""
    await tx.execute(
        "UPDATE bulk_job SET batch = %s, batch_began_at = %s, batch_ended_at = NULL"
        " WHERE bulk_id = %s",
        batch,
        at,
        bulk_id,
    )


async def end_batch(tx: Transaction, bulk_id: UUID, at: datetime) -> None:
    """A batch is over; the pause runs from here."""
    await tx.execute("UPDATE bulk_job SET batch_ended_at = %s WHERE bulk_id = %s", at, bulk_id)


async def is_within(tx: Transaction, bulk_id: UUID, sites: Collection[int]) -> bool:
    """Whether every meter of the job is on one of these sites."""
    outside: bool = await tx.value(
        "SELECT EXISTS (SELECT FROM bulk_item JOIN meter USING (meter_id)"
        " WHERE bulk_id = %s AND NOT site_id = ANY(%s))",
        bulk_id,
        list(sites),
    )
    return not outside
