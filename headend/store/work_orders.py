"""Work orders: what somebody has to go and do, ranked by the money at risk meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from headend.domain.roles import Whose, scope_of
from headend.store.database import Row, Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOrder:
    """One piece of work. `at_risk_fen`: money nobody can be sure of until it is done."""

    work_order_id: int
    site_id: int
    alarm_id: int | None
    alarm_code: str | None
    meter: str | None
    room: str | None
    gateway: str | None
    title: str
    opened_at: datetime
    opened_by: str
    assigned_to: str | None
    closed_at: datetime | None
    closed_by: str | None
    closed_reason: str | None
    at_risk_fen: int
    version: int
    building_id: int | None  # of its meter


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What somebody did about a work order."""

    at: datetime
    operator: str
    action: str
    text: str


async def open_order(
    tx: Transaction,
    *,
    site_id: int,
    title: str,
    by: int,
    at: datetime,
    meter_id: int | None = None,
    gateway_id: int | None = None,
    alarm_id: int | None = None,
    assigned_to: int | None = None,
) -> int | None:
    """A new work order; None: this alarm has an open one already."""
    number: int | None = await tx.value(
        """
        INSERT INTO work_order (site_id, alarm_id, meter_id, gateway_id, title, opened_at,
            opened_by, assigned_to) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (alarm_id) WHERE closed_at IS NULL DO NOTHING RETURNING work_order_id""",
        site_id,
        alarm_id,
        meter_id,
        gateway_id,
        title,
        at,
        by,
        assigned_to,
    )
    if number is not None:
        await _tell(tx, number, "opened", title, by=by, at=at)
    return number


_ORDER: LiteralString = """
    SELECT work_order_id, work_order.site_id, work_order.alarm_id, alarm.code, meter.name,
        room.name, gateway.name, title, opened_at, opener.name, owner.name,
        work_order.closed_at, closer.name, work_order.closed_reason,
        coalesce(CASE WHEN work_order.meter_id IS NOT NULL
            THEN money_at_risk_fen(work_order.meter_id)
            ELSE (SELECT sum(money_at_risk_fen(behind.meter_id)) FROM meter AS behind
                JOIN line USING (line_id) WHERE line.gateway_id = work_order.gateway_id
                    AND behind.retired_at IS NULL) END, 0)::bigint AS at_risk_fen,
        work_order.version, room.building_id
    FROM work_order JOIN operator AS opener ON opener.operator_id = opened_by
    LEFT JOIN alarm ON alarm.alarm_id = work_order.alarm_id
    LEFT JOIN meter ON meter.meter_id = work_order.meter_id
    LEFT JOIN room ON room.room_id = meter.room_id
    LEFT JOIN gateway ON gateway.gateway_id = work_order.gateway_id
    LEFT JOIN operator AS owner ON owner.operator_id = work_order.assigned_to
    LEFT JOIN operator AS closer ON closer.operator_id = work_order.closed_by"""
# What is about no meter, or one in no building, belongs to whoever has its whole site.
_SCOPE: LiteralString = """(%(sites)s::integer[] IS NULL OR work_order.site_id = ANY(%(sites)s)
    OR room.building_id = ANY(%(buildings)s::integer[]))"""


def _order(row: Row) -> WorkOrder:
    return WorkOrder(
        work_order_id=row[0],
        site_id=row[1],
        alarm_id=row[2],
        alarm_code=row[3],
        meter=row[4],
        room=row[5],
        gateway=row[6],
        title=row[7],
        opened_at=row[8],
        opened_by=row[9],
        assigned_to=row[10],
        closed_at=row[11],
        closed_by=row[12],
        closed_reason=row[13],
        at_risk_fen=row[14],
        version=row[15],
        building_id=row[16],
    )


async def open_ones(
    tx: Transaction, whose: Whose, *, assigned_to: int | None = None
) -> list[WorkOrder]:
    """Those to do, most money at risk first, then the oldest. `assigned_to`: of one person."""
    rows = await tx.rows(
        _ORDER + f" WHERE work_order.closed_at IS NULL AND {_SCOPE}"
        " AND (%(owner)s::integer IS NULL OR work_order.assigned_to = %(owner)s)"
        " ORDER BY at_risk_fen DESC, work_order_id LIMIT 500",
        named={**scope_of(whose).named(), "owner": assigned_to},
    )
    return [_order(row) for row in rows]


async def page(
    tx: Transaction, whose: Whose, *, after: int, count: int, open_only: bool
) -> list[WorkOrder]:
    """Up to `count` with numbers above `after`, in their order."""
    rows = await tx.rows(
        _ORDER + f" WHERE work_order_id > %(after)s AND {_SCOPE}"
        " AND (NOT %(open_only)s OR work_order.closed_at IS NULL)"
        " ORDER BY work_order_id LIMIT %(count)s",
        named={
            **scope_of(whose).named(),
            "after": after,
            "count": count,
            "open_only": open_only,
        },
    )
    return [_order(row) for row in rows]


async def find(tx: Transaction, work_order_id: int, whose: Whose) -> WorkOrder | None:
    """One inside a scope."""
    row = await tx.row(
        _ORDER + f" WHERE work_order_id = %(number)s AND {_SCOPE}",
        named={"number": work_order_id, **scope_of(whose).named()},
    )
    return _order(row) if row else None


async def steps(tx: Transaction, work_order_id: int) -> list[Step]:
    """What was done about it, the oldest first."""
    rows = await tx.rows(
        "SELECT at, name, action, text FROM work_order_event JOIN operator USING (operator_id)"
        " WHERE work_order_id = %s ORDER BY event_id",
        work_order_id,
    )
    return [Step(at=row[0], operator=row[1], action=row[2], text=row[3]) for row in rows]


async def assign(
    tx: Transaction,
    work_order_id: int,
    to: int | None,
    to_name: str,
    *,
    by: int,
    at: datetime,
    version: int,
) -> bool:
    """Give it to somebody. False: it was changed meanwhile, or is closed."""
    touched = await tx.execute(
        "UPDATE work_order SET assigned_to = %s, version = version + 1"
        " WHERE work_order_id = %s AND version = %s AND closed_at IS NULL",
        to,
        work_order_id,
        version,
    )
    if touched:
        await _tell(tx, work_order_id, "assigned", to_name, by=by, at=at)
    return touched == 1


async def comment(tx: Transaction, work_order_id: int, text: str, *, by: int, at: datetime) -> None:
    """Say something about it; also after it was closed."""
    await _tell(tx, work_order_id, "commented", text, by=by, at=at)


async def close(
    tx: Transaction, work_order_id: int, reason: str, *, by: int, at: datetime, version: int
) -> bool:
    """It is done, or is not to be done. False: it was changed meanwhile, or is closed."""
    touched = await tx.execute(
        "UPDATE work_order SET closed_at = %s, closed_by = %s, closed_reason = %s,"
        " version = version + 1 WHERE work_order_id = %s AND version = %s AND closed_at IS NULL",
        at,
        by,
        reason,
        work_order_id,
        version,
    )
    if touched:
        await _tell(tx, work_order_id, "closed", reason, by=by, at=at)
    return touched == 1


async def _tell(
    tx: Transaction, work_order_id: int, action: str, text: str, *, by: int, at: datetime
) -> None:
    await tx.execute(
        "INSERT INTO work_order_event (work_order_id, at, operator_id, action, text)"
        " VALUES (%s, %s, %s, %s, %s)",
        work_order_id,
        at,
        by,
        action,
        text,
    )
