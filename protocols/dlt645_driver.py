"""A DL/T 645 meter: read its items, switch its relay, set its clock, look at its freezes.

An order to the relay carries the instant until which the meter may carry it out, by the meter's own
clock: what a network held back for longer does nothing any more. "Accepted" is not "switched"
(spec field_protocols.md A3), so state word 3 is read back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from protocols import dlt645 as wire
from protocols import dlt645_items as items
from protocols.dlt645_items import Item
from protocols.exchange import (
    Answer,
    BadAnswer,
    Conversation,
    Effect,
    Evidence,
    Intent,
    NotReady,
    Refusal,
    Refused,
    Request,
    ask,
    ask_reply,
)
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
from protocols.reading import Control, Quantity, Values, meter_clock_s
from protocols.settings import SetClock, Setting

Q = Quantity

DAYS_READ_MAX = 7  # of the meter's 62 daily freezes: a week of holes costs fourteen requests
PARTS_MAX = 30  # of one item: a meter that always promises more is not believed for ever
ORDER_LIVES = timedelta(minutes=5)  # longer than any network holds a frame back
CLOCK_OFF_MAX = timedelta(seconds=20)  # what a set clock may be off when it is read back
SUPPLY_LOOKS_MAX = 3
# N1 of 1CH (spec field_protocols.md A3).
TRIP, CLOSE_ALLOWED, CLOSE = 0x1A, 0x1B, 0x1C
# ERR bits that will be the same tomorrow: no such data, wrong password or no right.
ERR_FOR_GOOD = 0b0000_0110
REFUSED_FOR_GOOD, REFUSED_NOW = 1, 0x100

OPTION_HELP: Mapping[str, str] = {
    "password": "six hex digits of the level below; default 000000",
    "password_level": "00 to 09, or 98; default 02",
    "operator": "eight digits the meter keeps with each order; default 00000001",
    "close": "direct: the relay closes by itself; allowed: somebody presses the meter's button",
}


class Access:
    """What a meter wants to see before it obeys."""

    __slots__ = ("close", "head")

    def __init__(self, options: Options) -> None:
        """Raises BadOption."""
        _key, given = take_site_key(options)
        for name in given:
            if name not in OPTION_HELP:
                known = ", ".join(OPTION_HELP)
                raise BadOption(f"option {name} is unknown to this meter type; known: {known}")
        password = _hex_digits(given, "password", "000000")
        level = _hex_digits(given, "password_level", "02")
        operator = _hex_digits(given, "operator", "00000001")
        close = given.get("close", "direct")
        if close not in ("direct", "allowed"):
            raise BadOption(f'option close is "{close}"; allowed: "direct", "allowed"')
        self.close = CLOSE if close == "direct" else CLOSE_ALLOWED
        #: level, password and operator as they stand before what is written
        self.head = bytes.fromhex(level) + wire.bcd(password) + wire.bcd(operator)


def _hex_digits(options: Options, name: str, default: str) -> str:
    value = options.get(name, default)
    if (
        isinstance(value, str)
        and len(value) == len(default)
        and all(c in "0123456789abcdefABCDEF" for c in value)
    ):
        return value
    raise BadOption(f"option {name} must be {len(default)} hex digits in quotes")


class Dlt645Driver:
    """One meter of DL/T 645-2007."""

    __slots__ = ("_absent", "_access", "_items", "_phases")

    def __init__(self, phases: int, options: Options, extra: Iterable[Item] = ()) -> None:
        """`extra`: items of a type beyond what every meter has. Raises BadOption."""
        self._phases = phases
        self._access = Access(options)
        self._items = (items.ENERGY, items.EXPORT, *extra, *items.live_items(phases))
        self._absent: set[int] = set()  # items this meter has refused for good

    # ---- looking --------------------------------------------------------------------------------

    def read(self, at: Address, wanted: frozenset[Q]) -> Conversation[Values]:
        """As in Driver. One request for each item that has something wanted."""
        values: Values = {}
        for item in self._items:
            if item.quantities & wanted:
                values |= yield from self._item(at, item, wanted)
        if wanted & {Q.RELAY_CLOSED, Q.CONTROLS}:
            values |= yield from self._states(at)
        if Q.CLOCK in wanted:
            dial = items.decode_clock((yield from self._maybe(at, items.CLOCK_DI)) or b"")
            if dial is not None:
                values[Q.CLOCK] = meter_clock_s(dial)
        if Q.ENERGY in wanted and Q.ENERGY not in values:
            raise BadAnswer("the meter did not tell its energy now; look again")
        return {quantity: value for quantity, value in values.items() if quantity in wanted}

    def identify(self, at: Address) -> Conversation[Identity]:
        """As in Driver."""
        data = yield from self._maybe(at, items.METER_NUMBER_DI)
        number = None if data is None else bytes(reversed(data[:6])).hex()
        decimal = number is not None and len(number) == 12 and number.isdecimal()
        return Identity(meter_number=number if decimal else None)

    def evidence(self, at: Address) -> Conversation[Evidence]:
        """As in Driver: a meter without prepayment tells its relay alone."""
        return _evidence_of((yield from self._states(at)))

    def frozen(self, at: Address) -> Conversation[tuple[Frozen, ...]]:
        """The midnights of the last days, oldest first."""
        found: dict[datetime, Frozen] = {}
        for back in range(1, DAYS_READ_MAX + 1):
            instant = yield from self._maybe(at, 0x05060000 + back)
            dial = None if instant is None else items.decode_time5(instant)
            if dial is None:
                break  # it keeps no more
            data = yield from self._maybe(at, 0x05060100 + back)
            values = items.decode(items.ENERGY, data or b"")
            if values:
                found[dial] = Frozen(dial=dial, values=values)
        return tuple(found[dial] for dial in sorted(found))

    def recharges(self, at: Address) -> Conversation[tuple[Recharge, ...]]:
        """As in Driver: none."""
        yield from ()
        return ()

    def supply(self, at: Address) -> Conversation[SupplyLook]:
        """As in Driver."""
        look = _supply_of((yield from self._states(at)))
        if look is None:
            raise BadAnswer("the meter does not tell its relay now; look again")
        return look

    # ---- orders ---------------------------------------------------------------------------------

    def set_supply(self, at: Address, supply: Supply) -> Conversation[SupplyOutcome]:
        """As in Driver. A release of a relay that nobody holds is a look and nothing else."""
        before = yield from self._states(at)
        seen = _supply_of(before)
        if seen is None:
            raise NotReady("the meter does not tell its relay, so no switching could be proved")
        dial = items.decode_clock((yield from self._maybe(at, items.CLOCK_DI)) or b"")
        if dial is None:
            raise NotReady("the meter shows no date, so an order could not expire; set its clock")
        yield Intent(_evidence_of(before))
        answer: Answer | None = None
        if supply is not Supply.RELEASE or seen.forced:
            answer = yield from ask(self._switch(at, supply, dial))
        look = yield from self.supply(at)
        for _ in range(SUPPLY_LOOKS_MAX - 1):
            if self._held(supply, look):
                break
            look = yield from self.supply(at)
        return SupplyOutcome(held=self._held(supply, look), look=look, refusal=_refusal(answer))

    def top_up(self, at: Address, order: TopUp) -> Conversation[TopUpOutcome]:
        """As in Driver: such a meter has no money in it."""
        yield from ()
        raise NotReady("a meter of this type keeps no money; sell to it on the platform")

    def configure(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        """As in Driver: the clock alone."""
        if not isinstance(setting, SetClock):
            raise NotReady("a meter of this type can be set no such thing")
        before = yield from self._states(at)
        yield Intent(_evidence_of(before))
        di = wire.di_bytes(items.CLOCK_DI)
        yield from ask(
            wire.request(
                "set the clock",
                at.number,
                wire.WRITE,
                di + self._access.head + items.encode_clock(dial_now()),
                effect=Effect.WRITE,
            )
        )
        return (yield from self.holds(at, setting, dial_now))

    def holds(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        """As in Driver."""
        if not isinstance(setting, SetClock):
            raise NotReady("a meter of this type can be set no such thing")
        dial = items.decode_clock((yield from ask_data(wire.read_item(at.number, items.CLOCK_DI))))
        return dial is not None and abs(dial - dial_now()) <= CLOCK_OFF_MAX

    # ---- parts ----------------------------------------------------------------------------------

    def _held(self, supply: Supply, look: SupplyLook) -> bool:
        if supply is Supply.TRIP:
            return look.forced and look.relay_closed_bits == 0
        return not look.forced and (supply is Supply.RELEASE or look.relay_closed_bits != 0)

    def _switch(self, at: Address, supply: Supply, dial: datetime) -> Request:
        n1 = {Supply.TRIP: TRIP, Supply.CLOSE: self._access.close, Supply.RELEASE: CLOSE_ALLOWED}
        until = dial + ORDER_LIVES
        order = bytes((n1[supply], 0)) + wire.bcd(f"{until:%y%m%d%H%M%S}")
        return wire.request(
            f"{supply.value} the relay",
            at.number,
            wire.SWITCH,
            self._access.head + order,
            effect=Effect.WRITE,
        )

    def _states(self, at: Address) -> Conversation[Values]:
        """Relay and controls from state word 3."""
        data = yield from self._maybe(at, items.STATE_3_DI)
        if data is None or len(data) < 2:
            return {}
        word = int.from_bytes(data[:2], "little")
        every_phase = (1 << self._phases) - 1
        return {
            Q.RELAY_CLOSED: 0 if word & items.RELAY_OPEN else every_phase,
            Q.CONTROLS: Control.FORCED if word & items.TRIP_ORDERED else 0,
        }

    def _item(self, at: Address, item: Item, wanted: frozenset[Q]) -> Conversation[Values]:
        """One item. A meter that knows no blocks is asked for each of its values."""
        data = yield from self._maybe(at, item.di)
        if data is not None or item.di & 0xFF00 != items.BLOCK:
            return items.decode(item, data or b"")
        values: Values = {}
        for single in items.singles(item):
            if single.quantities & wanted:
                data = yield from self._maybe(at, single.di)
                values |= items.decode(single, data or b"")
        return values

    def _maybe(self, at: Address, di: int) -> Conversation[bytes | None]:
        """An item's data; None where the meter says no. That it has none is remembered."""
        if di in self._absent:
            return None
        try:
            return (yield from ask_data(wire.read_item(at.number, di), at.number, di))
        except Refused as refused:
            if refused.code & ERR_FOR_GOOD:
                self._absent.add(di)
            return None


