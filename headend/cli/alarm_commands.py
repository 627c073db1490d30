"""`headend alarms`: what stands, and looking after it from a terminal."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from headend.cli.console import guarded, out, print_json, say, yuan
from headend.cli.options import Config, HttpPort, Json, settings_of
from headend.settings import Settings

Seen = Annotated[int | None, typer.Option("--acknowledge", help="You have seen this one.")]
Given = Annotated[int | None, typer.Option("--assign", help="Give this one to --to.")]
Ended = Annotated[int | None, typer.Option("--close", help="End this one; give --reason.")]


def alarms(
    acknowledge: Seen = None,
    assign: Given = None,
    close: Ended = None,
    to: Annotated[str, typer.Option(help="An operator; empty: nobody.")] = "",
    reason: Annotated[str, typer.Option(help="Why it is closed, or a note.")] = "",
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Every alarm that is not closed, worst first; or look after one. Needs HEADEND_TOKEN."""
    settings = settings_of(config, http_port=http_port)
    acts: tuple[tuple[int | None, str, dict[str, object]], ...] = (
        (acknowledge, "acknowledge", {"note": reason}),
        (assign, "assign", {"operator": to, "note": reason}),
        (close, "close", {"reason": reason}),
    )
    for number, step, body in acts:
        if number is not None:
            guarded(lambda n=number, s=step, b=body: _act(settings, n, s, b, as_json=as_json))  # type: ignore[misc]  # bound now, not later
            return
    guarded(lambda: _list(settings, as_json=as_json))


def _act(
    settings: Settings, number: int, step: str, body: dict[str, object], *, as_json: bool
) -> None:
    from headend.cli.client import Client

    row = Client(settings).send("POST", f"/api/v1/alarms/{number}/{step}", body)
    if as_json:
        print_json(row)
    else:
        out.print(say(f"告警 {number}：{row['state']}", f"alarm {number}: {row['state']}"))


def _list(settings: Settings, *, as_json: bool) -> None:
    from headend.cli.client import Client

    client, rows, after = Client(settings), [], 0
    while page := client.ask("GET", "/api/v1/alarms", after=after, limit=500):
        rows += page
        after = page[-1]["alarm_id"]
    if as_json:
        for row in rows:
            print_json(row)
        return
    if not rows:
        out.print(say("没有告警。", "No alarm stands."))
        return
    worst = {"urgent": 0, "warning": 1, "notice": 2}
    table = Table("no", "", "what", "where", "detail", "since", "state", "whose", "¥", box=None)
    for row in sorted(rows, key=lambda row: (worst[row["severity"]], row["raised_at"])):
        table.add_row(
            str(row["alarm_id"]),
            row["severity"],
            row["code"],
            row["room"] or row["meter"] or row["gateway"] or "–",
            row["detail"],
            row["raised_at"][:16].replace("T", " "),
            row["state"],
            row["assigned_to"] or "–",
            yuan(row["at_risk_fen"]),
        )
    out.print(table)
