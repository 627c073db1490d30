"""The kit on what a terminal writes back: each unit with one fault is caught, by its fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headend.units import check as check_module
from headend.units.check import Examination
from headend.units.golden import GOLDEN_NOTES
from protocols.card_apdu import CardConversation
from protocols.card_desk import CardSeen
from protocols.card_note import LandingNote
from protocols.open_unit import OpenUnit
from protocols.units.hanhe import UNITS

RULE = "what a terminal writes is on its own card, whole or not at all"


class HasNone(OpenUnit):
    """Its manifest says that it has."""

    note = None  # type: ignore[assignment]  # the fault


class Forgets(OpenUnit):
    """Says yes and writes nothing."""

    def note(self, note: LandingNote) -> CardConversation[CardSeen]:
        seen = yield from self.read()
        return replace(seen, note=note)


class AnyCard(OpenUnit):
    """Takes whatever lies there for the card it is about."""

    def note(self, note: LandingNote) -> CardConversation[CardSeen]:
        seen = yield from self.read()
        return (yield from super().note(replace(note, serial=seen.serial)))


class AnyMeter(OpenUnit):
    """Takes whatever meter the card is for."""

    def note(self, note: LandingNote) -> CardConversation[CardSeen]:
        seen = yield from self.read()
        assert seen.record is not None
        return (yield from super().note(replace(note, meter_number=seen.record.meter_number)))


class Again(OpenUnit):
    """Writes the purchase anew each time."""

    def note(self, note: LandingNote) -> CardConversation[CardSeen]:
        record = (yield from self.read()).record
        assert record is not None
        yield from self.clear()
        yield from self.write(record)
        return (yield from super().note(note))


class TakesOff(OpenUnit):
    """Takes the purchase off before the landing is written."""

    def note(self, note: LandingNote) -> CardConversation[CardSeen]:
        seen = yield from self.read()
        if seen.record is not None and seen.note is None and _is_of(note, seen):
            yield from self.clear()
            yield from self.write(seen.record)
        return (yield from super().note(note))


class OtherBytes(OpenUnit):
    """Writes and reads the whole thing consistently, under another time than it was told."""

    def note(self, note: LandingNote) -> CardConversation[CardSeen]:
        later = replace(note, landed_at_s=note.landed_at_s + 3600)
        return _told_back((yield from super().note(later)))

    def read(self) -> CardConversation[CardSeen]:
        return _told_back((yield from super().read()))


def _told_back(seen: CardSeen) -> CardSeen:
    if seen.note is None:
        return seen
    true = replace(seen.note, landed_at_s=1_700_000_000)
    return replace(seen, note=true)


def _is_of(note: LandingNote, seen: CardSeen) -> bool:
    return (
        seen.record is not None
        and seen.serial == note.serial
        and seen.record.meter_number == note.meter_number
        and seen.record.purchase_count <= note.purchase_count
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "ROUND_TRIPS", 10)
    monkeypatch.setattr(check_module, "CALLS", 10)


def said_of(kind: type[OpenUnit]) -> tuple[bool, str]:
    good = UNITS[2]
    unit = kind(good.manifest, good._format)
    unit.for_issuer = lambda issuer: kind(good.manifest, good._format, issuer)  # type: ignore[method-assign]
    (found,) = [one for one in Examination(unit).run() if one.rule == RULE]
    return found.kept, found.detail


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (HasNone, "has no note()"),
        (Forgets, "a landing that was written is not read"),
        (AnyCard, "another card's landing is written"),
        (AnyMeter, "another meter's landing is written"),
        (Again, "written twice"),
        (TakesOff, "its purchase is gone"),
        (OtherBytes, "as other bytes"),
    ],
)
def test_the_kit_catches_each_fault_of_a_note(kind: type[OpenUnit], says: str) -> None:
    kept, detail = said_of(kind)
    assert not kept
    assert says in detail


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.manifest.name)
def test_each_shipped_unit_that_keeps_notes_keeps_the_rule(unit: OpenUnit) -> None:
    assert unit.manifest.name in GOLDEN_NOTES
    (found,) = [one for one in Examination(unit).run() if one.rule == RULE]
    assert found.kept, found.detail
    assert found.detail.endswith("commands")
