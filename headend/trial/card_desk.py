"""The card desk of a trial: the product's own counter, cards that get pulled, meters with a slot.

Two meters of the trial have a reader. What happens at the desk is the product's own work
(services/card_counter.py) over real conversations; the card answers as a thing of its own
(simulators/cards.py) and the slot in the meter obeys no one but the rules of its maker
(simulators/card_meter.py). A desk whose head-end dies in the middle is a pulled card.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from headend.domain.cards import CardKnown
from headend.services.card_counter import CardCounter
from headend.services.card_landings import land_by_readings
from headend.services.card_sessions import Reader
from headend.services.cards import CardDesk
from headend.services.orders import Orders
from headend.services.patience import for_ever
from headend.store.errors import DatabaseAway
from headend.trial.crashes import Process
from headend.trial.world import TrialMeter, World
from headend.units.check_cards import AREA, KitKeys
from headend.units.finding import find_units
from protocols.card_apdu import Apdu, CardConversation, CardGone, answer_of
from protocols.exchange import Effect, ProtocolError
from protocols.key_call import KeyCall, KeyResult, Purpose
from protocols.meter_type import MeterType
from simulators.card_meter import LOW_VOLTAGE, CardReader
from simulators.cards import Pulled, RfCard
from simulators.metering import CountRule

__all__ = ["CardDay", "CardKnown", "Slot", "TrialReader", "open_counter"]

T = TypeVar("T")

SCOPE = "trial"
CARD_STEP_S = 0.02  # one write on a card, more or less
# Of pieces of work at the desk: the card is pulled away, or the head-end dies while it is written.
PULLED_SHARE = 0.12
DIES_AT_A_WRITE = 1 / 60
# A look at what landed unseen: of the product every minute; here a look costs a seed.
LANDINGS_S = (120.0, 400.0)
BROWN_OUT_SHARE = 0.05  # of cards held to a meter

_KEYS = KitKeys()
_UNITS = find_units()


@dataclass
class _Registers:
    """The meter's own registers, as its slot sees them: one record of count and credit."""

    of: TrialMeter

    @property
    def purchase_count(self) -> int:
        return self.of.meter.purchase_count

    @property
    def remaining_fen(self) -> int:
        return self.of.meter.look().remaining_fen

    @property
    def total_fen(self) -> int:
        return self.of.meter.total_purchased_fen

    def credit(self, count: int, amount_fen: int) -> None:
        assert self.of.meter.purchase(amount_fen, count), "the slot has judged the count"


class Slot:
    """The reader in one meter of the trial. A device that takes its place knows no card."""

    def __init__(self, world: World, meter: TrialMeter) -> None:
        self._world = world
        self._meter = meter
        self._exchanges = 0
        # One wallet for card and line, so one rule of counts for both (spec cards_keys.md B.3).
        meter.meter.count_rule = CountRule.NEXT_ONLY
        self._reader = self._new()

    def _new(self) -> CardReader:
        roots = _KEYS.roots
        return CardReader(
            self._meter.meter.number,
            AREA,
            roots[Purpose.RECHARGE],
            roots[Purpose.PARAMETERS],
            roots[Purpose.WRITE_BACK],
            account=_Registers(self._meter),  # type: ignore[arg-type]
        )

    def hold(self, card: RfCard, *, brown_out: bool = False) -> int:
        """Somebody holds a card to the meter; the reason that its display shows."""
        if self._exchanges != len(self._meter.exchanged_at_ms):
            self._exchanges = len(self._meter.exchanged_at_ms)
            self._reader = self._new()
        if brown_out:
            return LOW_VOLTAGE
        self._meter.meter.advance()
        self._reader.now_s = int(self._world.clock.now().timestamp())
        return self._reader.hold(card)


@dataclass
class TrialReader(Reader):
    """A card on the reader of a desk: time passes with each write, and the card may be pulled."""

    card: RfCard | None = None
    process: Process | None = None
    chance: random.Random = field(default_factory=random.Random)
    #: how often the head-end dies while it writes
    dies: float = 0.0

    async def converse(self, conversation: CardConversation[T]) -> T:
        """One conversation in virtual time. Raises CardError."""
        try:
            step = next(conversation)
            while True:
                try:
                    answer = await self._answer(step)
                except ProtocolError as error:
                    step = conversation.throw(error)
                else:
                    step = conversation.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            conversation.close()

    async def _answer(self, step: Apdu | KeyCall) -> Any:
        if isinstance(step, KeyCall):
            return await self._ask(step)
        assert self.process is not None
        if step.effect is Effect.WRITE:
            await asyncio.sleep(CARD_STEP_S)
            if self.chance.random() < self.dies:
                self._dies(step)
                await asyncio.get_running_loop().create_future()
        if self.process.dead or self.card is None:
            raise CardGone("nobody is there")
        try:
            return answer_of(self.card.apdu(step.command))
        except Pulled:
            raise CardGone("pulled") from None

    def _dies(self, step: Apdu) -> None:
        """Killed right before a write on the card, or right after it."""
        assert self.process is not None
        if self.card is not None and self.chance.random() < 0.5:
            with contextlib.suppress(Pulled):
                self.card.apdu(step.command)
        self.process.kill("while it wrote a card")


async def ask_keys(call: KeyCall) -> KeyResult:
    """The key service of the trial: well-known keys, and never away."""
    return _KEYS(call)


@dataclass
class CardDay:
    """What a seed does with cards besides its wishes."""

    chance: random.Random
    dies: float = DIES_AT_A_WRITE
    pulled: float = PULLED_SHARE

    def lay(self, process: Process, card: RfCard) -> TrialReader:
        """The card is put on the reader, and perhaps pulled away before its time."""
        card.inserted_again()
        if self.chance.random() < self.pulled:
            at = self.chance.randrange(10, 150)
            if self.chance.random() < 0.5:
                card.pull_at = at
            else:
                card.tear_at = at
        return TrialReader(
            keys=ask_keys, card=card, process=process, chance=self.chance, dies=self.dies
        )


def open_counter(
    process: Process, world: World, meter_types: Mapping[str, MeterType]
) -> CardCounter:
    """The card counter of one process, and its look at sales that landed unseen."""
    desk = CardDesk(world.clock, Orders(world.clock, meter_types), _UNITS)
    chance = random.Random(f"{world.seed} landings {process.number}")

    async def look() -> None:
        while True:
            await asyncio.sleep(chance.uniform(*LANDINGS_S))
            with contextlib.suppress(DatabaseAway):
                await land_by_readings(process.database, desk)

    asyncio.create_task(for_ever("the landings of cards", look))  # noqa: RUF006  with its process
    return CardCounter(
        process.database,
        world.clock,
        desk,
        _UNITS,
        ask_keys,
        scope=SCOPE,
        area=AREA,
        clones_are_taken_back=world.clones_are_taken_back,
    )


Work = Callable[[CardCounter, TrialReader], Awaitable[dict[str, Any]]]
