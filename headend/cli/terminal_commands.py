"""`headend terminal …`: recharge terminals, what they may sell alone, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headend.cli.console import guarded
from headend.cli.options import Config, HttpPort, Json, settings_of

app = typer.Typer(
    name="terminal",
    help="Recharge terminals: who is on-line, caps, taps, clashes. A second person's token: "
    "HEADEND_APPROVER_TOKEN.",
    no_args_is_help=True,
)

Terminal = Annotated[str, typer.Argument(help="Name of its gateway, as in the site file.")]
Reason = Annotated[str, typer.Option("--reason", help="Kept for ever.")]


@app.command("list")
def listing(as_json: Json = False, config: Config = None, http_port: HttpPort = None) -> None:
    """Every terminal: on-line, last seen, its cap, clashes that wait, cards that were false."""
    from headend.cli import terminals

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: terminals.listing(settings, as_json=as_json))


@app.command()
def show(
    terminal: Terminal, as_json: Json = False, config: Config = None, http_port: HttpPort = None
) -> None:
    """One terminal: its caps, its last taps, the end of its log, its clashes."""
    from headend.cli import terminals

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: terminals.show(settings, terminal, as_json=as_json))


@app.command()
def adopt(
    terminal: Annotated[str, typer.Argument(help="The name it told, as `headend lines` shows.")],
    site: Annotated[str, typer.Option("--site", help="Which site it belongs to.")],
    secret: Annotated[
        Path, typer.Option("--secret", help="File with its credential of 16 bytes, kept here.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Of its gateway and line; else what it told.")
    ] = None,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Take in a terminal that called and that nobody knows yet."""
    from headend.cli import terminals

    settings = settings_of(config, http_port=http_port)
    guarded(
        lambda: terminals.adopt(
            settings, terminal, site=site, secret=secret, name=name or terminal, as_json=as_json
        )
    )


@app.command()
def forget(terminal: Terminal, config: Config = None, http_port: HttpPort = None) -> None:
    """Take a terminal out of the places; not while meters are behind it. Its records stay."""
    from headend.cli import terminals

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: terminals.forget(settings, terminal))


@app.command()
def cap(
    terminal: Terminal,
    card: Annotated[str, typer.Option("--card", help="At most so many yuan to one card.")],
    total: Annotated[str, typer.Option("--total", help="At most so many yuan in all.")],
    reason: Reason,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Let it sell alone until the end of the day, up to so much; takes two persons."""
    from headend.cli import terminals

    settings = settings_of(config, http_port=http_port)
    guarded(
        lambda: terminals.cap(
            settings, terminal, card=card, total=total, reason=reason, as_json=as_json
        )
    )


@app.command()
def clashes(as_json: Json = False, config: Config = None, http_port: HttpPort = None) -> None:
    """What terminals did alone that does not fit, oldest first."""
    from headend.cli import terminals

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: terminals.clashes(settings, as_json=as_json))


@app.command()
def settle(
    clash: Annotated[int, typer.Argument(help="Its number.")],
    reason: Reason,
    book: Annotated[
        bool,
        typer.Option("--book/--dismiss", help="Book it if its meter proves it, or put it aside."),
    ],
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Say what a person found out about a clash."""
    from headend.cli import terminals

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: terminals.settle(settings, clash, reason=reason, book=book))


@app.command()
def recharges(
    meter: Annotated[str, typer.Argument(help="Name of the meter, as in the site file.")],
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """The last twenty recharges of a meter, as a terminal shows them."""
    from headend.cli import terminals

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: terminals.recharges(settings, meter, as_json=as_json))
