"""Bills whatever can be billed, one meter after the other, for as long as the head-end runs."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Final

from headend.domain.alarms import AlarmKind
from headend.domain.clock import Clock
from headend.services.billing import bill_meter
from headend.store import alarms, charges
from headend.store.database import Database
from headend.store.errors import DatabaseAway

log = logging.getLogger(__name__)

LOOK_S: Final = 60.0
METERS_A_LOOK: Final = 500


async def keep_billed(database: Database, clock: Clock) -> None:
    """Bill whatever can be billed; runs until cancelled."""
    while True:
        try:
            await bill_all(database, clock)
        except DatabaseAway:
            log.debug("the database has said so itself")
        await asyncio.sleep(LOOK_S)


async def bill_all(database: Database, clock: Clock) -> int:
    """Bill every meter that has something to bill; returns how many lines were booked.

    One whose bill fails holds no other up; it is tried again and stands as an alarm.
    """
    booked = 0
    after = 0
    while True:
        async with database.transaction() as tx:
            meter_ids = await charges.due(tx, after=after, limit=METERS_A_LOOK)
        if not meter_ids:
            return booked
        for meter_id in meter_ids:
            booked += await _bill_or_tell(database, meter_id, clock.now())
        after = meter_ids[-1]


async def _bill_or_tell(database: Database, meter_id: int, at: datetime) -> int:
    try:
        async with database.transaction() as tx:
            return await bill_meter(tx, meter_id, at)
    except DatabaseAway:
        raise
    except Exception as fault:
        log.exception("meter %d could not be billed", meter_id)
        detail = f"an error of this program ({type(fault).__name__}): {fault}"
        async with database.transaction() as tx:
            await alarms.raise_alarm(tx, AlarmKind.BILLING_STUCK, meter_id, detail, at)
        return 0
