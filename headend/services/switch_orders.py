"""Orders to switch relays, one or many: accepted or refused, in the caller's transaction.

A bulk job orders hundreds at a time. Each order meets the same rules as a single one; the questions
to the database are asked once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from headend.domain.commands import SWITCHING, Accepted, Command, CommandKind, Rejected, Why
from headend.domain.limits import TOGGLE_GAP, may_toggle_at
from headend.services.persons import same_person
from headend.store import commands, sales, switches
from headend.store.commands import NewCommand
from headend.store.database import Transaction
from protocols.meter_type import MeterType, Write

# In the details of a cut that is a test of its circuit.
PULSE: Mapping[str, Any] = MappingProxyType({"pulse": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOrder:
    """CUT, RESTORE or RELEASE one meter."""

    command_id: UUID
    meter_id: int
    kind: CommandKind
    operator_id: int
    reason: str
    approver_id: int | None = None
    bulk_id: UUID | None = None
    not_before: datetime | None = None
    #: the arrears that justify a cut, looked at once more before it is sent; None: by name
    cut_below_fen: int | None = None
    #: a cut that is a test: light is ordered in the transaction that proves it
    pulse: bool = False


async def switch_many(
    tx: Transaction,
    orders: Sequence[SwitchOrder],
    *,
    at: datetime,
    meter_types: Mapping[str, MeterType],
) -> list[Accepted | Rejected]:
    """Queue switching orders of different meters; what became of each, in their order.

    An order takes back a cut of its meter that still waits. Light that was ordered is never taken
    back by a cut: somebody may have paid for it. The cut goes after it, if its reasons still hold
    then. A restore soon after a cut waits until the relay may move again; a cut soon after a
    restore is refused. Who may be cut at all is domain/supply.py's to say, before and once more
    right before it is sent.
    """
    meter_ids = [order.meter_id for order in orders]
    assert len(set(meter_ids)) == len(meter_ids), "one order for each meter"
    types = await sales.lock_meters(tx, meter_ids)
    there = await commands.find_many(tx, [order.command_id for order in orders])
    last = await switches.last_switches(tx, meter_ids)
    # The thousands of a list have one pair of persons.
    pairs = {(order.operator_id, order.approver_id) for order in orders}
    one_person = {pair: await same_person(tx, *pair) for pair in pairs}
    answers: dict[UUID, Accepted | Rejected] = {}
    new: list[NewCommand] = []
    for order in orders:
        meter_type = meter_types.get(types.get(order.meter_id, ""))
        free_at = may_toggle_at(order.kind, last.get(order.meter_id), at, TOGGLE_GAP)
        answer = (
            _again(order, there.get(order.command_id))
            or _unable(order, types.get(order.meter_id), meter_type)
            or one_person[order.operator_id, order.approver_id]
            or _too_soon(order, free_at)
        )
        if answer is None:
            new.append(_new(order, at, free_at))
        else:
            answers[order.command_id] = answer
    why = {one.meter_id: f"replaced by a newer order to {one.kind.value}" for one in new}
    if why:
        await switches.cancel_queued_cuts(tx, why, at)
    answers |= await _give(tx, new)
    return [answers[order.command_id] for order in orders]


def _again(order: SwitchOrder, there: Command | None) -> Accepted | Rejected | None:
    """The same id is the same order, however often it is given."""
    assert order.kind in SWITCHING
    if there is None:
        return None
    if (there.meter_id, there.kind) == (order.meter_id, order.kind):
        return Accepted(there, repeated=True)
    return reused(order.command_id)


def _unable(
    order: SwitchOrder, type_name: str | None, meter_type: MeterType | None
) -> Rejected | None:
    if type_name is None:
        return Rejected(Why.NO_SUCH_METER)
    if meter_type is None or Write.SWITCH not in meter_type.writes:
        return Rejected(Why.METER_HAS_NO_SUCH_WRITE, f"{type_name} has no {Write.SWITCH.value}")
    return None


def _too_soon(order: SwitchOrder, free_at: datetime | None) -> Rejected | None:
    if free_at is None or order.kind is not CommandKind.CUT:
        return None
    return Rejected(Why.TOGGLED_RECENTLY, f"not before {free_at.isoformat()}")


def _new(order: SwitchOrder, at: datetime, free_at: datetime | None) -> NewCommand:
    threshold = order.cut_below_fen
    details: dict[str, Any] = {} if threshold is None else {"cut_below_fen": threshold}
    if order.pulse:
        details |= PULSE
    return NewCommand(
        command_id=order.command_id,
        meter_id=order.meter_id,
        kind=order.kind,
        details=details,
        ordered_by=order.operator_id,
        approved_by=order.approver_id,
        ordered_at=at,
        reason=order.reason,
        not_before=max(filter(None, (free_at, order.not_before)), default=None),
        bulk_id=order.bulk_id,
    )


async def _give(tx: Transaction, new: Sequence[NewCommand]) -> dict[UUID, Accepted | Rejected]:
    if not new:
        return {}
    await commands.insert_many(tx, new)
    given = await commands.find_many(tx, [one.command_id for one in new])
    # An id that was given for another meter in this very moment is that one's.
    return {
        one.command_id: Accepted(there)
        if (there := given[one.command_id]).meter_id == one.meter_id
        else reused(one.command_id)
        for one in new
    }


def reused(command_id: UUID) -> Rejected:
    """The id stands for another order already."""
    return Rejected(Why.ID_REUSED, str(command_id))
