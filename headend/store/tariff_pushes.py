"""Versions on their way into the meters: which hold, which not yet, which refused and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from headend.domain.commands import CommandState
from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One version on its way."""

    push_id: UUID
    version_id: int
    tariff_id: int
    valid_from: date
    state: str  # waits, runs, stopped, done
    halt_reason: str
    ordered_by: int  # who published it
    approved_by: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """A meter and what is written into it; `cannot` says why nothing is."""

    meter_id: int
    settings: Sequence[dict[str, Any]]
    leader_id: int | None = None
    cannot: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A meter of a push as people look at it."""

    meter_id: int
    meter: str
    room: str | None
    state: str  # waiting, ordered, holds, unknown, refused, cannot
    step: int
    steps: int
    command_id: UUID | None
    detail: str
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """A meter whose turn it is, with the setting to write."""

    meter_id: int
    step: int
    tries: int
    setting: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of an order of a push."""

    meter_id: int
    step: int
    steps: int
    state: CommandState
    outcome: str


_PUSH: Final = """
    SELECT push_id, version_id, tariff_id, valid_from, tariff_push.state, halt_reason,
        published_by, approved_by
    FROM tariff_push JOIN tariff_version USING (version_id)"""


async def add(tx: Transaction, push_id: UUID, version_id: int, *, at: datetime, by: int) -> None:
    """It waits for its day."""
    await tx.execute(
        "INSERT INTO tariff_push (push_id, version_id, changed_at, changed_by)"
        " VALUES (%s, %s, %s, %s)",
        push_id,
        version_id,
        at,
        by,
    )


async def of_version(tx: Transaction, version_id: int) -> Push | None:
    """The push of a version; None: it was never published."""
    row = await tx.row(_PUSH + " WHERE version_id = %s", version_id)
    return _push(row) if row else None


async def lock(tx: Transaction, push_id: UUID) -> Push | None:
    """Held until the transaction ends: two processes do not feed one push twice."""
    row = await tx.row(_PUSH + " WHERE push_id = %s FOR UPDATE OF tariff_push", push_id)
    return _push(row) if row else None


async def in_force(tx: Transaction, now: datetime) -> list[UUID]:
    """Pushes to look at: of the versions in force somewhere, and those with orders on their way."""
    rows = await tx.rows(
        """
        WITH begun AS (
            SELECT version_id, row_number() OVER (
                PARTITION BY tariff_id ORDER BY valid_from DESC) AS age
            FROM tariff_version WHERE state = 'published'
                -- The first place on earth where that day begins.
                AND valid_from <= (%s AT TIME ZONE 'Etc/GMT-14')::date
        )
        SELECT push_id FROM tariff_push LEFT JOIN begun USING (version_id)
        -- On one day two versions may be in force, in two time zones.
        WHERE (begun.age <= 2 AND tariff_push.state <> 'stopped') OR EXISTS (
            SELECT FROM tariff_push_item AS item WHERE item.push_id = tariff_push.push_id
                AND item.state IN ('ordered', 'unknown'))
        ORDER BY push_id""",
        now,
    )
    return [push_id for (push_id,) in rows]


async def any_at_work(tx: Transaction) -> bool:
    """Whether meters wait for their turn or for their proof."""
    found: bool = await tx.value(
        """
        SELECT EXISTS (SELECT FROM tariff_push JOIN tariff_push_item AS item USING (push_id)
            WHERE item.state IN ('ordered', 'unknown')
                OR (item.state = 'waiting' AND tariff_push.state = 'runs'))"""
    )
    return found


async def to_state(
    tx: Transaction, push_id: UUID, state: str, *, at: datetime, by: int | None, why: str = ""
) -> None:
    """Waits, runs, stopped or done."""
    await tx.execute(
        "UPDATE tariff_push SET state = %s, halt_reason = %s, changed_at = %s, changed_by = %s"
        " WHERE push_id = %s",
        state,
        why,
        at,
        by,
        push_id,
    )


