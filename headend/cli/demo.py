"""`headend demo`: a virtual property, one night of it now, and an honest verdict.

The property is a program of its own (simulators/town.py) that shares no code with ours. It writes a
site file for us and, for the verdict alone, the truth about each meter.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.live import Live
from rich.table import Table

from headend.app import HeadEnd, running
from headend.cli.console import err, out, print_json, say
from headend.cli.data import nights_table, print_gaps, reasons_seen
from headend.cli.demo_cards import deal_cards, key_service, show_cards
from headend.cli.demo_history import lay_history
from headend.cli.demo_money import Deals, deal
from headend.cli.demo_past import DAYS
from headend.cli.demo_people import DEMO_PEOPLE, people_of_demo
from headend.cli.demo_roads import faults_of_roads, give_access, roads_record, show_roads
from headend.cli.demo_terminal import show_terminal, tap_cards
from headend.cli.serve import run_loop, set_up_logging, told_to_stop
from headend.domain.nights import Cell, CellState, Completeness
from headend.domain.problems import Problem
from headend.domain.site_file import parse_site_file
from headend.services.importing import import_into
from headend.services.nightly import LineProgress, Pace
from headend.services.services import Services
from headend.settings import Settings
from headend.store import nights as store
from headend.store import reports
from protocols.catalog import load_meter_types

# The town opens its ports and ptys within a second; a loaded machine may need many.
TOWN_S_MAX = 60.0
DRAW_S = 0.25
# A demonstration does not wait for morning: three tries, and a dead line gets this long to rise.
PACE = Pace(retry_s_first=1.0, retry_s_max=4.0, tries_max=3, line_patience_s=15.0)
KEYS_FILE = "meter-keys"
CARD_KEYS = "card-keys"  # folder of the demonstration's key service
FILL = 24  # characters of a progress bar


def demo(
    settings: Settings,
    *,
    folder: Path | None,
    once: bool,
    as_json: bool,
    seed: int,
    history: bool = True,
) -> None:
    """Run the demonstration; raises Problem("demo-failed") when the night is not as it must be."""
    set_up_logging("WARNING")
    # What the demonstration kills on purpose is not news; the table tells it better.
    logging.getLogger("gateways").setLevel(logging.ERROR)
    fresh = folder is None
    home = Path(tempfile.mkdtemp(prefix="headend-demo-")) if folder is None else folder
    home.mkdir(parents=True, exist_ok=True)
    if fresh:
        # The embedded database may run as another user, who has to pass through.
        home.chmod(0o711)
    try:
        run_loop(_demo(settings, home, once=once, as_json=as_json, seed=seed, history=history))
    finally:
        if fresh:
            shutil.rmtree(home, ignore_errors=True)


async def _demo(
    settings: Settings, home: Path, *, once: bool, as_json: bool, seed: int, history: bool
) -> None:
    past = asyncio.Event()
    settings = _of_demo(settings, home, once=once)
    _tell(as_json, "启动数据库与虚拟物业……", "Starting the database and a virtual property …")
    async with key_service(home / CARD_KEYS), running(settings, seal_after=past) as head_end:
        port = head_end.services.lines.dial_in_port
        broker = head_end.services.mqtt.broker
        broker_port = None if broker is None or broker.trouble is not None else broker.port
        async with _town(home / "town", port, seed, home / KEYS_FILE, broker_port) as truth:
            site = await _import(head_end, home / "town" / "site.toml")
            await give_access(head_end.services, truth)
            counts = f"{len(truth['meters'])} meters on {len(truth['lines'])} lines"
            counts_zh = f"{len(truth['lines'])} 条线路上的 {len(truth['meters'])} 块表"
            _tell(as_json, f"现在抄一夜：{counts_zh}。", f"Reading one night now: {counts}.")
            seconds, progress = await _night(head_end, site, as_json=as_json)
            cells, row = await _result(head_end, site)
            if not as_json:
                _show(cells, row, seconds)
            behind = await _history(head_end, site, truth, seed, as_json=as_json) if history else {}
            past.set()
            _tell(as_json, "现在售电、停电、复电……", "Now selling, cutting and restoring …")
            deals = await deal(head_end.services, site, truth)
            _tell(as_json, "现在用卡售电……", "Now selling by card …")
            cards = await deal_cards(head_end, truth, home / CARD_KEYS)
            terminal = await tap_cards(head_end, truth, home / CARD_KEYS)
            faults = _faults(cells, truth) + deals.faults + cards.faults + terminal.faults
            faults += faults_of_roads(roads_record(cells, deals, truth), truth)
            if as_json:
                print_json(
                    _summary(cells, progress, seconds)
                    | deals.record()
                    | {"roads": roads_record(cells, deals, truth)}
                    | {"cards": cards.deals.record()}
                    | {"terminal": terminal.deals.record()}
                    | behind
                )
            else:
                show_deals(deals)
                show_roads(roads_record(cells, deals, truth))
                show_cards(cards)
                show_terminal(terminal)
            if faults:
                raise Problem("demo-failed", detail="; ".join(faults[:5]))
            _tell(
                as_json,
                "每块正常的表都已抄到，每个缺口都有真实原因；每一分钱都由电表自己的寄存器证明。",
                "Every healthy meter was read, every gap has its true reason, and every fen is "
                "proved by the meters' own registers.",
            )
            if not once:
                await _stay_up(head_end, settings, as_json=as_json)


def _of_demo(settings: Settings, home: Path, *, once: bool) -> Settings:
    """What was set, with everything of its own in this folder."""
    return dataclasses.replace(
        settings,
        data_folder=home / "data",
        database_url="",
        dial_in_host="127.0.0.1",
        dial_in_port=0,
        mqtt_url="",
        mqtt_broker_port=0,
        http_port=0 if once else settings.http_port,
        key_box=f"file:{_new_keys(home / KEYS_FILE)}",
        key_service_socket=str(home / CARD_KEYS / "keys.sock"),
    )


async def _stay_up(head_end: HeadEnd, settings: Settings, *, as_json: bool) -> None:
    url = f"http://{settings.http_host}:{settings.http_port}"
    password = await people_of_demo(head_end.services)
    names = ", ".join(name for name, _ in DEMO_PEOPLE)
    _tell(
        as_json,
        f"继续运行，请打开 {url}（用户 {names}，密码 {password}），Ctrl-C 停止。",
        f"Staying up: open {url} as {names}, password {password}; Ctrl-C stops it.",
    )
    await told_to_stop()


def _new_keys(path: Path) -> Path:
    """The key that the chips of this property's meters hold: another one each time."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32), encoding="ascii")
    return path


