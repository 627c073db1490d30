"""A server program as a child of ours: ended with us, one owner a folder, its log bounded.

The embedded database and the embedded broker are both kept this way. A process is held by a pidfd,
because a number can be reused; the owner of a folder holds a flock, which the kernel drops however
the owner dies; a parent-death signal stops the child clean even after `kill -9` of its owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from headend.store.errors import FolderBusy
from headend.store.programs import DatabaseUser

log = logging.getLogger(__name__)

# A log is copied aside and emptied at this size: two files, 16 MB, weeks of a healthy server.
LOG_BYTES_MAX = 8 << 20
PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)


class OwnerLock:
    """Who owns a data folder: one process, from take() to release()."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        return self._fd is not None

    def take(self) -> None:
        """Raises FolderBusy with the other owner's process id, and OSError."""
        path = self._folder / "owner.lock"
        # No following of links: where the folder is not ours, root must not be led elsewhere.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(fd, 32).decode(errors="replace").strip()
            os.close(fd)
            raise FolderBusy(self._folder, owner or "unknown") from None
        if former := os.read(fd, 32).decode(errors="replace").strip():
            log.info(
                "the lock of process %s on %s is stale: its owner ended without letting go",
                former,
                self._folder,
            )
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Let go in good order: the next owner sees no pid. Safe to call twice."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


class Running:
    """A running (or just ended) process, held by a pidfd."""

    def __init__(self, pid: int, pidfd: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._child = child

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._pidfd)

    async def wait_ended(self) -> None:
        """Until the process is gone. A pidfd becomes readable then, whoever the parent is."""
        loop = asyncio.get_running_loop()
        # A descriptor of its own: a second waiter on the same one would replace the first.
        fd = os.dup(self._pidfd)
        ended = loop.create_future()
        loop.add_reader(fd, lambda: None if ended.done() else ended.set_result(None))
        try:
            await ended
        finally:
            loop.remove_reader(fd)
            os.close(fd)
        if self._child is not None:
            self._child.wait()  # it has ended: this only reaps it

    def how_it_ended(self) -> str:
        """The signal or exit code, for the log."""
        code = self._child.returncode if self._child else None
        if code is None:
            return "gone"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    async def end(self, kind: signal.Signals, harder: signal.Signals, stop_s_max: float) -> None:
        """Ask with `kind`; after `stop_s_max` seconds with `harder`. Returns when it is gone."""
        self.signal(kind)
        try:
            async with asyncio.timeout(stop_s_max):
                await self.wait_ended()
        except TimeoutError:
            self.signal(harder)
            await self.wait_ended()

    def signal(self, number: signal.Signals) -> None:
        """Send it, unless the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)


def in_the_child(user: DatabaseUser, death_signal: signal.Signals) -> Callable[[], None]:
    """What the child does between fork and exec. Only system calls: the parent has threads."""
    parent = os.getpid()
    uid, gid, drops = user.uid, user.gid, user.drops
    # A server of many connections needs as many descriptors; the soft limit is often 1024.
    descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_max, descriptors_max))
        if drops:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        # After setuid, which clears it.
        _libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # the parent died before the signal was armed
        os.setpgid(0, 0)  # Ctrl-C in the terminal is for us; we stop the child ourselves
        os.umask(0o077)

    return prepare


def open_log(path: Path) -> int:
    """A descriptor of the log, for appending; the child writes to it as its own output."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o640)


def bound_log(path: Path) -> None:
    """Copy and empty: the server keeps its descriptor, opened for appending."""
    with contextlib.suppress(OSError):  # a full disk is told by the server itself
        if path.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)


def read_from(path: Path, begins_at: int) -> str:
    """What was written to the log since; at most 64 KiB of it."""
    with path.open("rb") as file:
        file.seek(begins_at)
        return file.read(64 << 10).decode(errors="replace")
