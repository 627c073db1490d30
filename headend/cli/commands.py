"""Every command of `headend`, in the order of a first day. What each does is in the file beside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headend.cli import (
    account_commands,
    alarm_commands,
    backup_commands,
    card_commands,
    key_commands,
    money_commands,
    mqtt_commands,
    report_commands,
    terminal_commands,
    unit_commands,
)
from headend.cli.console import guarded
from headend.cli.options import (
    Config,
    DatabaseUrl,
    DataFolder,
    DialInPort,
    HttpPort,
    Json,
    settings_of,
)

app = typer.Typer(
    name="headend",
    help="Head-end for prepaid electricity meters: reads every meter every night and says why "
    "each missing reading is missing.\n\nExit codes: 0 done, 2 wrong usage, 3 a file or setting "
    "is wrong, 4 database, 5 line or gateway down, 6 the meter did not answer, 7 no head-end "
    "is running, 8 port or folder in use, 9 no such line or meter, 10 the result is not as "
    "promised, 11 not permitted, 12 a rule says no, 13 no valid token, 14 it changed meanwhile.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)


@app.command()
def run(
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
    http_port: HttpPort = None,
    dial_in_port: DialInPort = None,
) -> None:
    """Run the head-end: database, lines, nights, API. Ctrl-C or SIGTERM stops it cleanly."""
    from headend.cli import serve

    settings = settings_of(
        config,
        data_folder=data_folder,
        database_url=database_url,
        http_port=http_port,
        dial_in_port=dial_in_port,
    )
    guarded(lambda: serve.run(settings))


@app.command(name="demo")
def demo_(
    once: Annotated[bool, typer.Option("--once", help="End after the night.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The result as one JSON object on the last line.")
    ] = False,
    data_folder: Annotated[
        Path | None,
        typer.Option(help="Keep the demonstration's data here; without it a fresh folder."),
    ] = None,
    http_port: HttpPort = None,
    seed: Annotated[int, typer.Option(help="Which virtual property.")] = 1,
    history: Annotated[
        bool, typer.Option("--history/--no-history", help="A month of nights and sales behind it.")
    ] = True,
) -> None:
    """A virtual property on simulated wires: one night is read now, then it stays up.

    One line is dead on purpose and two meters are wrong on purpose; the table says so. The exit
    code is 0 only if every healthy meter was read and every gap has its true reason.
    """
    from headend.cli import demo

    settings = settings_of(None, http_port=http_port)
    guarded(
        lambda: demo.demo(
            settings,
            folder=data_folder,
            once=once,
            as_json=as_json,
            seed=seed,
            history=history,
        )
    )


@app.command()
def migrate(
    adopt_timescale: Annotated[
        bool,
        typer.Option(
            "--adopt-timescale",
            help="Move existing readings into TimescaleDB; takes as long as copying them.",
        ),
    ] = False,
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Bring the database to this program's schema. `run` does it by itself; safe to repeat."""
    from headend.cli import data

    settings = settings_of(config, data_folder=data_folder, database_url=database_url)
    guarded(lambda: data.migrate(settings, adopt_timescale=adopt_timescale))


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="A site file, e.g. config/sites/example.toml.")],
    check: Annotated[bool, typer.Option("--check", help="Check only, import nothing.")] = False,
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Import sites, rooms, gateways, lines and meters from a site file.

    The file is checked as a whole first; with any mistake nothing is imported. Importing again
    updates; what vanished from the file is retired, its readings stay. A running head-end follows
    at once.
    """
    from headend.cli import data

    settings = settings_of(config, data_folder=data_folder, database_url=database_url)
    guarded(lambda: data.import_site(settings, file, check=check))


@app.command(name="export-site")
def export_site(
    site: Annotated[str, typer.Argument(help="The property, by its name.")],
    config: Config = None,
    data_folder: DataFolder = None,
    database_url: DatabaseUrl = None,
) -> None:
    """The site file of what is stored, for keeping or for another machine.

    What was added in the browser or by adoption is in it; importing it changes nothing.
    """
    from headend.cli import data

    settings = settings_of(config, data_folder=data_folder, database_url=database_url)
    guarded(lambda: data.export_site(settings, site))


@app.command()
def nights(
    site: Annotated[str | None, typer.Argument(help="One site; all without it.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=400)] = 7,
    night: Annotated[
        str | None, typer.Option(help="One night, YYYY-MM-DD: each gap with its reason.")
    ] = None,
    back_fill: Annotated[
        bool, typer.Option("--back-fill", help="Fill the gaps of that night of a site now.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """How complete the last nights are, and why readings are missing."""
    from headend.cli import back_fill as filling
    from headend.cli import data

    settings = settings_of(config, http_port=http_port)
    if back_fill:
        guarded(lambda: filling.back_fill(settings, site, night, as_json=as_json))
        return
    guarded(lambda: data.nights(settings, site, count, night, as_json=as_json))


@app.command()
def lines(as_json: Json = False, config: Config = None, http_port: HttpPort = None) -> None:
    """Every line: up or down and why, answers, silences, answer times."""
    from headend.cli import bus

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: bus.lines(settings, as_json=as_json))


@app.command()
def gateways(
    gateway: Annotated[
        str | None, typer.Argument(help="One gateway, with each of its meters; all without it.")
    ] = None,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Every gateway: signal, reconnects, error rate and reason, bytes, last seen."""
    from headend.cli import gateways

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: gateways.gateways(settings, gateway, as_json=as_json))


