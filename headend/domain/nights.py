"""A night, its cells, and why a cell is empty."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from headend.domain.places import Site
from protocols.reading import Origin


class CellState(enum.Enum):
    """What became of one meter in one night."""

    OPEN = "open"  # no reading yet, and there is still time
    READ = "read"  # read inside the night
    BACK_FILLED = "back_filled"  # read after the night closed, or from the meter's own memory
    ESTIMATED = "estimated"  # no reading belongs to it; worked out between two that do exist
    MISSING = "missing"  # the night is over; the reason says why


class GapReason(enum.Enum):
    """Why a cell has no reading. The last try decides; the words are for the technician."""

    NOT_TRIED = "not_tried"  # its turn has not come
    HEAD_END_DOWN = "head_end_down"  # nobody was there to ask: this program was not running
    LINE_DOWN = "line_down"  # the port, converter or DTU of its line could not be reached
    METER_SILENT = "meter_silent"  # the line works, this meter does not answer
    GARBLED = "garbled"  # bytes came, none with a good checksum
    REFUSED = "refused"  # the meter said no
    WRONG_METER = "wrong_meter"  # another type or number answers at this address
    IMPLAUSIBLE = "implausible"  # values no meter of this type can show


REASON_HELP: dict[GapReason, str] = {
    GapReason.NOT_TRIED: "its turn had not come",
    GapReason.HEAD_END_DOWN: "the head-end was not running",
    GapReason.LINE_DOWN: "its line could not be reached: check adapter, converter or DTU",
    GapReason.METER_SILENT: "does not answer while its line works: check wiring, address, supply",
    GapReason.GARBLED: "answers are damaged: check baud, parity, termination, two equal addresses",
    GapReason.REFUSED: "the meter refuses this request: check its type",
    GapReason.WRONG_METER: "another meter answers at this address: check type and number",
    GapReason.IMPLAUSIBLE: "its values cannot be true: check the meter",
}
assert set(REASON_HELP) == set(GapReason)


@dataclass(frozen=True, slots=True, kw_only=True)
class NightWindow:
    """When a night is: aware instants in UTC. A night is named by the day it ends a reading for:
    the night of 20 March opens on 20 March 23:55 and closes on 21 March 06:00."""

    night: date
    opens_at: datetime
    closes_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """One night of one site, counted."""

    site: str
    night: date
    opens_at: datetime
    closes_at: datetime
    meters: int
    read: int
    back_filled: int
    estimated: int
    open: int
    gaps: dict[GapReason, int]  # cells without a reading, open and missing, by reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One meter in one night."""

    meter_id: int
    meter: str
    room: str | None
    line: str
    state: CellState
    reason: GapReason | None  # set unless read or back-filled
    detail: str  # one sentence from the last try
    tries: int
    last_tried_at: datetime | None
    reading_at: datetime | None
    energy_wh: int | None  # as read, or as estimated
    origin: Origin | None = None  # of the reading; None: there is none


def night_window(site: Site, night: date) -> NightWindow:
    """The window of one night of a site. Daylight-saving jumps are the time zone's business."""
    opens = datetime.combine(night, site.night_opens, site.time_zone)
    # A window that closes "before" it opens on the clock closes the next day.
    closes_on = night if site.night_closes > site.night_opens else night + timedelta(days=1)
    closes = datetime.combine(closes_on, site.night_closes, site.time_zone)
    return NightWindow(
        night=night, opens_at=opens.astimezone(UTC), closes_at=closes.astimezone(UTC)
    )


# Missed nights are opened afterwards at most this far back: older holes tell nobody anything new.
MISSED_NIGHTS_MAX = 35


@dataclass(frozen=True, slots=True, kw_only=True)
class DueNights:
    """What a look at the calendar asks for."""

    missed: tuple[NightWindow, ...]  # nights that passed while nobody was there, oldest first
    current: NightWindow | None  # the night to collect now; None: the site has none yet


def due_nights(
    site: Site, now: datetime, known_since: datetime, last: NightWindow | None
) -> DueNights:
    """Which nights should exist. `known_since`: when the site was first imported; `last`: the
    newest night that was opened. The current night is the newest that has begun; it stays current
    until the next one opens, so that the day is there for back-filling. Pure.
    """
    today = now.astimezone(site.time_zone).date()
    window = night_window(site, today)
    if window.opens_at > now:
        window = night_window(site, today - timedelta(days=1))
    if last is not None and last.night >= window.night:
        return DueNights(missed=(), current=last)
    if last is None:
        # Nights before the first import are nobody's.
        begun = window.opens_at >= known_since
        return DueNights(missed=(), current=window if begun else None)
    first = max(last.night + timedelta(days=1), window.night - timedelta(days=MISSED_NIGHTS_MAX))
    days = (window.night - first).days
    missed = tuple(night_window(site, first + timedelta(days=n)) for n in range(days))
    return DueNights(missed=missed, current=window)
