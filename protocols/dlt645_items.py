"""Data items of DL/T 645: where a quantity lies, in how many digits, and in which unit.

A field that holds a nibble of 10 or more has no value: meters write FF or worse where they know
nothing, and a decoder that goes on anyway bills it (spec field_protocols.md A1, A4, A6).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from protocols.numbers import bcd_digits, dial_time, weekday_agrees
from protocols.reading import Quantity as Q
from protocols.reading import Values

WH, CENTS = 10, 1  # a step of 0.01 kWh is 10 Wh; one of 0.01 yuan is one fen


@dataclass(frozen=True, slots=True)
class Field:
    """One number inside an item. Value = digits x times / divide, in the quantity's own unit."""

    quantity: Q | None  # None: stands there, and is nobody's business
    length: int
    times: int = 1
    divide: int = 1
    signed: bool = False  # the top bit is the sign


@dataclass(frozen=True, slots=True)
class Item:
    """One data item and its fields in their order; a meter may send fewer of them."""

    di: int
    fields: tuple[Field, ...]

    @property
    def quantities(self) -> frozenset[Q]:
        return frozenset(f.quantity for f in self.fields if f.quantity is not None)


def _energies(di: int, *quantities: Q | None) -> Item:
    return Item(di, tuple(Field(quantity, 4, WH) for quantity in quantities))


def _powers(di: int, *quantities: Q) -> Item:
    return Item(di, tuple(Field(quantity, 3, divide=10, signed=True) for quantity in quantities))


ENERGY = _energies(
    0x0001FF00, Q.ENERGY, Q.ENERGY_SHARP, Q.ENERGY_PEAK, Q.ENERGY_FLAT, Q.ENERGY_VALLEY
)
EXPORT = _energies(0x00020000, Q.ENERGY_EXPORT)
VOLTAGES = (Q.VOLTAGE_L1, Q.VOLTAGE_L2, Q.VOLTAGE_L3)
CURRENTS = (Q.CURRENT_L1, Q.CURRENT_L2, Q.CURRENT_L3)
POWERS = (Q.POWER, Q.POWER_L1, Q.POWER_L2, Q.POWER_L3)
FREQUENCY = Item(0x02800002, (Field(Q.FREQUENCY, 2),))


BLOCK = 0xFF00  # in the tariff or phase byte: total first, then each


def singles(block: Item) -> tuple[Item, ...]:
    """The items of a block one by one. Energies and powers begin with their total, at 0; what has
    no total begins at 1."""
    first = 0 if block.di >> 16 in (0x0001, 0x0203) else 1
    base = block.di & ~BLOCK
    return tuple(
        Item(base | (number << 8), (field,)) for number, field in enumerate(block.fields, first)
    )


def live_items(phases: int) -> tuple[Item, ...]:
    """What every meter shows of its wires: whole blocks for three phases, single values for one."""
    if phases == 3:
        return (
            Item(0x0201FF00, tuple(Field(q, 2) for q in VOLTAGES)),
            Item(0x0202FF00, tuple(Field(q, 3, signed=True) for q in CURRENTS)),
            _powers(0x0203FF00, *POWERS),
            Item(0x02060000, (Field(Q.POWER_FACTOR, 2, signed=True),)),
            FREQUENCY,
        )
    return (
        Item(0x02010100, (Field(Q.VOLTAGE_L1, 2),)),
        Item(0x02020100, (Field(Q.CURRENT_L1, 3, signed=True),)),
        _powers(0x02030000, Q.POWER),
        Item(0x02060000, (Field(Q.POWER_FACTOR, 2, signed=True),)),
        FREQUENCY,
    )


# 1997 (spec field_protocols.md A6): total energy, and the first phase's voltage in whole volts.
ENERGY_1997 = _energies(0x9010, Q.ENERGY)
LIVE_1997 = (
    Item(0xB611, (Field(Q.VOLTAGE_L1, 2, 10),)),
    Item(0xB621, (Field(Q.CURRENT_L1, 2, 10),)),
    Item(0xB630, (Field(Q.POWER, 3, divide=10, signed=True),)),
)

CLOCK_DI = 0x0400010C  # year month day weekday hour minute second, sent lowest first
STATE_3_DI = 0x04000503
METER_NUMBER_DI = 0x04000402
RELAY_OPEN, TRIP_ORDERED = 1 << 4, 1 << 6  # of state word 3
NO_LOCAL_ACCOUNT = 1 << 14

# What a meter can carry, wide: anything beyond is damage that its sum did not notice.
_LIMITS = {
    "dv": range(10_001),
    "ma": range(-655_350, 655_350),
    "w": range(-0x8000, 0x8000),
    "permille": range(-1000, 1001),
    "chz": range(4000, 7001),
}


def digits_of(raw: bytes) -> int | None:
    """Packed BCD, lowest byte first, as a number; None when a nibble is no digit."""
    digits = bcd_digits(bytes(reversed(raw)))
    return None if digits is None else int(digits)


def signed_digits_of(raw: bytes) -> int | None:
    """The same with the top bit as sign."""
    value = digits_of(raw[:-1] + bytes((raw[-1] & 0x7F,)))
    return -value if value is not None and raw[-1] & 0x80 else value


def decode(item: Item, data: bytes) -> Values:
    """The values of one item; fields that are missing, empty or impossible are left out."""
    values: Values = {}
    at = 0
    for field in item.fields:
        raw = data[at : at + field.length]
        at += field.length
        if len(raw) < field.length or field.quantity is None:
            continue
        value = signed_digits_of(raw) if field.signed else digits_of(raw)
        if value is None:
            continue
        value = (
            value * field.times // field.divide
            if value >= 0
            else -(-value * field.times // field.divide)
        )
        if field.quantity.value.endswith("_ma"):
            value = abs(value)  # its sign is the direction, which power tells better
        limit = _LIMITS.get(field.quantity.value.rsplit("_", 1)[-1])
        if limit is None or value in limit:
            values[field.quantity] = value
    return values


def decode_clock(data: bytes) -> datetime | None:
    """Item 0400010C: naive time on the dial; None when it is no date."""
    if len(data) < 7:
        return None
    digits = [digits_of(data[at : at + 1]) for at in range(7)]
    second, minute, hour, weekday, day, month, year = digits
    if None in digits:
        return None
    assert year is not None and month is not None and day is not None  # noqa: PT018
    assert hour is not None and minute is not None and second is not None  # noqa: PT018
    dial = dial_time(bytes((year, month, day, hour, minute, second)))
    if dial is None or weekday is None or not weekday_agrees(dial, weekday):
        return None
    return dial


def encode_clock(dial: datetime) -> bytes:
    """Item 0400010C for this dial; Sunday is 0."""
    weekday = dial.isoweekday() % 7
    return bytes(reversed(bytes.fromhex(f"{dial:%y%m%d}{weekday:02d}{dial:%H%M%S}")))


def decode_time5(data: bytes) -> datetime | None:
    """Five bytes minute hour day month year of a freeze."""
    if len(data) < 5:
        return None
    digits = [digits_of(data[at : at + 1]) for at in range(5)]
    if any(digit is None for digit in digits):
        return None
    minute, hour, day, month, year = (digit or 0 for digit in digits)
    return dial_time(bytes((year, month, day, hour, minute, 0)))
