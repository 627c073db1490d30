"""What the screens of accounts, shifts, operators and links do, over HTTP by a program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx

from headend.domain.roles import Role
from headend.store import people
from tests.web.shop import Shop, open_shop


@dataclass
class Program:
    """Somebody's program: a token for each role."""

    shop: Shop
    tokens: dict[Role, str]
    deputy: str  # of a second manager
    answers: list[tuple[str, Any]] = field(default_factory=list)  # to "METHOD /path"

    async def call(
        self,
        method: str,
        path: str,
        caller: Role = Role.MANAGER,
        /,
        *,
        key: UUID | None = None,
        etag: str | None = None,
        approver: str | None = None,
        caller_token: str | None = None,
        **body: Any,
    ) -> httpx.Response:
        headers = {
            "authorization": f"Bearer {caller_token or self.tokens[caller]}",
            "idempotency-key": str(key or uuid4()),
        }
        if etag is not None:
            headers["if-match"] = etag
        if approver is not None:
            headers["x-approver-token"] = approver
        return await self.shop.served.http.request(
            method, f"/api/v1{path}", headers=headers, json=body or None
        )

    async def told(self, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        """What a call that must work answers."""
        answer = await self.call(method, path, *args, **kwargs)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        self.answers.append((f"{method} /api/v1{path}", answer.json()))
        return answer.json()


@asynccontextmanager
async def program(dsn: str, folder: Path) -> AsyncIterator[Program]:
    async with open_shop(dsn, folder) as shop:
        at = shop.services.clock.now()
        tokens = {}
        async with shop.services.database.transaction() as tx:
            for role in Role:
                owner = await people.find_operator(tx, role.value)
                assert owner is not None
                tokens[role] = await people.add_token(
                    tx, owner, "test", at=at, expires_at=at + timedelta(days=1)
                )
            second = await people.add_operator(tx, "deputy", Role.MANAGER, at=at)
            assert second is not None
            deputy = await people.add_token(
                tx, second, "test", at=at, expires_at=at + timedelta(days=1)
            )
        yield Program(shop, tokens, deputy)


async def opened(it: Program, meter: str = "M1", name: str = "Li Hua") -> str:
    """The number of a new customer with an account on a meter."""
    await it.told("POST", "/openings", Role.CASHIER, meter=meter, person={"name": name})
    record = await it.told("GET", f"/meters/{meter}/customer")
    assert record["name"] == name
    number: str = record["customer_no"]
    return number


async def test_a_customer_is_opened_found_and_renamed_by_who_has_looked(
    dsn: str, tmp_path: Path
) -> None:
    async with program(dsn, tmp_path) as it:
        key = uuid4()
        wish: dict[str, Any] = {"meter": "M1", "person": {"name": "Li Hua", "phone": "138 0000"}}
        first = await it.call("POST", "/openings", Role.CASHIER, key=key, **wish)
        again = await it.call("POST", "/openings", Role.CASHIER, key=key, **wish)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json()["case_id"] == again.json()["case_id"] == str(key)
        number = (await it.told("GET", "/meters/M1/customer"))["customer_no"]
        (row,) = await it.told("GET", "/customers?q=Li")
        assert (row["customer_no"], row["meters"]) == (number, 1)

        seen = await it.call("GET", f"/customers/{number}")
        assert [one["meter"] for one in seen.json()["accounts"]] == ["M1"]
        path = f"/customers/{number}"
        blind = await it.call("PUT", path, Role.CASHIER, name="Li Ming")
        assert (blind.status_code, blind.json()["code"]) == (428, "version-needed")
        assert blind.json()["title_zh"]
        assert blind.json()["title_en"] != blind.json()["title_zh"]
        etag = seen.headers["etag"]
        done = await it.call("PUT", path, Role.CASHIER, etag=etag, name="Li Ming")
        assert (done.status_code, done.json()["name"]) == (200, "Li Ming")
        stale = await it.call("PUT", path, Role.CASHIER, etag=etag, name="Li Lei")
        assert (stale.status_code, stale.json()["code"]) == (412, "changed-meanwhile")
        assert stale.headers["content-type"] == "application/problem+json"
        now = await it.call("GET", path)
        assert (now.json()["name"], now.headers["etag"]) == ("Li Ming", done.headers["etag"])
        bad = await it.call("PUT", path, Role.CASHIER, etag=done.headers["etag"], name="")
        assert bad.status_code == 422


async def test_a_debt_is_booked_once_repaid_shared_and_let_off(dsn: str, tmp_path: Path) -> None:
    async with program(dsn, tmp_path) as it:
        number, key = await opened(it), uuid4()
        wish: dict[str, Any] = {
            "amount_fen": 3000,
            "share_permille": 200,
            "reason": "behind the meter",
        }
        path = f"/customers/{number}/debts"
        debt = await it.told("POST", path, key=key, **wish)
        assert await it.told("POST", path, key=key, **wish) == debt
        refused = await it.call("POST", path, key=key, **wish | {"amount_fen": 4000})
        assert (refused.status_code, refused.json()["code"]) == (409, "id-reused")

        pay, booked = uuid4(), await it.shop.booked()
        where = f"/debts/{debt['debt_id']}"
        left = await it.told("POST", f"{where}/repayments", Role.CASHIER, key=pay, amount_fen=1000)
        again = await it.told("POST", f"{where}/repayments", Role.CASHIER, key=pay, amount_fen=1000)
        assert (left["left_fen"], again["left_fen"], again["repeated"]) == (2000, 2000, True)
        assert await it.shop.booked() == booked + 2, "the payment and the repayment, once each"
        too_much = await it.call("POST", f"{where}/repayments", Role.CASHIER, amount_fen=2001)
        assert too_much.json()["code"] == "amount-out-of-range"

        assert (await it.told("POST", f"{where}/share", share_permille=500))[
            "share_permille"
        ] == 500
        over = await it.call("POST", f"{where}/share", share_permille=901)
        assert over.status_code == 422
        gone = await it.told("POST", f"{where}/let-off", reason="agreed")
        assert gone["let_off_at"] is not None
        assert (await it.call("POST", f"{where}/share", share_permille=0)).status_code == 409
        lines = await it.told("GET", f"/customers/{number}/lines?limit=1")
        assert [one["operation"] for one in lines] == ["repayment"]


async def test_rules_and_calendars_are_set_by_who_has_looked(dsn: str, tmp_path: Path) -> None:
    async with program(dsn, tmp_path) as it:
        seen = await it.call("GET", "/account-rules/court")
        assert seen.json()["sale_fee_fen"] == 0
        etag = seen.headers["etag"]
        wish: dict[str, Any] = {"sale_fee_fen": 100, "hoarding_limit_fen": 50_000}
        assert (await it.call("PUT", "/account-rules/court", **wish)).status_code == 428
        done = await it.told("PUT", "/account-rules/court", etag=etag, **wish)
        assert (done["sale_fee_fen"], done["hoarding_limit_fen"]) == (100, 50_000)
        stale = await it.call("PUT", "/account-rules/court", etag=etag, **wish)
        assert stale.status_code == 412

        seen = await it.call("GET", "/sites/court/calendar")
        quiet: dict[str, Any] = {
            "friendly_hours": [{"begins": "22:00", "ends": "07:00"}],
            "holidays": {},
        }
        etag = seen.headers["etag"]
        done_too = await it.call("PUT", "/sites/court/calendar", etag=etag, **quiet)
        assert done_too.status_code == 200
        stale = await it.call("PUT", "/sites/court/calendar", etag=etag, **quiet)
        assert (stale.status_code, stale.json()["code"]) == (412, "changed-meanwhile")
        now = await it.call("GET", "/sites/court/calendar")
        assert now.headers["etag"] == done_too.headers["etag"] != etag
        assert now.json()["friendly_hours"][0]["begins"] == "22:00:00"
        assert (await it.call("PUT", "/sites/court/calendar", **quiet)).status_code == 200, (
            "callers from before ETags go on"
        )


async def test_a_shift_is_counted_blind_and_is_its_cashiers(dsn: str, tmp_path: Path) -> None:
    async with program(dsn, tmp_path) as it:
        key = uuid4()
        assert (await it.call("GET", "/shifts/current", Role.CASHIER)).status_code == 404
        shift = await it.told("POST", "/shifts", Role.CASHIER, key=key, float_fen=10_000)
        assert await it.told("POST", "/shifts", Role.CASHIER, key=key, float_fen=10_000) == shift
        other = await it.call("POST", "/shifts", Role.CASHIER, float_fen=10_000)
        assert (other.status_code, other.json()["code"]) == (409, "shift-open-already")
        await it.told("POST", "/payments", Role.CASHIER, meter="M1", amount_fen=5000)
        now = await it.told("GET", "/shifts/current", Role.CASHIER)
        assert (now["expected_fen"], now["over_fen"]) == (None, None), "the count is blind"
        close = f"/shifts/{key}/close"
        assert (await it.call("POST", close, counted_fen=15_000)).status_code == 404, "not theirs"
        done = await it.told("POST", close, Role.CASHIER, counted_fen=14_900)
        assert (done["expected_fen"], done["over_fen"]) == (15_000, -100)
        assert await it.told("POST", close, Role.CASHIER, counted_fen=14_900) == done
        late = await it.call("POST", close, Role.CASHIER, counted_fen=15_000)
        assert late.status_code == 409
        assert [one["shift_id"] for one in await it.told("GET", "/shifts")] == [str(key)]


async def test_operators_and_their_tokens_are_made_and_ended(dsn: str, tmp_path: Path) -> None:
    async with program(dsn, tmp_path) as it:
        admin = Role.ADMIN
        weak = await it.call("POST", "/operators", admin, name="zhang", role="cashier",
                             password="zhang123")  # fmt: skip
        assert (weak.status_code, weak.json()["code"]) == (422, "bad-password")
        made = await it.told("POST", "/operators", admin, name="zhang", role="cashier",
                             sites=["court"], buildings=["A"])  # fmt: skip
        assert made["scope"] == ["court / A"]
        taken = await it.call("POST", "/operators", admin, name="zhang", role="cashier")
        assert taken.json()["code"] == "name-taken"
        where = f"/operators/{made['operator_id']}"
        beyond = await it.call("POST", f"{where}/tokens", admin, name="x", days=1,
                               permissions=["administer"])  # fmt: skip
        assert beyond.status_code == 422, "no token has more than its role"
        token = await it.told("POST", f"{where}/tokens", admin, name="till", days=1,
                              permissions=["see"])  # fmt: skip
        it.tokens[Role.CASHIER] = token["token"]
        assert (await it.call("GET", "/customers", Role.CASHIER)).status_code == 200
        assert (await it.call("GET", "/shifts", Role.CASHIER)).status_code == 403
        listed = await it.told("GET", f"{where}/tokens", admin)
        assert [one["token_id"] for one in listed] == [token["token_id"]]
        assert "token" not in listed[0]
        elsewhere = await it.call("POST", f"/operators/{it.shop.numbers[admin]}/tokens/"
                                  f"{token['token_id']}/revoke", admin)  # fmt: skip
        assert elsewhere.status_code == 404, "a token of somebody else"
        await it.told("POST", f"{where}/tokens/{token['token_id']}/revoke", admin)
        assert (await it.call("GET", "/customers", Role.CASHIER)).status_code == 401
        own = await it.call("POST", f"/operators/{it.shop.numbers[admin]}/disable", admin)
        assert (own.status_code, own.json()["code"]) == (409, "not-yourself")
        assert (await it.told("POST", f"{where}/disable", admin))["disabled_at"] is not None
        names = [one["name"] for one in await it.told("GET", "/operators?limit=3", admin)]
        rest = [one["name"] for one in await it.told("GET", f"/operators?after={names[-1]}", admin)]
        assert names + rest == sorted([*(role.value for role in Role), "deputy", "zhang"])


async def test_a_link_opens_the_tenants_page_until_it_is_revoked(dsn: str, tmp_path: Path) -> None:
    async with program(dsn, tmp_path) as it:
        link = await it.told("POST", "/meters/M1/links", Role.CASHIER, days=30)
        path = "/t/" + link["url"].rpartition("/t/")[2]
        assert (await it.shop.served.http.get(path)).status_code == 200
        other = f"/meters/M2/links/{link['link_id']}/revoke"
        assert (await it.call("POST", other, Role.CASHIER)).status_code == 404, "of another meter"
        await it.told("POST", f"/meters/M1/links/{link['link_id']}/revoke", Role.CASHIER)
        assert (await it.shop.served.http.get(path)).status_code == 404


async def test_a_closure_is_settled_as_its_plan_shows(dsn: str, tmp_path: Path) -> None:
    async with program(dsn, tmp_path) as it:
        await opened(it)
        await it.told("POST", "/payments", Role.CASHIER, meter="M1", amount_fen=2500)
        key = uuid4()
        case = await it.told("POST", "/meters/M1/closure", key=key, reason="moves out")
        assert (case["case_id"], case["step"], case["holds_sales"]) == (str(key), "confirm", True)
        plan = (await it.told("GET", f"/cases/{key}"))["plan"]
        assert plan["balance_fen"] == 2500
        other: dict[str, Any] = {"credit_fen": plan["credit_fen"], "balance_fen": 0}
        stale = await it.call("POST", f"/cases/{key}/confirm", **other)
        assert (stale.status_code, stale.json()["code"]) == (409, "case-changed-meanwhile")
        not_theirs = await it.call("POST", f"/cases/{key}/cancel", Role.TECHNICIAN, reason="r")
        assert not_theirs.status_code == 403, "a technician exchanges meters and closes nothing"
        seen: dict[str, Any] = {
            "credit_fen": plan["credit_fen"],
            "balance_fen": 2500,
            "clear_meter": False,
        }
        confirm = f"/cases/{key}/confirm"
        own = await it.call("POST", confirm, Role.CASHIER, approver=it.tokens[Role.MANAGER], **seen)
        assert (own.status_code, own.json()["code"]) == (409, "same-person"), "who began it"
        alone = await it.call("POST", confirm, Role.CASHIER, **seen)
        assert alone.json()["code"] == "second-person-needed"
        done = await it.told("POST", confirm, Role.CASHIER, approver=it.deputy, **seen)
        assert done["step"] == "done"
        again = await it.told("POST", confirm, Role.CASHIER, **seen)
        assert again["changed_at"] == done["changed_at"], "a second click settles nothing"
        assert (await it.told("GET", "/meters/M1/account"))["balance_fen"] == 0
        (row,) = await it.told("GET", "/cases?ended=true&limit=1")
        assert row["case_id"] == str(key), "the newest first"
