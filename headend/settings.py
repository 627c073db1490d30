"""What an installation can set: config/headend.toml, HEADEND_* variables, the command line.

Every setting has a default that works on one machine with nothing configured.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from headend.domain.problems import Problem

CONFIG_FILE = Path("config/headend.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one head-end. Each field is one key of headend.toml."""

    # Where the embedded database, the spool and the logs live. As root the database runs as an
    # unprivileged user, who could not pass through a home folder.
    data_folder: Path = Path("/var/lib/headend" if os.geteuid() == 0 else "data")
    # The site's own PostgreSQL; empty: the embedded one.
    database_url: str = ""
    # A folder with TimescaleDB for the embedded database (lib/ and share/extension/); empty: none.
    timescale_folder: str = ""
    # The web and the API. Loopback only: operators and tokens are not there yet.
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    # Where DTUs dial in. All interfaces, since they come from outside.
    dial_in_host: str = "0.0.0.0"
    dial_in_port: int = 9000
    # Sockets of DTUs accepted at once; the rest is refused before a byte is read.
    dial_in_sockets_max: int = 12_000
    # Readings kept in memory while the database is away: two nights of a large site, 20 MB.
    waiting_readings_max: int = 20_000
    # Then on disk: 1 GiB is about five million readings, a week of 10,000 meters every 15 minutes.
    spool_bytes_max: int = 1 << 30
    log_level: str = "INFO"
    # When a day of the books ends; one for the whole company.
    books_time_zone: str = "Asia/Shanghai"


_TYPES = {field.name: field.type for field in dataclasses.fields(Settings)}


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    given: Mapping[str, object] = MappingProxyType({}),
) -> Settings:
    """Settings from the file, the environment and the command line, the last one winning.

    `given` values of None are skipped. A named file must exist; the default one may be absent.
    Raises Problem("settings-unreadable").
    """
    values: dict[str, object] = {}
    path = file or Path(environment.get("HEADEND_CONFIG", CONFIG_FILE))
    if file is not None or path.exists():
        values |= _from_file(path)
    for name in _TYPES:
        variable = f"HEADEND_{name.upper()}"
        if environment.get(variable):
            values[name] = _converted(variable, name, environment[variable])
    values |= {name: value for name, value in given.items() if value is not None}
    return Settings(**values)  # type: ignore[arg-type]  # each value was checked against its field


def _from_file(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        detail = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Problem("settings-unreadable", file=path, detail=detail) from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Problem("settings-unreadable", file=path, detail=error) from error
    for name in table:
        if name not in _TYPES:
            known = ", ".join(_TYPES)
            raise Problem(
                "settings-unreadable", file=path, detail=f"unknown key {name}; known are {known}"
            )
    return {name: _converted(str(path), name, value) for name, value in table.items()}


def _converted(source: str, name: str, value: object) -> object:
    kind = _TYPES[name]
    if kind == "Path" and isinstance(value, str) and value:
        return Path(value).expanduser()
    if kind == "int":
        try:
            number = int(value) if isinstance(value, (str, int)) else -1
        except ValueError:
            number = -1
        if number >= 0 and not isinstance(value, bool):
            return number
        raise Problem(
            "settings-unreadable", file=source, detail=f"{name} must be a whole number"
        ) from None
    if kind == "str" and isinstance(value, str):
        return value
    raise Problem("settings-unreadable", file=source, detail=f"{name} must be a text")
