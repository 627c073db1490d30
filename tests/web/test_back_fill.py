"""The back-fill button: begun from the collection board, the page says what is going on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headend.cli import back_fill as cli
from headend.domain.nights import GapReason
from headend.domain.problems import Problem
from headend.domain.roles import Role
from headend.settings import Settings
from headend.store import nights
from tests.headend.house import QUICK
from tests.web.shop import Shop, open_shop


async def a_night_in_the_dark(shop: Shop) -> str:
    """A night whose line was down; plugged back in the morning."""
    wire, service = shop.served.wire, shop.services.nights
    await wire.unplug()
    async with asyncio.timeout(30):
        while shop.services.lines.lines["L1"].line.is_up:
            await asyncio.sleep(0.02)
    await service.collect_now("court", QUICK)
    await service.finished("court")
    async with shop.services.database.transaction() as tx:
        (row,) = await nights.completeness(tx, site="court", count=1)
    assert row.gaps == {GapReason.LINE_DOWN: 3}
    await wire.plug()
    assert await shop.services.lines.lines["L1"].wait_up(30)
    return str(row.night)


async def test_the_button_fills_the_night_and_the_page_says_so(dsn: str, tmp_path: Path) -> None:
    async with open_shop(dsn, tmp_path) as shop:
        night = await a_night_in_the_dark(shop)
        here = f"/nights/court/{night}"
        manager = await shop.browser(Role.MANAGER)
        board = (await manager.get("/nights?site=court")).text
        assert f'action="{here}/back-fill"' in board
        assert board.count("Back-fill now") == 1
        auditor = await shop.browser(Role.AUDITOR)
        for page in ("/nights?site=court", here):
            assert "Back-fill now" not in (await auditor.get(page)).text
        # One meter first, then the whole night, pressed twice.
        pressed = await manager.post(f"{here}/back-fill", meter="M2")
        assert (pressed.status_code, pressed.headers["location"]) == (303, here)
        await over(shop, night)
        assert (await states(shop, night))["M1"] == "line_down"
        shown = (await manager.get(here)).text
        assert "1 of 1 filled" in shown
        first, second = await asyncio.gather(*(manager.post(f"{here}/back-fill") for _ in range(2)))
        assert (first.status_code, second.status_code) == (303, 303)
        assert "Being back-filled since" in (await manager.get(here)).text
        # The live piece ends by itself once it is through.
        live = (await manager.get(f"{here}/live")).text
        assert "event: end" in live
        assert "1 of 2 filled" in live
        assert "1 gave no answer" in live
        assert await states(shop, night) == {"M1": "read", "M2": "read", "M4": "meter_silent"}
        async with shop.services.database.transaction() as tx:
            extra = await tx.value("SELECT count(*) FROM reading WHERE meter_id = 1")
        assert extra == 2, "the first look of the shop, and one of the two presses"
        chinese = await shop.browser(Role.MANAGER, "zh")
        assert "立即补抄" in (await chinese.get(here)).text
        for path, meter in (
            (f"{here}/back-fill", "M99"),
            ("/nights/court/2001-01-01/back-fill", ""),
        ):
            assert (await manager.post(path, meter=meter)).status_code == 404
        assert (await manager.post("/nights/nowhere/2001-01-01/back-fill")).status_code == 404


async def over(shop: Shop, night: str) -> None:
    async with asyncio.timeout(30):
        while (await asked(shop, night))["ended_at"] is None:
            await asyncio.sleep(0.02)


async def asked(shop: Shop, night: str) -> Any:
    return await shop.served.get(f"/api/v1/nights/court/{night}/back-fill")


async def states(shop: Shop, night: str) -> dict[str, str]:
    await shop.services.sink.flush()
    cells = await shop.served.get(f"/api/v1/nights/court/{night}")
    return {cell["meter"]: cell["reason"] or cell["state"] for cell in cells}


async def test_the_api_and_the_command_line_begin_the_same(
    dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADEND_LANG", "en")
    async with open_shop(dsn, tmp_path) as shop:
        night = await a_night_in_the_dark(shop)
        assert await asked(shop, night) is None
        path, key = f"/api/v1/nights/court/{night}/back-fill", shop.served.key
        begun = await shop.served.http.post(path, headers=key, json={"meter": "M1"})
        assert begun.status_code == 202, begun.text
        assert [one["meter"] for one in begun.json()["meters"]] == ["M1"]
        await over(shop, night)
        (cell,) = (await asked(shop, night))["meters"]
        assert (cell["state"], cell["origin"]) == ("filled", "polled")
        for body, code in (({"meter": "M99"}, "no-such-meter"), ({"metre": "M1"}, "bad-request")):
            answer = await shop.served.http.post(path, headers=key, json=body)
            assert answer.json()["code"] == code
        nowhen = await shop.served.http.post(
            "/api/v1/nights/court/2001-01-01/back-fill", headers=key, json={}
        )
        assert nowhen.json()["code"] == "no-such-night"

        settings = Settings(data_folder=tmp_path, http_port=shop.served.head_end.http_port)
        await asyncio.to_thread(cli.back_fill, settings, "court", night, as_json=False)
        told = capsys.readouterr().out
        assert "M2  filled (polled)" in told
        assert "M4  meter_silent" in told
        assert "2 gaps, 1 filled." in told
        with pytest.raises(Problem, match="--night"):
            cli.back_fill(settings, "court", None, as_json=False)
