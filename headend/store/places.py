"""Sites, gateways, lines and meters: imported from a checked site file, loaded for the services.

An import is one transaction and may be repeated: what is new is added, what differs is changed,
what vanished from the file is retired, what came back is revived under its old number. Nothing is
deleted, because readings hang on it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from psycopg.types.json import Jsonb

from headend.domain.places import Gateway, GatewayKind, LinePlace, Site
from headend.store.database import Transaction
from headend.store.places_sql import CLASHES, KINDS, MASTERS, Kind
from protocols.meter_type import Options

# Notified with the site's name when an import changed something.
PLACES_CHANGED = "places_changed"
# One import at a time: two would find each other's names free.
_IMPORT_LOCK = 0x6D65746572_696D70


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSite:
    """A site as stored. Its `place` has name, time zone and night times; the tree is not loaded."""

    site_id: int
    place: Site
    known_since: datetime  # when it was first imported

    @property
    def name(self) -> str:
        return self.place.name


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLine:
    """A live line with the gateway that carries it."""

    line_id: int
    site_id: int
    site: str
    place: LinePlace
    gateway: Gateway

    @property
    def name(self) -> str:
        return self.place.name


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMeter:
    """A live meter with everything needed to ask it and to say where it is."""

    meter_id: int
    name: str
    site_id: int
    site: str
    time_zone: ZoneInfo
    line_id: int
    line: str
    building: str | None
    room: str | None
    cabinet: str | None
    meter_type: str
    unit: int | None
    address: str | None
    meter_number: str | None
    energy_multiplier: int
    options: Options
    building_id: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What an import did to one kind of thing."""

    added: int = 0
    changed: int = 0
    retired: int = 0
    total: int = 0  # in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did, by kind: building, room, gateway, line, cabinet, meter."""

    site: str
    site_id: int
    site_is_new: bool
    site_changed: bool
    kinds: Mapping[str, Counts]

    @property
    def changed_anything(self) -> bool:
        return (
            self.site_is_new
            or self.site_changed
            or any(c.added or c.changed or c.retired for c in self.kinds.values())
        )

    def __str__(self) -> str:
        meters, lines = self.kinds["meter"], self.kinds["line"]
        head = f"site {self.site}: {meters.total} meters on {lines.total} lines"
        if not self.changed_anything:
            return f"{head}; nothing changed"
        parts = [
            f"{kind}s {c.added} added, {c.changed} changed, {c.retired} retired"
            for kind, c in self.kinds.items()
            if c.added or c.changed or c.retired
        ]
        return "; ".join([head, *parts])


@dataclass(frozen=True, slots=True)
class Clash:
    """Something of this site already belongs to another one. Nothing was imported."""

    kind: str
    name: str
    what: str  # "name", "serial device" …
    value: str
    other_site: str

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.name} of this file and a {self.kind} of site {self.other_site} "
            f"have the same {self.what}, {self.value}; change one of them."
        )


async def lock_places(tx: Transaction) -> None:
    """Nobody else imports until this transaction ends: what it reads is what it changes."""
    await tx.execute("SELECT pg_advisory_xact_lock(%s)", _IMPORT_LOCK)


async def import_site(tx: Transaction, site: Site) -> ImportReport | Clash:
    """Make the database say what the site file says. A Clash means that nothing was changed.

    Expects a site that parse_site_file() has checked.
    """
    await lock_places(tx)
    given = {
        "building": _records(site.buildings),
        "room": _records(site.rooms),
        "gateway": _records(site.gateways),
        "line": _records(site.lines),
        "cabinet": _records(site.cabinets),
        "meter": _records(site.meters),
    }
    parameters: dict[str, Any] = {kind: Jsonb(records) for kind, records in given.items()}
    cursor = await tx.connection.execute(CLASHES, parameters | {"site": site.name})
    if clash := await cursor.fetchone():
        return Clash(*clash)
    # Addresses may be swapped within one import: look at the whole, not at each row.
    await tx.execute("SET CONSTRAINTS ALL DEFERRED")
    site_id, is_new, changed = await _upsert_site(tx, site)
    kinds = {kind.table: await _import_kind(tx, kind, site_id, given[kind.table]) for kind in KINDS}
    # Once all meters are there: a master may stand below its circuits in the file.
    moved = await tx.execute(MASTERS, named={"site_id": site_id, "rows": parameters["meter"]})
    kinds["meter"] = replace(kinds["meter"], changed=kinds["meter"].changed + moved)
    await tx.execute("SET CONSTRAINTS ALL IMMEDIATE")
    await _forget_open_cells_of_the_retired(tx, site_id)
    report = ImportReport(
        site=site.name, site_id=site_id, site_is_new=is_new, site_changed=changed, kinds=kinds
    )
    if report.changed_anything:
        await tx.execute("SELECT pg_notify(%s, %s)", PLACES_CHANGED, site.name)
    return report


