"""`headend keys …`: for key officers, on the machine that holds the keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headend.cli.console import guarded
from headend.cli.options import DataFolder, Json, settings_of

if TYPE_CHECKING:
    from headend.cli.keys import Place

app = typer.Typer(
    name="keys",
    help="Keys of cards and meters: made from custodians' components, held in an encrypted file or "
    "a PKCS#11 device, used by a process of its own that gives none of them out.",
    no_args_is_help=True,
)

Folder = Annotated[
    Path | None,
    typer.Option("--keys-folder", help="Vault and log; without it `keys` in the data folder."),
]
Library = Annotated[
    Path | None, typer.Option("--pkcs11", help="The device's library, instead of a vault.")
]
TokenLabel = Annotated[str | None, typer.Option("--token", help="Label of the device's token.")]


def _place(
    folder: Path | None, library: Path | None, token: str | None, data_folder: Path | None
) -> Place:
    from headend.cli.keys import Place

    if folder is None:
        folder = settings_of(None, data_folder=data_folder).data_folder / "keys"
    return Place(folder, library, token)


@app.command()
def ceremony(
    purpose: Annotated[str, typer.Argument(help="What the key is for: recharge, write-back, …")],
    custodian: Annotated[
        list[str], typer.Option("--custodian", help="Each one who brings a component; 2 to 5.")
    ],
    scope: Annotated[str, typer.Option(help="Which root of this purpose.")] = "site",
    algorithm: Annotated[str, typer.Option(help="aes128, aes256 or 3des2.")] = "aes128",
    yuan_a_day: Annotated[
        int | None,
        typer.Option(min=1, help="Credit limit by day; keys that make money must have one."),
    ] = None,
    amount_at: Annotated[
        int | None,
        typer.Option(min=0, max=4092, help="Where a format of one's own has its amount in fen."),
    ] = None,
    folder: Folder = None,
    library: Library = None,
    token: TokenLabel = None,
    data_folder: DataFolder = None,
) -> None:
    """Make a key from the components of its custodians. The machine should be off the network.

    Each custodian types a component, or has one made, alone before the screen. Components and key
    are overwritten in memory as far as Python can; run this on a machine without swap.
    """
    from headend.cli import keys

    place = _place(folder, library, token, data_folder)
    fen = None if yuan_a_day is None else yuan_a_day * 100
    guarded(
        lambda: keys.ceremony(
            place,
            keys.purpose_of(purpose),
            scope,
            keys.algorithm_of(algorithm),
            custodian,
            credit_fen_per_day=fen,
            amount_at=amount_at,
        )
    )


@app.command(name="list")
def list_(
    folder: Folder = None,
    library: Library = None,
    token: TokenLabel = None,
    as_json: Json = False,
    data_folder: DataFolder = None,
) -> None:
    """Each version of each key: check value, state, dates, limit. Never a key."""
    from headend.cli import keys

    place = _place(folder, library, token, data_folder)
    guarded(lambda: keys.list_keys(place, as_json=as_json))


@app.command()
def stop(
    key: Annotated[str, typer.Argument(help="As `headend keys list` shows it: recharge|site|1.")],
    accept: Annotated[
        bool, typer.Option("--accept", help="Neither issue nor accept; without it, not issue.")
    ] = False,
    after_days: Annotated[int, typer.Option(min=0, help="From when.")] = 0,
    destroy: Annotated[bool, typer.Option("--destroy", help="Forget the key itself too.")] = False,
    folder: Folder = None,
    library: Library = None,
    token: TokenLabel = None,
    data_folder: DataFolder = None,
) -> None:
    """End what a version may do. An end is never moved to later."""
    from headend.cli import keys

    place = _place(folder, library, token, data_folder)
    guarded(lambda: keys.stop(place, key, accept=accept, after_days=after_days, destroy=destroy))


@app.command()
def serve(
    callers: Annotated[Path, typer.Option(help="Who may ask for what: a TOML file.")],
    sock: Annotated[Path, typer.Option("--socket", help="The Unix socket to answer on.")],
    folder: Folder = None,
    library: Library = None,
    token: TokenLabel = None,
    data_folder: DataFolder = None,
) -> None:
    """The key service. Run it as a user of its own: the head-end's user must not read its files.

    Passphrase or PIN come from the file HEADEND_KEYS_SECRET_FILE names, or are typed.
    """
    from headend.cli import keys

    place = _place(folder, library, token, data_folder)
    guarded(lambda: keys.serve(place, callers, sock))


@app.command(name="verify-log")
def verify_log(
    folder: Folder = None, as_json: Json = False, data_folder: DataFolder = None
) -> None:
    """Recompute the chain over what the key service did; name the first line that was changed."""
    from headend.cli import keys

    place = _place(folder, None, None, data_folder)
    guarded(lambda: keys.verify_log(place, as_json=as_json))


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where the sealed copy goes.")],
    needed: Annotated[int, typer.Option(min=2, max=16)] = 3,
    total: Annotated[int, typer.Option(min=2, max=16)] = 5,
    folder: Folder = None,
    data_folder: DataFolder = None,
) -> None:
    """A sealed copy of the vault; its key is shown in shares, one officer after the other."""
    from headend.cli import keys

    place = _place(folder, None, None, data_folder)
    guarded(lambda: keys.backup(place, file, needed, total))


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="The sealed copy.")],
    folder: Folder = None,
    data_folder: DataFolder = None,
) -> None:
    """A new vault from a sealed copy and enough shares."""
    from headend.cli import keys

    place = _place(folder, None, None, data_folder)
    guarded(lambda: keys.restore_backup(place, file))
