"""What `headend unit …` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from headend.cli.console import out, print_json, say
from headend.domain.problems import Problem
from headend.units.check import Examination
from headend.units.closed import MANIFEST, ClosedUnit, closed_unit
from headend.units.finding import find_units
from protocols.catalog import load_meter_types
from protocols.security_unit import SecurityUnit, UnitError, UnitRegister


def _found(folders: Sequence[Path]) -> UnitRegister:
    try:
        return find_units(folders, type_codes=load_meter_types())
    except UnitError as error:
        raise Problem("units", detail=error) from error


def list_units(folders: Sequence[Path], *, as_json: bool) -> None:
    """`headend unit list`"""
    table = Table(box=None)
    for title in ("unit", "maker", "meter types", "medium", "reader", "channels", "cards"):
        table.add_column(title)
    for name, unit in _found(folders).units.items():
        manifest = unit.manifest
        row = {
            "unit": name,
            "maker": f"{manifest.maker} {manifest.version}",
            "meter_types": " ".join(manifest.type_codes),
            "medium": manifest.medium,
            "reader": manifest.reader_family,
            "channels": " ".join(sorted(channel.value for channel in manifest.channels)),
            "cards": " ".join(sorted(kind.name.lower() for kind in manifest.kinds)),
        }
        if as_json:
            print_json(row)
        table.add_row(*row.values())
    if not as_json:
        out.print(table)


def check(name: str, folders: Sequence[Path], *, as_json: bool) -> None:
    """`headend unit check NAME`; fails with the number of rules that are not kept."""
    folder = Path(name) if (Path(name) / MANIFEST).exists() else None
    try:
        unit: SecurityUnit | None = (
            closed_unit(folder) if folder is not None else _found(folders).units.get(name)
        )
    except UnitError as error:
        raise Problem("units", detail=error) from error
    if unit is None:
        raise Problem("no-such-unit", unit=name)
    if folder is None and isinstance(unit, ClosedUnit):
        folder = unit.process.folder
    broken = 0
    try:
        for finding in Examination(unit, folder).run():
            broken += not finding.kept
            if as_json:
                print_json({"rule": finding.rule, "kept": finding.kept, "detail": finding.detail})
                continue
            mark = say("通过", "kept") if finding.kept else say("未通过", "BROKEN")
            detail = f"  {finding.detail}" if finding.detail else ""
            out.print(f"{mark:7}{finding.rule}{detail}", soft_wrap=True)
    finally:
        if isinstance(unit, ClosedUnit):
            unit.stop()
    if broken:
        raise Problem("unit-fails", unit=unit.manifest.name, count=broken)
