"""One visit of a tenant with a card: at the desk, on paper, at the meter.

The cashier says the same wish again, with the same id, whenever a card was pulled or the head-end
died meanwhile; what the books have then is the receipt.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID, uuid5

from headend.domain.commands import Accepted
from headend.domain.problems import Problem
from headend.services.card_counter import AtDesk, CardCounter, Work
from headend.services.cards import CardSale
from headend.services.decisions import Decisions
from headend.store.database import Database, Transaction
from headend.store.errors import DatabaseAway
from headend.trial.card_desk import BROWN_OUT_SHARE, CardDay, Slot
from headend.trial.crashes import Process
from headend.trial.ground import Ground
from headend.trial.roads import CARD_METERS
from headend.trial.world import World
from headend.units.check_cards import foreign_card
from protocols.card_apdu import CardError
from protocols.card_image import CardKind
from simulators.cards import RfCard

REASON = "trial"
TRIES_MAX = 4  # of a cashier whose card was pulled
_IDS = UUID("3b0f4f7e-58a3-4c0c-8f2c-0b1d6b6b9a11")


class Counter(Protocol):
    """How somebody gets one answer from the head-end, however often it dies meanwhile."""

    paid_fen: dict[str, int]

    async def decided(self, work: Callable[[Transaction], Awaitable[Any]]) -> Any: ...

    async def asked(self, work: Callable[[Process, Database], Coroutine[Any, Any, Any]]) -> Any: ...


@dataclass
class Tenant:
    """One tenant, his meter's slot and his cards."""

    meter: str
    meter_type: str
    slot: Slot
    card: RfCard | None = None  # in his pocket
    lost: list[RfCard] = field(default_factory=list)
    #: what he copied is still on his card: nothing but a burn is safe against him (decision 45)
    has_copy: bool = False
    #: a card is in one place at a time
    hands: asyncio.Lock = field(default_factory=asyncio.Lock)


