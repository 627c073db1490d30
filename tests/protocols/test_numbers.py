from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.numbers import Kind, bcd_digits, dial_time, weekday_agrees


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (Kind.U16, "0900", 2304),
        (Kind.U16, "fffe", 65534),
        (Kind.U16, "ffff", None),
        (Kind.I16, "fffe", -2),
        (Kind.I16, "7fff", None),
        (Kind.I16, "8000", None),
        (Kind.U32, "0012d687", 1234567),  # high word first
        (Kind.U32, "ffffffff", None),
        (Kind.I32, "fffffffe", -2),
        (Kind.I32, "7fffffff", None),
        (Kind.I32, "80000000", None),
    ],
)
def test_registers_are_high_word_first_and_may_be_empty(
    kind: Kind, raw: str, value: int | None
) -> None:
    assert kind.decode(bytes.fromhex(raw)) == value


@given(st.integers(0, 10**12 - 1))
def test_bcd_reads_what_is_printed_on_the_meter(number: int) -> None:
    printed = f"{number:012d}"
    assert bcd_digits(bytes.fromhex(printed)) == printed


@given(st.binary(min_size=6, max_size=6))
def test_bcd_with_one_wrong_nibble_is_no_number(raw: bytes) -> None:
    wrong = any(byte >> 4 > 9 or byte & 15 > 9 for byte in raw)
    assert (bcd_digits(raw) is None) == wrong


@pytest.mark.parametrize(
    "fields",
    [(25, 13, 1, 0, 0, 0), (25, 2, 29, 0, 0, 0), (25, 1, 1, 24, 0, 0), (100, 1, 1, 0, 0, 0)],
)
def test_a_dial_that_shows_no_date_has_no_time(fields: tuple[int, ...]) -> None:
    assert dial_time(bytes(fields)) is None


def test_a_dial_is_naive_time() -> None:
    dial = dial_time(bytes((25, 3, 14, 10, 20, 30)))
    assert dial == datetime(2025, 3, 14, 10, 20, 30)  # noqa: DTZ001  a dial has no zone


@pytest.mark.parametrize(
    ("day", "bytes_that_fit"),
    [(14, {5, 6}), (16, {0, 1, 7})],  # a Friday and a Sunday of March 2025
)
def test_a_weekday_fits_in_any_numbering_in_use(day: int, bytes_that_fit: set[int]) -> None:
    dial = datetime(2025, 3, day)  # noqa: DTZ001  a dial has no zone
    assert {byte for byte in range(256) if weekday_agrees(dial, byte)} == bytes_that_fit
