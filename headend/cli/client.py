"""Talks to the head-end that runs on this machine: it owns the lines, so it is the one to ask."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Self

import httpx

from headend.domain.problems import CATALOG, Problem, language_of_terminal
from headend.services.machine_key import key_of
from headend.settings import Settings

# A read waits for its turn, its tries and a slow DTU; longer than that is a fault.
ANSWER_S_MAX = 120.0


class Client:
    """The API of a running head-end. Raises Problem for everything that can go wrong."""

    def __init__(self, settings: Settings) -> None:
        host = "127.0.0.1" if settings.http_host in ("0.0.0.0", "::") else settings.http_host
        self.url = f"http://{host}:{settings.http_port}"
        # Without a token of somebody: what the user who runs the head-end may see.
        token = os.environ.get("HEADEND_TOKEN") or key_of(settings.http_port)
        self._http = httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(ANSWER_S_MAX, connect=3.0),
            headers={"accept-language": language_of_terminal()}
            | ({"authorization": f"Bearer {token}"} if token else {}),
            # The head-end is on this machine: a proxy of the environment has no say.
            trust_env=False,
        )
        # Its connections go with it, also where nobody says goodbye.
        weakref.finalize(self, self._http.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, path: str, **params: Any) -> Any:
        """One request, its JSON answer; of a list all its pages, unless a `limit` is asked for."""
        chosen = {k: v for k, v in params.items() if v is not None}
        response = self._answer(method, path, params=chosen)
        found = response.json()
        while isinstance(found, list) and "limit" not in chosen and "next" in response.links:
            response = self._answer(method, response.links["next"]["url"])
            found += response.json()
        return found

    def send(
        self, method: str, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> Any:
        """One request with a JSON body, its JSON answer."""
        return self._answer(method, path, json=body, headers=headers).json()

    def send_bytes(self, method: str, path: str, content: bytes, **params: str) -> Any:
        """One request with a file as its body, its JSON answer."""
        return self._answer(
            method,
            path,
            params=params,
            content=content,
            headers={"content-type": "application/octet-stream"},
        ).json()

    def fetch(self, path: str, **params: str) -> bytes:
        """One file."""
        return self._answer("GET", path, params=params).content

    def _answer(self, method: str, path: str, **how: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **how)
        except httpx.TransportError as error:
            raise Problem("not-running", url=self.url) from error
        if response.is_error:
            raise _problem(response)
        return response

    def rows(self, method: str, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """One request, its answer row by row as it comes."""
        try:
            # A trace of a quiet line may say nothing for hours.
            with self._http.stream(
                method, path, params=params, timeout=httpx.Timeout(None, connect=3.0)
            ) as response:
                if response.is_error:
                    response.read()
                    raise _problem(response)
                for text in response.iter_lines():
                    yield json.loads(text)
        except httpx.TransportError as error:
            raise Problem("not-running", url=self.url) from error


def approver_headers() -> dict[str, str]:
    """The second person, by the token in HEADEND_APPROVER_TOKEN; nothing when there is none."""
    approver = os.environ.get("HEADEND_APPROVER_TOKEN")
    return {"x-approver-token": approver} if approver else {}


class Told(Problem):
    """A problem the head-end told us: its code and sentence, as they came."""

    def __init__(self, code: str, english: str, chinese: str) -> None:
        super().__init__("headend-said", detail=english)
        if code in CATALOG:
            self.code = code
            self.kind = CATALOG[code][0]
        self._sentences = {"en": english, "zh": chinese}

    def text(self, language: str, tell: Callable[[str], str] | None = None) -> str:
        """The sentence the head-end wrote."""
        told = getattr(self, "_sentences", None)
        return (
            told["zh" if language.startswith("zh") else "en"]
            if told
            else super().text(language, tell)
        )


def _problem(response: httpx.Response) -> Problem:
    try:
        body = response.json()
        return Told(body["code"], body["title_en"], body["title_zh"])
    except (ValueError, KeyError, TypeError):
        return Problem("headend-said", detail=f"status {response.status_code}")
