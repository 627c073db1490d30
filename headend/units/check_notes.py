"""The conformance kit on what a terminal writes back: a landing lies on its own card, whole or not
at all, and is never a meter's word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from headend.units.broken import Broken
from headend.units.golden import GOLDEN_NOTES
from protocols.card_apdu import CardConversation, CardError, CardGone
from protocols.card_desk import CardSeen, Seal
from protocols.card_image import CardRecord
from protocols.card_note import LandingNote
from protocols.key_call import Purpose
from protocols.security_unit import NotingUnit, SecurityUnit
from simulators.cards import CpuCard, LogicCard, RfCard, VirtualCard

COMMANDS_MAX: Final = 400

Do = Callable[[CardConversation[Any], VirtualCard], Any]
NewCard = Callable[[], tuple[VirtualCard, bytes]]
GoldenCard = Callable[[bytes], VirtualCard]


def examine_notes(
    unit: SecurityUnit, do: Do, new_card: NewCard, record: CardRecord, golden: GoldenCard
) -> str:
    """All of it, or "it keeps none". `new_card`: one of the unit's own, and its serial. `record`:
    what its cards carry. `golden`: a card with the serial it is given, where its medium lets it
    choose one. Raises Broken."""
    if Purpose.TERMINAL_WRITE_BACK not in unit.manifest.keys:
        return "it keeps none"
    if not isinstance(unit, NotingUnit):
        raise Broken("its manifest names the key of terminals, and it has no note()")
    _is_read_again(unit, do, new_card, record)
    _is_of_its_card(unit, do, new_card, record)
    _is_golden(unit, do, record, golden)
    return _pulled(unit, do, new_card, record)


def _is_golden(unit: NotingUnit, do: Do, record: CardRecord, golden: GoldenCard) -> None:
    """The bytes of a known landing are what they were: meters and other desks read them. Only of
    units that are ours: another's are in its maker's hands."""
    known = GOLDEN_NOTES.get(unit.manifest.name)
    if known is None:
        return
    note, image = known
    card = golden(note.serial)
    carried = replace(
        record,
        serial=note.serial,
        meter_number=note.meter_number,
        amount_fen=note.amount_fen,
        purchase_count=note.purchase_count,
    )
    do(unit.write(carried), card)
    do(unit.note(note), card)
    if bytes.fromhex(image) not in _memory(card):
        raise Broken("a known landing lies on the card as other bytes")


def _memory(card: VirtualCard) -> bytes:
    if isinstance(card, CpuCard):
        return b"".join(card.files.values())
    assert isinstance(card, RfCard | LogicCard), "a medium without a memory keeps no notes"
    return bytes(card.memory)


def _laid(
    unit: NotingUnit, do: Do, new_card: NewCard, record: CardRecord
) -> tuple[VirtualCard, CardRecord, LandingNote]:
    """A card with a purchase on it, and the landing of that purchase."""
    card, serial = new_card()
    carried = replace(record, serial=serial, purchase_count=7)
    do(unit.write(carried), card)
    note = LandingNote(
        key_version=1,
        meter_number=carried.meter_number,
        serial=serial,
        amount_fen=carried.amount_fen,
        total_purchased_fen=carried.amount_fen + 1,
        purchase_count=carried.purchase_count,
        landed_at_s=1_700_000_000,
    )
    return card, carried, note


def _is_read_again(unit: NotingUnit, do: Do, new_card: NewCard, record: CardRecord) -> None:
    card, carried, note = _laid(unit, do, new_card, record)
    said = do(unit.note(note), card)
    for seen in (said, do(unit.read(), card)):
        _tells(seen, note)
        if seen.record != carried or seen.seal is not Seal.GOOD:
            raise Broken("the purchase beside it is not what it was")
    writes = card.writes
    _tells(do(unit.note(note), card), note)
    if card.writes != writes:
        raise Broken("the same landing is written twice")


def _tells(seen: CardSeen, note: LandingNote) -> None:
    if seen.note != note or seen.note_seal is not Seal.GOOD or not seen.is_taken:
        raise Broken("a landing that was written is not read")
    if seen.back is not None:
        raise Broken("a landing is taken for a meter's word")


def _is_of_its_card(unit: NotingUnit, do: Do, new_card: NewCard, record: CardRecord) -> None:
    card, _, note = _laid(unit, do, new_card, record)
    other_meter = f"{(int(note.meter_number) + 1) % 10**12:012d}"
    for what, wrong in (
        ("another card's landing", replace(note, serial=bytes(8))),
        ("another meter's landing", replace(note, meter_number=other_meter)),
        ("the landing of an earlier count", replace(note, purchase_count=6)),
    ):
        writes = card.writes
        try:
            do(unit.note(wrong), card)
        except CardError:
            if card.writes != writes:
                raise Broken(f"{what} is refused after something was written") from None
        else:
            raise Broken(f"{what} is written")


def _pulled(unit: NotingUnit, do: Do, new_card: NewCard, record: CardRecord) -> str:
    for at in range(COMMANDS_MAX):
        card, carried, note = _laid(unit, do, new_card, record)
        card.inserted_again()
        card.tear_at = at
        try:
            do(unit.note(note), card)
        except CardGone:
            card.inserted_again()
            seen = do(unit.read(), card)
            if seen.record != carried or seen.seal is not Seal.GOOD:
                raise Broken(f"pulled at command {at}, its purchase is gone") from None
            if seen.note not in (None, note) or (seen.note and seen.note_seal is not Seal.GOOD):
                raise Broken(f"pulled at command {at}, half a landing is called one") from None
            _tells(do(unit.note(note), card), note)
        else:
            return f"{at} commands"
    raise Broken(f"more than {COMMANDS_MAX} commands for one landing")
