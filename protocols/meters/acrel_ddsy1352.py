"""Acrel DDSY1352: single-phase prepaid meter, direct to 60 A, internal or external relay."""

from __future__ import annotations

from types import MappingProxyType

from protocols.acrel_blocks import LIVE_REGISTERS, PREPAID_REGISTERS
from protocols.acrel_controls import Tables
from protocols.acrel_driver import OPTION_HELP, AcrelDriver
from protocols.meter_type import Driver, MeterType, Options, Write
from protocols.reading import Quantity as Q

TYPE_CODE = 7

# The shared live block carries L2 and L3 too; on this meter they are empty.
OTHER_PHASES = {
    Q.VOLTAGE_L2,
    Q.VOLTAGE_L3,
    Q.CURRENT_L2,
    Q.CURRENT_L3,
    Q.POWER_L1,  # the same as POWER
    Q.POWER_L2,
    Q.POWER_L3,
}
QUANTITIES = frozenset(
    {register.quantity for register in (*LIVE_REGISTERS, *PREPAID_REGISTERS)}
    | {Q.ENERGY_DEEP_VALLEY, Q.RELAY_CLOSED, Q.ALARMS, Q.CONTROLS, Q.CLOCK}
) - frozenset(OTHER_PHASES)

TABLES = Tables(day_tables=(0x2006, 0x201B), date_plan=0x2000)  # spec acrel.md 2.5


def new_driver(options: Options) -> Driver:
    """A driver for one such meter. Raises BadOption."""
    return AcrelDriver(TYPE_CODE, 1, QUANTITIES, TABLES, options)


METER_TYPES = (
    MeterType(
        name="acrel_ddsy1352",
        maker="Acrel",
        title="Acrel DDSY1352, single-phase prepaid",
        phases=1,
        quantities=QUANTITIES,
        new_driver=new_driver,
        manual="DDSY1352/DTSY1352 manual T181 T1.0; live and prepaid blocks: spec acrel.md 2.1-2.4",
        writes=frozenset(Write),
        type_codes=frozenset({TYPE_CODE}),
        option_help=MappingProxyType(OPTION_HELP),
    ),
)
