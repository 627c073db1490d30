"""The meters of a bulk job: their turns, their orders and what became of them.

The database keeps the table of moves (migration 0007) and refuses a new order of a job that does
not run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from headend.domain.bulk import ItemState, Tally
from headend.domain.commands import CommandState
from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One meter of a job as stored."""

    meter_id: int
    meter: str
    room: str | None
    line_id: int
    position: int | None
    state: ItemState
    batch: int | None
    rule: str
    detail: str
    command_id: UUID | None


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of the command of an item. `untouched`: it ended before anything was sent."""

    meter_id: int
    item: ItemState
    command: CommandState
    outcome: str
    untouched: bool


async def take_off(
    tx: Transaction, bulk_id: UUID, meter_ids: Collection[int], why: str, at: datetime
) -> int:
    """Spare waiting meters of a list; returns how many. The caller stores the new hash."""
    return await tx.execute(
        "UPDATE bulk_item SET state = 'spared', rule = 'taken-off', detail = %s, changed_at = %s"
        " WHERE bulk_id = %s AND state = 'waiting' AND meter_id = ANY(%s)",
        why,
        at,
        bulk_id,
        list(meter_ids),
    )


async def meters_waiting(tx: Transaction, bulk_id: UUID) -> list[int]:
    """The meters whose turn is to come, in order: what the hash of a planned list is made of."""
    rows = await tx.rows(
        "SELECT meter_id FROM bulk_item WHERE bulk_id = %s AND state = 'waiting' ORDER BY position",
        bulk_id,
    )
    return [meter_id for (meter_id,) in rows]


async def next_waiting(
    tx: Transaction,
    bulk_id: UUID,
    now: datetime,
    *,
    batch: int,
    limit: int,
    per_line_max: int | None,
) -> list[int]:
    """The next meters in order, at most `limit`, without those that have to wait.

    At most `per_line_max` of one line in one batch, those it has ordered already included; None:
    any number.
    """
    rows = await tx.rows(
        """
        WITH ordered AS (
            SELECT line_id, count(*) AS meters FROM bulk_item JOIN meter USING (meter_id)
            WHERE bulk_id = %(bulk_id)s AND batch = %(batch)s GROUP BY line_id
        ), waiting AS (
            SELECT meter_id, line_id, position,
                row_number() OVER (PARTITION BY line_id ORDER BY position) AS turn
            FROM bulk_item JOIN meter USING (meter_id)
            WHERE bulk_id = %(bulk_id)s AND bulk_item.state = 'waiting'
                AND (not_before IS NULL OR not_before <= %(now)s)
        )
        SELECT meter_id FROM waiting LEFT JOIN ordered USING (line_id)
        WHERE %(per_line_max)s::integer IS NULL
            OR turn + coalesce(ordered.meters, 0) <= %(per_line_max)s
        ORDER BY position LIMIT %(limit)s""",
        named={
            "bulk_id": bulk_id,
            "batch": batch,
            "now": now,
            "limit": limit,
            "per_line_max": per_line_max,
        },
    )
    return [meter_id for (meter_id,) in rows]


async def ordered_in(tx: Transaction, bulk_id: UUID, batch: int) -> int:
    """How many meters of a batch have their order, however it ended."""
    count: int = await tx.value(
        "SELECT count(*) FROM bulk_item WHERE bulk_id = %s AND batch = %s", bulk_id, batch
    )
    return count


async def ordered(
    tx: Transaction, bulk_id: UUID, accepted: Mapping[int, UUID], *, batch: int, at: datetime
) -> None:
    """Commands that were accepted in this transaction, by meter."""
    if not accepted:
        return
    await tx.execute(
        """
        UPDATE bulk_item
        SET state = 'ordered', batch = %s, command_id = given.command_id, changed_at = %s
        FROM unnest(%s::integer[], %s::uuid[]) AS given (meter_id, command_id)
        WHERE bulk_id = %s AND bulk_item.meter_id = given.meter_id""",
        batch,
        at,
        list(accepted),
        list(accepted.values()),
        bulk_id,
    )


async def hold_back(tx: Transaction, bulk_id: UUID, meter_id: int, until: datetime) -> None:
    """A waiting meter's turn is put off."""
    await tx.execute(
        "UPDATE bulk_item SET not_before = %s WHERE bulk_id = %s AND meter_id = %s",
        until,
        bulk_id,
        meter_id,
    )


async def free_at(tx: Transaction, bulk_id: UUID) -> datetime | None:
    """When the first of the waiting meters may go; None: no one is held back."""
    at: datetime | None = await tx.value(
        "SELECT min(not_before) FROM bulk_item WHERE bulk_id = %s AND state = 'waiting'", bulk_id
    )
    return at


async def fates(tx: Transaction, bulk_id: UUID) -> list[Fate]:
    """What became of the commands of all items that are on their way."""
    rows = await tx.rows(
        """
        SELECT item.meter_id, item.state, command.state, outcome, attempts = 0
        FROM bulk_item AS item JOIN command USING (command_id)
        WHERE item.bulk_id = %s AND item.state IN ('ordered', 'unknown')""",
        bulk_id,
    )
    return [
        Fate(meter_id, ItemState(item), CommandState(state), outcome, untouched)
        for meter_id, item, state, outcome, untouched in rows
    ]


