"""What a technician types about gateways."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from rich.table import Table

from headend.cli.client import Client
from headend.cli.console import out, print_json, say
from headend.domain.problems import Problem
from headend.settings import Settings


def gateways(settings: Settings, gateway: str | None, *, as_json: bool) -> None:
    """`headend gateways [GATEWAY]`"""
    client = Client(settings)
    if gateway is not None:
        row = client.ask("GET", f"/api/v1/gateways/of/{quote(gateway, safe='')}")
        rows = [row]
    else:
        rows = client.ask("GET", "/api/v1/gateways")
    if as_json:
        for row in rows:
            print_json(row)
        return
    if not rows:
        out.print(say("还没有网关。", "No gateways yet: headend import FILE."))
        return
    out.print(_gateways_table(rows))
    for row in rows:
        if row["state"] != "up":
            out.print(f"{row['gateway']}: {row['detail']}", style="red", soft_wrap=True)
    if gateway is not None:
        out.print(_meters_table(rows[0]["meter_records"]))


def _gateways_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for chinese, english in (
        ("网关", "gateway"),
        ("类型", "kind"),
        ("状态", "state"),
        ("电表", "meters"),
        ("信号", "signal"),
        ("重连", "reconnects"),
        ("错误 ‰", "errors ‰"),
        ("原因", "reason"),
        ("收", "in"),
        ("发", "out"),
        ("最后通信", "last seen"),
    ):
        left = english in ("gateway", "kind", "state", "reason", "last seen")
        table.add_column(say(chinese, english), justify="left" if left else "right", no_wrap=True)
    for row in rows:
        signal = None if row["rssi_dbm"] is None else f"{row['rssi_dbm']} dBm"
        table.add_row(
            row["gateway"],
            row["kind"],
            row["state"],
            *(
                _or_dash(value)
                for value in (
                    row["meters"],
                    signal,
                    row["reconnects"],
                    row["error_permille"],
                    row["error_reason"],
                    row["bytes_in"],
                    row["bytes_out"],
                    row["last_seen_at"] and row["last_seen_at"][:19],
                )
            ),
        )
    return table


def _meters_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for chinese, english in (
        ("电表", "meter"),
        ("地址", "address"),
        ("应答", "answers"),
        ("无应答", "silent"),
        ("连续", "in a row"),
        ("最后应答", "last answer"),
    ):
        table.add_column(say(chinese, english), no_wrap=True)
    for row in rows:
        table.add_row(
            row["meter"],
            row["address"],
            str(row["answers"]),
            str(row["silences"]),
            str(row["silences_in_a_row"]),
            _or_dash(row["last_answer_at"] and row["last_answer_at"][:19]),
        )
    return table


def _or_dash(value: object) -> str:
    return "–" if value is None else str(value)


def adopt(settings: Settings, wish: dict[str, Any], *, as_json: bool) -> None:
    """`headend adopt SAMPLE`"""
    row = Client(settings).send("POST", "/api/v1/gateways/adopt", wish)
    if as_json:
        print_json(row)
        return
    out.print(
        say(
            f"已接纳网关 {row['gateway']}（{row['site']}）。请将下面的内容加入该项目的档案文件，"
            "否则下次导入会将其停用：",
            f"Adopted as gateway {row['gateway']} of {row['site']}. Add this to the site's file, "
            "or its next import retires it:",
        ),
        soft_wrap=True,
    )
    out.print(row["fragment"], markup=False, soft_wrap=True)


def option_pair(text: str) -> tuple[str, str]:
    """ "secret=file:/etc/g1" in its two halves. Raises Problem."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise Problem("bad-request", detail=f"{text} is not key=value")
    return key, value
