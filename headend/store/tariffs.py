"""Tariffs and their versions. Where they hold: store/tariff_places.py."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from psycopg.types.json import Jsonb

from headend.domain.tariff_records import from_record, to_record
from headend.domain.tariffs import Terms
from headend.store.database import Row, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """One tariff. `site_id` None: for every property."""

    tariff_id: int
    name: str
    site_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A tariff in the list: what holds now, and what is coming."""

    tariff: Tariff
    site: str | None
    now: int | None  # number of the version in force
    next_from: date | None  # when the next published version begins
    has_draft: bool
    places: int  # assignments that name it


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """A version in any state."""

    version_id: int
    tariff_id: int
    number: int
    state: str  # draft, published, dropped
    terms: Terms
    valid_from: date | None
    note: str
    edited_by: str
    edited_at: datetime
    edits: int
    published_by: str | None
    published_at: datetime | None
    approved_by: str | None


# {0}: a column with a site; `sites` null is everybody, a null column every site.
IN_SCOPE: Final = "(%(sites)s::integer[] IS NULL OR {0} IS NULL OR {0} = ANY(%(sites)s))"


async def add(
    tx: Transaction, name: str, *, site_id: int | None, by: int, at: datetime
) -> Tariff | None:
    """A new tariff; None when the name is taken."""
    number = await tx.value(
        "INSERT INTO tariff (name, site_id, made_by, made_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (name) DO NOTHING RETURNING tariff_id",
        name,
        site_id,
        by,
        at,
    )
    return None if number is None else Tariff(tariff_id=number, name=name, site_id=site_id)


async def find(
    tx: Transaction, tariff_id: int, sites: Collection[int] | None = None
) -> Tariff | None:
    """One tariff inside the scope; None elsewhere."""
    row = await tx.row(
        "SELECT tariff_id, name, site_id FROM tariff WHERE tariff_id = %(tariff_id)s AND "
        + IN_SCOPE.format("site_id"),
        named={"tariff_id": tariff_id, "sites": None if sites is None else list(sites)},
    )
    return Tariff(tariff_id=row[0], name=row[1], site_id=row[2]) if row else None


async def listing(tx: Transaction, sites: Collection[int] | None, today: date) -> list[Listed]:
    """Every tariff inside the scope, by name."""
    rows = await tx.rows(
        """
        SELECT tariff.tariff_id, tariff.name, tariff.site_id, site.name,
            (SELECT number FROM tariff_version AS v WHERE v.tariff_id = tariff.tariff_id
                AND state = 'published' AND valid_from <= %(today)s
                ORDER BY valid_from DESC LIMIT 1),
            (SELECT min(valid_from) FROM tariff_version AS v WHERE v.tariff_id = tariff.tariff_id
                AND state = 'published' AND valid_from > %(today)s),
            EXISTS (SELECT FROM tariff_version AS v WHERE v.tariff_id = tariff.tariff_id
                AND state = 'draft'),
            (SELECT count(*) FROM tariff_assignment AS a WHERE a.tariff_id = tariff.tariff_id)
        FROM tariff LEFT JOIN site USING (site_id) WHERE """
        + IN_SCOPE.format("tariff.site_id")
        + " ORDER BY tariff.name",
        named={"today": today, "sites": None if sites is None else list(sites)},
    )
    return [
        Listed(
            tariff=Tariff(tariff_id=number, name=name, site_id=site_id),
            site=site,
            now=now,
            next_from=next_from,
            has_draft=has_draft,
            places=places,
        )
        for number, name, site_id, site, now, next_from, has_draft, places in rows
    ]


_VERSION: Final = """
    SELECT version_id, tariff_id, number, state, terms, valid_from, note, editor.name, edited_at,
        edits, publisher.name, published_at, approver.name
    FROM tariff_version JOIN operator AS editor ON editor.operator_id = edited_by
    LEFT JOIN operator AS publisher ON publisher.operator_id = published_by
    LEFT JOIN operator AS approver ON approver.operator_id = approved_by"""


async def versions(tx: Transaction, tariff_id: int) -> list[StoredVersion]:
    """All versions of a tariff, newest number first."""
    rows = await tx.rows(_VERSION + " WHERE tariff_id = %s ORDER BY number DESC", tariff_id)
    return [_version(row) for row in rows]


async def version(tx: Transaction, version_id: int) -> StoredVersion | None:
    """One version in any state."""
    row = await tx.row(_VERSION + " WHERE version_id = %s", version_id)
    return _version(row) if row else None


async def lock(tx: Transaction, tariff_id: int) -> None:
    """Editors and publishers of a tariff come one after the other."""
    await tx.execute("SELECT FROM tariff WHERE tariff_id = %s FOR NO KEY UPDATE", tariff_id)


async def keep_draft(
    tx: Transaction, tariff_id: int, terms: Terms, *, note: str, by: int, at: datetime, edits: int
) -> int | None:
    """The one draft of a tariff. `edits`: how often it had been edited when it was opened, 0 for a
    new one; None when somebody else edited it meanwhile. Returns its version_id."""
    if edits == 0:
        number: int | None = await tx.value(
            """
            INSERT INTO tariff_version (tariff_id, number, terms, note, edited_by, edited_at)
            SELECT %(tariff_id)s, coalesce(max(number), 0) + 1, %(terms)s, %(note)s, %(by)s, %(at)s
            FROM tariff_version WHERE tariff_id = %(tariff_id)s
            ON CONFLICT (tariff_id) WHERE state = 'draft' DO NOTHING
            RETURNING version_id""",
            named={
                "tariff_id": tariff_id,
                "terms": Jsonb(to_record(terms)),
                "note": note,
                "by": by,
                "at": at,
            },
        )
        return number
    edited: int | None = await tx.value(
        """
        UPDATE tariff_version SET terms = %s, note = %s, edited_by = %s, edited_at = %s,
            edits = edits + 1
        WHERE tariff_id = %s AND state = 'draft' AND edits = %s RETURNING version_id""",
        Jsonb(to_record(terms)),
        note,
        by,
        at,
        tariff_id,
        edits,
    )
    return edited


async def drop_draft(tx: Transaction, tariff_id: int) -> bool:
    """Let the draft go; it stays on record. False: there is none."""
    touched = await tx.execute(
        "UPDATE tariff_version SET state = 'dropped' WHERE tariff_id = %s AND state = 'draft'",
        tariff_id,
    )
    return touched == 1


async def publish(
    tx: Transaction,
    version_id: int,
    *,
    valid_from: date,
    by: int,
    at: datetime,
    needs_second: bool,
    approver: int | None,
) -> None:
    """From now on it never changes. Raises DatabaseRefused for what the rules forbid."""
    await tx.execute(
        """
        UPDATE tariff_version SET state = 'published', valid_from = %s, published_by = %s,
            published_at = %s, needs_second = %s, approved_by = %s
        WHERE version_id = %s""",
        valid_from,
        by,
        at,
        needs_second,
        approver,
        version_id,
    )


def _version(row: Row) -> StoredVersion:
    version_id, tariff_id, number, state, terms, valid_from, note, editor, edited_at = row[:9]
    edits, publisher, published_at, approver = row[9:]
    return StoredVersion(
        version_id=version_id,
        tariff_id=tariff_id,
        number=number,
        state=state,
        terms=from_record(terms),
        valid_from=valid_from,
        note=note,
        edited_by=editor,
        edited_at=edited_at,
        edits=edits,
        published_by=publisher,
        published_at=published_at,
        approved_by=approver,
    )
