"""Recharge terminals: taps, purchases, recharge lists and island records, one after the other.

What a terminal says is put in a queue by the listener and worked through here. A purchase is an
order like any other: an open card sale goes over the line under its own count and amount, money out
of the balance takes the next count. The same id again is the same purchase, whoever was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from functools import partial
from typing import Any
from uuid import UUID

from headend.domain.books import NotBooked
from headend.domain.clock import Clock
from headend.domain.commands import Accepted, Rejected
from headend.domain.places import Gateway, GatewayKind
from headend.domain.problems import Problem
from headend.domain.purchases import SaleState
from headend.domain.roles import Role
from headend.services.card_returns import CardReturns
from headend.services.gateway_secrets import gateway_secret
from headend.services.island_merge import IslandMerge
from headend.services.lines import LineBook
from headend.services.looks import MeterAtWork
from headend.services.orders import Orders
from headend.services.selling import SaleWish, sell
from headend.services.terminal_backs import Back, Bearer, Tell, TerminalBacks
from headend.services.terminal_caps import CapOffice
from headend.services.terminal_cards import TerminalCards
from headend.services.terminal_stages import Stages
from headend.store import accounts, cards, people, sales, terminals
from headend.store.database import Database, Transaction
from protocols.stream import Said
from protocols.terminal import RECHARGES_MAX, BadBody, FrameType, message
from protocols.terminal_island import SERIAL_BYTES, log_key, sale_of

log = logging.getLogger(__name__)

SAID_MAX = 1000  # of all terminals together; what comes beyond is said again by its terminal
AT_CARDS_MAX = 200  # cards at terminals at one time; what comes beyond is said again
WAITING_S = 60.0  # between two looks at what waits

_WITH_A_CARD = frozenset({"TAP", "BUY", "ASK_RECHARGES"})


class Terminals:
    """The service behind every terminal."""

    def __init__(
        self,
        database: Database,
        book: LineBook,
        orders: Orders,
        *,
        returns: CardReturns,
        merge: IslandMerge,
        caps: CapOffice,
        cards_there: TerminalCards,
        backs: TerminalBacks,
        clock: Clock,
    ) -> None:
        self._database = database
        self._book = book
        self._orders = orders
        self._returns = returns
        self.merge = merge
        self._caps = caps
        self._clock = clock
        self._said: asyncio.Queue[tuple[str, Said]] = asyncio.Queue(SAID_MAX)
        self._cards_there = cards_there
        self._backs = backs
        self._stages = Stages(database)
        self._at_cards: set[asyncio.Task[None]] = set()
        self._one_card: dict[str, asyncio.Lock] = {}  # by terminal: it has one reader

    def take(self, gateway: str, said: Said) -> None:
        """What a terminal said, from the listener; never waits."""
        if said.what == "CARD_ANSWER":  # somebody waits for it who holds up nobody else
            self._cards_there.answered(gateway, said)
            return
        with contextlib.suppress(asyncio.QueueFull):
            self._said.put_nowait((gateway, said))

    async def run(self) -> None:
        """Work through what is said, and look at what waits; runs until cancelled."""
        try:
            while True:
                try:
                    async with asyncio.timeout(WAITING_S):
                        gateway, said = await self._said.get()
                except TimeoutError:
                    await self.merge.look_at_waiting()
                    continue
                if said.what in _WITH_A_CARD:
                    self._at_card(gateway, partial(self._answer, gateway, said))
                else:
                    await self._answer(gateway, said)
        finally:
            self._stages.close()
            for task in tuple(self._at_cards):
                task.cancel()

    def _at_card(self, gateway: str, work: Callable[[], Awaitable[None]]) -> bool:
        """A card takes its tenant's time, and no other terminal's. False: too many do."""
        if len(self._at_cards) >= AT_CARDS_MAX:
            return False

        async def one_at_a_time() -> None:
            async with self._one_card.setdefault(gateway, asyncio.Lock()):
                await work()

        task = asyncio.create_task(one_at_a_time(), name=f"card at {gateway}")
        self._at_cards.add(task)
        task.add_done_callback(self._at_cards.discard)
        return True

    async def _answer(self, gateway: str, said: Said) -> None:
        place = self.place(gateway)
        if place is None:
            return  # it was retired in this very moment
        try:
            match said.what:
                case "HELLO":
                    await self.send_cap(gateway)
                case "TAP" | "BUY":
                    await self._purchase(gateway, said)
                case "ASK_RECHARGES":
                    await self._recharges(gateway, said)
                case "ISLAND_SALE":
                    await self._island(gateway, place, said)
                case _:
                    log.info("terminal %s said %s, which nobody asked for", gateway, said.what)
        except Problem as problem:
            self._no(gateway, said, problem)
        except (BadBody, ValueError):
            self._no(gateway, said, Problem("terminal-bad-frame", terminal=gateway))
        except Exception:
            # No answer: it asks again under the same id, and nothing is done twice.
            log.exception("what terminal %s said was not worked through", gateway)

    def place(self, gateway: str) -> Gateway | None:
        """The terminal of that name in the places."""
        for at_work in self._book.lines.values():
            known = at_work.known.gateway
            if known.name == gateway and known.kind is GatewayKind.TERMINAL:
                return known
        return None

    def _say(self, gateway: str, kind: FrameType, said: Said, **fields: Any) -> None:
        self._book.dial_ins.say(gateway, message(kind, said.sequence, **fields))

    def _no(self, gateway: str, said: Said, problem: Problem) -> None:
        kind = {
            "ISLAND_SALE": FrameType.ISLAND_TAKEN,
            "ASK_RECHARGES": FrameType.RECHARGES,
        }.get(said.what, FrameType.BOUGHT)
        fields: dict[str, Any] = {"id": said.fields["id"]} if _is_text(said.fields, "id") else {}
        fields |= {"why": problem.code, "zh": problem.text("zh"), "en": problem.text("en")}
        self._say(gateway, kind, said, **fields)

    # ---- a card is there -------------------------------------------------------------------------

    async def _purchase(self, gateway: str, said: Said) -> None:
        serial, tap_id = _serial(said.fields), UUID(str(said.fields.get("id")))
        async with self._database.transaction() as tx:
            meter = await self._whose(tx, gateway, serial)
            known = await terminals.tap(tx, tap_id)
        seen = None
        if known is None:  # said again, its card was proved when it was said first
            seen = await self._cards_there.proved(gateway, said, serial, meter.known.meter_type)
        async with self._database.transaction() as tx:
            identified = await self._identified(tx, meter)
        self._say(gateway, FrameType.IDENTIFIED, said, id=str(tap_id), **identified)
        bearer = await self._backs.bearer(gateway, said, serial, meter, seen)
        if known is not None:
            if known[:2] != (gateway, serial):
                raise Problem("terminal-bad-frame", terminal=gateway)
            self._follow(gateway, said, tap_id, known[2], bearer)
            return
        if said.what == "TAP":
            command_id = await self._tapped(gateway, tap_id, serial, meter)
        else:
            command_id = await self._bought(gateway, tap_id, serial, meter, said.fields)
        if command_id is not None:
            self._follow(gateway, said, tap_id, command_id, bearer)
            return
        tell = self._tell(gateway, said, tap_id)
        if bearer is not None and await self._backs.is_due(bearer):
            tell(stage="nothing", hold=True)
            self._write_back(bearer, tell)
        else:
            tell(stage="nothing")

    async def _whose(self, tx: Transaction, gateway: str, serial: bytes) -> MeterAtWork:
        card = await cards.card(tx, serial)
        if card is None or card.meter_id is None:
            raise Problem("terminal-card-unknown")
        if card.ended_at is not None:
            raise Problem("terminal-card-ended")
        meter = self._book.by_id.get(card.meter_id)
        here = {
            at_work.site
            for at_work in self._book.lines.values()
            if at_work.known.gateway.name == gateway
        }
        if meter is None or meter.known.site not in here:
            raise Problem("terminal-card-elsewhere")
        return meter

    async def _identified(self, tx: Transaction, meter: MeterAtWork) -> dict[str, Any]:
        known = meter.known
        customer = await accounts.customer_of_meter(tx, known.meter_id, self._clock.now())
        held = await accounts.balance(tx, customer.account_id)
        sale = await sales.open_of_meter(tx, known.meter_id)
        return {
            "room": known.room or "",
            "meter": known.name,
            "meter_number": known.meter_number or "",
            "balance_fen": held.available_fen,
            "waiting_fen": 0 if sale is None else sale.amount_fen,
        }

    async def _operator(self, tx: Transaction, gateway: str) -> int:
        """The terminal's own name in the books; it has no token and may do nothing else."""
        name = f"terminal {gateway}"
        found = await people.find_operator(tx, name)
        if found is None:
            await people.add_operator(tx, name, Role.INTEGRATOR, at=self._clock.now(), sites=())
            found = await people.find_operator(tx, name)
        assert found is not None, "just added"
        return found.operator_id

    async def _tapped(
        self, gateway: str, tap_id: UUID, serial: bytes, meter: MeterAtWork
    ) -> UUID | None:
        """The sale this card carries goes over the line, under its own count; None: it has none."""
        async with self._database.transaction() as tx:
            meter_id = meter.known.meter_id
            await sales.lock_meter(tx, meter_id)
            sale = await sales.open_of_meter(tx, meter_id)
            issue = await cards.on_card(tx, serial)
            if sale is None or issue is None or issue.sale_id != sale.sale_id:
                return None
            operator_id = await self._operator(tx, gateway)
            moved = await self._returns.move_to_remote(
                tx, meter_id, operator_id=operator_id, reason=f"tapped at terminal {gateway}"
            )
            if isinstance(moved, Rejected):
                raise Problem(moved.why.value, meter=meter.known.name, detail=moved.detail)
            command_id = moved.command.command_id
            await terminals.add_tap(
                tx, tap_id, gateway, serial, command_id=command_id, at=self._clock.now()
            )
            return command_id

    async def _bought(
        self,
        gateway: str,
        tap_id: UUID,
        serial: bytes,
        meter: MeterAtWork,
        fields: Mapping[str, Any],
    ) -> UUID:
        """So much out of the balance, under the meter's next count; the tap's id is the order's."""
        amount_fen = fields.get("amount_fen")
        if type(amount_fen) is not int:
            raise BadBody("an amount is a whole number of fen")
        async with self._database.transaction() as tx:
            operator_id = await self._operator(tx, gateway)
        sold = await sell(
            self._database,
            self._orders,
            self._clock,
            SaleWish(
                command_id=tap_id,
                meter_id=meter.known.meter_id,
                amount_fen=amount_fen,
                operator_id=operator_id,
                reason=f"bought at terminal {gateway}",
                from_balance=True,
            ),
        )
        if not isinstance(sold, Accepted):
            assert isinstance(sold, Rejected | NotBooked)
            raise Problem(sold.why.value, meter=meter.known.name, detail=sold.detail)
        async with self._database.transaction() as tx:
            await terminals.add_tap(
                tx, tap_id, gateway, serial, command_id=tap_id, at=self._clock.now()
            )
        return tap_id

    def _tell(self, gateway: str, said: Said, tap_id: UUID) -> Tell:
        return partial(self._say, gateway, FrameType.BOUGHT, said, id=str(tap_id))

    def _follow(
        self, gateway: str, said: Said, tap_id: UUID, command_id: UUID, bearer: Bearer | None
    ) -> None:
        tell = self._tell(gateway, said, tap_id)
        landed = None if bearer is None else partial(self._write_back, bearer, tell)
        self._stages.follow(tap_id, command_id, tell, landed)

    def _write_back(self, bearer: Bearer, tell: Tell) -> None:
        """Once the reader is free: another tenant may have tapped meanwhile."""
        if not self._at_card(bearer.gateway, partial(self._backs.write, bearer, tell)):
            tell(stage=Back.NOT_WRITTEN.value)

    async def _recharges(self, gateway: str, said: Said) -> None:
        serial = _serial(said.fields)
        async with self._database.transaction() as tx:
            meter = await self._whose(tx, gateway, serial)
        await self._cards_there.proved(gateway, said, serial, meter.known.meter_type)
        async with self._database.transaction() as tx:
            rows = await recharges_of(tx, meter.known.meter_id)
        self._say(gateway, FrameType.RECHARGES, said, recharges=rows)

    # ---- it was alone ----------------------------------------------------------------------------

    async def _island(self, gateway: str, place: Gateway, said: Said) -> None:
        sale = sale_of(said.fields)
        secret = gateway_secret(place.options)
        if secret is None:
            raise BadBody("the site file names no credential")
        terminal = place.registration or ""
        merged = await self.merge.merge(gateway, terminal, log_key(secret.key()), sale)
        fields: dict[str, Any] = {"clash": None, "next": merged.next_sequence}
        if merged.clash is not None:
            problem = Problem(merged.clash.value)
            fields |= {
                "clash": problem.code,
                "zh": problem.text("zh"),
                "en": problem.text("en"),
            }
        self._say(gateway, FrameType.ISLAND_TAKEN, said, number=sale.sequence, **fields)
        await self.merge.look_at_waiting()

    async def send_cap(self, gateway: str) -> bool:
        """Give a terminal its newest cap, if that is still good; False: it has none or is away."""
        place = self.place(gateway)
        if place is None:
            return False
        async with self._database.transaction() as tx:
            newest = await terminals.caps(tx, place.registration or "", limit=1)
        if not newest or newest[0].cap.valid_until_s <= self._clock.now().timestamp():
            return False
        issued = newest[0]
        cap = issued.cap
        return self._book.dial_ins.say(
            gateway,
            message(
                FrameType.CAP, 0, number=cap.number, terminal=cap.terminal, day=cap.day,
                card_fen=cap.card_fen, total_fen=cap.total_fen, first_sequence=cap.first_sequence,
                valid_until_s=cap.valid_until_s, key_version=cap.key_version, mac=issued.mac.hex(),
            ),
        )  # fmt: skip

    @property
    def caps(self) -> CapOffice:
        """Who issues caps."""
        return self._caps


async def recharges_of(tx: Transaction, meter_id: int) -> list[dict[str, Any]]:
    """The last twenty recharges of a meter, newest first, by the books."""
    landed = [
        sale
        for sale in await sales.of_meter(tx, meter_id, limit=100)
        if sale.state is SaleState.LANDED and sale.closed_at is not None
    ]
    return [
        {
            "at": sale.closed_at.astimezone(UTC).isoformat(timespec="seconds"),
            "amount_fen": sale.amount_fen,
            "purchase_count": sale.purchase_count,
            "channel": sale.channel,
        }
        for sale in landed[:RECHARGES_MAX]
        if sale.closed_at is not None
    ]


def _is_text(fields: Mapping[str, Any], key: str) -> bool:
    return isinstance(fields.get(key), str)


def _serial(fields: Mapping[str, Any]) -> bytes:
    serial = bytes.fromhex(str(fields.get("serial")))
    if len(serial) != SERIAL_BYTES:
        raise BadBody("a card serial has 8 bytes")
    return serial