async def add_to_site(tx: Transaction, site_id: int, piece: Site) -> Clash | None:
    """Add the gateways, lines and meters of `piece` to a stored site; nothing is retired.

    A Clash, with another site or with this one, means that nothing was changed. Expects a piece
    that parse_site_file() has checked, with a new line for everything it holds.
    """
    await lock_places(tx)
    given = {
        "gateway": _records(piece.gateways),
        "line": _records(piece.lines),
        "meter": _records(piece.meters),
    }
    parameters: dict[str, Any] = {kind: Jsonb(records) for kind, records in given.items()}
    # No site is called "": every live place is somebody else's, those of this site too.
    cursor = await tx.connection.execute(CLASHES, parameters | {"site": ""})
    if clash := await cursor.fetchone():
        return Clash(*clash)
    for kind in KINDS:
        if kind.table in given:
            rows = {"site_id": site_id, "rows": Jsonb(given[kind.table])}
            await tx.connection.execute(kind.upsert(), rows)
    await tx.execute("SELECT pg_notify(%s, %s)", PLACES_CHANGED, piece.name)
    return None


def _records(places: Iterable[Any]) -> list[dict[str, Any]]:
    return [
        {
            field.name: value.value if isinstance(value, enum.Enum) else value
            for field in dataclasses.fields(place)
            if not isinstance(value := getattr(place, field.name), Mapping)
        }
        | ({"options": dict(place.options)} if hasattr(place, "options") else {})
        for place in places
    ]


async def _upsert_site(tx: Transaction, site: Site) -> tuple[int, bool, bool]:
    row = await tx.row(
        """
        INSERT INTO site AS kept (name, time_zone, night_opens, night_closes)
        VALUES (%s, %s, %s, %s)
        ON CONFLICT (name) DO UPDATE SET time_zone = excluded.time_zone,
            night_opens = excluded.night_opens, night_closes = excluded.night_closes
        WHERE ROW(kept.time_zone, kept.night_opens, kept.night_closes)
            IS DISTINCT FROM ROW(excluded.time_zone, excluded.night_opens, excluded.night_closes)
        RETURNING site_id, xmax = 0""",
        site.name,
        site.time_zone.key,
        site.night_opens,
        site.night_closes,
    )
    if row is not None:
        return row[0], row[1], not row[1]
    known = await site_id(tx, site.name)
    assert known is not None, "neither inserted nor there"
    return known, False, False


async def _import_kind(
    tx: Transaction, kind: Kind, site_id: int, records: Sequence[Mapping[str, Any]]
) -> Counts:
    names = [record["name"] for record in records]
    retired = await tx.connection.execute(kind.retire(), {"site_id": site_id, "names": names})
    cursor = await tx.connection.execute(
        kind.upsert(), {"site_id": site_id, "rows": Jsonb(list(records))}
    )
    touched = [added for (added,) in await cursor.fetchall()]
    return Counts(
        added=sum(touched),
        changed=len(touched) - sum(touched),
        retired=retired.rowcount,
        total=len(records),
    )


async def _forget_open_cells_of_the_retired(tx: Transaction, site_id: int) -> None:
    """A meter that left before its turn came is no gap."""
    await tx.execute(
        """
        DELETE FROM night_cell USING meter
        WHERE meter.meter_id = night_cell.meter_id AND meter.site_id = %s
            AND meter.retired_at IS NOT NULL AND night_cell.state = 'open'""",
        site_id,
    )


async def site_id(tx: Transaction, name: str) -> int | None:
    """The number of a site, or None when there is none of that name."""
    found: int | None = await tx.value("SELECT site_id FROM site WHERE name = %s", name)
    return found