def _tell(as_json: bool, chinese: str, english: str) -> None:
    # With --json, standard output belongs to the program that reads it.
    (err if as_json else out).print(say(chinese, english))


@asynccontextmanager
async def _town(
    folder: Path, dial_in_port: int, seed: int, keys: Path, broker_port: int | None
) -> AsyncIterator[dict[str, Any]]:
    """The simulated property as a child process; gives its truth once it is up."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulators", "town", "--folder", str(folder)),
        *("--dial-in", f"127.0.0.1:{dial_in_port}", "--seed", str(seed)),
        *("--keys", str(keys)),
        *(() if broker_port is None else ("--mqtt", f"127.0.0.1:{broker_port}")),
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        truth = folder / "truth.json"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOWN_S_MAX):
                while not truth.exists() and child.returncode is None:
                    await asyncio.sleep(0.05)
        if not truth.exists():
            raise Problem("simulator-failed", detail=f"exit code {child.returncode}")
        yield json.loads(truth.read_text(encoding="utf-8"))
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


async def _import(head_end: HeadEnd, file: Path) -> str:
    site = parse_site_file(file.read_text(encoding="utf-8"), str(file), load_meter_types())
    await import_into(head_end.services.database, site)
    await head_end.reload()
    return site.name


async def _night(
    head_end: HeadEnd, site: str, *, as_json: bool
) -> tuple[float, list[LineProgress]]:
    """Collect tonight now, drawing each line as it goes; the seconds it took."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    night_service = head_end.services.nights
    run = await night_service.collect_now(site, PACE)
    finished = asyncio.create_task(night_service.finished(site))
    if as_json:
        await finished
    else:
        with Live(console=out, refresh_per_second=4, transient=False) as live:
            while not finished.done():
                live.update(progress_table(run.progress, loop.time()))
                await asyncio.wait([finished], timeout=DRAW_S)
            live.update(progress_table(run.progress, loop.time()))
        await finished
    return loop.time() - began_s, run.progress


def progress_table(lines: list[LineProgress], now_s: float) -> Table:
    """One bar a line: done, silent, rate."""
    table = Table(box=None, pad_edge=False)
    for chinese, english in (("线路", "line"), ("", ""), ("已抄", "done"), ("缺", "silent")):
        table.add_column(say(chinese, english))
    table.add_column(say("块/秒", "per s"), justify="right")
    table.add_column("")
    for line in lines:
        done = FILL * line.done // max(1, line.meters)
        missed = FILL * line.silent // max(1, line.meters)
        bar = f"[green]{'━' * done}[/][red]{'━' * missed}[/][dim]{'━' * (FILL - done - missed)}[/]"
        table.add_row(
            line.line,
            bar,
            f"{line.done}/{line.meters}",
            str(line.silent),
            f"{line.rate_per_s(now_s):.1f}",
            f"[red]{say('不通', 'down')}[/]" if line.down else "",
        )
    return table


