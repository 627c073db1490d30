"""An ADF300L or ADF400L cabinet: up to 36 circuits, each its own unit id (spec acrel.md 2.9-2.12).

Order inside: CT users, direct three-phase users, single-phase users. A three-phase user takes
three ids; +0, +1 and +2 also answer as its L1, L2 and L3. The base id answers for the box, too.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from simulators.acrel_live import LIVE_START, LIVE_WORDS, live_block, rates_u32, u16, week_byte
from simulators.acrel_orders import decode_clock, load_registers, masked_orders, purchase_registers
from simulators.adf_images import (
    month_record,
    prepaid_registers,
    recharge_record,
    single_phase_values,
    three_phase_values,
)
from simulators.dial import dial_datetime, dial_ms_of
from simulators.metering import MONTHS_KEPT, RECHARGES_KEPT, Look, Meter, Phase
from simulators.modbus_meter import Area, Memory, Order, Records, Unit, Written
from simulators.rtu import READ_WORDS_MAX, No

TYPE_CODE = 10  # spec acrel.md 2.4
SIZE_CLASS = {36: 0, 24: 1, 12: 2}
RECORD_WORDS = 10
UNIT_MAX = 247  # the last address of a Modbus line
THREE_PHASE_IDS = 3  # a CT or three-phase user takes so many unit ids


class UserKind(enum.Enum):
    """How one user is fed."""

    CT = "ct"  # three phases through current transformers
    THREE_PHASE = "3p"
    SINGLE_PHASE = "1p"


@dataclass(frozen=True, slots=True, kw_only=True)
class CabinetPlan:
    """How a box is wired."""

    base_unit: int
    size: int = 36
    ct_users: int = 0
    three_phase_users: int = 0
    single_phase_users: int = 0

    def __post_init__(self) -> None:
        if self.size not in SIZE_CLASS:
            raise ValueError(f"a box has 36, 24 or 12 circuits, not {self.size}")
        if self.base_unit % self.size != 1 or self.base_unit + self.circuits - 1 > UNIT_MAX:
            raise ValueError(f"a box of {self.size} cannot begin at unit {self.base_unit}")
        if self.circuits > self.size:
            raise ValueError(f"{self.circuits} circuits do not fit into a box of {self.size}")

    @property
    def circuits(self) -> int:
        wide = self.ct_users + self.three_phase_users
        return THREE_PHASE_IDS * wide + self.single_phase_users

    def users(self) -> list[tuple[int, UserKind]]:
        """Each user's unit id and kind, in the order of the box."""
        kinds = (
            [UserKind.CT] * self.ct_users
            + [UserKind.THREE_PHASE] * self.three_phase_users
            + [UserKind.SINGLE_PHASE] * self.single_phase_users
        )
        unit, out = self.base_unit, []
        for kind in kinds:
            out.append((unit, kind))
            unit += 1 if kind is UserKind.SINGLE_PHASE else THREE_PHASE_IDS
        return out


def cabinet_units(
    plan: CabinetPlan,
    meters: Sequence[Meter],
    *,
    number: str,
    read_words_max: int = READ_WORDS_MAX,
) -> dict[int, Unit]:
    """Every unit id of the box. `meters` are its users in order, `number` is the box's own."""
    users = plan.users()
    assert len(users) == len(meters)
    size_class = SIZE_CLASS[plan.size]
    units: dict[int, Unit] = {}
    for (unit, kind), meter in zip(users, meters, strict=True):
        if kind is UserKind.SINGLE_PHASE:
            assert meter.phases == 1
            units[unit] = _unit(meter, phase=0, size_class=size_class, limit=read_words_max)
            continue
        assert meter.phases == THREE_PHASE_IDS
        for phase in range(THREE_PHASE_IDS):
            units[unit + phase] = _unit(
                meter, phase=phase, size_class=size_class, limit=read_words_max
            )
        _add_three_phase(units[unit], size_class)
    _add_box(units[plan.base_unit], plan, number, tuple(meters))
    return units


def _unit(meter: Meter, *, phase: int, size_class: int, limit: int) -> Unit:
    """A single-phase user, or one phase of a three-phase user as the box shows it."""
    time_control = Memory(0x0600, bytes(52))

    def live(look: Look) -> bytes:
        return live_block(_one_phase(look, phase), type_code=TYPE_CODE, tail=bytes((size_class, 1)))

    return Unit(
        meter=meter,
        areas=[
            Area(LIVE_START, LIVE_WORDS, live),
            Area(0x0300, 33, lambda look: single_phase_values(look, look.phases[phase])),
            Area(0x0400, 48, _rate_registers),
            Area(0x0500, 19, prepaid_registers),
            time_control.area,
            Area(0x0700, 8, _load_registers),
        ],
        orders=[
            Order(0x0500, 19, _prepaid_writer(meter, purchase_at=0x0D)),
            time_control.order,
            Order(0x0700, 8, load_registers(meter)),
        ],
        records=[
            Records(0x1A00, MONTHS_KEPT, RECORD_WORDS, month_record),
            Records(0x1B00, RECHARGES_KEPT, RECORD_WORDS, recharge_record),
        ],
        masked=masked_orders(meter),
        read_words_max=limit,
    )


