"""The commands of money, supply and the people who may; registered in commands.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from headend.cli.console import guarded
from headend.cli.options import Config, DatabaseUrl, DataFolder, HttpPort, Json, settings_of
from headend.domain.roles import Permission, Role

Key = Annotated[
    str | None,
    typer.Option("--id", help="A UUID of your own: the same id twice is one order."),
]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Follow it until it is proved, or only order it.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept for ever.", prompt=False)]


def topup(
    meter: Annotated[str, typer.Argument(help="The meter's name in the site file.")],
    yuan: Annotated[str, typer.Argument(help="How much: 50 or 50.05.")],
    key: Key = None,
    wait: Wait = True,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Sell: take money and put it into the meter, once, proved by the meter's own registers.

    Needs a token in HEADEND_TOKEN. Shows paid, sent, in meter and light on as they come.
    """
    from headend.cli import orders

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: orders.topup(settings, meter, yuan, key, wait=wait, as_json=as_json))


def cut(
    meter: Annotated[str, typer.Argument(help="The meter's name in the site file.")],
    reason: Reason,
    key: Key = None,
    wait: Wait = True,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Open the relay of a meter, unless a rule spares it; the relay is read back."""
    from headend.cli import orders

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: orders.switch(settings, "cut", meter, reason, key, wait=wait, as_json=as_json))


def pulse(
    meter: Annotated[str, typer.Argument(help="The meter's name in the site file.")],
    reason: Reason,
    key: Key = None,
    wait: Wait = True,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Test a circuit: cut it by the rules of every cut, and order its light with the proof.

    Light goes out as soon as the relay may move again, ten minutes later; the command's chain
    shows both with what the meter showed before and after. A meter that is cut is refused.
    """
    from headend.cli import orders

    settings = settings_of(config, http_port=http_port)
    guarded(
        lambda: orders.switch(settings, "pulse", meter, reason, key, wait=wait, as_json=as_json)
    )


def command(
    command_id: Annotated[str, typer.Argument(help="The command's UUID.")],
    cancel: Annotated[
        str | None, typer.Option("--cancel", help="Take it back while it waits; give the reason.")
    ] = None,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """One command: its states, each try with what the meter showed before and after, frames."""
    from headend.cli import orders

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: orders.command(settings, command_id, cancel=cancel, as_json=as_json))


def resolve(
    command_id: Annotated[str, typer.Argument(help="The escalated command's UUID.")],
    reason: Reason,
    done: Annotated[
        bool, typer.Option("--done/--not-done", help="Whether the meter did as ordered.")
    ],
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """End an escalated command by your word, after looking at the meter."""
    from headend.cli import orders

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: orders.resolve(settings, command_id, reason, carried_out=done, as_json=as_json))


def verify_ledger(
    file: Annotated[
        Path | None, typer.Argument(help="An export to verify; without it the database.")
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(help="DAY:SHA256 of a seal kept elsewhere; it must still be there."),
    ] = None,
    as_json: Json = False,
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Recompute the seals over the books; names the first row that was touched. Offline."""
    from headend.cli import verify

    settings = settings_of(config, data_folder=data_folder, database_url=database_url)
    guarded(lambda: verify.verify_ledger(settings, file, anchor, as_json=as_json))


def export_ledger(
    file: Annotated[Path, typer.Argument(help="A new file.")],
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
) -> None:
    """The books as JSON lines, for others to verify (docs/ledger-seal.md)."""
    from headend.cli import verify

    settings = settings_of(config, data_folder=data_folder, database_url=database_url)
    guarded(lambda: verify.export_ledger(settings, file))


def operator(
    name: Annotated[str | None, typer.Argument(help="A new operator; without it, a list.")] = None,
    role: Annotated[Role, typer.Option(help="What they may do.")] = Role.CASHIER,
    person: Annotated[
        str | None, typer.Option(help="Who it is in flesh: two accounts of one are not two.")
    ] = None,
    site: Annotated[list[str] | None, typer.Option(help="Only this site; repeat it.")] = None,
    password: Annotated[
        bool,
        typer.Option("--password", help="Ask for a password to sign in at the desk; sets it anew."),
    ] = False,
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make an operator, or list them. Works on this machine's own database."""
    from headend.cli import people

    settings = settings_of(config, data_folder=data_folder, database_url=database_url)
    if name is None:
        guarded(lambda: people.list_operators(settings))
    else:
        secret = _asked_password() if password else None
        guarded(lambda: people.operator(settings, name, role, person, site or [], password=secret))


def _asked_password() -> str:
    """Twice at a terminal; a script gives one line on standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


def token(
    owner: Annotated[str | None, typer.Argument(help="The operator; without it, a list.")] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "cli",
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it lives.")] = 90,
    permission: Annotated[
        list[Permission] | None, typer.Option(help="Only this; repeat it. Default: the role's.")
    ] = None,
    revoke: Annotated[int | None, typer.Option(help="End the token of this number.")] = None,
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make an API token (shown once), list or revoke tokens."""
    from headend.cli import people

    settings = settings_of(config, data_folder=data_folder, database_url=database_url)
    if revoke is not None:
        guarded(lambda: people.revoke_token(settings, revoke))
    elif owner is None:
        guarded(lambda: people.list_tokens(settings))
    else:
        guarded(lambda: people.add_token(settings, owner, name, days, permission or []))
