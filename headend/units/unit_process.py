"""A closed unit's program in its own process: no network, own user, a deadline for each word.

Lines of JSON over its standard input and output. A program that is late, floods, dies or says
something else is killed and started anew at the next call; after three such failures in ten minutes
it stays down until somebody has looked.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from headend.units.users import NOBODY
from protocols.card_apdu import CardError

REPLY_S_MAX: Final = 2.0
LINE_BYTES_MAX: Final = 16_384
MEMORY_BYTES_MAX: Final = 512 << 20
FAILURES_MAX: Final = 3
FAILURES_WITHIN_S: Final = 600.0


class UnitFailed(CardError):
    """A closed unit was late, died or talked nonsense. What it had sent to a card is not undone."""


class UnitDown(CardError):
    """A closed unit failed too often: it stays down until somebody has looked."""


def sandboxed(command: Sequence[str], uid: int = NOBODY) -> list[str]:
    """The command in namespaces without a network; as root it becomes that user, too.

    Without root the kernel has to allow user namespaces; where it does not, the program does not
    start, and the unit says so.
    """
    limits = ["prlimit", f"--as={MEMORY_BYTES_MAX}", "--nofile=64", "--core=0", "--"]
    # --pdeathsig: it never outlives us.
    drop = ["setpriv", "--no-new-privs", "--pdeathsig", "KILL"]
    if os.geteuid() == 0:
        drop += [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        return ["unshare", "--net", "--ipc", "--", *limits, *drop, "--", *command]
    alone = ["unshare", "--user", "--net", "--ipc", "--"]
    return [*alone, *limits, *drop, "--", *command]


class UnitProcess:
    """The program and the words with it. One call at a time; not for two threads."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        uid: int = NOBODY,
        reply_s_max: float = REPLY_S_MAX,
        monotonic_s: Callable[[], float] = time.monotonic,
        failures: list[float] | None = None,
    ) -> None:
        """`failures`: shared with the other programs of one unit, so that all stay down at once."""
        self._name = name
        self._command = list(command)
        self._folder = folder
        self.uid = uid  # whose program it is where we are root
        self._reply_s_max = reply_s_max
        self._monotonic_s = monotonic_s
        self._process: subprocess.Popen[bytes] | None = None
        self._held = b""
        self._failures = [] if failures is None else failures
        self.starts = 0

    def another(self) -> UnitProcess:
        """The same program once more, not started yet: for a second card at the same time."""
        return UnitProcess(
            self._name,
            self._command,
            self._folder,
            uid=self.uid,
            reply_s_max=self._reply_s_max,
            monotonic_s=self._monotonic_s,
            failures=self._failures,
        )

    @property
    def folder(self) -> Path:
        """Where its program and its golden images are."""
        return self._folder

    @property
    def pid(self) -> int | None:
        """Of the running program."""
        return None if self._process is None else self._process.pid

    def say(self, message: dict[str, Any]) -> None:
        """One line to the program, which is started if it is not there. Raises UnitFailed."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        if self._has_spoken():  # it would be taken for the answer to this
            raise self._failed("it spoke without being asked")
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failed("it does not listen") from error

    def hear(self) -> dict[str, Any]:
        """Its next line. Raises UnitFailed."""
        assert self._process is not None
        assert self._process.stdout is not None
        until_s = time.monotonic() + self._reply_s_max
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._held:
                if len(self._held) > LINE_BYTES_MAX:
                    raise self._failed("it floods")
                if not selector.select(max(0.0, until_s - time.monotonic())):
                    raise self._failed(f"it did not answer within {self._reply_s_max:g} s")
                piece = os.read(self._process.stdout.fileno(), LINE_BYTES_MAX)
                if not piece:
                    raise self._failed("it ended")
                self._held += piece
        line, _, self._held = self._held.partition(b"\n")
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise self._failed("it said something that is no message")
        return told

    def _has_spoken(self) -> bool:
        """Whether something of it lies there that nobody has asked for."""
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            return bool(self._held or selector.select(0))

    def nonsense(self, what: str) -> UnitFailed:
        """It is killed for what it said; gives the error to raise."""
        return self._failed(what)

    def stop(self) -> None:
        """End the program."""
        if self._process is None:
            return
        process, self._process, self._held = self._process, None, b""
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _start(self) -> None:
        recent = [at_s for at_s in self._failures if self._monotonic_s() - at_s < FAILURES_WITHIN_S]
        self._failures[:] = recent
        if len(recent) >= FAILURES_MAX:
            raise UnitDown(
                f"the unit {self._name} failed {len(recent)} times in ten minutes and stays down"
            )
        self.stop()
        self.starts += 1
        try:
            self._process = subprocess.Popen(
                sandboxed(self._command, self.uid),
                cwd=self._folder,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # whatever it prints may be a secret
                start_new_session=True,
            )
        except OSError as error:
            raise self._failed(f"it does not start: {error.strerror}") from error

    def _failed(self, what: str) -> UnitFailed:
        self._failures.append(self._monotonic_s())
        self.stop()
        return UnitFailed(f"the unit {self._name} was stopped: {what}")


def command_of(words: Sequence[str], folder: Path) -> list[str]:
    """The manifest's command; "python3" is this program's own Python, a file is the unit's."""
    first, *rest = words
    if first == "python3":
        own = Path(sys.base_exec_prefix) / "bin" / "python3"
        first = str(own) if own.exists() else "/usr/bin/python3"
        rest = ["-I", *rest]
    elif "/" not in first:
        first = str(folder / first)
    return [first, *rest]
