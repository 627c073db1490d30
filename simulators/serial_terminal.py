"""A recharge terminal on a serial wire: the same frames, over a pseudo-terminal instead of TCP.

Nobody accepts a call on a wire, so it says hello again until it is welcomed. `drop` and `unplug`
pull its adapter out; `plug` puts it back under the same name.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulators.dtu import _Session
from simulators.pty485 import Pty
from simulators.rf_terminal import RfTerminal

HELLO_EVERY_S = 1.0


class _Wire(asyncio.Transport):
    """A pseudo-terminal, as a session's transport."""

    def __init__(self, path: Path, session: _Session) -> None:
        super().__init__()
        self._pty: Pty | None = Pty(path)
        self._session = session
        asyncio.get_running_loop().add_reader(self._pty.fd, self._readable)

    def _readable(self) -> None:
        if self._pty is not None and (data := self._pty.read()):
            self._session.data_received(data)

    def write(self, data: Any) -> None:
        if self._pty is not None:
            self._pty.write(bytes(data))

    def is_closing(self) -> bool:
        return self._pty is None

    def pause_reading(self) -> None:
        if self._pty is not None:
            asyncio.get_running_loop().remove_reader(self._pty.fd)

    def abort(self) -> None:
        if self._pty is not None:
            pty, self._pty = self._pty, None
            asyncio.get_running_loop().remove_reader(pty.fd)
            pty.close()
            self._session.connection_lost(None)


class SerialTerminal(RfTerminal):
    """The box at the end of a wire."""

    def __init__(
        self, path: Path, *given: Any, beat_s: float = 30.0, quiet_s: float = 75.0, **named: Any
    ) -> None:
        """`path`: what the head-end opens. It beats every `beat_s`; when it hears nothing for
        `quiet_s` it begins anew. The rest is RfTerminal's."""
        super().__init__(*given, host="", port=0, **named)
        self.path = path
        self.plan = replace(self.plan, heartbeat_s=beat_s, restart_quiet_s=quiet_s)
        self._hello: asyncio.Task[None] | None = None

    async def _dial(self, session: _Session) -> None:
        session.connection_made(_Wire(self.path, session))
        self._hello = asyncio.create_task(self._hello_again(session), name=f"hello {self.path}")

    async def _hello_again(self, session: _Session) -> None:
        while not session.over.is_set() and not self.is_online:
            await asyncio.sleep(HELLO_EVERY_S)
            if not self.is_online and self._session is session:
                session.send(session.speech.hello())
