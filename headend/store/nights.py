"""Nights and their cells: each meter, each night, read or with its reason.

A cell that has its reading is never touched again. Readings find their night by their instant: the
newest night of the meter's site that had opened by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from headend.domain.nights import Cell, CellState, Completeness, GapReason, NightWindow
from headend.store.clocks import ClockCheck, record_checks
from headend.store.database import Row, Transaction
from headend.store.readings import store_readings
from protocols.reading import Origin, Quantity, Reading, billed

# A night reaches to the opening of the next one. Where no next one is known, this far: the longest
# day of a year, when clocks are put back, has 25 hours.
NIGHT_REACH_HOURS = 25
# An estimate bridges at most one month and some days: beyond, a person has to look.
ESTIMATE_DAYS_MAX = 35


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A reading to store, with what else the look told. It fills its cell, if it has one."""

    reading: Reading
    drift_s: int | None = None  # the dial minus the site's wall clock; None: no dial was read


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One try that brought no reading."""

    night_id: int
    meter_id: int
    reason: GapReason
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What save() did."""

    stored: int  # readings that were new
    filled: int  # cells that got their reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A cell of a past night that still has no reading, for back-filling."""

    night_id: int
    night: date
    opens_at: datetime
    closes_at: datetime
    meter_id: int


async def save(tx: Transaction, looks: Sequence[Look], gaps: Sequence[Gap]) -> Saved:
    """Readings, their cells, clock checks and gaps in one transaction; harmless when repeated."""
    stored = await store_readings(tx, [look.reading for look in looks])
    await record_checks(tx, [check for look in looks if (check := _clock_check(look))])
    filled = await fill_cells(tx, [look.reading for look in looks])
    await record_gaps(tx, gaps)
    return Saved(stored=stored, filled=filled)


def _clock_check(look: Look) -> ClockCheck | None:
    if look.drift_s is None:
        return None
    return ClockCheck(
        meter_id=look.reading.meter_id,
        checked_at=look.reading.at,
        drift_s=look.drift_s,
        meter_clock_s=look.reading.values.get(Quantity.CLOCK),
    )


async def open_night(
    tx: Transaction,
    site_id: int,
    window: NightWindow,
    *,
    reason: GapReason = GapReason.NOT_TRIED,
) -> int:
    """Make the night and one open cell for each live meter of the site; returns its number.

    May be called again: the night keeps its window, meters imported meanwhile get their cell as
    long as the night is not closed. `reason` is what a cell says until its first try.
    """
    await tx.execute(
        """
        INSERT INTO night (site_id, night, opens_at, closes_at) VALUES (%s, %s, %s, %s)
        ON CONFLICT (site_id, night) DO NOTHING""",
        site_id,
        window.night,
        window.opens_at,
        window.closes_at,
    )
    row = await tx.row(
        "SELECT night_id, closed_at IS NULL FROM night WHERE site_id = %s AND night = %s",
        site_id,
        window.night,
    )
    assert row is not None, "just inserted"
    night_id, is_open = row
    if is_open:
        await tx.execute(
            """
            INSERT INTO night_cell (night_id, meter_id, reason)
            SELECT %s, meter_id, %s FROM meter
            WHERE site_id = %s AND retired_at IS NULL ORDER BY meter_id
            ON CONFLICT DO NOTHING""",
            night_id,
            reason.value,
            site_id,
        )
    assert isinstance(night_id, int)
    return night_id


async def last_night(tx: Transaction, site_id: int) -> NightWindow | None:
    """The newest night that was ever opened for this site, with the window it was opened with."""
    row = await tx.row(
        "SELECT night, opens_at, closes_at FROM night"
        " WHERE site_id = %s ORDER BY night DESC LIMIT 1",
        site_id,
    )
    return NightWindow(night=row[0], opens_at=row[1], closes_at=row[2]) if row else None


async def close_nights(tx: Transaction, site_id: int, now: datetime) -> int:
    """Close every night whose time is over: its open cells are missing now, with their last reason.

    Returns how many nights were closed. A cell may still be back-filled afterwards.
    """
    closed: int = await tx.value(
        """
        WITH closed AS (
            UPDATE night SET closed_at = %s
            WHERE site_id = %s AND closed_at IS NULL AND closes_at <= %s RETURNING night_id
        ), missing AS (
            UPDATE night_cell SET state = 'missing'
            FROM closed WHERE night_cell.night_id = closed.night_id AND state = 'open'
        )
        SELECT count(*) FROM closed""",
        now,
        site_id,
        now,
    )
    return closed


async def open_cells(tx: Transaction, night_id: int) -> list[int]:
    """The meters that still have no reading in this night, least recently tried first.

    Closed or not: an estimated or missing cell still wants its reading.
    """
    rows = await tx.rows(
        """
        SELECT meter_id FROM night_cell JOIN meter USING (meter_id)
        WHERE night_id = %s AND state IN ('open', 'missing', 'estimated')
            AND meter.retired_at IS NULL
        ORDER BY last_tried_at NULLS FIRST, line_id, unit""",
        night_id,
    )
    return [meter_id for (meter_id,) in rows]


