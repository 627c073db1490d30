"""Every call of the API asks who calls and what they may: a new one stands in the table, or this
says so."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from headend.domain.roles import ROLES, Role
from headend.domain.roles import Permission as P
from tests.headend.test_api_money import counter

# Which of it, is asked once the case is known.
SOME_WORK = frozenset({P.SELL, P.TAKE_BACK, P.CONFIGURE})
WANTED: dict[tuple[str, str], P | frozenset[P]] = {
    ("GET", "/nights"): P.SEE,
    ("GET", "/nights/{site}/{night}"): P.SEE,
    ("GET", "/nights/{site}/{night}/back-fill"): P.SEE,
    ("POST", "/nights/{site}/{night}/back-fill"): P.READ_METER,
    ("GET", "/lines"): P.SEE,
    ("GET", "/lines/{line}/trace"): P.SEE,
    ("POST", "/lines/{line}/scan"): P.READ_METER,
    ("GET", "/gateways/strangers"): P.SEE,
    ("GET", "/gateways/sessions"): P.SEE,
    ("GET", "/gateways"): P.SEE,
    ("GET", "/gateways/of/{gateway}"): P.SEE,
    ("GET", "/meters"): P.SEE,
    ("GET", "/meters/M1/readings"): P.SEE,
    ("POST", "/meters/M1/read"): P.READ_METER,
    ("POST", "/topups"): P.SELL,
    ("POST", "/cuts"): P.SWITCH,
    ("POST", "/restores"): P.SWITCH,
    ("GET", "/commands"): P.SEE,
    ("GET", "/commands/{id}"): P.SEE,
    ("GET", "/commands/events"): P.SEE,
    ("POST", "/commands/{id}/cancel"): P.TAKE_BACK,
    ("POST", "/commands/{id}/decide"): P.DECIDE,
    ("POST", "/bulk"): P.SWITCH,
    ("POST", "/bulk/preview"): P.SWITCH,
    ("GET", "/bulk/{id}"): P.SEE,
    ("POST", "/bulk/{id}/approve"): P.APPROVE,
    ("POST", "/bulk/{id}/start"): P.SWITCH,
    ("POST", "/bulk/{id}/go-on"): P.SWITCH,
    ("POST", "/bulk/{id}/stop"): P.SWITCH,
    ("POST", "/bulk/{id}/undo"): P.SWITCH,
    ("POST", "/payments"): P.SELL,
    ("POST", "/refunds"): P.TAKE_BACK,
    ("POST", "/moves"): P.DECIDE,
    ("POST", "/meters/M1/burn"): P.TAKE_BACK,
    ("GET", "/meters/M1/account"): P.SEE,
    ("POST", "/meters/M1/accept"): P.DECIDE,
    ("GET", "/differences"): P.SEE,
    ("GET", "/alarms"): P.SEE,
    ("GET", "/restore-clocks"): P.SEE,
    ("GET", "/protections"): P.SEE,
    ("POST", "/protections"): P.PROTECT,
    ("POST", "/protections/7/lift"): P.PROTECT,
    ("GET", "/lock-outs"): P.SEE,
    ("POST", "/lock-outs"): P.LOCK_OUT,
    ("POST", "/lock-outs/7/lift"): P.LOCK_OUT,
    ("PUT", "/sites/court/calendar"): P.PROTECT,
    ("POST", "/accounts/import"): P.SELL,
    ("GET", "/accounts/export"): P.SEE,
    ("GET", "/sites"): P.SEE,
    ("POST", "/sites"): P.CONFIGURE,
    ("GET", "/sites/court/file"): P.CONFIGURE,
    ("POST", "/sites/court/places"): P.CONFIGURE,
    ("POST", "/pulses"): P.SWITCH,
    ("POST", "/gateways/adopt"): P.CONFIGURE,
    ("GET", "/uplinks"): P.SEE,
    ("GET", "/mqtt"): P.SEE,
    ("POST", "/cards/sessions"): P.READ_METER,
    ("POST", "/cards/sessions/{id}"): P.READ_METER,
    ("GET", "/cards/out"): P.SEE,
    ("POST", "/cards/move"): P.SELL,
    ("POST", "/cards/burn"): P.TAKE_BACK,
    ("POST", "/cards/{id}/revoke"): P.TAKE_BACK,
    ("POST", "/gateways/of/{gateway}/mqtt-password"): P.CONFIGURE,
    ("DELETE", "/gateways/of/{gateway}/mqtt-password"): P.CONFIGURE,
    ("GET", "/gateways/of/{gateway}/mqtt-password"): P.SEE,
    ("GET", "/reports/{kind}"): P.SEE,
    ("GET", "/tariffs"): P.SEE,
    ("POST", "/tariffs"): P.CONFIGURE,
    ("GET", "/tariffs/{tariff_id}"): P.SEE,
    ("PUT", "/tariffs/{tariff_id}/draft"): P.CONFIGURE,
    ("POST", "/tariffs/{tariff_id}/publish"): P.CONFIGURE,
    ("POST", "/tariffs/{tariff_id}/assignments"): P.CONFIGURE,
    ("GET", "/tariffs/{tariff_id}/push"): P.SEE,
    ("POST", "/tariffs/{tariff_id}/push/stop"): P.CONFIGURE,
    ("POST", "/tariffs/{tariff_id}/push/go-on"): P.CONFIGURE,
    ("GET", "/cards/desk"): P.READ_METER,
    ("POST", "/cards/lost"): P.SELL,
    ("GET", "/alarms/{alarm_id}"): P.SEE,
    ("POST", "/alarms/{alarm_id}/acknowledge"): P.TEND,
    ("POST", "/alarms/{alarm_id}/assign"): P.TEND,
    ("POST", "/alarms/{alarm_id}/close"): P.TEND,
    ("GET", "/alarm-rules/{site}"): P.SEE,
    ("PUT", "/alarm-rules/{site}"): P.CONFIGURE,
    ("GET", "/events"): P.SEE,
    ("GET", "/webhooks"): P.SUBSCRIBE,
    ("POST", "/webhooks"): P.SUBSCRIBE,
    ("GET", "/webhooks/{webhook_id}"): P.SUBSCRIBE,
    ("POST", "/webhooks/{webhook_id}/disable"): P.SUBSCRIBE,
    ("POST", "/webhooks/{webhook_id}/replay"): P.SUBSCRIBE,
    ("GET", "/notices"): P.SEE,
    ("PUT", "/notices"): P.SEE,
    ("GET", "/work-orders"): P.SEE,
    ("GET", "/work-orders/to-do"): P.SEE,
    ("POST", "/work-orders"): P.TEND,
    ("GET", "/work-orders/{work_order_id}"): P.SEE,
    ("POST", "/work-orders/{work_order_id}/assign"): P.TEND,
    ("POST", "/work-orders/{work_order_id}/comment"): P.TEND,
    ("POST", "/work-orders/{work_order_id}/close"): P.TEND,
    ("GET", "/meters/M1/price"): P.SEE,
    ("GET", "/meters/M1/charges"): P.SEE,
    ("POST", "/platform-payments"): P.SELL,
    ("POST", "/meters/M1/charges/corrections"): P.DECIDE,
    ("PUT", "/meters/M1/money-mode"): P.CONFIGURE,
    ("GET", "/tariffs/{tariff_id}/what-if"): P.SEE,
    ("POST", "/meters/M1/evidence"): P.AUDIT,
    ("GET", "/evidence/key"): P.AUDIT,
    ("GET", "/terminals"): P.SEE,
    ("GET", "/terminals/of/{terminal}"): P.SEE,
    ("POST", "/terminals/of/{terminal}/caps"): P.DECIDE,
    ("POST", "/terminals/of/{terminal}/forget"): P.CONFIGURE,
    ("GET", "/terminals/recharges/M1"): P.SEE,
    ("GET", "/terminals/clashes"): P.SEE,
    ("POST", "/terminals/clashes/{clash_id}/settle"): P.DECIDE,
    ("GET", "/bulk"): P.SEE,
    ("GET", "/sites/court/calendar"): P.SEE,
    ("DELETE", "/tariffs/{tariff_id}/draft"): P.CONFIGURE,
    ("GET", "/customers"): P.SEE,
    ("GET", "/customers/{customer_no}"): P.SEE,
    ("PUT", "/customers/{customer_no}"): P.SELL,
    ("GET", "/customers/{customer_no}/lines"): P.SEE,
    ("GET", "/meters/M1/customer"): P.SEE,
    ("PUT", "/meters/M1/customer"): P.SELL,
    ("POST", "/customers/{customer_no}/debts"): P.DECIDE,
    ("POST", "/debts/{debt_id}/repayments"): P.SELL,
    ("POST", "/debts/{debt_id}/share"): P.DECIDE,
    ("POST", "/debts/{debt_id}/let-off"): P.DECIDE,
    ("GET", "/account-rules/{site}"): P.SEE,
    ("PUT", "/account-rules/{site}"): P.DECIDE,
    ("POST", "/openings"): P.SELL,
    ("POST", "/meters/M1/transfer"): P.TAKE_BACK,
    ("POST", "/meters/M1/closure"): P.TAKE_BACK,
    ("POST", "/meters/M1/exchange"): P.CONFIGURE,
    ("GET", "/cases"): P.SEE,
    ("GET", "/cases/{case_id}"): P.SEE,
    ("POST", "/cases/{case_id}/look"): SOME_WORK,
    ("POST", "/cases/{case_id}/confirm"): SOME_WORK,
    ("POST", "/cases/{case_id}/device"): P.CONFIGURE,
    ("POST", "/cases/{case_id}/cancel"): SOME_WORK,
    ("POST", "/cases/{case_id}/photos"): SOME_WORK,
    ("GET", "/cases/{case_id}/photos/7"): P.SEE,
    ("GET", "/meters/M1/links"): P.SELL,
    ("POST", "/meters/M1/links"): P.SELL,
    ("POST", "/meters/M1/links/{link_id}/revoke"): P.SELL,
    ("GET", "/shifts"): P.SELL,
    ("POST", "/shifts"): P.SELL,
    ("GET", "/shifts/current"): P.SELL,
    ("POST", "/shifts/{shift_id}/close"): P.SELL,
    ("GET", "/operators"): P.ADMINISTER,
    ("POST", "/operators"): P.ADMINISTER,
    ("GET", "/operators/{operator_id}"): P.ADMINISTER,
    ("POST", "/operators/{operator_id}/password"): P.ADMINISTER,
    ("POST", "/operators/{operator_id}/second-factor/end"): P.ADMINISTER,
    ("POST", "/operators/{operator_id}/disable"): P.ADMINISTER,
    ("GET", "/operators/{operator_id}/tokens"): P.ADMINISTER,
    ("POST", "/operators/{operator_id}/tokens"): P.ADMINISTER,
    ("POST", "/operators/{operator_id}/tokens/{token_id}/revoke"): P.ADMINISTER,
    ("GET", "/buildings"): P.SEE,
    ("GET", "/buildings/{site}/{building}/rooms"): P.SEE,
    ("GET", "/ledger"): P.SEE,
    ("GET", "/takings"): P.SEE,
    ("GET", "/audit"): P.AUDIT,
    ("GET", "/seals"): P.AUDIT,
    ("POST", "/audit/verify"): P.AUDIT,
    ("GET", "/report-schedules"): P.SEE,
    ("POST", "/report-schedules"): P.REPORT,
    ("GET", "/report-schedules/{schedule_id}"): P.SEE,
    ("POST", "/report-schedules/{schedule_id}/end"): P.REPORT,
    ("GET", "/report-files"): P.SEE,
    ("POST", "/report-files"): P.SEE,
    ("GET", "/report-files/{run_id}"): P.SEE,
    ("GET", "/report-files/{run_id}/content"): P.SEE,
}
NAMED = {
    "command_id": "{id}",
    "bulk_id": "{id}",
    "session": "{id}",
    "issue_id": "{id}",
    "meter": "M1",
    "number": "7",
}


def _filled(path: str) -> str:
    for name, value in NAMED.items():
        path = path.replace("{" + name + "}", value)
    return path.replace("/sites/{site}", "/sites/court")


async def test_every_route_asks_who_calls_and_what_they_may(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path) as shop:
        spec = await shop.desk.get("/openapi.json")
        routes = {
            (method.upper(), _filled(path.removeprefix("/api/v1")))
            for path, methods in spec["paths"].items()
            for method in methods
            if path.startswith("/api/v1")
        }
        assert routes == set(WANTED), "a new route needs its line here"
        for (method, pattern), permission in WANTED.items():
            path = pattern.replace("{id}", str(uuid4()))
            nobody = await shop.call(method, path, None)
            assert (nobody.status_code, nobody.json()["code"]) == (401, "no-token"), path
            enough = {permission} if isinstance(permission, P) else permission
            for role in Role:
                if enough & ROLES[role]:
                    continue
                answer = await shop.call(method, path, role)
                assert (answer.status_code, answer.json()["code"]) == (403, "not-allowed"), path
