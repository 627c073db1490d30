"""The technician: goes to the meters that the head-end could not judge, reads them, and says so.

He has no other door than the product's: an escalated order is decided, a sale that waits for a
meter in doubt is cancelled, and what the meter shows is read over its line and accepted.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from gateways.turns import Priority
from headend.domain.books import Asker
from headend.domain.commands import Accepted, CommandKind
from headend.services import reconcile
from headend.services.decisions import Decisions, Verdict
from headend.services.looks import Looked, look
from headend.store import readings
from headend.store.database import Database, Transaction
from headend.store.errors import StoreError
from headend.trial.crashes import Process
from headend.trial.ground import Ground
from headend.trial.settings import Shown
from headend.trial.world import TrialMeter, World
from protocols.reading import Origin, Reading
from protocols.settings import from_record
from simulators.metering import Forced

REASON = "read at the meter"


class Counter(Protocol):
    """How somebody gets one answer from the head-end, however often it dies meanwhile."""

    async def decided(self, work: Callable[[Transaction], Awaitable[Any]]) -> Any: ...

    async def asked(self, work: Callable[[Process, Database], Coroutine[Any, Any, Any]]) -> Any: ...


class Technician:
    """One for each seed."""

    def __init__(self, world: World, ground: Ground, counter: Counter) -> None:
        self._world = world
        self._ground = ground
        self._counter = counter
        self._decisions = Decisions(world.clock)

    async def round(self) -> None:
        """Everything that waits for a person now."""
        await self._decide_escalated()
        for name in self._frozen():
            await self.accept(name)

    # ---- orders ---------------------------------------------------------------------------------

    async def _decide_escalated(self) -> None:
        rows = self._ground.sessions.admin.execute(
            "SELECT command_id, meter.name, kind, amount_fen, purchase_count, details,"
            " (SELECT max(sent_at) FROM attempt WHERE attempt.command_id = command.command_id)"
            " FROM command"
            " JOIN meter USING (meter_id) WHERE state = 'escalated' ORDER BY command_id"
        ).fetchall()
        for command_id, name, kind, amount_fen, count, details, sent_at in rows:
            meter = self._world.meters[name]
            verdict = Verdict(
                command_id=command_id,
                carried_out=_configured(meter, details, sent_at, self._world.clock.now())
                if kind == "configure"
                else _carried_out(meter, CommandKind(kind), amount_fen, count),
                operator_id=self._ground.operators["manager"],
                reason=REASON,
            )
            answer = await self._counter.decided(
                functools.partial(self._decisions.decide, verdict=verdict)
            )
            done = isinstance(answer, Accepted)
            self._say(f"{kind} of {name} carried out: {verdict.carried_out}, accepted: {done}")

    # ---- meters ---------------------------------------------------------------------------------

    def _frozen(self) -> list[str]:
        rows = self._ground.sessions.admin.execute(
            "SELECT meter.name FROM sales_freeze JOIN meter USING (meter_id)"
            " WHERE thawed_at IS NULL AND NOT EXISTS (SELECT FROM command"
            " WHERE command.meter_id = sales_freeze.meter_id AND state = 'escalated')"
            " ORDER BY meter.name"
        ).fetchall()
        return [name for (name,) in rows]

    async def accept(self, name: str) -> bool:
        """Say that what a meter shows is right; False: not now."""
        waiting = self._sale_that_waits(name)
        if waiting is not None:
            await self._cancel(waiting)
        if not await self.read(name):
            return False
        refused = await self._counter.decided(
            functools.partial(
                reconcile.accept_meter,
                meter_id=self._ground.meter_ids[name],
                clock=self._world.clock,
                asked_by=self._asker("manager"),
                approved_by=self._asker("admin"),
                reason=REASON,
            )
        )
        self._say(f"accepts {name}: {'done' if refused is None else refused.detail}")
        return refused is None

    async def read(self, name: str) -> bool:
        """Read one meter over its line, now, and keep the reading."""
        meter_id = self._ground.meter_ids[name]

        async def look_and_keep(process: Process, database: Database) -> bool:
            meter = process.book.by_id[meter_id]
            line = process.book.lines[meter.known.line].line
            seen = await look(line, meter, self._world.clock, priority=Priority.ASKED_NOW)
            if not isinstance(seen, Looked):
                return False
            reading = Reading(
                meter_id=meter_id,
                at=seen.at,
                received_at=seen.at,
                origin=Origin.POLLED,
                values=seen.values,
            )
            try:
                async with database.transaction() as tx:
                    await readings.store_readings(tx, [reading])
            except StoreError:
                return False
            return True

        read: bool = await self._counter.asked(look_and_keep)
        return read

    def _sale_that_waits(self, name: str) -> UUID | None:
        row = self._ground.sessions.admin.execute(
            "SELECT command_id FROM command JOIN meter USING (meter_id)"
            " WHERE meter.name = %s AND kind = 'top_up' AND state = 'queued'",
            (name,),
        ).fetchone()
        return None if row is None else row[0]

    async def _cancel(self, command_id: UUID) -> None:
        await self._counter.decided(
            functools.partial(
                self._decisions.cancel,
                command_id=command_id,
                operator_id=self._ground.operators["manager"],
                reason=REASON,
            )
        )

    def _asker(self, role: str) -> Asker:
        return Asker(self._ground.operators[role], f"trial {role}")

    def _say(self, what: str) -> None:
        self._world.history.say("technician", what)


def _carried_out(
    meter: TrialMeter, kind: CommandKind, amount_fen: int | None, count: int | None
) -> bool:
    taken = {(one.purchase_count, one.amount_fen) for one in meter.own_purchases()}
    match kind:
        case CommandKind.TOP_UP:
            return (count, amount_fen) in taken
        case CommandKind.BURN:
            return not any(number == count and fen for number, fen in taken)
        case CommandKind.CUT:
            return meter.meter.forced is Forced.OPEN
        case CommandKind.RESTORE:
            return meter.meter.look().relay_closed
        case _:
            return meter.meter.forced is Forced.RELEASED


def _configured(
    meter: TrialMeter, details: dict[str, Any], sent_at: datetime, now: datetime
) -> bool:
    return Shown.of(meter).holds(from_record(details), sent_at, now)
