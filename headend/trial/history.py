"""What happened in one seed, in order, for whoever replays it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

# A seed that runs away must not eat the machine; what broke it is near its end.
LINES_MAX = 20_000


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


class _Handler(logging.Handler):
    def __init__(self, history: History) -> None:
        super().__init__(logging.DEBUG)
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        source = record.name.rpartition(".")[2]
        error = f" ({record.exc_info[1]!r})" if record.exc_info else ""
        self._history.say(f"log {source}", record.getMessage() + error)


@contextmanager
def logs_into(history: History) -> Iterator[None]:
    """The product's log becomes part of the history; nothing of it reaches the terminal."""
    handler: logging.Handler = _Handler(history) if history.wanted else logging.NullHandler()
    loggers = [logging.getLogger(name) for name in ("headend", "gateways", "psycopg", "asyncio")]
    before = [(logger, logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.INFO if history.wanted else logging.CRITICAL)
    try:
        yield
    finally:
        for logger, propagate, level in before:
            logger.removeHandler(handler)
            logger.propagate = propagate
            logger.setLevel(level)
