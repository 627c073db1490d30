"""How orders to Acrel meters go: look, intent, write once, look again. Shared by their drivers.

The meter's answer to a write is never believed, neither yes nor no: what its registers show is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime

from protocols.acrel_settings import (
    Block,
    BlockSetting,
    PrepaidSetting,
    check_may_open,
    clock_agrees,
    read_block,
    shown,
)
from protocols.acrel_write import steps_of
from protocols.evidence import judge
from protocols.exchange import (
    Answer,
    BadAnswer,
    Conversation,
    CountOutOfStep,
    Evidence,
    Intent,
    NotReady,
    Refusal,
    Request,
    ask,
)
from protocols.meter_type import Address, Supply, SupplyLook, SupplyOutcome, TopUp, TopUpOutcome
from protocols.reading import Control, Quantity, Values
from protocols.settings import OpenAccount, SetClock, Setting

Q = Quantity

# A relay needs some tenths of a second to move: each look takes about as long.
SUPPLY_LOOKS_MAX = 3


def evidence_of(values: Values) -> Evidence:
    """The witnesses of money and supply among the values of one look."""
    controls = values.get(Q.CONTROLS)
    return Evidence(
        purchase_count=values.get(Q.PURCHASE_COUNT),
        total_purchased_fen=values.get(Q.TOTAL_PURCHASED),
        remaining_credit_fen=values.get(Q.REMAINING_CREDIT),
        relay_closed_bits=values.get(Q.RELAY_CLOSED),
        forced=None if controls is None else bool(controls & Control.FORCED),
    )


def supply_of(values: Values) -> SupplyLook | None:
    """The relay among the values of one look; None where the meter does not tell."""
    closed_bits, controls = values.get(Q.RELAY_CLOSED), values.get(Q.CONTROLS)
    if closed_bits is None or controls is None:
        return None
    return SupplyLook(relay_closed_bits=closed_bits, forced=bool(controls & Control.FORCED))


def supply_held(supply: Supply, phases: int, look: SupplyLook) -> bool:
    """Whether the relay stands as ordered. After a release it is the meter's own affair."""
    if supply is Supply.RELEASE:
        return not look.forced
    closed_bits = (1 << phases) - 1 if supply is Supply.CLOSE else 0
    return look.forced and look.relay_closed_bits == closed_bits


