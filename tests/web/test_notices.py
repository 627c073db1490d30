"""One's own notices at the desk: kept for oneself, wrong ones said beside the field."""

from __future__ import annotations

import re
from pathlib import Path

from headend.domain.alarms import Severity
from headend.domain.roles import Role
from headend.store import letters
from headend.store.letters import Wish
from tests.web.shop import Browser, Shop, open_shop


async def wishes_of(shop: Shop, role: Role) -> list[Wish]:
    async with shop.services.database.transaction() as tx:
        return await letters.wishes(tx, shop.numbers[role])


async def version(browser: Browser) -> str:
    page = (await browser.get("/me/notices")).text
    found = re.search(r'name="version" value="(\d+)"', page)
    assert found is not None
    return found[1]


async def test_notices_are_kept_changed_and_never_written_over_unseen(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        cashier = await shop.browser(Role.CASHIER)
        assert 'href="/me/notices"' in (await cashier.get("/")).text
        assert 'href="/me/notices"' in (await cashier.get("/me")).text
        first = await cashier.get("/me/notices")
        assert "No mail server is set" in first.text
        assert await wishes_of(shop, Role.CASHIER) == [], "a look keeps nothing"
        seen = await version(cashier)
        kept = await cashier.post(
            "/me/notices", version=seen, email="li@court.example", language="zh",
            at_once="warning", digest="on",
        )  # fmt: skip
        assert (kept.status_code, kept.headers["location"]) == (303, "/me/notices?done=kept")
        (wish,) = await wishes_of(shop, Role.CASHIER)
        assert (wish.email, wish.language, wish.at_once, wish.digest) == (
            "li@court.example", "zh", Severity.WARNING, True,
        )  # fmt: skip
        assert await wishes_of(shop, Role.MANAGER) == [], "of nobody else"
        page = (await cashier.get("/me/notices?done=kept")).text
        assert 'value="li@court.example"' in page
        assert '<option value="warning" selected>' in page
        # The tab that was open before may not write over what it has not seen.
        stale = await cashier.post(
            "/me/notices", version=seen, email="old@court.example", language="en", at_once="never"
        )
        assert stale.status_code == 412
        assert 'value="old@court.example"' in stale.text, "what was typed is still there"
        assert (await wishes_of(shop, Role.CASHIER))[0] == wish
        await cashier.post(
            "/me/notices", version=await version(cashier), email="new@court.example",
            language="en", at_once="never",
        )  # fmt: skip
        (wish,) = await wishes_of(shop, Role.CASHIER)
        assert (wish.email, wish.at_once, wish.digest) == ("new@court.example", None, False)


async def test_wrong_ones_are_said_beside_the_field_in_both_languages(
    dsn: str, tmp_path: Path
) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        auditor = await shop.browser(Role.AUDITOR)
        for email in ("", "nobody", "a@b, c@d", "a" * 70 + "@b.example", "a@" + "b" * 260):
            wrong = await auditor.post(
                "/me/notices", version="0", email=email, language="fr", at_once="sometimes"
            )
            assert wrong.status_code == 422, email
            for field in ("email", "language", "at_once"):
                assert f'id="{field}-error"' in wrong.text, (email, field)
            assert f'value="{email}"' in wrong.text
        assert await wishes_of(shop, Role.AUDITOR) == []
        chinese = await shop.browser(Role.AUDITOR, "zh")
        page = (await chinese.get("/me/notices")).text
        assert "我的通知" in page
        assert '<option value="zh" lang="zh-CN" selected>' in page, "the language of who looks"
        wrong = await chinese.post("/me/notices", version="0", email="x", language="zh")
        assert "请填一个邮箱地址" in wrong.text
