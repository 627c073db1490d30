"""What the room board says about a room by one colour and one word. Pure.

The same order stands in SQL (store/desk_rooms.py), where ten thousand meters are counted; a test
compares the two.
"""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import Final

# 20 yuan: about three days of a small flat. Meters warn their tenants by themselves; this is for
# whoever looks at the board.
LOW_BELOW_FEN: Final = 2_000
# A night and two hours: a meter that was read last night is not silent at noon.
SILENT_AFTER: Final = timedelta(hours=38)


class RoomState(enum.Enum):
    """The worst thing that is true of a room, in order of precedence."""

    UNKNOWN = "unknown"  # an order to its meter has no proof yet
    DARK = "dark"
    ARREARS = "arrears"
    SILENT = "silent"  # what is known of it is too old
    LOW = "low"
    FINE = "fine"
    EMPTY = "empty"  # no meter hangs here


def room_state(
    *, unknown: bool, dark: bool, credit_fen: int | None, age: timedelta | None
) -> RoomState:
    """The state of a room with a meter. `age` None: never read; `credit_fen` None: it shows none.

    A stale number never looks fresh: what was said too long ago is silence, not arrears or plenty.
    """
    if unknown:
        return RoomState.UNKNOWN
    if age is None or age > SILENT_AFTER:
        return RoomState.DARK if dark and age is not None else RoomState.SILENT
    if dark:
        return RoomState.DARK
    if credit_fen is not None and credit_fen < 0:
        return RoomState.ARREARS
    if credit_fen is not None and credit_fen < LOW_BELOW_FEN:
        return RoomState.LOW
    return RoomState.FINE
