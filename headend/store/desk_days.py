"""Money by day and person, transfers, and who did what: the desk's looks at the books.

Bounded by the scope of who looks: `sites` None means all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, LiteralString
from uuid import UUID

from headend.domain.commands import CommandKind, CommandState
from headend.domain.ledger import Operation, Phase
from headend.domain.roles import Whose, scope_of
from headend.store.database import Transaction

_SCOPE: Final[LiteralString] = """(%(sites)s::integer[] IS NULL OR meter.site_id = ANY(%(sites)s)
    OR meter.room_id IN (SELECT room_id FROM room WHERE building_id = ANY(%(buildings)s)))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Takings:
    """What one operator took and gave back in a stretch of time, fen."""

    operator: str
    role: str
    payments: int
    payment_fen: int
    refunds: int
    refund_fen: int
    posted_fen: int  # of their orders, what is proved in meters


async def takings(tx: Transaction, sites: Whose, since: datetime, until: datetime) -> list[Takings]:
    """Money by operator, the most first."""
    rows = await tx.rows(
        f"""
        SELECT operator.name, operator.role,
            count(*) FILTER (WHERE operation = 'payment'),
            coalesce(sum(amount_fen) FILTER (WHERE operation = 'payment'), 0)::bigint,
            count(*) FILTER (WHERE operation = 'refund'),
            coalesce(sum(amount_fen) FILTER (WHERE operation = 'refund'), 0)::bigint,
            coalesce(sum(amount_fen) FILTER (WHERE phase = 'post'), 0)::bigint
        FROM transfer JOIN operator USING (operator_id)
        JOIN account AS giver ON giver.account_id = debit
        JOIN account AS taker ON taker.account_id = credit
        JOIN meter ON meter.meter_id = coalesce(taker.meter_id, giver.meter_id)
        WHERE transfer.at >= %(since)s AND transfer.at < %(until)s AND {_SCOPE}
        GROUP BY operator.name, operator.role ORDER BY 4 DESC, 1""",
        named={**scope_of(sites).named(), "since": since, "until": until},
    )
    return [
        Takings(
            operator=row[0],
            role=row[1],
            payments=row[2],
            payment_fen=row[3],
            refunds=row[4],
            refund_fen=row[5],
            posted_fen=row[6],
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the books, said with names."""

    entry_no: int
    at: datetime
    operation: Operation
    phase: Phase
    meter: str
    room: str | None
    amount_fen: int
    operator: str
    approver: str | None
    reason: str
    command_id: UUID | None


# Found through its accounts, and never by looking at every row of the books.
_OF_ONE_METER: Final[LiteralString] = """
    AND (debit = ANY(%(accounts)s)
        OR credit = ANY(%(accounts)s))"""


async def ledger_lines(
    tx: Transaction,
    sites: Whose,
    *,
    before: int | None = None,
    meter_id: int | None = None,
    account_ids: Collection[int] | None = None,
    limit: int = 50,
) -> list[Line]:
    """The newest rows of the books before a number, newest first; of some accounts only."""
    accounts = list(account_ids or ())
    if meter_id is not None:
        rows = await tx.rows("SELECT account_id FROM account WHERE meter_id = %s", meter_id)
        accounts = [number for (number,) in rows]
    rows = await tx.rows(
        f"""
        SELECT entry_no, transfer.at, operation, phase, meter.name, room.name, amount_fen,
            operator.name, approver.name, reason, command_id
        FROM transfer JOIN operator USING (operator_id)
        LEFT JOIN operator AS approver ON approver.operator_id = transfer.approver_id
        CROSS JOIN LATERAL (
            SELECT coalesce(taker.meter_id, giver.meter_id) AS meter_id
            FROM account AS giver, account AS taker
            WHERE giver.account_id = debit AND taker.account_id = credit OFFSET 0
        ) AS about JOIN meter ON meter.meter_id = about.meter_id
        LEFT JOIN room USING (room_id)
        WHERE {_SCOPE} AND entry_no < coalesce(%(before)s, 9223372036854775807)
            {"" if meter_id is None and account_ids is None else _OF_ONE_METER}
        ORDER BY entry_no DESC LIMIT %(limit)s""",
        named={**scope_of(sites).named(), "before": before, "accounts": accounts, "limit": limit},
    )
    return [
        Line(
            entry_no=row[0],
            at=row[1],
            operation=Operation(row[2]),
            phase=Phase(row[3]),
            meter=row[4],
            room=row[5],
            amount_fen=row[6],
            operator=row[7],
            approver=row[8],
            reason=row[9],
            command_id=row[10],
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command as a list shows it."""

    command_id: UUID
    kind: CommandKind
    state: CommandState
    meter: str
    room: str | None
    amount_fen: int | None
    ordered_at: datetime
    changed_at: datetime
    operator: str
    outcome: str
    bulk_id: UUID | None


async def orders(
    tx: Transaction,
    sites: Whose,
    *,
    states: Collection[CommandState] | None = None,
    kinds: Collection[CommandKind] | None = None,
    meter_id: int | None = None,
    before: datetime | None = None,
    limit: int = 50,
) -> list[Order]:
    """Commands that match, the newest first; the scope is part of the question."""
    rows = await tx.rows(
        f"""
        SELECT command_id, kind, command.state, meter.name, room.name, amount_fen, ordered_at,
            changed_at, operator.name, outcome, bulk_id
        FROM command JOIN meter USING (meter_id) LEFT JOIN room USING (room_id)
        JOIN operator ON operator.operator_id = ordered_by
        WHERE {_SCOPE}
            AND (%(states)s::text[] IS NULL OR command.state = ANY(%(states)s))
            AND (%(kinds)s::text[] IS NULL OR kind = ANY(%(kinds)s))
            AND (%(meter_id)s::integer IS NULL OR meter.meter_id = %(meter_id)s)
            AND (%(before)s::timestamptz IS NULL OR ordered_at < %(before)s)
        ORDER BY ordered_at DESC, command_id LIMIT %(limit)s""",
        named={
            **scope_of(sites).named(),
            "states": None if states is None else [state.value for state in states],
            "kinds": None if kinds is None else [kind.value for kind in kinds],
            "meter_id": meter_id,
            "before": before,
            "limit": limit,
        },
    )
    return [
        Order(
            command_id=row[0],
            kind=CommandKind(row[1]),
            state=CommandState(row[2]),
            meter=row[3],
            room=row[4],
            amount_fen=row[5],
            ordered_at=row[6],
            changed_at=row[7],
            operator=row[8],
            outcome=row[9],
            bulk_id=row[10],
        )
        for row in rows
    ]


async def open_by_state(tx: Transaction, sites: Whose) -> dict[CommandState, int]:
    """How many commands have not ended, by state."""
    rows = await tx.rows(
        f"""
        SELECT command.state, count(*) FROM command JOIN meter USING (meter_id)
        WHERE (command.state = 'queued' OR command.state IN
            ('claimed', 'sent', 'unknown', 'escalated')) AND {_SCOPE}
        GROUP BY command.state""",
        named=scope_of(sites).named(),
    )
    return {CommandState(state): count for state, count in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Did:
    """One thing somebody did, from whichever table tells it."""

    at: datetime
    operator: str | None
    what: str
    subject: str
    detail: str


async def who_did_what(
    tx: Transaction, *, before: datetime, operator: str | None, limit: int = 100
) -> list[Did]:
    """Orders, money, bulk jobs and the desk, of one operator or all, newest first.

    Rows of one instant keep their order, however many are asked for.
    """
    rows = await tx.rows(
        """
        SELECT at, operator, what, subject, detail FROM (
            (SELECT ordered_at AS at, operator.name AS operator, kind AS what,
                meter.name AS subject,
                concat_ws(' · ', (amount_fen || ' fen'), nullif(reason, '')) AS detail,
                1 AS source, command_id::text AS number
            FROM command JOIN operator ON operator_id = ordered_by JOIN meter USING (meter_id)
            WHERE ordered_at < %(before)s AND (%(operator)s::text IS NULL
                OR operator.name = %(operator)s)
            ORDER BY ordered_at DESC, command_id::text DESC LIMIT %(limit)s)
            UNION ALL
            (SELECT transfer.at, operator.name, operation, account.name,
                concat_ws(' · ', amount_fen || ' fen', nullif(reason, '')),
                2, lpad(transfer.entry_no::text, 20, '0')
            FROM transfer JOIN operator USING (operator_id) JOIN account ON account_id = credit
            WHERE phase = 'direct' AND transfer.at < %(before)s AND (%(operator)s::text IS NULL
                OR operator.name = %(operator)s)
            ORDER BY transfer.entry_no DESC LIMIT %(limit)s)
            UNION ALL
            (SELECT at, operator.name, state_after, bulk_id::text, detail,
                3, lpad(event_id::text, 20, '0')
            FROM bulk_event JOIN operator USING (operator_id)
            WHERE at < %(before)s AND (%(operator)s::text IS NULL OR operator.name = %(operator)s)
            ORDER BY event_id DESC LIMIT %(limit)s)
            UNION ALL
            (SELECT at, operator.name, action, gateway.name, '', 4, action || gateway.name FROM (
                SELECT created_at AS at, created_by AS operator_id, gateway_id,
                    'mqtt-password-given' AS action FROM mqtt_password
                UNION ALL SELECT revoked_at, revoked_by, gateway_id, 'mqtt-password-taken'
                FROM mqtt_password WHERE revoked_at IS NOT NULL
            ) AS access JOIN operator USING (operator_id) JOIN gateway USING (gateway_id)
            WHERE at < %(before)s AND (%(operator)s::text IS NULL OR operator.name = %(operator)s)
            ORDER BY at DESC, action || gateway.name DESC LIMIT %(limit)s)
            UNION ALL
            (SELECT at, operator.name, action, subject, '', 5, lpad(event_id::text, 20, '0')
            FROM desk_event LEFT JOIN operator USING (operator_id)
            WHERE at < %(before)s AND (%(operator)s::text IS NULL OR operator.name = %(operator)s)
            ORDER BY event_id DESC LIMIT %(limit)s)
        ) AS did ORDER BY at DESC, source, number DESC LIMIT %(limit)s""",
        named={"before": before, "operator": operator, "limit": limit},
    )
    return [Did(at=r[0], operator=r[1], what=r[2], subject=r[3], detail=r[4]) for r in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Sales of one day, fen."""

    day: date
    sales: int
    amount_fen: int


async def sales_by_day(tx: Transaction, sites: Whose, since: datetime, zone: str) -> list[Day]:
    """What was proved in meters, by day on the wall clock of `zone`, oldest first."""
    rows = await tx.rows(
        f"""
        SELECT (closed_at AT TIME ZONE %(zone)s)::date, count(*), sum(amount_fen)::bigint
        FROM sale JOIN meter USING (meter_id)
        WHERE sale.state = 'landed' AND opened_at >= %(since)s AND {_SCOPE}
        GROUP BY 1 ORDER BY 1""",
        named={**scope_of(sites).named(), "since": since, "zone": zone},
    )
    return [Day(day=day, sales=count, amount_fen=fen) for day, count, fen in rows]
