"""`headend report`, `headend evidence`, `headend verify-evidence`; registered in commands.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headend.cli.console import guarded
from headend.cli.options import Config, DatabaseUrl, DataFolder, Json, settings_of
from headend.domain.reports import Grouping, ReportKind


def report(
    kind: Annotated[ReportKind, typer.Argument(help="Which report.")],
    file: Annotated[Path, typer.Argument(help="Where to write it: a name with .csv or .xlsx.")],
    by: Annotated[Grouping | None, typer.Option(help="What a row stands for.")] = None,
    first: Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD.")] = None,
    last: Annotated[str | None, typer.Option(help="Last day, included; today without it.")] = None,
    site: Annotated[str | None, typer.Option(help="One property; all without it.")] = None,
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write a report: use and sales, arrears, loss, cards out, unknown outcomes.

    Without days: the last 31. The file is whole or not there.
    """
    from headend.cli import reports

    settings = settings_of(config, data_folder=data_folder, database_url=database_url)
    guarded(lambda: reports.report(settings, kind, file, by=by, first=first, last=last, site=site))


def evidence(
    meter: Annotated[str, typer.Argument(help="The meter's name in the site file.")],
    file: Annotated[Path, typer.Argument(help="Where to write the pack, a name with .zip.")],
    since: Annotated[str | None, typer.Option(help="First day; 93 days back without it.")] = None,
    until: Annotated[str | None, typer.Option(help="Last day, included; now without it.")] = None,
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write a signed evidence pack about the account of one meter.

    The key is made at the first use, in the data folder; keep its fingerprint on paper.
    """
    from headend.cli import evidence as cli

    settings = settings_of(config, data_folder=data_folder, database_url=database_url)
    guarded(lambda: cli.make(settings, meter, file, since=since, until=until))


def verify_evidence(
    file: Annotated[Path, typer.Argument(help="The pack, as it was handed over.")],
    key: Annotated[
        str | None, typer.Option("--key", help="The company's fingerprint, from another road.")
    ] = None,
    books: Annotated[
        Path | None,
        typer.Option("--books", help="An export of the whole books, to find each line in it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify an evidence pack offline: no database, no network, nothing is unpacked to disk.

    Exit code 10 names the first thing that is not as it was signed.
    """
    from headend.cli import evidence as cli

    guarded(lambda: cli.verify_file(file, key, books, as_json=as_json))
