"""The description of the API: what FastAPI knows of each call, with examples and its refusals.

Examples are answers of a real head-end, kept in api_examples.json by method and path; a test holds
their fields against what is answered today. Refusals follow from what a call takes: who needs a
token may be told 401 and 403, who names a thing 404, who changes one 409, who sends If-Match 412.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI

from headend.domain.problems import Problem
from headend.web.edits import VERSION_NEEDED
from headend.web.told import said

EXAMPLES: Final = Path(__file__).parent / "api_examples.json"
METHODS: Final = ("get", "put", "post", "delete")
PROBLEM: Final = "application/problem+json"
_REF: Final = {"$ref": "#/components/schemas/Problem"}
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What went wrong: one sentence in two languages, and a code that never changes.",
    "required": ["type", "code", "title", "title_en", "title_zh", "status"],
    "properties": {
        "type": {"type": "string", "description": "urn:headend:problem: and the code"},
        "code": {"type": "string"},
        "title": {"type": "string", "description": "in the language of Accept-Language"},
        "title_en": {"type": "string"},
        "title_zh": {"type": "string"},
        "status": {"type": "integer"},
    },
}
_KEY: Final = {
    "name": "idempotency-key",
    "in": "header",
    "required": True,
    "description": "A UUID of your own: the same one again is the same order, however often it "
    "is sent.",
    "schema": {"type": "string", "format": "uuid"},
    "example": "0196a2f4-7d2c-7c35-9c52-0d6a6f7b8f10",
}


def problem_record(problem: Problem, language: str) -> dict[str, Any]:
    """A problem as it is answered."""
    return {
        "type": f"urn:headend:problem:{problem.code}",
        "code": problem.code,
        "title": said(problem, language),
        "title_en": said(problem, "en"),
        "title_zh": said(problem, "zh"),
        "status": problem.kind.http_status,
    }


# One of each status, as somebody may meet it.
_REFUSALS: Final = {
    "401": Problem("no-token"),
    "403": Problem("not-allowed", operator="zhang", role="auditor", action="sell"),
    "404": Problem("no-such-meter", meter="A-101"),
    "409": Problem("id-reused", detail="0196a2f4-7d2c-7c35-9c52-0d6a6f7b8f10"),
    "412": Problem("changed-meanwhile"),
    "422": Problem("bad-request", detail="query.limit: Input should be less than or equal to 500"),
    "428": Problem("version-needed"),
    "503": Problem("database", detail="the server is starting up"),
}
_SAID: Final = {
    "401": "No token, or one that is not valid",
    "403": "The token may not do that",
    "404": "There is no such thing, or it is outside of the token's properties",
    "409": "Understood, and not done: a rule says no",
    "412": "It has changed since the ETag that was sent",
    "422": "The request cannot be understood",
    "428": "If-Match is missing",
    "503": "The database or a line is away; nothing was done",
}


def describe(app: FastAPI) -> None:
    """Give the application's description its examples and refusals."""
    plain = app.openapi

    @functools.cache
    def openapi() -> dict[str, Any]:
        document = plain()
        document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = _SCHEMA
        known = examples()
        for name, path, operation in operations(document):
            _complete(name.partition(" ")[0], path, operation)
            _exemplify(operation, known.get(name, {}))
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI says to


@functools.cache
def examples() -> dict[str, dict[str, Any]]:
    """`request` and `answer` of each call, by "METHOD /path"."""
    found: dict[str, dict[str, Any]] = json.loads(EXAMPLES.read_text())
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """("METHOD /path", path, operation) of a description."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield f"{method.upper()} {path}", path, methods[method]


def success_of(operation: dict[str, Any]) -> dict[str, Any]:
    """The answer of a call that went well."""
    found: dict[str, Any] = next(
        answer for status, answer in operation["responses"].items() if status.startswith("2")
    )
    return found


def _complete(method: str, path: str, operation: dict[str, Any]) -> None:
    """Every refusal a call may meet; its header for doing a thing once."""
    parameters = operation.setdefault("parameters", [])
    for one in parameters:
        if one["name"] == "idempotency-key":
            one.update(_KEY)
    headers = {one["name"]: one.get("description") for one in parameters if one["in"] == "header"}
    statuses = {"422", "503"}
    if "security" in operation:
        statuses |= {"401", "403"}
    if "{" in path or method != "GET":
        statuses.add("404")
    if method != "GET":
        statuses.add("409")
    if "if-match" in headers:
        statuses.add("412")
    if headers.get("if-match") == VERSION_NEEDED:
        statuses.add("428")
    for status in sorted(statuses):
        operation["responses"][status] = {
            "description": _SAID[status],
            "content": {
                PROBLEM: {"schema": _REF, "example": problem_record(_REFUSALS[status], "en")}
            },
        }


def _exemplify(operation: dict[str, Any], known: dict[str, Any]) -> None:
    if "media" in known:
        # What is no JSON; FastAPI cannot know it of an answer that is made piece by piece.
        text = {"type": "string"} | ({} if "answer" in known else {"format": "binary"})
        success_of(operation)["content"] = {known["media"]: {"schema": text}}
    if "answer" in known:
        for content in success_of(operation).get("content", {}).values():
            if content.get("schema", {}).get("format") != "binary":
                content["example"] = known["answer"]
    if "request" in known:
        for content in operation.get("requestBody", {}).get("content", {}).values():
            content["example"] = known["request"]
