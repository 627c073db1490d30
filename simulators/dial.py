"""A meter's own clock: it may be wrong by an offset, and it drifts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

PPM = 1_000_000
_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001  naive on purpose: a dial has no time zone


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """A clock that was set once and has drifted since.

    Both instants are milliseconds since 2000-01-01 00:00: one on a right clock, one on this dial.
    """

    set_at_ms: int = 0
    set_to_ms: int = 0
    drift_ppm: int = 0  # positive runs fast; a cheap crystal keeps within 50

    def __post_init__(self) -> None:
        assert -PPM < self.drift_ppm < PPM, "a clock that stands still or runs backwards"

    def shows_ms(self, at_ms: int) -> int:
        """What the dial shows at an instant."""
        gone = at_ms - self.set_at_ms
        return self.set_to_ms + gone + gone * self.drift_ppm // PPM

    def when_ms(self, dial_ms: int) -> int:
        """The first instant at which the dial shows this or later."""
        at = self.set_at_ms + (dial_ms - self.set_to_ms) * PPM // (PPM + self.drift_ppm)
        while self.shows_ms(at) >= dial_ms:
            at -= 1
        while self.shows_ms(at) < dial_ms:
            at += 1
        return at


def dial_datetime(dial_ms: int) -> datetime:
    """Dial time as a naive datetime."""
    return _EPOCH + timedelta(milliseconds=dial_ms)


def dial_ms_of(shown: datetime) -> int:
    """The inverse of dial_datetime()."""
    assert shown.tzinfo is None, "a dial has no time zone"
    return (shown - _EPOCH) // timedelta(milliseconds=1)


def is_month_start(dial_ms: int) -> bool:
    """Whether the dial is on the first day of a month."""
    return dial_datetime(dial_ms).day == 1
