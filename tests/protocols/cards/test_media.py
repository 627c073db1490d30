"""Every medium: from a blank card to a credited meter, pulled anywhere and never mixed."""

from __future__ import annotations

import pytest

from protocols.card_apdu import (
    BlankCard,
    CardGone,
    CardSpent,
    KeyNo,
    NotOurCard,
)
from protocols.card_desk import (
    ANY_METER,
    Seal,
    clear_card,
    read_card,
    seal,
    write_card,
)
from protocols.card_image import CardKind, CardRecord, body_of
from protocols.key_call import Purpose
from simulators import card_meter
from simulators.cards import LogicCard, RfCard
from tests.protocols.cards.desk import (
    FAMILIES,
    ISSUER,
    NEW_SERIAL,
    Family,
    Keys,
    do,
    meter,
    purchase,
    read,
)

EACH = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
MADE_HERE = pytest.mark.parametrize(
    "family", [f for f in FAMILIES if not f.blank_is_ours], ids=lambda family: family.name
)


@EACH
def test_money_goes_from_the_desk_to_the_meter_and_the_proof_comes_back(family: Family) -> None:
    card, first = family.sold(count=1, fen=5000)
    at_home = meter(serial=first.serial)
    assert read(family.medium, card).is_taken is False
    assert at_home.hold(card) == card_meter.DONE
    assert at_home.hold(card) == card_meter.ALREADY, "held again, it credits nothing"
    seen = read(family.medium, card)
    assert seen.is_taken
    assert (seen.seal, seen.back_seal) == (Seal.GOOD, Seal.GOOD)
    assert seen.back is not None
    assert (seen.back.purchase_count, seen.back.remaining_credit_fen) == (1, 5000)

    second = purchase(first.serial, 2, 3000)
    assert do(card, write_card(family.medium, ISSUER, second)).record == second
    assert not read(family.medium, card).is_taken
    assert at_home.hold(card) == card_meter.DONE
    assert at_home.account.record == {1: 5000, 2: 3000}
    assert do(card, clear_card(family.medium, ISSUER)).record is None


@MADE_HERE
def test_a_blank_card_becomes_ours(family: Family) -> None:
    card = family.fresh()
    with pytest.raises(BlankCard):
        do(card, read_card(family.medium, ISSUER))
    assert card.writes == 0
    card, serial = family.ours()
    assert serial == (NEW_SERIAL if family.name != "rf_card" else b"\xde\xad\xbe\xef\0\0\0\0")
    seen = read(family.medium, card)
    assert (seen.record, seen.back, seen.back_written) == (None, None, False)


def test_no_sector_keeps_a_factory_key() -> None:
    card, _ = FAMILIES[0].ours()
    assert isinstance(card, RfCard)
    trailers = [card.memory[at + 48 : at + 64] for at in range(0, 1024, 64)]
    keys = [bytes(t[:6]) for t in trailers] + [bytes(t[10:]) for t in trailers]
    assert len(set(keys)) == 32, "each sector has two keys of its own"
    assert b"\xff" * 6 not in keys


@EACH
@pytest.mark.parametrize("how", ["pulled", "torn"])
def test_a_write_pulled_anywhere_reads_as_old_or_new_and_is_finished_by_the_next(
    family: Family, how: str
) -> None:
    card, old = family.sold(count=1, fen=5000)
    new = purchase(old.serial, 2, 7000)
    held, results, at = meter(serial=old.serial), set(), 0
    held.hold(card)
    while True:
        setattr(card, "pull_at" if how == "pulled" else "tear_at", at)
        try:
            do(card, write_card(family.medium, ISSUER, new))
        except CardGone:
            card.inserted_again()
            seen = read(family.medium, card)
            assert seen.record in (old, new), at
            assert seen.seal is Seal.GOOD
            results.add(seen.record == new)
        else:
            break
        finally:
            card.inserted_again()
        assert do(card, write_card(family.medium, ISSUER, new)).record == new, at
        # Back to where it was, for the next place to pull it.
        do(card, write_card(family.medium, ISSUER, old))
        held.write_back_on(card, body_of(old), card_meter.DONE)
        card.inserted_again()
        at += 1
    assert results == {True, False}, "it was pulled both before and after the commit"
    assert at > 10


@EACH
def test_a_card_pulled_while_it_is_cleared_never_shows_something_else(family: Family) -> None:
    card, old = family.sold()
    at = 0
    while True:
        card.tear_at = at
        try:
            do(card, clear_card(family.medium, ISSUER))
        except CardGone:
            card.inserted_again()
            assert read(family.medium, card).record in (old, None)
            do(card, write_card(family.medium, ISSUER, old))
        else:
            break
        card.inserted_again()
        at += 1
    assert at > 3


