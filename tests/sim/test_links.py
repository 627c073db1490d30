"""Real ports and sockets: a pseudo-terminal, a converter, somebody else's slave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import serial

from simulators import rtu
from simulators.acrel_meter import DDSY1352, acrel_unit
from simulators.modbus_meter import Bus, Unit
from simulators.other_slave import OtherLine
from simulators.pty485 import PtyLine
from simulators.tcp_slave import InstantSlave, RefusingPort, TcpLine
from simulators.wire import WireTiming
from tests.sim.helpers import WAIT_S_MAX, HandClock, meter, read, registers

FAST = WireTiming(baud=115_200, turnaround_s=0.0)
ASK = read(1, 0x0200, 48)
ANSWER_BYTES = 101


def units() -> dict[int, Unit]:
    return {1: acrel_unit(DDSY1352, meter(HandClock(), credit_fen=4_321), 1)}


def asked(port: serial.Serial, frame: bytes, size: int) -> bytes:
    port.write(frame)
    return port.read(size)


async def exchange(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], frame: bytes, size: int
) -> bytes:
    reader, writer = streams
    writer.write(frame)
    async with asyncio.timeout(WAIT_S_MAX):
        return await reader.readexactly(size)


@asynccontextmanager
async def dialled(
    host: str, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_serial_line_is_unplugged_and_plugged_in_again(tmp_path: Path) -> None:
    path = tmp_path / "tty"
    line = PtyLine(path, Bus(units()), timing=FAST)
    await line.plug()
    try:
        with serial.Serial(str(path), 9600, timeout=WAIT_S_MAX, exclusive=True) as port:
            registers(await asyncio.to_thread(asked, port, ASK, ANSWER_BYTES))
            await line.unplug()
            assert not path.is_symlink()
            with pytest.raises(serial.SerialException):
                await asyncio.to_thread(asked, port, ASK, ANSWER_BYTES)
        await line.plug()
        with serial.Serial(str(path), 9600, timeout=WAIT_S_MAX) as port:
            registers(await asyncio.to_thread(asked, port, ASK, ANSWER_BYTES))
        assert line.report.polls == 2
    finally:
        await line.unplug()


async def test_a_converter_drops_everyone_and_comes_back_at_its_port() -> None:
    line = TcpLine(Bus(units()), timing=FAST)
    await line.plug()
    port = line.port
    try:
        async with dialled(line.host, port) as streams:
            registers(await exchange(streams, ASK, ANSWER_BYTES))
            await line.unplug()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await exchange(streams, ASK, ANSWER_BYTES)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(line.host, port)
        await line.plug()
        assert line.port == port
        async with dialled(line.host, port) as streams:
            registers(await exchange(streams, ASK, ANSWER_BYTES))
    finally:
        await line.unplug()


async def test_a_dead_converter_refuses() -> None:
    dead = RefusingPort()
    try:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(dead.host, dead.port)
    finally:
        dead.close()


async def test_the_instant_slave_answers_glued_requests() -> None:
    served: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: InstantSlave(Bus(units()), served), "127.0.0.1", 0)
    async with server, dialled(*server.sockets[0].getsockname()) as streams:
        both = await exchange(streams, ASK + ASK[:3], ANSWER_BYTES)
        both += await exchange(streams, ASK[3:], ANSWER_BYTES)
    assert registers(both[:ANSWER_BYTES]) == registers(both[ANSWER_BYTES:])
    assert served["requests"] == 2


async def test_somebody_elses_slave_shows_our_meter() -> None:
    ours = units()
    line = OtherLine(ours, timing=FAST)
    await line.plug()
    try:
        here = (line.host, line.port)
        async with dialled(*here) as streams, dialled(*here) as lost:
            lost[1].write(read(2, 0x0200, 48))
            for register, words in ((0x0000, 10), (0x0043, 3), (0x0200, 48), (0x0400, 25)):
                theirs = await exchange(streams, read(1, register, words), 5 + 2 * words)
                assert theirs == ours[1].answer(read(1, register, words))
            hole = await exchange(streams, read(1, 0x0300, 1), 5)
            assert hole == rtu.sealed(b"\x01\x83\x02")
            forced = bytes.fromhex("01100057000204000100012775")
            assert (await exchange(streams, forced, 5))[1] == 0x90, "read only"
            # Unit 2 is nobody: silence. Asked first, it would have been heard before the others.
            registers(await exchange(lost, ASK, ANSWER_BYTES))
        assert line.report.polls == 5
    finally:
        await line.unplug()


def _spawn(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "simulators", *arguments], stdout=subprocess.PIPE, text=True
    )


def _wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S_MAX
    while not ready():
        assert process.poll() is None, "it ended before it was ready"
        assert time.monotonic() < until_s
        time.sleep(0.01)


@pytest.mark.parametrize("mode", [["--precise"], []])
def test_a_line_of_its_own_process_reports_when_told_to_end(
    tmp_path: Path, mode: list[str]
) -> None:
    path, report = tmp_path / "tty", tmp_path / "report.json"
    process = _spawn(
        "line", "--pty", str(path), "--meters", "ddsy8:1-3", "--report", str(report), *mode
    )
    try:
        _wait_for(process, path.is_symlink)
        with serial.Serial(str(path), 9600, timeout=WAIT_S_MAX) as port:
            for turn in range(8):
                registers(asked(port, read(1 + turn % 3, 0x0200, 60), 125))
                time.sleep(0.01)  # more silence than 3.5 characters, however late we wake
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S_MAX) == 0
    finally:
        process.kill()
        process.communicate()
    told = json.loads(report.read_text())
    assert told["requests"] == 8
    assert told["polls"] >= 5, "the precise line leaves out its warm-up"
    assert told["gap_violations"] == 0
    assert 0 < told["wire_pct"] <= 100
    # A poll of 60 registers takes 133 characters and the turnaround on the wire, never less.
    assert told["cycle_ms"] >= 1000 * (133 * 10 / 9600 + 0.02) - 1
    assert not path.is_symlink()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--meters", "ddsy:1"], "say where: either --pty PATH or --tcp HOST:PORT"),
        (["--meters", "ddsy:1,1", "--tcp", "127.0.0.1:0"], "unit 1 is wanted twice"),
        (["--meters", "steam:1", "--tcp", "127.0.0.1:0"], "no meter type is called steam"),
        (["--meters", "ddsy:0-9", "--tcp", "127.0.0.1:0"], "units go from 1 to 247, not 0-9"),
        (["--meters", "adf:3", "--tcp", "127.0.0.1:0"], "a box of 36 cannot begin at unit 3"),
        (["--meters", "ddsy:1", "--tcp", "here"], "--tcp must be HOST:PORT, not here"),
        (["--meters", "ddsy:1", "--tcp", "127.0.0.1:0", "--precise"], "--precise is for serial"),
        (
            ["--meters", "ddsy:1", "--tcp", "127.0.0.1:0", "--faults", '{"rain": 1}'],
            "no fault is called rain",
        ),
    ],
)
def test_wrong_wishes_are_one_sentence(arguments: list[str], sentence: str) -> None:
    from typer.testing import CliRunner

    from simulators.__main__ import EXIT_USAGE, app

    result = CliRunner().invoke(app, ["line", *arguments])
    assert result.exit_code == EXIT_USAGE
    assert sentence in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "tty"
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'simulators', 'line',"
        f" '--pty', {str(path)!r}, '--meters', 'ddsy:1'], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(3600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) > 0
        _wait_for(parent, path.is_symlink)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(WAIT_S_MAX)
    finally:
        parent.kill()
        parent.communicate()
    until_s = time.monotonic() + WAIT_S_MAX
    while path.is_symlink() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not path.is_symlink(), "it heard of its parent's death and cleaned up"
