"""Sales on cards that landed unseen: the meter's own count, read by night or on demand, says so."""

from __future__ import annotations

import asyncio
import logging

from headend.domain.problems import Problem
from headend.services.cards import CardDesk
from headend.store import cards, sales
from headend.store.database import Database

log = logging.getLogger(__name__)

# A reading comes once a night, or when somebody asks; a card is no hurry.
LOOK_S = 60.0


async def land_by_readings(database: Database, desk: CardDesk) -> int:
    """Compare each open card sale with the newest reading of its meter; how many landed.

    One transaction a sale: a meter that is busy holds up no other.
    """
    async with database.transaction() as tx:
        waiting = await cards.open_card_sales(tx)
    landed = 0
    for sale_id, meter_id, opened_at in waiting:
        async with database.transaction() as tx:
            await sales.lock_meter(tx, meter_id)
            sale = await sales.find(tx, sale_id)
            after = await cards.reading_after(tx, meter_id, opened_at)
            if sale is None or after is None or sale.closed_at is not None:
                continue
            landed += await desk.land_if_proved(tx, sale, after)
    return landed


async def keep_card_landings(database: Database, desk: CardDesk) -> None:
    """Look every minute; runs until cancelled."""
    while True:
        try:
            await land_by_readings(database, desk)
        except Problem as problem:
            log.warning("card sales are compared later: %s", problem)
        except Exception:
            log.exception("card sales could not be compared with readings")
        await asyncio.sleep(LOOK_S)
