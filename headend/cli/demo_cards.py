"""Cards in the demonstration: tenants, a desk behind the API, slots in the simulated meters.

Each tenant walks one way a card can go. The desk's reader is this program: it carries commands
between the API and a virtual card, as `headend card` does. What the meters credited is asked of
their own books.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from headend.app import HeadEnd
from headend.cli.console import out, say
from headend.cli.demo_keys import LOG, METER_KEYS, SOCKET
from headend.domain.problems import Problem
from headend.keys.log import verify
from headend.services.reconcile import reconcile_all
from headend.store import people
from simulators.cards import RfCard

AMOUNT_FEN = 3000
READY_S_MAX = 60.0  # the keys are long ready when they are wanted; a loaded machine may need more
SETTLE_S_MAX = 60.0
LOOK_S = 0.1
DONE, ALREADY = 0, 1  # what a slot shows (docs/card-format.md)


@dataclass(slots=True)
class CardDeals:
    """What was done with cards, and what became of it."""

    sold: int = 0
    landed: int = 0
    moved: int = 0
    lost_replaced: int = 0
    burned: int = 0
    differences: int = 0

    def record(self) -> dict[str, int]:
        """As promised by `headend demo --once --json`."""
        return asdict(self)


@dataclass(slots=True)
class CardWalks:
    """The result and what was not as it must be."""

    deals: CardDeals = field(default_factory=CardDeals)
    faults: list[str] = field(default_factory=list)


@asynccontextmanager
async def key_service(folder: Path) -> AsyncIterator[Path]:
    """The key service as a child process; gives its socket, which is there soon."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headend.cli.demo_keys", str(folder)),
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        yield folder / SOCKET
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
        await child.wait()


@dataclass
class Tenant:
    """One tenant at the desk and at the meter."""

    name: str
    walks: CardWalks
    http: httpx.AsyncClient
    control: str
    number: int
    cards: int = 0

    @property
    def deals(self) -> CardDeals:
        return self.walks.deals

    def new_card(self) -> RfCard:
        """From the packet."""
        self.cards += 1
        return RfCard(bytes((0x0D, self.number, self.cards, 0x01)))

    async def at_desk(self, card: RfCard, action: str, **more: Any) -> dict[str, Any]:
        """All steps of one piece of work with the card on the reader. Raises Problem."""
        wish = {"action": action, "meter": self.name, "reason": "demonstration", **more}
        key = str(uuid4())
        card.inserted_again()
        headers = {"idempotency-key": key}
        step = await self._post("/sessions", wish, headers)
        while "apdu" in step:
            said = card.apdu(bytes.fromhex(step["apdu"])).hex()
            step = await self._post(f"/sessions/{key}", {"answer": said}, {})
        done: dict[str, Any] = step["done"]
        return done

    async def on_paper(self, what: str) -> str:
        """Move or burn; the state in which its order ended."""
        wish = {"meter": self.name, "reason": "demonstration"}
        row = await self._post(f"/{what}", wish, {"idempotency-key": str(uuid4())})
        async with asyncio.timeout(SETTLE_S_MAX):
            while row["state"] not in ("confirmed", "refused", "expired", "cancelled"):
                await asyncio.sleep(LOOK_S)
                answer = await self.http.get(f"/api/v1/commands/{row['command_id']}")
                row = answer.json()
        state: str = row["state"]
        return state

    async def _post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> dict[str, Any]:
        answer = await self.http.post(f"/api/v1/cards{path}", json=body, headers=dict(headers))
        told: dict[str, Any] = answer.json()
        if answer.is_error:
            raise Problem("demo-failed", detail=f"{self.name}: {told.get('detail', told)}")
        return told

    async def hold(self, card: RfCard) -> int:
        """To the slot of the meter; the reason it shows."""
        told = await ask_town(self.control, do="hold", name=self.name, memory=card.memory.hex())
        card.memory[:] = bytes.fromhex(told["memory"])
        reason: int = told["reason"]
        return reason

    async def buys(self, card: RfCard) -> None:
        """A purchase on this card."""
        done = await self.at_desk(card, "purchase", amount_fen=AMOUNT_FEN, new_card=True)
        self.deals.sold += 1
        self.must(done["state"] == "issued", f"its card is {done['state']}")

    async def lands(self, card: RfCard) -> None:
        """Held to the meter, and what it wrote back is read."""
        self.must(await self.hold(card) == DONE, "its meter did not take the card")
        read = await self.at_desk(card, "read")
        self.must(read["landed_fen"] == AMOUNT_FEN, f"its card proved {read['landed_fen']} fen")
        self.deals.landed += 1

    def must(self, holds: bool, otherwise: str) -> None:
        """Note what is not as it must be."""
        if not holds:
            self.walks.faults.append(f"{self.name}: {otherwise}")


async def _twice(tenant: Tenant) -> int:
    card = tenant.new_card()
    for _ in range(2):
        await tenant.buys(card)
        await tenant.lands(card)
    return 2 * AMOUNT_FEN


