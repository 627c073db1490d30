"""Acrel DTSY1352: three-phase prepaid meter, direct to 80 A or by current transformers.

A CT-fed meter may count on the secondary side: that is open until a bench check (spec acrel.md 5,
no. 16), and set by a meter's `energy_multiplier` in the site file, never here.
"""

from __future__ import annotations

from types import MappingProxyType

from protocols.acrel_blocks import LIVE_REGISTERS, PREPAID_REGISTERS
from protocols.acrel_controls import Tables
from protocols.acrel_driver import OPTION_HELP, AcrelDriver
from protocols.meter_type import Driver, MeterType, Options, Write
from protocols.reading import Quantity as Q

TYPE_CODE = 5

QUANTITIES = frozenset(
    {register.quantity for register in (*LIVE_REGISTERS, *PREPAID_REGISTERS)}
    | {Q.ENERGY_DEEP_VALLEY, Q.RELAY_CLOSED, Q.ALARMS, Q.CONTROLS, Q.CLOCK}
)

TABLES = Tables(day_tables=(0x2000, 0x2015), date_plan=0x0028)  # spec acrel.md 2.5


def new_driver(options: Options) -> Driver:
    """A driver for one such meter. Raises BadOption."""
    return AcrelDriver(TYPE_CODE, 3, QUANTITIES, TABLES, options)


METER_TYPES = (
    MeterType(
        name="acrel_dtsy1352",
        maker="Acrel",
        title="Acrel DTSY1352, three-phase prepaid",
        phases=3,
        quantities=QUANTITIES,
        new_driver=new_driver,
        manual="DDSY1352/DTSY1352 manual T181 T1.0; live and prepaid blocks: spec acrel.md 2.1-2.4",
        writes=frozenset(Write),
        type_codes=frozenset({TYPE_CODE}),
        option_help=MappingProxyType(OPTION_HELP),
    ),
)
