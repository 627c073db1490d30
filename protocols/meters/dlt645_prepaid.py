"""Prepaid meters of DL/T 645 with a security chip: the State-Grid form of remote top-up."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType

from protocols import dlt645_items as items
from protocols.dlt645 import ADDRESS_DIGITS
from protocols.dlt645_driver import OPTION_HELP, quantities_of
from protocols.dlt645_purse_driver import MONEY, Dlt645PrepaidDriver
from protocols.meter_type import Addressing, Keeps, MeterType, Write
from protocols.reading import Quantity as Q


def _prepaid(name: str, title: str, phases: int) -> MeterType:
    found = (items.ENERGY, items.EXPORT, *items.live_items(phases))
    states = {Q.RELAY_CLOSED, Q.CONTROLS, Q.CLOCK}
    return MeterType(
        name=name,
        maker="several",
        title=title,
        phases=phases,
        quantities=frozenset(quantities_of(found)) | states | MONEY,
        new_driver=partial(Dlt645PrepaidDriver, phases),
        manual="DL/T 645-2007 with the security extension; spec field_protocols.md A5",
        keeps=frozenset({Keeps.DAILY, Keeps.RECHARGES}),
        writes=frozenset({Write.TOP_UP, Write.BURN, Write.SWITCH, Write.CLOCK}),
        option_help=MappingProxyType(OPTION_HELP),
        addressing=Addressing.NUMBER,
        needs_key_holder=True,
        address_digits=ADDRESS_DIGITS,
    )


METER_TYPES = (
    _prepaid("dlt645_prepaid_single_phase", "DL/T 645 prepaid meter, single-phase", 1),
    _prepaid("dlt645_prepaid_three_phase", "DL/T 645 prepaid meter, three-phase", 3),
)
