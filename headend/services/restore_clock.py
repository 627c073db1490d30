"""The restore clock: from money received to light on, one chain with its instants.

It runs for every top-up of a meter that sits in the dark, until its relay is seen closed. When it
takes too long, that is told at stated times, as an event others can show and forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from headend.store import chains
from headend.store.chains import Chain
from headend.store.command_events import tell_late
from headend.store.database import Transaction

# Who waits in the dark is told of after two minutes (a whole restore takes seconds), then ever more
# rarely up to a working day.
LATE_AFTER_S: Final = (120, 600, 1_800, 7_200, 28_800)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreClock:
    """One tenant who has paid and sits in the dark."""

    chain: Chain
    running_s: int  # since the money came

    @property
    def stage(self) -> str:
        """The last of paid, sent, in_meter that was reached."""
        if self.chain.in_meter_at is not None:
            return "in_meter"
        return "paid" if self.chain.sent_at is None else "sent"


async def restore_clocks(tx: Transaction, now: datetime) -> list[RestoreClock]:
    """Every clock that runs, longest first."""
    return [
        RestoreClock(chain=chain, running_s=int((now - chain.paid_at).total_seconds()))
        for chain in await chains.without_light(tx, now)
    ]


async def restore_chain(tx: Transaction, command_id: UUID) -> Chain | None:
    """The chain of one top-up, ended or not; None when there is no such top-up."""
    return await chains.find(tx, command_id)


async def tell(tx: Transaction, now: datetime) -> int:
    """Tell each clock that has passed another of LATE_AFTER_S; returns how many were told."""
    told = 0
    for clock in await restore_clocks(tx, now):
        passed = [after_s for after_s in LATE_AFTER_S if clock.running_s >= after_s]
        if not passed:
            continue
        # After an outage of ours only the last one is news.
        note = f"no light {passed[-1] // 60} minutes after the payment: {clock.chain.waits_for}"
        told += await tell_late(tx, clock.chain.command_id, passed[-1], now, note)
    return told
