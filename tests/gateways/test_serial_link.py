"""A serial port: over real pseudo-terminals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import termios
from pathlib import Path

import pytest

from gateways.keeper import Backoff, keep_open
from gateways.line import Line
from gateways.link import LinkDown
from gateways.serial_link import SerialSettings, open_serial, opener
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.exchange import ask_reply
from protocols.modbus import read_registers
from tests.gateways.field import pty_meter, running, until

SETTINGS = SerialSettings(baud=9600)
AT_ONCE = LineTiming.serial(baud=9600, start_quiet_s=0.0)
QUICK = Backoff(first_s=0.01, longest_s=0.05, good_after_s=0.0)
SOCKETS = 1500


async def read_from(line: Line) -> bytes:
    return await line.converse(7, ask_reply(read_registers(7, 5, 2)), priority=Priority.NIGHTLY)


async def test_a_meter_on_a_port_is_read(tmp_path: Path) -> None:
    with pty_meter(tmp_path / "ttyUSB0") as meter:
        line = Line("L1", AT_ONCE)
        line.attach(await open_serial(str(meter.device), SETTINGS))
        assert await read_from(line) == b"\x00\x05\x00\x06"
        assert meter.heard == [read_registers(7, 5, 2).frame]
        line.detach("done")
        await asyncio.sleep(0)


async def test_baud_and_stop_bits_are_those_of_the_line(tmp_path: Path) -> None:
    with pty_meter(tmp_path / "ttyUSB0") as meter:
        settings = SerialSettings(baud=2400, parity="E", stop_bits=2)
        link = await open_serial(str(meter.device), settings)
        fd = os.open(meter.device, os.O_RDWR | os.O_NOCTTY)
        cflag, speed = termios.tcgetattr(fd)[2], termios.tcgetattr(fd)[4]
        os.close(fd)
        assert speed == termios.B2400
        assert cflag & termios.CSTOPB
        assert cflag & termios.CSIZE == termios.CS8
        link.close()
        await asyncio.sleep(0)


async def test_a_port_belongs_to_one_program(tmp_path: Path) -> None:
    with pty_meter(tmp_path / "ttyUSB0") as meter:
        first = await open_serial(str(meter.device), SETTINGS)
        with pytest.raises(LinkDown, match="in use by another program"):
            await open_serial(str(meter.device), SETTINGS)
        first.close()
        await first.wait_closed()
        await asyncio.sleep(0.01)
        again = await open_serial(str(meter.device), SETTINGS)
        again.close()
        await asyncio.sleep(0)


async def test_a_port_that_is_none_is_one_clause(tmp_path: Path) -> None:
    with pytest.raises(LinkDown, match="is not there: is the adapter plugged in"):
        await open_serial(str(tmp_path / "ttyUSB7"), SETTINGS)
    plain = tmp_path / "file"
    plain.touch()
    with pytest.raises(LinkDown, match="cannot be opened as a serial port"):
        await open_serial(str(plain), SETTINGS)


async def test_an_unplugged_adapter_comes_back_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="gateways")
    device = tmp_path / "ttyUSB0"
    line = Line("L1", AT_ONCE)
    async with running(keep_open(line, opener(str(device), SETTINGS), QUICK)):
        with pty_meter(device):
            await until(lambda: line.is_up)
            assert len(await read_from(line)) == 4
        await until(lambda: "is not there" in (line.down_reason or ""))
        with pytest.raises(LinkDown, match="is the adapter plugged in"):
            await read_from(line)
        with pty_meter(device):
            await until(lambda: line.is_up)
            assert len(await read_from(line)) == 4
            told = [record.getMessage() for record in caplog.records]
            assert told.count(f"line L1 is up: {device}") == 2
            assert len([text for text in told if "was unplugged" in text]) == 1
            assert len([text for text in told if "is not there" in text]) == 1


async def test_an_adapter_pulled_during_an_exchange_ends_it(tmp_path: Path) -> None:
    with pty_meter(tmp_path / "ttyUSB0") as meter:
        line = Line("L1", LineTiming.serial(baud=9600, reply_timeout_s=30.0, start_quiet_s=0.0))
        line.attach(await open_serial(str(meter.device), SETTINGS))
        asyncio.get_running_loop().remove_reader(meter._master)  # it no longer answers
        asked = asyncio.create_task(read_from(line))
        await until(lambda: line.health.exchanges == 1)
    with pytest.raises(LinkDown, match="was unplugged"):
        await asked


async def test_a_port_works_with_more_than_a_thousand_sockets_open(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = SOCKETS + 200
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this system allows {hard} descriptors, the test needs {needed}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        with contextlib.ExitStack() as crowd, pty_meter(tmp_path / "ttyUSB0") as meter:
            sockets = [crowd.enter_context(socket.socket()) for _ in range(SOCKETS)]
            assert sockets[-1].fileno() > 1024
            line = Line("L1", AT_ONCE)
            link = await open_serial(str(meter.device), SETTINGS)
            assert link._port.fileno() > 1024
            line.attach(link)
            for _ in range(3):
                assert await read_from(line) == b"\x00\x05\x00\x06"
            line.detach("done")
            await asyncio.sleep(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
