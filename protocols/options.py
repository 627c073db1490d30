"""Driver options: what a site file may say about one meter beyond its type and address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protocols.meter_type import BadOption, Options

Option = str | int | bool


def choose(options: Options, choices: Mapping[str, Sequence[Option]]) -> dict[str, Option]:
    """Every known option with its value, the first choice where none is given. Raises BadOption."""
    for name in options:
        if name not in choices:
            known = ", ".join(sorted(choices)) or "none"
            raise BadOption(f"option {name} is unknown to this meter type; known: {known}")
    chosen: dict[str, Option] = {}
    for name, allowed in choices.items():
        value = options.get(name, allowed[0])
        # True == 1 in Python, but not in a site file.
        if not any(value == one and type(value) is type(one) for one in allowed):
            listed = ", ".join(map(_as_written, allowed))
            raise BadOption(f"option {name} is {_as_written(value)}; allowed: {listed}")
        chosen[name] = value
    return chosen


def _as_written(value: Option) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
