"""What a technician types about lines and meters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from rich.table import Table

from headend.cli.client import Client
from headend.cli.console import err, kwh, out, print_json, say, yuan
from headend.domain.problems import Problem
from headend.settings import Settings
from protocols.reading import Quantity, meter_dial


def lines(settings: Settings, *, as_json: bool) -> None:
    """`headend lines`"""
    client = Client(settings)
    rows = client.ask("GET", "/api/v1/lines")
    if as_json:
        for row in rows:
            print_json(row)
        return
    if not rows:
        out.print(
            say(
                "还没有线路：用 headend import 导入档案文件。", "No lines yet: headend import FILE."
            )
        )
        return
    out.print(lines_table(rows))
    for row in rows:
        if row["state"] == "down":
            out.print(f"{row['line']}: {row['detail']}", style="red", soft_wrap=True)
    health = client.ask("GET", "/health")
    if health["mqtt"] != "up" and any(row["kind"] == "mqtt" for row in rows):
        told = say("MQTT 未连通：", "MQTT is not there: ") + health["mqtt_detail"]
        out.print(told, style="red", markup=False, soft_wrap=True)
    for stranger in client.ask("GET", "/api/v1/gateways/strangers"):
        adopt_as = f"{stranger['dialect']} {stranger['registration']}".strip()
        said = stranger["turned_away"] or adopt_as or stranger["sample"]
        told = f"{stranger['address']}  {said}  ×{stranger['calls']}"
        out.print(say("陌生设备 ", "stranger ") + told, style="yellow", soft_wrap=True)
    for session in client.ask("GET", "/api/v1/gateways/sessions"):
        if session["unrecognised"]:
            told = f"{session['gateway']}  {session['unrecognised_sample']}"
            out.print(
                say("无法识别的报文 ", "not understood ") + f"{told}  ×{session['unrecognised']}",
                style="yellow",
                soft_wrap=True,
            )


def lines_table(rows: list[dict[str, Any]]) -> Table:
    """Lines as the technician reads them; why one is down stands below the table."""
    table = Table(box=None, pad_edge=False)
    for chinese, english in (
        ("线路", "line"),
        ("类型", "kind"),
        ("状态", "state"),
        ("电表", "meters"),
        ("应答", "answers"),
        ("无应答", "silent"),
        ("损坏", "garbled"),
        ("P50 ms", "p50 ms"),
        ("P95 ms", "p95 ms"),
    ):
        left = english in ("line", "kind", "state")
        table.add_column(say(chinese, english), justify="left" if left else "right", no_wrap=True)
    for row in rows:
        up = row["state"] == "up"
        table.add_row(
            row["line"],
            row["kind"],
            f"[green]{say('通', 'up')}[/]" if up else f"[red]{say('不通', 'down')}[/]",
            *(str(row[key]) for key in ("meters", "answers", "silences", "garbled")),
            *("–" if row[key] is None else f"{row[key]:.0f}" for key in ("p50_ms", "p95_ms")),
        )
    return table


def read(settings: Settings, meter: str, *, as_json: bool) -> None:
    """`headend read METER`"""
    row = Client(settings).ask("POST", f"/api/v1/meters/{meter}/read")
    if as_json:
        print_json(row)
        return
    out.print(
        f"[bold]{row['meter']}[/]  {row['title']}  {row['line']}/{row['unit']}", soft_wrap=True
    )
    out.print(row["at"], style="dim")
    out.print(values_table(row["values"]))
    if row["clock_drift_s"] is not None:
        out.print(
            say(f"时钟偏差 {row['clock_drift_s']} 秒", f"clock drift {row['clock_drift_s']} s")
        )


def values_table(values: dict[str, int]) -> Table:
    """Quantities with their units, money in yuan and energy in kWh."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in values.items():
        table.add_row(*shown(name, value))
    return table


# The unit is the last part of a quantity's name: how a person reads it.
_SHOWN: dict[str, Callable[[int], str]] = {
    "wh": lambda value: f"{kwh(value)} kWh",
    "fen": lambda value: f"{yuan(value)} yuan",
    "dv": lambda value: f"{value // 10}.{value % 10} V",
    "ma": lambda value: f"{value} mA",
    "w": lambda value: f"{value} W",
    "var": lambda value: f"{value} var",
    "permille": lambda value: f"{value} ‰",
    "chz": lambda value: f"{value // 100}.{value % 100:02d} Hz",
    "bits": lambda value: f"{value:#04x}",
}


