"""Reports, as statements: one for each kind, its rows handed out as they come from the server.

The scope of who asks is part of every statement. Sums of money are sums over the books and nothing
else; use is what lies between the certain readings of two nights, at the later one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, LiteralString, cast

from headend.domain.reports import Grouping, Report, ReportKind, Row
from headend.store.database import Transaction

# Rows fetched at once: a year of lines never stands in memory.
FETCH_ROWS: Final = 1_000

_SCOPE: Final[LiteralString] = """
    (%(sites)s::integer[] IS NULL OR meter.site_id = ANY(%(sites)s))
    AND (%(site_id)s::integer IS NULL OR meter.site_id = %(site_id)s)"""

# The tariff of each meter on the last day asked about: that of the nearest place that has one
# (domain/tariffs.py, Book.tariff_on). A meter whose prices nobody manages here has none.
_TARIFF_OF: Final[LiteralString] = """
    tariff_of AS MATERIALIZED (
        SELECT meter.meter_id, (
            SELECT tariff.name FROM (
                SELECT DISTINCT ON (depth) depth, tariff_id FROM (
                    SELECT said.*, CASE WHEN said.meter_id IS NOT NULL THEN 3
                        WHEN said.room_id IS NOT NULL THEN 2
                        WHEN said.building_id IS NOT NULL THEN 1 ELSE 0 END AS depth
                    FROM tariff_assignment AS said WHERE from_day <= %(last)s AND (
                        said.meter_id = meter.meter_id OR said.room_id = room.room_id
                        OR said.building_id = room.building_id OR said.site_id = meter.site_id)
                ) AS near ORDER BY depth, from_day DESC, assignment_id DESC
            ) AS nearest JOIN tariff USING (tariff_id) ORDER BY depth DESC LIMIT 1
        ) AS tariff
        FROM meter LEFT JOIN room USING (room_id)
    )"""
# What a row of each grouping is called.
_OF_PLACE: Final[Mapping[Grouping, LiteralString]] = {
    Grouping.DAY: "day",
    Grouping.MONTH: "to_char(day, 'YYYY-MM')",
    Grouping.BUILDING: "building.name",
    Grouping.TARIFF: "tariff_of.tariff",
    Grouping.METER: "meter.name",
}
_OF_MONEY: Final[Mapping[Grouping, LiteralString]] = {
    **_OF_PLACE,
    Grouping.OPERATOR: "moved.operator",
    Grouping.CHANNEL: "moved.channel",
}

# A master measures once more what its circuits measure: it is no use of its own.
_USED: Final[LiteralString] = f"""
    chosen AS MATERIALIZED (
        SELECT meter_id, site_id FROM meter WHERE {_SCOPE}
            AND NOT EXISTS (SELECT FROM meter AS under WHERE under.master_id = meter.meter_id)
    ), looks AS (
        SELECT meter_id, night.night AS day, cell.energy_wh, cell.reading_at
        FROM night JOIN night_cell AS cell USING (night_id) JOIN chosen USING (meter_id)
        WHERE night.night BETWEEN %(first)s AND %(last)s AND cell.state IN ('read', 'back_filled')
            AND cell.energy_wh IS NOT NULL
        UNION ALL
        SELECT chosen.meter_id, before.* FROM chosen CROSS JOIN LATERAL (
            SELECT night.night, cell.energy_wh, cell.reading_at
            FROM night JOIN night_cell AS cell USING (night_id)
            WHERE night.site_id = chosen.site_id AND cell.meter_id = chosen.meter_id
                AND night.night < %(first)s AND cell.state IN ('read', 'back_filled')
                AND cell.energy_wh IS NOT NULL
            ORDER BY night.night DESC LIMIT 1
        ) AS before
    )"""
_USED_TOTAL: Final[LiteralString] = (
    _USED
    + """
    , used AS (
        SELECT meter_id, day,
            energy_wh - lag(energy_wh) OVER (PARTITION BY meter_id ORDER BY day) AS used_wh
        FROM looks
    )"""
)
_PLACED: Final[LiteralString] = """
    JOIN meter USING (meter_id) LEFT JOIN room USING (room_id)
    LEFT JOIN building USING (building_id) LEFT JOIN tariff_of USING (meter_id)"""

# Each row of the books that moved money, with the meter it is about and the day on the wall of its
# property. A day is at most 15 hours off UTC.
_MOVED: Final[LiteralString] = f"""
    moved AS (
        SELECT transfer.entry_no, transfer.at, operation, phase, transfer.amount_fen, reason,
            meter.meter_id, (transfer.at AT TIME ZONE site.time_zone)::date AS day,
            giver.kind AS giver, taker.kind AS taker, operator.name AS operator,
            approver.name AS approver,
            CASE WHEN giver.kind = 'customer' THEN giver.name
                WHEN taker.kind = 'customer' THEN taker.name END AS customer,
            coalesce(sale.channel, CASE WHEN giver.kind IN ('till', 'channel') THEN giver.kind
                WHEN taker.kind IN ('till', 'channel') THEN taker.kind END) AS channel
        FROM transfer JOIN operator USING (operator_id)
        LEFT JOIN operator AS approver ON approver.operator_id = transfer.approver_id
        JOIN account AS giver ON giver.account_id = debit
        JOIN account AS taker ON taker.account_id = credit
        JOIN meter ON meter.meter_id = coalesce(taker.meter_id, giver.meter_id)
        JOIN site ON site.site_id = meter.site_id
        LEFT JOIN sale ON sale.sale_id = transfer.sale_id
        WHERE phase IN ('direct', 'post') AND {_SCOPE}
            AND transfer.at >= %(first)s::timestamp AT TIME ZONE 'UTC' - interval '15 hours'
            AND transfer.at < %(last)s::timestamp AT TIME ZONE 'UTC' + interval '39 hours'
            AND (transfer.at AT TIME ZONE site.time_zone)::date BETWEEN %(first)s AND %(last)s
    )"""
_SUMS_OF_MONEY: Final[LiteralString] = """
    count(*) FILTER (WHERE operation = 'payment') AS payments,
    coalesce(sum(amount_fen) FILTER (WHERE operation = 'payment'), 0)::bigint AS taken_fen,
    coalesce(sum(amount_fen) FILTER (WHERE operation = 'refund'), 0)::bigint AS paid_back_fen,
    coalesce(sum(CASE WHEN giver IN ('till', 'channel') THEN amount_fen
        WHEN taker IN ('till', 'channel') THEN -amount_fen ELSE 0 END)
        FILTER (WHERE operation = 'correction'), 0)::bigint AS corrected_fen,
    coalesce(sum(amount_fen) FILTER (WHERE operation = 'fee'), 0)::bigint AS fee_fen,
    coalesce(sum(CASE WHEN taker = 'energy' THEN amount_fen
        WHEN giver = 'energy' THEN -amount_fen ELSE 0 END), 0)::bigint AS charged_fen,
    count(*) FILTER (WHERE phase = 'post') AS posted,
    coalesce(sum(amount_fen) FILTER (WHERE phase = 'post'), 0)::bigint AS posted_fen"""
_MONEY_NAMES: Final[LiteralString] = (
    "payments, taken_fen, paid_back_fen, corrected_fen, fee_fen, charged_fen, posted, posted_fen"
)


async def rows(tx: Transaction, report: Report) -> AsyncIterator[Row]:
    """Every row of a report in the order of its columns, as a cursor brings them."""
    named = {
        "sites": None if report.sites is None else list(report.sites),
        "site_id": report.site_id,
        "first": report.first,
        "last": report.last,
    }
    async with tx.connection.cursor(name="report") as cursor:
        cursor.itersize = FETCH_ROWS
        await cursor.execute(_statement(report), named)
        async for row in cursor:
            yield cast(Row, row)


def _statement(report: Report) -> LiteralString:
    if report.grouping is None:
        return _FIXED[report.kind]
    if report.kind is ReportKind.USE:
        return _use(_OF_PLACE[report.grouping])
    return _turnover(report.grouping)


def _turnover(grouping: Grouping) -> LiteralString:
    key = _OF_MONEY[grouping]
    of_money: LiteralString = f"""
        SELECT {key} AS key, {_SUMS_OF_MONEY} FROM moved {_PLACED} GROUP BY 1"""
    if grouping not in _OF_PLACE:
        return f"WITH {_TARIFF_OF}, {_MOVED} {of_money} ORDER BY taken_fen DESC, posted_fen DESC, 1"
    # Days without a sale have their use, and the other way round.
    sums: LiteralString = ", ".join(f"coalesce({name}, 0)" for name in _MONEY_NAMES.split(", "))
    return f"""
        WITH {_TARIFF_OF}, {_USED_TOTAL}, {_MOVED}, of_use AS (
            SELECT {key} AS key, sum(used_wh)::bigint AS used_wh FROM used {_PLACED}
            WHERE day >= %(first)s AND used_wh >= 0 GROUP BY 1
        ), of_money AS ({of_money}), keys AS (
            SELECT key FROM of_use UNION SELECT key FROM of_money
        )
        SELECT keys.key, coalesce(used_wh, 0), {sums} FROM keys
        LEFT JOIN of_use ON of_use.key IS NOT DISTINCT FROM keys.key
        LEFT JOIN of_money ON of_money.key IS NOT DISTINCT FROM keys.key
        ORDER BY 1 NULLS LAST"""


_RATES: Final[tuple[LiteralString, ...]] = (
    "energy_sharp_wh",
    "energy_peak_wh",
    "energy_flat_wh",
    "energy_valley_wh",
    "energy_deep_valley_wh",
)


def _use(key: LiteralString) -> LiteralString:
    """Energy by rate: the total from the nights' cells, the rates from the readings behind them."""
    before: LiteralString = ", ".join(
        f"reading.{rate} - lag(reading.{rate}) OVER in_turn AS {rate}" for rate in _RATES
    )
    sums: LiteralString = ", ".join(
        f"coalesce(sum({rate}) FILTER (WHERE {rate} >= 0), 0)::bigint" for rate in _RATES
    )
    return f"""
        WITH {_TARIFF_OF}, {_USED}, used AS (
            SELECT looks.meter_id, day,
                looks.energy_wh - lag(looks.energy_wh) OVER in_turn AS used_wh, {before}
            FROM looks LEFT JOIN reading
                ON reading.meter_id = looks.meter_id AND reading.at = looks.reading_at
            WINDOW in_turn AS (PARTITION BY looks.meter_id ORDER BY day)
        )
        SELECT {key} AS key, sum(used_wh)::bigint, {sums} FROM used {_PLACED}
        WHERE day >= %(first)s AND used_wh >= 0 GROUP BY 1 ORDER BY 1 NULLS LAST"""


