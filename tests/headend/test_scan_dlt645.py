"""Meters of DL/T 645 are found on their line, one or many, with garbled answers as a help."""

from __future__ import annotations

import asyncio
import json
import sys
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateways.line import Line
from gateways.tcp_link import dial
from gateways.timing import LineTiming
from headend.domain.site_file import parse_site_file
from headend.services.scan_dlt645 import scan_dlt645
from protocols import dlt645 as wire
from protocols.catalog import load_meter_types
from protocols.dlt645_search import Ear, Heard, fits, narrower
from simulators.dlt645_meter import Bus645, Unit645, opened, sealed
from simulators.dlt645_purse import Purse
from simulators.tcp_slave import TcpLine
from simulators.wire import WireTiming
from tests.headend.test_setting_up import HEAD
from tests.sim.helpers import HandClock
from tests.sim.helpers import meter as new_meter

ONE, NEAR, FAR, THREE = "230615000007", "230615000008", "230699110007", "000000000101"


def bus_of(*addresses: str, phases: int = 1, prepaid: str = "") -> Bus645:
    return Bus645(
        Unit645(
            meter=new_meter(HandClock(), number=address, phases=phases),
            address=address,
            purse=Purse(key=b"k") if address == prepaid else None,
        )
        for address in addresses
    )


@asynccontextmanager
async def line_to(bus: Bus645) -> AsyncIterator[Line]:
    there = TcpLine(bus, timing=WireTiming(baud=1_000_000, turnaround_s=0.0))
    await there.plug()
    timing = LineTiming.network(
        mobile=False, baud=1_000_000, reply_timeout_s=0.03, reply_late_s_max=0.05, start_quiet_s=0
    )
    line = Line("L1", timing)
    line.attach(await dial("127.0.0.1", there.port))
    try:
        yield line
    finally:
        line.detach("done")
        await there.unplug()


async def rows_of(bus: Bus645, **how: Any) -> list[dict[str, Any]]:
    async with line_to(bus) as line:
        rows = [row async for row in scan_dlt645(line, **how)]
        assert not [one for one in line.snapshot().parties if "whoever" in str(one.party)]
    only_reads(bus.heard)
    return rows


def only_reads(frames: Sequence[bytes]) -> None:
    for frame in frames:
        said = opened(frame)
        assert said is not None
        assert said[1] in (wire.READ, wire.READ_1997, wire.READ_ADDRESS), "nothing is written"


def found(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    return {row["address"]: row["type"] for row in rows if row["found"]}


async def test_one_meter_alone_is_found_by_two_questions() -> None:
    rows = await rows_of(bus_of(ONE, phases=3))
    assert found(rows) == {ONE: "dlt645_three_phase"}
    assert rows[-1]["asked"] == 2


async def test_meters_that_answer_at_once_are_found_one_by_one() -> None:
    """Equal low digits make the search go deeper; the others are found at the first level."""
    rows = await rows_of(bus_of(ONE, NEAR, FAR, THREE, prepaid=NEAR))
    assert found(rows) == {
        ONE: "dlt645_single_phase",
        NEAR: "dlt645_prepaid_single_phase",
        FAR: "dlt645_single_phase",
        THREE: "dlt645_single_phase",
    }
    assert [row["asked"] for row in rows] == sorted(row["asked"] for row in rows)
    (near,) = (row for row in rows if row["address"] == NEAR)
    site = HEAD + '[[gateways]]\nname="G"\nkind="tcp"\nhost="h"\nport=1\n'
    site += '[[lines]]\nname="L1"\ngateway="G"\n' + near["fragment"]
    (meter,) = parse_site_file(site, "pasted", load_meter_types()).meters
    assert (meter.address, meter.line) == (NEAR, "L1")
    assert tomllib.loads(near["fragment"])["meters"][0]["type"] == near["type"]


async def test_an_empty_line_is_asked_once_for_each_standard() -> None:
    rows = await rows_of(bus_of())
    assert [(row["found"], row["address"]) for row in rows] == [(False, wire.ANY_METER)] * 2


async def test_a_search_that_takes_too_long_says_what_it_left_out() -> None:
    rows = await rows_of(bus_of(ONE, NEAR), search_s_max=0.05)
    assert "not finished" in rows[-1]["detail"]
    assert json.dumps(rows)


async def test_a_line_that_falls_ends_the_search() -> None:
    async with line_to(bus_of(ONE, NEAR)) as line:
        rows = []
        async for row in scan_dlt645(line):
            rows.append(row)
            line.detach("unplugged")
    assert (rows[-1]["stopped"], rows[-1]["detail"]) == (True, "unplugged")


ENERGY = bytes(4) + b"\x12\x00\x00\x00"
ANSWER, OTHER = (sealed(address, 0x91, ENERGY) for address in (ONE, FAR))


@pytest.mark.parametrize(
    ("told", "addresses", "is_crowded"),
    [
        (b"", (), False),
        (b"\xfe\xfe" + ANSWER, (ONE,), False),
        (b"\x00" + ANSWER + b"\xff", (ONE,), False),
        (ANSWER + OTHER, (ONE, FAR), True),
        (ANSWER + ANSWER, (ONE,), False),
        (b"\x68\x21\x33" + ANSWER, (ONE,), True),
        (ANSWER[:-3] + b"\x00" + ANSWER[-2:], (), True),
        (sealed(ONE, 0x11, ENERGY[:4]) + ANSWER, (ONE,), False),  # our own question comes back
        (sealed(NEAR, 0x91, ENERGY), (), False),  # does not fit: an answer that came late
    ],
)
def test_what_is_heard(told: bytes, addresses: tuple[str, ...], is_crowded: bool) -> None:
    ear = Ear()
    for byte in told:
        ear.receive_data(bytes((byte,)))
        assert ear.next_event() is None
    assert ear.heard("AAAAAAAAAA07", wire.READ) == Heard(addresses, is_crowded)


def test_patterns() -> None:
    first = list(narrower(wire.ANY_METER))
    assert (first[0], first[99]) == ("AAAAAAAAAA00", "AAAAAAAAAA99")
    assert "AAAAAAAA4207" in set(narrower("AAAAAAAAAA07"))
    assert list(narrower(ONE)) == []
    assert fits(ONE, "AAAAAAAAAA07")
    assert not fits(ONE, "AAAAAAAAAA70")
    assert all(fits(ONE, "A" * at + ONE[at:]) for at in range(0, 13, 2))


async def test_a_bare_wire_is_searched_from_the_command_line() -> None:
    there = TcpLine(bus_of(ONE), timing=WireTiming(baud=1_000_000, turnaround_s=0.0))
    await there.plug()
    try:
        child = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "headend"),
            *("scan", f"tcp://127.0.0.1:{there.port}?baud=115200", "--dlt645", "--json"),
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await child.communicate()
    finally:
        await there.unplug()
    assert child.returncode == 0
    assert found([json.loads(row) for row in told.splitlines()]) == {ONE: "dlt645_single_phase"}
