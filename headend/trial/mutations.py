"""Each safety rule of the sender, switched off by its name. A check that never failed is a hope.

Two rules guard the same door: after silence a meter is left alone (quarantine), and an unknown is
only judged once nothing can be in flight (settle). With either one the other is hardly missed, so
each is taken out in an arrangement where it stands alone, and a control proves that there it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType

from headend.services.sender import Rules
from headend.trial.world import IN_FLIGHT_S_MAX

# A rule that no seed of so many misses is not needed, or not looked at: both are faults.
SEEDS_TO_CATCH = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """The rules of a trial, and what its boxes do."""

    rules: Rules = field(default_factory=Rules)
    #: answers come at once or never, and only writes are parked: lines need no patience then
    only_writes_are_late: bool = False
    #: boxes park on every day of the trial, not on some
    much_is_parked: bool = False


USUAL = Arrangement()
# Lines without patience, which is safe here, so that only the wait before a judgement is left.
SETTLES_ALONE = Arrangement(
    rules=Rules(quarantine=False, in_flight_s=IN_FLIGHT_S_MAX),
    only_writes_are_late=True,
    much_is_parked=True,
)
# Judged at once, which is safe while the line itself refuses to look before all is quiet.
QUARANTINE_ALONE = Arrangement(rules=Rules(settle=False), much_is_parked=True)


def _mutations() -> dict[str, Arrangement]:
    found = {
        rule.name: Arrangement(rules=replace(Rules(), **{rule.name: False}))
        for rule in fields(Rules)
        if rule.default is True
    }
    for name, alone in CONTROLS.items():
        found[name] = replace(alone, rules=replace(alone.rules, **{name: False}))
    return found


CONTROLS: Mapping[str, Arrangement] = MappingProxyType(
    {"quarantine": QUARANTINE_ALONE, "settle": SETTLES_ALONE}
)
MUTATIONS: Mapping[str, Arrangement] = MappingProxyType(_mutations())
