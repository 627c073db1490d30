"""`headend backup` and `headend restore`; registered in commands.py."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from headend.app import open_database
from headend.app_parts import backup_plan
from headend.cli.console import guarded, out, print_json, say
from headend.cli.money_commands import Key, Wait
from headend.cli.options import Config, DatabaseUrl, DataFolder, HttpPort, Json, settings_of
from headend.domain.clock import SystemClock
from headend.domain.problems import Problem
from headend.services import restoring
from headend.services.backups import Made, back_up, passphrase_of
from headend.services.restoring import Examined, Restored
from headend.settings import Settings
from headend.store import backup_runs
from headend.store.backup_runs import Run
from headend.store.errors import StoreError

Passphrase = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="Its first line; else backup_passphrase_file."),
]


def backup(
    as_json: Json = False,
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make an encrypted backup now, of one moment, running or not; old ones are let go."""
    settings = settings_of(config, data_folder=data_folder, database_url=database_url)

    async def work() -> Made:
        plan = backup_plan(settings)
        if plan is None:
            raise Problem("backup-not-set", setting="backup_folder, backup_passphrase_file")
        async with open_database(settings) as opened:
            return await back_up(opened.database, plan, SystemClock())

    made = guarded(lambda: asyncio.run(work()))
    if as_json:
        print_json({"file": str(made.file), "bytes": made.bytes, "removed": made.removed}
                   | dataclasses.asdict(made.facts))  # fmt: skip
        return
    out.print(
        say(
            f"备份完成：{made.file}（{made.bytes} 字节，{made.facts.transfers} 笔转账）。",
            f"Backed up to {made.file} ({made.bytes} bytes, {made.facts.transfers} transfers).",
        ),
        soft_wrap=True,
    )


def restore(
    what: Annotated[str, typer.Argument(help="A meter's name, or a backup: …Z.backup.")],
    reason: Annotated[
        str | None, typer.Option("--reason", help="Of a meter: why; kept for ever.")
    ] = None,
    key: Key = None,
    wait: Wait = True,
    rehearse: Annotated[
        bool,
        typer.Option("--drill", help="Rehearse: bring a copy up beside, verify, change nothing."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Move what is in the data folder aside first.")
    ] = False,
    passphrase_file: Passphrase = None,
    as_json: Json = False,
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
    http_port: HttpPort = None,
) -> None:
    """Bring back a meter's light (it is proved), or a backup's books into an empty place.

    Restored books are of an earlier moment: no meter is sold to before it was read and agrees, and
    every order that was open waits for a person or was taken back.
    """
    settings = settings_of(
        config, data_folder=data_folder, database_url=database_url, http_port=http_port
    )
    if not (what.endswith(".backup") or rehearse or force):
        _restore_meter(settings, what, reason, key, wait=wait, as_json=as_json)
        return
    file, chosen = Path(what), passphrase_file or Path(settings.backup_passphrase_file)

    def work() -> None:
        if passphrase_file is None and not settings.backup_passphrase_file:
            raise Problem("backup-not-set", setting="--passphrase-file")
        if rehearse:
            _told_drill(asyncio.run(_drill(settings, file, chosen)), file, as_json)
        else:
            _told_restore(asyncio.run(_restore(settings, file, chosen, force)), as_json)

    guarded(work)


def _restore_meter(
    settings: Settings,
    meter: str,
    reason: str | None,
    key: str | None,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    from headend.cli import orders

    if not reason:
        raise typer.BadParameter("--reason is needed for a meter")
    guarded(
        lambda: orders.switch(settings, "restore", meter, reason, key, wait=wait, as_json=as_json)
    )


async def _drill(settings: Settings, file: Path, passphrase_file: Path) -> Examined:
    clock = SystemClock()
    began_at = clock.now()
    passphrase = passphrase_of(passphrase_file)
    examined = await restoring.drill(file, passphrase, settings.data_folder)
    run = Run(
        kind="drill",
        file=file.name,
        began_at=began_at,
        ended_at=clock.now(),
        bytes=await asyncio.to_thread(lambda: file.stat().st_size),
        succeeded=not examined.faults,
        detail="; ".join(examined.faults) or f"{examined.transfers} transfers verified",
    )
    try:
        async with open_database(settings) as opened, opened.database.transaction() as tx:
            await backup_runs.add(tx, run)
    except StoreError as error:  # on a machine without the live one a rehearsal is as good
        out.print(say(f"演练结果未记录：{error}", f"The rehearsal is not kept: {error}"))
    return examined


def _told_drill(examined: Examined, file: Path, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(examined))
    elif not examined.faults:
        out.print(
            say(
                f"演练通过：{examined.made_at:%Y-%m-%d %H:%M} UTC 的账本，{examined.transfers} 笔"
                f"转账，{examined.sealed_days} 个日封存，余额合计为零。",
                f"The rehearsal is good: books of {examined.made_at:%Y-%m-%d %H:%M} UTC, "
                f"{examined.transfers} transfers, {examined.sealed_days} sealed days, "
                f"{examined.migrations} migrations, balances sum to zero.",
            )
        )
    if examined.faults:
        raise Problem("drill-failed", file=file.name, detail="; ".join(examined.faults))


async def _restore(settings: Settings, file: Path, passphrase_file: Path, force: bool) -> Restored:
    return await restoring.restore(
        file,
        passphrase_of(passphrase_file),
        data_folder=settings.data_folder,
        database_url=settings.database_url,
        clock=SystemClock(),
        force=force,
    )


def _told_restore(done: Restored, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    marked = done.marked
    out.print(
        say(
            f"已恢复 {done.examined.made_at:%Y-%m-%d %H:%M} UTC 的账本。{marked.meters_frozen} 块表"
            f"须先抄表核对才能售电；{marked.orders_for_a_person} 条指令待人工判定，"
            f"{marked.orders_taken_back} 条已撤回，{marked.jobs_halted} 个批量任务已停止。",
            f"Restored the books of {done.examined.made_at:%Y-%m-%d %H:%M} UTC. "
            f"{marked.meters_frozen} meters are sold to once they were read and agree; "
            f"{marked.orders_for_a_person} orders wait for a person, {marked.orders_taken_back} "
            f"were taken back, {marked.jobs_halted} jobs on many meters were halted.",
        )
    )
    for former in done.aside:
        out.print(say(f"原有内容已移到：{former}", f"What was there is now {former}"))
