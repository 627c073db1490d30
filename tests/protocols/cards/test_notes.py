"""What a terminal writes on a card: every medium, pulled anywhere, never a meter's word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card_apdu import CardGone, KeyNo, NotOurCard
from protocols.card_desk import Seal, write_card, write_note
from protocols.card_image import BODY_BYTES, body_of, write_back_of
from protocols.card_note import LandingNote, note_body_of, note_of
from protocols.key_call import Denial, KeyCall, KeyDenied, KeyResult, Operation, Purpose
from simulators import card_meter
from tests.protocols.cards.desk import (
    FAMILIES,
    ISSUER,
    METER,
    ROOTS,
    Family,
    Keys,
    do,
    meter,
    purchase,
    read,
)

EACH = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def note(serial: bytes, count: int = 1, fen: int = 5000, total_fen: int = 5000) -> LandingNote:
    return LandingNote(
        key_version=1,
        meter_number=METER,
        serial=serial,
        amount_fen=fen,
        total_purchased_fen=total_fen,
        purchase_count=count,
        landed_at_s=1_800_000_000,
    )


@EACH
def test_a_landing_is_written_and_read_as_a_witness(family: Family) -> None:
    card, record = family.sold()
    keys = Keys()
    wanted = note(record.serial)
    seen = do(card, write_note(family.medium, ISSUER, wanted), keys)
    assert (seen.note, seen.note_seal, seen.back) == (wanted, Seal.GOOD, None)
    assert seen.is_taken
    assert seen.record == record, "the purchase lies there as before"
    sealed = {call.purpose for call in keys.asked if call.operation is Operation.MAC}
    assert Purpose.TERMINAL_WRITE_BACK in sealed
    assert Purpose.WRITE_BACK not in sealed, "the meter's word is the meter's"
    writes = card.writes
    assert do(card, write_note(family.medium, ISSUER, wanted)) == seen
    assert card.writes == writes, "it tells that already"


@EACH
@pytest.mark.parametrize("how", ["pulled", "torn"])
def test_pulled_anywhere_it_reads_as_old_or_new_and_the_next_time_finishes_it(
    family: Family, how: str
) -> None:
    card, first = family.sold(count=1)
    at_home, results, at = meter(serial=first.serial), set(), 0
    at_home.hold(card)
    wanted = note(first.serial, 2, 3000, 8000)
    while True:
        old = read(family.medium, card).back
        assert old is not None
        card.inserted_again()
        setattr(card, "pull_at" if how == "pulled" else "tear_at", at)
        try:
            do(card, write_note(family.medium, ISSUER, wanted))
        except CardGone:
            card.inserted_again()
            seen = read(family.medium, card)
            assert (seen.back, seen.note) in ((old, None), (None, wanted)), at
            results.add(seen.note == wanted)
        else:
            break
        finally:
            card.inserted_again()
        assert do(card, write_note(family.medium, ISSUER, wanted)).note == wanted, at
        at_home.write_back_on(card, body_of(first), card_meter.ALREADY)
        card.inserted_again()
        at += 1
    assert results == {True, False}, "it was pulled both before and after the commit"


@EACH
def test_a_meter_that_spoke_of_the_same_count_is_left_its_word(family: Family) -> None:
    card, record = family.sold()
    at_home = meter(serial=record.serial)
    at_home.hold(card)
    writes = card.writes
    seen = do(card, write_note(family.medium, ISSUER, note(record.serial)))
    assert (seen.note, card.writes) == (None, writes)
    assert seen.back is not None


@EACH
def test_the_same_purchase_at_the_meter_afterwards_credits_nothing(family: Family) -> None:
    card, record = family.sold()
    at_home = meter(serial=record.serial)
    at_home.account.credit(1, 5000)  # over its line
    do(card, write_note(family.medium, ISSUER, note(record.serial)))
    card.inserted_again()
    assert at_home.hold(card) == card_meter.ALREADY
    assert at_home.account.total_fen == 5000
    assert read(family.medium, card).back is not None, "the meter's word took its place"
    second = purchase(record.serial, 2, 3000)
    do(card, write_card(family.medium, ISSUER, second))
    assert at_home.hold(card) == card_meter.DONE


@EACH
def test_nothing_is_written_beside_a_purchase_that_is_to_come(family: Family) -> None:
    """A meter takes the next count only from a card whose zone is empty."""
    card, record = family.sold(count=2)
    writes = card.writes
    for wrong in (note(record.serial, 1), replace(note(record.serial, 2), meter_number="9" * 12)):
        with pytest.raises(NotOurCard):
            do(card, write_note(family.medium, ISSUER, wrong))
        card.inserted_again()
    with pytest.raises(NotOurCard):
        do(card, write_note(family.medium, ISSUER, note(b"another!", 2)))
    assert card.writes == writes


@EACH
def test_what_is_no_word_of_ours_for_this_card_is_no_witness(family: Family) -> None:
    card, record = family.sold()
    body = note_body_of(note(record.serial))
    under_a_meters_key = card_meter.cmac(meter().back_key, body)[:8]
    card_meter.write(card, card_meter.UP, body + under_a_meters_key)
    seen = read(family.medium, card)
    assert (seen.note_seal, seen.witness) == (Seal.BAD, None)
    assert not seen.is_taken

    theirs = note_body_of(note(b"another!"))
    key = card_meter.device_key(
        ROOTS[Purpose.TERMINAL_WRITE_BACK], ISSUER.area, bytes(2) + bytes.fromhex(METER)
    )
    card_meter.write(card, card_meter.UP, theirs + card_meter.cmac(key, theirs)[:8])
    seen = read(family.medium, card)
    assert (seen.note_seal, seen.witness) == (Seal.GOOD, None), "copied from another card"
    assert do(card, write_note(family.medium, ISSUER, note(record.serial))).is_taken


@EACH
def test_a_key_that_is_stopped_writes_nothing_and_proves_nothing(family: Family) -> None:
    card, record = family.sold()
    keys, writes = Keys(revoked={(Purpose.TERMINAL_WRITE_BACK, 1)}), card.writes
    with pytest.raises(KeyNo):
        do(card, write_note(family.medium, ISSUER, note(record.serial)), keys)
    assert card.writes == writes
    do(card, write_note(family.medium, ISSUER, note(record.serial)))
    seen = read(family.medium, card, keys)
    assert (seen.note_seal, seen.is_taken) == (Seal.REVOKED, False)


class MayNotAsk(Keys):
    """A head-end that was not told it may ask about what terminals write."""

    def __call__(self, call: KeyCall) -> KeyResult | KeyDenied:
        if call.purpose is Purpose.TERMINAL_WRITE_BACK:
            return KeyDenied(Denial.NOT_ALLOWED)
        return super().__call__(call)


def test_who_may_not_ask_about_it_reads_the_card_all_the_same() -> None:
    family = FAMILIES[0]
    card, record = family.sold()
    do(card, write_note(family.medium, ISSUER, note(record.serial)))
    seen = read(family.medium, card, MayNotAsk())
    assert (seen.record, seen.seal, seen.witness) == (record, Seal.GOOD, None)


@given(
    st.builds(
        LandingNote,
        key_version=st.integers(1, 0xFFFF),
        meter_number=st.text("0123456789", min_size=12, max_size=12),
        serial=st.binary(min_size=8, max_size=8),
        amount_fen=st.integers(0, 99_999_999),
        total_purchased_fen=st.integers(0, 2**40 - 1),
        purchase_count=st.integers(1, 2**32 - 1),
        landed_at_s=st.integers(0, 2**32 - 1),
    )
)
def test_a_note_goes_round_and_is_no_write_back(made: LandingNote) -> None:
    body = note_body_of(made)
    assert len(body) == BODY_BYTES
    assert note_of(body) == made
    assert write_back_of(body) is None


@given(st.binary(max_size=60).map(lambda rest: b"\x54" + rest))
def test_any_bytes_are_a_note_or_nothing(raw: bytes) -> None:
    made = note_of(raw)
    assert made is None or note_body_of(made)[2:31] == raw[2:31]
