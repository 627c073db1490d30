"""The small things that have to happen by themselves: partitions ahead, falls and rises kept."""

from __future__ import annotations

import asyncio
import logging

from headend.domain.clock import Clock
from headend.services.lines import LineBook
from headend.store import line_events
from headend.store.database import Database
from headend.store.errors import DatabaseAway
from headend.store.readings import make_partitions

log = logging.getLogger(__name__)

# A line that falls and rises within this is not worth a row.
LOOK_S = 1.0
# Partitions are made two months ahead: any time of the day will do.
PARTITIONS_EVERY_S = 6 * 3600


async def keep_line_events(database: Database, lines: LineBook, clock: Clock) -> None:
    """Store each fall and each rise of each line; runs until cancelled.

    With the database away the state at its return is stored, not each swing in between.
    """
    stored: dict[int, bool] = {}
    while True:
        await asyncio.sleep(LOOK_S)
        turned = [
            at_work
            for at_work in lines.lines.values()
            if stored.get(at_work.known.line_id) != at_work.line.is_up
        ]
        if not turned:
            continue
        try:
            async with database.transaction() as tx:
                for at_work in turned:
                    await line_events.record_event(
                        tx,
                        at_work.known.line_id,
                        clock.now(),
                        is_up=at_work.line.is_up,
                        reason=at_work.line.down_reason or "",
                    )
        except DatabaseAway:
            continue  # the database has said so itself
        stored |= {at_work.known.line_id: at_work.line.is_up for at_work in turned}


async def keep_partitions(database: Database, clock: Clock) -> None:
    """Make the months to come; runs until cancelled."""
    while True:
        try:
            async with database.transaction() as tx:
                made = await make_partitions(tx, clock.now())
        except DatabaseAway:
            made = 0
        if made:
            log.info("made %d monthly partitions ahead", made)
        await asyncio.sleep(PARTITIONS_EVERY_S)
