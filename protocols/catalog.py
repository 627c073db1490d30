"""Finds every meter type by looking: no list to edit, nothing to forget.

Two places are looked into: the files of protocols/meters/ and the entry points of installed
packages under "headend.meter_types". Two types of one name refuse to start.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

import protocols.meters as package
from protocols.meter_type import MeterType

ENTRY_POINT_GROUP = "headend.meter_types"


class CatalogError(Exception):
    """Meter types that cannot live together; the message names both files."""


@functools.cache
def load_meter_types() -> Mapping[str, MeterType]:
    """Every meter type by name. Raises CatalogError."""
    found: dict[str, tuple[str, MeterType]] = {}
    for origin, meter_type in _candidates():
        if meter_type.name in found:
            raise CatalogError(
                f"two meter types are called {meter_type.name}: "
                f"in {found[meter_type.name][0]} and in {origin}; rename one"
            )
        found[meter_type.name] = (origin, meter_type)
    return MappingProxyType({name: entry for name, (_, entry) in sorted(found.items())})


def _candidates() -> Iterator[tuple[str, MeterType]]:
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for meter_type in getattr(module, "METER_TYPES", ()):
            yield module.__name__, meter_type
    for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name):
        for meter_type in entry_point.load():
            yield f"entry point {entry_point.name}", meter_type
