"""The supply rules, asked for one meter: when somebody orders, and right before it is sent."""

from __future__ import annotations

from datetime import timedelta

from headend.domain.clock import Clock
from headend.domain.commands import Command, CommandKind
from headend.domain.supply import Spared
from headend.services import bulk
from headend.services.delivery import Held, LastCheck
from headend.store import supply
from headend.store.database import Transaction
from protocols.exchange import Evidence

# How often a restore looks whether the lock-out it waits for is over.
LOCK_OUT_LOOK = timedelta(minutes=1)


async def spared(
    tx: Transaction, meter_id: int, kind: CommandKind, clock: Clock, cut_below_fen: int | None
) -> Spared | None:
    """The rule that leaves this meter as it is, or None: it may be switched now.

    `cut_below_fen`: the arrears that justify a cut; None: it is ordered by name.
    """
    now = clock.now()
    meters = await supply.facts(tx, now, meter_ids=[meter_id])
    planned = bulk.plan_for(kind, meters, cut_below_fen, now)
    return planned.spared[0] if planned.spared else None


def last_check(clock: Clock) -> LastCheck:
    """What the sender asks in the transaction of the intent of each switching order."""

    async def check(tx: Transaction, command: Command, before: Evidence) -> Held | None:
        now = clock.now()
        objection = await bulk.last_look(tx, command, now)
        if objection is None:
            return None
        # Light waits for the technician to finish; a bulk job keeps its own list.
        waits = command.kind is not CommandKind.CUT and command.bulk_id is None
        return Held(objection, now + LOCK_OUT_LOOK if waits else None)

    return check
