"""What the CLI does with the seal over the books: verify, and export for others to verify."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from headend.app import open_database
from headend.cli.console import out, print_json, say
from headend.domain.problems import Problem
from headend.domain.seals import Anchor, VerifyReport
from headend.services import seals
from headend.settings import Settings


def verify_ledger(
    settings: Settings, file: Path | None, anchor: str | None, *, as_json: bool
) -> None:
    """`headend verify-ledger`: of the database, running or not, or of an exported file.

    Raises Problem "books-broken" that names the first bad row.
    """
    kept = None if anchor is None else seals.parse_anchor(anchor)
    report = _of_database(settings, kept) if file is None else _of_file(file, kept)
    if as_json:
        print_json(as_record(report))
    elif report.is_sound:
        out.print(
            say(
                f"账本完好：{report.transfers} 笔转账，{report.events} 条指令事件，"
                f"{report.seals} 个日封存，{report.unsealed} 行待封存。",
                f"The books are sound: {report.transfers} transfers, {report.events} command "
                f"events, {report.seals} sealed days, {report.unsealed} rows not chained yet.",
            )
        )
        if (last := last_seal(report)) is not None:
            out.print(
                say(
                    f"请抄存最后的封存值，下次以 --anchor 提供：\n{last}",
                    f"Keep the last seal elsewhere and give it to the next --anchor:\n{last}",
                ),
                soft_wrap=True,
            )
    if report.fault is not None:
        raise Problem("books-broken", detail=report.fault)


def export_ledger(settings: Settings, file: Path) -> None:
    """`headend export-ledger FILE`: JSON lines as docs/ledger-seal.md describes them."""

    async def work(target: TextIO) -> int:
        async with open_database(settings) as opened:
            return await seals.export(opened.database, target)

    with _usable(file), file.open("x", encoding="utf-8", newline="\n") as target:
        rows = asyncio.run(work(target))
    out.print(say(f"已导出 {rows} 行到 {file}。", f"Exported {rows} rows to {file}."))


def as_record(report: VerifyReport) -> dict[str, object]:
    """The report for programs."""
    fault = report.fault
    return {
        "verified": report.is_sound,
        "transfers": report.transfers,
        "events": report.events,
        "seals": report.seals,
        "unsealed": report.unsealed,
        "last_seal": last_seal(report),
        "fault": None
        if fault is None
        else {"table": fault.table, "row": fault.row, "day": fault.day, "what": fault.what},
    }


def last_seal(report: VerifyReport) -> str | None:
    """The newest seal as --anchor takes it, or None before the first day was sealed."""
    if report.last_day is None or report.last_seal_sha256 is None:
        return None
    return f"{report.last_day}:{report.last_seal_sha256.hex()}"


def _of_database(settings: Settings, anchor: Anchor | None) -> VerifyReport:
    async def work() -> VerifyReport:
        async with open_database(settings) as opened:
            return await seals.verify_database(opened.database, anchor)

    return asyncio.run(work())


def _of_file(file: Path, anchor: Anchor | None) -> VerifyReport:
    with _usable(file), file.open(encoding="utf-8") as source:
        return seals.verify_export(source, anchor)


@contextlib.contextmanager
def _usable(file: Path) -> Iterator[None]:
    """What is wrong with a file is told in one sentence."""
    try:
        yield
    except FileExistsError:
        raise Problem("settings-unreadable", file=file, detail="it is there already") from None
    except UnicodeDecodeError as error:
        raise Problem("settings-unreadable", file=file, detail="it is not UTF-8 text") from error
    except OSError as error:
        detail = error.strerror or type(error).__name__
        raise Problem("settings-unreadable", file=file, detail=detail) from error
