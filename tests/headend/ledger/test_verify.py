"""`headend verify-ledger` and `export-ledger` as functions: what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from pathlib import Path

import pytest

from headend.cli import verify
from headend.domain.problems import Problem
from headend.services import seals
from headend.settings import Settings
from headend.store.database import Database
from tests.headend.house import TestClock
from tests.headend.ledger.shop import as_attacker, open_shop


@pytest.fixture
def sold(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a database with one sealed sale."""
    monkeypatch.setenv("HEADEND_LANG", "en")

    async def work() -> None:
        database = Database(dsn)
        await database.open()
        shop = await open_shop(database)
        await shop.pay(5_000)
        await shop.post(await shop.reserve(5_000))
        await seals.seal_day(database, date(2026, 3, 20), TestClock())
        await database.close()

    asyncio.run(work())
    return Settings(database_url=dsn)


def test_sound_books_and_their_export(
    sold: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.verify_ledger(sold, None, None, as_json=True)
    record = json.loads(capsys.readouterr().out)
    assert record["verified"] is True
    assert (record["transfers"], record["seals"]) == (3, 1)
    file = tmp_path / "books.jsonl"
    verify.export_ledger(sold, file)
    verify.verify_ledger(sold, file, record["last_seal"], as_json=False)
    printed = capsys.readouterr().out
    assert "The books are sound: 3 transfers" in printed
    assert record["last_seal"] in printed
    with pytest.raises(Problem, match="it is there already"):
        verify.export_ledger(sold, file)


def test_broken_books_name_their_row_and_fail(
    sold: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sold.database_url
    as_attacker(sold.database_url, "UPDATE transfer SET amount_fen = 1 WHERE entry_no = 2")
    with pytest.raises(Problem, match=r"transfer 2 .* was changed") as caught:
        verify.verify_ledger(sold, None, None, as_json=True)
    assert caught.value.code == "books-broken"
    fault = json.loads(capsys.readouterr().out)["fault"]
    assert (fault["table"], fault["row"], fault["day"]) == ("transfer", "2", "2026-03-20")


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"{}\n", b"not json\n"])
def test_a_file_that_is_no_export_is_told_so(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADEND_LANG", "en")
    file = tmp_path / "books.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Problem) as caught:
        verify.verify_ledger(Settings(), file, None, as_json=False)
    assert caught.value.code in ("settings-unreadable", "bad-request")
