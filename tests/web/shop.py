"""A desk for tests: a whole head-end with simulated meters, and somebody of each role."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from headend.domain.friendly_hours import Calendar
from headend.domain.roles import Role
from headend.services.services import Services
from headend.store import desk_sessions, people, supply
from headend.web import desk as web
from simulators.metering import Meter
from tests.headend.test_api import Served, served

PASSWORD = "a lamp in every window"


@dataclass
class Browser:
    """One person's browser, without the drawing."""

    http: httpx.AsyncClient
    cookies: dict[str, str] = field(default_factory=dict)
    language: str = "en"

    async def get(self, path: str) -> httpx.Response:
        return await self._ask("GET", path)

    async def post(self, path: str, *, csrf: str | None = None, **typed: str) -> httpx.Response:
        """A form as the page would send it: its token is looked up unless one is given."""
        if csrf is None:
            csrf = await self.csrf()
        return await self._ask("POST", path, {"csrf": csrf, **typed})

    async def upload(self, path: str, field: str, content: bytes, **typed: str) -> httpx.Response:
        """A form with one file in it."""
        typed = {"csrf": await self.csrf(), **typed}
        return await self._ask("POST", path, typed, files={field: ("file", content)})

    async def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', (await self.get("/me")).text)
        assert found is not None
        return found[1]

    async def _ask(
        self,
        method: str,
        path: str,
        data: dict[str, str] | None = None,
        files: dict[str, tuple[str, bytes]] | None = None,
    ) -> httpx.Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"accept": "text/html", "accept-language": self.language}
        if cookie:
            headers["cookie"] = cookie
        self.http.cookies.clear()  # this browser keeps its own
        answer = await self.http.request(method, path, data=data, files=files, headers=headers)
        for name, value in answer.cookies.items():
            self.cookies[name] = value
        return answer


@dataclass
class Shop:
    """A property with two meters that answer (M1, M2) and one that does not (M4)."""

    served: Served
    numbers: dict[Role, int]

    @property
    def services(self) -> Services:
        return self.served.head_end.services

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.served.head_end.http_port}"

    def meter(self, unit: int) -> Meter:
        """The simulated meter itself: the witness."""
        found: Meter = self.served.wire.line.bus.units[unit].meter
        return found

    async def browser(self, role: Role | None, language: str = "en") -> Browser:
        """Somebody of that role who has just signed in; None: nobody has."""
        opened = Browser(self.served.http, language=language)
        if role is not None:
            async with self.services.database.transaction() as tx:
                opened.cookies[web.SESSION_COOKIE] = await desk_sessions.begin_session(
                    tx, self.numbers[role], "127.0.0.1", self.services.clock.now()
                )
        return opened

    async def booked(self) -> int:
        """Rows of the books."""
        async with self.services.database.transaction() as tx:
            count: int = await tx.value("SELECT count(*) FROM transfer")
        return count


@asynccontextmanager
async def open_shop(dsn: str, folder: Path, units: str = "ddsy:1-2") -> AsyncIterator[Shop]:
    """The shop with its operators, its two meters read once, and no hours without cuts."""
    async with served(dsn, folder, units) as up:
        services = up.head_end.services
        at = services.clock.now()
        numbers = {}
        async with services.database.transaction() as tx:
            for role in Role:
                made = await people.add_operator(tx, role.value, role, at=at)
                assert made is not None
                numbers[role] = made.operator_id
            site = services.lines.sites["court"]
            always = Calendar(
                time_zone=site.place.time_zone, friendly_hours=(), spare_weekends=False
            )
            await supply.set_calendar(tx, site.site_id, always, by=None, at=at)
        assert await services.lines.lines["L1"].wait_up(30)
        for name in ("M1", "M2"):
            await services.nights.read_now(services.lines.find_meter(name))
        await services.sink.flush()
        yield Shop(up, numbers)
