"""How each kind of place is written: one table of columns and references, and the SQL made of it.

No text of a site file ever becomes SQL: the names below are all there is, values are parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import LiteralString


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of thing is stored: its columns, and its references by name."""

    table: str
    columns: Mapping[str, str]  # name in the domain and in the table: type
    references: Mapping[str, str] = field(default_factory=dict)  # field: table

    def upsert(self) -> str:
        """Insert or change by (site, name); one row back for each that was touched."""
        stored = [*self.columns, *(f"{table}_id" for table in self.references.values())]
        taken = [f"given.{name}" for name in self.columns]
        taken += [f"{table}.{table}_id" for table in self.references.values()]
        fields = [f"{name} {kind}" for name, kind in self.columns.items()]
        fields += [f"{field} text" for field in self.references]
        joins = [
            f"LEFT JOIN {table} ON {table}.site_id = %(site_id)s AND {table}.name = given.{field}"
            for field, table in self.references.items()
        ]
        news = ", ".join(f"{name} = excluded.{name}" for name in stored)
        old_row = ", ".join(f"kept.{name}" for name in stored)
        new_row = ", ".join(f"excluded.{name}" for name in stored)
        return f"""
            INSERT INTO {self.table} AS kept (site_id, {", ".join(stored)})
            SELECT %(site_id)s, {", ".join(taken)}
            FROM jsonb_to_recordset(%(rows)s) AS given ({", ".join(fields)})
            {" ".join(joins)}
            ON CONFLICT (site_id, name) DO UPDATE SET {news}, retired_at = NULL
            WHERE kept.retired_at IS NOT NULL
                OR ROW({old_row}) IS DISTINCT FROM ROW({new_row})
            RETURNING xmax = 0"""

    def retire(self) -> str:
        """Everything of the site that is no longer in its file."""
        return f"""
            UPDATE {self.table} SET retired_at = now()
            WHERE site_id = %(site_id)s AND retired_at IS NULL AND name <> ALL(%(names)s)"""


# In the order of their references.
KINDS = (
    Kind("building", {"name": "text"}),
    Kind("room", {"name": "text", "floor": "integer"}, {"building": "building"}),
    Kind(
        "gateway",
        {
            "name": "text",
            "kind": "text",
            "device": "text",
            "host": "text",
            "port": "integer",
            "registration": "text",
            "heartbeat": "text",
            "heartbeat_s": "integer",
            "options": "jsonb",
        },
    ),
    Kind(
        "line",
        {
            "name": "text",
            "port": "integer",
            "baud": "integer",
            "parity": "text",
            "stop_bits": "integer",
            "reply_timeout_ms": "integer",
            "reply_late_ms_max": "integer",
            "turnaround_ms": "integer",
        },
        {"gateway": "gateway"},
    ),
    Kind(
        "cabinet",
        {
            "name": "text",
            "meter_type": "text",
            "base_unit": "integer",
            "size": "integer",
            "ct_users": "integer",
            "three_phase_users": "integer",
            "single_phase_users": "integer",
        },
        {"line": "line"},
    ),
    Kind(
        "meter",
        {
            "name": "text",
            "meter_type": "text",
            "unit": "integer",
            "address": "text",
            "meter_number": "text",
            "energy_multiplier": "integer",
            "options": "jsonb",
        },
        {"line": "line", "room": "room", "cabinet": "cabinet"},
    ),
)

# Which meter measures which one's energy once more.
MASTERS: LiteralString = """
    UPDATE meter SET master_id = master.meter_id
    FROM jsonb_to_recordset(%(rows)s) AS given (name text, master text)
    LEFT JOIN meter AS master ON master.site_id = %(site_id)s AND master.name = given.master
    WHERE meter.site_id = %(site_id)s AND meter.name = given.name
        AND meter.master_id IS DISTINCT FROM master.meter_id"""

CLASHES = """
    SELECT 'gateway', mine.name, 'name', mine.name, site.name
    FROM jsonb_to_recordset(%(gateway)s) AS mine (name text)
    JOIN gateway AS theirs ON theirs.name = mine.name
    JOIN site USING (site_id) WHERE site.name <> %(site)s AND theirs.retired_at IS NULL
    UNION ALL
    SELECT 'line', mine.name, 'name', mine.name, site.name
    FROM jsonb_to_recordset(%(line)s) AS mine (name text)
    JOIN line AS theirs ON theirs.name = mine.name
    JOIN site USING (site_id) WHERE site.name <> %(site)s AND theirs.retired_at IS NULL
    UNION ALL
    SELECT 'meter', mine.name, 'name', mine.name, site.name
    FROM jsonb_to_recordset(%(meter)s) AS mine (name text)
    JOIN meter AS theirs ON theirs.name = mine.name
    JOIN site USING (site_id) WHERE site.name <> %(site)s AND theirs.retired_at IS NULL
    UNION ALL
    SELECT 'gateway', mine.name, same.what, same.value, site.name
    FROM jsonb_to_recordset(%(gateway)s)
        AS mine (name text, device text, host text, port integer, registration text)
    JOIN gateway AS theirs ON theirs.retired_at IS NULL
    JOIN site USING (site_id)
    CROSS JOIN LATERAL (VALUES
        ('serial device', mine.device, theirs.device),
        ('TCP address', mine.host || ':' || mine.port, theirs.host || ':' || theirs.port),
        ('registration', mine.registration, theirs.registration)
    ) AS same (what, value, other)
    WHERE site.name <> %(site)s AND same.value = same.other
    ORDER BY 1, 2, 3 LIMIT 1"""
