"""What the key service did, one line a call, each bound to the one before.

The chain is the one of the books (headend/domain/seals.py): SHA-256 over the chain value before and
the line's canonical bytes. A line names caller, operation, key id and outcome, the credit in fen
and a digest of the data; never a key, a MAC or the data. It is on the disk before its answer
leaves: what cannot be logged is not done.

Lines cut off at the end leave no trace in the file itself. `last_chain` is worth writing down
elsewhere: it proves everything before it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headend.domain.seals import BEGINNING, Entry, next_link

SOURCE: Final = "key_log"


class LogError(Exception):
    """The log cannot be written or does not hold together; one sentence."""


@dataclass(frozen=True, slots=True)
class LogReport:
    """What a verification found."""

    lines: int
    last_chain: bytes
    fault: str | None  # names the first bad line


class KeyLog:
    """The log of one service. Opening it verifies it; only one process may."""

    def __init__(self, path: Path) -> None:
        """Raises LogError when another process has it, or it was changed."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LogError(f"{path} is in use by another key service") from error
        except OSError as error:
            raise LogError(f"{path} cannot be opened: {error.strerror}") from error
        self._path = path
        report = verify(path)
        if report.fault is not None:
            raise LogError(f"{path}: {report.fault}")
        self._number = report.lines
        self._chain = report.last_chain

    def write(self, entry: Entry) -> None:
        """One line, durable when this returns. Raises LogError."""
        number = self._number + 1
        numbered: Entry = {"no": number, **entry}
        chain = next_link(self._chain, SOURCE, numbered)
        line = json.dumps({"entry": numbered, "chain": chain.hex()}, ensure_ascii=False) + "\n"
        before = os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, line.encode()) != len(line.encode()):
                raise OSError(0, "the disk is full")
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, before)  # half a line would look like a broken chain
            raise LogError(f"{self._path} cannot be written: {error.strerror}") from error
        self._number, self._chain = number, chain

    def entries(self) -> Iterator[Entry]:
        """Every line so far, oldest first."""
        with self._path.open("rb") as lines:
            for line in lines:
                yield json.loads(line)["entry"]

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._descriptor)


def verify(path: Path) -> LogReport:
    """Recompute the chain; the first line that is not as it was written. Raises LogError."""
    chain, number = BEGINNING, 0
    try:
        with path.open("rb") as lines:
            for line in lines:
                fault = None
                try:
                    told = json.loads(line)
                    entry, said = told["entry"], bytes.fromhex(told["chain"])
                    following = next_link(chain, SOURCE, entry)
                    if entry["no"] != number + 1:
                        fault = f"line {entry['no']} stands where line {number + 1} is due"
                    elif following != said:
                        fault = f"line {number + 1} was changed after it was written"
                except (ValueError, KeyError, TypeError):
                    fault = f"line {number + 1} cannot be read"
                if fault is not None:
                    return LogReport(number, chain, fault)
                chain, number = following, number + 1
    except OSError as error:
        raise LogError(f"{path} cannot be read: {error.strerror}") from error
    return LogReport(number, chain, None)
