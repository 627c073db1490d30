"""Short messages: what a road for them has to do, and two roads.

`SmsRoad` is all a new provider has to have. `FileRoad` writes messages to a file, for trials and
for sites where another program carries them on. `HttpRoad` asks a gateway over HTTP as a template
in a file says.
"""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

import httpx

from headend.domain.outgoing import Sms, url_fault
from headend.domain.problems import Problem

SEND_S_MAX: Final = 20.0
_PLACE: Final = re.compile(r"\{(id|to|text|secret)\}")


class SmsRoad(Protocol):
    """Carries one message. After a crash it may be given twice: `message_id` tells."""

    async def send(self, sms: Sms) -> None:
        """Hand it on; returns once it was taken. Raises Problem("sms-not-taken")."""


class FileRoad:
    """One line of JSON a message."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, sms: Sms) -> None:
        """Append it."""
        line = json.dumps(
            {"id": sms.message_id, "to": sms.telephone, "text": sms.text}, ensure_ascii=False
        )

        def append() -> None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

        try:
            await asyncio.to_thread(append)
        except OSError as error:
            raise Problem("sms-not-taken", detail=error.strerror) from error


class HttpRoad:
    """A gateway as a TOML file describes it: url, method, headers, body, and what counts as taken.

    {id}, {to}, {text} and {secret} stand in `url` (percent-encoded), `body` (as inside a JSON
    string) and `headers`; `taken` is a text the answer has to hold, beside a status of 2xx.
    """

    def __init__(self, template: Path) -> None:
        """Raises Problem("settings-unreadable")."""
        try:
            table = tomllib.loads(template.read_text(encoding="utf-8"))
            self._url, self._method = str(table["url"]), str(table.get("method", "POST"))
            self._headers: Mapping[str, Any] = table.get("headers", {})
            self._body, self._taken = str(table.get("body", "")), str(table.get("taken", ""))
            secret = str(table.get("secret_file", ""))
            self._secret = Path(secret).read_text(encoding="utf-8").strip() if secret else ""
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise Problem("settings-unreadable", file=template, detail=error) from error
        if (fault := url_fault(self._url.partition("?")[0], ())) is not None:
            raise Problem("settings-unreadable", file=template, detail=fault)

    async def send(self, sms: Sms) -> None:
        """Ask the gateway."""
        facts = {
            "id": sms.message_id, "to": sms.telephone, "text": sms.text, "secret": self._secret,
        }  # fmt: skip
        inside = {name: json.dumps(text, ensure_ascii=False)[1:-1] for name, text in facts.items()}
        quoted = {name: quote(text, safe="") for name, text in facts.items()}
        try:
            async with httpx.AsyncClient(timeout=SEND_S_MAX, trust_env=False) as http:
                answer = await http.request(
                    self._method,
                    _filled(self._url, quoted),
                    headers={k: _filled(str(v), facts) for k, v in self._headers.items()},
                    content=_filled(self._body, inside).encode(),
                )
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise Problem("sms-not-taken", detail=str(error) or type(error).__name__) from error
        if not answer.is_success or self._taken not in answer.text:
            said = f"{answer.status_code} {answer.text[:100]}".strip()
            raise Problem("sms-not-taken", detail=f"the gateway said {said}")


def sms_road(setting: str) -> SmsRoad | None:
    """From the settings: "file:/path" or "http:/path/of/template.toml"; empty: no messages."""
    kind, _, path = setting.partition(":")
    if not setting:
        return None
    if kind == "file" and path:
        return FileRoad(Path(path))
    if kind == "http" and path:
        return HttpRoad(Path(path))
    detail = "sms is file:/path or http:/path/of/template.toml"
    raise Problem("settings-unreadable", file="the settings", detail=detail)


def _filled(template: str, facts: Mapping[str, str]) -> str:
    """Only our own places are filled, and what is filled in is not looked at again."""
    return _PLACE.sub(lambda found: facts[found[1]], template)
