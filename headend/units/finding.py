"""Finds every unit: files of protocols/units/, installed packages, folders of closed ones."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import protocols.units as package
from headend.units.closed import MANIFEST, closed_unit
from protocols.security_unit import ENTRY_POINT_GROUP, SecurityUnit, UnitRegister


def find_units(
    folders: Iterable[Path] = (), *, type_codes: Iterable[str] = (), uid_first: int = 0
) -> UnitRegister:
    """The register of all units. `folders` hold closed units, each in a folder of its own.

    `uid_first`: where the range of their users begins, one each; 0: all run as nobody.

    Raises UnitError: a manifest that cannot be used, two of one name, two for one meter type.
    """
    return UnitRegister([*_open_units(), *_closed_units(folders, uid_first)], type_codes)


def _open_units() -> Iterator[SecurityUnit]:
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        yield from getattr(module, "UNITS", ())
    for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda one: one.name):
        yield from entry_point.load()


def _closed_units(folders: Iterable[Path], uid_first: int) -> Iterator[SecurityUnit]:
    taken: set[int] = set()
    for folder in folders:
        for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
            unit = closed_unit(manifest.parent, uid_first=uid_first, taken=taken)
            taken.add(unit.process.uid)
            yield unit
