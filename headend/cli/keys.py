"""What key officers type, and the key service itself. Runs without the head-end and its database.

Nothing here is imported by the process that serves the web.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import typer
from rich.table import Table

from headend.cli.console import out, print_json, say, yuan
from headend.domain.clock import SystemClock
from headend.domain.problems import Problem
from headend.keys.box import BoxError, KeyBox
from headend.keys.ceremony import (
    CeremonyError,
    Component,
    combine,
    component_kcv,
    component_of,
)
from headend.keys.limits import BadRules, callers_of
from headend.keys.log import KeyLog, LogError, verify
from headend.keys.primitives import Algorithm, kcv, wipe
from headend.keys.records import CREDITS, CreditField, KeyRecord, next_version, stopped
from headend.keys.service import KeyService, serving
from headend.keys.shares import BadShare, join, share_of, split
from headend.keys.token import Token
from headend.keys.vault import Vault, write_whole
from protocols.card_image import AMOUNT_AT
from protocols.key_call import Purpose
from protocols.terminal_island import TOTAL_AT

SECRET_FILE = "HEADEND_KEYS_SECRET_FILE"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the keys are: a vault in a folder, or a token of a PKCS#11 device."""

    folder: Path
    library: Path | None = None
    token: str | None = None

    @property
    def vault(self) -> Path:
        """The encrypted file."""
        return self.folder / "vault.json"

    @property
    def log(self) -> Path:
        """What the service did."""
        return self.folder / "key-log.jsonl"


