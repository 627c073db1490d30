"""Records and their bytes, both ways; any bytes are a record or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card_image import (
    AMOUNT_AT,
    BODY_BYTES,
    CardKind,
    CardReason,
    CardRecord,
    Copy,
    WriteBack,
    body_of,
    commit_of,
    record_of,
    up_body_of,
    write_back_of,
    zone_of,
)
from protocols.card_virtual import TEXT_LETTERS, record_of_text, text_of
from simulators import card_meter
from tests.protocols.cards.desk import purchase

DIGITS = st.text("0123456789", min_size=12, max_size=12)
SERIALS = st.binary(min_size=8, max_size=8)
U16, U32 = st.integers(1, 0xFFFF), st.integers(1, 0xFFFFFFFF)

PURCHASES = st.builds(
    CardRecord,
    kind=st.sampled_from(
        [CardKind.OPENING, CardKind.PURCHASE, CardKind.REPLACEMENT, CardKind.MAKE_UP]
    ),
    key_version=U16,
    meter_number=DIGITS,
    customer_number=DIGITS,
    serial=SERIALS,
    issue_number=U32,
    amount_fen=st.integers(1, 99_999_999),
    purchase_count=st.integers(1, 0xFFFE),
)
BEARERS = st.builds(
    CardRecord,
    kind=st.just(CardKind.PARAMETER),
    key_version=U16,
    meter_number=DIGITS,
    customer_number=DIGITS,
    serial=SERIALS,
    issue_number=U32,
    alarm_1_fen=st.integers(0, 99_999_999),
    alarm_2_fen=st.integers(0, 99_999_999),
    valid_until_s=U32,
)
BACKS = st.builds(
    WriteBack,
    key_version=U16,
    meter_number=DIGITS,
    serial=SERIALS,
    remaining_credit_fen=st.integers(-(2**31), 2**31 - 1),
    total_purchased_fen=st.integers(0, 2**40 - 1),
    purchase_count=st.integers(0, 0xFFFFFFFF),
    reason=st.sampled_from(CardReason),
    illegal_cards=st.integers(0, 255),
    written_at_s=st.integers(0, 0xFFFFFFFF),
)


def test_the_bytes_of_a_purchase() -> None:
    record = purchase(bytes.fromhex("deadbeef00000000"), count=7, fen=5000)
    assert body_of(record).hex() == (
        "4802" "0001" "000000000101" "000000000001" "deadbeef00000000"
        "00001388" "00000007" "00000007" "00000000"
    )  # fmt: skip
    assert body_of(record)[AMOUNT_AT : AMOUNT_AT + 4] == (5000).to_bytes(4, "big")


@given(st.one_of(PURCHASES, BEARERS))
def test_a_record_goes_round(record: CardRecord) -> None:
    assert len(body_of(record)) == BODY_BYTES
    assert record_of(body_of(record)) == record


@given(BACKS)
def test_a_write_back_goes_round(back: WriteBack) -> None:
    assert len(up_body_of(back)) == BODY_BYTES
    assert write_back_of(up_body_of(back)) == back


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record_or_nothing(raw: bytes) -> None:
    for first in (raw, b"\x48" + raw, b"\x57" + raw):
        record_of(first)
        write_back_of(first)
    record_of_text(raw.decode("latin-1"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"meter_number": "12345"},
        {"meter_number": "１２３４５６７８９０１２"},
        {"serial": b"short"},
        {"key_version": 0},
        {"amount_fen": 0},
        {"amount_fen": 100_000_000},
        {"purchase_count": 0},
        {"purchase_count": 0xFFFF},
        {"issue_number": 0},
        {"valid_until_s": 5},
        {"alarm_1_fen": 1},
        {"kind": CardKind.REFUND},
        {"kind": CardKind.CLEAR},
        {"kind": CardKind.CLEAR, "purchase_count": 0, "amount_fen": 0},
        {"kind": CardKind.CLEAR, "purchase_count": 0, "valid_until_s": 9},
    ],
)
def test_cards_that_are_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"card|digits|serial|amount|number"):
        replace(purchase(bytes(8)), **wrong)  # type: ignore[arg-type]


def test_a_reason_no_word_is_for() -> None:
    raw = bytearray(bytes((0x57, 200)) + b"\0\1" + bytes(36))
    back = write_back_of(bytes(raw))
    assert back is not None
    assert back.reason is CardReason.UNKNOWN


def test_the_newer_whole_copy_counts_also_where_generations_wrap() -> None:
    def copy(byte: int, generation: int) -> Copy:
        record = bytes((byte,)) * 48
        return Copy(record, commit_of(record, generation))

    torn = Copy(bytes(48), commit_of(b"x" * 48, 9))
    assert zone_of(torn, torn).record is None
    assert zone_of(copy(1, 1), torn).next_copy == 1
    assert zone_of(torn, copy(2, 1)).next_copy == 0
    assert zone_of(copy(1, 5), copy(2, 6)).record == b"\2" * 48
    wrapped = zone_of(copy(1, 0), copy(2, 0xFFFF))
    assert wrapped.record == b"\1" * 48
    assert wrapped.next_generation == 1


def test_any_flipped_bit_of_a_copy_is_found() -> None:
    record = bytes(range(48))
    commit = commit_of(record, 3)
    whole = record + commit
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        assert (
            zone_of(Copy(bytes(changed[:48]), bytes(changed[48:])), Copy(b"", b"")).record is None
        )


def test_the_simulated_meter_knows_the_same_words() -> None:
    """It is written apart; the table in docs/card-format.md is the one truth."""
    for reason in CardReason:
        if reason is not CardReason.UNKNOWN:
            assert getattr(card_meter, reason.name) == reason.value
    for kind in CardKind:
        assert getattr(card_meter, kind.name) == kind.value


@given(st.binary(min_size=48, max_size=48), st.data())
def test_a_purchase_as_text(record: bytes, data: st.DataObject) -> None:
    text = text_of(record)
    assert record_of_text(text) == record
    assert record_of_text(text.lower().replace("-", " ").replace("0", "o")) == record
    letters = text.replace("-", "")
    assert len(letters) == TEXT_LETTERS
    at = data.draw(st.integers(0, len(letters) - 1))
    other = "7" if letters[at] != "7" else "8"
    assert record_of_text(letters[:at] + other + letters[at + 1 :]) is None