async def one_moment(tx: Transaction) -> None:
    """Let every statement of this transaction see the same moment; call it first.

    Without it an import that commits between two loads shows meters of lines that are not there.
    """
    await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


async def load_sites(tx: Transaction) -> list[KnownSite]:
    """Every site, by name."""
    rows = await tx.rows(
        "SELECT site_id, name, time_zone, night_opens, night_closes, created_at"
        " FROM site ORDER BY name"
    )
    return [
        KnownSite(
            site_id=number,
            place=Site(
                name=name,
                time_zone=ZoneInfo(zone),
                night_opens=opens,
                night_closes=closes,
                buildings=(),
                rooms=(),
                gateways=(),
                lines=(),
                cabinets=(),
                meters=(),
            ),
            known_since=created_at,
        )
        for number, name, zone, opens, closes, created_at in rows
    ]


async def load_lines(tx: Transaction) -> list[KnownLine]:
    """Every live line with its gateway, in the order the site files brought them."""
    rows = await tx.rows(
        """
        SELECT line.line_id, line.site_id, site.name,
            line.name, gateway.name, line.port, baud, parity, stop_bits,
            reply_timeout_ms, reply_late_ms_max, turnaround_ms,
            kind, device, host, gateway.port, registration, heartbeat, heartbeat_s, options
        FROM line JOIN gateway USING (gateway_id) JOIN site ON site.site_id = line.site_id
        WHERE line.retired_at IS NULL ORDER BY line.line_id"""
    )
    return [_known_line(row) for row in rows]


def _known_line(row: tuple[Any, ...]) -> KnownLine:
    line_id, its_site_id, site, name, gateway, line_port, baud, parity, stop_bits = row[:9]
    timeout_ms, late_ms_max, turnaround_ms = row[9:12]
    kind, device, host, port, registration, heartbeat, heartbeat_s, options = row[12:]
    return KnownLine(
        line_id=line_id,
        site_id=its_site_id,
        site=site,
        place=LinePlace(
            name=name,
            gateway=gateway,
            port=line_port,
            baud=baud,
            parity=parity,
            stop_bits=stop_bits,
            reply_timeout_ms=timeout_ms,
            reply_late_ms_max=late_ms_max,
            turnaround_ms=turnaround_ms,
        ),
        gateway=Gateway(
            name=gateway,
            kind=GatewayKind(kind),
            device=device,
            host=host,
            port=port,
            registration=registration,
            heartbeat=heartbeat,
            heartbeat_s=heartbeat_s,
            options=options,
        ),
    )


_METERS = """
    SELECT meter_id, meter.name, meter.site_id, site.name, site.time_zone,
        meter.line_id, line.name, building.name, room.name, cabinet.name,
        meter.meter_type, unit, address, meter_number, energy_multiplier, options,
        room.building_id
    FROM meter
    JOIN site ON site.site_id = meter.site_id
    JOIN line ON line.line_id = meter.line_id
    LEFT JOIN cabinet ON cabinet.cabinet_id = meter.cabinet_id
    LEFT JOIN room ON room.room_id = meter.room_id
    LEFT JOIN building ON building.building_id = room.building_id
    WHERE meter.retired_at IS NULL"""


async def load_meters(tx: Transaction) -> list[KnownMeter]:
    """Every live meter, in the order of lines and addresses."""
    rows = await tx.rows(_METERS + " ORDER BY line_id, unit, address")
    zones: dict[str, ZoneInfo] = {}
    return [_known_meter(row, zones) for row in rows]


def _known_meter(row: tuple[Any, ...], zones: dict[str, ZoneInfo]) -> KnownMeter:
    meter_id, name, its_site_id, site, zone, line_id, line, building, room, cabinet = row[:10]
    meter_type, unit, address, meter_number, energy_multiplier, options, building_id = row[10:]
    return KnownMeter(
        meter_id=meter_id,
        name=name,
        site_id=its_site_id,
        site=site,
        time_zone=zones.setdefault(zone, ZoneInfo(zone)),
        line_id=line_id,
        line=line,
        building=building,
        room=room,
        cabinet=cabinet,
        meter_type=meter_type,
        unit=unit,
        address=address,
        meter_number=meter_number,
        energy_multiplier=energy_multiplier,
        options=options,
        building_id=building_id,
    )
