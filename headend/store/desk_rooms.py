"""Rooms and meters as the desk shows them: the newest look at each, whoever took it.

A look is a reading or the evidence after an order; what is newer counts. Everything is bounded by
the scope of who looks: `sites` None means all, and a meter elsewhere does not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, LiteralString
from uuid import UUID

from headend.domain.roles import Whose, scope_of
from headend.domain.rooms import LOW_BELOW_FEN, SILENT_AFTER, RoomState
from headend.store.database import Row, Transaction

# The evidence after an order is looked for this far back; a night reads the meter long before.
EVIDENCE_REACH: Final = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomMeter:
    """A room, or a meter without one, with what was seen last. `meter_id` None: no meter."""

    site: str
    building: str | None
    room: str | None
    floor: int | None
    meter_id: int | None
    meter: str | None
    seen_at: datetime | None
    credit_fen: int | None
    power_w: int | None
    dark: bool
    waits: bool  # an order to it has not ended
    locked_out: bool
    state: RoomState


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildingCount:
    """How many rooms of a building are in each state."""

    site: str
    building: str
    rooms: int
    counts: dict[RoomState, int]


# What the board asks of each meter. `chosen` says which.
_SEEN: Final[LiteralString] = """
    WITH proof AS MATERIALIZED (
        SELECT DISTINCT ON (attempt.meter_id) attempt.meter_id, attempt.ended_at AS at,
            (attempt.after ->> 'remaining_credit_fen')::bigint AS credit_fen,
            CASE WHEN attempt.kind IN ('cut', 'restore') AND attempt.outcome = 'applied'
                THEN attempt.kind = 'cut'
                ELSE (attempt.after ->> 'relay_closed_bits')::integer = 0 END AS dark
        FROM command JOIN attempt USING (command_id)
        WHERE command.ordered_at > %(proof_since)s AND attempt.ended_at IS NOT NULL
            AND attempt.outcome <> 'decided'
        ORDER BY attempt.meter_id, attempt.ended_at DESC
    ), seen AS (
        SELECT meter.meter_id, meter.name AS meter, meter.site_id, meter.room_id, meter.line_id,
            meter.cabinet_id,
            greatest(last.at, proof.at) AS at,
            CASE
                -- A master has no tenant: what it shows of money is nobody's.
                WHEN EXISTS (SELECT FROM meter AS under WHERE under.master_id = meter.meter_id
                    AND under.retired_at IS NULL) THEN NULL
                WHEN platform_meter.meter_id IS NOT NULL THEN coalesce((
                    SELECT available_fen(account_id) FROM account
                    WHERE account.meter_id = meter.meter_id AND account.kind = 'customer'
                        AND closed_at IS NULL), 0)
                WHEN proof.at > coalesce(last.at, '-infinity')
                THEN coalesce(proof.credit_fen, last.remaining_credit_fen)
                ELSE last.remaining_credit_fen END AS credit_fen,
            coalesce(CASE WHEN proof.at > coalesce(last.at, '-infinity')
                THEN coalesce(proof.dark, last.relay_closed_bits = 0)
                ELSE last.relay_closed_bits = 0 END, false) AS dark,
            last.power_w,
            flying.state AS flying
        FROM meter
        LEFT JOIN platform_meter USING (meter_id)
        LEFT JOIN meter_last AS last USING (meter_id)
        LEFT JOIN proof USING (meter_id)
        LEFT JOIN command AS flying ON flying.meter_id = meter.meter_id
            AND flying.state IN ('claimed', 'sent', 'unknown', 'escalated')
        WHERE meter.retired_at IS NULL
            AND (%(sites)s::integer[] IS NULL OR meter.site_id = ANY(%(sites)s) OR meter.room_id
                IN (SELECT room_id FROM room WHERE building_id = ANY(%(buildings)s)))
    ), judged AS (
        SELECT seen.*,
            CASE
                WHEN coalesce(flying IN ('unknown', 'escalated'), false) THEN 'unknown'
                WHEN at IS NULL THEN 'silent'
                WHEN dark THEN 'dark'
                WHEN at < %(silent_before)s THEN 'silent'
                WHEN credit_fen < 0 THEN 'arrears'
                WHEN credit_fen < %(low)s THEN 'low'
                ELSE 'fine'
            END AS state
        FROM seen
    )"""


def _named(sites: Whose, now: datetime) -> dict[str, object]:
    return {
        **scope_of(sites).named(),
        "proof_since": now - EVIDENCE_REACH,
        "silent_before": now - SILENT_AFTER,
        "low": LOW_BELOW_FEN,
    }


async def buildings(tx: Transaction, sites: Whose, now: datetime) -> list[BuildingCount]:
    """Each building with its rooms by state, in the order of names."""
    rows = await tx.rows(
        _SEEN
        + """
        , each AS (
            SELECT room.site_id, room.building_id, coalesce(judged.state, 'empty') AS state,
                count(*) AS rooms
            FROM room LEFT JOIN judged USING (room_id)
            WHERE room.retired_at IS NULL
                AND (%(sites)s::integer[] IS NULL OR room.site_id = ANY(%(sites)s)
                    OR room.building_id = ANY(%(buildings)s))
            GROUP BY room.site_id, room.building_id, coalesce(judged.state, 'empty')
        )
        SELECT site.name, building.name, state, rooms
        FROM each JOIN building USING (building_id) JOIN site ON site.site_id = each.site_id
        ORDER BY site.name, building.name""",
        named=_named(sites, now),
    )
    found: dict[tuple[str, str], dict[RoomState, int]] = {}
    for site, building, state, count in rows:
        found.setdefault((site, building), {})[RoomState(state)] = count
    return [
        BuildingCount(site=site, building=building, rooms=sum(counts.values()), counts=counts)
        for (site, building), counts in found.items()
    ]


_ROOM: Final[LiteralString] = """
    SELECT site.name, building.name, room.name, room.floor, judged.meter_id, judged.meter,
        judged.at, judged.credit_fen, judged.power_w, coalesce(judged.dark, false),
        judged.flying IS NOT NULL OR EXISTS (SELECT FROM command
            WHERE command.meter_id = judged.meter_id AND command.state = 'queued'),
        EXISTS (SELECT FROM lock_out WHERE lifted_at IS NULL AND (
            lock_out.meter_id = judged.meter_id OR lock_out.cabinet_id = judged.cabinet_id
            OR lock_out.line_id = judged.line_id)),
        coalesce(judged.state, 'empty')"""


async def rooms_of(
    tx: Transaction, sites: Whose, now: datetime, *, site: str, building: str
) -> list[RoomMeter]:
    """The rooms of one building, the highest floor first, as one looks at a house."""
    rows = await tx.rows(
        # Only this house: nobody waits for the others to be judged.
        _SEEN.replace("WHERE meter.retired_at IS NULL", _ONE_BUILDING)
        + _ROOM
        + """
        FROM room JOIN building USING (building_id) JOIN site ON site.site_id = room.site_id
        LEFT JOIN judged USING (room_id)
        WHERE room.retired_at IS NULL AND site.name = %(site)s AND building.name = %(building)s
            AND (%(sites)s::integer[] IS NULL OR room.site_id = ANY(%(sites)s)
                    OR room.building_id = ANY(%(buildings)s))
        ORDER BY room.floor DESC NULLS LAST, room.name, judged.meter""",
        named=_named(sites, now) | {"site": site, "building": building},
    )
    return [_room(row) for row in rows]


async def worst(
    tx: Transaction,
    sites: Whose,
    now: datetime,
    states: Collection[RoomState],
    *,
    limit: int = 20,
) -> dict[RoomState, tuple[int, list[RoomMeter]]]:
    """For each of the states: how many meters are in it, and those with the least credit.

    One pass over all meters, however many states are asked for.
    """
    rows = await tx.rows(
        _SEEN
        + """
        , few AS (
            SELECT * FROM (
                SELECT judged.*, count(*) OVER (PARTITION BY state) AS of_state,
                    row_number() OVER (
                        PARTITION BY state ORDER BY credit_fen NULLS LAST, at NULLS FIRST, meter
                    ) AS turn
                FROM judged WHERE state = ANY(%(states)s)
            ) AS ranked WHERE turn <= %(limit)s
        )"""
        + _ROOM.replace("judged", "few")
        + """, of_state
        FROM few JOIN site ON site.site_id = few.site_id LEFT JOIN room USING (room_id)
        LEFT JOIN building USING (building_id) ORDER BY turn""",
        named=_named(sites, now) | {"states": [one.value for one in states], "limit": limit},
    )
    found: dict[RoomState, tuple[int, list[RoomMeter]]] = {state: (0, []) for state in states}
    for *row, of_state in rows:
        one = _room(tuple(row))
        found[one.state] = (of_state, [*found[one.state][1], one])
    return found


async def of_meter(tx: Transaction, sites: Whose, now: datetime, meter_id: int) -> RoomMeter | None:
    """One meter as the board has it."""
    rows = await tx.rows(
        # One meter: the sets above are made for it alone.
        _SEEN.replace("WHERE meter.retired_at IS NULL", _ONE_METER).replace(
            "WHERE command.ordered_at >", _ONE_COMMAND
        )
        + _ROOM
        + """
        FROM judged JOIN site ON site.site_id = judged.site_id LEFT JOIN room USING (room_id)
        LEFT JOIN building USING (building_id)""",
        named=_named(sites, now) | {"meter_id": meter_id},
    )
    return _room(rows[0]) if rows else None


_ONE_METER: Final[LiteralString] = (
    "WHERE meter.retired_at IS NULL AND meter.meter_id = %(meter_id)s"
)
_ONE_BUILDING: Final[LiteralString] = """WHERE meter.retired_at IS NULL AND meter.room_id IN (
                SELECT room_id FROM room JOIN building USING (building_id)
                JOIN site ON site.site_id = room.site_id
                WHERE site.name = %(site)s AND building.name = %(building)s)"""
_ONE_COMMAND: Final[LiteralString] = (
    "WHERE command.meter_id = %(meter_id)s AND command.ordered_at >"
)


def _room(row: Row) -> RoomMeter:
    site, building, room, floor, meter_id, meter, at, credit_fen, power_w = row[:9]
    dark, waits, locked_out, state = row[9:]
    return RoomMeter(
        site=site,
        building=building,
        room=room,
        floor=floor,
        meter_id=meter_id,
        meter=meter,
        seen_at=at,
        credit_fen=credit_fen,
        power_w=power_w,
        dark=dark,
        waits=waits,
        locked_out=locked_out,
        state=RoomState(state),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One meter that a search met, with who lives there."""

    meter_id: int
    meter: str
    meter_number: str | None
    site: str
    building: str | None
    room: str | None
    customer: str | None
    contact: str | None


