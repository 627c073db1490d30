"""Money and switching over HTTP: tokens, roles, scopes, equal keys, the meter as the witness."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from headend.domain.friendly_hours import Calendar
from headend.domain.roles import Permission, Role
from headend.store import accounts, people, supply
from simulators.metering import Meter
from tests.headend.test_api import Served, served

P = Permission


@dataclass
class Counter:
    """A shop with an operator of each role."""

    desk: Served
    tokens: dict[Role, str]

    def meter(self, unit: int) -> Meter:
        """The simulated meter itself: the witness."""
        found: Meter = self.desk.wire.line.bus.units[unit].meter
        return found

    async def call(
        self,
        method: str,
        path: str,
        role: Role | None = Role.MANAGER,
        *,
        key: object = None,
        **body: Any,
    ) -> httpx.Response:
        headers = {} if role is None else {"authorization": f"Bearer {self.tokens[role]}"}
        headers["idempotency-key"] = str(key or uuid4())
        return await self.desk.http.request(
            method, f"/api/v1{path}", headers=headers, json=body or None
        )

    async def ended(self, command_id: str) -> dict[str, Any]:
        """The command once it has ended."""
        async with asyncio.timeout(60):
            while True:
                row: dict[str, Any] = (await self.call("GET", f"/commands/{command_id}")).json()
                if row["state"] in ("confirmed", "refused", "cancelled", "escalated"):
                    return row
                await asyncio.sleep(0.05)

    async def booked(self) -> int:
        async with self.desk.head_end.services.database.transaction() as tx:
            count: int = await tx.value("SELECT count(*) FROM transfer")
            assert await accounts.sum_of_balances_fen(tx) == 0
        return count


@asynccontextmanager
async def counter(dsn: str, folder: Path) -> AsyncIterator[Counter]:
    async with served(dsn, folder, "ddsy:1-2") as desk:
        services = desk.head_end.services
        at = services.clock.now()
        tokens = {}
        async with services.database.transaction() as tx:
            for role in Role:
                operator = await people.add_operator(tx, role.value, role, at=at)
                assert operator is not None
                tokens[role] = await people.add_token(
                    tx, operator, "test", at=at, expires_at=at + timedelta(days=1)
                )
            site = services.lines.sites["court"]
            always = Calendar(
                time_zone=site.place.time_zone, friendly_hours=(), spare_weekends=False
            )
            await supply.set_calendar(tx, site.site_id, always, by=None, at=at)
        assert await services.lines.lines["L1"].wait_up(30)
        for name in ("M1", "M2"):
            await services.nights.read_now(services.lines.find_meter(name))
        await services.sink.flush()
        yield Counter(desk, tokens)


async def test_a_sale_ends_in_the_meter_once(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path) as shop:
        key = uuid4()
        answers = await asyncio.gather(
            *(
                shop.call("POST", "/topups", Role.CASHIER, key=key, meter="M1", amount_fen=5000)
                for _ in range(50)
            )
        )
        assert {answer.status_code for answer in answers} <= {200, 202}
        assert {answer.json()["command_id"] for answer in answers} == {str(key)}
        row = await shop.ended(str(key))
        assert row["state"] == "confirmed"
        assert [one.amount_fen for one in shop.meter(1).applied] == [5000]
        stages = [event["stage"] for event in row["events"] if event["stage"]]
        assert stages == ["paid", "sent", "in_meter"]
        (one,) = row["tries"]
        assert one["after"]["purchase_count"] == one["before"]["purchase_count"] + 1
        assert one["frames"]
        assert await shop.booked() == 3, "payment, pending, post"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"meter": "M1", "amount_fen": 0}, 422, "amount-out-of-range"),
        ({"meter": "M1", "amount_fen": -5000}, 422, "amount-out-of-range"),
        ({"meter": "M1", "amount_fen": 10**12}, 422, "amount-out-of-range"),
        ({"meter": "M1", "amount_fen": 10**30}, 422, "amount-out-of-range"),
        ({"meter": "M1", "amount_fen": 50.5}, 422, "bad-request"),
        ({"meter": "M1", "amount_fen": "5000"}, 422, "bad-request"),
        ({"meter": "M1", "amount_fen": True}, 422, "bad-request"),
        ({"meter": "M1", "amount": 5000}, 422, "bad-request"),
        ({"meter": "M9", "amount_fen": 5000}, 404, "no-such-meter"),
        ({"meter": "M4", "amount_fen": 5000}, 409, "count-unknown"),
        ({"meter": "M1", "amount_fen": 5000, "from_balance": True}, 409, "not-paid"),
    ],
)
async def test_a_refused_sale_books_and_sends_nothing(
    dsn: str, tmp_path: Path, body: dict[str, Any], status: int, code: str
) -> None:
    async with counter(dsn, tmp_path) as shop:
        answer = await shop.call("POST", "/topups", Role.CASHIER, **body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert await shop.booked() == 0
        assert shop.meter(1).applied == []


async def test_a_token_that_is_not_valid_any_more(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path) as shop:
        async with shop.desk.head_end.services.database.transaction() as tx:
            tokens = {token.operator: token.token_id for token in await people.list_tokens(tx)}
            await people.revoke_token(
                tx, tokens["cashier"], shop.desk.head_end.services.clock.now()
            )
            await tx.execute(
                "UPDATE api_token SET created_at = now() - interval '2 days',"
                " expires_at = now() - interval '1 day' WHERE token_id = %s",
                tokens["manager"],
            )
        for role in (Role.CASHIER, Role.MANAGER):
            answer = await shop.call("POST", "/topups", role, meter="M1", amount_fen=5000)
            assert (answer.status_code, answer.json()["code"]) == (401, "bad-token")
        shop.tokens[Role.ADMIN] = "he_" + "x" * 43
        assert (await shop.call("GET", "/commands", Role.ADMIN)).status_code == 401
        assert await shop.booked() == 0


async def test_a_meter_of_another_site_does_not_exist(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path) as shop:
        services = shop.desk.head_end.services
        at = services.clock.now()
        async with services.database.transaction() as tx:
            other: int = await tx.value(
                "INSERT INTO site (name, time_zone, night_opens, night_closes)"
                " VALUES ('other', 'UTC', '23:00', '05:00') RETURNING site_id"
            )
            guest = await people.add_operator(tx, "guest", Role.MANAGER, at=at, sites=[other])
            assert guest is not None
            shop.tokens[Role.MANAGER] = await people.add_token(
                tx, guest, "t", at=at, expires_at=at + timedelta(days=1)
            )
        mine = await shop.call("POST", "/topups", Role.CASHIER, meter="M1", amount_fen=100)
        command_id = mine.json()["command_id"]
        for method, path, body in (
            ("POST", "/topups", {"meter": "M1", "amount_fen": 5000}),
            ("POST", "/cuts", {"meter": "M1", "reason": "x"}),
            ("GET", f"/commands/{command_id}", {}),
            ("POST", f"/commands/{command_id}/cancel", {"reason": "x"}),
            ("POST", "/bulk/preview", {"action": "cut", "site": "court", "reason": "x"}),
        ):
            answer = await shop.call(method, path, Role.MANAGER, **body)
            assert answer.status_code == 404, path
        assert (await shop.call("GET", "/commands", Role.MANAGER)).json() == []


async def test_cut_and_restore_are_proved_by_the_relay(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path) as shop:
        cut = await shop.call("POST", "/cuts", meter="M1", reason="unpaid")
        row = await shop.ended(cut.json()["command_id"])
        assert row["state"] == "confirmed"
        assert not shop.meter(1).look().relay_closed
        # No relay toggles twice in ten minutes: light waits, and says so.
        restore = await shop.call("POST", "/restores", meter="M1", reason="paid")
        assert restore.json()["state"] == "queued"
        again = await shop.call("POST", "/cuts", meter="M1", reason="unpaid")
        assert (again.status_code, again.json()["code"]) == (409, "spared")


async def test_a_bulk_cut_needs_a_second_person_who_approves_this_very_list(
    dsn: str, tmp_path: Path
) -> None:
    async with counter(dsn, tmp_path) as shop:
        wish: dict[str, Any] = {"action": "cut", "meters": ["M1", "M2"], "reason": "works"}
        wish["cut_below_fen"] = None
        seen = (await shop.call("POST", "/bulk/preview", **wish)).json()
        assert sorted(seen["switched"]) == ["M1", "M2"]
        assert seen["damage"]["meters"] == 2
        key = uuid4()
        job = (await shop.call("POST", "/bulk", key=key, **wish)).json()
        assert (await shop.call("POST", "/bulk", key=key, **wish)).json() == job
        own = await shop.call("POST", f"/bulk/{key}/approve", sha256=job["sha256"])
        assert (own.status_code, own.json()["code"]) == (409, "same-person")
        stopped = await shop.call("POST", f"/bulk/{key}/stop", reason="enough")
        assert stopped.json()["state"] == "cancelled"
        late = await shop.call("POST", f"/bulk/{key}/start")
        assert (late.status_code, late.json()["code"]) == (409, "wrong-state")


async def test_the_event_stream_tells_each_stage_and_goes_on_where_it_was(
    dsn: str, tmp_path: Path
) -> None:
    async with counter(dsn, tmp_path) as shop:
        sold = await shop.call("POST", "/topups", Role.CASHIER, meter="M2", amount_fen=3000)
        await shop.ended(sold.json()["command_id"])
        headers = {"authorization": f"Bearer {shop.tokens[Role.AUDITOR]}", "last-event-id": "1"}
        stages, ids = [], []
        async with (
            asyncio.timeout(30),
            shop.desk.http.stream("GET", "/api/v1/commands/events", headers=headers) as stream,
        ):
            async for text in stream.aiter_lines():
                if text.startswith("data: "):
                    event = json.loads(text[6:])
                    ids.append(event["event_id"])
                    stages.append(event["stage"])
                    if event["to"] == "confirmed":
                        break
        assert 1 not in ids, "it was seen before"
        assert [stage for stage in stages if stage] == ["sent", "in_meter"]


async def test_a_protected_meter_is_spared_until_somebody_lifts_it(
    dsn: str, tmp_path: Path
) -> None:
    async with counter(dsn, tmp_path) as shop:
        until = (shop.desk.head_end.services.clock.now() + timedelta(days=1)).isoformat()
        granted = await shop.call(
            "POST", "/protections", meter="M1", reason="oxygen", expires_at=until
        )
        number = granted.json()["protection_id"]
        cut = await shop.call("POST", "/cuts", meter="M1", reason="unpaid")
        assert cut.json()["code"] == "spared"
        assert "oxygen" in cut.json()["title"]
        await shop.call("POST", f"/protections/{number}/lift", reason="moved out")
        assert (await shop.call("GET", "/protections")).json() == []
        again = await shop.call("POST", f"/protections/{number}/lift", reason="twice")
        assert again.json()["code"] == "no-such-number"
        cut = await shop.call("POST", "/cuts", meter="M1", reason="unpaid")
        assert cut.status_code == 202
        await shop.ended(cut.json()["command_id"])
        assert not shop.meter(1).look().relay_closed


async def test_a_large_refund_needs_another_person_in_flesh(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path) as shop:
        money = {"meter": "M1", "amount_fen": 100_000, "reason": "moved out"}
        paid = await shop.call("POST", "/payments", Role.CASHIER, **money)
        assert paid.status_code == 201
        alone = await shop.call("POST", "/refunds", Role.CASHIER, **money)
        assert (alone.status_code, alone.json()["code"]) == (409, "second-person-needed")
        key = uuid4()
        headers = {
            "authorization": f"Bearer {shop.tokens[Role.CASHIER]}",
            "idempotency-key": str(key),
        }
        for approver, status in (
            (Role.CASHIER, 403),  # a cashier approves nothing
            (Role.MANAGER, 201),
            (Role.MANAGER, 201),  # the same again is the same refund
        ):
            answer = await shop.desk.http.post(
                "/api/v1/refunds",
                json=money,
                headers=headers | {"x-approver-token": shop.tokens[approver]},
            )
            assert answer.status_code == status
        account = (await shop.call("GET", "/meters/M1/account")).json()
        assert account["balance_fen"] == 0
        assert await shop.booked() == 2
