"""What a meter can tell us, in the units we keep: integers, unit last in the name."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta


class Quantity(enum.Enum):
    """One thing a meter can tell; the value is its name in storage, the unit last.

    Every value is an integer. Signed where the comment says so.
    """

    # Energy, Wh. Registers of 0.01 kWh come in steps of 10 Wh.
    ENERGY = "energy_wh"  # total active import (the number on the bill)
    ENERGY_SHARP = "energy_sharp_wh"  # 尖
    ENERGY_PEAK = "energy_peak_wh"  # 峰
    ENERGY_FLAT = "energy_flat_wh"  # 平
    ENERGY_VALLEY = "energy_valley_wh"  # 谷
    ENERGY_DEEP_VALLEY = "energy_deep_valley_wh"  # 深谷, eight-rate firmware only
    ENERGY_EXPORT = "energy_export_wh"
    REACTIVE_ENERGY = "reactive_energy_varh"

    # Water and heat. Water meters count in steps of 10 l, or of less than one.
    VOLUME = "volume_l"  # the number on a water bill
    VOLUME_SETTLED = "volume_settled_l"  # at the meter's last settlement day
    HEAT = "heat_wh"  # the number on a heat bill
    HEAT_SETTLED = "heat_settled_wh"
    HEAT_POWER = "heat_power_w"
    FLOW = "flow_l_per_h"
    SUPPLY_TEMPERATURE = "supply_temperature_cdeg"  # 0.01 degree Celsius
    RETURN_TEMPERATURE = "return_temperature_cdeg"
    HOURS = "working_time_hours"

    # Money in the meter, fen (0.01 yuan).
    REMAINING_CREDIT = "remaining_credit_fen"  # signed: negative in overdraft
    TOTAL_PURCHASED = "total_purchased_fen"
    PURCHASE_COUNT = "purchase_count"
    BASE_AMOUNT = "base_amount_fen"
    OVERDRAFT = "overdraft_fen"  # allowance
    ALARM_AMOUNT_1 = "alarm_amount_1_fen"
    ALARM_AMOUNT_2 = "alarm_amount_2_fen"
    PRICE_SHARP = "price_sharp_fen_per_kwh"
    PRICE_PEAK = "price_peak_fen_per_kwh"
    PRICE_FLAT = "price_flat_fen_per_kwh"
    PRICE_VALLEY = "price_valley_fen_per_kwh"

    # Instantaneous values.
    VOLTAGE_L1 = "voltage_l1_dv"  # 0.1 V
    VOLTAGE_L2 = "voltage_l2_dv"
    VOLTAGE_L3 = "voltage_l3_dv"
    CURRENT_L1 = "current_l1_ma"
    CURRENT_L2 = "current_l2_ma"
    CURRENT_L3 = "current_l3_ma"
    POWER = "power_w"  # signed
    POWER_L1 = "power_l1_w"  # signed
    POWER_L2 = "power_l2_w"  # signed
    POWER_L3 = "power_l3_w"  # signed
    REACTIVE_POWER = "reactive_power_var"  # signed
    POWER_FACTOR = "power_factor_permille"  # signed
    FREQUENCY = "frequency_chz"  # 0.01 Hz

    # States.
    RELAY_CLOSED = "relay_closed_bits"  # bits 0, 1, 2 = L1, L2, L3 carry current
    ALARMS = "alarm_bits"  # see Alarm
    CONTROLS = "control_bits"  # see Control
    LOAD_TRIPS = "load_trip_count"
    PT_RATIO = "pt_ratio"
    CT_RATIO = "ct_ratio"

    # The meter's own clock: seconds since 2000-01-01 00:00 on its own dial, see meter_clock_s().
    CLOCK = "meter_clock_s"


class Alarm(enum.IntFlag):
    """Bits of Quantity.ALARMS."""

    FAULT = 1
    OVER_LIMIT = 2
    ARREARS = 4
    LOW_CREDIT_1 = 8  # below alarm amount 1: prompt
    LOW_CREDIT_2 = 16  # below alarm amount 2: trip
    LOW_BATTERY = 32  # water and heat meters live on one


class Control(enum.IntFlag):
    """Bits of Quantity.CONTROLS: which controls are on, and which hold a phase open now."""

    PREPAID = 1  # 费控 enabled
    TIME = 2  # 时控 enabled
    LOAD = 4  # 负控 enabled
    FORCED = 8  # 强控 active: outranks the three above
    FORCED_L1 = 16  # forced-control output of each phase
    FORCED_L2 = 32
    FORCED_L3 = 64


class Origin(enum.Enum):
    """Where a reading came from; a bill must be able to say which."""

    POLLED = "polled"
    PUSHED = "pushed"
    FROZEN = "frozen"  # read back later from the meter's own memory of that instant
    CARD = "card"  # carried home on a user card


Values = dict[Quantity, int]

# The number on the bill, whichever of them a meter has; of several, the first.
BILLED = (Quantity.ENERGY, Quantity.HEAT, Quantity.VOLUME)


def billed(values: Values) -> Quantity | None:
    """Which of these values stands on the bill; None: none of them does."""
    return next((quantity for quantity in BILLED if quantity in values), None)


METER_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001  naive on purpose: a dial has no time zone


def meter_clock_s(dial: datetime) -> int:
    """Naive time shown on a meter's dial as the integer kept for Quantity.CLOCK."""
    assert dial.tzinfo is None, "a dial has no time zone"
    return int((dial - METER_EPOCH).total_seconds())


def meter_dial(clock_s: int) -> datetime:
    """The inverse of meter_clock_s()."""
    return METER_EPOCH + timedelta(seconds=clock_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at one meter. `at` is aware; all values belong to that one instant."""

    meter_id: int
    at: datetime  # the instant the values are true for, not their arrival in our database
    received_at: datetime
    origin: Origin
    values: Values

    def __post_init__(self) -> None:
        assert self.at.tzinfo is not None, "naive time"
        assert self.received_at.tzinfo is not None, "naive time"
