"""The clock of the sites: APScheduler, one cron trigger for each turn of each site's night.

A job never does the work itself: it calls `tick`, which looks at the calendar and the database and
does what is due. So a tick that came twice (a clock put back in autumn), late (a machine asleep) or
not at all (a machine off) is harmless, and the boot calls the same function.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from headend.store.places import KnownSite

log = logging.getLogger(__name__)

# A tick that no trigger brought is repaired this soon: a site imported at noon, a suspended laptop.
LOOK_S = 300

Tick = Callable[[str], Awaitable[None]]


class Schedule:
    """Calls `tick(site name)` when a night opens, when it closes, and every few minutes."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._scheduler = AsyncIOScheduler(
            timezone="UTC",
            # The defaults drop a run that is a second late and pile up those missed: both are
            # wrong for work that is idempotent and due until done.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """No more ticks; one under way goes on."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def plan(self, sites: Sequence[KnownSite]) -> None:
        """Replace all jobs by those of these sites."""
        self._scheduler.remove_all_jobs()
        for site in sites:
            for turn, at in (
                ("opens", site.place.night_opens),
                ("closes", site.place.night_closes),
            ):
                self._scheduler.add_job(
                    self._tick,
                    CronTrigger(
                        hour=at.hour,
                        minute=at.minute,
                        second=at.second,
                        timezone=site.place.time_zone,
                    ),
                    args=[site.name],
                    id=f"{site.name}: night {turn}",
                )
            self._scheduler.add_job(
                self._tick,
                IntervalTrigger(seconds=LOOK_S),
                args=[site.name],
                id=f"{site.name}: look",
            )

    def jobs(self) -> list[dict[str, str]]:
        """What is planned, for the console: id and next instant."""
        return [
            {"job": job.id, "next": job.next_run_time.isoformat() if job.next_run_time else ""}
            for job in self._scheduler.get_jobs()
        ]