_AT: Final[LiteralString] = "site.name, building.name, room.name, meter.name"
_PLACES: Final[LiteralString] = """
    JOIN site ON site.site_id = meter.site_id LEFT JOIN room ON room.room_id = meter.room_id
    LEFT JOIN building ON building.building_id = room.building_id"""

_LINES: Final[LiteralString] = f"""
    WITH {_MOVED}
    SELECT entry_no, moved.at, operation, channel, {_AT}, customer, amount_fen, operator,
        approver, reason
    FROM moved JOIN meter USING (meter_id) {_PLACES} ORDER BY entry_no"""

# Of a meter that the head-end bills, what its account lacks; of others, what the meter shows.
_OWED: Final[LiteralString] = """(CASE WHEN platform_meter.meter_id IS NULL
        THEN -remaining_credit_fen ELSE balance.reserved_fen - balance.posted_fen END)"""

_ARREARS: Final[LiteralString] = f"""
    SELECT {_AT}, customer.name, customer.contact, {_OWED},
        greatest(coalesce(balance.posted_fen - balance.reserved_fen, 0), 0),
        CASE WHEN relay_closed_bits = 0 THEN 'dark' ELSE 'light' END, meter_last.at, paid.at
    FROM meter LEFT JOIN meter_last USING (meter_id) {_PLACES}
    LEFT JOIN platform_meter ON platform_meter.meter_id = meter.meter_id
    LEFT JOIN account AS customer ON customer.meter_id = meter.meter_id
        AND customer.kind = 'customer' AND customer.closed_at IS NULL
    LEFT JOIN account_balance AS balance ON balance.account_id = customer.account_id
    LEFT JOIN LATERAL (
        SELECT max(at) AS at FROM transfer
        WHERE credit = customer.account_id AND operation = 'payment'
    ) AS paid ON true
    WHERE {_OWED} > 0 AND meter.retired_at IS NULL AND {_SCOPE}
    ORDER BY {_OWED} DESC, meter.name"""

