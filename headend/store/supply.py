"""What the supply rules look at, gathered in one statement, and the calendars of the sites."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, Final, LiteralString
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg.types.json import Jsonb

from headend.domain.commands import CommandKind
from headend.domain.friendly_hours import Calendar, FriendlyHours, usual_calendar
from headend.domain.supply import MeterFacts
from headend.store.database import Row, Transaction
from headend.store.readings import AHEAD_MAX

# Small sets first (who is locked out, protected, waits for an order), each by its own partial
# index; then a look-up by index for each meter: its last switching, its last sale that landed,
# money in its customer's account and, in arrears only, its overdraft allowance.
_OF_A_SITE: Final[LiteralString] = (
    "%(site_id)s::integer IS NULL OR meter.site_id = %(site_id)s::integer"
)
# Texts of their own. For one meter the server keeps its plan, as it costs no more than one made for
# the number at hand; for a list it would plan anew each time, and that takes ten times as long as
# the look itself (bench/bulk.py).
_OF_METERS: Final[LiteralString] = "meter.meter_id = ANY(%(meter_ids)s::integer[])"
_OF_ONE: Final[LiteralString] = "meter.meter_id = %(meter_id)s::integer"
_OPEN_OF_A_SITE: Final[LiteralString] = """
    SELECT command_id, meter_id, kind FROM command JOIN chosen USING (meter_id)
    WHERE state = 'queued'
    UNION ALL
    SELECT command_id, meter_id, kind FROM command JOIN chosen USING (meter_id)
    WHERE state IN ('claimed', 'sent', 'unknown', 'escalated')"""
# By meter: thousands of others may be queued.
_OPEN_OF_METERS: Final[LiteralString] = """
    SELECT command_id, meter_id, kind FROM command WHERE meter_id = ANY(%(meter_ids)s::integer[])
        AND state IN ('queued', 'claimed', 'sent', 'unknown', 'escalated')"""
_OPEN_OF_ONE: Final[LiteralString] = """
    SELECT command_id, meter_id, kind FROM command WHERE meter_id = %(meter_id)s::integer
        AND state IN ('queued', 'claimed', 'sent', 'unknown', 'escalated')"""
_FACTS: Final[LiteralString] = """
    WITH chosen AS MATERIALIZED (
        SELECT meter.*, last.at AS last_at,
            -- A pushed instant is as good as the box's clock: nothing later than this is proved.
            CASE last.origin WHEN 'pushed' THEN last.at - %(ahead_max)s ELSE last.at END AS read_at,
            last.remaining_credit_fen, last.relay_closed_bits,
            last.power_w
        FROM meter LEFT JOIN meter_last AS last USING (meter_id)
        WHERE meter.retired_at IS NULL AND ({which})
    ), locked AS (
        SELECT DISTINCT ON (chosen.meter_id) chosen.meter_id,
            operator.name || ' works there: ' || lock_out.reason AS detail
        FROM lock_out JOIN operator ON operator.operator_id = locked_by
        JOIN chosen ON chosen.meter_id = lock_out.meter_id
            OR chosen.cabinet_id = lock_out.cabinet_id OR chosen.line_id = lock_out.line_id
        WHERE lifted_at IS NULL ORDER BY chosen.meter_id, locked_at
    ), protected AS (
        SELECT DISTINCT ON (chosen.meter_id) chosen.meter_id, reason, expires_at
        FROM protection JOIN chosen
            ON chosen.meter_id = protection.meter_id OR chosen.room_id = protection.room_id
        WHERE lifted_at IS NULL AND expires_at > %(now)s ORDER BY chosen.meter_id, expires_at DESC
    ), open_command AS (
        {opened}
    ), opened AS (
        SELECT meter_id, min(kind) FILTER (WHERE kind <> 'top_up') AS kind,
            bool_or(kind = 'top_up') AS top_up
        FROM open_command WHERE command_id IS DISTINCT FROM %(command_id)s GROUP BY meter_id
    ), newest_night AS (
        SELECT site_id, max(night_id) AS night_id FROM night GROUP BY site_id
    )
    SELECT chosen.meter_id, chosen.name, room.name, building.name, chosen.site_id, site.name,
        chosen.line_id,
        -- Where the money is in the platform, that balance counts, and its age is that of the
        -- reading it was billed by.
        CASE WHEN platform.meter_id IS NULL THEN remaining_credit_fen
            ELSE coalesce(available_fen(customer.account_id), 0) END,
        CASE WHEN platform.meter_id IS NULL THEN overdraft.fen END,
        CASE WHEN platform.meter_id IS NULL THEN read_at ELSE platform.billed_at END,
        relay_closed_bits, power_w,
        switched.sent_at, switched.proved, locked.detail, protected.reason, protected.expires_at,
        opened.kind,
        CASE
            WHEN opened.top_up THEN 'a top-up has not ended'
            WHEN sale.sale_id IS NOT NULL THEN 'a sale has not landed'
            WHEN platform.meter_id IS NULL AND available_fen(customer.account_id) > 0
                THEN 'money waits in the account'
        END,
        landed.closed_at,
        coalesce(frozen.reason, difference.detail,
            CASE WHEN cell.reason IN ('implausible', 'wrong_meter') THEN cell.detail END),
        (SELECT count(*) FROM meter AS under
            WHERE under.master_id = chosen.meter_id AND under.retired_at IS NULL),
        site.time_zone, calendar.spare_weekends, calendar.friendly_hours::text,
        calendar.holidays::text, calendar.working_days::text
    FROM chosen
    JOIN site ON site.site_id = chosen.site_id
    LEFT JOIN platform_meter AS platform ON platform.meter_id = chosen.meter_id
    LEFT JOIN room ON room.room_id = chosen.room_id
    LEFT JOIN building ON building.building_id = room.building_id
    LEFT JOIN locked ON locked.meter_id = chosen.meter_id
    LEFT JOIN protected ON protected.meter_id = chosen.meter_id
    LEFT JOIN opened ON opened.meter_id = chosen.meter_id
    LEFT JOIN sale ON sale.meter_id = chosen.meter_id AND sale.state = 'open'
    LEFT JOIN account AS customer ON customer.meter_id = chosen.meter_id
        AND customer.kind = 'customer' AND customer.closed_at IS NULL
    LEFT JOIN meter_difference AS difference ON difference.meter_id = chosen.meter_id
        AND difference.closed_at IS NULL AND difference.kind <> 'in_flight'
    LEFT JOIN sales_freeze AS frozen ON frozen.meter_id = chosen.meter_id
        AND frozen.thawed_at IS NULL
    LEFT JOIN newest_night ON newest_night.site_id = chosen.site_id
    LEFT JOIN night_cell AS cell ON cell.night_id = newest_night.night_id
        AND cell.meter_id = chosen.meter_id
    LEFT JOIN LATERAL (
        SELECT * FROM site_calendar WHERE site_calendar.site_id = chosen.site_id
        ORDER BY calendar_id DESC LIMIT 1
    ) AS calendar ON true
    LEFT JOIN LATERAL (
        SELECT (extra ->> 'overdraft_fen')::bigint AS fen FROM reading
        WHERE reading.meter_id = chosen.meter_id AND reading.at = chosen.last_at
            AND chosen.remaining_credit_fen < 0
        LIMIT 1  -- one look-up each, never a scan of all readings
    ) AS overdraft ON true
    LEFT JOIN LATERAL (
        SELECT attempt.sent_at, CASE
            WHEN attempt.outcome = 'applied' THEN attempt.kind
            WHEN attempt.outcome = 'decided' AND command.state = 'confirmed' THEN attempt.kind
        END AS proved
        FROM attempt JOIN command USING (command_id)
        WHERE attempt.meter_id = chosen.meter_id
            AND attempt.kind IN ('cut', 'restore', 'release')
            AND (attempt.outcome IS NULL OR attempt.outcome NOT IN ('not_applied', 'refused'))
        ORDER BY attempt.sent_at DESC LIMIT 1
    ) AS switched ON true
    LEFT JOIN LATERAL (
        SELECT landed.closed_at FROM sale AS landed
        WHERE landed.meter_id = chosen.meter_id AND landed.state = 'landed'
        -- Counts begin anew with another device.
        ORDER BY landed.epoch DESC, landed.purchase_count DESC LIMIT 1
    ) AS landed ON true
    ORDER BY chosen.line_id, chosen.unit"""
_FACTS_OF_A_SITE: Final[LiteralString] = _FACTS.format(which=_OF_A_SITE, opened=_OPEN_OF_A_SITE)
_FACTS_OF_METERS: Final[LiteralString] = _FACTS.format(which=_OF_METERS, opened=_OPEN_OF_METERS)
_FACTS_OF_ONE: Final[LiteralString] = _FACTS.format(which=_OF_ONE, opened=_OPEN_OF_ONE)


async def facts(
    tx: Transaction,
    now: datetime,
    *,
    meter_ids: Sequence[int] | None = None,
    site_id: int | None = None,
    command_id: UUID | None = None,
) -> list[MeterFacts]:
    """What the rules look at, for these meters, one site, or all; by line and unit id.

    `command_id`: the order that asks, which does not stand in its own way. Retired and unknown
    meters are left out.
    """
    assert meter_ids is None or site_id is None, "meters or a site"
    match meter_ids:
        case None:
            named: dict[str, object] = {"site_id": site_id}
            query = _FACTS_OF_A_SITE
        case [meter_id]:
            named, query = {"meter_id": meter_id}, _FACTS_OF_ONE
        case _:
            named, query = {"meter_ids": list(meter_ids)}, _FACTS_OF_METERS
    moment = {"command_id": command_id, "now": now, "ahead_max": AHEAD_MAX}
    rows = await tx.rows(query, named=named | moment)
    known: dict[int, Calendar] = {}  # one for each site, shared by its meters
    for row in rows:
        if row[4] not in known:
            zone, spare_weekends, *days = row[22:]
            hours, holidays, working_days = (json.loads(day or "null") for day in days)
            known[row[4]] = _calendar(ZoneInfo(zone), spare_weekends, hours, holidays, working_days)
    return [_facts(row, known) for row in rows]


def _facts(row: Row, known: Mapping[int, Calendar]) -> MeterFacts:
    meter_id, meter, room, building, site_id, site, line_id, credit_fen, overdraft_fen = row[:9]
    read_at, relay_closed_bits, power_w, switched_at, switched_to, locked_out = row[9:15]
    protected, protected_until, command_open, payment, paid_at, flagged, masters = row[15:22]
    return MeterFacts(
        meter_id=meter_id,
        meter=meter,
        room=room,
        building=building,
        site=site,
        line_id=line_id,
        calendar=known[site_id],
        credit_fen=credit_fen,
        overdraft_fen=overdraft_fen or 0,
        read_at=read_at,
        relay_closed_bits=relay_closed_bits,
        power_w=power_w or 0,
        switched_at=switched_at,
        switched_to=CommandKind(switched_to) if switched_to else None,
        locked_out=locked_out,
        protected=protected,
        protected_until=protected_until,
        masters=masters,
        command_open=command_open,
        payment=payment,
        paid_at=paid_at,
        flagged=flagged,
    )


async def standing(tx: Transaction, sites: Collection[str]) -> dict[tuple[str, str | None], int]:
    """How many meters hang in each building of these properties: (site, building), None: in no
    room."""
    rows = await tx.rows(
        """
        SELECT site.name, building.name, count(*) FROM meter JOIN site USING (site_id)
            LEFT JOIN room USING (room_id)
            LEFT JOIN building ON building.building_id = room.building_id
        WHERE meter.retired_at IS NULL AND site.name = ANY(%s) GROUP BY 1, 2""",
        list(sites),
    )
    return {(site, building): count for site, building, count in rows}


async def calendars(tx: Transaction) -> dict[int, Calendar]:
    """The calendar in force of every site, by its number; the usual one where none was set."""
    rows = await tx.rows(
        """
        SELECT site.site_id, time_zone, spare_weekends, friendly_hours, holidays, working_days
        FROM site LEFT JOIN LATERAL (
            SELECT * FROM site_calendar WHERE site_calendar.site_id = site.site_id
            ORDER BY calendar_id DESC LIMIT 1
        ) AS calendar ON true"""
    )
    return {site_id: _calendar(ZoneInfo(zone), *given) for site_id, zone, *given in rows}


def _calendar(
    time_zone: ZoneInfo,
    spare_weekends: bool | None,
    friendly_hours: list[dict[str, Any]],
    holidays: dict[str, str],
    working_days: list[str],
) -> Calendar:
    if spare_weekends is None:
        return usual_calendar(time_zone)
    return Calendar(
        time_zone=time_zone,
        friendly_hours=tuple(
            FriendlyHours(
                begins=time.fromisoformat(hours["begins"]),
                ends=time.fromisoformat(hours["ends"]),
                weekdays=frozenset(hours["weekdays"]),
            )
            for hours in friendly_hours
        ),
        spare_weekends=spare_weekends,
        holidays={date.fromisoformat(day): name for day, name in holidays.items()},
        working_days=frozenset(date.fromisoformat(day) for day in working_days),
    )


async def lock_calendar(tx: Transaction, site_id: int) -> None:
    """Nobody else sets the calendar of this property before the transaction ends."""
    await tx.execute("SELECT FROM site WHERE site_id = %s FOR NO KEY UPDATE", site_id)


async def set_calendar(
    tx: Transaction, site_id: int, calendar: Calendar, *, by: int | None, at: datetime
) -> None:
    """Put a calendar in force. The one before stays as evidence. The time zone is the site's."""
    await tx.execute(
        """
        INSERT INTO site_calendar
            (site_id, set_at, set_by, spare_weekends, friendly_hours, holidays, working_days)
        VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        site_id,
        at,
        by,
        calendar.spare_weekends,
        Jsonb(
            [
                {
                    "begins": hours.begins.isoformat(),
                    "ends": hours.ends.isoformat(),
                    "weekdays": sorted(hours.weekdays),
                }
                for hours in calendar.friendly_hours
            ]
        ),
        Jsonb({day.isoformat(): name for day, name in sorted(calendar.holidays.items())}),
        Jsonb(sorted(day.isoformat() for day in calendar.working_days)),
    )
