"""The books of a seed: chained and compared by the head-end itself all day, audited at its end.

The comparison is judged by what the trial planted: what somebody else sold to a meter and a device
that took another's place are named, and nothing else ever is. The seals are verified offline, from
an export, as an auditor would.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator, Mapping
from datetime import datetime

from headend.domain.reconciliation import DifferenceKind
from headend.services import reconcile, seals
from headend.services.reconcile import Reconciliation
from headend.store.database import Database
from headend.trial.crashes import Process
from headend.trial.ground import Ground
from headend.trial.steps import StepDatabase, Untroubled
from headend.trial.technician import Counter, Technician
from headend.trial.world import SHANGHAI, TrialMeter, World, instant_of

# What is still on its way or waits for a person is a difference too, of a kind of its own.
PASSING = frozenset({DifferenceKind.IN_FLIGHT, DifferenceKind.ESCALATED})
# A line may still be without a network for hours.
READS_MAX, READ_AGAIN_S = 100, 120.0


class Auditor:
    """Looks at the books of one seed once the world is calm."""

    def __init__(
        self, world: World, ground: Ground, counter: Counter, technician: Technician
    ) -> None:
        self._world = world
        self._ground = ground
        self._counter = counter
        self._technician = technician
        self._names = ground.names
        self.objections: list[str] = []

    async def audit(self) -> None:
        """Read every meter that is in the books, compare, accept what differs, compare again."""
        await self._read_all()
        named = await self._compare()
        planted = {name for name in self._in_books() if self._is_planted(name)}
        for name in sorted(planted - named.keys()):
            self.objections.append(f"{name}: differs from the books, and nobody noticed")
        for name in sorted(named.keys() - planted):
            self.objections.append(f"{name}: said to differ ({named[name]}), and does not")
        for name in sorted(named):
            if not await self._technician.accept(name):
                self.objections.append(f"{name}: cannot be accepted though all is calm")
        for name, kind in (await self._compare()).items():
            self.objections.append(f"{name}: accepted, and still differs ({kind})")

    async def _read_all(self) -> None:
        for name in self._in_books():
            for _ in range(READS_MAX):
                if await self._technician.read(name):
                    break
                await asyncio.sleep(READ_AGAIN_S)
            else:
                self.objections.append(f"{name}: cannot be read though all is calm")

    async def _compare(self) -> dict[str, str]:
        async def compare(_: Process, database: Database) -> Reconciliation:
            return await reconcile.reconcile_all(database, self._world.clock)

        found: Reconciliation = await self._counter.asked(compare)
        return {self._names[number]: one.kind.value for number, one in found.differences.items()}

    def _in_books(self) -> list[str]:
        rows = self._ground.sessions.admin.execute(
            "SELECT meter.name FROM account JOIN meter USING (meter_id)"
            " WHERE account.kind = 'meter' ORDER BY meter.name"
        ).fetchall()
        return [name for (name,) in rows]

    def _is_planted(self, name: str) -> bool:
        row = self._ground.sessions.admin.execute(
            "SELECT opened_at FROM meter_opening WHERE meter_id = %s"
            " ORDER BY opening_id DESC LIMIT 1",
            (self._ground.meter_ids[name],),
        ).fetchone()
        return row is not None and any(
            at > row[0] for at in _disturbed_at(self._world.meters[name])
        )

    async def verify(self) -> None:
        """Seal the day and verify its export. Nothing of the head-end is needed to read it."""
        database = StepDatabase(self._ground.sessions, Untroubled())
        today = (self._world.clock.now() + SHANGHAI).date()
        await seals.seal_day(database, today, self._world.clock)
        file = io.StringIO()
        rows = await seals.export(database, file)
        file.seek(0)
        report = seals.verify_export(file)
        if not report.is_sound:
            self.objections.append(f"the export of the books is not sound: {report.fault}")
        if report.unsealed or report.transfers + report.events + report.seals != rows:
            self.objections.append(f"the seal does not cover every row: {report}")


def _disturbed_at(meter: TrialMeter) -> Iterator[datetime]:
    yield from (instant_of(one.at_ms) for one in meter.foreign)
    yield from (instant_of(at_ms) for at_ms in meter.exchanged_at_ms)


def wrongly_named(world: World, names: Mapping[int, str]) -> Iterator[str]:
    """Whatever was named during the day although nothing had happened to that meter by then."""
    for at, number, kind in world.named:
        disturbed = [one for one in _disturbed_at(world.meters[names[number]]) if one <= at]
        if kind not in PASSING and not disturbed:
            yield f"{names[number]}: said to differ ({kind.value}) before anything happened to it"


def not_frozen(world: World, ground: Ground) -> Iterator[str]:
    """A meter that tells another story than the books is sold nothing until a person has accepted
    what it shows, and an alarm says so."""
    rows = ground.sessions.admin.execute(
        "SELECT meter_id, frozen_at, thawed_at FROM sales_freeze"
    ).fetchall()
    alarmed = {
        number for (number,) in ground.sessions.admin.execute("SELECT DISTINCT meter_id FROM alarm")
    }
    for at, number, kind in world.named:
        if kind in PASSING:
            continue
        frozen = any(
            number == meter_id and frozen_at <= at and (thawed_at is None or at <= thawed_at)
            for meter_id, frozen_at, thawed_at in rows
        )
        if not frozen or number not in alarmed:
            yield f"{ground.names[number]}: differs from the books, and may be sold to"
