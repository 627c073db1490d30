"""What interrupts a sale: the program is killed in the middle of it, or its session has ended.

Each time the money is booked once, goes into the meter once, and the page finds the sale again.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from headend.domain.clock import SystemClock
from headend.domain.roles import Role
from headend.services import sign_in
from headend.services.importing import import_into
from headend.services.machine_key import key_of
from headend.store import people
from headend.store.database import Database
from headend.store.desk_sessions import end_sessions
from tests.e2e.test_program import HEADEND, START_S_MAX
from tests.headend.house import ddsy, line_of, site_on
from tests.web.shop import PASSWORD, open_shop
from tests.web.test_browser import CHROMIUM, chromium, enter, let_in, page_of, seen

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

SALE = re.compile(r"/vend/[0-9a-f-]{36}$")
# Long enough that each state of an order can be met, short of this line's time-out.
TURNAROUND_S = 0.1


@dataclass
class Program:
    """`headend run` as a process, which may be killed and started again at the same address."""

    arguments: tuple[str, ...]
    url: str
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Until it answers."""
        self.process = await asyncio.create_subprocess_exec(
            HEADEND, *self.arguments, stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(START_S_MAX), httpx.AsyncClient(trust_env=False) as http:
            while True:
                assert self.process.returncode is None, "it ended"
                try:
                    await http.get(f"{self.url}/health")
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                else:
                    return

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(how)
            await self.process.wait()


@asynccontextmanager
async def program(dsn: str, folder: Path, ports: Any) -> AsyncIterator[Program]:
    http = ports()
    where = ("--database-url", dsn, "--data-folder", str(folder))
    on = ("--http-port", str(http), "--dial-in-port", str(ports()))
    started = Program(("run", *where, *on), f"http://127.0.0.1:{http}")
    try:
        await started.start()
        yield started
    finally:
        await started.stop()


async def begun(page: Page, amount: str) -> None:
    """The form of a sale to M1, filled in."""
    await page.goto("/vend?meter=M1")
    await page.fill("#amount", amount)
    await expect(page.locator("#preview")).to_contain_text(f"{amount}.00")


async def reaches(database: Database, state: str) -> None:
    """Until the newest order is in this state."""
    async with asyncio.timeout(60):
        while True:
            async with database.transaction() as tx:
                if await tx.value("SELECT state FROM command") == state:
                    return
            await asyncio.sleep(0.005)


async def booked(database: Database) -> int:
    """Rows of the books."""
    async with database.transaction() as tx:
        count: int = await tx.value("SELECT count(*) FROM transfer")
    return count


@pytest.mark.parametrize("state", ["claimed", "sent"])
async def test_the_program_is_killed_in_mid_sale(
    dsn: str, database: Database, tmp_path: Path, unused_tcp_port_factory: Any, state: str
) -> None:
    """Killed before the order left, or with its write on the way; the open page finds it again."""
    wire = line_of("ddsy:1-2", turnaround_s=TURNAROUND_S)
    await wire.plug()
    try:
        async with program(dsn, tmp_path, unused_tcp_port_factory) as run, chromium() as browser:
            await import_into(database, site_on(wire.port, (ddsy(1), ddsy(2))))
            async with database.transaction() as tx:
                clock = SystemClock()
                who = await people.add_operator(tx, "cashier", Role.CASHIER, at=clock.now())
                assert who is not None
                assert await sign_in.set_password(tx, who, PASSWORD, clock, by=None) is None
            port = int(run.url.rpartition(":")[2])
            key = {"authorization": f"Bearer {key_of(port)}"}
            async with httpx.AsyncClient(base_url=run.url, headers=key, trust_env=False) as http:
                while (await http.post("/api/v1/meters/M1/read")).status_code != 200:
                    await asyncio.sleep(0.1)
            page = await page_of(browser, run, language="en", width="desk")
            await enter(page, Role.CASHIER, "/vend")
            await begun(page, "50")
            await page.click("button.big")
            await reaches(database, state)
            await run.stop(signal.SIGKILL)
            assert await booked(database) in (2, 3), "paid and reserved"
            page.faults.clear()  # type: ignore[attr-defined]  # its live connection broke
            await run.start()
            # Nobody loads the page again: it does so itself where its connection was never made.
            await expect(page.locator(".stages li.done")).to_have_count(4)
            page.faults.clear()  # type: ignore[attr-defined]
            await page.reload()
            await expect(page.locator(".stages li.done")).to_have_count(4)
            await seen(page, f"mid-sale-killed-{state}")
            meter = wire.line.bus.units[1].meter
            assert [one.amount_fen for one in meter.applied] == [5000]
            assert await booked(database) == 3, "payment, reserved, posted"
    finally:
        await wire.unplug()


async def test_the_session_ends_in_mid_sale(dsn: str, tmp_path: Path) -> None:
    """The press says so and books nothing; signed in again, the amount is there, and it is one."""
    async with open_shop(dsn, tmp_path) as shop, chromium() as browser:
        await let_in(shop)
        page = await page_of(browser, shop, language="zh", width="phone")
        await enter(page, Role.CASHIER, "/vend")
        await begun(page, "50")
        where = page.url
        services = shop.services
        async with services.database.transaction() as tx:
            await end_sessions(tx, shop.numbers[Role.CASHIER], services.clock.now())
        await page.click("button.big")
        await expect(page.locator("main, body").first).to_contain_text("登录已过期")
        page.faults.clear()  # type: ignore[attr-defined]  # the browser tells of the 401
        await seen(page, "mid-sale-session")
        assert await shop.booked() == 0
        await page.fill("#name", Role.CASHIER.value)
        await page.fill("#password", PASSWORD)
        await page.click("button.primary")
        await expect(page.locator("#amount")).to_have_value("50")
        assert page.url.split("?")[0] == where.split("?")[0], "the same order as before"
        await page.dblclick("button.big")
        await page.wait_for_url(SALE)
        await expect(page.locator(".stages li.done")).to_have_count(4)
        assert [one.amount_fen for one in shop.meter(1).applied] == [5000]
        assert await shop.booked() == 3
