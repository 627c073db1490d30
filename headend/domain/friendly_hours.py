"""When nobody may be left in the dark: friendly hours, weekends and holidays of one site.

All of it is said on the site's own wall clock. A day that begins a friendly stretch decides about
the whole stretch, so Friday 20:00 to 08:00 ends on Saturday morning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

EVERY_DAY: frozenset[int] = frozenset(range(7))  # 0 is Monday
SATURDAY = 5


@dataclass(frozen=True, slots=True)
class FriendlyHours:
    """A stretch of the day in which nothing is cut: `begins` <= wall clock < `ends`.

    It goes over midnight where `ends` is earlier than `begins`; the same time twice is a whole day
    from that time on. `weekdays` are those it begins on, 0 is Monday.
    """

    begins: time
    ends: time
    weekdays: frozenset[int] = EVERY_DAY

    def covers(self, wall: datetime) -> bool:
        """Whether the naive wall-clock time lies inside."""
        at, today = wall.time(), wall.weekday()
        if self.begins < self.ends:
            return today in self.weekdays and self.begins <= at < self.ends
        if at >= self.begins:
            return today in self.weekdays
        yesterday = (wall - timedelta(days=1)).weekday()
        return at < self.ends and yesterday in self.weekdays


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The days and hours of one site on which supply is not cut."""

    time_zone: ZoneInfo
    friendly_hours: tuple[FriendlyHours, ...]
    spare_weekends: bool  # Saturday and Sunday, but for the working days below
    holidays: Mapping[date, str] = field(default_factory=dict)  # day: its name
    working_days: frozenset[date] = frozenset()  # weekends worked in exchange for a holiday

    def holiday(self, now: datetime) -> str | None:
        """The name of today's holiday on the site's calendar."""
        return self.holidays.get(now.astimezone(self.time_zone).date())

    def is_spared_weekend(self, now: datetime) -> bool:
        """Whether today is a Saturday or Sunday on which nobody is cut."""
        today = now.astimezone(self.time_zone).date()
        weekend = today.weekday() >= SATURDAY
        return self.spare_weekends and weekend and today not in self.working_days

    def friendly_until(self, now: datetime) -> time | None:
        """The wall-clock time at which the friendly hours of this moment end."""
        wall = now.astimezone(self.time_zone).replace(tzinfo=None)
        for hours in self.friendly_hours:
            if hours.covers(wall):
                return hours.ends
        return None


def usual_calendar(time_zone: ZoneInfo) -> Calendar:
    """What holds for a site that has said nothing: no cut from 20:00 to 08:00 nor at weekends.

    Those are the hours in which nobody is at the counter to take the money that would end the cut.
    """
    return Calendar(
        time_zone=time_zone,
        friendly_hours=(FriendlyHours(time(20), time(8)),),
        spare_weekends=True,
    )
