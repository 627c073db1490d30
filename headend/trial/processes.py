"""Real processes of the second campaign: the virtual property, the head-end, and their deaths."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import httpx

from headend.store.embedded import running_conninfo
from simulators.control import ask

START_S_MAX = 90.0  # a loaded machine; recovery after kill -9 included
LOOK_S = 0.05
STOP_S_MAX = 60.0


class DidNotStart(Exception):
    """A process of the campaign did not come up; the text says which."""


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Town:
    """The virtual property as a process of its own."""

    def __init__(self, folder: Path, dial_in_port: int, seed: int) -> None:
        self.folder = folder
        self._arguments = ("--dial-in", f"127.0.0.1:{dial_in_port}", "--seed", str(seed))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> dict[str, Any]:
        """Bring it up; gives its truth file. Raises DidNotStart."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "simulators", "town", "--folder", str(self.folder)),
            *self._arguments,
            stderr=asyncio.subprocess.DEVNULL,  # its boxes complain while the head-end is dead
        )
        path = self.folder / "truth.json"
        async with asyncio.timeout(START_S_MAX):
            while not path.exists():
                if self._process.returncode is not None:
                    raise DidNotStart("the virtual property ended at once")
                await asyncio.sleep(LOOK_S)
        truth: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return truth

    async def ask(self, **request: Any) -> dict[str, Any]:
        """One request to its control socket. Raises OSError when it says no."""
        answer = await ask(self.folder / "control.sock", request)
        if not answer.get("ok"):
            raise OSError(str(answer.get("error")))
        return answer

    async def stop(self) -> None:
        """Take it down."""
        await _end(self._process)


class Program:
    """`headend run`, started again whenever it was killed."""

    def __init__(self, data_folder: Path, dial_in_port: int) -> None:
        self.data_folder = data_folder
        self.http_port = free_port()
        self.kills = 0
        self.database_kills = 0
        self._dial_in_port = dial_in_port
        self._process: asyncio.subprocess.Process | None = None
        self._log = data_folder.parent / "headend.log"

    @property
    def url(self) -> str:
        """Where its API answers."""
        return f"http://127.0.0.1:{self.http_port}"

    async def start(self) -> None:
        """Start it and wait until it answers. Raises DidNotStart."""
        with self._log.open("ab") as log_file:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "headend", "run", "--data-folder", str(self.data_folder)),
                *("--http-port", str(self.http_port), "--dial-in-port", str(self._dial_in_port)),
                stdout=log_file,
                stderr=log_file,
            )
        async with asyncio.timeout(START_S_MAX), httpx.AsyncClient(trust_env=False) as client:
            while True:
                if self._process.returncode is not None:
                    raise DidNotStart(f"the head-end ended at once: see {self._log}")
                with contextlib.suppress(httpx.TransportError):
                    await client.get(f"{self.url}/health")
                    return
                await asyncio.sleep(LOOK_S)

    async def kill(self) -> None:
        """`kill -9` of the head-end; its database stops with it."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
            self.kills += 1

    def kill_database(self) -> None:
        """`kill -9` of PostgreSQL; the head-end starts it again."""
        pid_file = self.data_folder / "postgres" / "private" / "cluster" / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
            self.database_kills += 1

    def conninfo(self) -> str:
        """How to reach its database while it runs."""
        conninfo = running_conninfo(self.data_folder / "postgres")
        assert conninfo is not None, "its database is not running"
        return conninfo

    async def stop(self) -> None:
        """End it in good order."""
        await _end(self._process)


async def _end(process: asyncio.subprocess.Process | None) -> None:
    if process is None or process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_S_MAX):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
