"""Limits on switching that hold below every screen, list and approval. Pure.

They are looked at in the transaction that records the intent of a switching order, so nothing that
is wrong above (a list, a rule, a script with a valid token) can darken a district in a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from headend.domain.commands import CommandKind

# A relay that is switched more often wears out, and a fridge behind it does not start.
TOGGLE_GAP = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many in so long."""

    at_most: int
    within: timedelta

    def __post_init__(self) -> None:
        assert self.at_most >= 1
        assert self.within > timedelta(0)


_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
# Two a second empties a list of overdue rooms in minutes and leaves time to press stop; the hour
# bounds what one wrong list can do before somebody looks.
CUT_RATES = (Rate(120, _MINUTE), Rate(2_000, _HOUR))
# Light may come back faster than it goes, but every closed relay is inrush on its feeder.
RESTORE_RATES = (Rate(300, _MINUTE), Rate(6_000, _HOUR))


def _usual_rates() -> Mapping[CommandKind, tuple[Rate, ...]]:
    return MappingProxyType(
        {
            CommandKind.CUT: CUT_RATES,
            CommandKind.RESTORE: RESTORE_RATES,
            CommandKind.RELEASE: RESTORE_RATES,  # it may close a relay, or open it
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HardLimits:
    """What the sender never exceeds, whoever asks. Each kind is counted by itself."""

    rates: Mapping[CommandKind, tuple[Rate, ...]] = field(default_factory=_usual_rates)
    toggle_gap: timedelta = TOGGLE_GAP


def free_at(rate: Rate, nth_newest: datetime | None, now: datetime) -> datetime | None:
    """When the next order of this kind may leave; None: now.

    `nth_newest`: when the `rate.at_most`-newest one left; None when there were fewer.
    """
    if nth_newest is None or nth_newest + rate.within <= now:
        return None
    return nth_newest + rate.within


def is_opposite(one: CommandKind, other: CommandKind) -> bool:
    """Whether these two orders move a relay in opposite directions."""
    return (one is CommandKind.CUT) != (other is CommandKind.CUT)


def may_toggle_at(
    kind: CommandKind,
    last: tuple[CommandKind, datetime] | None,
    now: datetime,
    gap: timedelta = TOGGLE_GAP,
) -> datetime | None:
    """When the relay may move in the direction of `kind`; None: now.

    `last`: the newest switching order whose intent was recorded for this meter, and when: it may
    have moved the relay whatever became of it. The same direction again is no toggle.
    """
    if last is None or not is_opposite(kind, last[0]) or last[1] + gap <= now:
        return None
    return last[1] + gap
