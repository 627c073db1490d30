"""A whole head-end with a key service and a recharge terminal at a cabinet, and people's tokens."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from headend.app import HeadEnd, running
from headend.domain.clock import SystemClock
from headend.domain.places import Gateway, GatewayKind, LinePlace
from headend.domain.roles import Role
from headend.keys.log import KeyLog
from headend.keys.records import CreditField, KeyRecord
from headend.keys.service import KeyService, serving
from headend.keys.vault import Vault
from headend.services.importing import import_into
from headend.services.terminal_caps import device_of
from headend.settings import Settings
from headend.store import accounts, people
from headend.units.check_cards import AREA
from protocols.key_call import Operation, Purpose
from simulators.card_meter import CardReader, device_key
from simulators.cards import RfCard, VirtualCard
from simulators.line_command import LineWish
from simulators.modbus_meter import Bus
from simulators.rf_terminal import Book, RfTerminal, TerminalCard
from simulators.wire import WireTiming
from tests.headend.cards import desk
from tests.headend.cards.counter import NUMBER, MeterAccount
from tests.headend.house import QUICK, ddsy, site_on
from tests.headend.keys.boxes import PASSPHRASE, quick_kdf

NAME, SECRET = "T1", b"terminal secret!"
PATIENCE_S = 60.0


@dataclass
class Whole:
    """Everything, from the tenant's card to the browser."""

    head_end: HeadEnd
    http: httpx.AsyncClient
    tokens: dict[Role, str]
    second: str  # the token of another manager
    terminal: RfTerminal
    bus: Bus
    roots: dict[Purpose, bytes]
    folder: Path
    vault: Vault

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.head_end.http_port}"

    async def call(
        self, method: str, path: str, role: Role, *, approver: str = "", **body: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens[role]}"}
        headers["idempotency-key"] = str(uuid4())
        if approver:
            headers["x-approver-token"] = approver
        return await self.http.request(method, f"/api/v1{path}", headers=headers, json=body or None)

    async def told(self, method: str, path: str, role: Role, **more: Any) -> Any:
        answer = await self.call(method, path, role, **more)
        assert not answer.is_error, answer.text
        return answer.json()

    async def card(self, fen: int, card: VirtualCard | None = None) -> TerminalCard:
        """A purchase on a card, sold at the desk through the API."""
        chip = card or RfCard(os.urandom(4))
        key, wish = str(uuid4()), {
            "action": "purchase", "meter": "M1", "amount_fen": fen, "new_card": True,
        }  # fmt: skip
        step = await self._at_desk("/cards/sessions", key, wish)
        while "apdu" in step:
            said = {"answer": chip.apdu(bytes.fromhex(step["apdu"])).hex()}
            step = await self._at_desk(f"/cards/sessions/{key}", key, said)
        done = step["done"]
        return TerminalCard(done["serial"], NUMBER, done["purchase_count"], fen, chip=chip)

    async def _at_desk(self, path: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.tokens[Role.CASHIER]}", "idempotency-key": key}
        answer = await self.http.post(f"/api/v1{path}", headers=headers, json=body)
        assert not answer.is_error, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def slot(self) -> CardReader:
        """The slot in M1, as its maker built it."""
        services = self.head_end.services
        meter_id = services.lines.find_meter("M1").known.meter_id
        async with services.database.transaction() as tx:
            customer = await accounts.customer_of_meter(tx, meter_id, services.clock.now())
        return CardReader(
            NUMBER,
            AREA,
            self.roots[Purpose.RECHARGE],
            self.roots[Purpose.PARAMETERS],
            self.roots[Purpose.WRITE_BACK],
            account=MeterAccount(self.bus.units[1].meter),  # type: ignore[arg-type]
            customer=f"{customer.account_id:012d}",
            now_s=int(time.time()),
        )

    def record(self, purpose: Purpose, version: int = 1) -> KeyRecord:
        """What is known of a key now."""
        return next(
            one for one in self.vault.records() if (one.purpose, one.version) == (purpose, version)
        )

    async def tap(self, card: TerminalCard) -> str:
        """To its end; what the screen says then."""
        self.terminal.tap(card)
        await self.until(lambda: self.terminal.is_at_rest)
        return self.terminal.verdict

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not done():
                await asyncio.sleep(0.02)


