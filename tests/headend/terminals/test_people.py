"""What people do with terminals: over the API and from the command line, each by its role."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from headend.cli.commands import app
from headend.domain.roles import Role
from simulators.cards import RfCard
from simulators.rf_terminal import RfTerminal, TerminalCard
from tests.headend.terminals.whole import Whole, whole

# The command line leaves its connection to the end of its process, which is ours here.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest_asyncio.fixture
async def at(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Whole]:
    async with whole(dsn, tmp_path, monkeypatch) as opened:
        yield opened


async def typed(
    at: Whole, *words: str, role: Role = Role.MANAGER, approver: str = ""
) -> tuple[int, str]:
    """`headend terminal …` as somebody; its exit code and everything it said."""
    env = {"HEADEND_TOKEN": at.tokens[role], "HEADEND_LANG": "en", "COLUMNS": "200"}
    env["HEADEND_APPROVER_TOKEN"] = approver
    line = ["terminal", *words, "--http-port", str(at.head_end.http_port)]
    done = await asyncio.to_thread(CliRunner().invoke, app, line, env=env)
    return done.exit_code, done.output


async def asked(at: Whole, *words: str, **more: Any) -> Any:
    code, said = await typed(at, *words, "--json", **more)
    assert code == 0, said
    return [json.loads(line) for line in said.splitlines()]


async def test_a_terminal_from_the_command_line(at: Whole) -> None:
    (row,) = await asked(at, "list", role=Role.AUDITOR)
    assert (row["terminal"], row["online"], row["cap"], row["clashes"]) == ("G1", True, None, 0)
    assert row["last_seen_at"] is not None

    card = await at.card(5000)
    assert await at.tap(card) == "in_meter"
    copied = TerminalCard(
        card.serial, card.meter_number, 1, 1, chip=RfCard(bytes.fromhex(card.serial)[:4])
    )
    assert "could not prove" in await at.tap(copied)
    (row,) = await asked(at, "list")
    assert row["false_cards"] == 1
    assert row["last_tap_at"] is not None

    (shown,) = await asked(at, "show", "G1")
    ((tap),) = shown["taps"]
    assert (tap["meter"], tap["amount_fen"], tap["state"]) == ("M1", 5000, "confirmed")
    assert tap["card"] == card.serial
    (recharge,) = await asked(at, "recharges", "M1")
    assert (recharge["amount_fen"], recharge["purchase_count"]) == (5000, card.purchase_count)

    code, said = await typed(at, "show", "nowhere")
    assert code == 9
    assert "headend terminal list" in said
    _, table = await typed(at, "list")
    assert "G1" in table
    assert "false" in table, "of the cards; a narrow screen breaks the heading"


async def test_a_cap_takes_two_persons_and_ends_in_the_terminal(at: Whole) -> None:
    wish = ("cap", "G1", "--card", "100", "--total", "200", "--reason", "a radio that is away")
    code, said = await typed(at, *wish)
    assert code != 0
    assert "second person" in said
    code, said = await typed(at, *wish, approver=at.tokens[Role.MANAGER])
    assert code != 0, "oneself is no second person"
    code, said = await typed(at, *wish, role=Role.CASHIER, approver=at.second)
    assert code == 11, said
    code, said = await typed(at, *wish, approver=at.second)
    assert code == 0, said
    assert "it has it" in said
    await at.until(lambda: at.terminal.book.cap is not None)
    (row,) = await asked(at, "list")
    assert (row["cap"]["card_fen"], row["cap"]["total_fen"]) == (10_000, 20_000)


async def test_a_clash_is_settled_from_the_command_line(at: Whole) -> None:
    await typed(
        at, "cap", "G1", "--card", "40", "--total", "40", "--reason", "r", approver=at.second
    )
    await at.until(lambda: at.terminal.book.cap is not None)
    card = await at.card(5000)
    await at.terminal.unplug()
    meter = at.bus.units[1].meter
    assert meter.purchase(5000, card.purchase_count)
    cap = at.terminal.book.cap
    assert cap is not None
    at.terminal.record(card, cap["number"], (meter.purchase_count, meter.total_purchased_fen))
    await at.terminal.plug()
    await at.until(lambda: not at.terminal.book.untold)
    (clash,) = await asked(at, "clashes")
    assert clash["code"] == "island-over-card-cap"
    code, _ = await typed(
        at, "settle", str(clash["clash"]), "--book", "--reason", "a long night", role=Role.CASHIER
    )
    assert code == 11
    code, said = await typed(
        at, "settle", str(clash["clash"]), "--book", "--reason", "a long night"
    )
    assert code == 0, said
    assert "booked" in said
    assert await asked(at, "clashes") == []
    (recharge,) = await asked(at, "recharges", "M1")
    assert recharge["amount_fen"] == 5000


async def test_a_stranger_is_adopted_and_forgotten(at: Whole, tmp_path: Path) -> None:
    secret = tmp_path / "T2.secret"
    secret.write_bytes(b"another secret!!")
    stranger = RfTerminal(
        at.bus, name="T2", secret=b"another secret!!", host="127.0.0.1",
        port=at.terminal.port, now_s=lambda: 0.0, meters={}, reconnect_s=0.05,
    )  # fmt: skip
    await stranger.plug()
    try:
        await at.until(lambda: bool(at.head_end.services.lines.strangers()))
        words = ("adopt", "T2", "--site", "court", "--secret", str(secret))
        code, _ = await typed(at, *words, role=Role.CASHIER)
        assert code == 11
        code, said = await typed(at, *words, role=Role.TECHNICIAN)
        assert code == 0, said
        assert "another secret" not in said
        await at.until(lambda: stranger.is_online)
        names = [row["terminal"] for row in await asked(at, "list")]
        assert names == ["G1", "T2"]

        code, said = await typed(at, "forget", "G1", role=Role.TECHNICIAN)
        assert code == 12, said
        assert "M1" in said
        assert at.terminal.is_online, "nothing was done"
        code, _ = await typed(at, "forget", "T2", role=Role.CASHIER)
        assert code == 11
        code, said = await typed(at, "forget", "T2", role=Role.TECHNICIAN)
        assert code == 0, said
        await at.until(lambda: not stranger.is_online)
        assert [row["terminal"] for row in await asked(at, "list")] == ["G1"]
    finally:
        await stranger.unplug()