@MADE_HERE
def test_a_card_pulled_while_it_is_made_is_made_again_or_refused(family: Family) -> None:
    """Never half ours: it is blank, or whole, or we say that it is spent."""
    at, ends = 0, []
    while True:
        card = family.fresh()
        card.tear_at = at
        try:
            do(card, family.medium.personalise(ISSUER, NEW_SERIAL))
        except CardGone:
            card.inserted_again()
            try:
                do(card, family.medium.personalise(ISSUER, NEW_SERIAL))
                ends.append("made")
            except CardSpent:
                ends.append("spent")
            except NotOurCard:
                read(family.medium, card)  # it was whole already
                ends.append("whole")
        else:
            break
        if isinstance(card, LogicCard):
            assert card.tries_min >= 2
        at += 1
    assert "made" in ends
    assert family.name == "logic_card" or "spent" not in ends


@EACH
def test_a_changed_record_is_a_bad_one_at_the_desk_and_in_the_meter(family: Family) -> None:
    card, record = family.sold()
    memory, at, commit_at = card_meter.slots(card, card_meter.DOWN, 0)
    forged = bytearray(memory[at : at + 48])
    forged[27] ^= 0x40  # the amount
    card_meter.write(card, card_meter.DOWN, bytes(forged))
    seen = read(family.medium, card)
    assert seen.seal is Seal.BAD
    at_home = meter(serial=record.serial)
    assert at_home.hold(card) == card_meter.BAD_MAC
    assert at_home.account.record == {}
    assert read(family.medium, card).back is None, "nothing was written on it"
    assert commit_at


@EACH
def test_a_forged_write_back_is_no_witness(family: Family) -> None:
    card, record = family.sold()
    at_home = meter(serial=record.serial)
    at_home.back_key = bytes(16)
    assert at_home.hold(card) == card_meter.DONE
    seen = read(family.medium, card)
    assert seen.back_seal is Seal.BAD
    assert not seen.is_taken


@EACH
def test_a_revoked_key_is_said_and_nothing_is_sealed_under_it(family: Family) -> None:
    card, record = family.sold()
    keys = Keys(revoked={(Purpose.RECHARGE, 1)})
    assert read(family.medium, card, keys).seal is Seal.REVOKED
    writes = card.writes
    with pytest.raises(KeyNo, match="key-stopped"):
        do(card, write_card(family.medium, ISSUER, record), keys)
    assert card.writes == writes


@EACH
def test_the_same_purchase_is_the_same_bytes(family: Family) -> None:
    record = purchase(b"12345678", 9, 1234)
    card = family.fresh()
    assert do(card, seal(ISSUER, record)) == do(card, seal(ISSUER, record))
    assert card.commands == 0


@EACH
def test_another_card_on_the_reader_is_not_written(family: Family) -> None:
    card, _ = family.sold()
    writes = card.writes
    with pytest.raises(NotOurCard, match="another card"):
        do(card, write_card(family.medium, ISSUER, purchase(b"OTHERONE", 2)))
    assert card.writes == writes


def clear_for_all(serial: bytes) -> CardRecord:
    return CardRecord(
        kind=CardKind.CLEAR,
        key_version=1,
        meter_number=ANY_METER,
        customer_number=ANY_METER,
        serial=serial,
        issue_number=77,
        valid_until_s=1_800_000_100,
    )


@EACH
def test_bearer_cards_work_once_in_time_and_never_on_what_is_copied(family: Family) -> None:
    card, serial = family.ours()
    record = clear_for_all(serial)
    if family.medium.is_copied_with_ease:
        with pytest.raises(NotOurCard, match="never made"):
            do(card, write_card(family.medium, ISSUER, record))
        assert read(family.medium, card).record is None
        return
    do(card, write_card(family.medium, ISSUER, record))
    at_home = meter()
    at_home.account.credit(1, 5000)
    at_home.now_s = 1_800_000_101
    assert at_home.hold(card) == card_meter.EXPIRED
    at_home.now_s = 1_800_000_000
    assert at_home.hold(card) == card_meter.DONE
    assert at_home.account.remaining_fen == 0
    at_home.account.credit(2, 5000)
    assert at_home.hold(card) == card_meter.ALREADY
    assert at_home.account.remaining_fen == 5000
