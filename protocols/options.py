"""Driver options: what a site file may say about one meter beyond its type and address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protocols.keys import SiteKey
from protocols.meter_type import BadOption, Options

Option = str | int | bool
SITE_KEY = "site_key"  # the one option that comes from the program


def choose(options: Options, choices: Mapping[str, Sequence[Option]]) -> dict[str, Option]:
    """Every known option with its value, the first choice where none is given. Raises BadOption."""
    for name in options:
        if name not in choices:
            known = ", ".join(sorted(choices)) or "none"
            raise BadOption(f"option {name} is unknown to this meter type; known: {known}")
    chosen: dict[str, Option] = {}
    for name, allowed in choices.items():
        value = options.get(name, allowed[0])
        if not isinstance(value, str | int | bool):
            raise BadOption(
                f"option {name} is a key; allowed: {', '.join(map(_as_written, allowed))}"
            )
        # True == 1 in Python, but not in a site file.
        if not any(value == one and type(value) is type(one) for one in allowed):
            listed = ", ".join(map(_as_written, allowed))
            raise BadOption(f"option {name} is {_as_written(value)}; allowed: {listed}")
        chosen[name] = value
    return chosen


def take_site_key(options: Options) -> tuple[SiteKey | None, Options]:
    """The site's key, if the program has given one, and the other options. Raises BadOption."""
    key = options.get(SITE_KEY)
    if key is not None and not isinstance(key, SiteKey):
        raise BadOption(f"option {SITE_KEY} is given by the program and never stands in a file")
    return key, {name: value for name, value in options.items() if name != SITE_KEY}


def _as_written(value: Option) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
