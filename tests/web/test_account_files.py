"""Accounts as a file at the desk: upload, bad rows, the word to do it; and at the terminal."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headend.cli.commands import app
from headend.domain.roles import Role
from headend.store import people
from tests.web.shop import Shop, open_shop

GOOD = "Meter,Customer number,Name,Telephone\nM1,,王芳,138\nM2,,Li,139\n".encode("gb18030")
BAD = b"Meter,Name\nM1,Li\nM7,Wu\n"


async def token(shop: Shop, role: Role) -> str:
    at = shop.services.clock.now()
    async with shop.services.database.transaction() as tx:
        owner = await people.find_operator(tx, role.value)
        assert owner is not None
        return await people.add_token(tx, owner, "files", at=at, expires_at=at + timedelta(hours=1))


async def test_upload_bad_rows_then_a_good_file_imported_once(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        wrong = await cashier.upload("/account-files", "file", b"no headings")
        assert wrong.status_code == 422
        assert 'id="file-error"' in wrong.text
        sent = await cashier.upload("/account-files", "file", BAD)
        page = await cashier.get(sent.headers["location"])
        assert "There is no meter M7" in page.text
        assert "Import it" not in page.text
        refused = await cashier.post(sent.headers["location"])
        assert refused.status_code == 422
        assert "the first in row 3" in refused.text
        sent = await cashier.upload("/account-files", "file", GOOD)
        where = sent.headers["location"]
        page = await cashier.get(where)
        assert "王芳" in page.text
        assert "Import it" in page.text
        csrf = await cashier.csrf()
        clicks = await asyncio.gather(*(cashier.post(where, csrf=csrf) for _ in range(3)))
        assert {one.status_code for one in clicks} == {303}
        done = await cashier.get(where)
        assert re.findall(r'class="value">(\d+)<', done.text) == ["2", "0", "0"]
        assert "王芳" in (await cashier.get("/accounts/100001")).text
        other = await shop.browser(Role.MANAGER)
        assert (await other.get(where)).status_code == 404, "another's file"
        async with shop.services.database.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM account_file WHERE content IS NULL") == 1
        audit = await (await shop.browser(Role.AUDITOR)).get("/audit")
        assert "imported accounts" in audit.text
        kept = await cashier.get("/account-files/export/csv")
        assert "王芳" in kept.text
        assert "attachment" in kept.headers["content-disposition"]


async def test_the_cli_says_each_bad_row_and_imports_whole(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        monkeypatch.setenv("HEADEND_TOKEN", await token(shop, Role.CASHIER))
        monkeypatch.setenv("HEADEND_LANG", "en")
        port = str(shop.served.head_end.http_port)

        async def said(*words: str) -> tuple[int, str]:
            # Its own thread: it asks the head-end that runs in this loop.
            ran = await asyncio.to_thread(
                CliRunner().invoke, app, ["accounts", *words, "--http-port", port]
            )
            return ran.exit_code, ran.output

        good, bad, back = tmp_path / "good.csv", tmp_path / "bad.csv", tmp_path / "back.xlsx"
        good.write_bytes(GOOD)
        bad.write_bytes(BAD)
        code, text = await said("import", str(bad))
        assert code == 3
        assert "There is no meter M7" in text
        code, text = await said("import", str(good), "--dry-run")
        assert (code, "opens 2 accounts" in text) == (0, True), text
        assert (await said("import", str(good)))[1].startswith("Imported: 2 accounts opened")
        code, text = await said("export", str(back))
        assert code == 0, text
        assert "2 rows were so already" in (await said("import", str(back)))[1]
        monkeypatch.setenv("HEADEND_TOKEN", await token(shop, Role.AUDITOR))
        assert (await said("import", str(good)))[0] == 11, "who may not open accounts"
