"""Whether the books would come back: the last good backup, the last rehearsal, and their ages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from headend.domain.backups import DRILL_AGE_MAX
from headend.services.services import Services
from headend.store import backup_runs
from headend.store.backup_runs import Run
from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Safety:
    """What was done to be safe. Runs that went well; `failed`: a newer backup that did not."""

    now: datetime
    backup_age_max: timedelta | None  # None: no backups are set up
    backup: Run | None
    failed: Run | None
    drill: Run | None

    @property
    def is_set_up(self) -> bool:
        """Whether this head-end makes backups by itself."""
        return self.backup_age_max is not None

    @property
    def backup_is_old(self) -> bool:
        """Whether what happened since the last backup would be missed."""
        if self.backup is None or self.backup_age_max is None:
            return True
        return self.now - self.backup.began_at > self.backup_age_max

    @property
    def drill_is_old(self) -> bool:
        """Whether nobody has tried for long that a backup can be restored."""
        return self.drill is None or self.now - self.drill.began_at > DRILL_AGE_MAX

    @property
    def is_well(self) -> bool:
        """Nothing to do."""
        return not self.backup_is_old and not self.drill_is_old


async def safety(tx: Transaction, services: Services) -> Safety:
    """As it stands now."""
    good = await backup_runs.newest(tx, "backup")
    last = await backup_runs.newest(tx, "backup", succeeded=None)
    return Safety(
        now=services.clock.now(),
        backup_age_max=services.backup_age_max,
        backup=good,
        failed=None if last is None or last.succeeded else last,
        drill=await backup_runs.newest(tx, "drill"),
    )