async def _moved(tenant: Tenant) -> int:
    card = tenant.new_card()
    await tenant.buys(card)
    tenant.must(await tenant.on_paper("move") == "confirmed", "its move was not confirmed")
    tenant.deals.moved += 1
    tenant.must(await tenant.hold(card) == ALREADY, "its card was not met by an equal count")
    return AMOUNT_FEN


async def _replaced(tenant: Tenant) -> int:
    lost, another = tenant.new_card(), tenant.new_card()
    await tenant.buys(lost)
    await tenant.at_desk(another, "replacement")
    tenant.deals.lost_replaced += 1
    await tenant.lands(another)
    tenant.must(await tenant.hold(lost) != DONE, "its lost card credited once more")
    return AMOUNT_FEN


async def _burned(tenant: Tenant) -> int:
    card = tenant.new_card()
    await tenant.buys(card)
    tenant.must(await tenant.on_paper("burn") == "confirmed", "its burn was not confirmed")
    tenant.deals.burned += 1
    tenant.must(await tenant.hold(card) == ALREADY, "its burned card was not met by an equal count")
    return 0


_WALKS = (_twice, _moved, _replaced, _burned)


async def deal_cards(head_end: HeadEnd, truth: dict[str, Any], keys: Path) -> CardWalks:
    """Fit slots, walk every way at once, compare the meters' own books with what was paid."""
    walks = CardWalks()
    services = head_end.services
    async with served(head_end, keys) as http:
        tenants = [
            Tenant(name, walks, http, truth["control"], number)
            for number, name in enumerate(_with_slots(truth), start=1)
        ]
        await asyncio.gather(
            *(_walked(tenant, keys, walk) for tenant, walk in zip(tenants, _WALKS, strict=True))
        )
    for tenant in tenants:
        await services.nights.read_now(services.lines.find_meter(tenant.name))
    await services.sink.flush()
    compared = await reconcile_all(services.database, services.clock)
    walks.deals.differences = len(compared.differences)
    report = verify(keys / LOG)
    if report.fault is not None or not report.lines:
        walks.faults.append(f"the log of the key service: {report.fault or 'is empty'}")
    if walks.deals.differences:
        walks.faults.append(f"meters and books differ after cards: {compared.differences}")
    return walks


@asynccontextmanager
async def served(head_end: HeadEnd, keys: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The API as the manager of the demonstration sees it, once the keys are there."""
    services = head_end.services
    await _ready(keys)
    at = services.clock.now()
    async with services.database.transaction() as tx:
        manager = await people.find_operator(tx, "demo manager")
        assert manager is not None, "who sold and cut"
        token = await people.add_token(
            tx, manager, "demonstration", at=at, expires_at=at + timedelta(hours=1)
        )
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{head_end.http_port}",
        headers={"authorization": f"Bearer {token}"},
        timeout=SETTLE_S_MAX,
        trust_env=False,
    ) as http:
        yield http


async def _walked(tenant: Tenant, keys: Path, walk: Any) -> None:
    await ask_town(tenant.control, do="fit_slot", name=tenant.name, keys=str(keys / METER_KEYS))
    before = await ask_town(tenant.control, do="meter", name=tenant.name)
    paid_fen = await walk(tenant)
    after = await ask_town(tenant.control, do="meter", name=tenant.name)
    credited_fen = after["total_purchased_fen"] - before["total_purchased_fen"]
    tenant.must(credited_fen == paid_fen, f"credited {credited_fen} fen for {paid_fen}")


def _with_slots(truth: dict[str, Any]) -> list[str]:
    """Healthy meters with light, one for each walk, on the line that answers soonest."""
    quick = {line["name"] for line in truth["lines"] if line["sold"] and line["road"] == "tcp"}
    names = [
        meter["name"]
        for meter in truth["meters"]
        if meter["line"] in quick
        and meter["type"] in ("acrel_ddsy1352", "acrel_dtsy1352")
        and meter["gap"] is None
        and not (meter["dark"] or meter["cut"])
    ]
    if len(names) < len(_WALKS):
        raise Problem("demo-failed", detail="too few meters of this town take cards")
    return names[: len(_WALKS)]


async def _ready(keys: Path) -> None:
    until_s = asyncio.get_running_loop().time() + READY_S_MAX
    while not (keys / SOCKET).exists():
        if asyncio.get_running_loop().time() > until_s:
            raise Problem("demo-failed", detail="the key service does not start")
        await asyncio.sleep(LOOK_S)


async def ask_town(control: str, **request: Any) -> dict[str, Any]:
    """One act of the town's control socket. Raises Problem."""
    reader, writer = await asyncio.open_unix_connection(control)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
    finally:
        writer.close()
        await writer.wait_closed()
    if not answer.pop("ok"):
        raise Problem("demo-failed", detail=f"the town: {answer['error']}")
    return answer


def show_cards(walks: CardWalks) -> None:
    """One line."""
    told = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in walks.deals.record().items())
    out.print(f"{say('卡', 'cards')}: {told}")
