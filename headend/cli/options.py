"""Options that several commands take, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headend.cli.console import guarded
from headend.settings import Settings, load_settings

Config = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; without it config/headend.toml if there is one."),
]
DataFolder = Annotated[
    Path | None, typer.Option("--data-folder", help="Where the embedded database lives.")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="The site's own PostgreSQL, postgresql://user:password@host/database, "
        "instead of the embedded one.",
    ),
]
HttpPort = Annotated[
    int | None, typer.Option("--http-port", min=1, max=65535, help="Port of the web and the API.")
]
DialInPort = Annotated[
    int | None, typer.Option("--dial-in-port", min=1, max=65535, help="Port DTUs dial in to.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")]


def settings_of(config: Path | None, **given: object) -> Settings:
    """Settings from the file, the environment and these options; ends the program if it cannot."""
    return guarded(lambda: load_settings(config, given=given))
