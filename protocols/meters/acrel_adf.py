"""Acrel ADF300L and ADF400L: cabinets of 12 to 36 circuits, each circuit a meter of its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from protocols.acrel_adf_driver import OPTION_HELP, TYPE_CODE, AdfDriver, quantities_of, writes_of
from protocols.acrel_cabinet import BadCabinet, Circuit, CircuitKind, circuits, read_cabinet
from protocols.meter_type import Driver, Keeps, MeterType, Options

__all__ = [
    "CABINETS",
    "METER_TYPES",
    "BadCabinet",
    "Circuit",
    "CircuitKind",
    "circuits",
    "read_cabinet",
]


def _meter_type(model: str, kind: CircuitKind) -> MeterType:
    phases = 1 if kind is CircuitKind.SINGLE_PHASE else 3
    wired = {
        CircuitKind.CT: "three-phase user by CT",
        CircuitKind.THREE_PHASE: "three-phase user",
        CircuitKind.SINGLE_PHASE: "single-phase user",
    }[kind]

    def new_driver(options: Options) -> Driver:
        return AdfDriver(phases, options)

    return MeterType(
        name=CABINETS[f"acrel_{model}"][kind],
        maker="Acrel",
        title=f"Acrel {model.upper()}, {wired}",
        phases=phases,
        quantities=quantities_of(phases),
        new_driver=new_driver,
        manual="ADF400L manual V1.2/V1.8; live block: spec acrel.md 2.4; maps: 2.10 and 2.11",
        keeps=frozenset({Keeps.MONTHLY, Keeps.RECHARGES}),
        writes=writes_of(phases),
        type_codes=frozenset({TYPE_CODE}),
        option_help=MappingProxyType(OPTION_HELP),
    )


MODELS = ("adf300l", "adf400l")

# Cabinet type of a site file -> meter type of each kind of circuit.
CABINETS: Mapping[str, Mapping[CircuitKind, str]] = MappingProxyType(
    {
        f"acrel_{model}": MappingProxyType(
            {kind: f"acrel_{model}_{kind.value}" for kind in CircuitKind}
        )
        for model in MODELS
    }
)

METER_TYPES = tuple(_meter_type(model, kind) for model in MODELS for kind in CircuitKind)
