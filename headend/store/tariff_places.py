"""Where tariffs hold: assignments to places, and what decides the price of one meter's energy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from headend.domain.tariff_records import from_record
from headend.domain.tariffs import Assignment, Book, Version
from headend.store.database import Transaction
from headend.store.tariffs import IN_SCOPE

PLACES: Final = ("site", "building", "room", "meter")  # by depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an assignment holds, by names people know."""

    kind: str  # site, building, room, meter
    name: str
    site: str
    tariff: str | None
    from_day: date
    reason: str
    assigned_by: str
    assigned_at: datetime


async def assign(
    tx: Transaction,
    tariff_id: int | None,
    place: str,
    place_id: int,
    *,
    from_day: date,
    reason: str,
    by: int,
    at: datetime,
) -> None:
    """A tariff for a place from a day on; None: nothing of its own any more."""
    assert place in PLACES
    await tx.execute(
        """
        INSERT INTO tariff_assignment
            (tariff_id, site_id, building_id, room_id, meter_id, from_day, reason, assigned_by,
            assigned_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        tariff_id,
        *(place_id if place == one else None for one in PLACES),
        from_day,
        reason,
        by,
        at,
    )


async def place_id(
    tx: Transaction, sites: Collection[int] | None, place: str, site: str, name: str
) -> int | None:
    """The number of a place by its names; None: there is none inside the scope."""
    assert place in PLACES
    named = {"site": site, "name": name, "sites": None if sites is None else list(sites)}
    scope = " AND " + IN_SCOPE.format("site.site_id")
    match place:
        case "site":
            return await _one(tx, "SELECT site_id FROM site WHERE name = %(site)s" + scope, named)
        case "building":
            text = "SELECT building_id FROM building JOIN site USING (site_id)"
            where = " WHERE site.name = %(site)s AND building.name = %(name)s"
            where += " AND building.retired_at IS NULL"
        case "room":
            text = "SELECT room_id FROM room JOIN site USING (site_id)"
            where = " WHERE site.name = %(site)s AND room.name = %(name)s"
            where += " AND room.retired_at IS NULL"
        case _:
            text = "SELECT meter_id FROM meter JOIN site USING (site_id)"
            where = " WHERE site.name = %(site)s AND meter.name = %(name)s"
            where += " AND meter.retired_at IS NULL"
    return await _one(tx, text + where + scope, named)


async def _one(tx: Transaction, query: Any, named: Mapping[str, Any]) -> int | None:
    number: int | None = await tx.value(query, named=named)
    return number


async def places_of(tx: Transaction, tariff_id: int, sites: Collection[int] | None) -> list[Place]:
    """Where a tariff was assigned, newest first."""
    rows = await tx.rows(
        """
        SELECT CASE WHEN a.site_id IS NOT NULL THEN 'site' WHEN a.building_id IS NOT NULL
                THEN 'building' WHEN a.room_id IS NOT NULL THEN 'room' ELSE 'meter' END,
            coalesce(meter.name, room.name, building.name, site.name), site.name, tariff.name,
            a.from_day, a.reason, operator.name, a.assigned_at
        FROM tariff_assignment AS a
        LEFT JOIN tariff USING (tariff_id)
        LEFT JOIN meter ON meter.meter_id = a.meter_id
        LEFT JOIN room ON room.room_id = a.room_id
        LEFT JOIN building ON building.building_id = a.building_id
        JOIN site ON site.site_id =
            coalesce(a.site_id, building.site_id, room.site_id, meter.site_id)
        JOIN operator ON operator.operator_id = a.assigned_by
        WHERE a.tariff_id = %(tariff_id)s AND """
        + IN_SCOPE.format("site.site_id")
        + " ORDER BY assignment_id DESC",
        named={"tariff_id": tariff_id, "sites": None if sites is None else list(sites)},
    )
    return [
        Place(
            kind=kind, name=name, site=site, tariff=tariff, from_day=from_day, reason=reason,
            assigned_by=by, assigned_at=at,
        )
        for kind, name, site, tariff, from_day, reason, by, at in rows
    ]  # fmt: skip


async def books_of(tx: Transaction, meter_ids: Sequence[int]) -> dict[int, Book]:
    """For each of these meters, all assignments that could concern it and all their versions."""
    rows = await tx.rows(
        """
        SELECT meter.meter_id, assignment_id, CASE WHEN a.meter_id IS NOT NULL THEN 3
                WHEN a.room_id IS NOT NULL THEN 2 WHEN a.building_id IS NOT NULL THEN 1
                ELSE 0 END, from_day, tariff_id
        FROM meter LEFT JOIN room ON room.room_id = meter.room_id
        JOIN tariff_assignment AS a ON a.meter_id = meter.meter_id OR a.room_id = meter.room_id
            OR a.building_id = room.building_id OR a.site_id = meter.site_id
        WHERE meter.meter_id = ANY(%s)""",
        list(meter_ids),
    )
    assigned: dict[int, list[Assignment]] = {meter_id: [] for meter_id in meter_ids}
    for meter_id, number, depth, from_day, tariff_id in rows:
        assigned[meter_id].append(
            Assignment(assignment_id=number, depth=depth, from_day=from_day, tariff_id=tariff_id)
        )
    wanted = {a.tariff_id for ones in assigned.values() for a in ones if a.tariff_id is not None}
    known = await published(tx, wanted)
    return {
        meter_id: Book(
            tuple(ones),
            tuple(v for v in known if v.tariff_id in {a.tariff_id for a in ones}),
        )
        for meter_id, ones in assigned.items()
    }


async def published(tx: Transaction, tariff_ids: Collection[int]) -> list[Version]:
    """The published versions of these tariffs."""
    rows = await tx.rows(
        "SELECT version_id, tariff_id, number, valid_from, terms FROM tariff_version"
        " WHERE state = 'published' AND tariff_id = ANY(%s)",
        list(tariff_ids),
    )
    return [
        Version(
            version_id=version_id,
            tariff_id=tariff_id,
            number=number,
            valid_from=valid_from,
            terms=from_record(terms),
        )
        for version_id, tariff_id, number, valid_from, terms in rows
    ]


async def meters_in_reach(tx: Transaction, tariff_id: int) -> list[int]:
    """Living meters that an assignment of this tariff could concern, wherever it comes from."""
    rows = await tx.rows(
        """
        SELECT DISTINCT meter.meter_id
        FROM tariff_assignment AS a JOIN meter ON meter.retired_at IS NULL
        LEFT JOIN room ON room.room_id = meter.room_id
        WHERE a.tariff_id = %s AND (a.meter_id = meter.meter_id OR a.room_id = meter.room_id
            OR a.building_id = room.building_id OR a.site_id = meter.site_id)
        ORDER BY meter.meter_id""",
        tariff_id,
    )
    return [meter_id for (meter_id,) in rows]


async def meters_of(tx: Transaction, tariff_id: int, day: date) -> list[int]:
    """The meters whose tariff this is on a date."""
    near = await meters_in_reach(tx, tariff_id)
    found = await books_of(tx, near) if near else {}
    return [meter_id for meter_id in near if found[meter_id].tariff_on(day) == tariff_id]


async def meters_of_version(
    tx: Transaction, tariff_id: int, version_id: int, now: datetime
) -> set[int]:
    """The meters for which this very version is in force now, by the wall clock of their sites."""
    near = await meters_in_reach(tx, tariff_id)
    if not near:
        return set()
    rows = await tx.rows(
        "SELECT meter_id, (%s AT TIME ZONE time_zone)::date FROM meter JOIN site USING (site_id)"
        " WHERE meter_id = ANY(%s)",
        now,
        near,
    )
    books = await books_of(tx, near)
    found = set()
    for meter_id, today in rows:
        held = books[meter_id].version_on(today)
        if held is not None and held.version_id == version_id:
            found.add(meter_id)
    return found
