"""A DL/T 645-1997 meter: reading only. Its writes carry a password and prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from protocols import dlt645 as wire
from protocols import dlt645_items as items
from protocols.exchange import BadAnswer, Conversation, Evidence, NotReady, Refusal, ask
from protocols.meter_type import (
    Address,
    BadOption,
    Frozen,
    Identity,
    Options,
    Recharge,
    Supply,
    SupplyLook,
    SupplyOutcome,
    TopUp,
    TopUpOutcome,
)
from protocols.options import take_site_key
from protocols.reading import Quantity, Values
from protocols.settings import Setting


class Dlt6451997Driver:
    """One meter of DL/T 645-1997."""

    __slots__ = ()

    def __init__(self, options: Options) -> None:
        """Raises BadOption: it has no options."""
        _key, given = take_site_key(options)
        for name in given:
            raise BadOption(f"option {name} is unknown to this meter type; it has none")

    def read(self, at: Address, wanted: frozenset[Quantity]) -> Conversation[Values]:
        """As in Driver."""
        values: Values = {}
        for item in (items.ENERGY_1997, *items.LIVE_1997):
            if item.quantities & wanted:
                answer = yield from ask(wire.read_item_1997(at.number, item.di))
                if not isinstance(answer, Refusal):
                    values |= items.decode(item, answer.payload[1:])
        return {quantity: value for quantity, value in values.items() if quantity in wanted}

    def identify(self, at: Address) -> Conversation[Identity]:
        """As in Driver: it answers, and tells no more."""
        yield from ask(wire.read_item_1997(at.number, items.ENERGY_1997.di))
        return Identity(note="DL/T 645-1997")

    def evidence(self, at: Address) -> Conversation[Evidence]:
        """As in Driver: it has none."""
        yield from self.identify(at)
        return Evidence()

    def frozen(self, at: Address) -> Conversation[tuple[Frozen, ...]]:
        """As in Driver: none."""
        yield from ()
        return ()

    def recharges(self, at: Address) -> Conversation[tuple[Recharge, ...]]:
        """As in Driver: none."""
        yield from ()
        return ()

    def supply(self, at: Address) -> Conversation[SupplyLook]:
        """As in Driver. Raises BadAnswer."""
        yield from self.identify(at)
        raise BadAnswer("a meter of 1997 does not tell its relay")

    def top_up(self, at: Address, order: TopUp) -> Conversation[TopUpOutcome]:
        """As in Driver. Raises NotReady."""
        yield from ()
        raise NotReady("a meter of 1997 keeps no money")

    def set_supply(self, at: Address, supply: Supply) -> Conversation[SupplyOutcome]:
        """As in Driver. Raises NotReady."""
        yield from ()
        raise NotReady("a meter of 1997 cannot be switched: it could not be proved")

    def configure(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        """As in Driver. Raises NotReady."""
        yield from ()
        raise NotReady("a meter of 1997 can be set nothing: it could not be proved")

    def holds(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        """As in Driver. Raises NotReady."""
        yield from ()
        raise NotReady("a meter of 1997 can be set nothing: it could not be proved")
