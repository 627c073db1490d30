"""Standard meters of DL/T 645: energy by rate, the wires, daily freezes and a relay."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType

from protocols import dlt645_items as items
from protocols.dlt645 import ADDRESS_DIGITS
from protocols.dlt645_driver import OPTION_HELP, Dlt645Driver, quantities_of
from protocols.dlt645_old import Dlt6451997Driver
from protocols.meter_type import Addressing, Driver, Keeps, MeterType, Options, Write
from protocols.reading import Quantity as Q

STATES = {Q.RELAY_CLOSED, Q.CONTROLS, Q.CLOCK}
MANUAL = "DL/T 645-2007, annex A data items; spec field_protocols.md A"


def new_driver(phases: int, options: Options) -> Driver:
    """A driver for one such meter. Raises BadOption."""
    return Dlt645Driver(phases, options)


def _standard(name: str, title: str, phases: int) -> MeterType:
    found = (items.ENERGY, items.EXPORT, *items.live_items(phases))
    return MeterType(
        name=name,
        maker="several",
        title=title,
        phases=phases,
        quantities=frozenset(quantities_of(found)) | STATES,
        new_driver=partial(new_driver, phases),
        manual=MANUAL,
        keeps=frozenset({Keeps.DAILY}),
        writes=frozenset({Write.SWITCH, Write.CLOCK}),
        option_help=MappingProxyType(OPTION_HELP),
        addressing=Addressing.NUMBER,
        address_digits=ADDRESS_DIGITS,
    )


METER_TYPES = (
    _standard("dlt645_single_phase", "DL/T 645-2007 meter, single-phase", 1),
    _standard("dlt645_three_phase", "DL/T 645-2007 meter, three-phase", 3),
    MeterType(
        name="dlt645_1997",
        maker="several",
        title="DL/T 645-1997 meter, reading only",
        phases=1,
        quantities=frozenset(quantities_of((items.ENERGY_1997, *items.LIVE_1997))),
        new_driver=Dlt6451997Driver,
        manual="DL/T 645-1997; spec field_protocols.md A6",
        addressing=Addressing.NUMBER,
        address_digits=ADDRESS_DIGITS,
    ),
)
