"""A whole head-end with a key service, a meter on a line, its slot, and a cashier's token."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from headend.app import HeadEnd, running
from headend.domain.clock import SystemClock
from headend.domain.roles import Role
from headend.keys.limits import Caller
from headend.keys.log import KeyLog
from headend.keys.primitives import Algorithm, kcv
from headend.keys.records import CREDITS, CreditField, KeyRecord
from headend.keys.service import KeyService, serving
from headend.keys.vault import Vault
from headend.services.importing import import_into
from headend.settings import Settings
from headend.store import accounts, people
from headend.units.check_cards import AREA
from protocols.card_image import AMOUNT_AT
from protocols.key_call import Operation, Purpose
from simulators.card_meter import CardReader
from simulators.cards import Pulled, RfCard, VirtualCard
from tests.headend.cards.counter import NUMBER, MeterAccount
from tests.headend.house import QUICK, ddsy, line_of, site_on
from tests.headend.keys.boxes import PASSPHRASE, quick_kdf

PURPOSES = (Purpose.RECHARGE, Purpose.PARAMETERS, Purpose.WRITE_BACK, Purpose.CARD_ACCESS)
CREDIT_FEN_PER_DAY = 20_000


@dataclass
class Desk:
    """Everything at one counter."""

    head_end: HeadEnd
    http: httpx.AsyncClient
    tokens: dict[Role, str]
    slot: CardReader
    roots: dict[Purpose, bytes]
    log: Path

    @property
    def port(self) -> int:
        return self.head_end.http_port

    async def call(
        self,
        method: str,
        path: str,
        role: Role = Role.CASHIER,
        *,
        key: UUID | None = None,
        approver: Role | None = None,
        **body: Any,
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens[role]}"}
        headers["idempotency-key"] = str(key or uuid4())
        if approver is not None:
            headers["x-approver-token"] = self.tokens[approver]
        return await self.http.request(
            method, f"/api/v1/cards{path}", headers=headers, json=body or None
        )

    async def do(
        self, card: VirtualCard | None, action: str, role: Role = Role.CASHIER, **more: Any
    ) -> httpx.Response:
        """All the steps of one piece of work; the last answer."""
        key = more.pop("key", None) or uuid4()
        wish = {"action": action, "meter": "M1", **more}
        approver = wish.pop("approver", None)
        answer = await self.call("POST", "/sessions", role, key=key, approver=approver, **wish)
        while answer.status_code == 200 and "apdu" in answer.json():
            said: dict[str, Any]
            try:
                assert card is not None
                said = {"answer": card.apdu(bytes.fromhex(answer.json()["apdu"])).hex()}
            except Pulled:
                said = {"gone": True}
            answer = await self.call("POST", f"/sessions/{key}", role, **said)
        if card is not None:
            card.inserted_again()
        return answer

    async def done(self, card: VirtualCard | None, action: str, **more: Any) -> dict[str, Any]:
        answer = await self.do(card, action, **more)
        assert answer.status_code == 200, answer.text
        done: dict[str, Any] = answer.json()["done"]
        return done

    async def books(self) -> tuple[int, int]:
        """In the meter, free at the customer's (fen)."""
        services = self.head_end.services
        meter_id = services.lines.find_meter("M1").known.meter_id
        async with services.database.transaction() as tx:
            at = services.clock.now()
            meter = await accounts.account_of_meter(tx, meter_id, at)
            customer = await accounts.customer_of_meter(tx, meter_id, at)
            assert await accounts.sum_of_balances_fen(tx) == 0
            in_meter = await accounts.balance(tx, meter.account_id)
            free = await accounts.balance(tx, customer.account_id)
        return in_meter.posted_fen, free.available_fen


@asynccontextmanager
async def key_service(
    folder: Path, sock: Path, patch: pytest.MonkeyPatch
) -> AsyncIterator[dict[Purpose, bytes]]:
    """`headend keys serve` for a head-end of this process; the root keys it keeps."""
    quick_kdf(patch)
    roots = {purpose: os.urandom(16) for purpose in PURPOSES}
    vault = Vault.create(folder / "vault.json", PASSPHRASE)
    for purpose, root in roots.items():
        vault.add(_record(purpose, root), bytearray(root))
    with closing(KeyLog(folder / "key-log")) as log:
        keys = KeyService(vault, log, {os.getuid(): _caller()}, SystemClock())
        async with serving(keys, sock):
            yield roots


