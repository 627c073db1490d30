"""A table on the screen and the same rows as JSON in bench/results/."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

RESULTS = Path(__file__).parent / "results"

Value: TypeAlias = str | int | float | None
Row: TypeAlias = Mapping[str, Value]


def report(name: str, question: str, rows: Sequence[Row], *, notes: Sequence[str] = ()) -> None:
    """Print the rows under their question and write bench/results/NAME.json."""
    print(question)
    print_rows(rows)
    for note in notes:
        print(f"  {note}")
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "os": platform.system(),
    }
    result = {"question": question, "machine": machine, "rows": list(rows), "notes": list(notes)}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def print_rows(rows: Sequence[Row]) -> None:
    """Columns in the order in which they first appear, numbers to the right."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = [columns, *([_shown(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(columns))]
    for line in table:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _shown(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else value
