"""Switching many meters: the list and what is bound to it, its steps, and when it halts. Pure.

The list is planned first (a dry run says who, why, and the largest damage), a second person
approves exactly that list, five go first, a person looks, then batches double. Whatever goes wrong
halts the rest; a halted job never goes on, because its list is old: plan a new one. What was done
can be taken back by an undo job.
"""

from __future__ import annotations

import enum
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, zip_longest
from uuid import UUID

from headend.domain.commands import CommandKind, CommandState
from headend.domain.supply import MeterFacts, Rule, SwitchPlan

# What one person could do meter by meter needs no second one.
ALONE_MAX = 5
# Above this a list is refused unless its planner names a larger cap, which the approver then sees.
SIZE_MAX = 1_000
# No property is larger; the plan of so many is held in memory.
SIZE_MAX_EVER = 100_000
# Facts grow old: an approval that nobody used by then is void.
APPROVAL_VALID = timedelta(hours=2)


class JobState(enum.Enum):
    """Where a bulk job is."""

    PLANNED = "planned"  # the dry run: nothing is sent
    APPROVED = "approved"  # a second person approved exactly this list, or none is needed
    CANARY = "canary"  # the first few
    WATCHING = "watching"  # the first few are done: a person looks and says go on
    RAMP = "ramp"  # doubling batches
    DONE = "done"
    HALTED = "halted"  # by itself or by a person; never goes on
    CANCELLED = "cancelled"  # given up before it began


J = JobState
JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    J.PLANNED: frozenset({J.APPROVED, J.CANCELLED}),
    J.APPROVED: frozenset({J.PLANNED, J.CANARY, J.CANCELLED}),  # planned: the list was changed
    J.CANARY: frozenset({J.WATCHING, J.RAMP, J.DONE, J.HALTED}),
    J.WATCHING: frozenset({J.RAMP, J.HALTED}),
    J.RAMP: frozenset({J.DONE, J.HALTED}),
    J.DONE: frozenset(),
    J.HALTED: frozenset(),
    J.CANCELLED: frozenset(),
}
assert set(JOB_TRANSITIONS) == set(JobState)
RUNNING = frozenset({J.CANARY, J.WATCHING, J.RAMP})


class ItemState(enum.Enum):
    """What became of one meter of a job."""

    WAITING = "waiting"  # its batch has not come
    ORDERED = "ordered"  # a command of its own is on its way
    DONE = "done"  # proved by the meter
    FAILED = "failed"  # refused, expired, or not accepted
    UNKNOWN = "unknown"  # sent, no proof yet; may still become done or failed
    SPARED = "spared"  # a rule objected, at the plan or when its turn came
    LEFT = "left"  # the job halted before its turn


I = ItemState  # noqa: E741  the table below is read in one look
ITEM_TRANSITIONS: Mapping[ItemState, frozenset[ItemState]] = {
    I.WAITING: frozenset({I.ORDERED, I.SPARED, I.FAILED, I.LEFT}),
    I.ORDERED: frozenset({I.DONE, I.FAILED, I.UNKNOWN, I.SPARED, I.LEFT}),
    # ordered: its command was proved not applied and goes out once more
    I.UNKNOWN: frozenset({I.ORDERED, I.DONE, I.FAILED, I.SPARED, I.LEFT}),
    I.DONE: frozenset(),
    I.FAILED: frozenset(),
    I.SPARED: frozenset(),
    I.LEFT: frozenset(),
}
assert set(ITEM_TRANSITIONS) == set(ItemState)


