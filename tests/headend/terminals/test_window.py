"""The terminal with a keyboard, typed at by a test, against a whole head-end."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from simulators.terminal_window import Window, purchase_on
from tests.headend.cards.counter import NUMBER
from tests.headend.terminals.whole import SECRET, Whole, whole


@pytest_asyncio.fixture
async def at(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Whole]:
    async with whole(dsn, tmp_path, monkeypatch) as opened:
        yield opened


async def test_somebody_plays_the_tenant(at: Whole, tmp_path: Path) -> None:
    said: list[str] = []
    window = Window(at.terminal, tmp_path / "cards", said.append)

    async def typed(line: str) -> str:
        del said[:]
        assert await window.typed(line)
        return "\n".join(said)

    assert "tap NAME" in await typed("help")
    assert "there is no card anna" in await typed("tap anna")
    assert await typed("new anna") == ""
    assert "already" in await typed("new anna")
    assert "letters and digits" in await typed("new ../anna")
    assert "typed otherwise" in await typed("tap")
    assert "there is no fly" in await typed("fly")
    assert "empty" in await typed("cards")
    assert "柜台询问" in await typed("tap anna"), "a blank card is nobody's"

    card = window._card("anna")
    await at.card(5000, card)
    window._keep("anna", card)
    assert purchase_on(card)[::2] == (NUMBER, 5000)
    assert "50.00 元" in await typed("cards")
    before = at.bus.units[1].meter.total_purchased_fen
    assert "in_meter" in await typed("tap anna")
    assert at.bus.units[1].meter.total_purchased_fen - before == 5000
    assert "nothing" in await typed("tap anna")
    assert "50.00 元" in await typed("list anna")
    assert NUMBER in await typed("meter")
    assert "50 or 50.50" in await typed("buy anna much")
    assert "not" in await typed("buy anna 10"), "no balance waits"

    await at.card(2000, card)
    window._keep("anna", card)
    assert "pulled" in await typed("away")
    assert "no cap" in await typed("tap anna")
    assert "no connection" in await typed("buy anna 10")
    assert "on-line" in await typed("back")
    assert "in_meter" in await typed("tap anna")
    assert not await window.typed("quit")


async def started(folder: Path, *where: str) -> Process:
    """`python -m simulators terminal`, with a keyboard of the test's."""
    (folder / "secret").write_bytes(SECRET + b"\n")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulators", "terminal", "--meters", "ddsy:1-2", "--name", "T1"),
        *(*where, "--secret-file", str(folder / "secret"), "--cards", str(folder / "pocket")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_program_on_a_serial_wire_is_welcomed(at: Whole, tmp_path: Path) -> None:
    await at.terminal.unplug()
    wire = tmp_path / "ttyT1"
    child = await started(tmp_path, "--pty", str(wire))
    services = at.head_end.services
    assert services.lines.lines["L1"].line.is_up is False
    async with services.database.transaction() as tx:
        await tx.execute("UPDATE gateway SET device = %s WHERE name = 'G1'", str(wire))
    await at.head_end.reload()
    assert await services.lines.lines["L1"].wait_up(60)
    (session,) = services.lines.dial_ins.sessions()
    assert session["address"] == str(wire)
    await asyncio.wait_for(child.communicate(b"quit\n"), 60)
    assert child.returncode == 0


@pytest.mark.parametrize("where", [(), ("--dial-in", "127.0.0.1:1", "--pty", "/tmp/tty")])
async def test_a_terminal_is_in_one_place(tmp_path: Path, where: tuple[str, ...]) -> None:
    child = await started(tmp_path, *where)
    _, told = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 2
    assert b"either --dial-in HOST:PORT or --pty PATH" in told


async def test_the_program_dials_in_and_ends_with_quit(at: Whole, tmp_path: Path) -> None:
    await at.terminal.unplug()
    child = await started(tmp_path, "--dial-in", f"127.0.0.1:{at.terminal.port}")
    assert child.stdin is not None
    line = at.head_end.services.lines.lines["L1"]
    assert await line.wait_up(60)
    child.stdin.write(b"new bob\ncards\nquit\n")
    said, _ = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 0
    assert "bob:" in said.decode()
    assert (tmp_path / "pocket" / "bob.card").exists()