async def search(tx: Transaction, sites: Whose, text: str, *, limit: int = 20) -> Sequence[Found]:
    """By room, customer, their number, telephone, card, meter or its number; what begins with the
    text comes first."""
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    rows = await tx.rows(
        """
        WITH met AS (
            SELECT meter_id FROM meter
            WHERE meter.name ILIKE %(text)s OR meter_number ILIKE %(text)s
            UNION
            SELECT meter_id FROM room JOIN meter USING (room_id) WHERE room.name ILIKE %(text)s
            UNION
            SELECT meter_id FROM account WHERE kind = 'customer' AND closed_at IS NULL
                AND (name ILIKE %(text)s OR contact ILIKE %(text)s)
            UNION
            SELECT account.meter_id FROM customer JOIN account USING (customer_id)
            WHERE account.closed_at IS NULL AND customer_no ILIKE %(text)s
            UNION
            SELECT meter_id FROM card WHERE ended_at IS NULL AND meter_id IS NOT NULL
                AND encode(serial, 'hex') ILIKE %(text)s
        )
        SELECT meter.meter_id, meter.name, meter.meter_number, site.name, building.name, room.name,
            customer.name, customer.contact
        FROM met JOIN meter USING (meter_id) JOIN site USING (site_id)
        LEFT JOIN room USING (room_id) LEFT JOIN building USING (building_id)
        LEFT JOIN account AS customer ON customer.meter_id = meter.meter_id
            AND customer.kind = 'customer' AND customer.closed_at IS NULL
        WHERE meter.retired_at IS NULL
            AND (%(sites)s::integer[] IS NULL OR meter.site_id = ANY(%(sites)s)
                OR room.building_id = ANY(%(buildings)s))
        ORDER BY coalesce(room.name, meter.name) ILIKE substr(%(text)s, 2) DESC,
            length(coalesce(room.name, meter.name)), coalesce(room.name, meter.name)
        LIMIT %(limit)s""",
        named={**scope_of(sites).named(), "text": pattern, "limit": limit},
    )
    return [
        Found(
            meter_id=row[0],
            meter=row[1],
            meter_number=row[2],
            site=row[3],
            building=row[4],
            room=row[5],
            customer=row[6],
            contact=row[7] or None,
        )
        for row in rows
    ]


async def entry_no(tx: Transaction, transfer_id: UUID) -> int:
    """The place of a transfer in the books: a number that is used once. 0: there is none."""
    found: int | None = await tx.value(
        "SELECT entry_no FROM transfer WHERE transfer_id = %s", transfer_id
    )
    return found or 0
