"""CJ/T 188 water and heat meters; water meters also with a valve."""

from __future__ import annotations

from types import MappingProxyType

from protocols.cjt188 import ADDRESS_DIGITS
from protocols.cjt188_driver import OPTION_HELP, VALVE_OPTION_HELP, Cjt188Driver
from protocols.meter_type import Addressing, Driver, MeterType, Options, Write
from protocols.reading import Quantity as Q

COLD_WATER, HEAT = 0x10, 0x20  # T of their frames
MANUAL = "CJ/T 188-2004 and -2018; layouts, units and options: spec field_protocols.md B"

WATER = frozenset({Q.VOLUME, Q.VOLUME_SETTLED, Q.CLOCK, Q.ALARMS})
VALVE = WATER | {Q.RELAY_CLOSED}  # bit 0: the valve is open
OF_HEAT = frozenset(
    {
        Q.HEAT,
        Q.HEAT_SETTLED,
        Q.HEAT_POWER,
        Q.FLOW,
        Q.VOLUME,
        Q.SUPPLY_TEMPERATURE,
        Q.RETURN_TEMPERATURE,
        Q.HOURS,
        Q.CLOCK,
        Q.ALARMS,
    }
)


def new_water(options: Options) -> Driver:
    """A water meter without a valve. Raises BadOption."""
    return Cjt188Driver(COLD_WATER, WATER, options, has_valve=False)


def new_valve(options: Options) -> Driver:
    """A water meter with a valve. Raises BadOption."""
    return Cjt188Driver(COLD_WATER, VALVE, options, has_valve=True)


def new_heat(options: Options) -> Driver:
    """A heat meter. Raises BadOption."""
    return Cjt188Driver(HEAT, OF_HEAT, options, has_valve=False)


METER_TYPES = (
    MeterType(
        name="cjt188_water",
        maker="any",
        title="CJ/T 188 water meter",
        phases=1,
        quantities=WATER,
        new_driver=new_water,
        manual=MANUAL,
        addressing=Addressing.NUMBER,
        address_digits=ADDRESS_DIGITS,
        option_help=MappingProxyType(OPTION_HELP),
    ),
    MeterType(
        name="cjt188_water_valve",
        maker="any",
        title="CJ/T 188 water meter with a valve",
        phases=1,
        quantities=VALVE,
        new_driver=new_valve,
        manual=MANUAL,
        writes=frozenset({Write.SWITCH}),
        addressing=Addressing.NUMBER,
        address_digits=ADDRESS_DIGITS,
        option_help=MappingProxyType(VALVE_OPTION_HELP),
    ),
    MeterType(
        name="cjt188_heat",
        maker="any",
        title="CJ/T 188 heat meter",
        phases=1,
        quantities=OF_HEAT,
        new_driver=new_heat,
        manual=MANUAL,
        addressing=Addressing.NUMBER,
        address_digits=ADDRESS_DIGITS,
        option_help=MappingProxyType(OPTION_HELP),
    ),
)