async def holes(tx: Transaction, site_id: int, since: date) -> list[Hole]:
    """Cells without a reading in closed nights from `since` on, newest night first."""
    rows = await tx.rows(
        """
        SELECT night_id, night, opens_at, closes_at, meter_id
        FROM night JOIN night_cell USING (night_id) JOIN meter USING (meter_id)
        WHERE night.site_id = %s AND night >= %s AND closed_at IS NOT NULL
            AND state IN ('missing', 'estimated') AND meter.retired_at IS NULL
        ORDER BY night DESC, meter_id""",
        site_id,
        since,
    )
    return [
        Hole(night_id=number, night=night, opens_at=opens, closes_at=closes, meter_id=meter_id)
        for number, night, opens, closes, meter_id in rows
    ]


async def fill_cells(tx: Transaction, readings: Sequence[Reading]) -> int:
    """Give each reading with a number for the bill to its cell; returns how many were filled.

    "read" when it was taken inside the night, "back_filled" when it was taken later or comes from
    the meter's own memory. A cell that has its reading keeps it.
    """
    of_bills = [reading for reading in readings if billed(reading.values) is not None]
    if not of_bills:
        return 0
    return await tx.execute(
        """
        WITH given AS (
            SELECT * FROM unnest(%s::integer[], %s::timestamptz[], %s::text[], %s::bigint[])
                AS given (meter_id, at, origin, energy_wh)
        ), found AS (
            SELECT DISTINCT ON (night_id, meter_id) night_id, given.*,
                CASE WHEN origin = 'frozen' OR at > closes_at
                    THEN 'back_filled' ELSE 'read' END AS state
            FROM given JOIN meter USING (meter_id)
            CROSS JOIN LATERAL (
                SELECT night_id, opens_at, closes_at FROM night
                WHERE night.site_id = meter.site_id AND opens_at <= given.at
                ORDER BY opens_at DESC LIMIT 1
            ) AS night
            WHERE at < opens_at + make_interval(hours => %s)
            ORDER BY night_id, meter_id, at
        )
        UPDATE night_cell SET state = found.state, reason = NULL, detail = '',
            reading_at = found.at, energy_wh = found.energy_wh,
            tries = tries + 1, last_tried_at = greatest(last_tried_at, found.at)
        FROM found
        WHERE night_cell.night_id = found.night_id AND night_cell.meter_id = found.meter_id
            AND night_cell.state IN ('open', 'missing', 'estimated')""",
        [reading.meter_id for reading in of_bills],
        [reading.at for reading in of_bills],
        [reading.origin.value for reading in of_bills],
        # None: a meter of water or heat.
        [reading.values.get(Quantity.ENERGY) for reading in of_bills],
        NIGHT_REACH_HOURS,
    )


async def record_gaps(tx: Transaction, gaps: Sequence[Gap]) -> int:
    """Keep the reason of the last try in each cell that has no reading; returns how many.

    A line that is down is a reason but no try: nobody asked the meter.
    """
    if not gaps:
        return 0
    return await tx.execute(
        """
        UPDATE night_cell SET reason = gap.reason, detail = gap.detail,
            tries = tries + gap.tried,
            last_tried_at = CASE WHEN gap.tried = 1 THEN gap.at ELSE last_tried_at END
        FROM (
            SELECT DISTINCT ON (night_id, meter_id) given.*,
                CASE reason WHEN 'line_down' THEN 0 ELSE 1 END AS tried
            FROM unnest(%s::integer[], %s::integer[], %s::text[], %s::text[], %s::timestamptz[])
                AS given (night_id, meter_id, reason, detail, at)
            ORDER BY night_id, meter_id, at DESC
        ) AS gap
        WHERE night_cell.night_id = gap.night_id AND night_cell.meter_id = gap.meter_id
            AND state IN ('open', 'missing', 'estimated')""",
        [gap.night_id for gap in gaps],
        [gap.meter_id for gap in gaps],
        [gap.reason.value for gap in gaps],
        [gap.detail for gap in gaps],
        [gap.at for gap in gaps],
    )