async def settle(
    tx: Transaction, bulk_id: UUID, moves: Sequence[tuple[int, ItemState, str, str]], at: datetime
) -> None:
    """Move items: (meter, state, rule, detail)."""
    if not moves:
        return
    await tx.execute(
        """
        UPDATE bulk_item
        SET state = given.state, rule = given.rule, detail = given.detail, changed_at = %s
        FROM unnest(%s::integer[], %s::text[], %s::text[], %s::text[])
            AS given (meter_id, state, rule, detail)
        WHERE bulk_item.bulk_id = %s AND bulk_item.meter_id = given.meter_id""",
        at,
        [meter_id for meter_id, _, _, _ in moves],
        [state.value for _, state, _, _ in moves],
        [rule for _, _, rule, _ in moves],
        [detail for _, _, _, detail in moves],
        bulk_id,
    )


async def leave_waiting(tx: Transaction, bulk_id: UUID, why: str, at: datetime) -> int:
    """The job halted: whoever still waits is left alone; returns how many."""
    return await tx.execute(
        "UPDATE bulk_item SET state = 'left', detail = %s, changed_at = %s"
        " WHERE bulk_id = %s AND state = 'waiting'",
        why,
        at,
        bulk_id,
    )


async def cancel_queued(tx: Transaction, bulk_id: UUID, why: str, at: datetime) -> int:
    """Take back every order of this job that has not left its queue; returns how many."""
    return await tx.execute(
        "UPDATE command SET state = 'cancelled', outcome = %s, changed_at = %s"
        " WHERE bulk_id = %s AND state = 'queued'",
        why,
        at,
        bulk_id,
    )


async def tally(tx: Transaction, bulk_id: UUID) -> Tally:
    """The items counted; those the plan spared or somebody took off the list are not part of it."""
    rows = await tx.rows(
        "SELECT state, count(*) FROM bulk_item WHERE bulk_id = %s AND position IS NOT NULL"
        " AND rule <> 'taken-off' GROUP BY state",
        bulk_id,
    )
    counts: Mapping[str, int] = dict(rows)
    return Tally(**{state.value: counts.get(state.value, 0) for state in ItemState})


async def moved_at(tx: Transaction, bulk_id: UUID) -> datetime | None:
    """When an item of this job last moved."""
    at: datetime | None = await tx.value(
        "SELECT max(changed_at) FROM bulk_item WHERE bulk_id = %s", bulk_id
    )
    return at


async def jobs_to_follow(tx: Transaction) -> list[UUID]:
    """Jobs at work, and ended ones with orders whose end is still to come."""
    rows = await tx.rows(
        """
        SELECT bulk_id FROM bulk_job WHERE state IN ('canary', 'watching', 'ramp')
        UNION SELECT bulk_id FROM bulk_item WHERE state IN ('ordered', 'unknown')
        ORDER BY bulk_id"""
    )
    return [bulk_id for (bulk_id,) in rows]


async def items(
    tx: Transaction, bulk_id: UUID, *, states: Collection[ItemState] = tuple(ItemState)
) -> list[Item]:
    """The meters of a job by turn; those the plan spared come last."""
    rows = await tx.rows(
        """
        SELECT meter_id, meter.name, room.name, line_id, position, state, batch, rule, detail,
            command_id
        FROM bulk_item JOIN meter USING (meter_id) LEFT JOIN room USING (room_id)
        WHERE bulk_id = %s AND state = ANY(%s) ORDER BY position NULLS LAST, meter_id""",
        bulk_id,
        [state.value for state in states],
    )
    return [
        Item(
            meter_id=meter_id,
            meter=meter,
            room=room,
            line_id=line_id,
            position=position,
            state=ItemState(state),
            batch=batch,
            rule=rule,
            detail=detail,
            command_id=command_id,
        )
        for (
            meter_id, meter, room, line_id, position, state, batch, rule, detail, command_id,
        ) in rows
    ]  # fmt: skip


async def to_undo(tx: Transaction, bulk_id: UUID) -> list[int]:
    """Meters this job has switched or may have, and no undo has on its list; last one first.

    An undo that left, failed or spared a meter gives it back to the next undo.
    """
    rows = await tx.rows(
        """
        SELECT meter_id FROM bulk_item AS done
        WHERE bulk_id = %(bulk_id)s AND state IN ('done', 'ordered', 'unknown') AND NOT EXISTS (
            SELECT FROM bulk_job JOIN bulk_item AS undone USING (bulk_id)
            WHERE undo_of = %(bulk_id)s AND undone.meter_id = done.meter_id
                AND undone.state IN ('waiting', 'ordered', 'unknown', 'done')
        )
        ORDER BY position DESC""",
        named={"bulk_id": bulk_id},
    )
    return [meter_id for (meter_id,) in rows]
