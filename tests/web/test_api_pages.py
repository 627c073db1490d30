"""Lists come in pages: each says where the next one is, none is unbounded, none loses a row."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headend.cli.client import Client
from headend.domain.problems import Problem
from headend.domain.roles import Role
from headend.settings import Settings
from headend.store import outbox
from tests.web.test_api_accounts import Program, opened, program

# These have no second page: each says in its description how many rows there are at most.
SHORT = {
    "/api/v1/work-orders/to-do": "500 at most",
    "/api/v1/terminals/recharges/{meter}": "last twenty",
}
# Lists whose rows the test below makes, or that are there: at least two each.
LISTS = (
    ("/meters", Role.MANAGER),
    ("/meters/M1/readings", Role.MANAGER),
    ("/customers", Role.MANAGER),
    ("/cases?ended=true", Role.MANAGER),
    ("/commands", Role.MANAGER),
    ("/ledger", Role.MANAGER),
    ("/protections", Role.MANAGER),
    ("/lock-outs", Role.MANAGER),
    ("/shifts", Role.CASHIER),
    ("/operators", Role.ADMIN),
    ("/audit", Role.AUDITOR),
    ("/tariffs", Role.MANAGER),
    ("/webhooks", Role.MANAGER),
    ("/bulk", Role.MANAGER),
    ("/meters/M1/links", Role.MANAGER),
    ("/report-schedules", Role.MANAGER),
    ("/report-files", Role.MANAGER),
    ("/events", Role.MANAGER),
    ("/work-orders", Role.MANAGER),
)


async def _walked(it: Program, path: str, role: Role, limit: int) -> list[Any]:
    """Every row, page by page."""
    rows: list[Any] = []
    where: str | None = path + ("&" if "?" in path else "?") + f"limit={limit}"
    while where is not None:
        answer = await it.call("GET", where, role)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page) <= limit
        rows += page
        assert len(rows) < 5000, f"{path}: pages without an end"
        following = answer.links.get("next")
        assert following is None or page, f"{path}: an empty page has no next one"
        where = None if following is None else following["url"].removeprefix("/api/v1")
    return rows


# What tells rows apart; the rest of a row may change while the list is walked.
NAMES = (
    "entry_no", "command_id", "case_id", "shift_id", "operator_id", "run_id", "schedule_id",
    "position", "link_id", "work_order_id", "webhook_id", "tariff_id", "protection_id",
    "lock_out_id", "bulk_id", "customer_no", "at", "meter",
)  # fmt: skip


def _who(rows: list[Any]) -> list[Any]:
    return [next(row[name] for name in NAMES if row.get(name) is not None) for row in rows]


async def _two_of_each(it: Program) -> None:
    for _ in range(2):
        await it.told("POST", "/bulk", action="cut", meters=["M1"], reason="r", cut_below_fen=None)
    for meter in ("M1", "M2"):
        order = await it.told("POST", "/restores", meter=meter, reason="r")
        async with asyncio.timeout(30):
            path = f"/commands/{order['command_id']}"
            while (await it.told("GET", path))["state"] != "confirmed":
                await asyncio.sleep(0.05)
    for meter, name in (("M1", "Li Hua"), ("M2", "Wang Fang")):
        await opened(it, meter, name)
        await it.told("POST", "/payments", Role.CASHIER, meter=meter, amount_fen=100)
        end = "2031-01-01T00:00:00+08:00"
        if meter == "M1":
            end = "2030-01-01T00:00:00+08:00"
        await it.told("POST", "/protections", meter=meter, reason="r", expires_at=end)
        await it.told("POST", "/lock-outs", meter=meter, reason="r")
        await it.told("POST", "/tariffs", name=f"for {name}")
        await it.told("POST", "/meters/M1/links", days=3)
        await it.told("POST", "/work-orders", title="look", meter=meter)
        wish = {"kind": "turnover", "by": "day", "format": "csv"}
        await it.told("POST", "/report-files", **wish, first="2026-01-01", last="2026-01-02")
        await it.told("POST", "/report-schedules", **wish, name=name, cadence="daily",
                      at_time="07:00")  # fmt: skip
        shift = await it.told("POST", "/shifts", Role.CASHIER, float_fen=0)
        await it.told("POST", f"/shifts/{shift['shift_id']}/close", Role.CASHIER, counted_fen=0)
        await it.told("POST", "/meters/M1/read")


async def test_page_by_page_is_the_whole_list(dsn: str, tmp_path: Path) -> None:
    async with program(dsn, tmp_path) as it:
        await _two_of_each(it)
        by = it.shop.numbers[Role.MANAGER]
        async with it.shop.services.database.transaction() as tx:
            for name in ("one", "two"):
                at = it.shop.services.clock.now()
                await outbox.add_webhook(
                    tx, name=name, url="http://127.0.0.1:1/", kinds=[], by=by, at=at
                )
        for path, role in LISTS:
            whole = await _walked(it, path, role, 500)
            assert len(whole) >= 2, f"{path}: make more of them"
            assert _who(await _walked(it, path, role, 1)) == _who(whole), path
            assert _who(await _walked(it, path, role, 2)) == _who(whole), path


async def test_a_cursor_of_something_else_is_refused(dsn: str, tmp_path: Path) -> None:
    async with program(dsn, tmp_path) as it:
        for path, role in (
            ("/commands?after=7", Role.MANAGER),
            ("/commands?after=2026-01-01T00:00:00~x", Role.MANAGER),
            ("/shifts?after=x~y", Role.CASHIER),
            ("/audit?after=2026~1", Role.AUDITOR),
            ("/meters/M1/readings?after=M1", Role.MANAGER),
            ("/meters/M1/charges?after=-", Role.MANAGER),
            ("/ledger?after=M", Role.MANAGER),
            ("/customers?limit=0", Role.MANAGER),
            ("/customers?limit=501", Role.MANAGER),
        ):
            answer = await it.call("GET", path, role)
            assert (answer.status_code, answer.json()["code"]) == (422, "bad-request"), path


async def test_no_list_is_unbounded(dsn: str, tmp_path: Path) -> None:
    """The law: an answer that is a list takes `after` and a `limit` with an end."""
    async with program(dsn, tmp_path) as it:
        spec = await it.shop.served.get("/openapi.json")
        seen = 0
        for path, methods in spec["paths"].items():
            operation = methods.get("get", {})
            answer = operation.get("responses", {}).get("200", {}).get("content", {})
            if answer.get("application/json", {}).get("schema", {}).get("type") != "array":
                continue
            seen += 1
            asked = {one["name"]: one["schema"] for one in operation.get("parameters", ())}
            if path in SHORT:
                text = operation["summary"] + operation["description"]
                assert SHORT[path] in text, path
                continue
            assert "after" in asked, path
            assert "limit" in asked, path
            assert 0 < asked["limit"]["default"] <= asked["limit"]["maximum"] <= 10_000, path
        assert seen > 35


async def test_the_cli_reads_all_pages(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with program(dsn, tmp_path) as it:
        async with it.shop.services.database.transaction() as tx:
            await tx.execute(
                """
                INSERT INTO cashier_shift (shift_id, operator_id, opened_at, closed_at, float_fen,
                    counted_fen, till_opened_fen, till_closed_fen)
                SELECT gen_random_uuid(), %s, now() - interval '1 day', now(), n, n, 0, 0
                FROM generate_series(1, 70) AS n""",
                it.shop.numbers[Role.CASHIER],
            )
        port = int(it.shop.url.rpartition(":")[2])
        monkeypatch.setenv("HEADEND_TOKEN", it.tokens[Role.CASHIER])
        client = Client(Settings(data_folder=tmp_path, http_host="127.0.0.1", http_port=port))

        def floats(**asked: object) -> list[int]:
            return [row["float_fen"] for row in client.ask("GET", "/api/v1/shifts", **asked)]

        assert len(await asyncio.to_thread(floats, limit=30)) == 30
        assert sorted(await asyncio.to_thread(floats)) == list(range(1, 71))
        with pytest.raises(Problem):
            await asyncio.to_thread(floats, after="nothing")
