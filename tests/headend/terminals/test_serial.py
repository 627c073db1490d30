"""The same terminal on a serial port: a pseudo-terminal, the real port code, the same protocol."""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from headend.domain.purchases import SaleState
from headend.store.database import Database
from tests.headend.terminals.stand import Stand, stand


@pytest_asyncio.fixture
async def at(database: Database, tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(database, tmp_path, tmp_path / "ttyTERMINAL") as opened:
        await opened.shop.open_sender()
        yield opened


async def test_a_tap_over_the_serial_link_credits_the_meter_and_writes_back(at: Stand) -> None:
    card, issue = await at.card()
    at.terminal.tap(card)
    await at.until(lambda: at.terminal.is_at_rest)
    assert at.terminal.verdict == "in_meter"
    assert at.shop.credited() == [5000]
    assert card.written_back == {"purchase_count": issue.purchase_count, "amount_fen": 5000}
    assert (await at.counter.sale(issue)).state is SaleState.LANDED
    (session,) = at.shop.house.book.dial_ins.sessions()
    assert session["address"].endswith("ttyTERMINAL")


async def test_unplugged_in_a_tap_it_comes_back_and_credits_once(at: Stand) -> None:
    card, _ = await at.card()
    at.terminal.tap(card)
    at.terminal.drop()
    await at.until(lambda: not at.terminal.book.taps)
    assert at.shop.credited() == [5000]
    assert len(at.shop.bus.writes()) == 1
    await at.alone()
    line = at.shop.house.book.lines["L1"]
    await at.until(lambda: not line.line.is_up)
    await at.back()
    await at.until(lambda: at.terminal.is_online)
    at.terminal.tap(card)
    await at.until(lambda: at.terminal.is_at_rest)
    assert at.terminal.verdict == "nothing"


async def test_a_session_that_ended_here_is_begun_anew_from_there(at: Stand) -> None:
    """The wire is whole, so nobody tells the terminal: it hears that nobody answers."""
    dial_in = at.shop.house.book.dial_ins._dial_in
    assert dial_in is not None
    before = at.terminal.counts["sessions"]
    dial_in._by_name["G1"].hang_up("the head-end began anew")
    await at.until(lambda: at.terminal.counts["sessions"] > before and at.terminal.is_online)
    card, _ = await at.card()
    at.terminal.tap(card)
    await at.until(lambda: at.terminal.is_at_rest)
    assert at.terminal.verdict == "in_meter"


async def test_a_thousand_sockets_before_it_do_not_deafen_it(
    database: Database, tmp_path: Path
) -> None:
    """A descriptor above 1023 is one that select() cannot hold."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        async with stand(database, tmp_path, tmp_path / "ttyTERMINAL") as at:
            await at.shop.open_sender()
            card, _ = await at.card()
            at.terminal.tap(card)
            await at.until(lambda: at.terminal.is_at_rest)
            assert at.shop.credited() == [5000]
    finally:
        for fd in many:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_the_port_is_ours_alone(at: Stand, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "ttyTERMINAL", os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        os.close(fd)
    raise AssertionError("somebody else may have the port")
