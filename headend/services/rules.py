"""The safety rules of the sender, each with a switch: a trial turns one off and must notice.

No setting, file or call reaches these switches. A program that serves meters has them all on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """True everywhere, except in a trial that proves what a rule is for."""

    #: after silence a meter is left alone until no old answer can come. Kept by the line; a trial
    #: makes lines whose patience ends too early
    quarantine: bool = True
    #: an unknown is looked at only once nothing can be in flight
    settle: bool = True
    #: the intent is committed before the first byte of a write leaves
    intent_first: bool = True
    #: a write goes out once, silence or not
    one_write: bool = True
    #: a count that is not the expected one stops the order; else it is numbered anew and sent
    look_first: bool = True
    #: a retry carries the count and amount of the first try
    same_count_on_retry: bool = True
    #: right before a cut leaves, its reasons are looked at once more
    last_check: bool = True
    #: cuts and re-connects a minute and an hour, and no relay toggled twice in ten minutes
    hard_limits: bool = True
    #: seconds that a write may be on its way, where it is not to be taken from the line
    in_flight_s: float | None = None