async def add_items(tx: Transaction, push_id: UUID, items: Sequence[NewItem], at: datetime) -> int:
    """Meters join a push once; those that are in it stay as they are."""
    return await tx.execute_many(
        """
        INSERT INTO tariff_push_item
            (push_id, meter_id, state, leader_id, settings, detail, changed_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (push_id, meter_id) DO NOTHING""",
        [
            (
                push_id,
                item.meter_id,
                "cannot" if item.cannot else "waiting",
                item.leader_id,
                Jsonb(list(item.settings)),
                item.cannot,
                at,
            )
            for item in items
        ],
    )


async def known_meters(tx: Transaction, push_id: UUID) -> set[int]:
    """The meters that are in a push."""
    rows = await tx.rows("SELECT meter_id FROM tariff_push_item WHERE push_id = %s", push_id)
    return {meter_id for (meter_id,) in rows}


async def counts(tx: Transaction, push_id: UUID) -> dict[str, int]:
    """How many meters are in each state."""
    rows = await tx.rows(
        "SELECT state, count(*) FROM tariff_push_item WHERE push_id = %s GROUP BY state", push_id
    )
    return dict(rows)


async def items(
    tx: Transaction, push_id: UUID, sites: Collection[int] | None, *, limit: int | None = 500
) -> list[Item]:
    """Those that need a person first, then those on their way, then the rest."""
    rows = await tx.rows(
        """
        SELECT item.meter_id, meter.name, room.name, item.state, step,
            jsonb_array_length(settings), command_id, detail, changed_at
        FROM tariff_push_item AS item JOIN meter USING (meter_id)
        LEFT JOIN room USING (room_id)
        WHERE push_id = %(push_id)s
            AND (%(sites)s::integer[] IS NULL OR meter.site_id = ANY(%(sites)s))
        ORDER BY array_position(
            ARRAY['refused', 'unknown', 'cannot', 'ordered', 'waiting', 'holds'], item.state),
            meter.name
        LIMIT %(limit)s""",
        named={
            "push_id": push_id,
            "sites": None if sites is None else list(sites),
            "limit": limit,
        },
    )
    return [
        Item(
            meter_id=meter_id, meter=meter, room=room, state=state, step=step, steps=steps,
            command_id=command_id, detail=detail, changed_at=changed_at,
        )
        for meter_id, meter, room, state, step, steps, command_id, detail, changed_at in rows
    ]  # fmt: skip


async def fates(tx: Transaction, push_id: UUID) -> list[Fate]:
    """Where the orders of a push are that are on their way."""
    rows = await tx.rows(
        """
        SELECT item.meter_id, step, jsonb_array_length(settings), command.state, command.outcome
        FROM tariff_push_item AS item JOIN command USING (command_id)
        WHERE push_id = %s AND item.state IN ('ordered', 'unknown') ORDER BY item.meter_id""",
        push_id,
    )
    return [
        Fate(meter_id=meter_id, step=step, steps=steps, state=CommandState(state), outcome=outcome)
        for meter_id, step, steps, state, outcome in rows
    ]


async def next_waiting(tx: Transaction, push_id: UUID, limit: int) -> list[Next]:
    """Meters whose turn it is: begun ones first; of a cabinet once its leader holds the tables."""
    rows = await tx.rows(
        """
        SELECT item.meter_id, step, tries, settings -> step
        FROM tariff_push_item AS item
        WHERE push_id = %(push_id)s AND state = 'waiting' AND (leader_id IS NULL OR EXISTS (
            SELECT FROM tariff_push_item AS leader WHERE leader.push_id = item.push_id
                AND leader.meter_id = item.leader_id AND leader.state = 'holds'))
        ORDER BY step DESC, item.meter_id LIMIT %(limit)s""",
        named={"push_id": push_id, "limit": limit},
    )
    return [
        Next(meter_id=meter_id, step=step, tries=tries, setting=setting)
        for meter_id, step, tries, setting in rows
    ]