async def _history(
    head_end: HeadEnd, site: str, truth: dict[str, Any], seed: int, *, as_json: bool
) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    services = head_end.services
    known = services.lines.sites[site]
    laid = await lay_history(services.database, services.clock, known, truth, seed)
    took_s = loop.time() - began_s
    _tell(
        as_json,
        f"此前的历史：{laid.days_sealed} 天已封账，{laid.sales} 笔售电，用时 {took_s:.1f} 秒。",
        f"Behind it: {laid.days_sealed} sealed days with {laid.sales} sales, in {took_s:.1f} s.",
    )
    return {"history": dataclasses.asdict(laid), "losses": await _losses(services, known.site_id)}


async def _losses(services: Services, site_id: int) -> list[int]:
    """What each master meter measured above its circuits in the month, in per mille of itself."""
    today = services.clock.now().date()
    async with services.database.transaction() as tx:
        counted = await reports.masters(tx, today - timedelta(days=DAYS), today + timedelta(days=1))
    return [
        (one.master_wh - one.circuits_wh) * 1000 // one.master_wh
        for one in counted
        if one.site_id == site_id and one.master_wh and one.circuits_wh is not None
    ]


async def _result(head_end: HeadEnd, site: str) -> tuple[list[Cell], Completeness]:
    async with head_end.services.database.transaction() as tx:
        row = (await store.completeness(tx, site=site, count=1))[0]
        cells = await store.cells(tx, site=site, night=row.night)
    assert cells is not None, "the night was just collected"
    return cells, row


def _show(cells: list[Cell], row: Completeness, seconds: float) -> None:
    rows = TypeAdapter(list[Completeness]).dump_python([row], mode="json")
    out.print()
    out.print(nights_table(rows))
    for sentence in reasons_seen(rows):
        out.print(sentence, style="dim")
    gaps = [c for c in cells if c.reason is not None]
    by_line = Counter((c.line, c.reason) for c in gaps)
    # A dead line is one fact, not one for each of its meters.
    few = [c for c in gaps if by_line[c.line, c.reason] <= 3]
    if few:
        print_gaps(TypeAdapter(list[Cell]).dump_python(few, mode="json"))
    out.print(say(f"用时 {seconds:.1f} 秒。", f"Took {seconds:.1f} s."))


def show_deals(deals: Deals) -> None:
    """What was sold and switched, in three lines."""
    record = deals.record()
    for (chinese, english), counts in zip(
        (("充值", "top-ups"), ("停电", "cuts"), ("复电", "restores")),
        (record["topups"], record["cuts"], record["restores"]),
        strict=True,
    ):
        told = ", ".join(f"{state} {n}" for state, n in counts.items())
        out.print(f"{say(chinese, english)}: {told}")
    ledger = record["ledger"]
    verified = say("账本校验", "ledger verified")
    out.print(
        f"{verified}: {ledger['verified']}, {say('差异', 'differences')} {ledger['differences']}"
    )


def _faults(cells: list[Cell], truth: dict[str, Any]) -> list[str]:
    """Where the night differs from the truth: one clause each; none means the promise held."""
    expected = {meter["name"]: meter["gap"] for meter in truth["meters"]}
    faults = [f"{name} has no cell" for name in sorted(set(expected) - {c.meter for c in cells})]
    for cell in cells:
        want = expected.get(cell.meter)
        got = None if cell.state is CellState.READ else (cell.reason and cell.reason.value)
        if got != want:
            faults.append(f"{cell.meter} is {got or 'read'} and should be {want or 'read'}")
    return faults


def _summary(cells: list[Cell], progress: list[LineProgress], seconds: float) -> dict[str, Any]:
    """The object promised by `headend demo --once --json`."""
    gaps = Counter(c.reason.value for c in cells if c.reason is not None)
    return {
        "night": {
            "meters": len(cells),
            "read": sum(c.state is CellState.READ for c in cells),
            "gaps": dict(sorted(gaps.items())),
            "seconds": round(seconds, 1),
        },
        "lines": [
            {
                "line": line.line,
                "meters": line.meters,
                "read": line.done,
                "gaps": dict(Counter(reason.value for reason in line.reasons.values())),
                "down": line.down,
                "rate_per_s": round(line.rate_per_s(line.ended_s or 0.0), 2),
            }
            for line in progress
        ],
    }