async def estimate_cells(tx: Transaction, night_id: int) -> int:
    """Work out missing cells of a closed night between the readings before and after it.

    A straight line at the opening of the night, whole Wh. Only the cell says it: no reading is
    made up. The reason stays, and a reading that comes later replaces the estimate. No estimate
    where the counter fell or the two readings lie more than ESTIMATE_DAYS_MAX apart.
    """
    return await tx.execute(
        """
        UPDATE night_cell SET state = 'estimated', energy_wh = worked_out.energy_wh
        FROM (
            SELECT night_id, meter_id, round(
                before.energy_wh + (after.energy_wh - before.energy_wh)
                * extract(epoch FROM night.opens_at - before.at)
                / extract(epoch FROM after.at - before.at))::bigint AS energy_wh
            FROM night JOIN night_cell USING (night_id)
            CROSS JOIN LATERAL (
                SELECT at, energy_wh FROM reading
                WHERE reading.meter_id = night_cell.meter_id AND at < opens_at
                    AND at > opens_at - make_interval(days => %(days)s)
                    AND reading.energy_wh IS NOT NULL
                ORDER BY at DESC LIMIT 1
            ) AS before
            CROSS JOIN LATERAL (
                SELECT at, energy_wh FROM reading
                WHERE reading.meter_id = night_cell.meter_id AND at >= opens_at
                    AND at < opens_at + make_interval(days => %(days)s)
                    AND reading.energy_wh IS NOT NULL
                ORDER BY at LIMIT 1
            ) AS after
            WHERE night_id = %(night_id)s AND closed_at IS NOT NULL AND state = 'missing'
                AND after.energy_wh >= before.energy_wh
                AND after.at - before.at <= make_interval(days => %(days)s)
        ) AS worked_out
        WHERE night_cell.night_id = worked_out.night_id
            AND night_cell.meter_id = worked_out.meter_id""",
        named={"night_id": night_id, "days": ESTIMATE_DAYS_MAX},
    )


async def completeness(
    tx: Transaction, *, site: str | None = None, count: int = 7
) -> list[Completeness]:
    """The last `count` nights of one site or of each, newest first."""
    rows = await tx.rows(
        """
        SELECT site.name, night, opens_at, closes_at, cells, others
        FROM site CROSS JOIN LATERAL (
            SELECT * FROM night WHERE night.site_id = site.site_id
            ORDER BY night DESC LIMIT %(count)s
        ) AS recent
        CROSS JOIN LATERAL (
            SELECT
                (SELECT count(*) FROM night_cell WHERE night_id = recent.night_id) AS cells,
                (SELECT jsonb_agg(jsonb_build_array(state, reason, cells)) FROM (
                    SELECT state, reason, count(*) AS cells FROM night_cell
                    WHERE night_id = recent.night_id AND state <> 'read'
                    GROUP BY state, reason ORDER BY 3 DESC, reason) AS other) AS others
        ) AS counted
        WHERE %(site)s::text IS NULL OR site.name = %(site)s
        ORDER BY night DESC, site.name""",
        named={"site": site, "count": count},
    )
    return [_completeness(row) for row in rows]


def _completeness(row: Row) -> Completeness:
    site, night, opens_at, closes_at, meters, others = row
    states: dict[CellState, int] = dict.fromkeys(CellState, 0)
    gaps: dict[GapReason, int] = {}
    for state, reason, cells in others or ():
        states[CellState(state)] += cells
        if reason and CellState(state) in (CellState.OPEN, CellState.MISSING):
            gaps[GapReason(reason)] = gaps.get(GapReason(reason), 0) + cells
    return Completeness(
        site=site,
        night=night,
        opens_at=opens_at,
        closes_at=closes_at,
        meters=meters,
        read=meters - sum(states.values()),
        back_filled=states[CellState.BACK_FILLED],
        estimated=states[CellState.ESTIMATED],
        open=states[CellState.OPEN],
        gaps={reason: gaps[reason] for reason in GapReason if reason in gaps},
    )


async def cells(tx: Transaction, *, site: str, night: date) -> list[Cell] | None:
    """Every cell of one night, by line and unit id; None when there is no such night."""
    night_id = await tx.value(
        "SELECT night_id FROM night JOIN site USING (site_id) WHERE name = %s AND night = %s",
        site,
        night,
    )
    if night_id is None:
        return None
    rows = await tx.rows(
        """
        SELECT meter_id, meter.name, room.name, line.name, state, reason, detail, tries,
            last_tried_at, reading_at, energy_wh,
            (SELECT origin FROM reading
                WHERE reading.meter_id = night_cell.meter_id AND at = reading_at)
        FROM night_cell JOIN meter USING (meter_id) JOIN line USING (line_id)
        LEFT JOIN room USING (room_id)
        WHERE night_id = %s ORDER BY line_id, unit, meter_id""",
        night_id,
    )
    return [
        Cell(
            meter_id=meter_id,
            meter=meter,
            room=room,
            line=line,
            state=CellState(state),
            reason=GapReason(reason) if reason else None,
            detail=detail,
            tries=tries,
            last_tried_at=last_tried_at,
            reading_at=reading_at,
            energy_wh=energy_wh,
            origin=Origin(origin) if origin else None,
        )
        for (
            meter_id, meter, room, line, state, reason, detail, tries,
            last_tried_at, reading_at, energy_wh, origin,
        ) in rows
    ]  # fmt: skip
