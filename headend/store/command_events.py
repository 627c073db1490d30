"""What became of commands, in order, for pages that follow them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString
from uuid import UUID

from headend.store.database import Row, Transaction

# Beside the states: the meter's security chip refused a code of ours.
WRONG_CODE: Final = "wrong_code"
LATE: Final = "late"  # beside the states: a tenant has paid and the light is still off

# Events of transactions that run at the same time become visible out of order. A hole in the
# numbers younger than this may still fill; an older one belongs to a transaction that gave up.
HOLE_FILLS_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEvent:
    """One change of a command's state, one `late` or one `wrong_code`."""

    event_id: int
    command_id: UUID
    meter_id: int
    kind: str
    old_state: str | None  # None: it was just ordered
    new_state: str
    at: datetime
    note: str
    cause_id: UUID | None

    @property
    def stage(self) -> str | None:
        """Of the four everybody knows: paid, sent, in_meter, light_on."""
        if self.new_state == "queued" and self.old_state is not None:
            return None  # it waits for another try: paid it was before
        return _STAGES.get((self.kind, self.new_state))


_STAGES: Final = {
    ("top_up", "queued"): "paid",
    ("top_up", "sent"): "sent",
    ("top_up", "confirmed"): "in_meter",
    ("restore", "confirmed"): "light_on",
}
_EVENT: Final[LiteralString] = """
    SELECT event_id, command_event.command_id, command_event.meter_id, command_event.kind,
        old_state, new_state, at, note, cause_id, %s::interval > clock_timestamp() - stored_at
    FROM command_event JOIN command USING (command_id)"""


async def events(tx: Transaction, after_id: int, *, limit: int = 1000) -> list[CommandEvent]:
    """Events after one, in order and without a hole: ask again from the last one given.

    Ask at each notice on "command_events" and every few seconds besides: an event behind a hole is
    given once the hole has filled or was given up.
    """
    rows = await tx.rows(
        _EVENT + " WHERE event_id > %s ORDER BY event_id LIMIT %s", _hole(), after_id, limit
    )
    found: list[CommandEvent] = []
    for row in rows:
        is_young = row[-1]
        if row[0] != after_id + 1 and is_young:
            break
        after_id = row[0]
        found.append(_event(row))
    return found


async def events_of(tx: Transaction, command_id: UUID) -> list[CommandEvent]:
    """Everything that became of a command and of those that followed from it, in order."""
    rows = await tx.rows(
        _EVENT
        + """ WHERE command_event.command_id IN (
            WITH RECURSIVE chain AS (
                SELECT %s::uuid AS command_id
                UNION
                SELECT command.command_id FROM command JOIN chain
                    ON command.cause_id = chain.command_id
            ) SELECT command_id FROM chain) ORDER BY event_id""",
        _hole(),
        command_id,
    )
    return [_event(row) for row in rows]


async def last_event_id(tx: Transaction) -> int:
    """Where a page that shows only news begins."""
    found: int = await tx.value("SELECT coalesce(max(event_id), 0) FROM command_event")
    return found


async def tell_late(
    tx: Transaction, command_id: UUID, after_s: int, at: datetime, note: str
) -> bool:
    """Say once that the light is late; False when this step was told before."""
    touched = await tx.execute(
        "INSERT INTO restore_alarm (command_id, after_s, told_at) VALUES (%s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        command_id,
        after_s,
        at,
    )
    if touched != 1:
        return False
    await _tell(tx, command_id, LATE, at, note)
    return True


async def tell_wrong_code(tx: Transaction, command_id: UUID, at: datetime, note: str) -> None:
    """The meter's chip refused a code under this command: what it may count, we count."""
    await _tell(tx, command_id, WRONG_CODE, at, note)


async def wrong_codes(tx: Transaction, meter_id: int) -> int:
    """How many codes the chip of a meter refused since its last proved purchase left, or since a
    person accepted the meter anew."""
    found: int = await tx.value(
        """
        SELECT count(*) FROM command_event AS told JOIN command USING (command_id)
        WHERE command.meter_id = %(meter_id)s AND new_state = %(wrong_code)s
            AND told.at >= greatest('-infinity',
                (SELECT max(sent_at) FROM attempt WHERE attempt.meter_id = %(meter_id)s
                    AND attempt.outcome = 'applied' AND attempt.kind IN ('top_up', 'burn')),
                (SELECT max(thawed_at) FROM sales_freeze AS stop
                    WHERE stop.meter_id = %(meter_id)s AND thawed_by IS NOT NULL))""",
        named={"meter_id": meter_id, "wrong_code": WRONG_CODE},
    )
    return found


async def _tell(tx: Transaction, command_id: UUID, told: str, at: datetime, note: str) -> None:
    await tx.execute(
        """
        WITH told AS (
            INSERT INTO command_event (command_id, meter_id, kind, old_state, new_state, at, note)
            SELECT command_id, meter_id, kind, state, %s, %s, %s FROM command WHERE command_id = %s
            RETURNING event_id)
        SELECT pg_notify('command_events', event_id::text) FROM told""",
        told,
        at,
        note,
        command_id,
    )


def _hole() -> str:
    return f"{HOLE_FILLS_S} s"


def _event(row: Row) -> CommandEvent:
    event_id, command_id, meter_id, kind, old_state, new_state, at, note, cause_id, _ = row
    return CommandEvent(
        event_id=event_id,
        command_id=command_id,
        meter_id=meter_id,
        kind=kind,
        old_state=old_state,
        new_state=new_state,
        at=at,
        note=note,
        cause_id=cause_id,
    )
