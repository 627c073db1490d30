"""What happened in one seed, in order, for whoever replays it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

# A seed that runs away must not eat the machine; what broke it is near its end.
LINES_MAX = 20_000

_HASH = re.compile(r"\b[0-9a-f]{64}\b")


class History:
    """Lines of one seed, each with its second of virtual time."""

    def __init__(self, *, wanted: bool) -> None:
        self.wanted = wanted
        self.lines: list[str] = []

    def say(self, who: str, what: str) -> None:
        """One line, if anybody wants it."""
        if self.wanted:
            now_s = asyncio.get_running_loop().time()
            self.lines.append(f"{now_s:9.2f}  {who:<14} {what}")
            del self.lines[:-LINES_MAX]


class Faults(logging.Handler):
    """Faults that the product survived: it says so in its log, and a trial is no place for them."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.met: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            self.met.append(f"{record.getMessage()}: {type(error).__name__}: {error}")


class _Handler(logging.Handler):
    def __init__(self, history: History) -> None:
        super().__init__(logging.DEBUG)
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        source = record.name.rpartition(".")[2]
        error = f" ({record.exc_info[1]!r})" if record.exc_info else ""
        # Hashes over row numbers, which go on from seed to seed, are no part of a history.
        self._history.say(f"log {source}", _HASH.sub("(a hash)", record.getMessage()) + error)


@contextmanager
def logs_into(history: History) -> Iterator[Faults]:
    """The product's log becomes part of the history; nothing of it reaches the terminal."""
    handler: logging.Handler = _Handler(history) if history.wanted else logging.NullHandler()
    faults = Faults()
    loggers = [logging.getLogger(name) for name in ("headend", "gateways", "psycopg", "asyncio")]
    before = [(logger, logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.addHandler(faults)
        logger.propagate = False
        logger.setLevel(logging.INFO if history.wanted else logging.ERROR)
    try:
        yield faults
    finally:
        for logger, propagate, level in before:
            logger.removeHandler(handler)
            logger.removeHandler(faults)
            logger.propagate = propagate
            logger.setLevel(level)
