"""Random meters, and what forbids a cut told once more in other words: the judge of plan_cut."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from headend.domain.commands import CommandKind
from headend.domain.friendly_hours import Calendar, FriendlyHours
from headend.domain.supply import CutRules, MeterFacts, Rule

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOON = datetime(2026, 3, 20, 4, 0, tzinfo=UTC)  # a Friday, 12:00 in Shanghai
NEVER = Calendar(time_zone=SHANGHAI, friendly_hours=(), spare_weekends=False)
MINUTE = timedelta(minutes=1)


def debtor(**more: object) -> MeterFacts:
    """A meter that every rule lets be cut at NOON; a test spoils one fact."""
    facts = MeterFacts(
        meter_id=1,
        meter="M1",
        room="A-101",
        building="A",
        site="court",
        line_id=1,
        calendar=NEVER,
        credit_fen=-500,
        read_at=NOON - timedelta(hours=6),
        relay_closed_bits=1,
    )
    return replace(facts, **more)  # type: ignore[arg-type]


def seldom(chance: random.Random) -> bool:
    """So seldom that most cases break one rule or none: only then is a missing rule seen."""
    return chance.random() < 0.06


def some_calendar(chance: random.Random) -> Calendar:
    def clock() -> time:
        return time(chance.randrange(24), chance.choice((0, 30)))

    day = date(2026, 3, 20) + timedelta(days=chance.randrange(-3, 4))
    return Calendar(
        time_zone=chance.choice((SHANGHAI, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata"))),
        friendly_hours=tuple(
            FriendlyHours(clock(), clock(), frozenset(chance.sample(range(7), 4)))
            for _ in range(seldom(chance) * chance.randrange(1, 3))
        ),
        spare_weekends=chance.random() < 0.3,
        holidays={day: "a holiday"} if chance.random() < 0.3 else {},
        working_days=frozenset({day}) if chance.random() < 0.2 else frozenset(),
    )


def some_case(chance: random.Random) -> tuple[MeterFacts, CutRules, datetime]:
    """One meter, rules and a moment, close to every boundary there is."""
    now = NOON + timedelta(minutes=chance.randrange(-3 * 1440, 3 * 1440))
    near = chance.choice((-1, 0, 1)) * MINUTE
    # With minutes and fen on both sides of each limit, by one.
    facts = debtor(
        calendar=some_calendar(chance),
        credit_fen=None if seldom(chance) else chance.choice((-500, -301, -300, -1, 0, 1)),
        overdraft_fen=300 if seldom(chance) else 0,
        read_at=now - timedelta(hours=6),
        relay_closed_bits=0 if seldom(chance) else chance.choice((1, 7, None)),
        locked_out="Li works there: new breaker" if seldom(chance) else None,
        protected="a dialysis machine" if chance.random() < 0.2 else None,
        protected_until=now + chance.choice((-1, 0, 1)) * MINUTE,
        masters=36 if seldom(chance) else 0,
        command_open="restore" if seldom(chance) else None,
        payment="a sale has not landed" if seldom(chance) else None,
        flagged="energy fell" if seldom(chance) else None,
    )
    if seldom(chance):
        facts = replace(facts, read_at=now - timedelta(hours=24) + near)
    elif seldom(chance):
        facts = replace(facts, read_at=chance.choice((None, now + 10 * MINUTE + near)))
    if seldom(chance):
        facts = replace(facts, credit_fen=chance.choice((-1_000_001, -1_000_000)))
    if chance.random() < 0.2:
        facts = replace(
            facts,
            switched_at=now - 10 * MINUTE + near,
            switched_to=chance.choice((*CommandKind, None)),
        )
    if seldom(chance):
        facts = replace(facts, paid_at=(facts.read_at or now) + near)
    rules = CutRules(
        cut_below_fen=None if seldom(chance) else 0,
        ordered_at=now - timedelta(minutes=30) if chance.random() < 0.5 else None,
    )
    if seldom(chance):
        facts = replace(facts, paid_at=now - timedelta(minutes=30) + near)
    return facts, rules, now


def broken_by_cutting(meter: MeterFacts, rules: CutRules, now: datetime) -> set[Rule]:
    """Every rule that a cut of this meter would break."""
    wall = now.astimezone(meter.calendar.time_zone).replace(tzinfo=None)
    broken = {
        rule
        for rule, holds in {
            Rule.LOCKED_OUT: meter.locked_out is not None,
            Rule.PROTECTED: meter.protected is not None
            and meter.protected_until is not None
            and now < meter.protected_until,
            Rule.MASTER: meter.masters > 0,
            Rule.ALREADY_CUT: dark(meter),
            Rule.COMMAND_OPEN: meter.command_open is not None,
            Rule.PAYMENT_IN_FLIGHT: meter.payment is not None,
            Rule.CREDIT_ARRIVED: paid_since(meter, rules),
            Rule.HOLIDAY: wall.date() in meter.calendar.holidays,
            Rule.WEEKEND: meter.calendar.spare_weekends
            and wall.isoweekday() > 5
            and wall.date() not in meter.calendar.working_days,
            Rule.FRIENDLY_HOURS: any(hours_hold(h, wall) for h in meter.calendar.friendly_hours),
            Rule.TOGGLED_RECENTLY: meter.switched_at is not None
            and -10 * MINUTE < now - meter.switched_at < 10 * MINUTE,
        }.items()
        if holds
    }
    if rules.cut_below_fen is not None:
        broken |= broken_for_arrears(meter, now)
    return broken


def broken_for_arrears(meter: MeterFacts, now: datetime) -> set[Rule]:
    known = meter.read_at is not None and meter.credit_fen is not None
    fresh = (
        known
        and meter.read_at is not None
        and (now - timedelta(hours=24) <= meter.read_at <= now + 10 * MINUTE)
    )
    broken = set() if fresh else {Rule.STALE_BALANCE}
    if meter.flagged:
        broken.add(Rule.FLAGGED)
    if meter.credit_fen is not None and meter.credit_fen < -1_000_000:
        broken.add(Rule.IMPLAUSIBLE)
    if meter.credit_fen is not None and meter.credit_fen >= -meter.overdraft_fen:
        broken.add(Rule.ENOUGH_CREDIT)
    return broken


def dark(meter: MeterFacts) -> bool:
    if meter.switched_at and (meter.read_at is None or meter.read_at < meter.switched_at):
        return meter.switched_to is CommandKind.CUT
    return meter.relay_closed_bits == 0


def paid_since(meter: MeterFacts, rules: CutRules) -> bool:
    if meter.paid_at is None:
        return False
    since = [rules.ordered_at, meter.read_at if rules.cut_below_fen is not None else None]
    return any(instant is not None and meter.paid_at >= instant for instant in since)


def hours_hold(hours: FriendlyHours, wall: datetime) -> bool:
    """By laying out the stretches that begin today and yesterday."""
    for day in (wall.date(), wall.date() - timedelta(days=1)):
        begins = datetime.combine(day, hours.begins)
        ends = datetime.combine(day, hours.ends)
        if ends <= begins:
            ends += timedelta(days=1)
        if day.weekday() in hours.weekdays and begins <= wall < ends:
            return True
    return False
