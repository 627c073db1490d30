"""The description of the API is complete: summary, examples and refusals of every call."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headend.domain.alarms import AlarmKind
from headend.domain.problems import CATALOG
from headend.domain.roles import Role
from headend.store import alarms, outbox
from headend.web import described, server
from tests.web.test_api_accounts import Program, opened, program


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    class Nothing:
        version = "test"

    found: dict[str, Any] = server.build(Nothing(), ["*"]).openapi()  # type: ignore[arg-type]
    return found


def test_every_call_has_a_summary_and_examples_of_request_and_answer(
    document: dict[str, Any],
) -> None:
    lacking = []
    for name, _, operation in described.operations(document):
        if not operation.get("summary") or not operation.get("description", "x"):
            lacking.append(f"{name}: a summary")
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            if "example" not in content:
                lacking.append(f"{name}: an example request ({media})")
        contents = described.success_of(operation).get("content", {})
        if not contents:
            lacking.append(f"{name}: what it answers with")
        for media, content in contents.items():
            is_binary = content.get("schema", {}).get("format") == "binary"
            if "example" not in content and not is_binary:
                lacking.append(f"{name}: an example answer ({media})")
    assert not lacking, "add to headend/web/api_examples.json:\n" + "\n".join(lacking)


def test_every_call_names_its_refusals_as_problems(document: dict[str, Any]) -> None:
    for name, path, operation in described.operations(document):
        method, answers = name.partition(" ")[0], operation["responses"]
        for status, answer in answers.items():
            if status.startswith("2"):
                continue
            (media, content), *others = answer["content"].items()
            assert (media, others) == ("application/problem+json", []), f"{name} {status}"
            example = content["example"]
            assert example["status"] == int(status), f"{name} {status}"
            assert example["code"] in CATALOG
            assert example["title_en"] != example["title_zh"]
        assert "422" in answers, name
        assert ("401" in answers) == ("403" in answers) == ("security" in operation), name
        if "{" in path:
            assert "404" in answers, name
        if method != "GET":
            assert "409" in answers, name
        headers = {one["name"] for one in operation["parameters"] if one["in"] == "header"}
        assert ("412" in answers) == ("if-match" in headers), name
    put = document["paths"]["/api/v1/customers/{customer_no}"]["put"]["responses"]
    assert "428" in put
    assert "428" not in document["paths"]["/api/v1/notices"]["put"]["responses"]


def test_no_example_is_of_a_call_that_is_not_there(document: dict[str, Any]) -> None:
    there = {name for name, _, _ in described.operations(document)}
    assert set(described.examples()) <= there


def test_examples_fit_what_a_request_may_say(document: dict[str, Any]) -> None:
    """Each field of an example is one the call knows, and none that it needs is missing."""
    schemas = document["components"]["schemas"]
    for name, _, operation in described.operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema, example = content["schema"], content["example"]
            if "$ref" not in schema:
                continue
            model = schemas[schema["$ref"].rpartition("/")[2]]
            assert set(example) <= set(model["properties"]), name
            assert set(model.get("required", ())) <= set(example), name


async def _walk(it: Program) -> None:
    """A day of an integrator: most calls once, each with what it needs before it."""
    number = await opened(it)
    await it.told("POST", "/payments", Role.CASHIER, meter="M1", amount_fen=5000, reason="cash")
    services = it.shop.services
    meter_id = services.lines.find_meter("M1").known.meter_id
    async with services.database.transaction() as tx:
        for kind in (AlarmKind.METER_OFFLINE, AlarmKind.LOW_CREDIT):
            await alarms.raise_alarm(tx, kind, meter_id, "seen", services.clock.now())
    async with services.database.transaction() as tx:
        await outbox.give_positions(tx)
        hook = await outbox.add_webhook(
            tx, name="accounting", url="http://127.0.0.1:1/", kinds=["sale"],
            by=it.shop.numbers[Role.MANAGER], at=services.clock.now(),
        )  # fmt: skip
    for step, body in (
        ("acknowledge", {"note": "on my way"}),
        ("assign", {"operator": "technician", "note": "box 3"}),
        ("close", {"reason": "the fuse was replaced"}),
    ):
        for alarm in await it.told("GET", "/alarms?limit=1"):
            await it.told("GET", f"/alarms/{alarm['alarm_id']}")
            await it.told("POST", f"/alarms/{alarm['alarm_id']}/{step}", **body)
    await it.told("GET", "/alarms?limit=1")
    order = await it.told("POST", "/work-orders", title="replace the fuse", meter="M1")
    where = f"/work-orders/{order['work_order_id']}"
    await it.told("GET", "/work-orders/to-do")
    await it.told("POST", f"{where}/assign", operator="technician")
    await it.told("POST", f"{where}/comment", text="the box is locked")
    await it.told("GET", where)
    await it.told("POST", f"{where}/close", reason="done")
    await it.told("PUT", "/alarm-rules/court", low_credit_fen=3000)
    await it.told("PUT", "/notices", email="zhang@property.example", language="zh",
                  at_once="urgent", digest=True)  # fmt: skip
    await it.told("POST", f"/webhooks/{hook}/replay", after=0)
    await it.told("POST", f"/webhooks/{hook}/disable")
    for path in (
        f"/webhooks/{hook}", "/notices", "/alarm-rules/court", "/events?limit=1", "/uplinks",
        "/mqtt", "/buildings", "/buildings/court/A/rooms", "/takings", f"/customers/{number}",
        "/reports/turnover?by=day&first=2026-01-01&last=2026-12-31", "/differences",
        "/restore-clocks", "/meters/M1/price", "/meters/M1/account", "/sites",
    ):  # fmt: skip
        await it.told("GET", path)
    seen = await it.call("GET", "/meters/M1/customer")
    await it.told("PUT", "/meters/M1/customer", Role.CASHIER, etag=seen.headers["etag"],
                  name="Li Hua", contact="138 0000 0000")  # fmt: skip
    await _prices(it)
    await _cases_and_people(it)


async def _prices(it: Program) -> None:
    made = await it.told("POST", "/tariffs", name="Shops 2027")
    where = f"/tariffs/{made['tariff_id']}"
    terms = {"prices_x4": {"flat": 5469}}
    await it.told("PUT", f"{where}/draft", terms=terms, note="as agreed")
    await it.told("DELETE", f"{where}/draft")
    await it.told("PUT", f"{where}/draft", terms=terms)
    today = it.shop.services.clock.now().date() + timedelta(days=1)
    await it.told("POST", f"{where}/publish", valid_from=today.isoformat(), approver=it.deputy)
    await it.told("POST", f"{where}/assignments", place="meter", site="court", name="M2",
                  from_day=today.isoformat(), reason="agreed")  # fmt: skip
    await it.told("GET", where)
    cut = await it.told("POST", "/bulk", action="cut", meters=["M2"], reason="unpaid",
                        cut_below_fen=None)  # fmt: skip
    job = f"/bulk/{cut['bulk_id']}"
    await it.told("GET", job)
    await it.told("POST", f"{job}/approve", caller_token=it.deputy, sha256=cut["sha256"])
    lock = await it.told("POST", "/lock-outs", meter="M2", reason="new breaker")
    await it.told("POST", f"/lock-outs/{lock['lock_out_id']}/lift", reason="done")


async def _cases_and_people(it: Program) -> None:
    for what, role in (("transfer", Role.CASHIER), ("exchange", Role.TECHNICIAN)):
        case = await it.told("POST", f"/meters/M1/{what}", role, reason="r", approver=it.deputy)
        where = f"/cases/{case['case_id']}"
        await it.told("GET", where)
        if what == "transfer":
            await it.told("POST", f"{where}/look", role)
        await it.told("POST", f"{where}/cancel", role, reason="not now")
    one = f"/operators/{it.shop.numbers[Role.CASHIER]}"
    await it.told("GET", one, Role.ADMIN)
    await it.told("POST", f"{one}/password", Role.ADMIN, password="four lamps on a blue roof")
    await it.told("POST", f"{one}/second-factor/end", Role.ADMIN)
    await it.told("GET", "/seals", Role.AUDITOR)
    await it.told("POST", "/audit/verify", Role.AUDITOR)
    await it.told("GET", "/evidence/key", Role.AUDITOR)
    schedule = await it.told("POST", "/report-schedules", name="s", kind="turnover", by="day",
                             cadence="daily", at_time="07:00")  # fmt: skip
    where = f"/report-schedules/{schedule['schedule_id']}"
    await it.told("GET", where)
    await it.told("POST", f"{where}/end")
    asked = await it.told("POST", "/report-files", kind="turnover", by="day", first="2026-01-01",
                          last="2026-01-02")  # fmt: skip
    await it.told("GET", f"/report-files/{asked['run_id']}")


async def test_examples_are_what_is_answered(
    dsn: str, tmp_path: Path, document: dict[str, Any]
) -> None:
    async with program(dsn, tmp_path) as it:
        await _walk(it)
        patterns = [
            (name, re.compile(re.sub(r"\{\w+\}", "[^/]+", name) + r"(\?.*)?"))
            for name, path, _ in sorted(
                described.operations(document), key=lambda one: one[1].count("{")
            )
        ]
        seen = set()
        for asked, answer in it.answers:
            name = next(name for name, pattern in patterns if pattern.fullmatch(asked))
            example = described.examples()[name]["answer"]
            if isinstance(answer, list) and not answer:
                continue
            seen.add(name)
            assert _fields(answer) == _fields(example), f"{name}: an example that is not true"
        assert len(seen) >= 55


def _fields(value: Any) -> Any:
    """The names an answer has, of its first row where it is a list."""
    first = value[0] if isinstance(value, list) and value else value
    return sorted(first) if isinstance(first, dict) else type(first).__name__