class CardVisits:
    """What tenants with cards and their cashier can do in one seed."""

    def __init__(self, world: World, ground: Ground, counter: Counter) -> None:
        self.objections: list[str] = []
        self._world = world
        self._ground = ground
        self._counter = counter
        self._chance = random.Random(f"{world.seed} cards")
        self._day = CardDay(self._chance)
        self._decisions = Decisions(world.clock)
        self._made = 0
        self._tenants = [
            Tenant(name, meter_type, Slot(world, world.meters[name]))
            for name, meter_type in CARD_METERS.items()
            if world.has_cards and name in world.meters
        ]

    # ---- at the meter ---------------------------------------------------------------------------

    async def _hold(self, tenant: Tenant) -> None:
        async with tenant.hands:
            if tenant.card is not None:
                self._held(tenant, tenant.card, "his card")

    async def _find(self, tenant: Tenant) -> None:
        """A lost card, or a copy, is found and tried."""
        async with tenant.hands:
            for card in tenant.lost:
                self._held(tenant, card, "a card that was lost")

    def _held(self, tenant: Tenant, card: RfCard, what: str) -> None:
        card.inserted_again()
        brown_out = self._chance.random() < BROWN_OUT_SHARE
        reason = tenant.slot.hold(card, brown_out=brown_out)
        self._say(tenant, f"holds {what} to the meter: {reason}")

    async def _lose(self, tenant: Tenant) -> None:
        async with tenant.hands:
            if tenant.card is not None:
                tenant.lost.append(tenant.card)
                tenant.card = None
                self._say(tenant, "loses his card")

    async def _copy(self, tenant: Tenant) -> None:
        async with tenant.hands:
            if tenant.card is not None:
                tenant.lost.append(copy.deepcopy(tenant.card))
                tenant.has_copy = True

    # ---- at the desk ----------------------------------------------------------------------------

    async def _buy(self, tenant: Tenant, amount_fen: int) -> None:
        async with tenant.hands:
            card = tenant.card or self._blank()
            wish = self._wish(tenant, amount_fen, CardKind.PURCHASE)

            def sell(counter: CardCounter, at: AtDesk) -> Work:
                return counter.sell(at, wish, from_balance=False, new_card=True)

            answer = await self._patiently(tenant, card, sell)
            if self._was_begun(wish.issue_id):
                paid_fen = self._counter.paid_fen.get(tenant.meter, 0)
                self._counter.paid_fen[tenant.meter] = paid_fen + amount_fen
                tenant.card = card
                tenant.has_copy = False
            self._say(tenant, f"buys {amount_fen} fen: {_short(answer)}")

    async def _reissue(self, tenant: Tenant) -> None:
        async with tenant.hands:
            card = tenant.card or self._blank()
            wish = self._wish(tenant, 0, CardKind.REPLACEMENT)
            answer = await self._patiently(
                tenant, card, lambda counter, at: counter.replaced(at, wish)
            )
            if self._was_begun(wish.issue_id):
                tenant.card = card
            self._say(tenant, f"gets another card: {_short(answer)}")

    async def _read(self, tenant: Tenant) -> None:
        async with tenant.hands:
            if tenant.card is not None:
                answer = await self._at_desk(tenant, tenant.card, CardCounter.read)
                self._say(tenant, f"has his card read: {_short(answer)}")
                if isinstance(answer, dict) and _is_pending(answer):
                    answer = await self._patiently(tenant, tenant.card, CardCounter.finished)
                    self._say(tenant, f"has it written at last: {_short(answer)}")

    async def _clear(self, tenant: Tenant) -> None:
        async with tenant.hands:
            if tenant.card is not None:
                answer = await self._at_desk(tenant, tenant.card, CardCounter.cleared)
                self._say(tenant, f"has his card cleared: {_short(answer)}")

    async def _take_back(self, tenant: Tenant) -> None:
        async with tenant.hands:
            if tenant.card is None:
                return
            if tenant.has_copy and self._world.clones_are_taken_back:
                return  # the site bears this loss by its own choice: nobody steals here
            answer = await self._patiently(
                tenant, tenant.card, lambda counter, at: counter.taken_back(at, REASON)
            )
            self._say(tenant, f"gives his card back: {_short(answer)}")

    async def _sell_on_a_strangers(self, tenant: Tenant) -> None:
        """Nothing is ever written on a card that is not ours."""
        card = foreign_card("rf_card")
        assert isinstance(card, RfCard)
        before, wish = bytes(card.memory), self._wish(tenant, 1000, CardKind.PURCHASE)
        answer = await self._at_desk(
            tenant,
            card,
            lambda counter, at: counter.sell(at, wish, from_balance=False, new_card=True),
        )
        if bytes(card.memory) != before or self._was_begun(wish.issue_id):
            self.objections.append(f"{tenant.meter}: sold on a stranger's card: {answer}")

    # ---- on paper -------------------------------------------------------------------------------

    async def _report(self, tenant: Tenant) -> None:
        async def report(process: Process, database: Database) -> Any:
            async with database.transaction() as tx:
                return await process.cards.returns.report_loss(
                    tx, self._meter_id(tenant), reason=REASON
                )

        self._say(tenant, f"reports a loss: {_short(await self._counter.asked(report))}")

    async def _move(self, tenant: Tenant) -> None:
        async def move(process: Process, database: Database) -> Any:
            async with database.transaction() as tx:
                return await process.cards.returns.move_to_remote(
                    tx, self._meter_id(tenant), operator_id=self._cashier, reason=REASON
                )

        self._say(tenant, f"wants it over the line: {_short(await self._counter.asked(move))}")

    async def _stop_the_move(self, tenant: Tenant) -> None:
        """A manager takes the order back; the card is still out."""
        row = self._ground.sessions.admin.execute(
            "SELECT command_id FROM command JOIN sale USING (sale_id) WHERE channel = 'card'"
            " AND command.kind = 'top_up' AND command.state = 'queued' AND command.meter_id = %s",
            (self._meter_id(tenant),),
        ).fetchone()
        if row is None:
            return
        answer = await self._counter.decided(
            lambda tx: self._decisions.cancel(
                tx,
                row[0],
                operator_id=self._ground.operators["manager"],
                approver_id=self._ground.operators["admin"],
                reason=REASON,
            )
        )
        self._say(tenant, f"the move is stopped: {_short(answer)}")

    async def _burn(self, tenant: Tenant) -> None:
        async def burn(process: Process, database: Database) -> Any:
            async with database.transaction() as tx:
                return await process.cards.returns.burn(
                    tx,
                    self._meter_id(tenant),
                    operator_id=self._ground.operators["manager"],
                    approver_id=self._ground.operators["admin"],
                    reason=REASON,
                )

        self._say(tenant, f"wants his money back: {_short(await self._counter.asked(burn))}")

    # ---- steps ----------------------------------------------------------------------------------

    async def _patiently(
        self, tenant: Tenant, card: RfCard, work: Callable[[CardCounter, AtDesk], Work]
    ) -> Any:
        """The same wish again, with the same id, while the card was only pulled."""
        for _ in range(TRIES_MAX):
            answer = await self._at_desk(tenant, card, work)
            if not isinstance(answer, CardError):
                return answer
            await asyncio.sleep(self._chance.uniform(1.0, 10.0))
        return answer

    async def _at_desk(
        self, tenant: Tenant, card: RfCard, work: Callable[[CardCounter, AtDesk], Work]
    ) -> Any:
        at = AtDesk(
            operator_id=self._cashier,
            approver_id=self._ground.operators["manager"],
            meter_id=self._meter_id(tenant),
            meter=tenant.meter,
            meter_type=tenant.meter_type,
        )

        async def serve(process: Process, database: Database) -> Any:
            try:
                return await work(process.cards, at)(self._day.lay(process, card))
            except DatabaseAway:
                raise  # asked again
            except (Problem, CardError) as no:
                return no

        answer = await self._counter.asked(serve)
        card.inserted_again()
        return answer

    def _wish(self, tenant: Tenant, amount_fen: int, kind: CardKind) -> CardSale:
        self._made += 1
        return CardSale(
            issue_id=uuid5(_IDS, f"{self._world.seed} {self._made}"),
            meter_id=self._meter_id(tenant),
            serial=b"",
            amount_fen=amount_fen,
            key_version=0,
            operator_id=self._cashier,
            reason=REASON,
            kind=kind,
        )

    def _blank(self) -> RfCard:
        self._made += 1
        return RfCard(bytes((7, 7)) + self._made.to_bytes(2, "big"))

    def _was_begun(self, issue_id: UUID) -> bool:
        """Whether the books have it: its receipt."""
        row = self._ground.sessions.admin.execute(
            "SELECT EXISTS (SELECT FROM card_issue WHERE issue_id = %s)", (issue_id,)
        ).fetchone()
        return row == (True,)

    def _meter_id(self, tenant: Tenant) -> int:
        return self._ground.meter_ids[tenant.meter]

    @property
    def _cashier(self) -> int:
        return self._ground.operators["cashier"]

    def _say(self, tenant: Tenant, what: str) -> None:
        self._world.history.say(f"tenant of {tenant.meter}", what)

    def _waits(self, tenant: Tenant) -> bool:
        row = self._ground.sessions.admin.execute(
            "SELECT EXISTS (SELECT FROM sale WHERE state = 'open' AND channel = 'card'"
            " AND meter_id = %s)",
            (self._meter_id(tenant),),
        ).fetchone()
        return row == (True,)


def _is_pending(answer: dict[str, Any]) -> bool:
    return answer["issue"] is not None and answer["issue"]["state"] == "pending"


def _short(answer: object) -> str:
    if isinstance(answer, Accepted):
        return f"accepted: {answer.command.kind.value} is {answer.command.state.value}"
    if isinstance(answer, dict):
        facts = ("kind", "state", "purchase_count", "landed_fen", "refused", "taken")
        return " ".join(f"{name}={answer[name]}" for name in facts if answer.get(name) is not None)
    return f"{type(answer).__name__}: {answer}"