@asynccontextmanager
async def whole(
    dsn: str, folder: Path, patch: pytest.MonkeyPatch, **more: Any
) -> AsyncIterator[Whole]:
    """The terminal is on-line and M1 was read once; nobody has a card yet."""
    quick_kdf(patch)
    purposes = (*desk.PURPOSES, Purpose.TERMINAL_CAP, Purpose.TERMINAL_WRITE_BACK)
    roots = {purpose: os.urandom(16) for purpose in purposes}
    sock = folder / "keys.sock"
    vault = Vault.create(folder / "vault.json", PASSPHRASE)
    for purpose, root in roots.items():
        record = desk._record(purpose, root)
        if purpose is Purpose.TERMINAL_CAP:
            record = replace(record, credit=CreditField(offset=0, length=4))
        vault.add(record, bytearray(root))
    caller = desk._caller()
    caps = {(Operation.MAC, Purpose.TERMINAL_CAP), (Operation.KCV, Purpose.TERMINAL_CAP)}
    backs = {
        (operation, Purpose.TERMINAL_WRITE_BACK)
        for operation in (Operation.MAC, Operation.CHECK, Operation.KCV)
    }
    caller = replace(caller, allow=caller.allow | caps | backs)
    settings = Settings(
        data_folder=folder,
        database_url=dsn,
        http_port=0,
        dial_in_host="127.0.0.1",
        dial_in_port=0,
        key_service_socket=str(sock),
        card_area=AREA.decode(),
        **more,
    )
    with closing(KeyLog(folder / "key-log")) as log:
        keys = KeyService(vault, log, {os.getuid(): caller}, SystemClock())
        async with serving(keys, sock), running(settings, pace=QUICK) as head_end:
            url = f"http://127.0.0.1:{head_end.http_port}"
            async with (
                httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http,
                _at_the_cabinet(head_end, folder, roots) as (terminal, bus),
            ):
                tokens, second = await _people(head_end)
                yield Whole(head_end, http, tokens, second, terminal, bus, roots, folder, vault)


@asynccontextmanager
async def _at_the_cabinet(
    head_end: HeadEnd, folder: Path, roots: dict[Purpose, bytes]
) -> AsyncIterator[tuple[RfTerminal, Bus]]:
    secret = folder / "T1.secret"
    secret.write_bytes(SECRET)
    gateway = Gateway(
        name="G1",
        kind=GatewayKind.TERMINAL,
        registration=NAME,
        options={"secret": f"file:{secret}"},
    )
    line = LinePlace(name="L1", gateway="G1", reply_timeout_ms=300, reply_late_ms_max=400)
    services = head_end.services
    site = replace(site_on(1, (ddsy(1, NUMBER), ddsy(2))), gateways=(gateway,), lines=(line,))
    await import_into(services.database, site)
    async with asyncio.timeout(PATIENCE_S):
        while "M1" not in services.lines.meters:
            await asyncio.sleep(0.02)
    wish = LineWish.parse(
        meters=["ddsy:1-2"], pty=None, tcp="127.0.0.1:0", baud=1_000_000, bits=10,
        turnaround_s=0.0, seed=1, faults="{}",
    )  # fmt: skip
    bus = wish.bus()
    bus.units[1].meter.number = NUMBER
    terminal = RfTerminal(
        bus,
        name=NAME,
        secret=SECRET,
        host="127.0.0.1",
        port=services.lines.dial_in_port,
        now_s=time.time,
        meters={NUMBER: 1},
        cap_keys={1: device_key(roots[Purpose.TERMINAL_CAP], AREA, device_of(NAME))},
        timing=WireTiming(baud=1_000_000, turnaround_s=0.0),
        reconnect_s=0.05,
        book=Book(),
    )
    await terminal.plug()
    try:
        assert await services.lines.lines["L1"].wait_up(PATIENCE_S)
        await services.nights.read_now(services.lines.find_meter("M1"))
        await services.sink.flush()
        yield terminal, bus
    finally:
        await terminal.unplug()


async def _people(head_end: HeadEnd) -> tuple[dict[Role, str], str]:
    services, tokens = head_end.services, {}
    at = services.clock.now()

    async def token(name: str, role: Role) -> str:
        operator = await people.add_operator(tx, name, role, at=at)
        assert operator is not None
        return await people.add_token(
            tx, operator, "test", at=at, expires_at=at + timedelta(days=1)
        )

    async with services.database.transaction() as tx:
        for role in Role:
            tokens[role] = await token(role.value, role)
        return tokens, await token("second manager", Role.MANAGER)
