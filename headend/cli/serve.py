"""`headend run`: start, say where, stay until told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from headend.app import running
from headend.cli.console import out, say
from headend.settings import Settings

T = TypeVar("T")


def run(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM, then stop in order: nights, lines, readings, database."""
    set_up_logging(settings.log_level)
    run_loop(_run(settings))


async def _run(settings: Settings) -> None:
    async with running(settings):
        url = f"http://{settings.http_host}:{settings.http_port}"
        out.print(
            say(
                f"主站已启动：{url}/docs，Ctrl-C 停止。",
                f"The head-end is up: {url}/docs, Ctrl-C stops it.",
            )
        )
        await told_to_stop()


async def told_to_stop() -> None:
    """Wait for SIGINT or SIGTERM; a second one ends at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """asyncio.run on uvloop, which halves what a line costs (bench/requests_per_second.py)."""
    try:
        import uvloop
    except ImportError:  # not made for this system: asyncio's own loop does the same, slower
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def set_up_logging(level: str) -> None:
    """One line an event, on standard error, instants in UTC as everywhere."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=level.upper(), format="%(asctime)sZ %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("apscheduler", "httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
