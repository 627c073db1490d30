"""What a line remembers of one meter between two conversations."""

from __future__ import annotations

from collections.abc import Hashable

from gateways.breaker import Breaker
from gateways.health import PartyHealth
from gateways.turns import Turns


class Peer:
    """One party of a line. Written by the line and its bus only."""

    __slots__ = (
        "answers",
        "breaker",
        "last_answer_at_s",
        "last_was_garbled",
        "name",
        "quiet_until_s",
        "silences",
        "turns",
        "writes",
    )

    def __init__(self, name: Hashable, quiet_until_s: float) -> None:
        self.name = name
        self.quiet_until_s = quiet_until_s  # an old answer may still come until then; 0: none can
        self.turns = Turns()  # one conversation at a time
        self.breaker = Breaker()
        self.writes: list[bytes] = []  # frames of writes that left in this conversation
        self.answers = 0
        self.silences = 0
        self.last_was_garbled = False
        self.last_answer_at_s: float | None = None  # since 1970

    def health(self, now_s: float) -> PartyHealth:
        return PartyHealth(
            party=self.name,
            answers=self.answers,
            silences=self.silences,
            silences_in_a_row=self.breaker.silences,
            isolated=self.breaker.keeps_out(now_s),
            last_answer_at_s=self.last_answer_at_s,
        )
