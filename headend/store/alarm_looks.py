"""What the watch over alarms looks at, each in one statement, and the rules it looks by."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from headend.domain.alarms import AlarmRules, MeterLook
from headend.store.database import Transaction

_FIELDS = tuple(field.name for field in fields(AlarmRules))


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRules:
    """The rules of one site and their number; 0: nobody has set any."""

    rules: AlarmRules
    rule_id: int


async def rules_of_sites(tx: Transaction) -> dict[int, KnownRules]:
    """Every site's rules in force, the usual ones where none were set."""
    rows = await tx.rows(
        """
        SELECT site.site_id, rule_id, low_credit_fen, very_low_credit_fen, arrears_fen,
            meter_offline_min, gateway_offline_min, clock_drift_s, unknown_min, loss_permille
        FROM site LEFT JOIN LATERAL (
            SELECT * FROM alarm_rule WHERE alarm_rule.site_id = site.site_id
            ORDER BY rule_id DESC LIMIT 1
        ) AS rule ON true"""
    )
    return {
        site_id: KnownRules(
            rules=AlarmRules()
            if rule_id is None
            else AlarmRules(**dict(zip(_FIELDS, given, strict=True))),
            rule_id=rule_id or 0,
        )
        for site_id, rule_id, *given in rows
    }


async def set_rules(
    tx: Transaction, site_id: int, rules: AlarmRules, *, by: int | None, at: datetime
) -> int:
    """Put rules in force; what held before stays as evidence. Returns their number."""
    number: int = await tx.value(
        """
        INSERT INTO alarm_rule (site_id, set_at, set_by, low_credit_fen, very_low_credit_fen,
            arrears_fen, meter_offline_min, gateway_offline_min, clock_drift_s, unknown_min,
            loss_permille)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING rule_id""",
        site_id,
        at,
        by,
        *(getattr(rules, name) for name in _FIELDS),
    )
    return number


async def lock_rules(tx: Transaction, site_id: int) -> None:
    """Until this transaction ends nobody else sets the rules of this site."""
    await tx.execute("SELECT FROM site WHERE site_id = %s FOR UPDATE", site_id)


async def meter_looks(tx: Transaction) -> list[tuple[int, int, MeterLook]]:
    """(meter, site, look) of every meter at work. Platform meters: what their customer has; a
    master has none, and nobody's money in it."""
    rows = await tx.rows(
        """
        SELECT meter.meter_id, meter.site_id, coalesce(last.received_at, meter.created_at),
            CASE
                WHEN EXISTS (SELECT FROM meter AS under WHERE under.master_id = meter.meter_id
                    AND under.retired_at IS NULL) THEN NULL
                WHEN platform.meter_id IS NULL THEN last.remaining_credit_fen
                ELSE available_fen(customer.account_id) END,
            CASE WHEN platform.meter_id IS NULL THEN last.at ELSE platform.billed_at END,
            last.relay_closed_bits, last.power_w, clock.drift_s
        FROM meter LEFT JOIN meter_last AS last USING (meter_id)
        LEFT JOIN platform_meter AS platform USING (meter_id)
        LEFT JOIN account AS customer ON customer.meter_id = platform.meter_id
            AND customer.kind = 'customer' AND customer.closed_at IS NULL
        LEFT JOIN LATERAL (
            SELECT drift_s FROM meter_clock WHERE meter_clock.meter_id = meter.meter_id
            ORDER BY checked_at DESC LIMIT 1
        ) AS clock ON true
        WHERE meter.retired_at IS NULL"""
    )
    return [
        (
            row[0],
            row[1],
            MeterLook(
                heard_at=row[2],
                credit_fen=row[3],
                credit_at=row[4],
                relay_closed_bits=row[5],
                power_w=row[6],
                drift_s=row[7],
            ),
        )
        for row in rows
    ]


async def gateway_looks(
    tx: Transaction,
) -> list[tuple[int, int, datetime | None, datetime | None]]:
    """(gateway, site, down since, up since): one of the two instants, or neither before it
    was ever seen. Down: none of its lines is up."""
    rows = await tx.rows(
        """
        SELECT gateway.gateway_id, gateway.site_id,
            CASE WHEN count(*) FILTER (WHERE state = 'up') = 0 THEN max(at) END,
            max(at) FILTER (WHERE state = 'up')
        FROM gateway JOIN line USING (gateway_id)
        LEFT JOIN LATERAL (
            SELECT state, at FROM line_event WHERE line_event.line_id = line.line_id
            ORDER BY at DESC LIMIT 1
        ) AS last ON true
        WHERE gateway.retired_at IS NULL AND line.retired_at IS NULL
        GROUP BY gateway.gateway_id"""
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


async def open_unknowns(tx: Transaction) -> list[tuple[UUID, int, int, datetime, str]]:
    """(command, meter, site, since, state) of every outcome that is not known."""
    rows = await tx.rows(
        """
        SELECT command_id, meter_id, site_id, changed_at, state
        FROM command JOIN meter USING (meter_id) WHERE state IN ('unknown', 'escalated')"""
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


async def ghosts(tx: Transaction) -> dict[int, str]:
    """By meter: what its own registers show and the books never sold."""
    rows = await tx.rows(
        "SELECT meter_id, detail FROM meter_difference"
        " WHERE closed_at IS NULL AND kind = 'foreign_purchase'"
    )
    return {row[0]: row[1] for row in rows}


@dataclass(frozen=True, slots=True)
class Standing:
    """A subject that has an alarm of this code whose cause was not seen to be gone."""

    code: str
    meter_id: int | None
    gateway_id: int | None
    command_id: UUID | None


async def not_over(tx: Transaction) -> set[Standing]:
    """Every alarm whose cause was not seen to be gone, closed early or not."""
    rows = await tx.rows(
        "SELECT code, meter_id, gateway_id, command_id FROM alarm WHERE over_at IS NULL"
    )
    return {Standing(*row) for row in rows}