def _add_three_phase(unit: Unit, size_class: int) -> None:
    """The first id of a three-phase user: its live block covers all phases, and map 2.11."""
    unit.areas[0] = Area(
        LIVE_START,
        LIVE_WORDS,
        lambda look: live_block(look, type_code=TYPE_CODE, tail=bytes((size_class, 0))),
    )
    # 0x0536 to 0x0548: the same prepaid block as 0x0500, at the place for three phases.
    unit.areas += [
        Area(0x033F, 88, three_phase_values),
        Area(0x0430, 48, _rate_registers),
        Area(0x0536, 18, lambda look: prepaid_registers(look)[:36]),
        Area(0x0718, 8, _load_registers),
    ]
    unit.orders.append(Order(0x0536, 18, _prepaid_writer(unit.meter, purchase_at=0x0D)))


def _add_box(unit: Unit, plan: CabinetPlan, number: str, meters: tuple[Meter, ...]) -> None:
    """The system area at the base id (spec acrel.md 2.12). One clock drives the whole box."""
    meter = unit.meter
    before_clock = (
        bytes((0, plan.base_unit))  # 0900 address
        + bytes((0, 1))  # 0901 no parity, 9600
        + u16(1)  # 0902 keypad password
        + u16(plan.three_phase_users)
        + u16(plan.single_phase_users)
        + bytes.fromhex(number)  # 0905-0907
        + u16(0)  # 0908 prepaid, Modbus
        + u16(0)
        + u16(0)
    )
    after_clock = u16(SIZE_CLASS[plan.size]) + u16(plan.size)
    table = Memory(0x0914, meter.day_table.encode())
    table_2 = Memory(0x0929, meter.day_table.encode())
    zones = Memory(0x093E, bytes((1, 1, 1)).ljust(12, b"\0"))
    unit.areas += [
        Area(0x0900, 17, lambda look: before_clock + _clock_registers(look) + after_clock),
        table.area,
        table_2.area,
        zones.area,
        Area(0x0947, 7, lambda _: number.rjust(14, "1").encode("ascii")),
        Area(0x0962, 1, lambda _: u16(plan.ct_users)),
    ]
    unit.orders += [
        Order(0x090B, 4, _clock_writer(meters)),
        table.order,
        table_2.order,
        zones.order,
    ]


def _one_phase(look: Look, phase: int) -> Look:
    return replace(look, phases=(look.phases[phase], Phase(), Phase()))


def _rate_registers(look: Look) -> bytes:
    """Total, reactive, forward, reverse active and reactive by rate: all import, no export."""
    rates = rates_u32(look.energy_w_ms)
    return rates + bytes(16) + rates + bytes(16) + bytes(32)


def _load_registers(look: Look) -> bytes:
    limit = look.load_limit
    return (
        u16(limit.on)
        + u16(min(limit.max_w, 0xFFFF))
        + u16(limit.step_w)
        + u16(limit.power_factor_permille)
        + u16(look.load_trips)
        + u16(limit.trips_allowed)
        + u16(limit.recover_s // 10)
        + u16(0)
    )


def _clock_registers(look: Look) -> bytes:
    """090B to 090E: sec,min · hour,week · day,month · year,- in binary."""
    dial = dial_datetime(look.dial_ms)
    return bytes(
        (
            dial.second,
            dial.minute,
            dial.hour,
            week_byte(look.dial_ms),
            dial.day,
            dial.month,
            dial.year % 100,
            0,
        )
    )


def _clock_writer(meters: tuple[Meter, ...]) -> Callable[[int, bytes], Written]:
    def write(offset: int, data: bytes) -> Written:
        if offset or len(data) != 8:
            return No.ADDRESS
        dial = decode_clock(data)
        if dial is None:
            return No.VALUE
        for meter in meters:
            meter.set_clock(dial_ms_of(dial))
        return None

    return write


def _prepaid_writer(meter: Meter, *, purchase_at: int) -> Callable[[int, bytes], Written]:
    """Switch, prices, alarms and purchase, each written as a whole (spec acrel.md 2.10)."""
    purchase = purchase_registers(meter)

    def write(offset: int, data: bytes) -> Written:
        if offset == purchase_at:
            return purchase(0, data)
        values = [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]
        account = meter.account
        match (offset, len(data)):
            case (0x00, 2):
                account = replace(account, prepaid=data != b"\0\0")
            case (0x01, 16):
                prices = (values[0], values[1], values[2], values[3])
                account = replace(account, prices_fen_per_kwh=prices)
            case (0x09, 8):
                account = replace(account, alarm_1_fen=values[0], alarm_2_fen=values[1])
            case (0x10, 4):
                account = replace(account, base_amount_fen=values[0])
            case _:
                return No.ADDRESS
        meter.set_account(account)
        return None

    return write
