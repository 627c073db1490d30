"""A meter's bill: each day's charge and its corrections, and the readings they follow from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from headend.domain.billing import Night
from headend.domain.charging import Part, Point
from headend.domain.tariffs import Rate
from headend.store.database import Row, Transaction

NIGHTS_MAX: Final = 75  # a late reading that makes an older day more exact changes nothing any more
_RATES: Final = (
    "energy_sharp_wh, energy_peak_wh, energy_flat_wh, energy_valley_wh, energy_deep_valley_wh"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One line of a meter's bill."""

    charge_id: int
    day: date
    seq: int  # 0: the day's charge, else a correction of it
    kind: str  # reading, split, correction, decided
    from_at: datetime | None
    from_wh: int | None
    to_at: datetime | None
    to_wh: int | None
    energy_wh: int
    used_before_wh: int
    version_id: int | None
    basis: str
    parts: tuple[Part, ...]
    fee_fen: int
    cost_fen_x5: int
    carry_before_x5: int
    carry_after_x5: int
    amount_fen: int
    transfer_id: UUID | None
    reason: str
    booked_at: datetime


_CHARGE: Final = (
    "charge_id, day, seq, kind, from_at, from_wh, to_at, to_wh, energy_wh, used_before_wh,"
    " version_id, basis, parts, fee_fen, cost_fen_x5, carry_before_x5, carry_after_x5, amount_fen,"
    " transfer_id, reason, booked_at"
)


async def due(tx: Transaction, *, after: int = 0, limit: int) -> list[int]:
    """Meters with a reading that is not billed yet, or that makes a split day more exact; in order
    of their ids, those above `after`."""
    rows = await tx.rows(
        """
        SELECT meter_id FROM platform_meter JOIN meter USING (meter_id) WHERE meter_id > %s AND (
        EXISTS (
            SELECT FROM night JOIN night_cell AS cell USING (night_id)
            WHERE night.site_id = meter.site_id AND night > billed_day
                AND cell.meter_id = meter.meter_id AND cell.state IN ('read', 'back_filled')
        ) OR EXISTS (
            SELECT FROM charge JOIN night ON night.site_id = meter.site_id AND night = charge.day
            JOIN night_cell AS cell USING (night_id)
            WHERE charge.meter_id = meter.meter_id AND charge.kind = 'split'
                AND cell.meter_id = meter.meter_id AND cell.state IN ('read', 'back_filled')
                -- Not the reading that ended the gap itself, and not told apart by it already.
                AND NOT EXISTS (SELECT FROM charge AS line WHERE line.meter_id = charge.meter_id
                    AND line.day = charge.day AND line.to_at = cell.reading_at)
        )) ORDER BY meter_id LIMIT %s""",
        after,
        limit,
    )
    return [meter_id for (meter_id,) in rows]


async def nights(tx: Transaction, meter_id: int, after: date) -> list[Night]:
    """The readings that end days, after a day, oldest first; the newest NIGHTS_MAX of them."""
    rows = await tx.rows(
        f"""
        SELECT night, reading_at, cell.energy_wh, {_RATES}
        FROM night_cell AS cell JOIN night USING (night_id)
        LEFT JOIN reading ON reading.meter_id = cell.meter_id AND reading.at = cell.reading_at
        WHERE cell.meter_id = %s AND night > %s AND state IN ('read', 'back_filled')
            AND cell.energy_wh IS NOT NULL
        ORDER BY night DESC LIMIT %s""",
        meter_id,
        after,
        NIGHTS_MAX,
    )
    return [Night(day, point_of(at, wh, rates)) for day, at, wh, *rates in reversed(rows)]


async def points_between(
    tx: Transaction, meter_id: int, since: datetime, until: datetime
) -> list[Point]:
    """Readings strictly between two instants, oldest first."""
    rows = await tx.rows(
        f"""
        SELECT at, energy_wh, {_RATES} FROM reading
        WHERE meter_id = %s AND at > %s AND at < %s AND energy_wh IS NOT NULL
        ORDER BY at LIMIT 10000""",
        meter_id,
        since,
        until,
    )
    return [point_of(at, wh, rates) for at, wh, *rates in rows]


def point_of(at: datetime, energy_wh: int, rates: Sequence[int | None]) -> Point:
    """A reading as the bill looks at it; rate registers in the order of Rate."""
    known = {rate: wh for rate, wh in zip(Rate, rates, strict=True) if wh is not None}
    return Point(at, energy_wh, known or None)


async def last_point(tx: Transaction, meter_id: int) -> Point | None:
    """The newest reading with a total."""
    row = await tx.row(
        f"""
        SELECT at, energy_wh, {_RATES} FROM reading
        WHERE meter_id = %s AND energy_wh IS NOT NULL ORDER BY at DESC LIMIT 1""",
        meter_id,
    )
    return point_of(row[0], row[1], row[2:]) if row else None


