"""A CJ/T 188 meter: read its totals, and open or close its valve where it has one.

Makers read the standard differently, so the order of a data item's bytes, the valve's words and the
places of the status bits are options. What a valve answers is not believed: the status is read
back, and a valve that still turns shows where it was (spec field_protocols.md B).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from protocols import cjt188 as wire
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
    Silence,
    ask,
)
from protocols.meter_type import (
    Address,
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
from protocols.numbers import bcd_digits
from protocols.options import choose, take_site_key
from protocols.reading import Alarm, Quantity, Values, meter_clock_s
from protocols.settings import Setting

Q = Quantity

WATER_BYTES = 19  # total and unit, settlement total and unit, clock, status
HEAT_BYTES = 43  # heat twice, power, flow and volume with units; temperatures, hours, clock, status
# By unit byte: a step of the register in our unit, as (times, through); fractions are cut off.
VOLUME_L: Mapping[int, tuple[int, int]] = {0x29: (1, 100), 0x2C: (10, 1)}  # 0.01 l, 0.01 m3
HEAT_WH: Mapping[int, tuple[int, int]] = {
    0x05: (10, 1),  # 0.01 kWh
    0x08: (10_000, 1),  # 0.01 MWh
    0x11: (25_000, 9),  # 0.01 GJ
}
POWER_W: Mapping[int, tuple[int, int]] = {0x14: (1, 100), 0x17: (10, 1), 0x1A: (10_000, 1)}
FLOW_L_PER_H: Mapping[int, tuple[int, int]] = {0x32: (1, 10_000), 0x35: (1, 10)}  # 4 decimals
CENTURY_YEARS = range(2000, 2100)

CHOICES: Mapping[str, tuple[str, ...]] = {
    "item_order": ("auto", "low_first", "high_first"),
    "status": ("standard", "high_bits"),
}
VALVE_CHOICES: Mapping[str, tuple[str, ...]] = {"valve_words": ("forced", "free")}
OPTION_HELP: Mapping[str, str] = {
    "item_order": "bytes of a data item: low_first (1F 90), high_first (90 1F), auto: both",
    "status": "valve in bits 0 and 1, battery in bit 2; high_bits: 6 and 7, and 5",
}
VALVE_OPTION_HELP: Mapping[str, str] = {
    **OPTION_HELP,
    "valve_words": "forced: 55 opens, 99 closes; free: 66 and 77",
}
VALVE_WORDS: Mapping[str, tuple[int, int]] = {"forced": (0x55, 0x99), "free": (0x66, 0x77)}
# Status: (shift of the two valve bits, bit of the battery).
STATUS_PLACES: Mapping[str, tuple[int, int]] = {"standard": (0, 0x04), "high_bits": (6, 0x20)}
VALVE_OPEN, VALVE_CLOSED, VALVE_FAULT = 0, 1, 3


class Cjt188Driver:
    """One meter. It remembers which order of bytes the meter answers to."""

    __slots__ = ("_has_valve", "_kind", "_orders", "_quantities", "_status", "_valve_words")

    def __init__(
        self, kind: int, quantities: frozenset[Q], options: Options, *, has_valve: bool
    ) -> None:
        """`kind`: T of its frames. Raises BadOption."""
        _key, given = take_site_key(options)
        chosen = choose(given, {**CHOICES, **(VALVE_CHOICES if has_valve else {})})
        self._kind = kind
        self._quantities = quantities
        self._has_valve = has_valve
        self._orders: tuple[bool, ...] = {
            "auto": (True, False),
            "low_first": (True,),
            "high_first": (False,),
        }[str(chosen["item_order"])]
        self._status = STATUS_PLACES[str(chosen["status"])]
        self._valve_words = VALVE_WORDS[str(chosen.get("valve_words", "forced"))]

    # ---- looking --------------------------------------------------------------------------------

    def read(self, at: Address, wanted: frozenset[Q]) -> Conversation[Values]:
        """As in Driver; one request, whatever is wanted."""
        values, _valve = yield from self._look(at)
        return {q: value for q, value in values.items() if q in wanted}

    def identify(self, at: Address) -> Conversation[Identity]:
        """It answers under its number, which is all it tells of itself."""
        yield from self._data(at)
        return Identity(note=f"CJ/T 188, type {self._kind:02X}, address {at.number}")

    def evidence(self, at: Address) -> Conversation[Evidence]:
        """The valve only: such a meter keeps no purchases."""
        _values, valve = yield from self._look(at)
        return _evidence(valve) if self._has_valve else Evidence()

    def frozen(self, at: Address) -> Conversation[tuple[Frozen, ...]]:
        """None: the settlement total carries no date of its own."""
        yield from ()  # a conversation without a request
        return ()

    def recharges(self, at: Address) -> Conversation[tuple[Recharge, ...]]:
        """None."""
        yield from ()
        return ()

    def supply(self, at: Address) -> Conversation[SupplyLook]:
        """The valve, freshly read. Raises BadAnswer when the meter says that it is stuck."""
        self._need_valve()
        _values, valve = yield from self._look(at)
        if valve not in (VALVE_OPEN, VALVE_CLOSED):
            raise BadAnswer(f"the valve of {at} is neither open nor closed: it may be stuck")
        return SupplyLook(relay_closed_bits=int(valve == VALVE_OPEN), forced=valve == VALVE_CLOSED)

    # ---- orders ---------------------------------------------------------------------------------

    def set_supply(self, at: Address, supply: Supply) -> Conversation[SupplyOutcome]:
        """Close the valve (TRIP) or open it. A valve has no controls of its own to be released to,
        so RELEASE is an order to open it."""
        before = yield from self.supply(at)
        opens = supply is not Supply.TRIP
        yield Intent(Evidence(relay_closed_bits=before.relay_closed_bits, forced=before.forced))
        answer: Answer = yield from ask(self._turn(at, opens=opens))
        refusal = answer.code if isinstance(answer, Refusal) else None
        look = yield from self.supply(at)
        return SupplyOutcome(held=bool(look.relay_closed_bits) is opens, look=look, refusal=refusal)

    def top_up(self, at: Address, order: TopUp) -> Conversation[TopUpOutcome]:
        """Raises NotReady: it takes no purchases."""
        yield from ()
        raise NotReady("a CJ/T 188 meter takes no purchases")

    def configure(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        """Raises NotReady: nothing of it can be set and proved."""
        yield from ()
        raise NotReady("this meter type has no settings")

    def holds(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        """Raises NotReady."""
        yield from ()
        raise NotReady("this meter type has no settings")

    # ---- inside ---------------------------------------------------------------------------------

    def _need_valve(self) -> None:
        if not self._has_valve:
            raise NotReady("this meter type has no valve")

    def _look(self, at: Address) -> Conversation[tuple[Values, int | None]]:
        payload = yield from self._data(at)
        values, status = decode_water(payload) if self._kind < 0x20 else decode_heat(payload)
        valve = self._read_status(values, status)
        return {q: v for q, v in values.items() if q in self._quantities}, valve

    def _read_status(self, values: Values, status: int) -> int | None:
        """Alarms and, of a meter with a valve, where it stands; None: it does not know."""
        shift, battery = self._status
        valve = status >> shift & 0b11
        alarms = Alarm(0)
        if status & battery:
            alarms |= Alarm.LOW_BATTERY
        if self._has_valve:
            if valve in (VALVE_OPEN, VALVE_CLOSED):
                values[Q.RELAY_CLOSED] = int(valve == VALVE_OPEN)
            else:
                alarms |= Alarm.FAULT
        values[Q.ALARMS] = int(alarms)
        return valve

    def _data(self, at: Address) -> Conversation[bytes]:
        """The answer to 901F, in the order the meter knows. Raises the last one's error."""
        for low_first in self._orders:
            last = low_first is self._orders[-1]
            try:
                answer = yield from ask(self._request(at, wire.READ, wire.DATA, low_first))
            except Silence:
                if last:
                    raise
                continue
            if isinstance(answer, Refusal):
                if last:
                    raise Refused(f"read 901F of {at}", answer.code)
                continue
            self._orders = (low_first,)
            return answer.payload
        raise AssertionError("there is at least one order")

    def _turn(self, at: Address, *, opens: bool) -> Request:
        word = self._valve_words[0 if opens else 1]
        # The look before has settled in which order this meter takes the bytes of an item.
        return self._request(at, wire.WRITE, wire.VALVE, self._orders[0], bytes((word,)))

    def _request(
        self, at: Address, control: int, item: int, low_first: bool, rest: bytes = b""
    ) -> Request:
        data = wire.item_bytes(item, low_first=low_first) + b"\x01" + rest
        reads = control == wire.READ
        return wire.request(
            f"{'read' if reads else 'write'} {item:04X}",
            wire.Frame(self._kind, at.number, control, data),
            Effect.READ if reads else Effect.WRITE,
        )


