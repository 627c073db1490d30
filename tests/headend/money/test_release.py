"""A relay is given back to its meter: a debtor does not stay forced on, and nobody is hurt."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from headend.domain.commands import Accepted, Command, CommandKind, CommandState
from headend.services import switching
from headend.services.decisions import Verdict
from headend.services.delivery import Held
from headend.store import protections
from headend.store.database import Database
from simulators.metering import Forced
from tests.headend.money.shop import PATIENCE_S, Fate, always, shop

S, K = CommandState, CommandKind
HOUR = timedelta(hours=1)


async def test_a_debtor_does_not_stay_forced_on(database: Database, tmp_path: Path) -> None:
    async with shop(database, tmp_path) as s:
        s.meter().set_account(remaining_fen=-100)
        await s.open_sender()
        restore_id = await s.switched(K.RESTORE)
        await s.reaches(restore_id, S.CONFIRMED)
        release = await s.follower(restore_id, K.RELEASE)
        assert release is not None
        await s.reaches(release.command_id, S.CONFIRMED)
        look = s.meter().look()
        assert (look.relay_closed, look.forced) == (False, Forced.RELEASED)


async def test_a_release_that_did_not_happen_is_ordered_anew(
    database: Database, tmp_path: Path
) -> None:
    """Found by the trial: the person was right, the order had ended, and the debtor stayed on."""
    async with shop(database, tmp_path) as s:
        s.meter().force(Forced.CLOSED)
        s.bus.script = always(Fate.IGNORE, write=True)
        await s.open_sender()
        release_id = await s.switched(K.RELEASE)
        await s.reaches(release_id, S.ESCALATED)
        assert s.meter().look().forced is Forced.CLOSED
        s.bus.script = None
        async with database.transaction() as tx:
            verdict = Verdict(
                command_id=release_id, carried_out=False, operator_id=s.wang, reason="seen"
            )
            assert isinstance(await s.decisions.decide(tx, verdict), Accepted)
        again = await s.follower(release_id, K.RELEASE)
        assert again is not None
        await s.reaches(again.command_id, S.CONFIRMED)
        assert s.meter().look().forced is Forced.RELEASED


async def test_a_release_nobody_could_deliver_is_ordered_anew(
    database: Database, tmp_path: Path
) -> None:
    async with shop(database, tmp_path) as s:

        async def not_yet(_tx: object, command: Command, _before: object) -> Held | None:
            later = s.clock.now() + HOUR
            return Held("not yet", later) if command.kind is K.RELEASE else None

        await s.open_sender(last_check=not_yet)
        restore_id = await s.switched(K.RESTORE)
        await s.reaches(restore_id, S.CONFIRMED)
        release = await s.follower(restore_id, K.RELEASE)
        assert release is not None
        await s.kill_sender()
        assert s.meter().forced is Forced.CLOSED
        s.later(days=3)
        await s.open_sender()
        await s.reaches(release.command_id, S.EXPIRED)
        again = await s.follower(release.command_id, K.RELEASE)
        assert again is not None
        assert again.ordered_by == release.ordered_by
        await s.reaches(again.command_id, S.CONFIRMED)
        assert s.meter().forced is Forced.RELEASED


@pytest.mark.parametrize("kind", [K.RESTORE, K.RELEASE])
async def test_nothing_moves_a_circuit_somebody_works_on(
    database: Database, tmp_path: Path, kind: CommandKind
) -> None:
    """Giving the relay back to the meter may close it as well."""
    async with shop(database, tmp_path) as s:
        s.meter().force(Forced.OPEN)
        command_id = await s.switched(kind)
        async with database.transaction() as tx:
            lock = await protections.lock_out(
                tx, reason="work", by=s.li, now=s.clock.now, meter_id=s.ids["M1"]
            )
        await s.open_sender(last_check=switching.last_check(s.clock))
        async with asyncio.timeout(PATIENCE_S):
            while not (await s.command(command_id)).outcome:
                await asyncio.sleep(0.01)
        assert s.bus.writes() == []
        async with database.transaction() as tx:
            await protections.lift_lock_out(tx, lock, reason="", by=s.li, at=s.clock.now())
        s.later(minutes=2)
        await s.reaches(command_id, S.CONFIRMED)