class AcrelOrders(ABC):
    """The orders of a driver, over what its meter type says about frames and looks."""

    __slots__ = ("_phases", "_step_fen")
    _phases: int
    _step_fen: int

    # ---- what a meter type says -----------------------------------------------------------------

    @abstractmethod
    def read(self, at: Address, wanted: frozenset[Q]) -> Conversation[Values]:
        """As in Driver."""

    @abstractmethod
    def _states(self, at: Address) -> Conversation[Values]:
        """Relay, controls and clock in one short look, and the credit that comes with it."""

    @abstractmethod
    def _look(self, at: Address) -> Conversation[tuple[Evidence, bool | None]]:
        """Evidence, and whether the prepaid switch is on; None when there is no account at all."""

    @abstractmethod
    def _check_money(self, at: Address, meter_number: str | None) -> Conversation[None]:
        """What must be true before money or prepaid settings are written. Raises NotReady."""

    @abstractmethod
    def _purchase(self, at: Address, steps: int, count: int) -> Request: ...

    @abstractmethod
    def _forced(self, at: Address, supply: Supply) -> Request:
        """Raises NotReady where switching is not proven for this meter."""

    @abstractmethod
    def _prepaid_requests(self, at: Address, setting: PrepaidSetting) -> tuple[Request, ...]:
        """Raises NotReady."""

    @abstractmethod
    def _block(self, at: Address, setting: BlockSetting) -> Conversation[Block]:
        """Raises NotReady."""

    @abstractmethod
    def _clock(self, at: Address, dial: datetime) -> Conversation[Request]:
        """Raises NotReady."""

    @abstractmethod
    def _shows_number(self, at: Address, number: str) -> Conversation[bool]:
        """Whether the meter shows this number."""

    # ---- orders ---------------------------------------------------------------------------------

    def evidence(self, at: Address) -> Conversation[Evidence]:
        """As in Driver."""
        evidence, _prepaid = yield from self._look(at)
        return evidence

    def top_up(self, at: Address, order: TopUp) -> Conversation[TopUpOutcome]:
        """As in Driver."""
        steps = steps_of(order.amount_fen, self._step_fen, "a purchase")
        before, prepaid = yield from self._look(at)
        if prepaid is None:
            raise NotReady("the meter has no prepaid account; nothing can be sold to it")
        if not prepaid:
            raise NotReady("the meter's prepaid switch is off; open its account first")
        if before.purchase_count is None:
            raise NotReady("the meter tells no purchase count, so no purchase could be proved")
        if before.purchase_count != order.purchase_count - 1:
            raise CountOutOfStep(before, order.purchase_count - 1)
        if not order.amount_fen and before.total_purchased_fen is None:
            raise NotReady("the meter tells no total of purchases, so no burn could be proved")
        yield from self._check_money(at, order.meter_number)
        request = self._purchase(at, steps, order.purchase_count)
        yield Intent(before)
        answer = yield from ask(request)
        after = yield from self.evidence(at)
        return TopUpOutcome(
            verdict=judge(before, after, order.amount_fen),
            before=before,
            after=after,
            refusal=_refusal(answer),
        )

    def supply(self, at: Address) -> Conversation[SupplyLook]:
        """As in Driver."""
        look = supply_of((yield from self._states(at)))
        if look is None:
            raise BadAnswer("the meter does not tell its relay now; look again")
        return look

    def set_supply(self, at: Address, supply: Supply) -> Conversation[SupplyOutcome]:
        """As in Driver. A moving relay is looked at some times."""
        before = yield from self._states(at)
        if supply_of(before) is None:
            raise NotReady("the meter does not tell its relay, so no switching could be proved")
        request = self._forced(at, supply)
        yield Intent(evidence_of(before))
        answer = yield from ask(request)
        look = yield from self.supply(at)
        for _ in range(SUPPLY_LOOKS_MAX - 1):
            if supply_held(supply, self._phases, look):
                break
            look = yield from self.supply(at)
        held = supply_held(supply, self._phases, look)
        return SupplyOutcome(held=held, look=look, refusal=_refusal(answer))

    def configure(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        """As in Driver."""
        before, prepaid = yield from self._look(at)
        if isinstance(setting, SetClock):
            return (yield from self._set_clock(at, before, dial_now))
        if isinstance(setting, BlockSetting):
            block = yield from self._block(at, setting)
            requests = block.requests((yield from read_block(at.unit, block)))
        else:
            yield from self._check_prepaid(at, setting, before, prepaid)
            requests = self._prepaid_requests(at, setting)
        yield from _write_all(before, requests)
        return (yield from self.holds(at, setting, dial_now))

    def holds(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        """As in Driver."""
        if isinstance(setting, SetClock):
            return clock_agrees((yield from self._states(at)), dial_now())
        if isinstance(setting, BlockSetting):
            yield from self._states(at)  # another type's registers would prove nothing
            block = yield from self._block(at, setting)
            return block.shows((yield from read_block(at.unit, block)))
        return (yield from self._shows(at, setting))

    def _set_clock(
        self, at: Address, before: Evidence, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        if Q.CLOCK not in (yield from self._states(at)):
            raise NotReady("the meter shows no date, so its clock could not be proved; look again")
        request = yield from self._clock(at, dial_now())
        yield from _write_all(before, (request,))
        return clock_agrees((yield from self._states(at)), dial_now())

    def _check_prepaid(
        self, at: Address, setting: PrepaidSetting, before: Evidence, prepaid: bool | None
    ) -> Conversation[None]:
        """Raises NotReady for what could not be proved, or would wipe out an account."""
        if prepaid is None:
            raise NotReady("the meter has no prepaid account; this setting is not for it")
        if isinstance(setting, OpenAccount):
            check_may_open(before)
        wanted = frozenset(shown(setting).values)
        missing = wanted - (yield from self.read(at, wanted)).keys()
        if missing:
            named = ", ".join(sorted(quantity.value for quantity in missing))
            raise NotReady(f"the meter does not tell {named}, so this could not be proved")
        yield from self._check_money(at, None)

    def _shows(self, at: Address, setting: PrepaidSetting) -> Conversation[bool]:
        expected = shown(setting)
        values = yield from self.read(at, frozenset(expected.values))
        if not values.items() >= expected.values.items():
            return False
        if expected.switch is not None:
            _evidence, prepaid = yield from self._look(at)
            if prepaid is not expected.switch:
                return False
        if isinstance(setting, OpenAccount) and setting.meter_number is not None:
            return (yield from self._shows_number(at, setting.meter_number))
        return True


def _write_all(before: Evidence, requests: tuple[Request, ...]) -> Conversation[None]:
    """One intent, then each write once; a refused write is the last."""
    yield Intent(before)
    for request in requests:
        answer = yield from ask(request)
        if isinstance(answer, Refusal):
            return


def _refusal(answer: Answer) -> int | None:
    return answer.code if isinstance(answer, Refusal) else None
