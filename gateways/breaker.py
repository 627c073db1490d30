"""Leave a dead meter alone, so that its silence does not eat the line. Pure: the time is given."""

from __future__ import annotations

# A meter that missed this many requests in a row is called silent. One lost frame is everyday,
# three in a row on a line where others answer is not.
SILENCES_TO_OPEN = 3

# First pause of a silent meter, and the longest. One unanswered request costs about a second of
# bus: with a minute's pause that is under 2 % of the line; the longest still tries a meter that
# came back many times in a night.
PAUSE_S_MIN = 60.0
PAUSE_S_MAX = 960.0
assert PAUSE_S_MIN <= PAUSE_S_MAX


class Breaker:
    """Counts unanswered requests to one party; open, it says until when polls should stay away."""

    __slots__ = ("_pause_s", "_pause_s_max", "_pause_s_min", "open_until_s", "silences")

    def __init__(self, pause_s_min: float = PAUSE_S_MIN, pause_s_max: float = PAUSE_S_MAX) -> None:
        assert 0 < pause_s_min <= pause_s_max
        self.silences = 0  # in a row
        self.open_until_s: float | None = None  # None: closed
        self._pause_s_min = pause_s_min
        self._pause_s_max = pause_s_max
        self._pause_s = pause_s_min

    @property
    def is_open(self) -> bool:
        return self.open_until_s is not None

    def keeps_out(self, now_s: float) -> bool:
        """Whether a poll should fail at once. After the pause polls may try again."""
        return self.open_until_s is not None and now_s < self.open_until_s

    def unanswered(self, now_s: float) -> bool:
        """One more request without an answer. True when this is the one that opened it."""
        self.silences += 1
        if self.silences < SILENCES_TO_OPEN:
            return False
        if self.open_until_s is None:
            self.open_until_s = now_s + self._pause_s
            return True
        if now_s >= self.open_until_s:  # the try after a pause failed too: a longer one
            self._pause_s = min(2 * self._pause_s, self._pause_s_max)
            self.open_until_s = now_s + self._pause_s
        return False

    def answered(self) -> int:
        """A good answer: closed again. Gives how many requests it missed if it was open, else 0."""
        missed = self.silences if self.is_open else 0
        self.silences = 0
        self.open_until_s = None
        self._pause_s = self._pause_s_min
        return missed
