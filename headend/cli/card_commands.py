"""`headend card …`: the card desk, with a PC/SC reader on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from headend.cli.console import guarded
from headend.cli.options import Config, HttpPort, Json, settings_of

app = typer.Typer(
    name="card",
    help="The card desk: read, sell and write, replace, take back, clear. The reader is here, the "
    "keys are not: the head-end makes the commands.",
    no_args_is_help=True,
)

Meter = Annotated[str, typer.Argument(help="Name of the meter, as in the site file.")]
ReaderName = Annotated[
    str | None, typer.Option("--reader", help="Name of the reader; without it the first one.")
]
Reason = Annotated[str, typer.Option("--reason", help="Kept for ever.")]
Key = Annotated[str | None, typer.Option("--key", help="The same key again is the same purchase.")]


@app.command()
def readers() -> None:
    """The readers on this machine."""
    from headend.cli import cards

    guarded(cards.list_readers)


@app.command()
def do(
    action: Annotated[
        str,
        typer.Argument(
            help="read, make, opening, purchase, make_up, finish, replacement, take_back, "
            "clear_card, parameter, preset, clear, check"
        ),
    ],
    meter: Meter,
    yuan: Annotated[str | None, typer.Argument(help="How much, for those with credit.")] = None,
    reason: Reason = "",
    alarms: Annotated[
        str | None, typer.Option(help="Two alarm amounts in yuan, 50,10: of a parameter card.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=31, help="How long a bearer card is good.")] = 1,
    whole_area: Annotated[
        bool, typer.Option("--whole-area", help="A bearer card for every meter.")
    ] = False,
    from_balance: Annotated[
        bool, typer.Option("--from-balance", help="The money was paid earlier.")
    ] = False,
    new_card: Annotated[
        bool, typer.Option("--new-card", help="A blank card is made ours first.")
    ] = False,
    key: Key = None,
    reader: ReaderName = None,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Work with the card on the reader; a second person's token: HEADEND_APPROVER_TOKEN."""
    from headend.cli import cards

    settings = settings_of(config, http_port=http_port)
    wish = {
        "action": action,
        "meter": meter,
        "reason": reason,
        "days": days,
        "whole_area": whole_area,
        "from_balance": from_balance,
        "new_card": new_card,
    }
    guarded(
        lambda: cards.do(
            settings, wish, amount=yuan, alarms=alarms, key=key, reader=reader, as_json=as_json
        )
    )


@app.command()
def desk(reader: ReaderName = None, config: Config = None, http_port: HttpPort = None) -> None:
    """Serve the reader on this machine to the card desk in the browser, until Ctrl-C.

    HEADEND_TOKEN is a token of the person who is signed in there.
    """
    from headend.cli import cards

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: cards.serve_desk(settings, reader))


@app.command()
def lost(
    meter: Meter, reason: Reason = "", config: Config = None, http_port: HttpPort = None
) -> None:
    """The tenant's card is gone: never written again. What it carries may still be used."""
    from headend.cli import cards

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: cards.report_loss(settings, meter, reason))


@app.command()
def out(
    meter: Annotated[str | None, typer.Argument(help="Of one meter.")] = None,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Cards that are out: whoever holds one may still use it."""
    from headend.cli import cards

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: cards.out_list(settings, meter, as_json=as_json))


@app.command()
def move(
    meter: Meter, reason: Reason = "", config: Config = None, http_port: HttpPort = None
) -> None:
    """Offer an open card sale on the line too: the first one in wins, the other does nothing."""
    from headend.cli import cards

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: cards.paper(settings, "move", meter, reason))


@app.command()
def burn(
    meter: Meter, reason: Reason = "", config: Config = None, http_port: HttpPort = None
) -> None:
    """End an open card sale: its count goes to the meter with amount 0, then its money is free."""
    from headend.cli import cards

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: cards.paper(settings, "burn", meter, reason))
