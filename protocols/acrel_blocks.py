"""The blocks all Acrel prepaid meters share: live block 0x0200 and prepaid block 0x0400.

Pure bytes to values; the conversations around them are in acrel_driver.py. What the maker's
documents leave open is said beside each field (spec acrel.md 2.3, 2.4 and 5).
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.exchange import BadAnswer
from protocols.numbers import Kind, dial_time, weekday_agrees
from protocols.reading import Alarm, Control, Quantity, Values, meter_clock_s
from protocols.registers import Register, decode_registers

Q = Quantity

LIVE_AT = 0x0200
LIVE_WORDS_4_RATES = 0x60 // 2
LIVE_WORDS_8_RATES = 0x90 // 2

# Spec acrel.md 2.4. Powers 0.001 kW, currents 0.01 A, energies 0.01 kWh, money 0.01 yuan.
LIVE_REGISTERS = (
    Register(Q.VOLTAGE_L1, 0x0201, Kind.U16),
    Register(Q.VOLTAGE_L2, 0x0202, Kind.U16),
    Register(Q.VOLTAGE_L3, 0x0203, Kind.U16),
    Register(Q.CURRENT_L1, 0x0204, Kind.U16, times=10),
    Register(Q.CURRENT_L2, 0x0205, Kind.U16, times=10),
    Register(Q.CURRENT_L3, 0x0206, Kind.U16, times=10),
    Register(Q.POWER_L1, 0x0207, Kind.I16),
    Register(Q.POWER_L2, 0x0208, Kind.I16),
    Register(Q.POWER_L3, 0x0209, Kind.I16),
    Register(Q.POWER, 0x020A, Kind.I16),
    Register(Q.REACTIVE_POWER, 0x020E, Kind.I16),
    Register(Q.POWER_FACTOR, 0x0212, Kind.I16),
    # Which of 0x0037 and 0x0038 is CT and which PT is disputed; here it is not.
    Register(Q.PT_RATIO, 0x0213, Kind.U16),
    Register(Q.CT_RATIO, 0x0214, Kind.U16),
    Register(Q.ENERGY, 0x0215, Kind.U32, times=10),
    Register(Q.ENERGY_SHARP, 0x0217, Kind.U32, times=10),
    Register(Q.ENERGY_PEAK, 0x0219, Kind.U32, times=10),
    Register(Q.ENERGY_FLAT, 0x021B, Kind.U32, times=10),
    Register(Q.ENERGY_VALLEY, 0x021D, Kind.U32, times=10),
    Register(Q.REMAINING_CREDIT, 0x021F, Kind.I32),
    Register(Q.PURCHASE_COUNT, 0x0221, Kind.U16),
    Register(Q.LOAD_TRIPS, 0x0222, Kind.U16),
    Register(Q.BASE_AMOUNT, 0x0226, Kind.U32),
)
DEEP_VALLEY = Register(Q.ENERGY_DEEP_VALLEY, 0x0230, Kind.U32, times=10)  # 8-rate firmware only

PREPAID_AT = 0x0400
PREPAID_WORDS = 25

# Spec acrel.md 2.3. Units by analogy with the ADF manual: option money_step_fen where they differ.
PREPAID_REGISTERS = (
    Register(Q.PURCHASE_COUNT, 0x0401, Kind.U16),
    Register(Q.PRICE_SHARP, 0x0402, Kind.U32),
    Register(Q.PRICE_PEAK, 0x0404, Kind.U32),
    Register(Q.PRICE_FLAT, 0x0406, Kind.U32),
    Register(Q.PRICE_VALLEY, 0x0408, Kind.U32),
    Register(Q.ALARM_AMOUNT_1, 0x040A, Kind.U32),
    Register(Q.ALARM_AMOUNT_2, 0x040C, Kind.U32),
    Register(Q.OVERDRAFT, 0x040E, Kind.U32),
    Register(Q.TOTAL_PURCHASED, 0x0412, Kind.U32),
    Register(Q.REMAINING_CREDIT, 0x0414, Kind.I32),
    Register(Q.BASE_AMOUNT, 0x0416, Kind.U32),
)

MONEY = frozenset(
    {
        Q.REMAINING_CREDIT,
        Q.TOTAL_PURCHASED,
        Q.BASE_AMOUNT,
        Q.OVERDRAFT,
        Q.ALARM_AMOUNT_1,
        Q.ALARM_AMOUNT_2,
        Q.PRICE_SHARP,
        Q.PRICE_PEAK,
        Q.PRICE_FLAT,
        Q.PRICE_VALLEY,
    }
)

# 1000 V is where low voltage ends: a phase that shows more is not a phase of these meters, and the
# rest of such a block is not to be believed either.
VOLTAGE_DV_MAX = 10_000
VOLTAGES = (Q.VOLTAGE_L1, Q.VOLTAGE_L2, Q.VOLTAGE_L3)
# Impossible values of these are left out; they say nothing about the fields beside them.
POSSIBLE = {
    Q.POWER_FACTOR: range(-1000, 1001),
    Q.FREQUENCY: range(4000, 7001),  # the meters are made for 45 to 65 Hz
    Q.PT_RATIO: range(1, 0xFFFF),
    Q.CT_RATIO: range(1, 0xFFFF),
}
# Whose presence says that -1 is a value: the count for credit, the voltage for powers.
WITNESS = {Q.REMAINING_CREDIT: Q.PURCHASE_COUNT}


@dataclass(frozen=True, slots=True)
class Live:
    """A decoded live block."""

    type_code: int  # 7 DDSY1352, 5 DTSY1352, 10 ADF
    values: Values
    single_phase: bool  # ADF only: which map this unit id answers (byte 95, spec acrel.md 2.4)
    circuits: int | None  # ADF only: size of the cabinet, None when its class is unknown


def decode_live(payload: bytes, *, phases: int = 3, trust_8_rate_clock: bool = True) -> Live:
    """Decode 96 bytes (4 rates) or 144 bytes (8 rates). Raises BadAnswer for impossible values.

    A single-phase meter's bits for L2 and L3 mean nothing and are taken for 0. The 8-rate clock has
    no weekday: where no person named the firmware (`trust_8_rate_clock` false), a dial that reads
    well in both forms is left out.
    """
    assert len(payload) in (2 * LIVE_WORDS_4_RATES, 2 * LIVE_WORDS_8_RATES)
    eight_rates = len(payload) == 2 * LIVE_WORDS_8_RATES
    registers = (*LIVE_REGISTERS, DEEP_VALLEY) if eight_rates else LIVE_REGISTERS
    values = sane(decode_registers(registers, payload, LIVE_AT))
    values |= _states(payload[72:76], phases)
    clock_s = _live_clock_s(payload[80:87], eight_rates, trust_8_rate_clock)
    if clock_s is not None:
        values[Q.CLOCK] = clock_s
    return Live(
        type_code=int.from_bytes(payload[:2], "big"),
        values=values,
        single_phase=payload[95] != 0,
        circuits={0: 36, 1: 24, 2: 12}.get(payload[94]),
    )


def decode_prepaid(payload: bytes) -> Values:
    """Decode the 50 bytes of the prepaid block."""
    assert len(payload) == 2 * PREPAID_WORDS
    return sane(decode_registers(PREPAID_REGISTERS, payload, PREPAID_AT))


def sane(values: Values) -> Values:
    """The values a meter can show, impossible ones left out. Raises BadAnswer where one of them
    makes the whole block unbelievable."""
    for quantity in VOLTAGES:
        if values.get(quantity, 0) > VOLTAGE_DV_MAX:
            raise BadAnswer(
                f"{quantity.value} reads {values[quantity]}, which no meter of this type can show; "
                f"check the meter"
            )
    return {
        q: v
        for q, v in values.items()
        if (q not in POSSIBLE or v in POSSIBLE[q])
        # In a signed field -1 and "not available" are the same bytes; a neighbour tells which.
        and (v != -1 or WITNESS.get(q, Q.VOLTAGE_L1) in values)
    }


def scale_money(values: Values, step_fen: int) -> Values:
    """Amounts and prices of a meter that counts in steps other than one fen."""
    if step_fen == 1:
        return values
    return {q: v * step_fen if q in MONEY else v for q, v in values.items()}


def _states(raw: bytes, phases: int) -> Values:
    """Registers 0x0224 and 0x0225: relays, alarms and controls (spec acrel.md 2.4)."""
    if raw == b"\xff\xff\xff\xff":
        return {}  # not available: nothing is closed, open and in arrears at once
    relay, alarm, load, prepaid = raw
    if phases == 1:
        relay &= 0x3F
        alarm &= 0xF9
    alarms = (
        (Alarm.FAULT if relay & 1 else 0)
        | (Alarm.OVER_LIMIT if alarm & 0x10 else 0)
        | (Alarm.ARREARS if alarm & 0x20 else 0)
        | (Alarm.LOW_CREDIT_1 if alarm & 0x40 else 0)
        | (Alarm.LOW_CREDIT_2 if alarm & 0x80 else 0)
    )
    controls = (
        (Control.PREPAID if prepaid & 0x08 else 0)
        | (Control.TIME if prepaid & 0x80 else 0)
        | (Control.LOAD if load & 0x08 else 0)
        | (Control.FORCED if alarm & 0x08 else 0)
        | (Control.FORCED_L1 if alarm & 0x01 else 0)
        | (Control.FORCED_L2 if alarm & 0x02 else 0)
        | (Control.FORCED_L3 if alarm & 0x04 else 0)
    )
    return {Q.RELAY_CLOSED: relay >> 5, Q.ALARMS: int(alarms), Q.CONTROLS: int(controls)}


def _live_clock_s(raw: bytes, eight_rates: bool, trust_8_rate_clock: bool) -> int | None:
    """yy MM dd weekday hh mm ss; in the 8-rate form yy MM dd hh mm ss. None for no date.

    The weekday must fit: read in the wrong form, an hour would pass for a weekday at night.
    """
    with_weekday = dial_time(raw[:3] + raw[4:7])
    if with_weekday is not None and not weekday_agrees(with_weekday, raw[3]):
        with_weekday = None
    if not eight_rates:
        dial = with_weekday
    elif with_weekday is not None and not trust_8_rate_clock:
        dial = None
    else:
        dial = dial_time(raw[:6])
    return None if dial is None else meter_clock_s(dial)
