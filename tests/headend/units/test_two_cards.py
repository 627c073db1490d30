"""Two cards at one closed unit at once: a program for each, and no word to the wrong one."""

from __future__ import annotations

from typing import Any

import pytest

from headend.units.closed import PROGRAMS_MAX, closed_unit
from headend.units.unit_process import UnitFailed
from protocols.card_apdu import Apdu, CardConversation, answer_of
from simulators.cards import RfCard
from tests.headend.units.test_units import CLOSED, NEEDS_NAMESPACES


class _AtWork:
    """One conversation on one card, step by step."""

    def __init__(self, conversation: CardConversation[bytes], card: RfCard) -> None:
        self._conversation = conversation
        self._card = card
        self._given: Any = None
        self.done: bytes | None = None

    def step(self) -> None:
        if self.done is not None:
            return
        try:
            wanted = self._conversation.send(self._given)
        except StopIteration as end:
            self.done = end.value
            return
        assert isinstance(wanted, Apdu)
        self._given = answer_of(self._card.apdu(wanted.command))


@NEEDS_NAMESPACES
def test_two_cards_are_made_at_once_and_each_is_its_own() -> None:
    unit = closed_unit(CLOSED / "nanfeng")
    cards = [RfCard(bytes((1, 1, 1, number))) for number in range(2)]
    works = [_AtWork(unit.personalise(bytes(8)), card) for card in cards]
    try:
        while any(work.done is None for work in works):
            for work in works:
                work.step()
        for card, work in zip(cards, works, strict=True):
            assert work.done is not None
            assert work.done[:4] == card.uid
            again = _AtWork(unit.personalise(bytes(8)), card)
            while again.done is None:
                again.step()
            assert again.done == work.done
        assert unit.process.starts == 1, "nothing had to be started anew"
    finally:
        unit.stop()


@NEEDS_NAMESPACES
def test_too_many_cards_at_once_are_told_so_and_harm_nobody() -> None:
    unit = closed_unit(CLOSED / "nanfeng")
    works = [
        _AtWork(unit.personalise(bytes(8)), RfCard(bytes((2, 2, 2, number))))
        for number in range(PROGRAMS_MAX)
    ]
    try:
        for work in works:
            work.step()
        with pytest.raises(UnitFailed, match="too many cards"):
            _AtWork(unit.personalise(bytes(8)), RfCard()).step()
        while works[0].done is None:
            works[0].step()
        late = _AtWork(unit.personalise(bytes(8)), RfCard(b"late"))
        while late.done is None:
            late.step()
        assert late.done[:4] == b"late"
    finally:
        unit.stop()


def test_programs_of_one_unit_stay_down_together() -> None:
    unit = closed_unit(CLOSED / "nanfeng")
    another = unit.process.another()
    unit.process._failures.append(1.0)
    assert another._failures == [1.0]
