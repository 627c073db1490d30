"""A user for each closed unit, so that one maker's program reads nothing of another's.

Numbers without names: Linux wants no entry in a file for them. A unit keeps its number for as long
as it keeps its name, whatever is installed beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Final

NOBODY: Final = 65534
USERS: Final = 65_536  # of a range
_MAP = Path("/proc/self/uid_map")


def own_user(name: str, first: int, taken: Collection[int] = ()) -> int:
    """The user of the unit of this name in a range that begins at `first`.

    `taken`: users of other units. NOBODY where `first` is 0, or where this system has no such
    users: a container may know the first 65,536 alone.
    """
    if not first or not _is_known(first):
        return NOBODY
    at = zlib.crc32(name.encode()) % USERS
    while first + at in taken:
        at = (at + 1) % USERS
    return first + at


def _is_known(first: int) -> bool:
    """Whether the kernel maps the whole range in our user namespace."""
    try:
        spans = [line.split() for line in _MAP.read_text(encoding="ascii").splitlines()]
    except OSError:
        return False
    return any(
        int(start) <= first and first + USERS <= int(start) + int(count)
        for start, _, count in spans
    )
