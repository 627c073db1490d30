"""An ADF300L/ADF400L cabinet: which circuit answers at which unit id, and the system area.

Source: spec acrel.md 2.9 and 2.12.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocols.exchange import BadAnswer, Conversation, ask_reply
from protocols.meter_type import Address
from protocols.modbus import UNIT_MAX, read_registers
from protocols.numbers import bcd_digits, dial_time
from protocols.reading import meter_clock_s

# Cabinet size -> highest base address; allowed are 1 and every step of the size up to it.
BASE_UNIT_MAX = {12: 229, 24: 217, 36: 217}
CIRCUITS_OF_CLASS = {0: 36, 1: 24, 2: 12}  # register 090F

NUMBER_AT = 0x0903  # users: three-phase, single-phase; then the cabinet's number, 3 words of BCD
NUMBER_WORDS = 5
CLOCK_AT = 0x090B  # second, minute, hour, weekday, day, month, year, unused; then the size class
CLOCK_WORDS = 5
CT_USERS_AT = 0x0962


class BadCabinet(ValueError):
    """A cabinet that cannot exist: one sentence that says which rule it breaks."""


class CircuitKind(enum.Enum):
    """How a user is connected, in the order users lie in a cabinet."""

    CT = "ct"  # three-phase through current transformers
    THREE_PHASE = "3p"
    SINGLE_PHASE = "1p"

    @property
    def units(self) -> int:
        """Unit ids it takes; of three, the user answers at the first, its L2 and L3 at the rest."""
        return 1 if self is CircuitKind.SINGLE_PHASE else 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """One user of a cabinet."""

    number: int  # 1 for the first user, counted over all kinds
    kind: CircuitKind
    unit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CabinetFacts:
    """What a cabinet says of itself in its system area."""

    meter_number: str | None
    size: int | None  # 12, 24 or 36
    ct_users: int
    three_phase_users: int
    single_phase_users: int
    clock_s: int | None  # see reading.meter_clock_s


def circuits(
    base_unit: int, size: int, ct_users: int, three_phase_users: int, single_phase_users: int
) -> tuple[Circuit, ...]:
    """Every user in order: CT, three-phase, single-phase. Raises BadCabinet."""
    if size not in BASE_UNIT_MAX:
        raise BadCabinet(f"a cabinet has 12, 24 or 36 circuits, not {size}")
    if base_unit % size != 1 or not 1 <= base_unit <= BASE_UNIT_MAX[size]:
        raise BadCabinet(
            f"a cabinet of {size} cannot have base address {base_unit}; "
            f"allowed are 1, {1 + size}, {1 + 2 * size} and so on up to {BASE_UNIT_MAX[size]}"
        )
    users = (
        (CircuitKind.CT, ct_users),
        (CircuitKind.THREE_PHASE, three_phase_users),
        (CircuitKind.SINGLE_PHASE, single_phase_users),
    )
    if any(count < 0 for _, count in users):
        raise BadCabinet("a number of users cannot be negative")
    taken = sum(kind.units * count for kind, count in users)
    if taken > size:
        raise BadCabinet(
            f"{ct_users} CT, {three_phase_users} three-phase and {single_phase_users} single-phase "
            f"users take {taken} circuits, but the cabinet has {size}"
        )
    if base_unit + taken - 1 > UNIT_MAX:
        raise BadCabinet(
            f"its users would reach unit id {base_unit + taken - 1}, and {UNIT_MAX} is the last"
        )
    found: list[Circuit] = []
    unit = base_unit
    for kind, count in users:
        for _ in range(count):
            found.append(Circuit(number=len(found) + 1, kind=kind, unit=unit))
            unit += kind.units
    return tuple(found)


def base_unit(unit: int, size: int) -> int:
    """The base address of the cabinet of this size in which a unit lies."""
    return (unit - 1) // size * size + 1


def read_cabinet(base: Address) -> Conversation[CabinetFacts]:
    """Ask a cabinet at its base address what it is. Raises ProtocolError."""
    head = yield from ask_reply(read_registers(base.unit, NUMBER_AT, NUMBER_WORDS))
    clock = yield from ask_reply(read_registers(base.unit, CLOCK_AT, CLOCK_WORDS))
    ct = yield from ask_reply(read_registers(base.unit, CT_USERS_AT, 1))
    second, minute, hour, _week, day, month, year = clock[:7]
    dial = dial_time(bytes((year, month, day, hour, minute, second)))
    facts = CabinetFacts(
        meter_number=bcd_digits(head[4:10]),
        size=CIRCUITS_OF_CLASS.get(int.from_bytes(clock[8:10], "big")),
        ct_users=int.from_bytes(ct, "big"),
        three_phase_users=int.from_bytes(head[0:2], "big"),
        single_phase_users=int.from_bytes(head[2:4], "big"),
        clock_s=None if dial is None else meter_clock_s(dial),
    )
    if facts.size is not None:
        try:
            circuits(
                1, facts.size, facts.ct_users, facts.three_phase_users, facts.single_phase_users
            )
        except BadCabinet as bad:
            raise BadAnswer(f"no cabinet answers at unit {base.unit}: {bad}") from bad
    return facts
