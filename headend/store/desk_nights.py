"""Meters with gaps in the last nights, as the collection board shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from headend.domain.nights import Cell, CellState, GapReason
from headend.store.database import Transaction
from protocols.reading import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRow:
    """One meter: what became of it in each night; a night before it was there is left out."""

    meter: str
    room: str | None
    line: str
    cells: Mapping[date, tuple[CellState, GapReason | None]]
    gaps: int


async def gaps(tx: Transaction, site: str, *, nights: int, limit: int) -> list[GapRow]:
    """Meters of a site that are without a reading in any of its last nights, the worst first."""
    rows = await tx.rows(
        """
        WITH recent AS (
            SELECT night_id, night FROM night JOIN site USING (site_id)
            WHERE site.name = %(site)s ORDER BY night DESC LIMIT %(nights)s
        ), holed AS (
            SELECT meter_id, count(*) AS gaps FROM night_cell JOIN recent USING (night_id)
            WHERE state IN ('open', 'missing', 'estimated')
            GROUP BY meter_id ORDER BY gaps DESC, meter_id LIMIT %(limit)s
        )
        SELECT meter.name, room.name, line.name, gaps,
            jsonb_object_agg(recent.night, jsonb_build_array(night_cell.state, reason))
        FROM holed JOIN meter USING (meter_id) JOIN line USING (line_id)
        LEFT JOIN room USING (room_id)
        JOIN recent ON true
        JOIN night_cell ON night_cell.night_id = recent.night_id
            AND night_cell.meter_id = holed.meter_id
        WHERE meter.retired_at IS NULL
        GROUP BY meter.meter_id, meter.name, room.name, line.name, gaps
        ORDER BY gaps DESC, line.name, meter.unit, meter.name""",
        named={"site": site, "nights": nights, "limit": limit},
    )
    return [
        GapRow(
            meter=meter,
            room=room,
            line=line,
            gaps=count,
            cells={
                date.fromisoformat(night): (
                    CellState(state),
                    GapReason(reason) if reason else None,
                )
                for night, (state, reason) in cells.items()
            },
        )
        for meter, room, line, count, cells in rows
    ]


async def counted(
    tx: Transaction, site: str, night: date
) -> list[tuple[CellState, GapReason | None, int]]:
    """The cells of a night by state and reason; empty when there is no such night."""
    rows = await tx.rows(
        """
        SELECT state, reason, count(*) FROM night JOIN site USING (site_id)
        JOIN night_cell USING (night_id)
        WHERE site.name = %s AND night = %s GROUP BY state, reason""",
        site,
        night,
    )
    return [
        (CellState(state), GapReason(reason) if reason else None, count)
        for state, reason, count in rows
    ]


async def cells(
    tx: Transaction, site: str, night: date, *, reason: GapReason | None, limit: int
) -> list[Cell]:
    """The cells of a night, those with a reason first; only those of one reason where one is named.

    As store/nights.py cells(), for a page that shows the first of thousands.
    """
    rows = await tx.rows(
        """
        SELECT meter_id, meter.name, room.name, line.name, state, reason, detail, tries,
            last_tried_at, reading_at, energy_wh,
            (SELECT origin FROM reading
                WHERE reading.meter_id = few.meter_id AND at = reading_at)
        FROM (
            SELECT night_cell.* FROM night JOIN site USING (site_id)
            JOIN night_cell USING (night_id)
            WHERE site.name = %(site)s AND night = %(night)s
                AND (%(reason)s::text IS NULL OR reason = %(reason)s)
            ORDER BY reason NULLS LAST, meter_id LIMIT %(limit)s
        ) AS few JOIN meter USING (meter_id) JOIN line USING (line_id)
        LEFT JOIN room USING (room_id)
        ORDER BY reason NULLS LAST, line_id, unit, meter_id""",
        named={
            "site": site,
            "night": night,
            "reason": reason.value if reason else None,
            "limit": limit,
        },
    )
    return [
        Cell(
            meter_id=row[0],
            meter=row[1],
            room=row[2],
            line=row[3],
            state=CellState(row[4]),
            reason=GapReason(row[5]) if row[5] else None,
            detail=row[6],
            tries=row[7],
            last_tried_at=row[8],
            reading_at=row[9],
            energy_wh=row[10],
            origin=Origin(row[11]) if row[11] else None,
        )
        for row in rows
    ]