def item_state_of(command: CommandState) -> ItemState:
    """What the state of its command makes of an item."""
    match command:
        case CommandState.QUEUED | CommandState.CLAIMED | CommandState.SENT:
            return I.ORDERED
        case CommandState.UNKNOWN | CommandState.ESCALATED:
            return I.UNKNOWN
        case CommandState.CONFIRMED:
            return I.DONE
        case CommandState.CANCELLED:
            return I.LEFT
        case CommandState.REFUSED | CommandState.EXPIRED:
            return I.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkLimits:
    """How carefully a job goes on. Shares are in thousandths, so that no float decides."""

    size_max: int = SIZE_MAX
    canary: int = 5
    #: a person says go on after the canary; else it goes on by itself after the pause
    go_on_by_person: bool = True
    pause_s: int = 30  # between two batches: time for the telephone to ring
    #: a batch is over when all of it ended, or when this passed and a dead line holds the rest
    batch_patience_s: int = 120
    batch_max: int = 5_000  # doubling ends here
    #: meters of one line in one batch: what a feeder takes when fridges and pumps start together
    per_line_max: int = 4
    failed_permille_max: int = 200  # one of the canary's five may fail: a meter may be dead
    unknown_permille_max: int = 200
    #: so many that a rule now spares: the list is no longer what was approved
    spared_permille_max: int = 400
    sample_min: int = 5  # below this no share means anything

    def __post_init__(self) -> None:
        assert 1 <= self.size_max <= SIZE_MAX_EVER
        assert 1 <= self.sample_min <= self.canary <= self.batch_max
        assert self.per_line_max >= 1

    def batch_size(self, batch: int) -> int:
        """How many meters batch number 0, 1, 2, … has: the canary, then doubling."""
        return min(self.canary << min(batch, SIZE_MAX_EVER.bit_length()), self.batch_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """The largest damage a list can do, said before anybody approves it."""

    meters: int
    rooms: int
    site_permille: int  # of all meters of the properties it touches
    arrears_fen: int  # all together
    arrears_fen_least: int  # somebody goes dark for so little
    power_w: int  # load that drops, or comes back, as last read
    buildings_dark: tuple[str, ...]  # no meter there keeps its light
    protected_spared: int  # critical rooms that the list would have met


def damage(plan: SwitchPlan, standing: Mapping[tuple[str, str | None], int]) -> Damage:
    """What a planned cut does at worst. Pure.

    `standing`: how many meters each (site, building) of the properties has, on the list or not; a
    list by name would else seem to darken the building of the one room on it.
    """
    arrears_fen = [max(0, -(meter.credit_fen or 0)) for meter in plan.switched]
    all_of_them = sum(standing.values())
    dark = Counter(_building(meter) for meter in plan.switched)
    dark.update(_building(s.meter) for s in plan.spared if s.rule is Rule.ALREADY_CUT)
    hit = {_building(meter) for meter in plan.switched if meter.building is not None}
    out = {place for place in hit if dark[place] >= standing.get(place, 0)}
    return Damage(
        meters=len(plan.switched),
        rooms=len({(meter.site, meter.room) for meter in plan.switched if meter.room is not None}),
        site_permille=len(plan.switched) * 1000 // all_of_them if all_of_them else 0,
        arrears_fen=sum(arrears_fen),
        arrears_fen_least=min(arrears_fen, default=0),
        power_w=sum(meter.power_w for meter in plan.switched),
        buildings_dark=tuple(sorted(f"{site} {building}" for site, building in out)),
        protected_spared=sum(spared.rule is Rule.PROTECTED for spared in plan.spared),
    )


def _building(meter: MeterFacts) -> tuple[str, str | None]:
    return meter.site, meter.building


def over_lines(meters: Iterable[MeterFacts]) -> list[MeterFacts]:
    """One meter of each line in turn: a batch loads all lines alike, and the canary is no single
    riser. Within a line the order stays."""
    by_line: dict[int, list[MeterFacts]] = {}
    for meter in meters:
        by_line.setdefault(meter.line_id, []).append(meter)
    rounds = zip_longest(*by_line.values())
    return [meter for meter in chain.from_iterable(rounds) if meter is not None]


def list_sha256(
    bulk_id: UUID, action: CommandKind, cut_below_fen: int | None, meter_ids: Sequence[int]
) -> str:
    """The hash an approval is bound to: what is done, why, to whom, in which order.

    SHA-256 over lines of ASCII, so that anybody can recompute it: the words "bulk list 1", the id
    of the job, the action, the threshold in fen (or "-"), then one meter number a line in order.
    """
    threshold = "-" if cut_below_fen is None else str(cut_below_fen)
    lines = ["bulk list 1", str(bulk_id), action.value, threshold, *map(str, meter_ids)]
    return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The items of a job, counted; `spared` only those whose rule came after the plan."""

    waiting: int = 0
    ordered: int = 0
    done: int = 0
    failed: int = 0
    unknown: int = 0
    spared: int = 0
    left: int = 0

    @property
    def tried(self) -> int:
        """Those whose command has come to something."""
        return self.done + self.failed + self.unknown


def why_halt(tally: Tally, limits: BulkLimits, *, late: int = 0) -> str | None:
    """One sentence when the job must not go on, else None. `late`: ordered, and its patience over.

    Every share is over all that was tried so far, and none counts below `sample_min`.
    """
    tried = tally.tried + late
    if _above(tally.failed, tried, limits.failed_permille_max, limits):
        return f"{tally.failed} of {tried} failed."
    if _above(tally.unknown + late, tried, limits.unknown_permille_max, limits):
        return f"{tally.unknown + late} of {tried} gave no proof."
    turned = tried + tally.spared
    if _above(tally.spared, turned, limits.spared_permille_max, limits):
        return f"A rule now spares {tally.spared} of {turned}: the list is out of date."
    return None


def _above(count: int, sample: int, permille_max: int, limits: BulkLimits) -> bool:
    return sample >= limits.sample_min and count * 1000 > permille_max * sample


class NotNow(enum.Enum):
    """Why a step of a job was not taken, in order of precedence."""

    NO_SUCH_JOB = "no-such-job"
    ID_REUSED = "id-reused"
    NOTHING_TO_DO = "nothing-to-do"  # every meter is spared
    LIST_TOO_LONG = "list-too-long"
    WRONG_STATE = "wrong-state"
    SAME_PERSON = "same-person"
    LIST_CHANGED = "list-changed"  # the hash is not that of the list
    SECOND_PERSON_NEEDED = "second-person-needed"
    APPROVAL_TOO_OLD = "approval-too-old"


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing changed; the facts are for the sentence."""

    why: NotNow
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A bulk job as stored."""

    bulk_id: UUID  # made by who wants it
    action: CommandKind  # CUT or RESTORE
    state: JobState
    cut_below_fen: int | None
    reason: str
    planned_by: int  # operator
    planned_at: datetime
    sha256: str
    needs_approval: bool
    approved_by: int | None
    approved_at: datetime | None
    limits: BulkLimits
    damage: Damage
    undo_of: UUID | None
    batch: int  # number of the batch at work or last done, from 0
    batch_began_at: datetime | None
    batch_ended_at: datetime | None  # while set, the pause before the next runs
    halted_by: int | None  # None: by itself
    halt_reason: str


def needs_second_person(size: int, *, undo: bool) -> bool:
    """Whether a list of this size needs another person's approval. Taking back what was done does
    not: light must not wait for somebody to come."""
    return not undo and size > ALONE_MAX
