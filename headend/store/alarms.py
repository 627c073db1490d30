"""Alarms: what a person has to see, raised once and closed when it is over or looked after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, LiteralString
from uuid import UUID

from headend.domain.alarms import SEVERITY, AlarmKind, AlarmState, Severity
from headend.domain.roles import Whose, scope_of
from headend.store.database import Row, Transaction

# What a person closed although its cause stood is raised anew after this if the cause still stands.
CLOSED_EARLY_RESTS: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that lasts and that somebody has to look into."""

    alarm_id: int
    code: str
    severity: Severity
    state: AlarmState
    site_id: int | None
    meter_id: int | None
    meter: str | None
    room: str | None
    gateway_id: int | None
    gateway: str | None
    command_id: UUID | None
    detail: str
    raised_at: datetime
    last_seen_at: datetime
    seen_count: int
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    assigned_to: str | None
    note: str
    closed_at: datetime | None
    closed_by: str | None
    closed_reason: str | None
    at_risk_fen: int
    version: int
    building_id: int | None  # of its meter


_SUBJECT: LiteralString = (
    "code = %(code)s AND meter_id IS NOT DISTINCT FROM %(meter_id)s"
    " AND gateway_id IS NOT DISTINCT FROM %(gateway_id)s"
    " AND command_id IS NOT DISTINCT FROM %(command_id)s"
)


async def raise_alarm(
    tx: Transaction,
    kind: AlarmKind,
    meter_id: int | None,
    detail: str,
    at: datetime,
    *,
    gateway_id: int | None = None,
    command_id: UUID | None = None,
    seen_every: timedelta = timedelta(0),
) -> bool:
    """Raise it, or see the standing one again; True when it is new.

    It is counted again when it was last seen more than `seen_every` ago. One that a person closed
    while its cause stood is left alone for CLOSED_EARLY_RESTS.
    """
    named = {
        "code": kind.value,
        "severity": SEVERITY[kind].value,
        "meter_id": meter_id,
        "gateway_id": gateway_id,
        "command_id": command_id,
        "detail": detail,
        "at": at,
        "seen_before": at - seen_every,
        "closed_after": at - CLOSED_EARLY_RESTS,
    }
    is_new = await tx.value(
        f"""
        INSERT INTO alarm (code, severity, meter_id, gateway_id, command_id, site_id, detail,
            raised_at, last_seen_at)
        SELECT %(code)s, %(severity)s, %(meter_id)s, %(gateway_id)s, %(command_id)s,
            coalesce((SELECT site_id FROM meter WHERE meter.meter_id = %(meter_id)s),
                (SELECT site_id FROM gateway WHERE gateway.gateway_id = %(gateway_id)s)),
            %(detail)s, %(at)s, %(at)s
        WHERE NOT EXISTS (SELECT FROM alarm WHERE {_SUBJECT} AND closed_by IS NOT NULL
            AND over_at IS NULL AND cleared_at > %(closed_after)s)
        ON CONFLICT (code, (coalesce(meter_id, 0)), (coalesce(gateway_id, 0)),
            (coalesce(command_id, '00000000-0000-0000-0000-000000000000')))
            WHERE cleared_at IS NULL
        DO UPDATE SET seen_count = alarm.seen_count + 1, detail = excluded.detail,
            last_seen_at = greatest(alarm.last_seen_at, excluded.last_seen_at)
            WHERE alarm.last_seen_at <= %(seen_before)s
        RETURNING xmax = 0""",
        named=named,
    )
    return bool(is_new)


async def clear_alarm(
    tx: Transaction,
    kind: AlarmKind,
    meter_id: int | None,
    at: datetime,
    *,
    gateway_id: int | None = None,
    command_id: UUID | None = None,
) -> bool:
    """Its cause is gone; False when it did not stand. One closed early may be raised anew now."""
    rows = await tx.rows(
        f"""
        UPDATE alarm SET cleared_at = coalesce(cleared_at, %(at)s), over_at = %(at)s
        WHERE {_SUBJECT} AND over_at IS NULL RETURNING closed_by""",
        named={
            "code": kind.value,
            "meter_id": meter_id,
            "gateway_id": gateway_id,
            "command_id": command_id,
            "at": at,
        },
    )
    return any(closed_by is None for (closed_by,) in rows)


_ALARM: LiteralString = """
    SELECT alarm.alarm_id, alarm.code, alarm.severity, alarm.state, alarm.site_id, alarm.meter_id,
        meter.name, room.name, alarm.gateway_id, gateway.name, alarm.command_id, alarm.detail,
        alarm.raised_at, alarm.last_seen_at, alarm.seen_count, alarm.acknowledged_at,
        seer.name, owner.name, alarm.note, alarm.cleared_at, closer.name, alarm.closed_reason,
        coalesce(money_at_risk_fen(alarm.meter_id), 0), alarm.version, room.building_id
    FROM alarm LEFT JOIN meter USING (meter_id)
    LEFT JOIN room ON room.room_id = meter.room_id
    LEFT JOIN gateway ON gateway.gateway_id = alarm.gateway_id
    LEFT JOIN operator AS seer ON seer.operator_id = alarm.acknowledged_by
    LEFT JOIN operator AS owner ON owner.operator_id = alarm.assigned_to
    LEFT JOIN operator AS closer ON closer.operator_id = alarm.closed_by"""


