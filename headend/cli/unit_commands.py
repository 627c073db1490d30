"""`headend unit …`: security units, for makers and integrators. docs/security-units.md"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headend.cli.console import guarded
from headend.cli.options import Json

app = typer.Typer(
    name="unit",
    help="Security units: what one maker's meters want on a card, found by meter type.",
    no_args_is_help=True,
)

Folders = Annotated[
    list[Path] | None,
    typer.Option("--folder", help="A folder of closed units, each in a folder of its own."),
]


@app.command(name="list")
def list_(folder: Folders = None, as_json: Json = False) -> None:
    """Every unit: maker, meter types, medium, channels, card kinds."""
    from headend.cli import units

    guarded(lambda: units.list_units(folder or [], as_json=as_json))


@app.command()
def check(
    unit: Annotated[str, typer.Argument(help="The unit's name, or the folder of a closed one.")],
    folder: Folders = None,
    as_json: Json = False,
) -> None:
    """The conformance kit: golden images, round trips, wrong cards, the card pulled everywhere."""
    from headend.cli import units

    guarded(lambda: units.check(unit, folder or [], as_json=as_json))