def shown(name: str, value: int) -> tuple[str, str]:
    """A stored quantity as a person reads it."""
    if name == Quantity.CLOCK.value:
        return "meter_clock", str(meter_dial(value))
    quantity, _, unit = name.rpartition("_")
    if unit in _SHOWN:
        return quantity, _SHOWN[unit](value)
    return name, str(value)


def trace(settings: Settings, line: str, *, follow: bool, as_json: bool) -> None:
    """`headend trace LINE`"""
    path = f"/api/v1/lines/{line}/trace"
    for row in Client(settings).rows("GET", path, follow=str(follow).lower()):
        if as_json:
            print_json(row)
        elif "lost" in row:
            err.print(say(f"… 漏看 {row['lost']} 帧", f"… {row['lost']} frames not shown"))
        else:
            arrow = "→" if row["direction"] == "sent" else "←"
            out.print(f"{row['at'][11:23]} {arrow} {row['hex']}", markup=False, soft_wrap=True)
            out.print(f"               {row['meaning']}", style="dim", markup=False)


def scan(settings: Settings, line: str, first: int, last: int, *, as_json: bool) -> None:
    """`headend scan LINE`"""
    if first > last:
        raise Problem("bad-request", detail=f"--first {first} is after --last {last}")
    found = 0
    from headend.services.wire import scan_wire

    rows = (
        _followed(scan_wire(line, range(first, last + 1)))
        if "://" in line
        else Client(settings).rows("POST", f"/api/v1/lines/{line}/scan", first=first, last=last)
    )
    for row in rows:
        found += bool(row["found"])
        if as_json:
            print_json(row)
        elif row.get("stopped"):
            raise Problem("line-down", line=line, detail=row["detail"])
        else:
            _print_scanned(row, last)
    if not as_json:
        out.print(say(f"找到 {found} 块表。", f"{found} meters found."))
    if not found:
        raise Problem("no-answer", unit=f"{first}–{last}", detail="check wiring, baud and parity")


def _print_scanned(row: dict[str, Any], last: int) -> None:
    if row["found"]:
        told = (row.get("title", "?"), row.get("meter_number") or "", row["detail"])
        text = "  ".join(part for part in told if part)
        out.print(f"{row['unit']:>4}  {text}", markup=False, soft_wrap=True)
        if "fragment" in row:
            out.print(say("电柜地址表，可粘贴到档案文件：", "A cabinet, for the site file:"))
            out.print(row["fragment"], markup=False, soft_wrap=True, end="")
    elif err.is_terminal:
        err.print(f"{row['unit']:>4} / {last}", end="\r")


def scan_dlt645(settings: Settings, line: str, *, as_json: bool) -> None:
    """`headend scan LINE --dlt645`"""
    from headend.services.wire import scan_dlt645_wire

    path = f"/api/v1/lines/{line}/scan"
    found = 0
    for row in (
        _followed(scan_dlt645_wire(line))
        if "://" in line
        else Client(settings).rows("POST", path, protocol="dlt645")
    ):
        found += bool(row["found"])
        if as_json:
            print_json(row)
        elif row.get("stopped"):
            raise Problem("line-down", line=line, detail=row["detail"])
        elif row["found"] or row["detail"]:
            told = (row["address"], row.get("title", ""), row["detail"])
            out.print("  ".join(part for part in told if part), markup=False, soft_wrap=True)
            out.print(row.get("fragment", ""), markup=False, soft_wrap=True, end="")
        elif err.is_terminal:
            err.print(f"{row['asked']:>4}  {row['address']}", end="\r")
    if not as_json:
        out.print(say(f"找到 {found} 块表。", f"{found} meters found."))
    if not found:
        raise Problem("no-answer", unit="DL/T 645", detail="check wiring, baud and parity (8E1)")


def _followed(rows: AsyncIterator[dict[str, object]]) -> Iterator[dict[str, Any]]:
    logging.getLogger("gateways").setLevel(logging.ERROR)  # the sentences here say it better

    async def following() -> dict[str, Any] | None:
        return await anext(rows, None)

    with asyncio.Runner() as runner:
        while (row := runner.run(following())) is not None:
            yield row


def probe(wire: str, unit: int, meter_type: str | None, *, as_json: bool) -> None:
    """`headend probe WIRE UNIT`"""
    from headend.services.wire import probe_wire

    logging.getLogger("gateways").setLevel(logging.ERROR)
    row = asyncio.run(probe_wire(wire, unit, meter_type))
    if as_json:
        print_json(row)
        return
    out.print(f"[bold]{row['title']}[/]  {row.get('meter_number') or ''}  {row['detail']}")
    out.print(values_table(row["values"]))
