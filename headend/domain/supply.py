"""Who may be cut and who may be restored, decided before anything is sent. Pure.

Each rule is one line of a ladder, asked from the top: the first that objects is the one people are
told. The same ladder plans a list of thousands and looks once more right before a single cut.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from headend.domain.commands import CommandKind
from headend.domain.friendly_hours import Calendar
from headend.domain.limits import TOGGLE_GAP
from headend.domain.money import yuan

# One missed night makes a balance too old: the payment of yesterday may not be in it.
CREDIT_AGE_MAX = timedelta(hours=24)
# Two clocks that are not quite set; a reading dated further ahead is not believed.
AHEAD_MAX = timedelta(minutes=10)
# No household runs up 10,000 yuan behind a meter that trips by itself: a price or a ratio is wrong.
ARREARS_FEN_MAX = 1_000_000


class Rule(enum.Enum):
    """Why a meter is spared, in order of precedence: people before papers, papers before numbers.

    What lasts is told before what passes, so that nobody waits for the evening to learn that the
    room is protected anyway.
    """

    LOCKED_OUT = "locked-out"  # somebody works on the circuit
    PROTECTED = "protected"  # on the list, with reason and expiry
    MASTER = "master-meter"  # others hang behind it, and would all go dark
    ALREADY_CUT = "already-cut"
    ALREADY_ON = "already-on"  # of a restore
    COMMAND_OPEN = "command-open"  # an order to this meter has not ended
    PAYMENT_IN_FLIGHT = "payment-in-flight"  # money is on its way into this meter
    CREDIT_ARRIVED = "credit-arrived"  # paid after the cut was ordered
    HOLIDAY = "holiday"
    WEEKEND = "weekend"
    FRIENDLY_HOURS = "friendly-hours"
    TOGGLED_RECENTLY = "toggled-recently"
    STALE_BALANCE = "stale-balance"  # the value that would justify the cut is too old, or missing
    FLAGGED = "flagged"  # somebody or something doubts this meter's numbers
    IMPLAUSIBLE = "implausible"  # a balance no meter can show
    ENOUGH_CREDIT = "enough-credit"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFacts:
    """What is known about one meter at one moment; gathered by store/supply.py."""

    meter_id: int
    meter: str
    room: str | None
    building: str | None
    site: str
    line_id: int
    calendar: Calendar
    credit_fen: int | None  # as the meter showed it; negative in arrears
    overdraft_fen: int = 0  # allowance: arrears up to here are agreed
    read_at: datetime | None  # the instant of all values read; None: never read
    relay_closed_bits: int | None  # as read
    power_w: int = 0  # what goes dark with it
    switched_at: datetime | None = None  # the last time a relay order reached it, or may have
    switched_to: CommandKind | None = None  # what that one was; None: no proof of it
    locked_out: str | None = None  # who works there, and why
    protected: str | None = None  # the reason
    protected_until: datetime | None = None  # a protection that has passed protects nobody
    masters: int = 0  # how many meters measure a part of what it measures
    command_open: str | None = None  # kind of an order that has not ended, money apart
    payment: str | None = None  # what is in flight: an open sale, a top-up, money not yet in
    paid_at: datetime | None = None  # the last time money arrived in the meter
    flagged: str | None = None  # why its numbers are doubted


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRules:
    """What a cut is for and how strict it looks."""

    #: fen; below this (plus overdraft) is arrears. None: not for arrears, an order by name
    cut_below_fen: int | None = 0
    credit_age_max: timedelta = CREDIT_AGE_MAX
    arrears_fen_max: int = ARREARS_FEN_MAX
    toggle_gap: timedelta = TOGGLE_GAP
    #: when the cut was ordered, at the last look before it is sent
    ordered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Spared:
    """A meter left alone: the rule, and the facts for its sentence."""

    meter: MeterFacts
    rule: Rule
    detail: str


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    """Which meters are switched, in the order given, and which are left alone by which rule."""

    switched: tuple[MeterFacts, ...]
    spared: tuple[Spared, ...]


Objection = Callable[[MeterFacts, CutRules, datetime], str | None]


_LEFT_DARK: Mapping[CommandKind | None, bool] = {CommandKind.CUT: True, CommandKind.RESTORE: False}


def is_dark(meter: MeterFacts) -> bool | None:
    """Whether the relay is open, by whatever is newer: the reading or our own last order.

    None: nobody knows.
    """
    order_is_newer = meter.switched_at is not None and (
        meter.read_at is None or meter.switched_at > meter.read_at
    )
    if order_is_newer:
        # An order without proof took away what the older reading knew, and a release leaves the
        # relay to the meter: only a look tells.
        return _LEFT_DARK.get(meter.switched_to)
    if meter.relay_closed_bits is None:
        return None
    return meter.relay_closed_bits == 0


def _locked_out(meter: MeterFacts, _rules: CutRules, _now: datetime) -> str | None:
    return meter.locked_out


def _protected(meter: MeterFacts, _rules: CutRules, now: datetime) -> str | None:
    if meter.protected is None or meter.protected_until is None or meter.protected_until <= now:
        return None
    try:
        until = meter.protected_until.astimezone(meter.calendar.time_zone)
    except OverflowError:  # the last day there is, somewhere else on earth
        return f"{meter.protected}, for ever"
    return f"{meter.protected}, until {until:%Y-%m-%d %H:%M}"


def _master(meter: MeterFacts, _rules: CutRules, _now: datetime) -> str | None:
    return f"{meter.masters} meters hang behind it" if meter.masters else None


def _already_cut(meter: MeterFacts, _rules: CutRules, _now: datetime) -> str | None:
    return "its relay is open" if is_dark(meter) else None


def _already_on(meter: MeterFacts, _rules: CutRules, _now: datetime) -> str | None:
    return "its relay is closed" if is_dark(meter) is False else None


def _command_open(meter: MeterFacts, _rules: CutRules, _now: datetime) -> str | None:
    return meter.command_open and f"an order ({meter.command_open}) has not ended"


def _payment(meter: MeterFacts, _rules: CutRules, _now: datetime) -> str | None:
    return meter.payment


def _credit_arrived(meter: MeterFacts, rules: CutRules, _now: datetime) -> str | None:
    """Money that came after the order, or after the reading that would justify it."""
    if meter.paid_at is None:
        return None
    if rules.ordered_at is not None and meter.paid_at >= rules.ordered_at:
        return "paid after the cut was ordered"
    for_arrears = rules.cut_below_fen is not None
    if for_arrears and meter.read_at is not None and meter.paid_at >= meter.read_at:
        return "paid after its balance was read"
    return None


def _holiday(meter: MeterFacts, _rules: CutRules, now: datetime) -> str | None:
    return meter.calendar.holiday(now)


def _weekend(meter: MeterFacts, _rules: CutRules, now: datetime) -> str | None:
    return "nobody is cut at weekends" if meter.calendar.is_spared_weekend(now) else None


def _friendly_hours(meter: MeterFacts, _rules: CutRules, now: datetime) -> str | None:
    until = meter.calendar.friendly_until(now)
    return f"nobody is cut before {until:%H:%M}" if until is not None else None


def _toggled_recently(meter: MeterFacts, rules: CutRules, now: datetime) -> str | None:
    # abs(): a clock that was set back makes no relay fit for a second toggle.
    if meter.switched_at is None or abs(now - meter.switched_at) >= rules.toggle_gap:
        return None
    return f"its relay was switched less than {rules.toggle_gap.seconds // 60} minutes ago"


def _stale_balance(meter: MeterFacts, rules: CutRules, now: datetime) -> str | None:
    if rules.cut_below_fen is None:
        return None
    if meter.read_at is None or meter.credit_fen is None:
        return "its balance is not known"
    if meter.read_at > now + AHEAD_MAX:
        return "its balance is dated in the future"
    if now - meter.read_at > rules.credit_age_max:
        return f"its balance is {_hours(now - meter.read_at)} h old"
    return None


def _hours(age: timedelta) -> int:
    return int(age.total_seconds() // 3600)


def _flagged(meter: MeterFacts, rules: CutRules, _now: datetime) -> str | None:
    return meter.flagged if rules.cut_below_fen is not None else None


def _implausible(meter: MeterFacts, rules: CutRules, _now: datetime) -> str | None:
    if rules.cut_below_fen is None or meter.credit_fen is None:
        return None
    if meter.credit_fen < -rules.arrears_fen_max:
        return f"arrears of {yuan(-meter.credit_fen)} yuan cannot be true"
    return None


def _enough_credit(meter: MeterFacts, rules: CutRules, _now: datetime) -> str | None:
    if rules.cut_below_fen is None or meter.credit_fen is None:
        return None
    if meter.credit_fen + meter.overdraft_fen >= rules.cut_below_fen:
        return f"{yuan(meter.credit_fen)} yuan remain"
    return None


CUT_LADDER: tuple[tuple[Rule, Objection], ...] = (
    (Rule.LOCKED_OUT, _locked_out),
    (Rule.PROTECTED, _protected),
    (Rule.MASTER, _master),
    (Rule.ALREADY_CUT, _already_cut),
    (Rule.COMMAND_OPEN, _command_open),
    (Rule.PAYMENT_IN_FLIGHT, _payment),
    (Rule.CREDIT_ARRIVED, _credit_arrived),
    (Rule.HOLIDAY, _holiday),
    (Rule.WEEKEND, _weekend),
    (Rule.FRIENDLY_HOURS, _friendly_hours),
    (Rule.TOGGLED_RECENTLY, _toggled_recently),
    (Rule.STALE_BALANCE, _stale_balance),
    (Rule.FLAGGED, _flagged),
    (Rule.IMPLAUSIBLE, _implausible),
    (Rule.ENOUGH_CREDIT, _enough_credit),
)
# Light may come back at any hour and whatever the numbers say; a hand on the circuit outranks it.
RESTORE_LADDER: tuple[tuple[Rule, Objection], ...] = (
    (Rule.LOCKED_OUT, _locked_out),
    (Rule.ALREADY_ON, _already_on),
    (Rule.COMMAND_OPEN, _command_open),
    (Rule.TOGGLED_RECENTLY, _toggled_recently),
)
_PRECEDENCE = list(Rule)
for _ladder in (CUT_LADDER, RESTORE_LADDER):
    _places = [_PRECEDENCE.index(rule) for rule, _ in _ladder]
    assert _places == sorted(_places), "a ladder follows the precedence of its rules"


def objection(
    ladder: Sequence[tuple[Rule, Objection]], meter: MeterFacts, rules: CutRules, now: datetime
) -> Spared | None:
    """The first rule of a ladder that spares this meter, or None."""
    for rule, objects in ladder:
        detail = objects(meter, rules, now)
        if detail:
            return Spared(meter, rule, detail)
    return None


def plan_cut(meters: Iterable[MeterFacts], rules: CutRules, now: datetime) -> SwitchPlan:
    """Who of these meters is cut, and who is spared by which rule. `now` is aware."""
    return _plan(CUT_LADDER, meters, rules, now)


def plan_restore(meters: Iterable[MeterFacts], rules: CutRules, now: datetime) -> SwitchPlan:
    """Who of these meters gets light, and who is left as it is by which rule. `now` is aware."""
    return _plan(RESTORE_LADDER, meters, rules, now)


def _plan(
    ladder: Sequence[tuple[Rule, Objection]],
    meters: Iterable[MeterFacts],
    rules: CutRules,
    now: datetime,
) -> SwitchPlan:
    assert now.tzinfo is not None, "naive time"
    switched: list[MeterFacts] = []
    spared: list[Spared] = []
    for meter in meters:
        objected = objection(ladder, meter, rules, now)
        if objected is None:
            switched.append(meter)
        else:
            spared.append(objected)
    return SwitchPlan(tuple(switched), tuple(spared))


# A restore that is already on, or that follows a cut closely, is for the sender's own limits.
_LAST_CHECKS = {
    CommandKind.CUT: CUT_LADDER,
    CommandKind.RESTORE: ((Rule.LOCKED_OUT, _locked_out),),
    CommandKind.RELEASE: ((Rule.LOCKED_OUT, _locked_out),),
}


def last_check(kind: CommandKind, meter: MeterFacts, rules: CutRules, now: datetime) -> str | None:
    """Why this switching order must not be sent now, in one sentence; None: go on.

    Asked right before the intent. `rules.ordered_at` is when it was ordered. The command that asks
    must not count as `command_open`.
    """
    objected = objection(_LAST_CHECKS[kind], meter, rules, now)
    if objected is None:
        return None
    return f"Meter {meter.meter} was left as it is ({objected.rule.value}): {objected.detail}."
