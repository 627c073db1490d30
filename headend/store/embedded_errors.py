"""Why the embedded server does not start: the one sentence behind what the programs say."""

from __future__ import annotations

import errno
from pathlib import Path

from headend.store.errors import DatabaseRefused, DiskFull, FolderUnusable, StoreError


def explain_os_error(folder: Path, error: OSError) -> StoreError:
    """What the operating system refused us, as one sentence."""
    if error.errno == errno.ENOSPC:
        return DiskFull(folder)
    return FolderUnusable(folder, (error.strerror or str(error)).lower())


def explain(folder: Path, output: str) -> StoreError:
    """The one sentence behind the last words of initdb or postgres."""
    # A write that came half through has no error of its own, only this hint.
    if "No space left on device" in output or "Check free disk space" in output:
        return DiskFull(folder)
    if "Permission denied" in output:
        return FolderUnusable(folder, "the database's user may not write there")
    if "incompatible with server" in output:
        return DatabaseRefused(
            f"The database in {folder} was made by another major version of PostgreSQL: "
            "start the former program once more, dump it, and load it into a new folder."
        )
    if "could not access file" in output or "could not load library" in output:
        return DatabaseRefused(
            "The embedded PostgreSQL cannot load TimescaleDB: check that timescale_folder holds "
            "lib/ and share/extension/ built for this PostgreSQL version."
        )
    lines = [
        line
        for line in output.splitlines()
        if "FATAL" in line or "PANIC" in line or "error:" in line
    ]
    words = lines[-1] if lines else (output.strip().splitlines() or ["it said nothing"])[-1]
    return DatabaseRefused(f"The embedded PostgreSQL does not start: {words.strip()}.")
