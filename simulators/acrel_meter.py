"""DDSY1352 and DTSY1352: their register maps over a metering meter (spec acrel.md 2.1 to 2.6)."""

from __future__ import annotations

from dataclasses import dataclass

from simulators.acrel_live import (
    LIVE_START,
    LIVE_WORDS,
    LIVE_WORDS_8_RATES,
    energy_u32,
    i16,
    i32,
    make_live,
    rates_u32,
    u16,
    u32,
)
from simulators.acrel_orders import TimeTables, forced_control, masked_orders
from simulators.metering import Look, Meter
from simulators.modbus_meter import Area, Memory, Order, Unit
from simulators.rtu import READ_WORDS_MAX
from simulators.tariff import Rate, decode_day_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One member of the family."""

    type_code: int
    phases: int
    day_table_at: int  # spec acrel.md 2.5
    day_table_2_at: int
    date_plan_at: int
    load_words: int  # spec acrel.md 2.6


DDSY1352 = Model(
    type_code=7,
    phases=1,
    day_table_at=0x2006,
    day_table_2_at=0x201B,
    date_plan_at=0x2000,
    load_words=7,
)
DTSY1352 = Model(
    type_code=5,
    phases=3,
    day_table_at=0x2000,
    day_table_2_at=0x2015,
    date_plan_at=0x0028,
    load_words=19,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """How one meter differs from its sisters."""

    eight_rates: bool = False  # the long live block and register 0x5030
    ct: int = 1
    read_words_max: int = READ_WORDS_MAX
    refuse_aloud: bool = False  # a purchase with a wrong count: exception 3 instead of no effect


def acrel_unit(model: Model, meter: Meter, unit: int, firmware: Firmware | None = None) -> Unit:
    """A DDSY1352 or DTSY1352 answering at `unit`."""
    firmware = firmware or Firmware()
    assert meter.phases == model.phases
    run_status = Memory(0x0022, u16(0x0041))  # multi-rate, internal relay, prepaid (spec 2.1)
    password = Memory(0x000A, u16(1))
    ratios = Memory(0x0037, u16(firmware.ct) + u16(1))
    relay_output = Memory(0x0063, u16(0))
    serial = Memory(0x03A0, meter.number.rjust(14, "1").encode("ascii"))
    day_table = Memory(
        model.day_table_at, meter.day_table.encode(), lambda data: _take_day_table(meter, data)
    )
    day_table_2 = Memory(model.day_table_2_at, meter.day_table.encode())
    # One date zone: table 1 from 1 January; triples are table, day, month (spec 2.5, conflict).
    date_plan = Memory(model.date_plan_at, bytes((1, 1, 1)).ljust(12, b"\0"))
    memories = (
        run_status,
        password,
        ratios,
        relay_output,
        serial,
        day_table,
        day_table_2,
        date_plan,
    )
    time_tables = TimeTables(model.phases)
    live_words = LIVE_WORDS_8_RATES if firmware.eight_rates else LIVE_WORDS
    live = make_live(model.type_code, eight_rates=firmware.eight_rates, ct=firmware.ct)
    areas = [
        Area(LIVE_START, live_words, live),
        Area(0x0400, 25, _prepaid_block),
        Area(0x0000, 10, lambda look: energy_u32(look.total_w_ms) + rates_u32(look.energy_w_ms)),
        Area(0x0043, 3, lambda look: bytes.fromhex(look.meter_number)),
        Area(0x0046, 28, _raw_prepaid_block),
        # Two ports with the same layout: address, baud, parity and stop index, meter number.
        Area(0x0360, 5, lambda look: bytes((unit, 3, 0, 0)) + bytes.fromhex(look.meter_number)),
        Area(0x0365, 5, lambda look: bytes((unit, 3, 0, 0)) + bytes.fromhex(look.meter_number)),
        Area(0x0420, time_tables.words, lambda _: time_tables.image()),
        Area(0x0480, model.load_words, lambda look: _load_block(look, model.load_words)),
        *(memory.area for memory in memories),
    ]
    if model.phases == 1:
        areas.append(Area(0x000B, 7, _single_phase_values))
    if firmware.eight_rates:
        areas.append(
            Area(0x5030, 2, lambda look: energy_u32(look.energy_w_ms[Rate.DEEP_VALLEY - 1]))
        )
    return Unit(
        meter=meter,
        areas=areas,
        orders=[Order(0x0057, 2, forced_control(meter)), *(m.order for m in memories)],
        masked=masked_orders(meter, refuse_aloud=firmware.refuse_aloud) | time_tables.orders(),
        read_words_max=firmware.read_words_max,
    )


def _take_day_table(meter: Meter, data: bytes) -> bool:
    table = decode_day_table(data)
    if table is None:
        return False
    meter.set_day_table(table)
    return True


def _prepaid_block(look: Look) -> bytes:
    """0x0400, 25 registers (spec acrel.md 2.3)."""
    account = look.account
    return (
        u16(account.prepaid)
        + u16(look.purchase_count)
        + b"".join(u32(price) for price in account.prices_fen_per_kwh)
        + u32(account.alarm_1_fen)
        + u32(account.alarm_2_fen)
        + u32(account.overdraft_fen)
        + u32(0)  # 0x0410: meaning unknown
        + u32(look.total_purchased_fen)
        + i32(look.remaining_fen)
        + u32(account.base_amount_fen)
        + u16(account.recover_s)
    )


def _raw_prepaid_block(look: Look) -> bytes:
    """0x0046, 28 registers (spec acrel.md 2.2)."""
    account = look.account
    head = u32(account.alarm_1_fen) + u32(account.alarm_2_fen) + u32(account.overdraft_fen)
    money = u16(look.purchase_count) + i32(look.remaining_fen)
    state = bytes((account.prepaid,))
    prices = b"".join(u32(price) for price in account.prices_fen_per_kwh)
    limit = u16(min(look.load_limit.max_w, 0xFFFF))
    return head + bytes(4) + money + bytes(8) + state + bytes(7) + prices + limit


def _single_phase_values(look: Look) -> bytes:
    """0x000B to 0x0011: V, A, kW, kvar, kVA, power factor, Hz (spec acrel.md 2.1)."""
    phase = look.phases[0]
    apparent_va = phase.power_w * 1000 // max(phase.power_factor_permille, 1)
    return (
        u16(phase.voltage_dv)
        + u16(phase.current_ca)
        + i16(phase.power_w)
        + i16(phase.reactive_var)
        + u16(apparent_va)
        + i16(phase.power_factor_permille)
        + u16(5000)
    )


def _load_block(look: Look, words: int) -> bytes:
    """0x0480: switch, then six registers for each phase (spec acrel.md 2.6)."""
    limit = look.load_limit
    one = (
        u16(min(limit.max_w, 0xFFFF))
        + u16(limit.step_w)
        + u16(limit.power_factor_permille)
        + u16(look.load_trips)
        + u16(limit.trips_allowed)
        + bytes((min(limit.recover_s // 10, 255), 0))
    )
    groups = (words - 1) // 6
    switch = limit.on if groups == 1 else (0b1111 if limit.on else 0)
    return u16(switch) + one * groups
