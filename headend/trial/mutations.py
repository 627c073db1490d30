"""Each safety rule, switched off by its name. A check that never failed is a hope.

The sender's rules have switches (services/rules.py). Every other rule is taken out here, by putting
something else in its place for the length of a seed, and by dropping what the database says too:
most of them are held twice. Nothing of the product knows of it.

Two rules guard the same door: after silence a meter is left alone (quarantine), and an unknown is
only judged once nothing can be in flight (settle). With either one the other is hardly missed, so
each is taken out in an arrangement where it stands alone, and a control proves that there it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType

from headend.services.sender import Rules
from headend.trial import broken, broken_cards
from headend.trial.arrangement import USUAL, Arrangement, Patch
from headend.trial.world import IN_FLIGHT_S_MAX

__all__ = ["CONTROLS", "MUTATIONS", "SEEDS_TO_CATCH", "USUAL", "Arrangement", "Patch"]

# A rule that no seed of so many misses is not needed, or not looked at: both are faults.
SEEDS_TO_CATCH = 400

# Lines without patience, which is safe here, so that only the wait before a judgement is left.
SETTLES_ALONE = Arrangement(
    rules=Rules(quarantine=False, in_flight_s=IN_FLIGHT_S_MAX),
    only_writes_are_late=True,
    much_is_parked=True,
)
# Judged at once, which is safe while the line itself refuses to look before all is quiet.
QUARANTINE_ALONE = Arrangement(rules=Rules(settle=False), much_is_parked=True)
CONTROLS: Mapping[str, Arrangement] = MappingProxyType(
    {
        "quarantine": QUARANTINE_ALONE,
        "settle": SETTLES_ALONE,
        "payment_in_flight": Arrangement(patches=broken.CUTS_FIRST),
        "credit_arrived": Arrangement(patches=broken.CUTS_STAY),
    }
)


def _mutations() -> dict[str, Arrangement]:
    found = {
        rule.name: Arrangement(rules=replace(Rules(), **{rule.name: False}))
        for rule in fields(Rules)
        if rule.default is True
    }
    for name, alone in (("quarantine", QUARANTINE_ALONE), ("settle", SETTLES_ALONE)):
        found[name] = replace(alone, rules=replace(alone.rules, **{name: False}))
    return {**found, **broken.RULES, **broken_cards.RULES}


MUTATIONS: Mapping[str, Arrangement] = MappingProxyType(_mutations())
