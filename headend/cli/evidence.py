"""What `headend evidence` and `headend verify-evidence` do."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import date, datetime, time, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from headend.app import open_database
from headend.cli.console import out, print_json, say
from headend.domain.clock import SystemClock
from headend.domain.evidence import PACK_BYTES_MAX, BadPack, PackReport, verify
from headend.domain.problems import Problem
from headend.services.evidence import KEY_FILE, EvidenceDesk, Pack
from headend.services.seals import chain_values
from headend.settings import Settings
from headend.store import places
from headend.web.words import said


def make(
    settings: Settings, meter: str, file: Path, *, since: str | None, until: str | None
) -> None:
    """`headend evidence METER FILE`"""
    zone = ZoneInfo(settings.books_time_zone)
    last = _day(until)
    ends = None if last is None else datetime.combine(last + timedelta(days=1), time(), tzinfo=zone)
    first = _day(since)
    begins = None if first is None else datetime.combine(first, time(), tzinfo=zone)

    async def work() -> Pack:
        async with open_database(settings) as opened:
            async with opened.database.transaction() as tx:
                found = [one for one in await places.load_meters(tx) if one.name == meter]
            if not found:
                raise Problem("no-such-meter", meter=meter)
            desk = EvidenceDesk(
                opened.database,
                SystemClock(),
                key_file=settings.data_folder / KEY_FILE,
                version=version("headend"),
                say=said,
            )
            return await desk.make(found[0].meter_id, meter, since=begins, until=ends, made_by=None)

    pack = asyncio.run(work())
    try:
        with file.open("xb") as target:
            target.write(pack.data)
    except OSError as error:
        detail = error.strerror or type(error).__name__
        raise Problem("settings-unreadable", file=file, detail=detail) from error
    out.print(
        say(
            f"证据包已写入 {file}；签名密钥指纹：\n{pack.fingerprint}",
            f"Wrote {file}, signed by the key with the fingerprint\n{pack.fingerprint}",
        ),
        soft_wrap=True,
    )


def verify_file(file: Path, key: str | None, books: Path | None, *, as_json: bool) -> None:
    """`headend verify-evidence FILE`; raises Problem("evidence-broken")."""
    data = _bytes_of(file)
    try:
        report = verify(data, key)
        in_books = None if books is None else _find_in(data, books)
    except BadPack as bad:
        if as_json:
            print_json({"verified": False, "member": bad.member, "what": bad.what})
        raise Problem("evidence-broken", detail=bad) from None
    if as_json:
        print_json({"verified": True, **dataclasses.asdict(report), "in_books": in_books})
    else:
        _show(report, key, in_books)


def _bytes_of(file: Path) -> bytes:
    try:
        with file.open("rb") as source:
            return source.read(PACK_BYTES_MAX + 1)
    except OSError as error:
        detail = error.strerror or type(error).__name__
        raise Problem("settings-unreadable", file=file, detail=detail) from error


def _find_in(data: bytes, books: Path) -> int:
    """How many chained lines of a sound pack stand in an export of the books, each at its place."""
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        lines: list[dict[str, Any]] = json.loads(archive.read("ledger.json"))["lines"]
    try:
        with books.open(encoding="utf-8") as source:
            values = chain_values(source)
    except (OSError, UnicodeDecodeError) as error:
        detail = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Problem("settings-unreadable", file=books, detail=detail) from error
    found = 0
    for line in lines:
        if line["position"] is not None:
            if values.get(line["position"]) != line["chain_sha256"]:
                raise BadPack(
                    f"ledger.json, position {line['position']},", "is not in these books like this"
                )
            found += 1
    return found


def _show(report: PackReport, key: str | None, in_books: int | None) -> None:
    out.print(
        say(
            f"证据包完好：电表 {report.meter}，客户 {report.customer}，{report.lines} 行账目"
            f"（其中 {report.chained} 行已入链），{report.commands} 条指令，"
            f"{report.readings} 个读数。",
            f"The pack is sound: meter {report.meter}, customer {report.customer}, {report.lines} "
            f"ledger lines ({report.chained} of them chained), {report.commands} orders, "
            f"{report.readings} readings.",
        ),
        markup=False,
        soft_wrap=True,
    )
    if in_books is not None:
        out.print(
            say(f"{in_books} 行与账本导出一致。", f"{in_books} lines stand in the books like this.")
        )
    if key is None:
        out.print(
            say(
                f"签名密钥指纹如下，请与物业公司公布的指纹核对（--key）：\n{report.fingerprint}",
                "Signed by the key below; compare it with the one the company published, or give "
                f"that as --key:\n{report.fingerprint}",
            ),
            soft_wrap=True,
        )


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Problem("bad-request", detail=f"{text} is no day like 2026-03-20") from None
