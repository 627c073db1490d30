"""A backup of real books, brought back: older books neither sell nor send before they looked."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio

from headend.domain.alarms import AlarmKind
from headend.domain.commands import Accepted, CommandKind, CommandState, Rejected, Why
from headend.domain.problems import Problem
from headend.services import backups, restoring
from headend.services.backups import BackupPlan, Made
from headend.services.decisions import Verdict
from headend.services.reconcile import reconcile_all
from headend.services.restored_watch import look_after_restore
from headend.services.seals import seal_day
from headend.store import alarms, backup_runs
from headend.store.database import Database
from tests.headend.ledger.shop import as_attacker
from tests.headend.money.shop import Shop, shop

S = CommandState
PASSPHRASE = b"a lamp in every window"


@pytest.fixture
def plan(reachable_folder: Path, tmp_path: Path) -> BackupPlan:
    """The data folder is one the database's user may pass through."""
    data = reachable_folder / f"data-{tmp_path.name}"
    (data / "secrets").mkdir(parents=True)
    (data / "secrets" / "outgoing.key").write_bytes(b"k" * 32)
    (data / "postgres").mkdir()
    (data / "postgres" / "not-this").write_text("the server's own")
    secret = tmp_path / "passphrase"
    secret.write_bytes(PASSPHRASE + b"\n")
    secret.chmod(0o600)
    vault = tmp_path / "vault.json"
    vault.write_text("{}")
    return BackupPlan(
        data_folder=data, folder=tmp_path / "backups", passphrase_file=secret, also=(vault,)
    )


@dataclass
class Later:
    """A shop whose books were backed up, that sold more, and the older books beside it."""

    shop: Shop  # over the restored books, with the same meters
    done: restoring.Restored
    queued: UUID  # a top-up of M2 that was queued in the backup and landed after it
    cut: UUID  # queued in the backup

    async def alarms(self) -> set[tuple[str, str | None]]:
        async with self.shop.database.transaction() as tx:
            return {(one.code, one.meter) for one in await alarms.standing(tx)}


@pytest_asyncio.fixture
async def later(
    database: Database, empty_dsn: str, plan: BackupPlan, tmp_path: Path
) -> AsyncIterator[Later]:
    async with shop(database, tmp_path / "house") as s:
        await s.open_sender()
        await s.reaches(await s.sell(5_000), S.CONFIRMED)
        await s.kill_sender()
        queued = await s.sell(3_000, unit=2)
        cut = await s.switched(CommandKind.CUT)
        await seal_day(database, s.clock.now().date(), s.clock)
        made = await backups.back_up(database, plan, s.clock)
        async with database.transaction() as tx:
            await tx.execute("UPDATE command SET state = 'cancelled' WHERE kind = 'cut'")
        await s.open_sender()
        await s.reaches(queued, S.CONFIRMED)
        await s.reaches(await s.sell(700), S.CONFIRMED)
        await s.kill_sender()
        assert (s.credited(1), s.credited(2)) == ([5_000, 700], [3_000])
        s.bus.heard.clear()
        s.clock.later(hours=1)
        done = await restoring.restore(
            made.file, PASSPHRASE, data_folder=tmp_path / "new", database_url=empty_dsn,
            clock=s.clock, force=False,
        )  # fmt: skip
        older = Database(empty_dsn)
        await older.open()
        try:
            restored = dataclasses.replace(s, database=older)
            yield Later(restored, done, queued, cut)
            if restored.sender is not None:
                await restored.kill_sender()
        finally:
            await older.close()


async def test_older_books_do_not_sell_to_a_meter_that_is_ahead(later: Later) -> None:
    s = later.shop
    assert later.done.examined.faults == []
    assert later.done.marked.meters_frozen == len(s.ids)
    await s.pay(1_000)
    refused = await s.order(1_000)
    assert isinstance(refused, Rejected)
    assert refused.why is Why.SALES_FROZEN
    assert "restored from a backup" in refused.detail
    assert ("books-restored", None) in await later.alarms()
    s.clock.later(hours=1)
    await s.read_once()
    await reconcile_all(s.database, s.clock)
    assert await look_after_restore(s.database, s.clock) == 0, "M1 is ahead, M2 waits for a person"
    still = await s.order(1_000)
    assert isinstance(still, Rejected)
    assert still.why is Why.SALES_FROZEN
    assert ("meter-and-books-differ", "M1") in await later.alarms()
    assert ("books-restored", None) in await later.alarms()


async def test_nothing_is_sent_again_from_an_older_queue(later: Later) -> None:
    s = later.shop
    assert (await s.command(later.queued)).state is S.ESCALATED
    assert (await s.command(later.cut)).state is S.CANCELLED
    await s.open_sender(slow_look_s=0.02)
    for _ in range(10):
        s.later(hours=3)
        await asyncio.sleep(0.05)
    assert s.bus.writes() == []
    assert (s.credited(1), s.credited(2)) == ([5_000, 700], [3_000])
    s.clock.later(minutes=1)
    async with s.database.transaction() as tx:
        verdict = Verdict(
            command_id=later.queued, carried_out=True, operator_id=s.wang, reason="it shows it"
        )
        assert isinstance(await s.decisions.decide(tx, verdict), Accepted)
    await s.read_once()
    assert await look_after_restore(s.database, s.clock) == 1, "M2 agrees once that is decided"
    await s.pay(400, unit=2)
    sold = await s.order(400, unit=2)
    assert isinstance(sold, Accepted)
    await s.reaches(sold.command.command_id, S.CONFIRMED)
    assert s.credited(2) == [3_000, 400]


