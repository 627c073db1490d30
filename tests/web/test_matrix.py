"""Role × route: who may what, over every page and every call of the API, so that none is forgotten.

The matrix is generated from the application itself: a new route is in it by existing, and stands
below with what it asks for, or the test says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from headend.domain.roles import ROLES, Permission, Role
from headend.store import desk_sessions, people
from headend.web import desk, pages, server
from tests.web.shop import Browser, Shop

P = Permission

# The shop that tests share lives in one loop with them.
in_the_shop = pytest.mark.asyncio(loop_scope="module")

# What each page asks for; None: anybody, "in": whoever is signed in.
PAGES: dict[str, Permission | str | None] = {
    "GET /sign-in": None,
    "POST /sign-in": None,
    "POST /preference": None,
    "POST /sign-out": "in",
    "GET /me": "in",
    "GET /me/notices": P.SEE,
    "POST /me/notices": P.SEE,
    "POST /me/password": "in",
    "POST /me/second-factor": "in",
    "GET /": P.SEE,
    "GET /rooms": P.SEE,
    "GET /rooms/{site}/{building}": P.SEE,
    "GET /rooms/{site}/{building}/live": P.SEE,
    "GET /vend": P.SELL,
    "GET /vend/new/{command_id}": P.SELL,
    "GET /vend/new/{command_id}/preview": P.SELL,
    "POST /vend/new/{command_id}": P.SELL,
    "GET /vend/{command_id}": P.SEE,
    "GET /vend/{command_id}/live": P.SEE,
    "GET /receipts/{command_id}": P.SEE,
    "GET /receipts/{command_id}/pdf": P.SEE,
    "GET /meters/{meter}": P.SEE,
    "POST /meters/{meter}/read": P.READ_METER,
    "POST /meters/{meter}/switch": P.SWITCH,
    "POST /meters/{meter}/refund": P.TAKE_BACK,
    "POST /meters/{meter}/customer": P.SELL,
    "POST /meters/{meter}/protect": P.PROTECT,
    "POST /meters/{meter}/lift-protection": P.PROTECT,
    "POST /meters/{meter}/lock-out": P.LOCK_OUT,
    "POST /meters/{meter}/lift-lock-out": P.LOCK_OUT,
    "GET /cards": P.SEE,
    "GET /cards/of/{meter}": P.SEE,
    "POST /cards/of/{meter}/work/{work_id}": P.READ_METER,
    "GET /cards/work/{work_id}": P.READ_METER,
    "GET /cards/work/{work_id}/now": P.READ_METER,
    "POST /cards/of/{meter}/paper": P.SELL,
    "POST /cards/of/{meter}/burn": P.TAKE_BACK,
    "GET /cards/issue/{issue_id}": P.SEE,
    "GET /terminals": P.SEE,
    "GET /terminals/{terminal}": P.SEE,
    "POST /terminals/{terminal}/cap": P.DECIDE,
    "POST /terminals/{terminal}/clashes/{clash_id}": P.DECIDE,
    "GET /shift": P.SELL,
    "POST /shift/open": P.SELL,
    "POST /shift/close": P.SELL,
    "GET /commands": P.SEE,
    "GET /commands/{command_id}": P.SEE,
    "GET /commands/{command_id}/live": P.SEE,
    "POST /commands/{command_id}/cancel": P.TAKE_BACK,
    "POST /commands/{command_id}/decide": P.DECIDE,
    "GET /bulk": P.SEE,
    "GET /bulk/new": P.SWITCH,
    "GET /bulk/new/{bulk_id}": P.SWITCH,
    "POST /bulk/new/{bulk_id}": P.SWITCH,
    "GET /bulk/{bulk_id}": P.SEE,
    "GET /bulk/{bulk_id}/live": P.SEE,
    "POST /bulk/{bulk_id}/approve": P.APPROVE,
    "POST /bulk/{bulk_id}/{step}": P.SWITCH,
    "GET /nights": P.SEE,
    "GET /nights/{site}/{night}": P.SEE,
    "GET /nights/{site}/{night}/live": P.SEE,
    "POST /nights/{site}/{night}/back-fill": P.READ_METER,
    "GET /lines": P.SEE,
    "GET /lines/{line}": P.SEE,
    "GET /lines/{line}/live": P.SEE,
    "GET /books": P.SEE,
    "GET /prices": P.SEE,
    "POST /prices": P.CONFIGURE,
    "GET /prices/{tariff_id}": P.SEE,
    "GET /prices/{tariff_id}/live": P.SEE,
    "GET /prices/{tariff_id}/draft": P.CONFIGURE,
    "POST /prices/{tariff_id}/draft": P.CONFIGURE,
    "POST /prices/{tariff_id}/drop": P.CONFIGURE,
    "POST /prices/{tariff_id}/assign": P.CONFIGURE,
    "POST /prices/{tariff_id}/publish": P.CONFIGURE,
    "POST /prices/{tariff_id}/push/{step}": P.CONFIGURE,
    "GET /prices/{tariff_id}/what-if": P.SEE,
    "GET /prices/{tariff_id}/what-if.csv": P.SEE,
    "GET /meters/{meter}/bill": P.SEE,
    "POST /meters/{meter}/bill/correct": P.DECIDE,
    "POST /meters/{meter}/bill/mode": P.CONFIGURE,
    "GET /pay/{payment_id}": P.SELL,
    "POST /pay/{payment_id}": P.SELL,
    "GET /payments/{payment_id}": P.SEE,
    "GET /payments/{payment_id}/live": P.SEE,
    "GET /alarms": P.SEE,
    "POST /alarms/accept": P.DECIDE,
    "GET /setup": P.CONFIGURE,
    "POST /setup": P.CONFIGURE,
    "GET /setup/{site}/gateway": P.CONFIGURE,
    "POST /setup/{site}/gateway": P.CONFIGURE,
    "GET /setup/{site}/meters": P.CONFIGURE,
    "GET /setup/{site}/meters/{line}/live": P.CONFIGURE,
    "POST /setup/{site}/meters": P.CONFIGURE,
    "GET /setup/{site}/price": P.CONFIGURE,
    "POST /setup/{site}/price": P.CONFIGURE,
    "POST /setup/{site}/read": P.CONFIGURE,
    "GET /setup/{site}/file": P.CONFIGURE,
    "GET /alarms/badge": P.SEE,
    "POST /alarms/{alarm_id}/{step}": P.TEND,
    "GET /work-orders": P.SEE,
    "POST /work-orders": P.TEND,
    "GET /work-orders/{work_order_id}": P.SEE,
    "POST /work-orders/{work_order_id}/{step}": P.TEND,
    "GET /operators": P.ADMINISTER,
    "POST /operators": P.ADMINISTER,
    "GET /operators/{operator_id}": P.ADMINISTER,
    "POST /operators/{operator_id}/{step}": P.ADMINISTER,
    "GET /accounts": P.SEE,
    "GET /accounts/{customer_no}": P.SEE,
    "POST /accounts/{customer_no}": P.SELL,
    "GET /account-files": P.SELL,
    "POST /account-files": P.SELL,
    "GET /account-files/export/{kind}": P.SELL,
    "GET /account-files/{file_id}": P.SELL,
    "POST /account-files/{file_id}": P.SELL,
    "GET /openings": P.SELL,
    "GET /openings/{case_id}": P.SELL,
    "POST /openings/{case_id}": P.SELL,
    # Who may do which work is asked by its kind, once the meter and the kind are known.
    "GET /meters/{meter}/work/{kind}": P.SEE,
    "GET /meters/{meter}/work/{kind}/{case_id}": P.SEE,
    "POST /meters/{meter}/work/{kind}/{case_id}": P.SEE,
    "GET /cases/{case_id}": P.SEE,
    "POST /cases/{case_id}/look": P.SEE,
    "POST /cases/{case_id}/confirm": P.SEE,
    "POST /cases/{case_id}/device": P.SEE,
    "POST /cases/{case_id}/cancel": P.SEE,
    "POST /cases/{case_id}/photos": P.SEE,
    "GET /cases/{case_id}/photos/{number}": P.SEE,
    "POST /accounts/{customer_no}/debts": P.DECIDE,
    "POST /debts/{debt_id}/repay": P.SELL,
    "POST /debts/{debt_id}/share": P.DECIDE,
    "POST /debts/{debt_id}/let-off": P.DECIDE,
    "GET /account-rules/{site}": P.SEE,
    "POST /account-rules/{site}": P.DECIDE,
    "GET /audit": P.AUDIT,
    "POST /audit/verify": P.AUDIT,
    "GET /meters/{meter}/evidence": P.AUDIT,
    "POST /meters/{meter}/evidence": P.AUDIT,
    "GET /t/{secret}": None,
    "GET /meters/{meter}/links": P.SELL,
    "POST /meters/{meter}/links": P.SELL,
    "POST /meters/{meter}/links/{link_id}/revoke": P.SELL,
    "GET /rooms/{site}/{building}/links": P.SELL,
    "POST /rooms/{site}/{building}/links": P.SELL,
    "GET /outgoing": P.SUBSCRIBE,
    "POST /outgoing": P.SUBSCRIBE,
    "GET /outgoing/{webhook_id}": P.SUBSCRIBE,
    "POST /outgoing/{webhook_id}/{step}": P.SUBSCRIBE,
    "POST /letters/{road}": P.SUBSCRIBE,
    "GET /reports": P.SEE,
    "GET /reports/{kind}": P.SEE,
    "GET /reports/{kind}/file": P.SEE,
    "POST /reports/{kind}/ask": P.SEE,
    "GET /report-files/{run_id}": P.SEE,
    "GET /report-files/{run_id}/live": P.SEE,
    "GET /report-files/{run_id}/file": P.SEE,
    "POST /report-schedules": P.REPORT,
    "POST /report-schedules/{schedule_id}/end": P.REPORT,
}

# Calls of the API that need no token: what a watchman asks whether all is well.
OPEN_CALLS = {"GET /health"}


def routes(*parts: object) -> Iterator[tuple[str, str]]:
    for part in parts:
        for route in part.router.routes:  # type: ignore[attr-defined]  # each part has a router
            assert isinstance(route, APIRoute)
            for method in sorted(route.methods or ()):
                yield method, route.path


def filled(path: str, **known: str) -> str:
    """A route with something in its places that nobody has, unless it is known."""
    nobodys = {
        "night": "2001-01-01", "site": "nowhere", "building": "nowhere", "line": "nowhere",
        "meter": "nowhere", "step": "stop", "operator_id": "0", "number": "0", "tariff_id": "0",
        "kind": "nothing", "schedule_id": "0", "customer_no": "nowhere", "link_id": "0",
        "clash_id": "0", "alarm_id": "0", "webhook_id": "0", "work_order_id": "0",
        "road": "nowhere",
    } | known  # fmt: skip
    return re.sub(r"\{(\w+)\}", lambda m: nobodys.get(m[1], str(uuid4())), path)


def test_every_page_stands_in_the_matrix() -> None:
    assert {f"{method} {path}" for method, path in routes(*pages.PARTS)} == set(PAGES)


def test_no_look_changes_anything_and_pages_are_not_in_the_api_description() -> None:
    for method, path in routes(*pages.PARTS):
        assert method in ("GET", "POST"), path
    app = FastAPI()
    pages.add_desk(app)
    assert app.openapi()["paths"] == {}


@in_the_shop
async def test_pages_without_a_session_show_the_gate(shop_of_wrongs: Shop) -> None:
    nobody = await shop_of_wrongs.browser(None)
    for method, path in routes(*pages.PARTS):
        if PAGES[f"{method} {path}"] is None:
            continue
        answer = await (
            nobody.get(filled(path)) if method == "GET" else nobody.post(filled(path), csrf="x")
        )
        assert answer.status_code == 401, f"{method} {path}"
        assert 'action="/sign-in"' in answer.text


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
@in_the_shop
async def test_pages_by_role(shop_of_wrongs: Shop, role: Role) -> None:
    browser = await shop_of_wrongs.browser(role)
    csrf = await browser.csrf()
    for method, path in routes(*pages.PARTS):
        wanted = PAGES[f"{method} {path}"]
        if not isinstance(wanted, Permission) or path == "/audit/verify":
            continue
        where = filled(path)
        answer = await (browser.get(where) if method == "GET" else browser.post(where, csrf=csrf))
        may = wanted in ROLES[role]
        told = f"{role.value}: {method} {path} {answer.status_code}"
        assert answer.status_code < 500, told
        assert (answer.status_code == 403) != may, told
        if may and "{" in path and "/new" not in path:
            assert answer.status_code in (404, 422), told
        if method == "POST":
            forged = await browser.post(where, csrf="forged")
            assert forged.status_code == 403, f"{told} without its token"


def api_parts() -> list[object]:
    names = (
        "api_accounts",
        "api_alarms",
        "api_bills",
        "api_books",
        "api_bulk",
        "api_cards",
        "api_cases",
        "api_commands",
        "api_customers",
        "api_debts",
        "api_events",
        "api_evidence",
        "api_gateways",
        "api_ledger",
        "api_lines",
        "api_links",
        "api_meters",
        "api_mqtt",
        "api_nights",
        "api_orders",
        "api_people",
        "api_photos",
        "api_reports",
        "api_rooms",
        "api_schedules",
        "api_shifts",
        "api_sites",
        "api_supply",
        "api_tariffs",
        "api_terminals",
        "api_work_orders",
        "health",
    )
    return [getattr(server, name) for name in names]


@in_the_shop
async def test_calls_of_the_api_by_role(shop_of_wrongs: Shop) -> None:
    """Without a token 401; with one, 403 or whatever it is worth, never 5xx."""
    shop = shop_of_wrongs
    at = shop.services.clock.now()
    tokens = {}
    async with shop.services.database.transaction() as tx:
        for role in Role:
            owner = await people.find_operator(tx, role.value)
            assert owner is not None
            tokens[role] = await people.add_token(
                tx, owner, "matrix", at=at, expires_at=at + timedelta(hours=1)
            )
    http = shop.served.http
    for method, path in routes(*api_parts()):
        if path.endswith("/events"):
            continue  # a stream that does not end; its guard is that of its neighbours
        bare = await http.request(method, filled(path), json={})
        if f"{method} {path}" in OPEN_CALLS:
            assert bare.status_code != 401, f"{method} {path}: take it off the list"
            continue
        assert bare.status_code == 401, f"{method} {path} {bare.status_code}"
        refused = 0
        for token in tokens.values():
            answer = await http.request(
                method,
                filled(path),
                json={},
                headers={"authorization": f"Bearer {token}", "idempotency-key": str(uuid4())},
            )
            assert answer.status_code < 500, f"{method} {path} {answer.text}"
            refused += answer.status_code == 403
        # How one hears of alarms is for oneself to say, and whoever may look may have a file.
        own = path in ("/api/v1/notices", "/api/v1/report-files")
        assert refused >= 1 or method == "GET" or own, f"{method} {path}: everybody may"


@in_the_shop
async def test_what_is_elsewhere_does_not_exist(shop_of_wrongs: Shop) -> None:
    """An operator of another property: 404 for each thing here, and lists without it."""
    shop = shop_of_wrongs
    at = shop.services.clock.now()
    async with shop.services.database.transaction() as tx:
        elsewhere = await tx.value(
            "INSERT INTO site (name, time_zone, night_opens, night_closes)"
            " VALUES ('elsewhere', 'Asia/Shanghai', '23:55', '06:00')"
            " ON CONFLICT (name) DO UPDATE SET name = 'elsewhere' RETURNING site_id"
        )
        made = await people.add_operator(
            tx, f"far {uuid4()}", Role.MANAGER, at=at, sites=[elsewhere]
        )
        assert made is not None
        cookie = await desk_sessions.begin_session(tx, made.operator_id, "", at)
    far = Browser(shop.served.http, {desk.SESSION_COOKIE: cookie})
    known = {"meter": "M1", "line": "L1", "site": "court", "building": "A"}
    csrf = await far.csrf()
    for method, path in routes(*pages.PARTS):
        if not re.search(r"\{(meter|line|site|building)\}", path):
            continue
        wanted = PAGES[f"{method} {path}"]
        if isinstance(wanted, Permission) and wanted not in ROLES[Role.MANAGER]:
            continue  # a manager may not, wherever it is
        where = filled(path, **known)
        answer = await (
            far.get(where) if method == "GET" else far.post(where, csrf=csrf, reason="r")
        )
        assert answer.status_code == 404, f"{method} {path} {answer.status_code}"
    for path in ("/", "/rooms", "/lines", "/nights", "/books", "/alarms", "/commands"):
        page = await far.get(path)
        assert page.status_code == 200, path
        assert "court" not in page.text, path
        assert "/meters/M1" not in page.text, path
    assert (await far.get("/vend?meter=M1")).status_code == 404
    assert "Nobody found" in (await far.get("/vend?q=M1")).text


def test_the_matrix_has_somebody_who_may_and_somebody_who_may_not() -> None:
    for wanted in PAGES.values():
        if isinstance(wanted, Permission) and wanted is not P.SEE:
            assert any(wanted in allowed for allowed in ROLES.values())
            assert any(wanted not in allowed for allowed in ROLES.values())