# Master and circuits are compared over the same stretch, between the first and the last night in
# which each of them was read: one that is missing at an end would look like a loss.
_MASTERS: Final[LiteralString] = f"""
    WITH master AS MATERIALIZED (
        SELECT meter.* FROM meter WHERE {_SCOPE} AND meter.retired_at IS NULL
            AND EXISTS (SELECT FROM meter AS under WHERE under.master_id = meter.meter_id
                AND under.retired_at IS NULL)
    ), member AS MATERIALIZED (
        SELECT meter_id AS of_master, meter_id, site_id FROM master
        UNION ALL
        SELECT master.meter_id, meter.meter_id, meter.site_id
        FROM master JOIN meter ON meter.master_id = master.meter_id
        WHERE meter.retired_at IS NULL
    ), look AS MATERIALIZED (
        SELECT of_master, member.meter_id, night.night, cell.energy_wh
        FROM member JOIN night ON night.site_id = member.site_id
        JOIN night_cell AS cell ON cell.night_id = night.night_id
            AND cell.meter_id = member.meter_id
        WHERE night.night BETWEEN %(first)s AND %(last)s AND cell.energy_wh IS NOT NULL
            AND cell.state IN ('read', 'back_filled')
    ), size AS (
        SELECT of_master, count(*) AS members FROM member GROUP BY of_master
    ), whole AS (
        SELECT of_master, min(night) AS first_night, max(night) AS last_night FROM (
            SELECT of_master, night FROM look GROUP BY of_master, night
            HAVING count(*) = (SELECT members FROM size WHERE size.of_master = look.of_master)
        ) AS nights GROUP BY of_master HAVING min(night) < max(night)
    ), unread AS (
        SELECT of_master, count(*) FILTER (WHERE looks < 2) AS meters FROM (
            SELECT member.of_master, member.meter_id, count(look.night) AS looks
            FROM member LEFT JOIN look USING (of_master, meter_id) GROUP BY 1, 2
        ) AS counted GROUP BY of_master
    ), used AS (
        SELECT look.of_master, look.meter_id,
            sum(CASE night WHEN last_night THEN energy_wh ELSE -energy_wh END) AS wh
        FROM look JOIN whole USING (of_master) WHERE night IN (first_night, last_night)
        GROUP BY look.of_master, look.meter_id
    ), summed AS (
        SELECT of_master, sum(wh) FILTER (WHERE meter_id = of_master)::bigint AS master_wh,
            sum(wh) FILTER (WHERE meter_id <> of_master)::bigint AS circuits_wh
        FROM used GROUP BY of_master
    )"""