def ask_data(request: Request, address: str = "", di: int = 0) -> Conversation[bytes]:
    """The data of an item, all its parts together. Raises Refused, BadAnswer."""
    payload = yield from ask_reply(request)
    data = payload[1:]
    for sequence in range(1, PARTS_MAX):
        if not payload[0] & wire.MORE:
            return data
        if not address:
            raise BadAnswer(f"{request.label}: more follows where nothing should")
        payload = yield from ask_reply(wire.read_next(address, di, sequence))
        if payload[-1] != sequence & 0xFF:
            raise BadAnswer(f"{request.label}: part {payload[-1]} came instead of {sequence}")
        data += payload[1:-1]
    raise BadAnswer(f"{request.label}: it never ends")


def _evidence_of(values: Values) -> Evidence:
    controls = values.get(Q.CONTROLS)
    return Evidence(
        purchase_count=values.get(Q.PURCHASE_COUNT),
        total_purchased_fen=values.get(Q.TOTAL_PURCHASED),
        remaining_credit_fen=values.get(Q.REMAINING_CREDIT),
        relay_closed_bits=values.get(Q.RELAY_CLOSED),
        forced=None if controls is None else bool(controls & Control.FORCED),
    )


def _supply_of(values: Values) -> SupplyLook | None:
    if Q.RELAY_CLOSED not in values:
        return None
    return SupplyLook(
        relay_closed_bits=values[Q.RELAY_CLOSED],
        forced=bool(values.get(Q.CONTROLS, 0) & Control.FORCED),
    )


def _refusal(answer: Answer | None) -> int | None:
    """The meter's no: 1 when it will be the same tomorrow, else its own code above 100H."""
    if not isinstance(answer, Refusal):
        return None
    return REFUSED_FOR_GOOD if answer.code & ERR_FOR_GOOD else REFUSED_NOW | answer.code


def quantities_of(found: Iterable[Item]) -> Iterator[Q]:
    """What these items tell."""
    for item in found:
        yield from item.quantities