def decode_water(payload: bytes) -> tuple[Values, int]:
    """Values and status byte 0 of a water meter's answer to 901F. Raises BadAnswer."""
    if len(payload) != WATER_BYTES:
        raise BadAnswer(f"a water meter's data have {WATER_BYTES} bytes, not {len(payload)}")
    values: Values = {}
    _take(values, Q.VOLUME, payload[0:5], VOLUME_L, "volume")
    _take(values, Q.VOLUME_SETTLED, payload[5:10], VOLUME_L, "settled volume")
    _take_clock(values, payload[10:17])
    return values, payload[17]


def decode_heat(payload: bytes) -> tuple[Values, int]:
    """Values and status byte 0 of a heat meter's answer to 901F. Raises BadAnswer."""
    if len(payload) != HEAT_BYTES:
        raise BadAnswer(f"a heat meter's data have {HEAT_BYTES} bytes, not {len(payload)}")
    values: Values = {}
    _take(values, Q.HEAT_SETTLED, payload[0:5], HEAT_WH, "settled heat")
    _take(values, Q.HEAT, payload[5:10], HEAT_WH, "heat")
    _take(values, Q.HEAT_POWER, payload[10:15], POWER_W, "power")
    _take(values, Q.FLOW, payload[15:20], FLOW_L_PER_H, "flow")
    _take(values, Q.VOLUME, payload[20:25], VOLUME_L, "volume")
    for quantity, at in ((Q.SUPPLY_TEMPERATURE, 25), (Q.RETURN_TEMPERATURE, 28), (Q.HOURS, 31)):
        number = _bcd(payload[at : at + 3])
        if number is not None:
            values[quantity] = number
    _take_clock(values, payload[34:41])
    return values, payload[41]


