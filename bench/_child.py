"""A second process for a bench, and what it costs."""

from __future__ import annotations

import contextlib
import logging
import resource
import subprocess
import sys
from collections.abc import Iterator


def quiet() -> None:
    """Links come and go in a bench by the thousand: nobody wants to read each."""
    logging.getLogger("gateways").setLevel(logging.ERROR)


def allow_descriptors(wanted: int) -> int:
    """Raise this process's limit as far as it goes; gives what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


@contextlib.contextmanager
def python(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another Python of ours; it is told to end when the block does."""
    child = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
        child.communicate()
