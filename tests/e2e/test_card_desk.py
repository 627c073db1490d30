"""A cashier's machine: `headend card` with a real PC/SC reader, keys and books elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from headend.domain.roles import Role
from simulators import card_meter
from simulators.card_slot import CardSlot
from tests.e2e.pcsc import NEEDS_PCSC, pcscd
from tests.headend.cards.desk import Desk, desk, uid

pytestmark = NEEDS_PCSC


async def typed(at: Desk, *words: str) -> tuple[int, str, dict[str, Any]]:
    """What the command line says: exit code, errors, its JSON."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "headend", "card", *words, "--http-port", str(at.port)),
        env=os.environ | {"HEADEND_TOKEN": at.tokens[Role.CASHIER], "HEADEND_LANG": "en"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    told = json.loads(out) if out.strip().startswith(b"{") else {}
    return process.returncode, err.decode(), told


async def test_a_purchase_over_the_counter(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pcsc"
    folder.mkdir()
    with pcscd(folder) as slot:
        async with desk(dsn, tmp_path, monkeypatch) as at:
            await _sold_and_read(at, slot)


async def _sold_and_read(at: Desk, slot: CardSlot) -> None:
    card = uid(1)
    code, told, _ = await typed(at, "do", "read", "M1")
    assert code != 0, "no card lies there"
    slot.insert(card)
    await asyncio.sleep(1.0)  # the reader looks for cards every 400 ms
    code, told, done = await typed(at, "do", "purchase", "M1", "50", "--new-card", "--json")
    assert code == 0, told
    assert done["state"] == "issued"
    slot.pull()
    at.slot.serial = bytes.fromhex(done["serial"])
    assert at.slot.hold(card) == card_meter.DONE
    slot.insert(card)
    await asyncio.sleep(1.0)
    code, told, done = await typed(at, "do", "read", "M1", "--json")
    assert code == 0, told
    assert done["landed_fen"] == 5000
    assert await at.books() == (5000, 0)
    code, told, _ = await typed(at, "do", "purchase", "M1", "--json")
    assert code == 3, "no amount was said"
    assert "amount-out-of-range" in told