# What is about no meter, or one in no building, belongs to whoever has its whole site.
_SCOPE: LiteralString = """(%(sites)s::integer[] IS NULL OR alarm.site_id = ANY(%(sites)s)
    OR room.building_id = ANY(%(buildings)s::integer[]))"""


def _alarm(row: Row) -> Alarm:
    return Alarm(
        alarm_id=row[0],
        code=row[1],
        severity=Severity(row[2]),
        state=AlarmState(row[3]),
        site_id=row[4],
        meter_id=row[5],
        meter=row[6],
        room=row[7],
        gateway_id=row[8],
        gateway=row[9],
        command_id=row[10],
        detail=row[11],
        raised_at=row[12],
        last_seen_at=row[13],
        seen_count=row[14],
        acknowledged_at=row[15],
        acknowledged_by=row[16],
        assigned_to=row[17],
        note=row[18],
        closed_at=row[19],
        closed_by=row[20],
        closed_reason=row[21],
        at_risk_fen=row[22],
        version=row[23],
        building_id=row[24],
    )


async def standing(tx: Transaction, whose: Whose = None) -> list[Alarm]:
    """Every alarm that is not over, oldest first. `whose`: within this scope."""
    rows = await tx.rows(
        _ALARM + f" WHERE cleared_at IS NULL AND {_SCOPE} ORDER BY raised_at, alarm_id",
        named=dict(scope_of(whose).named()),
    )
    return [_alarm(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmFilter:
    """Which alarms are wanted; None: any. `whose`: the scope of who asks."""

    whose: Whose = None
    open_only: bool = True
    code: str | None = None
    severity: Severity | None = None
    state: AlarmState | None = None
    assigned_to: str | None = None
    meter_id: int | None = None


async def page(
    tx: Transaction, wanted: AlarmFilter, *, after: int = 0, count: int = 100
) -> list[Alarm]:
    """Up to `count` alarms with numbers above `after`, in their order."""
    rows = await tx.rows(
        _ALARM
        + f"""
        WHERE alarm.alarm_id > %(after)s AND {_SCOPE}
            AND (NOT %(open_only)s OR alarm.cleared_at IS NULL)
            AND (%(code)s::text IS NULL OR alarm.code = %(code)s)
            AND (%(severity)s::text IS NULL OR alarm.severity = %(severity)s)
            AND (%(state)s::text IS NULL OR alarm.state = %(state)s)
            AND (%(assigned_to)s::text IS NULL OR owner.name = %(assigned_to)s)
            AND (%(meter_id)s::integer IS NULL OR alarm.meter_id = %(meter_id)s)
        ORDER BY alarm.alarm_id LIMIT %(count)s""",
        named={
            "after": after,
            **scope_of(wanted.whose).named(),
            "open_only": wanted.open_only,
            "code": wanted.code,
            "severity": wanted.severity and wanted.severity.value,
            "state": wanted.state and wanted.state.value,
            "assigned_to": wanted.assigned_to,
            "meter_id": wanted.meter_id,
            "count": count,
        },
    )
    return [_alarm(row) for row in rows]


async def find(tx: Transaction, alarm_id: int, whose: Whose) -> Alarm | None:
    """One alarm inside a scope."""
    row = await tx.row(
        _ALARM + f" WHERE alarm.alarm_id = %(alarm_id)s AND {_SCOPE}",
        named={"alarm_id": alarm_id, **scope_of(whose).named()},
    )
    return _alarm(row) if row else None


async def acknowledge(
    tx: Transaction, alarm_id: int, by: int, note: str, at: datetime, *, version: int
) -> bool:
    """Somebody has seen it. False: it was changed meanwhile, or is not raised any more."""
    touched = await tx.execute(
        "UPDATE alarm SET acknowledged_at = %s, acknowledged_by = %s,"
        " note = CASE WHEN %s = '' THEN note ELSE %s END, version = version + 1"
        " WHERE alarm_id = %s AND version = %s AND state = 'raised'",
        at,
        by,
        note,
        note,
        alarm_id,
        version,
    )
    return touched == 1


async def assign(
    tx: Transaction, alarm_id: int, to: int | None, note: str, *, version: int
) -> bool:
    """Give it to somebody, or to nobody. False: it was changed meanwhile, or is closed."""
    touched = await tx.execute(
        "UPDATE alarm SET assigned_to = %s, note = CASE WHEN %s = '' THEN note ELSE %s END,"
        " version = version + 1 WHERE alarm_id = %s AND version = %s AND cleared_at IS NULL",
        to,
        note,
        note,
        alarm_id,
        version,
    )
    return touched == 1


async def close(
    tx: Transaction, alarm_id: int, by: int, reason: str, at: datetime, *, version: int
) -> bool:
    """A person ends it for a reason. False: it was changed meanwhile, or is closed."""
    touched = await tx.execute(
        "UPDATE alarm SET cleared_at = %s, closed_by = %s, closed_reason = %s,"
        " version = version + 1 WHERE alarm_id = %s AND version = %s AND cleared_at IS NULL",
        at,
        by,
        reason,
        alarm_id,
        version,
    )
    return touched == 1


async def count_raised(tx: Transaction, whose: Whose) -> int:
    """How many nobody has acknowledged yet."""
    found: int = await tx.value(
        "SELECT count(*) FROM alarm LEFT JOIN meter USING (meter_id) LEFT JOIN room"
        " ON room.room_id = meter.room_id WHERE alarm.state = 'raised' AND cleared_at IS NULL"
        f" AND {_SCOPE}",
        named=dict(scope_of(whose).named()),
    )
    return found
