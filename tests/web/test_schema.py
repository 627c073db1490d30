"""Whatever the description of the API allows, and some it does not: nothing answers with 5xx.

Somebody else's program (schemathesis) makes the calls from /openapi.json, against a whole head-end
on a real PostgreSQL. Calls that ask a meter or a line are left out: they wait for wires.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.errors import SerializationNotPossible

from headend.domain.roles import Role
from headend.store import people
from tests.web.shop import Shop

# Enough for the mistakes that are there; the whole test has this long and says how far it came.
TIME_S_MAX = 30.0
EXAMPLES = 4
# They wait for wires, follow for ever, or are pictures of something else.
LEFT_OUT = ("/trace", "/scan", "/read", "/events", "/live", "/follow")

pytestmark = pytest.mark.filterwarnings("ignore")  # of the other program


@pytest.mark.asyncio(loop_scope="module")
async def test_no_call_breaks_the_head_end(shop_of_wrongs: Shop) -> None:
    shop = shop_of_wrongs
    at = shop.services.clock.now()
    async with shop.services.database.transaction() as tx:
        manager = await people.find_operator(tx, Role.MANAGER.value)
        assert manager is not None
        token = await people.add_token(
            tx, manager, "schema", at=at, expires_at=at + timedelta(hours=1)
        )
    document = (await shop.served.http.get("/openapi.json")).json()
    tried, broke = await asyncio.to_thread(_walk, shop.url, token, document)
    assert not broke, "\n".join(broke)
    assert tried > 30, f"only {tried} kinds of calls were made"


def _walk(url: str, token: str, document: dict[str, Any]) -> tuple[int, list[str]]:
    """How many operations were called, and each call that was answered with 5xx."""
    schema = schemathesis.openapi.from_dict(document)
    ends, tried, broke = time.monotonic() + TIME_S_MAX, 0, []
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, timeout=20, trust_env=False) as http:
        for found in schema.get_all_operations():
            operation: Any = found.ok()  # type: ignore[union-attr]  # the description is sound
            if operation.path.endswith(LEFT_OUT) and operation.path != "/api/v1/events":
                continue
            if time.monotonic() > ends:
                break
            with contextlib.suppress(
                SerializationNotPossible
            ):  # a body that is no JSON: site files
                broke += _broken(http, operation)
                tried += 1
    return tried, broke


def _broken(http: httpx.Client, operation: Any) -> list[str]:
    broke: list[str] = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def call(case: Any) -> None:
        asked = case.as_transport_kwargs(base_url=str(http.base_url))
        body = asked.get("json")
        try:
            answer = http.request(
                asked["method"],
                asked["url"],
                params=asked.get("params"),
                json=body if body is None or isinstance(body, dict | list) else None,
                headers={k: str(v) for k, v in (case.headers or {}).items() if str(v).isascii()},
            )
        except (httpx.InvalidURL, UnicodeError, ValueError, httpx.LocalProtocolError):
            return  # no client could say that
        if answer.status_code >= 500:
            told = f"{asked['method']} {asked['url']} {asked.get('params')} {body}"
            broke.append(f"{told}: {answer.status_code} {answer.text[:200]}")

    call()
    return broke
