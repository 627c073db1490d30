"""The clock of a simulated property: right, local, and possibly hurried."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from simulators.town_plan import TIME_ZONE

_EPOCH_S = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True)
class TownClock:
    """A right local clock, possibly hurried: milliseconds since 2000-01-01 00:00 local time.

    With a speed other than 1 a day passes in a shorter real time: meters then also show a dial
    that runs away from the real clock, as they must.
    """

    start_ms: int
    start_monotonic_ns: int
    speed: int = 1

    def now_ms(self) -> int:
        gone_ms = (time.monotonic_ns() - self.start_monotonic_ns) // 1_000_000
        return self.start_ms + gone_ms * self.speed


def town_clock(speed: int = 1, time_zone: str = TIME_ZONE) -> TownClock:
    """A clock that shows the zone's time now and goes `speed` times as fast as a real one."""
    now = datetime.now(ZoneInfo(time_zone))
    offset = now.utcoffset()
    assert offset is not None
    local_ms = time.time_ns() // 1_000_000 - _EPOCH_S * 1000 + int(offset.total_seconds()) * 1000
    return TownClock(local_ms, time.monotonic_ns(), speed)