async def lines(
    tx: Transaction,
    meter_id: int,
    *,
    since: date = date.min,
    until: date = date.max,
    before: tuple[date, int] | None = None,
    limit: int = 2000,
) -> list[Charge]:
    """The lines of a meter's bill with since <= day <= until, newest first; `before`: past that
    day and number."""
    rows = await tx.rows(
        f"""
        SELECT {_CHARGE} FROM charge WHERE meter_id = %(meter)s
            AND day BETWEEN %(since)s AND %(until)s
            AND (%(day)s::date IS NULL OR (day, seq) < (%(day)s, %(seq)s::integer))
        ORDER BY day DESC, seq DESC LIMIT %(limit)s""",
        named={
            "meter": meter_id,
            "since": since,
            "until": until,
            "day": None if before is None else before[0],
            "seq": None if before is None else before[1],
            "limit": limit,
        },
    )
    return [_charge(row) for row in rows]


async def last_day(tx: Transaction, meter_id: int) -> date | None:
    """The last day this meter was ever charged for; None: never."""
    found: date | None = await tx.value("SELECT max(day) FROM charge WHERE meter_id = %s", meter_id)
    return found


async def carry(tx: Transaction, meter_id: int) -> int:
    """The fraction of a fen that waits for the next line."""
    carried: int | None = await tx.value(
        "SELECT carry_after_x5 FROM charge WHERE meter_id = %s ORDER BY charge_id DESC LIMIT 1",
        meter_id,
    )
    return carried or 0


async def used_wh(tx: Transaction, meter_id: int, since: date, before: date) -> int:
    """Energy billed for days with since <= day < before."""
    used: int = await tx.value(
        "SELECT coalesce(sum(energy_wh), 0)::bigint FROM charge"
        " WHERE meter_id = %s AND day >= %s AND day < %s",
        meter_id,
        since,
        before,
    )
    return used


async def add(tx: Transaction, meter_id: int, line: Charge) -> None:
    """One line more; its charge_id is given by the database."""
    await tx.execute(
        """
        INSERT INTO charge (meter_id, day, seq, kind, from_at, from_wh, to_at, to_wh, energy_wh,
            used_before_wh, version_id, basis, parts, fee_fen, cost_fen_x5, carry_before_x5,
            carry_after_x5, amount_fen, transfer_id, reason, booked_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        meter_id,
        line.day,
        line.seq,
        line.kind,
        line.from_at,
        line.from_wh,
        line.to_at,
        line.to_wh,
        line.energy_wh,
        line.used_before_wh,
        line.version_id,
        line.basis,
        Jsonb([part_record(part) for part in line.parts]),
        line.fee_fen,
        line.cost_fen_x5,
        line.carry_before_x5,
        line.carry_after_x5,
        line.amount_fen,
        line.transfer_id,
        line.reason,
        line.booked_at,
    )


def part_record(part: Part) -> dict[str, Any]:
    """A part as JSON."""
    return {"what": part.what, "energy_wh": part.energy_wh, "price_x4": part.price_x4}


async def billed_until(tx: Transaction, meter_id: int, day: date, at: datetime) -> None:
    """Billing has come so far, and nothing holds it up."""
    await tx.execute(
        "UPDATE platform_meter SET billed_day = greatest(billed_day, %s),"
        " billed_at = greatest(billed_at, %s), doubt = '' WHERE meter_id = %s",
        day,
        at,
        meter_id,
    )


async def doubt(tx: Transaction, meter_id: int, why: str) -> bool:
    """Billing does not go on for a reason; False when that was so already."""
    touched = await tx.execute(
        "UPDATE platform_meter SET doubt = %s WHERE meter_id = %s AND doubt <> %s",
        why,
        meter_id,
        why,
    )
    return touched == 1


async def energy_account(tx: Transaction, site_id: int, at: datetime) -> int:
    """The income account of a property, opened at its first use."""
    await tx.execute(
        "INSERT INTO account (kind, name, site_id, opened_at)"
        " SELECT 'energy', site.name, site_id, %s FROM site WHERE site_id = %s"
        " ON CONFLICT (site_id) WHERE kind = 'energy' DO NOTHING",
        at,
        site_id,
    )
    number: int = await tx.value(
        "SELECT account_id FROM account WHERE kind = 'energy' AND site_id = %s", site_id
    )
    return number


async def site_of(tx: Transaction, meter_id: int) -> int:
    """The property of a meter."""
    number: int = await tx.value("SELECT site_id FROM meter WHERE meter_id = %s", meter_id)
    return number


async def doubts(tx: Transaction, sites: Collection[int] | None) -> list[tuple[str, str, date]]:
    """Meters whose billing does not go on: name, why, and the last day that is billed."""
    rows = await tx.rows(
        """
        SELECT meter.name, doubt, billed_day FROM platform_meter JOIN meter USING (meter_id)
        WHERE doubt <> '' AND (%(sites)s::integer[] IS NULL OR site_id = ANY(%(sites)s))
        ORDER BY billed_day, meter.name""",
        named={"sites": None if sites is None else list(sites)},
    )
    return [(name, why, day) for name, why, day in rows]


def _charge(row: Row) -> Charge:
    parts = tuple(Part(p["what"], p["energy_wh"], p["price_x4"]) for p in row[12])
    names = [name.strip() for name in _CHARGE.split(",")]
    return Charge(**dict(zip(names, row, strict=True)) | {"parts": parts})