def _guard_memory() -> None:
    """No core dump: it would hold what is in memory now."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _secret(prompt: str) -> str:
    """The passphrase or PIN: from the file that HEADEND_KEYS_SECRET_FILE names, or typed."""
    named = os.environ.get(SECRET_FILE)
    if named:
        try:
            return Path(named).read_text(encoding="utf-8").strip("\n")
        except OSError as error:
            raise Problem("key-box", detail=f"{named}: {error.strerror}") from error
    return str(typer.prompt(prompt, hide_input=True))


@contextmanager
def _opened(place: Place, *, create: bool = False) -> Iterator[KeyBox]:
    """The box; what it says no to becomes a Problem."""
    _guard_memory()
    try:
        box: KeyBox
        if place.library is not None:
            box = Token(place.library, place.token or "headend-keys", _secret("PIN"))
        elif create and not place.vault.exists():
            place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            box = Vault.create(place.vault, _secret(say("新口令", "new passphrase")))
        else:
            box = Vault.open(place.vault, _secret(say("口令", "passphrase")))
        with contextlib.closing(box):
            yield box
    except BoxError as error:
        raise Problem("key-box", detail=error) from error
    except ValueError as error:  # a record that cannot be: without a limit, without a scope
        raise Problem("key-box", detail=error) from error


def purpose_of(text: str) -> Purpose:
    """What somebody typed as a purpose. Raises Problem."""
    try:
        return Purpose(text)
    except ValueError:
        known = ", ".join(purpose.value for purpose in Purpose)
        raise Problem("key-ceremony", detail=f"{text} is no purpose; known are {known}") from None


def algorithm_of(text: str) -> Algorithm:
    """What somebody typed as an algorithm. Raises Problem."""
    try:
        return Algorithm(text)
    except ValueError:
        known = ", ".join(algorithm.value for algorithm in Algorithm)
        raise Problem("key-ceremony", detail=f"{text} is none of {known}") from None


def ceremony(
    place: Place,
    purpose: Purpose,
    scope: str,
    algorithm: Algorithm,
    custodians: list[str],
    *,
    credit_fen_per_day: int | None,
    amount_at: int | None = None,
) -> None:
    """`headend keys ceremony`: components in, one key made, its check value out.

    `amount_at`: None: where our own cards, or our own caps, have it.
    """
    if amount_at is None:
        amount_at = TOTAL_AT if purpose is Purpose.TERMINAL_CAP else AMOUNT_AT
    if purpose in CREDITS and credit_fen_per_day is None:
        raise Problem("key-ceremony", detail=f"a {purpose.value} key has a daily credit limit")
    now = SystemClock().now()
    components: list[Component] = []
    key = bytearray()
    with _opened(place, create=True) as box:
        try:
            components.extend(_component(custodian, algorithm) for custodian in custodians)
            key = combine(components, algorithm)
            known = [one for one in box.records() if (one.purpose, one.scope) == (purpose, scope)]
            record = KeyRecord(
                purpose=purpose,
                scope=scope,
                version=next_version(known),
                algorithm=algorithm,
                kcv=kcv(algorithm, bytes(key)),
                kcv_method=algorithm.kcv_method,
                created_at=now,
                active_from=now,
                credit=CreditField(offset=amount_at, length=4) if purpose in CREDITS else None,
                credit_fen_per_day=credit_fen_per_day if purpose in CREDITS else None,
            )
            box.add(record, key)
        except CeremonyError as error:
            raise Problem("key-ceremony", detail=error) from error
        finally:
            wipe(key)
            for component in components:
                component.wipe()
    _note(place, record, "ceremony", ", ".join(custodians))
    out.print(
        say(
            f"密钥 {record.key_id} 已生成，校验值 [bold]{record.kcv.hex().upper()}[/]"
            f"（{record.kcv_method}）。请各保管人核对并签字。",
            f"Key {record.key_id} made, check value [bold]{record.kcv.hex().upper()}[/] "
            f"({record.kcv_method}). Each custodian compares and signs it.",
        )
    )


def _component(custodian: str, algorithm: Algorithm) -> Component:
    """One custodian alone before the screen: a component typed or made, its check value shown."""
    out.clear()
    text = typer.prompt(
        say(
            f"{custodian}：输入分量（十六进制，回车则生成）",
            f"{custodian}: your component in hex (Enter makes one)",
        ),
        default="",
        hide_input=True,
        show_default=False,
    )
    made = not text
    if made:
        text = secrets.token_hex(algorithm.key_bytes).upper()
        out.print(say("请抄写：", "Write it down:"), " ".join(_fours(text)))
    component = component_of(custodian, text, algorithm)
    shown = component_kcv(component, algorithm).hex().upper()
    out.print(say(f"分量校验值 {shown}", f"check value of the component {shown}"))
    typer.prompt(
        say("记下后按回车", "Enter when it is written down"), default="", show_default=False
    )
    out.clear()
    return component


def _fours(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]


def list_keys(place: Place, *, as_json: bool) -> None:
    """`headend keys list`"""
    now = SystemClock().now()
    with _opened(place) as box:
        records = box.records()
    if as_json:
        for one in records:
            print_json(_shown(one, now))
        return
    table = Table(box=None)
    for title in ("key", "kcv", "state", "active from", "stop issue", "stop accept", "yuan a day"):
        table.add_column(title, no_wrap=title == "key")
    for one in records:
        shown = _shown(one, now)
        # Days are enough for people; the JSON has the minutes.
        table.add_row(
            *(
                (text or "–")[: len("2026-03-20")] if name in _DATES else text or "–"
                for name, text in shown.items()
            )
        )
    out.print(table)


_DATES = ("active_from", "stop_issue", "stop_accept")


def _shown(record: KeyRecord, now: datetime) -> dict[str, str | None]:
    def day(at: datetime | None) -> str | None:
        return None if at is None else at.isoformat(timespec="minutes")

    per_day = record.credit_fen_per_day
    return {
        "key": record.key_id,
        "kcv": record.kcv.hex().upper(),
        "state": record.state(now).value,
        "active_from": day(record.active_from),
        "stop_issue": day(record.stop_issue),
        "stop_accept": day(record.stop_accept),
        "yuan_a_day": None if per_day is None else yuan(per_day),
    }


def stop(place: Place, key_id: str, *, accept: bool, after_days: int, destroy: bool) -> None:
    """`headend keys stop KEY`: end what a version may do; never the other way."""
    now = SystemClock().now()
    at = now + timedelta(days=after_days)
    with _opened(place) as box:
        record = next((one for one in box.records() if one.key_id == key_id), None)
        if record is None:
            raise Problem("no-such-key", key=key_id)
        ended = stopped(record, issue=at, accept=at if accept or destroy else None)
        if destroy:
            ended = replace(stopped(ended, accept=now), destroyed_at=now)
        box.change(ended)
    _note(place, ended, "destroy" if destroy else "stop", at.isoformat())
    out.print(say(f"{key_id}：{ended.state(now).value}", f"{key_id}: {ended.state(now).value}"))


def _note(place: Place, record: KeyRecord, what: str, who: str) -> None:
    """A line in the log. It fails while a service runs: officers work on a stopped one."""
    try:
        with contextlib.closing(KeyLog(place.log)) as log:
            log.write(
                {
                    "at": SystemClock().now().isoformat(),
                    "uid": os.getuid(),
                    "caller": who,
                    "operation": what,
                    "key": record.key_id,
                    "kcv": record.kcv.hex(),
                    "outcome": "done",
                }
            )
    except LogError as error:
        raise Problem("key-log", detail=error) from error


def backup(place: Place, file: Path, needed: int, total: int) -> None:
    """`headend keys backup FILE`: the vault once more, under a key held in shares."""
    key = secrets.token_bytes(32)
    with _opened(place) as box:
        if not isinstance(box, Vault):
            raise Problem("key-box", detail="a device makes its own backups")
        try:
            shares = split(key, needed, total, secrets.token_bytes((needed - 1) * len(key)))
        except ValueError as error:
            raise Problem("key-shares", detail=error) from error
        write_whole(file, box.export(key))
    for share in shares:
        out.clear()
        out.print(say(f"分量 {share.number}/{total}", f"share {share.number} of {total}"))
        out.print(share.text(), soft_wrap=True)
        typer.prompt(say("记下后按回车", "Enter when it is written down"), default="")
    out.clear()


def restore_backup(place: Place, file: Path) -> None:
    """`headend keys restore FILE`: a new vault from a backup and enough shares."""
    try:
        first = share_of(typer.prompt(say("分量", "share"), hide_input=True))
        shares = [first]
        while len(shares) < first.needed:
            shares.append(share_of(typer.prompt(say("分量", "share"), hide_input=True)))
        key = join(shares)
    except BadShare as error:
        raise Problem("key-shares", detail=error) from error
    if place.vault.exists():
        raise Problem("key-box", detail=f"{place.vault} exists already")
    with _opened(place, create=True) as box:
        assert isinstance(box, Vault)
        try:
            count = box.take_in(key, file.read_bytes())
        except (BoxError, OSError) as error:
            place.vault.unlink(missing_ok=True)
            raise Problem("key-shares", detail=error) from error
    out.print(say(f"已恢复 {count} 个密钥。", f"{count} keys restored."))


def verify_log(place: Place, *, as_json: bool) -> None:
    """`headend keys verify-log`"""
    try:
        report = verify(place.log)
    except LogError as error:
        raise Problem("key-log", detail=error) from error
    if report.fault is not None:
        raise Problem("key-log", detail=report.fault)
    if as_json:
        print_json({"lines": report.lines, "chain": report.last_chain.hex()})
    else:
        out.print(say(f"{report.lines} 行，完整。", f"{report.lines} lines, sound."))
        out.print(report.last_chain.hex(), style="dim")


def serve(place: Place, callers: Path, sock: Path) -> None:
    """`headend keys serve`: until a signal."""
    try:
        known = callers_of(callers.read_text(encoding="utf-8"))
    except OSError as error:
        raise Problem("key-callers", file=callers, detail=error.strerror) from error
    except BadRules as error:
        raise Problem("key-callers", file=callers, detail=error) from error
    try:
        with _opened(place) as box, contextlib.closing(KeyLog(place.log)) as log:
            service = KeyService(box, log, known, SystemClock())
            asyncio.run(_serve(service, sock))
    except LogError as error:
        raise Problem("key-log", detail=error) from error
    except OSError as error:
        raise Problem("key-box", detail=f"{sock}: {error.strerror}") from error


async def _serve(service: KeyService, sock: Path) -> None:
    stop_now = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_now.set)
    async with serving(service, sock):
        out.print(say(f"密钥服务就绪：{sock}", f"The key service answers on {sock}"))
        await stop_now.wait()
