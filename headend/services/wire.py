"""A bare wire without a head-end: what a technician has in hand before anything is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gateways.keeper import KeptLink
from gateways.line import Line
from gateways.link import LinkDown
from gateways.serial_link import SerialSettings, opener
from gateways.tcp_link import dialler
from gateways.timing import LineTiming
from gateways.turns import Priority
from headend.domain.clock import SystemClock
from headend.domain.problems import Problem
from headend.services.looks import explain_gap
from headend.services.scan import ask_unit, scan
from headend.services.scan_dlt645 import scan_dlt645
from protocols.catalog import load_meter_types
from protocols.exchange import ProtocolError
from protocols.meter_type import Address
from protocols.reading import Quantity

MODBUS_PORT = 502


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Line]:
    """A line on serial:///dev/ttyUSB0?baud=9600&parity=E&stop_bits=1 or tcp://host:port.

    Raises Problem("link-url") or Problem("line-down").
    """
    open_link, timing = _parse(url)
    line = Line(url, timing)
    try:
        line.attach(await open_link())
    except LinkDown as error:
        raise Problem("line-down", line=url, detail=error) from error
    try:
        yield line
    finally:
        line.detach("done")


def _parse(url: str) -> tuple[Callable[[], Awaitable[KeptLink]], LineTiming]:
    parts = urlsplit(url)
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        baud = int(given.pop("baud", "9600"))
        parity = given.pop("parity", "N").upper()
        stop_bits = int(given.pop("stop_bits", "1"))
        port = parts.port or MODBUS_PORT
    except ValueError as error:
        raise Problem("link-url", url=url) from error
    sound = not given and baud > 0 and parity in ("N", "E", "O") and stop_bits in (1, 2)
    if sound and parts.scheme == "serial" and parts.path and not parts.netloc:
        settings = SerialSettings(baud=baud, parity=parity, stop_bits=stop_bits)
        # Nobody of ours asked on this wire before: no old answer can be under way.
        timing = LineTiming.serial(baud=baud, parity=parity, stop_bits=stop_bits, start_quiet_s=0.0)
        return opener(parts.path, settings), timing
    if sound and parts.scheme == "tcp" and parts.hostname and not parts.path:
        return dialler(parts.hostname, port), LineTiming.network(
            mobile=False, baud=baud, start_quiet_s=0.0
        )
    raise Problem("link-url", url=url)


async def scan_wire(url: str, units: Iterable[int]) -> AsyncIterator[dict[str, object]]:
    """`scan` on a bare wire."""
    async with wire(url) as line:
        async for row in scan(line, units):
            yield row


async def scan_dlt645_wire(url: str) -> AsyncIterator[dict[str, object]]:
    """`scan_dlt645` on a bare wire."""
    async with wire(url) as line:
        async for row in scan_dlt645(line):
            yield row


async def probe_wire(url: str, unit: int, type_name: str | None) -> dict[str, Any]:
    """Who answers at this unit id, and everything it shows.

    Raises Problem: "no-answer", "meter-not-read", "no-such-type" and those of `wire`.
    """
    types = load_meter_types()
    async with wire(url) as line:
        row = await ask_unit(line, unit)
        if not row["found"]:
            raise Problem("no-answer", unit=unit, detail="check wiring, address, baud and parity")
        name = type_name or row.get("type")
        if name is None:
            raise Problem("meter-not-read", meter=f"unit {unit}", detail=row["detail"])
        if name not in types:
            raise Problem("no-such-type", type=name, known=", ".join(types))
        meter_type = types[str(name)]
        driver = meter_type.new_driver({})
        try:
            values = await line.converse(
                Address(unit),
                driver.read(Address(unit), frozenset(Quantity)),
                priority=Priority.ASKED_NOW,
            )
        except (ProtocolError, LinkDown) as error:
            raise Problem(
                "meter-not-read", meter=f"unit {unit}", detail=explain_gap(error)[1]
            ) from error
    return row | {
        "title": meter_type.title,
        "type": meter_type.name,
        "at": SystemClock().now().isoformat(),
        "values": {quantity.value: value for quantity, value in values.items()},
    }
