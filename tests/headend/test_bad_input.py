"""Whatever is sent in by mistake or malice: a clear refusal, nothing booked, nothing sent."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from headend.domain.roles import Role
from headend.store import people
from tests.headend.test_api_money import Counter, counter

NUL, FAR = "a\x00b", "9999-12-31T23:59:59Z"
CASH = {"meter": "M1", "amount_fen": 100, "reason": "x"}
NOBODY = str(uuid4())
# (role, path, body) and what is answered.
WRONG: list[tuple[Role, str, dict[str, Any], int, str]] = [
    *(
        (Role.CASHIER, path, CASH | {"amount_fen": fen}, 422, code)
        for path in ("/topups", "/payments", "/refunds")
        for fen, code in (
            (0, "amount-out-of-range"),
            (-5, "amount-out-of-range"),
            (5_000_001, "amount-out-of-range"),
            (10**30, "amount-out-of-range"),
            (1.5, "bad-request"),
            (True, "bad-request"),
            ("1", "bad-request"),
        )
    ),
    *(
        (Role.CASHIER, path, CASH | {"reason": reason}, 422, "bad-request")
        for path in ("/topups", "/payments", "/refunds")
        for reason in (NUL, "x" * 2_001)
    ),
    (Role.MANAGER, "/cuts", {"meter": "M1", "reason": NUL}, 422, "bad-request"),
    (Role.MANAGER, "/cuts", {"meter": "M1", "reason": ""}, 422, "bad-request"),
    (Role.MANAGER, "/restores", {"meter": "M9", "reason": "x"}, 404, "no-such-meter"),
    (Role.CASHIER, "/refunds", CASH, 409, "balance-too-low"),
    (Role.MANAGER, "/moves", CASH | {"to_meter": "M1"}, 409, "wrong-accounts"),
    (Role.MANAGER, "/moves", CASH | {"to_meter": "M9"}, 404, "no-such-meter"),
    (Role.MANAGER, "/meters/M1/burn", {"reason": "x"}, 409, "not-now"),
    (Role.MANAGER, "/meters/M1/accept", {"reason": "x"}, 404, "no-such-account"),
    (Role.MANAGER, f"/commands/{NOBODY}/cancel", {"reason": "x"}, 404, "no-such-command"),
    (Role.MANAGER, "/bulk", {"action": "cut", "reason": "x"}, 422, "bad-request"),
    (
        Role.MANAGER,
        "/bulk",
        {"action": "cut", "meters": ["M1"], "reason": "x", "cut_below_fen": 10**30},
        422,
        "bad-request",
    ),
    (Role.MANAGER, "/bulk", {"action": "cut", "meters": [], "reason": "x"}, 409, "nothing-to-do"),
    (Role.MANAGER, f"/bulk/{NOBODY}/start", {}, 404, "no-such-job"),
    (
        Role.MANAGER,
        "/protections",
        {"meter": "M1", "reason": "x", "expires_at": FAR},
        422,
        "bad-request",
    ),
    (Role.MANAGER, f"/protections/{10**30}/lift", {"reason": "x"}, 404, "no-such-number"),
]
CALENDARS: list[dict[str, Any]] = [
    {"friendly_hours": [{"begins": "08:00", "ends": "08:00"}]},
    {"friendly_hours": [{"begins": "08:00", "ends": "09:00", "weekdays": [9]}]},
    {"friendly_hours": [], "holidays": {"2026-10-01": NUL}},
]
BODIES = [b"{not json", b"\xff\xfe", b"[" * 20_000, b'{"meter":"M1","reason":"\\ud800"}', b""]


async def test_wrong_wishes_are_refused_clearly(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path) as shop:
        heard = shop.desk.wire.line.bus.units[1].meter.applied[:]
        for role, path, body, status, code in WRONG:
            answer = await shop.call("POST", path, role, **body)
            assert (answer.status_code, answer.json()["code"]) == (status, code), (path, body)
            assert answer.json()["title_zh"] != answer.json()["title_en"]
            if code == "amount-out-of-range":
                said = answer.json()["title_zh"]
                assert said.startswith("该金额不能出售：应为 0.01 至 50000.00 元，"), said
        for calendar in CALENDARS:
            answer = await shop.call("PUT", "/sites/court/calendar", **calendar)
            assert (answer.status_code, answer.json()["code"]) == (422, "bad-request"), calendar
        headers = {
            "authorization": f"Bearer {shop.tokens[Role.MANAGER]}",
            "content-type": "application/json",
        }
        for body_bytes in BODIES:
            key = {"idempotency-key": str(uuid4())}
            answer = await shop.desk.http.post(
                "/api/v1/cuts", content=body_bytes, headers=headers | key
            )
            assert answer.status_code in (400, 422), body_bytes[:20]
            assert answer.json()["code"] == "bad-request"
        assert await shop.booked() == 0
        assert (await shop.call("GET", "/commands")).json() == []
        assert shop.meter(1).applied == heard
        assert shop.meter(1).look().relay_closed


async def _fifty(shop: Counter, path: str, role: Role, **body: Any) -> set[int]:
    key = uuid4()
    answers = await asyncio.gather(
        *(shop.call("POST", path, role, key=key, **body) for _ in range(50))
    )
    return {answer.status_code for answer in answers}


async def test_fifty_equal_wishes_at_once_are_one(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path) as shop:
        wish: dict[str, Any] = {"action": "cut", "meters": ["M1", "M2"], "reason": "x"}
        wish["cut_below_fen"] = None
        assert await _fifty(shop, "/bulk", Role.MANAGER, **wish) == {201}
        assert await _fifty(shop, "/payments", Role.CASHIER, **CASH) == {201}
        assert await _fifty(shop, "/refunds", Role.CASHIER, **CASH) == {201}
        assert await _fifty(shop, "/cuts", Role.MANAGER, meter="M1", reason="x") == {200, 202}
        assert await shop.booked() == 2
        async with shop.desk.head_end.services.database.transaction() as tx:
            assert await tx.value("SELECT count(*) FROM bulk_job") == 1
            assert await tx.value("SELECT count(*) FROM command") == 1


async def test_an_approval_is_of_the_list_as_it_is(dsn: str, tmp_path: Path) -> None:
    """Somebody asked for time, so one meter came off: the hash of before approves nothing."""
    async with counter(dsn, tmp_path) as shop:
        wish: dict[str, Any] = {"action": "cut", "meters": ["M1", "M2"], "reason": "x"}
        wish["cut_below_fen"] = None
        job = (await shop.call("POST", "/bulk", **wish)).json()
        services = shop.desk.head_end.services
        at = services.clock.now()
        async with services.database.transaction() as tx:
            wu = await people.add_operator(tx, "wu", Role.MANAGER, at=at)
            assert wu is not None
            shop.tokens[Role.MANAGER] = await people.add_token(
                tx, wu, "t", at=at, expires_at=at + timedelta(days=1)
            )
            await tx.execute("UPDATE bulk_job SET sha256 = %s", "0" * 64)
        path = f"/bulk/{job['bulk_id']}/approve"
        for sha256 in (job["sha256"], "0" * 64):
            answer = await shop.call("POST", path, sha256=sha256)
            assert (answer.status_code, answer.json()["code"]) == (409, "list-changed")
