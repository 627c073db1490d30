"""The terminal's frames, dribbled and in noise; what it may sell alone, and how that is merged."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headend.domain.islands import Clash, IslandBooks, SoldAs, judge_island
from protocols.terminal import (
    BODY_BYTES_MAX,
    BadBody,
    FrameType,
    TerminalFrame,
    TerminalReader,
    fields_of,
    frame,
    message,
)
from protocols.terminal_island import (
    FIRST_MAC,
    Cap,
    IslandSale,
    cap_body,
    is_genuine,
    log_key,
    record_of,
    sale_mac,
    sale_of,
)

VECTORS = (
    ("52460600010000bfa3", TerminalFrame(FrameType.ALIVE, 1, b"")),
    ("524610000700030103009920", TerminalFrame(FrameType.LINE, 7, b"\x01\x03\x00")),
)


def read(*pieces: bytes) -> list[TerminalFrame]:
    reader, found = TerminalReader(), []
    for piece in pieces:
        reader.receive_data(piece)
        while (event := reader.next_event()) is not None:
            found.append(event)
    return found


@pytest.mark.parametrize(("text", "meaning"), VECTORS)
@pytest.mark.parametrize("noise", [b"", b"\0", b"R", b"RF", b"\xff\x52", b"RF\x06\0\x01\xff\xff"])
def test_frames_both_ways_whole_dribbled_and_in_noise(
    text: str, meaning: TerminalFrame, noise: bytes
) -> None:
    raw = bytes.fromhex(text)
    assert frame(meaning.type, meaning.sequence, meaning.body) == raw
    assert read(noise + raw + noise + raw)[:1] == [meaning]
    stream = noise + raw + raw  # the noise may swallow the first one
    assert read(*(stream[at : at + 1] for at in range(len(stream))))[-1:] == [meaning]


def test_noise_that_looks_like_a_long_frame_gives_way() -> None:
    """A mark and a length, then nothing: the next frames must not wait for ever."""
    good = message(FrameType.TAP, 3, serial="deadbeef00000000")
    lying = b"RF\x20\0\x01\0\x20"
    assert [one.type for one in read(lying, *([good] * 3))] == [FrameType.TAP] * 3


def test_an_unknown_type_is_stepped_over() -> None:
    raw = bytearray(message(FrameType.TAP, 1, a=1))
    raw[2] = 0x7F
    import fastcrc

    raw[-2:] = fastcrc.crc16.modbus(bytes(raw[:-2])).to_bytes(2, "little")
    good = message(FrameType.TAP, 2, a=1)
    assert [one.sequence for one in read(bytes(raw) + good)] == [2]


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_any_bytes_give_frames_or_nothing_in_bounded_memory(pieces: list[bytes]) -> None:
    reader = TerminalReader()
    for piece in pieces:
        reader.receive_data(piece)
        while (event := reader.next_event()) is not None:
            with contextlib.suppress(BadBody):
                fields_of(event)
    assert len(reader._held) <= BODY_BYTES_MAX + 9


@given(
    st.sampled_from(FrameType),
    st.integers(0, 65535),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20), max_size=5),
)
def test_messages_go_round(kind: FrameType, sequence: int, fields: dict[str, object]) -> None:
    (got,) = read(message(kind, sequence, **fields))
    assert (got.type, got.sequence, fields_of(got)) == (kind, sequence, fields)


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"1", b"{"])
def test_a_bad_body_is_told(body: bytes) -> None:
    with pytest.raises(BadBody):
        fields_of(TerminalFrame(FrameType.TAP, 1, body))
    with pytest.raises(ValueError, match="at most"):
        frame(FrameType.LINE, 1, bytes(BODY_BYTES_MAX + 1))


# --- the island ---

CAP = Cap(
    number=3,
    terminal="T1",
    day="2026-03-20",
    card_fen=10_000,
    total_fen=15_000,
    first_sequence=100,
    valid_until_s=2_000,
    key_version=1,
)
KEY = log_key(b"terminal secret!")
PLAIN = IslandSale(
    sequence=100, cap=3, at_s=1_500, serial=b"CARD0001", meter_number="000000000101",
    purchase_count=7, amount_fen=5_000, after_count=7, after_total_fen=9_000,
)  # fmt: skip
SALE = replace(PLAIN, mac=sale_mac(KEY, FIRST_MAC, PLAIN))
BOOKS = IslandBooks(
    next_sequence=100, genuine=True, cap=CAP, cap_issued_at_s=1_000, now_s=3_000, to_card_fen=0,
    total_fen=0, meter_is_here=True,
    sold=SoldAs(amount_fen=5_000, burned=False, serials=frozenset({b"CARD0001"})),
)  # fmt: skip


@pytest.mark.parametrize(
    ("sale", "books", "clash"),
    [
        ({}, {}, None),
        ({"sequence": 101}, {}, Clash.GAP),
        ({"sequence": 99}, {}, Clash.CHANGED),
        ({}, {"genuine": False, "cap": None}, Clash.FORGED),
        ({}, {"cap": None}, Clash.NO_CAP),
        ({}, {"cap": replace(CAP, first_sequence=101)}, Clash.NO_CAP),
        ({"amount_fen": 0}, {}, Clash.NO_CAP),
        ({"at_s": 1_999}, {}, None),
        ({"at_s": 2_000}, {}, Clash.CAP_EXPIRED),
        ({"at_s": 399}, {}, Clash.CLOCK),
        ({"at_s": 1_999}, {"now_s": 1_398}, Clash.CLOCK),
        ({}, {"to_card_fen": 5_001}, Clash.OVER_CARD),
        ({}, {"to_card_fen": 5_000, "total_fen": 10_000}, None),
        ({}, {"total_fen": 10_001}, Clash.OVER_TOTAL),
        ({}, {"meter_is_here": False, "sold": None}, Clash.NO_METER),
        ({}, {"sold": None}, Clash.NOT_SOLD),
        ({"amount_fen": 4_999}, {}, Clash.COUNT_TAKEN),
        ({"serial": b"CARD0002"}, {}, Clash.WRONG_CARD),
    ],
)
def test_what_does_not_fit_is_named(
    sale: dict[str, object], books: dict[str, object], clash: Clash | None
) -> None:
    told = replace(SALE, **sale)  # type: ignore[arg-type]
    assert judge_island(told, replace(BOOKS, **books)) is clash  # type: ignore[arg-type]


def test_a_burned_count_is_taken() -> None:
    assert BOOKS.sold is not None
    burned = replace(BOOKS, sold=replace(BOOKS.sold, burned=True))
    assert judge_island(SALE, burned) is Clash.COUNT_TAKEN


def test_a_record_goes_round_and_its_mac_covers_everything() -> None:
    assert sale_of(record_of(SALE)) == SALE
    assert is_genuine(KEY, FIRST_MAC, SALE)
    changes = {
        "sequence": 101, "cap": 4, "at_s": 1, "serial": b"CARD0002",
        "meter_number": "000000000102", "purchase_count": 8, "amount_fen": 5_001,
        "after_count": None, "after_total_fen": None,
    }  # fmt: skip
    for name, value in changes.items():
        assert not is_genuine(KEY, FIRST_MAC, replace(SALE, **{name: value})), name  # type: ignore[arg-type]
    assert not is_genuine(KEY, b"\1" * 16, SALE), "it follows another record"
    assert not is_genuine(log_key(b"another secret!!"), FIRST_MAC, SALE)


@given(
    st.dictionaries(
        st.sampled_from(sorted(record_of(SALE))),
        st.none() | st.integers() | st.text(max_size=20) | st.booleans() | st.floats(),
    )
)
def test_any_fields_are_a_record_or_a_bad_body(changes: dict[str, object]) -> None:
    with contextlib.suppress(BadBody):
        again = sale_of(record_of(SALE) | changes)
        assert sale_of(record_of(again)) == again
        sale_mac(KEY, FIRST_MAC, again)


def test_the_bytes_of_a_cap() -> None:
    body = cap_body(CAP)
    assert int.from_bytes(body[:4], "big") == 15_000, "what the key service counts"
    changes: tuple[dict[str, object], ...] = (
        {"card_fen": 1}, {"day": "2026-03-21"}, {"terminal": "T2"}, {"first_sequence": 1},
        {"number": 4}, {"valid_until_s": 1}, {"key_version": 2},
    )  # fmt: skip
    made = {cap_body(replace(CAP, **one)) for one in changes}  # type: ignore[arg-type]
    assert len(made | {body}) == 8
    with pytest.raises(ValueError, match="terminal"):
        cap_body(replace(CAP, terminal=""))