@asynccontextmanager
async def desk(
    dsn: str, folder: Path, patch: pytest.MonkeyPatch, *, clones_are_taken_back: bool = False
) -> AsyncIterator[Desk]:
    """M1 was read once; nobody has a card yet."""
    sock = folder / "keys.sock"
    wire = line_of("ddsy:1-2")
    await wire.plug()
    settings = Settings(
        data_folder=folder,
        database_url=dsn,
        http_port=0,
        dial_in_host="127.0.0.1",
        dial_in_port=0,
        key_service_socket=str(sock),
        card_area=AREA.decode(),
        clones_are_taken_back=clones_are_taken_back,
    )
    try:
        async with (
            key_service(folder, sock, patch) as roots,
            running(settings, pace=QUICK) as head_end,
        ):
            url = f"http://127.0.0.1:{head_end.http_port}"
            async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
                tokens, slot = await _moved_in(head_end, wire, roots)
                yield Desk(head_end, http, tokens, slot, roots, folder / "key-log")
    finally:
        await wire.unplug()


async def _moved_in(
    head_end: HeadEnd, wire: Any, roots: dict[Purpose, bytes]
) -> tuple[dict[Role, str], CardReader]:
    services = head_end.services
    await import_into(services.database, site_on(wire.port, (ddsy(1), ddsy(2))))
    async with asyncio.timeout(30):
        while "M1" not in services.lines.meters:
            await asyncio.sleep(0.02)
    at = services.clock.now()
    tokens = {}
    async with services.database.transaction() as tx:
        for role in Role:
            operator = await people.add_operator(tx, role.value, role, at=at)
            assert operator is not None
            tokens[role] = await people.add_token(
                tx, operator, "test", at=at, expires_at=at + timedelta(days=1)
            )
        await tx.execute("UPDATE meter SET meter_number = %s WHERE name = 'M1'", NUMBER)
    found = services.lines.find_meter("M1")
    assert await services.lines.lines["L1"].wait_up(30)
    await services.nights.read_now(found)
    await services.sink.flush()
    async with services.database.transaction() as tx:
        customer = await accounts.customer_of_meter(tx, found.known.meter_id, at)
    meter = wire.line.bus.units[1].meter
    slot = CardReader(
        NUMBER,
        AREA,
        roots[Purpose.RECHARGE],
        roots[Purpose.PARAMETERS],
        roots[Purpose.WRITE_BACK],
        account=MeterAccount(meter),  # type: ignore[arg-type]
        customer=f"{customer.account_id:012d}",
        now_s=int(datetime.now(UTC).timestamp()),
    )
    return tokens, slot


def _record(purpose: Purpose, root: bytes) -> KeyRecord:
    made = datetime(2026, 1, 1, tzinfo=UTC)
    money = purpose in CREDITS
    return KeyRecord(
        purpose=purpose,
        scope="site",
        version=1,
        algorithm=Algorithm.AES128,
        kcv=kcv(Algorithm.AES128, root),
        kcv_method=Algorithm.AES128.kcv_method,
        created_at=made,
        active_from=made,
        credit=CreditField(offset=AMOUNT_AT, length=4) if money else None,
        credit_fen_per_day=CREDIT_FEN_PER_DAY if money else None,
    )


def _caller() -> Caller:
    """What a head-end that makes cards may ask."""
    return Caller(
        name="head-end",
        uid=os.getuid(),
        calls_per_minute=60_000,
        allow=frozenset(
            {
                (Operation.MAC, Purpose.RECHARGE),
                (Operation.CHECK, Purpose.RECHARGE),
                (Operation.KCV, Purpose.RECHARGE),
                (Operation.MAC, Purpose.PARAMETERS),
                (Operation.CHECK, Purpose.PARAMETERS),
                (Operation.KCV, Purpose.PARAMETERS),
                (Operation.CHECK, Purpose.WRITE_BACK),
                (Operation.MAC, Purpose.CARD_ACCESS),
            }
        ),
    )


def uid(number: int) -> RfCard:
    """A blank card from the packet."""
    return RfCard(bytes((9, 9, 9, number)))
