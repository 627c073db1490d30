"""What `headend terminal …` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.table import Table

from headend.cli import gateways
from headend.cli.client import Client, approver_headers
from headend.cli.console import out, print_json, say, yuan
from headend.cli.orders import fen_of
from headend.settings import Settings

_ROOT = "/api/v1/terminals"
#: a column: Chinese, English, the key of a row; *_fen is money, *_at an instant
Column = tuple[str, str, str]

_TERMINALS: Sequence[Column] = (
    ("终端", "terminal", "terminal"),
    ("项目", "site", "site"),
    ("在线", "on-line", "online"),
    ("最后通信", "last seen", "last_seen_at"),
    ("最后刷卡", "last tap", "last_tap_at"),
    ("离线限额", "cap", "cap_fen"),
    ("记录", "records", "records"),
    ("冲突", "clashes", "clashes"),
    ("伪卡", "false cards", "false_cards"),
)
_CAPS: Sequence[Column] = (
    ("限额", "cap", "number"),
    ("日期", "day", "day"),
    ("单卡", "to a card", "card_fen"),
    ("总额", "in all", "total_fen"),
    ("签发", "issued", "issued_at"),
)
_TAPS: Sequence[Column] = (
    ("刷卡时间", "tapped", "at"),
    ("卡号", "card", "card"),
    ("电表", "meter", "meter"),
    ("金额", "yuan", "amount_fen"),
    ("次数", "count", "purchase_count"),
    ("状态", "state", "state"),
)
_LOG: Sequence[Column] = (
    ("记录", "record", "sequence"),
    ("卡号", "card", "card"),
    ("表号", "meter", "meter_number"),
    ("金额", "yuan", "amount_fen"),
    ("次数", "count", "purchase_count"),
    ("状态", "state", "state"),
    ("并入", "taken over", "taken_at"),
)
_CLASHES: Sequence[Column] = (
    ("冲突", "clash", "clash"),
    ("终端", "terminal", "terminal"),
    ("代码", "code", "code"),
    ("发现", "found", "found_at"),
    ("详情", "detail", "detail"),
)
_RECHARGES: Sequence[Column] = (
    ("时间", "at", "at"),
    ("金额", "yuan", "amount_fen"),
    ("次数", "count", "purchase_count"),
    ("渠道", "channel", "channel"),
)


def listing(settings: Settings, *, as_json: bool) -> None:
    """`headend terminal list`"""
    rows = Client(settings).ask("GET", _ROOT)
    if as_json:
        _lines(rows)
    elif not rows:
        out.print(say("还没有充值终端。", "No recharge terminals yet."))
    else:
        out.print(_table(_TERMINALS, [_with_cap(row) for row in rows]))


def show(settings: Settings, terminal: str, *, as_json: bool) -> None:
    """`headend terminal show TERMINAL`"""
    row = Client(settings).ask("GET", f"{_ROOT}/of/{quote(terminal, safe='')}")
    if as_json:
        print_json(row)
        return
    out.print(_table(_TERMINALS, [_with_cap(row)]))
    parts = ((_CAPS, "caps"), (_TAPS, "taps"), (_LOG, "log"), (_CLASHES, "standing"))
    for columns, name in parts:
        if row[name]:
            out.print()
            out.print(_table(columns, row[name]))


def adopt(
    settings: Settings, terminal: str, *, site: str, secret: Path, name: str, as_json: bool
) -> None:
    """`headend terminal adopt TERMINAL`"""
    # The head-end reads the file when the terminal calls; the credential itself never travels.
    options = {"secret": f"file:{secret.absolute()}"}
    wish = {"stranger": terminal, "site": site, "name": name, "options": options}
    gateways.adopt(settings, wish, as_json=as_json)


def forget(settings: Settings, terminal: str) -> None:
    """`headend terminal forget TERMINAL`"""
    Client(settings).send("POST", f"{_ROOT}/of/{quote(terminal, safe='')}/forget", {})
    out.print(say(f"终端 {terminal} 已移除。", f"Terminal {terminal} is out of the places."))


def cap(
    settings: Settings, terminal: str, *, card: str, total: str, reason: str, as_json: bool
) -> None:
    """`headend terminal cap TERMINAL`"""
    row = Client(settings).send(
        "POST",
        f"{_ROOT}/of/{quote(terminal, safe='')}/caps",
        {"card_fen": fen_of(card), "total_fen": fen_of(total), "reason": reason},
        headers=approver_headers(),
    )
    if as_json:
        print_json(row)
        return
    sent = (
        say("已下发", "it has it")
        if row["sent"]
        else say("终端离线，联机后下发", "it gets it when it is on-line again")
    )
    text = say(f"限额 {row['number']}（{row['day']}）", f"cap {row['number']} of {row['day']}")
    out.print(f"{text}: {sent}")


def clashes(settings: Settings, *, as_json: bool) -> None:
    """`headend terminal clashes`"""
    rows = Client(settings).ask("GET", f"{_ROOT}/clashes")
    if as_json:
        _lines(rows)
    elif not rows:
        out.print(say("没有待处理的冲突。", "No clash waits."))
    else:
        out.print(_table(_CLASHES, rows))


def settle(settings: Settings, clash: int, *, reason: str, book: bool) -> None:
    """`headend terminal settle CLASH`"""
    body = {"book": book, "reason": reason}
    row = Client(settings).send("POST", f"{_ROOT}/clashes/{clash}/settle", body)
    how = say("已入账", "booked") if row["settled"] == "booked" else say("已驳回", "dismissed")
    out.print(f"{say('冲突', 'clash')} {clash}: {how}")


def recharges(settings: Settings, meter: str, *, as_json: bool) -> None:
    """`headend terminal recharges METER`"""
    rows = Client(settings).ask("GET", f"{_ROOT}/recharges/{quote(meter, safe='')}")
    if as_json:
        _lines(rows)
    else:
        out.print(_table(_RECHARGES, rows))


def _lines(rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        print_json(dict(row))


def _with_cap(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "cap_fen": None if row["cap"] is None else row["cap"]["total_fen"]}


def _table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for chinese, english, key in columns:
        right = key.endswith("_fen") or key in ("purchase_count", "records", "number")
        table.add_column(say(chinese, english), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(_shown(key, row[key]) for _, _, key in columns))
    return table


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return say("是", "yes") if value else say("否", "no")
    if key.endswith("_fen"):
        return yuan(value)
    return str(value)[:19].replace("T", " ") if key == "at" or key.endswith("_at") else str(value)
