"""After a restore: a meter that was read and agrees with the books is sold to again."""

from __future__ import annotations

import logging

from headend.domain.alarms import AlarmKind
from headend.domain.clock import Clock
from headend.domain.reconciliation import classify
from headend.store import alarms, reconcile, restored, sales
from headend.store.database import Database, Transaction
from headend.store.restored import ReadSince

log = logging.getLogger(__name__)


async def look_after_restore(database: Database, clock: Clock) -> int:
    """One look at every meter that a restore froze and that answered since; how many it freed.

    A meter ahead of the books stays frozen, has its alarm, and waits for a person.
    """
    at, freed = clock.now(), 0
    async with database.transaction() as tx:
        for meter in await restored.read_since(tx):
            await sales.lock_meter(tx, meter.meter_id)
            if await _agrees(tx, meter):
                freed += await restored.release(tx, meter.meter_id, meter.count or 0, at)
                await alarms.clear_alarm(tx, AlarmKind.BOOKS_DIFFER, meter.meter_id, at)
            else:
                detail = "this meter is ahead of the books that were restored, or not proved equal"
                await alarms.raise_alarm(tx, AlarmKind.BOOKS_DIFFER, meter.meter_id, detail, at)
        if freed:
            log.info("%d meters agree with the restored books and are sold to again", freed)
        if await restored.was_restored(tx) and await restored.still_frozen(tx) == 0:
            await alarms.clear_alarm(tx, AlarmKind.BOOKS_RESTORED, None, at)
    return freed


async def _agrees(tx: Transaction, meter: ReadSince) -> bool:
    if not meter.has_account:
        # Nothing was ever sold to it as far as these books know: then it stands where it stood.
        same = (meter.count, meter.fen) == (meter.seen_count, meter.seen_fen)
        return same and meter.count is not None
    (seen,) = await reconcile.compared(tx, meter.meter_id)
    if seen.look is None or seen.expected is None or seen.sale_is_open:
        return False
    return classify(seen.look, seen.expected) is None
