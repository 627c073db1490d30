"""Register maps of one ADF300L/ADF400L user (spec acrel.md 2.10, 2.11) and its two record lists.

The same addresses at every unit id; which of the two maps holds depends on how the user is wired.
Energy 0.01 kWh, power 0.001 kW, current 0.01 A, voltage 0.1 V, money 0.01 yuan.
"""

from __future__ import annotations

from protocols.meter_type import Frozen, Recharge
from protocols.numbers import Kind, dial_time
from protocols.reading import Quantity, Values
from protocols.registers import Register

Q = Quantity

# The three that prove a purchase: a look at them must be one look.
PURCHASE = "purchase"

SINGLE_PHASE = (
    Register(Q.VOLTAGE_L1, 0x0300, Kind.U16),
    Register(Q.CURRENT_L1, 0x0301, Kind.U16, times=10),
    Register(Q.POWER, 0x0302, Kind.I16),
    Register(Q.REACTIVE_POWER, 0x0303, Kind.I16),
    Register(Q.POWER_FACTOR, 0x0304, Kind.I16),
    Register(Q.FREQUENCY, 0x0305, Kind.U16),
    Register(Q.ENERGY, 0x0306, Kind.U32, times=10),
    Register(Q.REACTIVE_ENERGY, 0x0308, Kind.U32, times=10),
    # The manual prints kWh here and yuan in the three-phase map; in money mode it is yuan.
    Register(Q.REMAINING_CREDIT, 0x030A, Kind.I32, group=PURCHASE),
    Register(Q.TOTAL_PURCHASED, 0x030C, Kind.U32, group=PURCHASE),
    Register(Q.PURCHASE_COUNT, 0x030E, Kind.U16, group=PURCHASE),
    Register(Q.BASE_AMOUNT, 0x030F, Kind.U32),
    # 0x0311 is a status word whose bits are not published: relays come from the live block.
    Register(Q.OVERDRAFT, 0x0315, Kind.U32),
    Register(Q.ENERGY_EXPORT, 0x031B, Kind.U32, times=10),
    Register(Q.ENERGY_SHARP, 0x0400, Kind.U32, times=10),
    Register(Q.ENERGY_PEAK, 0x0402, Kind.U32, times=10),
    Register(Q.ENERGY_FLAT, 0x0404, Kind.U32, times=10),
    Register(Q.ENERGY_VALLEY, 0x0406, Kind.U32, times=10),
    Register(Q.PRICE_SHARP, 0x0501, Kind.U32),
    Register(Q.PRICE_PEAK, 0x0503, Kind.U32),
    Register(Q.PRICE_FLAT, 0x0505, Kind.U32),
    Register(Q.PRICE_VALLEY, 0x0507, Kind.U32),
    Register(Q.ALARM_AMOUNT_1, 0x0509, Kind.U32),
    Register(Q.ALARM_AMOUNT_2, 0x050B, Kind.U32),
    Register(Q.LOAD_TRIPS, 0x0704, Kind.U16),
)

THREE_PHASE = (
    Register(Q.VOLTAGE_L1, 0x033F, Kind.U16),
    Register(Q.VOLTAGE_L2, 0x0340, Kind.U16),
    Register(Q.VOLTAGE_L3, 0x0341, Kind.U16),
    Register(Q.CURRENT_L1, 0x0342, Kind.U16, times=10),
    Register(Q.CURRENT_L2, 0x0343, Kind.U16, times=10),
    Register(Q.CURRENT_L3, 0x0344, Kind.U16, times=10),
    Register(Q.POWER, 0x0345, Kind.I16),
    Register(Q.POWER_L1, 0x0346, Kind.I16),
    Register(Q.POWER_L2, 0x0347, Kind.I16),
    Register(Q.POWER_L3, 0x0348, Kind.I16),
    Register(Q.REACTIVE_POWER, 0x0349, Kind.I16),
    Register(Q.POWER_FACTOR, 0x034D, Kind.I16),
    Register(Q.FREQUENCY, 0x0351, Kind.U16),
    Register(Q.ENERGY, 0x035E, Kind.U32, times=10),
    Register(Q.REACTIVE_ENERGY, 0x0360, Kind.U32, times=10),
    Register(Q.REMAINING_CREDIT, 0x0362, Kind.I32, group=PURCHASE),
    Register(Q.TOTAL_PURCHASED, 0x0364, Kind.U32, group=PURCHASE),
    Register(Q.PURCHASE_COUNT, 0x0366, Kind.U16, group=PURCHASE),
    Register(Q.BASE_AMOUNT, 0x0367, Kind.U32),
    Register(Q.OVERDRAFT, 0x036D, Kind.U32),
    Register(Q.ENERGY_EXPORT, 0x0391, Kind.U32, times=10),
    Register(Q.ENERGY_SHARP, 0x0430, Kind.U32, times=10),
    Register(Q.ENERGY_PEAK, 0x0432, Kind.U32, times=10),
    Register(Q.ENERGY_FLAT, 0x0434, Kind.U32, times=10),
    Register(Q.ENERGY_VALLEY, 0x0436, Kind.U32, times=10),
    Register(Q.PRICE_SHARP, 0x0537, Kind.U32),
    Register(Q.PRICE_PEAK, 0x0539, Kind.U32),
    Register(Q.PRICE_FLAT, 0x053B, Kind.U32),
    Register(Q.PRICE_VALLEY, 0x053D, Kind.U32),
    Register(Q.ALARM_AMOUNT_1, 0x053F, Kind.U32),
    Register(Q.ALARM_AMOUNT_2, 0x0541, Kind.U32),
    Register(Q.LOAD_TRIPS, 0x071C, Kind.U16),
)

# Record lists: the address is an index, and one read of 10 registers brings one record.
MONTHS_AT, MONTHS_MAX = 0x1A00, 12
RECHARGES_AT, RECHARGES_MAX = 0x1B00, 20
RECORD_WORDS = 10


def decode_month(record: bytes) -> Frozen | None:
    """YY MM DD hh, then energy by rate; None for an empty record.

    A record has no total, and none is made up here: rates are cut to 0.01 kWh each.
    """
    dial = dial_time(record[:4] + b"\0\0")
    if dial is None:
        return None
    rates = (Q.ENERGY_SHARP, Q.ENERGY_PEAK, Q.ENERGY_FLAT, Q.ENERGY_VALLEY)
    values: Values = {}
    for at, quantity in enumerate(rates):
        raw = Kind.U32.decode(record[4 + 4 * at : 8 + 4 * at])
        if raw is not None:
            values[quantity] = raw * 10
    return Frozen(dial=dial, values=values) if values else None


def decode_recharge(record: bytes, step_fen: int) -> Recharge | None:
    """YY MM DD hh mm ss, count, amount, remaining, total energy; None for an empty record."""
    dial = dial_time(record[:6])
    count = Kind.U16.decode(record[6:8])
    amount = Kind.U32.decode(record[8:12])
    remaining = Kind.I32.decode(record[12:16])
    energy = Kind.U32.decode(record[16:20])
    if dial is None or count is None or amount is None or remaining is None or energy is None:
        return None
    return Recharge(
        dial=dial,
        purchase_count=count,
        amount_fen=amount * step_fen,
        remaining_credit_fen=remaining * step_fen,
        energy_wh=energy * 10,
    )
