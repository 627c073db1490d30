"""A terminal beside a line of two meters, a card desk, and the service behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from headend.domain.card_issues import CardIssue
from headend.domain.places import Gateway, GatewayKind, LinePlace
from headend.services.card_returns import CardReturns
from headend.services.cards import CardDesk
from headend.services.island_merge import IslandMerge
from headend.services.terminal_backs import TerminalBacks
from headend.services.terminal_caps import CapOffice, CapWish, device_of
from headend.services.terminal_cards import TerminalCards
from headend.services.terminals import Terminals
from headend.store import terminals
from headend.store.database import Database
from headend.units.check_cards import AREA, KitKeys
from headend.units.finding import find_units
from protocols.key_call import KeyCall, KeyResult, Purpose
from simulators.card_meter import device_key
from simulators.line_command import LineWish
from simulators.rf_terminal import Book, RfTerminal, TerminalCard
from simulators.serial_terminal import SerialTerminal
from simulators.wire import WireTiming
from tests.headend.cards.counter import ISSUER, NUMBER, Counter
from tests.headend.house import SHANGHAI, ddsy, site_on, small_house
from tests.headend.money.shop import PATIENCE_S, ScriptedBus, Shop, opened_shop

NAME, SECRET = "T1", b"terminal secret!"


@dataclass
class Stand:
    """Everything at one cabinet."""

    shop: Shop
    counter: Counter
    terminal: RfTerminal
    service: Terminals
    keys: KitKeys
    total_first_fen: int = 0
    task: asyncio.Task[None] | None = None

    async def card(self, fen: int = 5000) -> tuple[TerminalCard, CardIssue]:
        """A tenant's card with a sale on it."""
        card, serial = await self.counter.card()
        return await self.sold(card, serial, fen)

    async def sold(self, card: Any, serial: bytes, fen: int) -> tuple[TerminalCard, CardIssue]:
        """One more sale on a card, as it was written."""
        issue = await self.counter.sold(card, serial, fen)
        assert issue.purchase_count is not None
        return TerminalCard(serial.hex(), NUMBER, issue.purchase_count, fen, chip=card), issue

    async def cap(self, card_fen: int = 10_000, total_fen: int = 20_000) -> None:
        """A cap is issued and has arrived."""
        number = await self.cap_out(card_fen, total_fen)
        await self.until(lambda: (self.terminal.book.cap or {}).get("number") == number)

    async def cap_out(self, card_fen: int = 10_000, total_fen: int = 20_000) -> int:
        """A cap is issued and sent."""
        cap = await self.service.caps.issue(
            CapWish(
                terminal=NAME,
                time_zone=SHANGHAI,
                card_fen=card_fen,
                total_fen=total_fen,
                operator_id=self.shop.li,
                approver_id=self.shop.wang,
                reason="a radio that is often away",
            )
        )
        assert await self.service.send_cap("G1")
        return cap.number

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not done():
                await asyncio.sleep(0.01)

    def total(self, sold_fen: int) -> int:
        """What the meter's total shows once so much was sold to it."""
        return self.total_first_fen + sold_fen

    async def alone(self) -> None:
        """The link is cut."""
        await self.terminal.unplug()

    async def back(self) -> None:
        """The link is there again, and everything that can be told was told."""
        await self.terminal.plug()
        assert await self.shop.house.book.lines["L1"].wait_up(PATIENCE_S)

    async def log(self) -> list[str]:
        """The states of what was taken over, oldest first."""
        async with self.shop.database.transaction() as tx:
            return [one.state for one in reversed(await terminals.log_of(tx, NAME))]

    async def clashes(self) -> list[str]:
        async with self.shop.database.transaction() as tx:
            return [one.code for one in await terminals.clashes(tx)]

    def start(self) -> None:
        """The head-end's service runs."""
        self.task = asyncio.create_task(self.service.run())

    async def kill(self) -> None:
        """It dies where it stands."""
        assert self.task is not None
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@asynccontextmanager
async def stand(database: Database, folder: Path, wire: Path | None = None) -> AsyncIterator[Stand]:
    """The terminal is on-line; M1 is number 101 and was read once. `wire`: a serial port's name."""
    secret = folder / "T1.secret"
    secret.write_bytes(SECRET)
    wish = LineWish.parse(
        meters=["ddsy:1-2"], pty=None, tcp="127.0.0.1:0", baud=1_000_000, bits=10,
        turnaround_s=0.0, seed=1, faults="{}",
    )  # fmt: skip
    bus = ScriptedBus(wish.bus())
    bus.units[1].meter.number = NUMBER
    gateway = Gateway(
        name="G1",
        kind=GatewayKind.TERMINAL,
        registration=NAME,
        device=None if wire is None else str(wire),
        options={"secret": f"file:{secret}"},
    )
    line = LinePlace(name="L1", gateway="G1", reply_timeout_ms=300, reply_late_ms_max=400)
    site = replace(site_on(1, (ddsy(1, NUMBER), ddsy(2))), gateways=(gateway,), lines=(line,))
    keys = KitKeys()
    async with small_house(database, folder) as house:
        await house.book.listen("127.0.0.1", 0, sockets_max=10)
        await house.move_in(site)
        root = keys.roots[Purpose.TERMINAL_CAP]
        given: dict[str, Any] = {
            "name": NAME,
            "secret": SECRET,
            "now_s": lambda: 0.0,
            "meters": {NUMBER: 1},
            "cap_keys": {1: device_key(root, AREA, device_of(NAME))},
            "timing": WireTiming(baud=1_000_000, turnaround_s=0.0),
            "reconnect_s": 0.02,
            "book": Book(),
        }
        terminal = (
            RfTerminal(bus, host="127.0.0.1", port=house.book.dial_in_port, **given)
            if wire is None
            else SerialTerminal(wire, bus, beat_s=0.3, quiet_s=1.0, **given)
        )
        await terminal.plug()
        try:
            assert await house.book.lines["L1"].wait_up(PATIENCE_S)
            async with opened_shop(house, database, bus, cast(Any, terminal)) as shop:
                terminal._now_s = lambda: shop.clock.now().timestamp()
                at = _service(shop, keys, terminal)
                at.total_first_fen = shop.meter().total_purchased_fen
                house.book.dial_ins.on_said = at.service.take
                at.start()
                yield at
                await at.kill()
        finally:
            await terminal.unplug()


