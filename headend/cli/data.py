"""What the CLI does with the database and its nights."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from rich.table import Table

from headend.app import open_database
from headend.cli.client import Client
from headend.cli.console import kwh, out, print_json, say
from headend.domain.nights import REASON_HELP, GapReason
from headend.domain.problems import Problem
from headend.domain.site_file import SiteFileError, parse_site_file
from headend.services.importing import import_into
from headend.services.setting_up import property_file
from headend.settings import Settings
from headend.store.places import load_sites
from protocols.catalog import load_meter_types


def migrate(settings: Settings, *, adopt_timescale: bool = False) -> None:
    """`headend migrate`: opening the database is what migrates it."""

    async def work() -> Sequence[int]:
        async with open_database(settings, adopt_timescale=adopt_timescale) as opened:
            return opened.migrated

    applied = asyncio.run(work())
    for number in applied:
        out.print(say(f"已执行迁移 {number:04d}", f"applied migration {number:04d}"))
    if not applied:
        out.print(say("数据库已是最新。", "The database is up to date."))


def import_site(settings: Settings, file: Path, *, check: bool) -> None:
    """`headend import FILE`"""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        detail = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Problem("settings-unreadable", file=file, detail=detail) from error
    try:
        site = parse_site_file(text, str(file), load_meter_types())
    except SiteFileError as error:
        raise Problem("site-file", detail=error) from error
    counts = f"{len(site.meters)} meters, {len(site.rooms)} rooms, {len(site.lines)} lines"
    counts_zh = f"{len(site.meters)} 块表、{len(site.rooms)} 个房间、{len(site.lines)} 条线路"
    if check:
        out.print(
            say(
                f"{file} 无误：{site.name}，{counts_zh}。",
                f"{file} is sound: {site.name}, {counts}.",
            )
        )
        return

    async def work() -> str:
        async with open_database(settings) as opened:
            return await import_into(opened.database, site)

    report = asyncio.run(work())
    out.print(
        say(
            f"已导入 {site.name}：{counts_zh}（{report}）。",
            f"Imported {site.name}: {counts} ({report}).",
        )
    )


def export_site(settings: Settings, site: str) -> None:
    """`headend export-site SITE`"""

    async def work() -> str:
        async with open_database(settings) as opened, opened.database.transaction() as tx:
            known = next((one for one in await load_sites(tx) if one.name == site), None)
            if known is None:
                raise Problem("no-such-site", site=site)
            return await property_file(tx, known)

    # As it is: rich would break lines and read brackets as markup.
    sys.stdout.write(asyncio.run(work()))


def nights(
    settings: Settings, site: str | None, count: int, night: str | None, *, as_json: bool
) -> None:
    """`headend nights`"""
    client = Client(settings)
    rows = client.ask("GET", "/api/v1/nights", site=site, count=count)
    if night is not None:
        _one_night(client, rows, site, night, as_json=as_json)
        return
    if as_json:
        for row in rows:
            print_json(row)
        return
    if not rows:
        out.print(say("还没有抄表夜。", "No night was collected yet."))
        return
    out.print(nights_table(rows))
    for sentence in reasons_seen(rows):
        out.print(sentence, style="dim")


def _one_night(
    client: Client, rows: list[dict[str, Any]], site: str | None, night: str, *, as_json: bool
) -> None:
    try:
        date.fromisoformat(night)
    except ValueError as error:
        raise Problem("bad-request", detail=f"{night} is not a date like 2026-03-20") from error
    sites = [site] if site is not None else sorted({row["site"] for row in rows})
    for name in sites:
        cells = client.ask("GET", f"/api/v1/nights/{name}/{night}")
        if as_json:
            for cell in cells:
                print_json(cell)
            continue
        gaps = [cell for cell in cells if cell["reason"] is not None]
        print_gaps(gaps)
        out.print(
            say(
                f"{len(cells)} 块表，{len(gaps)} 个缺口。",
                f"{len(cells)} meters, {len(gaps)} gaps.",
            )
        )


def nights_table(rows: list[dict[str, Any]]) -> Table:
    """Completeness, one row a night: counts, the rate, and the gaps by reason."""
    table = Table(box=None, pad_edge=False)
    for chinese, english in (
        ("项目", "site"),
        ("日期", "night"),
        ("应抄", "meters"),
        ("抄到", "read"),
        ("补抄", "back-filled"),
        ("估算", "estimated"),
        ("完成率", "complete"),
        ("缺口", "gaps"),
    ):
        left = english in ("site", "night", "gaps")
        table.add_column(say(chinese, english), justify="left" if left else "right")
    for row in rows:
        table.add_row(
            row["site"],
            row["night"],
            str(row["meters"]),
            str(row["read"]),
            str(row["back_filled"]),
            str(row["estimated"]),
            rate(row),
            ", ".join(f"{reason} {n}" for reason, n in sorted(row["gaps"].items())) or "–",
        )
    return table


def rate(row: dict[str, Any]) -> str:
    """Completeness in per cent, cut and never rounded up: 99.99 is not 100."""
    done, meters = row["read"] + row["back_filled"], row["meters"]
    if not meters:
        return "–"
    hundredths = 10_000 * done // meters
    return f"{hundredths // 100}.{hundredths % 100:02d} %"


def reasons_seen(rows: list[dict[str, Any]]) -> list[str]:
    """One explaining line for each reason that occurs."""
    seen = {reason for row in rows for reason in row["gaps"]}
    return [f"{r.value}: {REASON_HELP[r]}" for r in GapReason if r.value in seen]


def gaps_table(cells: list[dict[str, Any]]) -> Table:
    """Each gap with its reason; the sentence of the last try stands below it."""
    table = Table(box=None, pad_edge=False)
    for chinese, english in (
        ("电表", "meter"),
        ("房间", "room"),
        ("线路", "line"),
        ("原因", "reason"),
        ("次数", "tries"),
        ("估算 kWh", "estimate kWh"),
    ):
        table.add_column(say(chinese, english), no_wrap=True)
    for cell in cells:
        table.add_row(
            cell["meter"],
            cell["room"] or "–",
            cell["line"],
            cell["reason"],
            str(cell["tries"]),
            kwh(cell["energy_wh"]),
        )
    return table


def print_gaps(cells: list[dict[str, Any]]) -> None:
    """The table of gaps, then what each meter's last try said."""
    out.print(gaps_table(cells))
    for cell in cells:
        if cell["detail"]:
            out.print(f"{cell['meter']}: {cell['detail']}", style="dim", soft_wrap=True)
