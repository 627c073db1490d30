"""What `headend accounts` does: it asks the running head-end, with the rights of its token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from headend.cli.client import Client
from headend.cli.console import out, print_json, say
from headend.domain.account_rows import HEADINGS, heading
from headend.domain.problems import Problem, language_of_terminal
from headend.services.report_files import FORMATS, whole_file
from headend.settings import Settings

ROWS_SHOWN = 200


def import_file(settings: Settings, file: Path, *, dry_run: bool, as_json: bool) -> None:
    """`headend accounts import FILE [--dry-run]`"""
    try:
        content = file.read_bytes()
    except OSError as error:
        detail = error.strerror or type(error).__name__
        raise Problem("settings-unreadable", file=file, detail=detail) from error
    with Client(settings) as client:
        _import(client, content, file.name[-120:], dry_run=dry_run, as_json=as_json)


def _import(client: Client, content: bytes, name: str, *, dry_run: bool, as_json: bool) -> None:
    plan = client.send_bytes("POST", "/api/v1/accounts/import", content, dry_run="true")
    if as_json and (dry_run or plan["mistakes"]):
        print_json(plan)
    elif plan["mistakes"]:
        out.print(_bad_cells(plan["mistakes"]))
    elif dry_run:
        out.print(_would(plan))
    if plan["mistakes"]:
        raise Problem(
            "accounts-file-rows", count=plan["mistake_count"], row=plan["mistakes"][0]["row"]
        )
    if dry_run:
        return
    done = client.send_bytes("POST", "/api/v1/accounts/import", content, name=name)
    if as_json:
        print_json(done)
        return
    out.print(
        say(
            f"已导入：开户 {done['opened']}，变更客户 {done['changed']}，无变化 {done['same']}。",
            f"Imported: {done['opened']} accounts opened, {done['changed']} customers changed, "
            f"{done['same']} rows were so already.",
        )
    )


def _bad_cells(mistakes: list[dict[str, Any]]) -> Table:
    language = language_of_terminal()
    table = Table(say("行", "row"), say("列", "column"), say("问题", "what is wrong"), box=None)
    for one in mistakes[:ROWS_SHOWN]:
        column = heading(one["column"], language) if one["column"] in HEADINGS else "–"
        table.add_row(str(one["row"]), column, one["text_zh" if language == "zh" else "text_en"])
    return table


def _would(plan: dict[str, Any]) -> str:
    return say(
        f"试运行：将开户 {plan['opens']}，变更客户 {plan['changes']}，无变化 {plan['same']}，"
        f"未填写 {plan['empty']}。未作任何更改。",
        f"Dry run: opens {plan['opens']} accounts, changes {plan['changes']} customers, "
        f"{plan['same']} rows are so already, {plan['empty']} are not filled in. "
        "Nothing was changed.",
    )


def export_file(settings: Settings, file: Path) -> None:
    """`headend accounts export FILE`"""
    ending = file.suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        raise Problem("bad-request", detail=f"{file.name} ends neither in .csv nor in .xlsx")
    language = "zh" if language_of_terminal() == "zh" else "en"
    with Client(settings) as client:
        content = client.fetch("/api/v1/accounts/export", format=ending, language=language)
    try:
        with whole_file(file) as part:
            part.write_bytes(content)
    except OSError as error:
        detail = error.strerror or type(error).__name__
        raise Problem("settings-unreadable", file=file, detail=detail) from error
    out.print(say(f"已写入 {file}。", f"Wrote {file}."))
