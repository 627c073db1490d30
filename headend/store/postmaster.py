"""One PostgreSQL server process, ours or a former owner's: is it ready, how did it end, stop it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path

from headend.store.child import Running

# Recovery after a crash may take minutes: looked at often while it is likely short, then less.
READY_LOOK_S_FIRST = 0.01
READY_LOOK_S_MAX = 0.25


def pid_file_of(cluster: Path) -> Path:
    """Where PostgreSQL writes its process id and whether it is ready."""
    return cluster / "postmaster.pid"


class Postmaster(Running):
    """A running (or just ended) server of one cluster, held by a pidfd: a number can be reused."""

    def __init__(
        self, pid: int, pidfd: int, cluster: Path, child: subprocess.Popen[bytes] | None = None
    ) -> None:
        super().__init__(pid, pidfd, child)
        self._cluster = cluster

    @classmethod
    def child(cls, child: subprocess.Popen[bytes], cluster: Path) -> Postmaster:
        return cls(child.pid, os.pidfd_open(child.pid), cluster, child)

    def is_ready(self) -> bool:
        """What the server itself wrote down: line 1 its pid, line 8 its state."""
        try:
            lines = pid_file_of(self._cluster).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"

    async def wait_ready(self) -> bool:
        """True when it takes connections, False when it ended first. No deadline."""
        wait_s = READY_LOOK_S_FIRST
        while not self.is_ready():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self.wait_ended()
                    return False
            wait_s = min(wait_s * 1.1, READY_LOOK_S_MAX)
        return True

    async def stop(self, stop_s_max: float) -> None:
        """Fast shutdown; after `stop_s_max` seconds the immediate one. Returns when it is gone."""
        await self.end(signal.SIGINT, signal.SIGQUIT, stop_s_max)


def server_of(cluster: Path) -> Postmaster | None:
    """The live server of this cluster, by its pid file and by what that process really is.

    Raises PermissionError when the cluster belongs to another user.
    """
    try:
        first = pid_file_of(cluster).read_text(errors="replace").split(maxsplit=1)[:1]
        pid = int(first[0]) if first else 0
        if pid <= 0:
            return None
        # Held before it is looked at, so it cannot become another process in between.
        server = Postmaster(pid, os.pidfd_open(pid), cluster)
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    serves_it = words[0].endswith(b"/postgres") and os.fsencode(cluster) in words
    return server if serves_it and state not in "XZ" else None