_LOSS: Final[LiteralString] = f"""{_MASTERS}
    SELECT site.name, master.name, first_night, last_night, master_wh, circuits_wh,
        master_wh - circuits_wh, CASE WHEN master_wh > 0
            THEN round((master_wh - circuits_wh) * 1000.0 / master_wh)::bigint END,
        members - 1, unread.meters
    FROM master JOIN site USING (site_id) JOIN size ON size.of_master = master.meter_id
    JOIN unread ON unread.of_master = master.meter_id
    LEFT JOIN whole ON whole.of_master = master.meter_id
    LEFT JOIN summed ON summed.of_master = master.meter_id
    ORDER BY master_wh - circuits_wh DESC NULLS LAST, master.name"""

# A card for every meter of an area belongs to no property: who sees all of them sees it.
_CARDS_OUT: Final[LiteralString] = f"""
    SELECT issue_number, encode(serial, 'hex'), 'card:' || card_issue.kind, card_issue.state, {_AT},
        purchase_count, amount_fen, begun_at, operator.name
    FROM card_issue JOIN operator ON operator.operator_id = issued_by
    LEFT JOIN meter USING (meter_id)
    LEFT JOIN site ON site.site_id = meter.site_id LEFT JOIN room ON room.room_id = meter.room_id
    LEFT JOIN building ON building.building_id = room.building_id
    WHERE card_issue.state IN ('pending', 'issued', 'clearing', 'lost') AND {_SCOPE}
    ORDER BY begun_at, issue_number"""

_UNKNOWN: Final[LiteralString] = f"""
    SELECT command_id::text, command.kind, command.state, {_AT}, purchase_count, amount_fen,
        ordered_at, look_again_at, attempts, operator.name, outcome
    FROM command JOIN operator ON operator.operator_id = ordered_by
    JOIN meter USING (meter_id) {_PLACES}
    WHERE command.state IN ('unknown', 'escalated') AND {_SCOPE}
    ORDER BY ordered_at, command_id"""

_FIXED: Final[Mapping[ReportKind, LiteralString]] = {
    ReportKind.LINES: _LINES,
    ReportKind.ARREARS: _ARREARS,
    ReportKind.LOSS: _LOSS,
    ReportKind.CARDS_OUT: _CARDS_OUT,
    ReportKind.UNKNOWN: _UNKNOWN,
}


async def sites_of(tx: Transaction, sites: tuple[int, ...] | None) -> list[tuple[int, str]]:
    """(number, name) of the properties somebody may see, by name."""
    found: list[Any] = await tx.rows(
        "SELECT site_id, name FROM site"
        " WHERE %(sites)s::integer[] IS NULL OR site_id = ANY(%(sites)s) ORDER BY name",
        named={"sites": None if sites is None else list(sites)},
    )
    return [(number, name) for number, name in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a master meter counted and what its circuits did, between two whole nights; None: there
    are no two nights in which all of them were read."""

    meter_id: int
    site_id: int
    master_wh: int | None
    circuits_wh: int | None


async def masters(tx: Transaction, first: date, last: date) -> list[Counted]:
    """Every master meter with its circuits over the nights of some days."""
    rows = await tx.rows(
        f"""{_MASTERS}
        SELECT meter_id, site_id, master_wh, circuits_wh
        FROM master LEFT JOIN summed ON of_master = meter_id""",
        named={"sites": None, "site_id": None, "first": first, "last": last},
    )
    return [
        Counted(meter_id=row[0], site_id=row[1], master_wh=row[2], circuits_wh=row[3])
        for row in rows
    ]
