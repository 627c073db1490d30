"""Tariffs as people change them: a draft, its checks, its publication, the places it holds for.

Every function works in the caller's transaction; a "no" is a value.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from headend.domain.tariffs import Terms
from headend.services.books import asker
from headend.store import tariff_places, tariff_pushes, tariffs
from headend.store.database import Transaction
from headend.store.tariffs import StoredVersion, Tariff

# A wrong price on a few meters is a telephone call; on a house it is a scandal.
METERS_ALONE_MAX: Final = 5
# A price that moves by more than a tenth is looked at by two.
CHANGE_PERMILLE_ALONE_MAX: Final = 100
# Nobody publishes for the year after next.
AHEAD_MAX: Final = timedelta(days=400)
_PUSHES: Final = UUID("6b8f0b9e-1f62-5a0e-9d39-7a2c5f1b9a51")


class TariffWhy(enum.Enum):
    """Why nothing was done, in order of precedence; the values are stable codes."""

    NO_SUCH_TARIFF = "no-such-tariff"
    NAME_TAKEN = "tariff-name-taken"
    EDITED_MEANWHILE = "edited-meanwhile"
    NO_DRAFT = "no-draft"
    DATE_PASSED = "date-passed"
    DATE_TOO_FAR = "date-too-far"
    DATE_TAKEN = "date-taken"  # a version of that day is published already
    SECOND_PERSON_NEEDED = "second-person-needed"
    SAME_PERSON = "same-person"
    NO_SUCH_PLACE = "no-such-place"


@dataclass(frozen=True, slots=True)
class NotDone:
    """Nothing changed; the facts are for the sentence."""

    why: TariffWhy
    detail: str = ""


def push_id_of(version_id: int) -> UUID:
    """A version is pushed once: its push has one id for ever."""
    return uuid5(_PUSHES, str(version_id))


def change_permille(before: Terms | None, after: Terms) -> int:
    """How far the price of any kind of hours moves, in thousandths of what it was; pure.

    1000 where a price has no predecessor: a first price may be wrong by any amount.
    """
    if before is None:
        return 1000
    largest = 0
    for rate in after.rates:
        old = before.price_x4(rate) if rate in before.prices_x4 else None
        moved = 1000 if not old else abs(after.price_x4(rate) - old) * 1000 // old
        largest = max(largest, moved)
    if after.tiers != before.tiers or after.fee_fen_per_day != before.fee_fen_per_day:
        largest = max(largest, 1000)
    return largest


def needs_second_person(meters: int, moved_permille: int) -> bool:
    """Whether publishing needs another person: many meters, or a price that moves far."""
    return meters > METERS_ALONE_MAX or (meters > 0 and moved_permille > CHANGE_PERMILLE_ALONE_MAX)


async def add(
    tx: Transaction, name: str, *, site_id: int | None, by: int, at: datetime
) -> Tariff | NotDone:
    """A tariff without a version yet."""
    made = await tariffs.add(tx, name, site_id=site_id, by=by, at=at)
    return made or NotDone(TariffWhy.NAME_TAKEN, name)


async def keep_draft(
    tx: Transaction, tariff_id: int, terms: Terms, *, note: str, by: int, at: datetime, edits: int
) -> int | NotDone:
    """Keep what was typed; its version's number."""
    await tariffs.lock(tx, tariff_id)
    kept = await tariffs.keep_draft(tx, tariff_id, terms, note=note, by=by, at=at, edits=edits)
    return kept or NotDone(TariffWhy.EDITED_MEANWHILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What publishing would mean, looked at before."""

    draft: StoredVersion
    before: StoredVersion | None  # the version in force on that day so far
    meter_ids: list[int]  # whose tariff it is on that day
    moved_permille: int

    @property
    def needs_second(self) -> bool:
        """Whether another person has to approve."""
        return needs_second_person(len(self.meter_ids), self.moved_permille)


async def publication(
    tx: Transaction, tariff_id: int, valid_from: date, today: date
) -> Publication | NotDone:
    """The draft as it would hold from that day on."""
    known = await tariffs.versions(tx, tariff_id)
    draft = next((one for one in known if one.state == "draft"), None)
    if draft is None:
        return NotDone(TariffWhy.NO_DRAFT)
    if valid_from < today:
        return NotDone(TariffWhy.DATE_PASSED, valid_from.isoformat())
    if valid_from > today + AHEAD_MAX:
        return NotDone(TariffWhy.DATE_TOO_FAR, valid_from.isoformat())
    published = [one for one in known if one.state == "published" and one.valid_from is not None]
    if any(one.valid_from == valid_from for one in published):
        return NotDone(TariffWhy.DATE_TAKEN, valid_from.isoformat())
    begun = [one for one in published if one.valid_from and one.valid_from < valid_from]
    before = max(begun, key=lambda one: one.valid_from or date.min, default=None)
    return Publication(
        draft=draft,
        before=before,
        meter_ids=await tariff_places.meters_of(tx, tariff_id, valid_from),
        moved_permille=change_permille(before.terms if before else None, draft.terms),
    )


async def publish(
    tx: Transaction,
    tariff_id: int,
    *,
    valid_from: date,
    by: int,
    approver: int | None,
    at: datetime,
    today: date,
) -> StoredVersion | NotDone:
    """The draft becomes a version that never changes, and waits for its day to be pushed."""
    await tariffs.lock(tx, tariff_id)
    looked = await publication(tx, tariff_id, valid_from, today)
    if isinstance(looked, NotDone):
        return looked
    if looked.needs_second and approver is None:
        return NotDone(TariffWhy.SECOND_PERSON_NEEDED, f"{len(looked.meter_ids)} meters")
    if approver is not None:
        persons = {(await asker(tx, one)).person for one in (by, approver)}
        if len(persons) < 2:
            return NotDone(TariffWhy.SAME_PERSON)
    version_id = looked.draft.version_id
    await tariffs.publish(
        tx,
        version_id,
        valid_from=valid_from,
        by=by,
        at=at,
        needs_second=looked.needs_second,
        approver=approver,
    )
    await tariff_pushes.add(tx, push_id_of(version_id), version_id, at=at, by=by)
    found = await tariffs.version(tx, version_id)
    assert found is not None, "just published"
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignWish:
    """A tariff for a place. `name` is not looked at where the place is a whole site."""

    place: str  # site, building, room, meter
    site: str
    name: str
    from_day: date
    reason: str


async def assign(
    tx: Transaction,
    tariff_id: int | None,
    wish: AssignWish,
    *,
    sites: Collection[int] | None,
    by: int,
    at: datetime,
    today: date,
) -> NotDone | None:
    """None: done. Not for days that have passed: they are billed already."""
    if wish.from_day < today:
        return NotDone(TariffWhy.DATE_PASSED, wish.from_day.isoformat())
    if wish.from_day > today + AHEAD_MAX:
        return NotDone(TariffWhy.DATE_TOO_FAR, wish.from_day.isoformat())
    number = await tariff_places.place_id(tx, sites, wish.place, wish.site, wish.name)
    if number is None:
        return NotDone(TariffWhy.NO_SUCH_PLACE, wish.name or wish.site)
    await tariff_places.assign(
        tx,
        tariff_id,
        wish.place,
        number,
        from_day=wish.from_day,
        reason=wish.reason,
        by=by,
        at=at,
    )
    return None