def service_of(shop: Shop, desk: CardDesk, keys: KitKeys) -> Terminals:
    async def ask(call: KeyCall) -> KeyResult:
        return keys(call)

    house, database, clock = shop.house, shop.database, shop.clock
    house.nights._clock = clock  # the looks of a night stand in the same time as the orders
    register, say = find_units(), house.book.dial_ins.say
    there = TerminalCards(database, clock, desk, register, ask, say=say, scope="site", area=AREA)
    return Terminals(
        database,
        house.book,
        shop.orders,
        returns=CardReturns(clock, desk),
        merge=IslandMerge(database, house.book, desk, house.nights, clock),
        caps=CapOffice(database, clock, ask, scope="site", area=AREA),
        cards_there=there,
        backs=TerminalBacks(database, register, ask, there, scope="site"),
        clock=clock,
    )


def _service(shop: Shop, keys: KitKeys, terminal: RfTerminal) -> Stand:
    register = find_units()
    unit = register.for_type("acrel_ddsy1352")
    assert unit is not None
    desk = CardDesk(shop.clock, shop.orders, register)
    returns = CardReturns(shop.clock, desk)
    counter = Counter(shop, desk, returns, unit.for_issuer(ISSUER), cast(Any, None), keys)
    return Stand(shop, counter, terminal, service_of(shop, desk, keys), keys)
