"""`headend accounts import` and `headend accounts export`; registered in commands.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headend.cli.console import guarded
from headend.cli.options import Config, HttpPort, Json, settings_of

app = typer.Typer(
    name="accounts",
    help="Customers and accounts as a file: one row for each meter, CSV or XLSX.",
    no_args_is_help=True,
)


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="A CSV (UTF-8 or GB18030) or XLSX file.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would do, and each bad cell.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Open accounts and change customers as a file says. All or nothing; needs a token.

    With one mistake nothing is imported, and each bad cell is named. The same file again changes
    nothing. No money moves: neither fee nor first credit.
    """
    from headend.cli import accounts

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: accounts.import_file(settings, file, dry_run=dry_run, as_json=as_json))


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to write it: a name with .csv or .xlsx.")],
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Write every meter with who pays for it: what an import reads. Needs a token."""
    from headend.cli import accounts

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: accounts.export_file(settings, file))
