"""python -m simulators: a virtual property, or one line of meters, for anybody's head-end."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    help="Simulated meters, converters and DTUs. They end with whoever started them.",
    no_args_is_help=True,
    add_completion=False,
)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
EXIT_USAGE = 2
EXIT_PORT = 3


@app.command()
def town(  # noqa: PLR0917  each option is one, typer wants them so
    folder: Annotated[Path, typer.Option(help="Where site.toml, truth.json and the ports appear.")],
    dial_in: Annotated[str, typer.Option(help="Where the DTUs dial to: HOST:PORT.")],
    seed: Annotated[int, typer.Option(help="Numbers and loads differ by seed.")] = 1,
    speed: Annotated[int, typer.Option(min=1, help="The meters' time runs so many times.")] = 1,
    keys: Annotated[
        Path | None, typer.Option(help="The key in the meters' chips: a file of 64 hex digits.")
    ] = None,
    mqtt: Annotated[
        str, typer.Option(help="The broker of its MQTT gateways: HOST:PORT; without it none.")
    ] = "",
) -> None:
    """A property of three buildings: 19 lines, some 290 meters, a dead line, two wrong meters."""
    from simulators.town import Town
    from simulators.town_plan import plan_town

    host, _, port = dial_in.rpartition(":")
    if not host or not port.isdigit():
        _fail(EXIT_USAGE, f"--dial-in must be HOST:PORT, not {dial_in}")
    broker_host, _, broker_port = mqtt.rpartition(":")
    if mqtt and not (broker_host and broker_port.isdigit()):
        _fail(EXIT_USAGE, f"--mqtt must be HOST:PORT, not {mqtt}")

    async def serve(wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        running = Town(
            folder,
            dial_in=(host, int(port)),
            plan=plan_town(seed, has_broker=bool(mqtt)),
            speed=speed,
            keys=keys,
            broker=(broker_host, int(broker_port)) if mqtt else None,
        )
        try:
            await running.start()
            await wait()
        finally:
            await running.stop()

    _serve_until_told(serve)


@app.command()
def line(  # noqa: PLR0917  each option is one, typer wants them so
    meters: Annotated[
        list[str], typer.Option(help="TYPE:UNITS: ddsy:1-8, ddsy8:9, dtsy:20,21 or adf:1 (a box).")
    ],
    pty: Annotated[Path | None, typer.Option(help="Serial line: the port appears here.")] = None,
    tcp: Annotated[str, typer.Option(help="Converter instead: HOST:PORT, port 0 for any.")] = "",
    baud: Annotated[int, typer.Option(min=300, help="Bits per second on the wires.")] = 9600,
    bits: Annotated[int, typer.Option(min=10, max=12, help="Bits of a character; 8N1: 10.")] = 10,
    turnaround_ms: Annotated[int, typer.Option(min=0, help="From request to answer.")] = 20,
    seed: Annotated[int, typer.Option(help="Loads and faults differ by seed.")] = 1,
    faults: Annotated[str, typer.Option(help='JSON, as in {"request_lost": 0.01}.')] = "{}",
    precise: Annotated[
        bool, typer.Option(help="Exact wire timing for benchmarks; takes a whole core.")
    ] = False,
    instant: Annotated[
        bool, typer.Option(help="No wires behind the converter: answers at once, for benchmarks.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write the line's report here.")] = None,
) -> None:
    """One line of meters on a serial port or a TCP converter. Ctrl-C prints its report."""
    from simulators.line_command import LineWish, WrongWish, run_instant, run_line

    try:
        wish = LineWish.parse(
            meters=meters,
            pty=pty,
            tcp=tcp,
            baud=baud,
            bits=bits,
            turnaround_s=turnaround_ms / 1000,
            seed=seed,
            faults=faults,
        )
        bus = wish.bus()
        if precise and pty is None:
            raise WrongWish("--precise is for serial lines: give --pty PATH")
        if instant and pty is not None:
            raise WrongWish("--instant is for converters: give --tcp HOST:PORT")
    except WrongWish as error:
        _fail(EXIT_USAGE, str(error))
    if precise:
        from simulators.precise485 import run_precise

        end_with_parent()
        text = json.dumps(run_precise(wish, bus))
    else:
        out: list[str] = []

        async def serve(wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
            run = run_instant if instant else run_line
            out.append(json.dumps(await run(wish, bus, wait, typer.echo)))

        _serve_until_told(serve, fast=instant)
        text = out[0]
    if report is not None:
        report.write_text(text + "\n", encoding="utf-8")
    typer.echo(text)


@app.command()
def acrel_gateway(  # noqa: PLR0917  each option is one, typer wants them so
    dial_in: Annotated[str, typer.Option(help="Where it dials to: HOST:PORT.")],
    registration: Annotated[str, typer.Option(help="BUILDING/GATEWAY, as in a site file.")],
    secret_file: Annotated[Path, typer.Option(help="The file with its secret of 16 bytes.")],
    port: Annotated[list[str], typer.Option(help="Meters at a port: 1=ddsy:1-8, 2=dtsy:1 …")],
    report_s: Annotated[float, typer.Option(min=0, help="Reports every so often; 0: none.")] = 60,
    packed: Annotated[bool, typer.Option(help="Reports are deflated.")] = False,
    seed: Annotated[int, typer.Option(help="Loads and faults differ by seed.")] = 1,
    faults: Annotated[str, typer.Option(help='JSON, as in {"request_lost": 0.01}.')] = "{}",
) -> None:
    """An Acrel gateway that dials in. Ctrl-C prints its report."""
    from simulators.gateway_command import GatewayWish, run_gateway
    from simulators.line_command import WrongWish

    try:
        wish = GatewayWish.parse(
            dial_in=dial_in,
            registration=registration,
            secret=secret_file.read_text(encoding="utf-8").rstrip("\r\n"),
            ports=port,
            report_s=report_s,
            packed=packed,
            seed=seed,
            faults=faults,
        )
    except (WrongWish, OSError, UnicodeDecodeError) as error:
        _fail(EXIT_USAGE, str(error))

    async def serve(wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        typer.echo(await run_gateway(wish, wait, typer.echo))

    _serve_until_told(serve)


@app.command()
def ask(
    folder: Annotated[Path, typer.Option(help="The town's folder.")],
    request: Annotated[str, typer.Argument(help='JSON, as in {"do": "meter", "name": "M1-101"}.')],
) -> None:
    """Ask a running town for the truth, or change it: list, meter, unplug, plug, faults …"""
    from simulators.control import ask as ask_town

    try:
        answer = asyncio.run(ask_town(folder / "control.sock", json.loads(request)))
    except OSError as error:
        _fail(EXIT_PORT, f"no town answers in {folder}: {error}")
    except ValueError as error:
        _fail(EXIT_USAGE, f"the request is not JSON: {error}")
    typer.echo(json.dumps(answer, ensure_ascii=False))
    if not answer.get("ok"):
        raise typer.Exit(EXIT_USAGE)


@app.command()
def dial(  # noqa: PLR0917  each option is one, typer wants them so
    meters: Annotated[list[str], typer.Option(help="TYPE:UNITS, as of `line`.")],
    dial_in: Annotated[str, typer.Option(help="The head-end's port: HOST:PORT.")],
    named: Annotated[
        str,
        typer.Option(
            "--as",
            help="transparent:TEXT, ddp:PHONE, four_faith:PHONE or acrel_4g:SERIAL (a 4G meter).",
        ),
    ],
    upload_s: Annotated[
        float, typer.Option(min=1, help="Seconds between two readings a 4G meter pushes.")
    ] = 1800,
    seed: Annotated[int, typer.Option(help="Loads and faults differ by seed.")] = 1,
    faults: Annotated[str, typer.Option(help='JSON, as in {"request_lost": 0.01}.')] = "{}",
) -> None:
    """One box that dials in, with a line of meters behind it. Ctrl-C prints its report."""
    from simulators.dialled import parse_name, run_dialled
    from simulators.line_command import LineWish, WrongWish

    try:
        wish = LineWish.parse(
            meters=meters,
            pty=None,
            tcp=dial_in,
            baud=9600,
            bits=10,
            turnaround_s=0.02,
            seed=seed,
            faults=faults,
        )
        wish.bus()
        parse_name(named)
    except WrongWish as error:
        _fail(EXIT_USAGE, str(error))

    async def serve(wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        report = await run_dialled(wish, named, upload_s, wait, typer.echo)
        typer.echo(json.dumps(report))

    _serve_until_told(serve)


@app.command()
def terminal(  # noqa: PLR0917  each option is one, typer wants them so
    meters: Annotated[list[str], typer.Option(help="TYPE:UNITS behind it, as of `line`.")],
    name: Annotated[str, typer.Option(help="Its name, the registration of a site file.")],
    secret_file: Annotated[Path, typer.Option(help="The file with its credential of 16 bytes.")],
    dial_in: Annotated[str, typer.Option(help="The head-end's port: HOST:PORT.")] = "",
    pty: Annotated[
        Path | None, typer.Option(help="On a serial wire instead: the head-end's end appears here.")
    ] = None,
    cards: Annotated[Path, typer.Option(help="Folder of the cards.")] = Path("cards"),
    cap_key_file: Annotated[
        Path | None, typer.Option(help="Its key for caps, 32 hex digits; else it sells none alone.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Loads and meter numbers differ by seed.")] = 1,
) -> None:
    """A recharge terminal with a keyboard: tap cards, buy, pull its network. `help` says how."""
    from simulators.line_command import LineWish, WrongWish
    from simulators.rf_terminal import RfTerminal
    from simulators.serial_terminal import SerialTerminal
    from simulators.terminal_window import Window, keyboard, run_window

    if (pty is None) == (not dial_in):
        _fail(EXIT_USAGE, "say where: either --dial-in HOST:PORT or --pty PATH")
    host, _, port = dial_in.rpartition(":")
    try:
        wish = LineWish.parse(
            meters=meters,
            pty=pty,
            tcp=dial_in,
            baud=9600,
            bits=10,
            turnaround_s=0.02,
            seed=seed,
            faults="{}",
        )
        bus = wish.bus()
        secret = secret_file.read_bytes().rstrip(b"\r\n")
        key = None if cap_key_file is None else bytes.fromhex(cap_key_file.read_text("ascii"))
    except (WrongWish, OSError, ValueError) as error:
        _fail(EXIT_USAGE, str(error))

    async def serve(wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        given: dict[str, Any] = {
            "name": name,
            "secret": secret,
            "now_s": time.time,
            "meters": {one.meter.number: unit for unit, one in bus.units.items()},
            "cap_keys": {} if key is None else {1: key},
            "timing": wish.timing,
        }
        if pty is None:
            box = RfTerminal(bus, host=host, port=int(port), **given)
        else:
            box = SerialTerminal(pty, bus, **given)
        typing = run_window(Window(box, cards, typer.echo), keyboard(), typer.echo)
        ends = {asyncio.create_task(typing), asyncio.create_task(wait())}
        await box.plug()
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await box.unplug()
            for task in ends:
                task.cancel()

    _serve_until_told(serve)


def end_with_parent() -> None:
    """Ask the kernel for SIGTERM when our parent dies; so no simulator is ever left behind."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died in between: the signal will not come
        os.kill(os.getpid(), signal.SIGTERM)


def _serve_until_told(
    serve: Callable[[Callable[[], Coroutine[Any, Any, None]]], Coroutine[Any, Any, None]],
    *,
    fast: bool = False,
) -> None:
    """Run until SIGTERM or SIGINT, then let `serve` clean up. `fast` takes uvloop where it is."""

    async def main() -> None:
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        end_with_parent()

        async def wait() -> None:
            await told.wait()

        await serve(wait)

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        with asyncio.Runner(loop_factory=_fast_loop() if fast else None) as runner:
            runner.run(main())
    except OSError as error:
        _fail(EXIT_PORT, f"cannot serve: {error}")


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return new_loop


def _fail(code: int, sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    app(prog_name="python -m simulators")