async def move(
    tx: Transaction,
    push_id: UUID,
    meter_id: int,
    state: str,
    *,
    at: datetime,
    step: int,
    detail: str = "",
    command_id: UUID | None = None,
) -> None:
    """One meter of a push goes on; with `command_id` one more try of its step has begun."""
    await tx.execute(
        """
        UPDATE tariff_push_item SET state = %(state)s, step = %(step)s, detail = %(detail)s,
            changed_at = %(at)s, command_id = coalesce(%(command_id)s, command_id),
            tries = tries + (%(command_id)s::uuid IS NOT NULL)::integer
        WHERE push_id = %(push_id)s AND meter_id = %(meter_id)s""",
        named={
            "state": state,
            "step": step,
            "detail": detail,
            "at": at,
            "command_id": command_id,
            "push_id": push_id,
            "meter_id": meter_id,
        },
    )


async def fail_followers(tx: Transaction, push_id: UUID, at: datetime) -> int:
    """Circuits whose cabinet did not take the tables wait for nothing."""
    return await tx.execute(
        """
        UPDATE tariff_push_item AS item SET state = 'refused', changed_at = %s,
            detail = 'the circuit that carries the tables of its cabinet does not hold them'
        FROM tariff_push_item AS leader
        WHERE item.push_id = %s AND item.state = 'waiting' AND leader.push_id = item.push_id
            AND leader.meter_id = item.leader_id AND leader.state IN ('refused', 'cannot')""",
        at,
        push_id,
    )


async def supersede(tx: Transaction, push_id: UUID, wanted: Collection[int], at: datetime) -> int:
    """Meters that wait for a version which is no longer theirs wait no more."""
    return await tx.execute(
        """
        UPDATE tariff_push_item SET state = 'refused', changed_at = %s,
            detail = 'another version or tariff holds for it now'
        WHERE push_id = %s AND state = 'waiting' AND meter_id <> ALL(%s)""",
        at,
        push_id,
        list(wanted),
    )


async def tell_anew(tx: Transaction, push_id: UUID, wanted: Collection[int], at: datetime) -> int:
    """Meters that were told another version since, and have come back to this one."""
    return await tx.execute(
        """
        UPDATE tariff_push_item AS item SET state = 'waiting', step = 0, detail = '',
            changed_at = %s
        WHERE push_id = %s AND meter_id = ANY(%s) AND state = 'holds' AND EXISTS (
            SELECT FROM tariff_push_item AS other WHERE other.meter_id = item.meter_id
                AND other.push_id <> item.push_id AND other.changed_at > item.changed_at
                AND other.command_id IS NOT NULL)""",
        at,
        push_id,
        list(wanted),
    )


async def leaders(tx: Transaction, push_id: UUID) -> dict[int, int]:
    """By cabinet, the circuit that carries its tables."""
    rows = await tx.rows(
        """
        SELECT cabinet_id, meter_id FROM tariff_push_item JOIN meter USING (meter_id)
        WHERE push_id = %s AND cabinet_id IS NOT NULL AND leader_id IS NULL
            AND tariff_push_item.state <> 'cannot'""",
        push_id,
    )
    return dict(rows)


async def queued_commands(tx: Transaction, push_id: UUID) -> list[UUID]:
    """Orders of a push that still wait, locked for this transaction."""
    rows = await tx.rows(
        """
        SELECT command_id FROM tariff_push_item AS item JOIN command USING (command_id)
        WHERE push_id = %s AND item.state = 'ordered' AND command.state = 'queued'
        FOR UPDATE OF command""",
        push_id,
    )
    return [command_id for (command_id,) in rows]


async def wait_again(tx: Transaction, push_id: UUID, at: datetime) -> int:
    """Refused ones get another try, from the step that failed."""
    return await tx.execute(
        "UPDATE tariff_push_item SET state = 'waiting', detail = '', changed_at = %s"
        " WHERE push_id = %s AND state = 'refused'",
        at,
        push_id,
    )


def _push(row: tuple[Any, ...]) -> Push:
    push_id, version_id, tariff_id, valid_from, state, halt_reason, by, approved_by = row
    return Push(
        push_id=push_id,
        version_id=version_id,
        tariff_id=tariff_id,
        valid_from=valid_from,
        state=state,
        halt_reason=halt_reason,
        ordered_by=by,
        approved_by=approved_by,
    )