@pytest_asyncio.fixture
async def small(database: Database, plan: BackupPlan, tmp_path: Path) -> AsyncIterator[
    tuple[Shop, Made, BackupPlan]
]:  # fmt: skip
    async with shop(database, tmp_path / "house") as s:
        await s.pay(5_000)
        await seal_day(database, s.clock.now().astimezone(UTC).date(), s.clock)
        yield s, await backups.back_up(database, plan, s.clock), plan


async def test_a_drill_brings_a_copy_up_beside_and_leaves_nothing(
    small: tuple[Shop, Made, BackupPlan],
) -> None:
    _, made, plan = small
    before = sorted(plan.data_folder.rglob("*"))
    examined = await restoring.drill(made.file, PASSPHRASE, plan.data_folder)
    assert examined.faults == []
    assert (examined.transfers, examined.sealed_days, examined.files) == (1, 1, 2)
    assert examined.last_seal == made.facts.last_seal
    assert sorted(plan.data_folder.rglob("*")) == before


async def test_a_drill_sees_books_that_were_tampered_with(
    small: tuple[Shop, Made, BackupPlan],
) -> None:
    s, _, plan = small
    as_attacker(s.database.conninfo, "UPDATE transfer SET amount_fen = amount_fen + 100")
    s.clock.later(minutes=1)
    made = await backups.back_up(s.database, plan, s.clock)
    examined = await restoring.drill(made.file, PASSPHRASE, plan.data_folder)
    assert "transfer" in " ".join(examined.faults)


async def test_a_restore_for_real_never_writes_over_anything(
    small: tuple[Shop, Made, BackupPlan],
) -> None:
    s, made, plan = small

    async def restore(*, force: bool) -> restoring.Restored:
        return await restoring.restore(
            made.file, PASSPHRASE, data_folder=plan.data_folder, database_url="", clock=s.clock,
            force=force,
        )  # fmt: skip

    with pytest.raises(Problem) as refused:
        await restore(force=False)
    assert refused.value.code == "restore-not-empty"
    key = plan.data_folder / "secrets" / "outgoing.key"
    key.write_bytes(b"another")
    done = await restore(force=True)
    assert key.read_bytes() == b"k" * 32
    former = sorted(plan.data_folder / one for one in done.aside)
    assert [one.name.partition(".before")[0] for one in former] == ["postgres", "outgoing.key"]
    assert former[1].read_bytes() == b"another"
    assert (former[0] / "not-this").read_text() == "the server's own"
    assert (plan.data_folder / "also" / "1" / "vault.json").read_text() == "{}"
    assert (plan.data_folder / "postgres" / "private" / "cluster" / "PG_VERSION").exists()
    assert done.marked.orders_for_a_person == 0


async def test_a_database_that_is_not_empty_is_refused(
    small: tuple[Shop, Made, BackupPlan], tmp_path: Path
) -> None:
    s, made, _ = small
    with pytest.raises(Problem, match="the database is not empty"):
        await restoring.restore(
            made.file, PASSPHRASE, data_folder=tmp_path / "new",
            database_url=s.database.conninfo, clock=s.clock, force=True,
        )  # fmt: skip
    assert await s.books() == (0, 5_000, 0)


async def test_backups_are_made_daily_missed_when_old_and_let_go(
    small: tuple[Shop, Made, BackupPlan],
) -> None:
    s, _, plan = small
    plan = dataclasses.replace(plan, keep_daily=2, keep_weekly=1)
    assert await backups.look(s.database, plan, s.clock, UTC) is None, "not due before half past 3"
    for _ in range(4):
        s.clock.later(days=1)
        assert await backups.look(s.database, plan, s.clock, UTC) is not None
        assert await backups.look(s.database, plan, s.clock, UTC) is None
    assert len(list(plan.folder.iterdir())) <= 3
    s.clock.later(days=2)
    nowhere = dataclasses.replace(plan, passphrase_file=Path("/nowhere"))
    with pytest.raises(Problem):
        await backups.look(s.database, nowhere, s.clock, UTC)
    async with s.database.transaction() as tx:
        assert [one.code for one in await alarms.standing(tx)] == [AlarmKind.BACKUP_OLD.value]
        failed = await backup_runs.newest(tx, "backup", succeeded=None)
        assert failed is not None
        assert not failed.succeeded
    assert await backups.look(s.database, nowhere, s.clock, UTC) is None, "not at once again"
    s.clock.later(hours=2)
    await backups.look(s.database, plan, s.clock, UTC)
    async with s.database.transaction() as tx:
        assert await alarms.standing(tx) == []


async def test_a_backup_that_fails_leaves_nothing_behind(
    small: tuple[Shop, Made, BackupPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    s, made, plan = small
    s.clock.later(minutes=1)
    full = shutil.disk_usage(plan.folder)._replace(free=1 << 20)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: full)
        with pytest.raises(Problem) as no_room:
            await backups.back_up(s.database, plan, s.clock)
    assert no_room.value.code == "backup-no-space"
    plan.passphrase_file.write_text("short\n")
    with pytest.raises(Problem) as short:
        await backups.back_up(s.database, plan, s.clock)
    assert short.value.code == "backup-short-passphrase"
    plan.passphrase_file.write_bytes(PASSPHRASE)
    with psycopg.connect(s.database.conninfo) as holder:
        holder.execute("LOCK TABLE transfer IN ACCESS SHARE MODE")  # a reader is no obstacle
        s.clock.later(minutes=1)
        assert (await backups.back_up(s.database, plan, s.clock)).bytes > 1_000
    assert not made.file.exists(), "one is kept of each day, the newest"
    assert not list(plan.folder.glob("*.part"))
