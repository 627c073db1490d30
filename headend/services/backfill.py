"""Fills the holes of earlier nights from what the meters themselves remember.

A cabinet keeps the values of each month's end; where a night falls on one, its cell gets the true
value with the origin "frozen". Whatever remains between two true readings is estimated, in the cell
and never among the readings.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from gateways.link import LinkDown
from gateways.turns import Priority
from headend.domain.clock import Clock
from headend.services.lines import LineBook
from headend.services.looks import MeterAtWork, Missed, explain_gap, with_multiplier
from headend.store import nights as store
from headend.store.database import Database
from headend.store.nights import Hole, Look
from headend.store.places import KnownSite
from protocols.exchange import ProtocolError
from protocols.meter_type import Frozen, Keeps
from protocols.reading import Origin, Quantity, Reading

log = logging.getLogger(__name__)

# A freeze belongs to a night when its dial stands within this of the midnight the night is for:
# the freeze itself is exact, only the dial may be off.
DIAL_OFF_MAX = timedelta(minutes=30)
RATES = frozenset(
    {
        Quantity.ENERGY_SHARP,
        Quantity.ENERGY_PEAK,
        Quantity.ENERGY_FLAT,
        Quantity.ENERGY_VALLEY,
    }
)
REMEMBERED = frozenset({Keeps.DAILY, Keeps.MONTHLY})


async def fill_from_memory(
    database: Database, lines: LineBook, site: KnownSite, clock: Clock
) -> int:
    """Back-fill from memory, then estimate; returns how many cells found their true value.

    Raises DatabaseAway. A meter that does not answer now keeps its hole until the next call.
    """
    since = clock.now().date() - timedelta(days=store.ESTIMATE_DAYS_MAX)
    async with database.transaction() as tx:
        holes = await store.holes(tx, site.site_id, since)
    by_meter: dict[int, list[Hole]] = {}
    for hole in holes:
        by_meter.setdefault(hole.meter_id, []).append(hole)
    looks: list[Look] = []
    for meter_id, missing in by_meter.items():
        meter = lines.by_id.get(meter_id)
        if meter is not None and meter.meter_type.keeps & REMEMBERED:
            kept = await remembered(lines, meter, clock)
            if not isinstance(kept, Missed):
                looks += [
                    as_frozen_look(meter, frozen, clock.now())
                    for hole in missing
                    if (frozen := match(kept, hole.night)) is not None
                ]
    async with database.transaction() as tx:
        await store.save(tx, looks, ())
        for night_id in sorted({hole.night_id for hole in holes}):
            await store.estimate_cells(tx, night_id)
    if looks:
        log.info("site %s: %d cells back-filled from the meters' memory", site.name, len(looks))
    return len(looks)


async def remembered(lines: LineBook, meter: MeterAtWork, clock: Clock) -> list[Frozen] | Missed:
    """All that a meter keeps of midnights or month ends, at the low priority of back-filling."""
    line = lines.lines[meter.known.line].line
    try:
        return list(
            await line.converse(
                meter.address, meter.driver.frozen(meter.address), priority=Priority.BACKFILL
            )
        )
    except (ProtocolError, LinkDown) as error:
        reason, detail = explain_gap(error)
        return Missed(clock.now(), reason, detail)


def match(kept: Sequence[Frozen], night: date) -> Frozen | None:
    """The frozen values that belong to a night: those of the midnight that ends its day."""
    midnight = datetime.combine(night + timedelta(days=1), datetime.min.time())
    near = [f for f in kept if abs(f.dial - midnight) <= DIAL_OFF_MAX]
    return min(near, key=lambda f: abs(f.dial - midnight), default=None)


def as_frozen_look(meter: MeterAtWork, frozen: Frozen, received_at: datetime) -> Look:
    """What the database keeps of a value from the meter's memory."""
    values = dict(frozen.values)
    if Quantity.ENERGY not in values and values.keys() >= RATES:
        # Month-end records keep the rates only. Each register is cut to 10 Wh, so their sum may
        # lie some 10 Wh below the total that the meter showed.
        values[Quantity.ENERGY] = sum(values[rate] for rate in RATES)
    reading = Reading(
        meter_id=meter.known.meter_id,
        at=frozen.dial.replace(tzinfo=meter.known.time_zone),
        received_at=received_at,
        origin=Origin.FROZEN,
        values=with_multiplier(values, meter.known.energy_multiplier),
    )
    return Look(reading=reading, drift_s=None)