def _take(
    values: Values, quantity: Q, field: bytes, units: Mapping[int, tuple[int, int]], what: str
) -> None:
    """A number of four BCD bytes and its unit; a field without digits has no value."""
    number = _bcd(field[:4])
    if number is None:
        return
    if field[4] not in units:
        raise BadAnswer(f"the {what} comes in unit {field[4]:02X}, which this type does not know")
    times, through = units[field[4]]
    values[quantity] = number * times // through


def _take_clock(values: Values, field: bytes) -> None:
    """Second, minute, hour, day, month, year of four digits; what is no date has no value."""
    digits = bcd_digits(field[::-1])
    if digits is None:
        return
    year, *rest = (int(digits[:4]), *(int(digits[at : at + 2]) for at in range(4, 14, 2)))
    month, day, hour, minute, second = rest
    if year not in CENTURY_YEARS:
        return
    try:
        dial = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001  a dial
    except ValueError:
        return
    values[Q.CLOCK] = meter_clock_s(dial)


def _bcd(field: bytes) -> int | None:
    digits = bcd_digits(field[::-1])
    return None if digits is None else int(digits)


def _evidence(valve: int | None) -> Evidence:
    if valve not in (VALVE_OPEN, VALVE_CLOSED):
        return Evidence()
    return Evidence(relay_closed_bits=int(valve == VALVE_OPEN), forced=valve == VALVE_CLOSED)
