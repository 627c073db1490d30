"""An RS485 line on a pseudo-terminal: the head-end opens it like any serial port.

The path given to the head-end is a symbolic link, as /dev/serial/by-id/ has them: unplugging
removes it and hangs up, plugging in again makes a new terminal behind the same name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from pathlib import Path

from simulators.faults import Faults
from simulators.wire import LineReport, SlaveLine, Wires, WireTiming

READ_BYTES_MAX = 4096  # a terminal holds no more
# A serial driver hands bytes up in parts of its FIFO; small enough that answers come in pieces.
FIFO_BYTES = 32


class Pty:
    """A raw pseudo-terminal behind a symbolic link."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd, self._far_fd = os.openpty()
        # The far end stays open here too: else its last close would end the terminal.
        tty.setraw(self._far_fd)
        os.set_blocking(self.fd, False)
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._far_fd))
        fresh.rename(path)

    def read(self) -> bytes:
        """What the head-end wrote; empty when there is nothing."""
        try:
            return os.read(self.fd, READ_BYTES_MAX)
        except (BlockingIOError, OSError):
            return b""

    def write(self, data: bytes) -> None:
        """Bytes for the head-end. A full terminal loses them, as an adapter nobody reads does."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self.fd, data)

    def close(self) -> None:
        """Hang up and remove the link."""
        with contextlib.suppress(OSError):
            if self.path.readlink() == Path(os.ttyname(self._far_fd)):
                self.path.unlink()
        os.close(self._far_fd)
        os.close(self.fd)


class PtyLine:
    """Meters behind a pseudo-terminal."""

    def __init__(
        self,
        path: Path,
        bus: Wires,
        *,
        timing: WireTiming | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.path = path
        self.line = SlaveLine(
            bus,
            self._deliver,
            timing=timing,
            faults=faults,
            chunk_bytes=FIFO_BYTES,
        )
        self._pty: Pty | None = None

    @property
    def report(self) -> LineReport:
        return self.line.report

    async def plug(self) -> None:
        """Plug the adapter in. Raises OSError when the path cannot be made."""
        assert self._pty is None
        self._pty = Pty(self.path)
        asyncio.get_running_loop().add_reader(self._pty.fd, self._readable)

    async def unplug(self) -> None:
        """Pull the adapter out: the head-end's port hangs up."""
        if self._pty is None:
            return
        asyncio.get_running_loop().remove_reader(self._pty.fd)
        self.line.stop()
        self._pty.close()
        self._pty = None

    def _readable(self) -> None:
        assert self._pty is not None
        data = self._pty.read()
        if data:
            self.line.bytes_from_master(data)

    def _deliver(self, data: bytes) -> None:
        if self._pty is not None:
            self._pty.write(data)
