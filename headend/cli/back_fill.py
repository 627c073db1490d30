"""`headend nights SITE --night DAY --back-fill`: the gaps of a night, filled now."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final
from urllib.parse import quote

from headend.cli.client import Client
from headend.cli.console import out, print_json, say
from headend.domain.problems import Problem
from headend.settings import Settings

LOOK_S: Final = 0.5  # how often the head-end is asked how far it is


def back_fill(settings: Settings, site: str | None, night: str | None, *, as_json: bool) -> None:
    """Begin it, wait until it is through, and say what became of each meter.

    Ctrl-C ends the waiting; the head-end goes on by itself.
    """
    if site is None or night is None:
        raise Problem("bad-request", detail="--back-fill needs a site and --night YYYY-MM-DD")
    path = f"/api/v1/nights/{quote(site, safe='')}/{quote(night, safe='')}/back-fill"
    with Client(settings) as client:
        fill = asyncio.run(_through(client, path))
    if as_json:
        print_json(fill)
        return
    for one in fill["meters"]:
        out.print(f"{one['meter']}  {_said(one)}", markup=False)
    counts = Counter(one["state"] for one in fill["meters"])
    filled, asked = counts["filled"], len(fill["meters"])
    out.print(say(f"{asked} 个缺口，补到 {filled} 个。", f"{asked} gaps, {filled} filled."))
    if fill["interrupted"]:
        raise Problem("database", detail=say("补抄中断，请重试", "back-filling stopped half-way"))


async def _through(client: Client, path: str) -> dict[str, Any]:
    fill: dict[str, Any] = client.send("POST", path, {})
    while fill["ended_at"] is None:
        await asyncio.sleep(LOOK_S)
        fill = client.ask("GET", path)
    return fill


def _said(one: dict[str, Any]) -> str:
    if one["state"] == "filled":
        return say(f"已补抄（{one['origin']}）", f"filled ({one['origin']})")
    if one["state"] == "not_kept":
        return say("该表未保存那个零点的值", "keeps no value of that midnight")
    return f"{one['reason'] or one['state']}: {one['detail']}"