@app.command()
def adopt(
    stranger: Annotated[
        str,
        typer.Argument(help="Its registration as `headend lines` shows it, or its sample in hex."),
    ],
    site: Annotated[str, typer.Option("--site", help="Which site it belongs to.")],
    name: Annotated[str, typer.Option("--name", help="Its name, and that of its line.")],
    registration: Annotated[
        str | None, typer.Option(help='Where it told none: "iccid:8986…", "ascii:…", "hex:…".')
    ] = None,
    meter_type: Annotated[
        str | None, typer.Option("--type", help="Make its meter too, of this type.")
    ] = None,
    meter: Annotated[str | None, typer.Option(help="Its meter's name; else the gateway's.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Unit id or number of its meter; 1 if not.")
    ] = None,
    baud: Annotated[int, typer.Option(help="Of its RS485 side.")] = 9600,
    parity: Annotated[str, typer.Option(help="N, E or O.")] = "N",
    stop_bits: Annotated[int, typer.Option(min=1, max=2)] = 1,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="key=value, e.g. secret=file:/etc/g1.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help='"mqtt": STRANGER is a device id that need not have called.')
    ] = None,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Adopt a DTU, 4G meter or gateway that dialled in and nobody knows yet. Needs a token."""
    from headend.cli import gateways

    settings = settings_of(config, http_port=http_port)

    def work() -> None:
        wish = {
            "stranger": stranger,
            "site": site,
            "kind": kind,
            "name": name,
            "registration": registration,
            "meter_type": meter_type,
            "meter": meter,
            "address": address,
            "baud": baud,
            "parity": parity,
            "stop_bits": stop_bits,
            "options": dict(gateways.option_pair(text) for text in option or ()),
        }
        gateways.adopt(settings, wish, as_json=as_json)

    guarded(work)


@app.command()
def read(
    meter: Annotated[str, typer.Argument(help="The meter's name in the site file.")],
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Read one meter now. Goes before every waiting poll of its line."""
    from headend.cli import bus

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: bus.read(settings, meter, as_json=as_json))


@app.command()
def trace(
    line: Annotated[str, typer.Argument(help="The line's name in the site file.")],
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on until Ctrl-C, or the ring only.")
    ] = True,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """The frames on a line, live: instant, direction, hex and meaning."""
    from headend.cli import bus

    settings = settings_of(config, http_port=http_port)
    guarded(lambda: bus.trace(settings, line, follow=follow, as_json=as_json))


@app.command()
def scan(
    line: Annotated[
        str,
        typer.Argument(
            help="A line of the running head-end, or a wire without one: "
            "serial:///dev/ttyUSB0?baud=9600 or tcp://10.0.0.5:502."
        ),
    ],
    first: Annotated[int, typer.Option(min=1, max=247)] = 1,
    last: Annotated[int, typer.Option(min=1, max=247)] = 247,
    dlt645: Annotated[
        bool, typer.Option("--dlt645", help="Search DL/T 645 meters by their addresses.")
    ] = False,
    as_json: Json = False,
    config: Config = None,
    http_port: HttpPort = None,
) -> None:
    """Find meters and their types by asking every unit id. Only reads."""
    from headend.cli import bus

    settings = settings_of(config, http_port=http_port)
    if dlt645:
        guarded(lambda: bus.scan_dlt645(settings, line, as_json=as_json))
        return
    guarded(lambda: bus.scan(settings, line, first, last, as_json=as_json))


@app.command()
def probe(
    wire: Annotated[
        str, typer.Argument(help="serial:///dev/ttyUSB0?baud=9600 or tcp://10.0.0.5:502.")
    ],
    unit: Annotated[int, typer.Argument(min=1, max=247, help="Unit id (slave address).")],
    meter_type: Annotated[
        str | None, typer.Option("--type", help="Meter type; without it, found by asking.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask one meter on a bare wire who it is and what it shows. Needs no head-end."""
    from headend.cli import bus

    guarded(lambda: bus.probe(wire, unit, meter_type, as_json=as_json))


app.command()(alarm_commands.alarms)
app.command()(backup_commands.backup)
app.command()(money_commands.topup)
app.command()(money_commands.cut)
app.command()(backup_commands.restore)
app.command()(money_commands.pulse)
app.command()(money_commands.command)
app.command()(money_commands.resolve)
app.command()(money_commands.verify_ledger)
app.command()(money_commands.export_ledger)
app.command()(report_commands.report)
app.command()(report_commands.evidence)
app.command()(report_commands.verify_evidence)
app.command()(money_commands.operator)
app.command()(money_commands.token)
app.command()(mqtt_commands.mqtt_password)
app.add_typer(account_commands.app)
app.add_typer(card_commands.app)
app.add_typer(key_commands.app)
app.add_typer(unit_commands.app)
app.add_typer(terminal_commands.app)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def simulate(context: typer.Context) -> None:
    """Simulated meters to try things on; with --seeds N the trial of money. --help lists both."""
    from headend.cli import simulators

    raise typer.Exit(simulators.run(context.args))
