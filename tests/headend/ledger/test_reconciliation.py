"""The judgement alone: what looks and books may say about each other."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headend.domain.reconciliation import (
    DifferenceKind,
    Doubtful,
    Expected,
    Finding,
    Registers,
    classify,
    pair_wrong_meters,
)

D = DifferenceKind
AMOUNTS = st.integers(1, 5_000_000)
OPEN_50 = Doubtful((5_000,), is_open=True)
BURNING_50 = Doubtful((5_000, 0), is_open=True)
LANDED_50 = Doubtful((5_000,), is_open=False)


def expected(*doubtful: Doubtful, escalated: bool = False) -> Expected:
    """Opened at 3 and 100.00; since then two sales of 50.00 are certain."""
    return Expected(
        opening=Registers(3, 10_000),
        certain=Registers(5, 20_000),
        doubtful=doubtful,
        escalated=escalated,
    )


@pytest.mark.parametrize(
    ("count", "total_fen", "books", "kind"),
    [
        (5, 20_000, expected(), None),
        (6, 25_000, expected(), D.FOREIGN_PURCHASE),
        (5, 20_001, expected(), D.FOREIGN_PURCHASE),
        (6, 20_000, expected(), D.FOREIGN_PURCHASE),
        (4, 15_000, expected(), D.ROLLBACK),
        (5, 19_999, expected(), D.ROLLBACK),
        (6, 15_000, expected(), D.ROLLBACK),
        (0, 0, expected(), D.RESET),
        (5, 0, expected(), D.RESET),
        (2, 20_000, expected(), D.RESET),
        # Only one of the two is shown.
        (None, 20_000, expected(), None),
        (5, None, expected(), None),
        (None, 25_000, expected(), D.FOREIGN_PURCHASE),
        (4, None, expected(), D.ROLLBACK),
        # A sale is open: it may have landed or not.
        (5, 20_000, expected(OPEN_50), None),
        (6, 25_000, expected(OPEN_50), D.IN_FLIGHT),
        (6, 25_001, expected(OPEN_50), D.FOREIGN_PURCHASE),
        (7, 25_000, expected(OPEN_50), D.FOREIGN_PURCHASE),
        (6, 20_000, expected(OPEN_50), D.FOREIGN_PURCHASE),
        (6, 20_000, expected(BURNING_50), D.IN_FLIGHT),
        # The look was before its posting.
        (5, 20_000, expected(LANDED_50), None),
        (6, 25_000, expected(LANDED_50), None),
        (6, 25_000, expected(LANDED_50, OPEN_50), None),
        (7, 30_000, expected(LANDED_50, OPEN_50), D.IN_FLIGHT),
        (5, 20_000, expected(escalated=True), D.ESCALATED),
        (9, 90_000, expected(escalated=True), D.ESCALATED),
    ],
)
def test_each_story_has_its_name(
    count: int | None, total_fen: int | None, books: Expected, kind: DifferenceKind | None
) -> None:
    found = classify(Registers(count, total_fen), books)
    assert (found.kind if found else None) is kind


def test_a_meter_whose_books_begin_at_zero_is_not_reset_by_being_new() -> None:
    books = Expected(opening=Registers(0, 0), certain=Registers(0, 0))
    assert classify(Registers(0, 0), books) is None


@given(
    opening=st.tuples(st.integers(0, 60_000), st.integers(0, 10**9)),
    certain=st.lists(AMOUNTS, max_size=4),
    later=st.lists(AMOUNTS, max_size=3),
    in_the_look=st.integers(0, 3),
    last_is_open=st.booleans(),
)
def test_honest_meters_never_differ_whenever_they_are_looked_at(
    opening: tuple[int, int],
    certain: list[int],
    later: list[int],
    in_the_look: int,
    last_is_open: bool,
) -> None:
    landed = later[: min(in_the_look, len(later))]
    doubtful = [Doubtful((amount,), is_open=False) for amount in later]
    if doubtful and last_is_open:
        doubtful[-1] = Doubtful((later[-1],), is_open=True)
    books = Expected(
        opening=Registers(*opening),
        certain=Registers(opening[0] + len(certain), opening[1] + sum(certain)),
        doubtful=doubtful,
    )
    look = Registers(
        opening[0] + len(certain) + len(landed), opening[1] + sum(certain) + sum(landed)
    )
    found = classify(look, books)
    if found is not None:
        assert found.kind is D.IN_FLIGHT
        assert last_is_open
        assert len(landed) == len(later)


@given(
    count_step=st.integers(-3, 3),
    fen_step=st.integers(-10_000, 10_000),
    amount_fen=AMOUNTS,
    is_open=st.booleans(),
)
def test_nothing_but_the_doubtful_sale_explains_a_step(
    count_step: int, fen_step: int, amount_fen: int, is_open: bool
) -> None:
    assume((count_step, fen_step) not in ((0, 0), (1, amount_fen)))
    books = expected(Doubtful((amount_fen,), is_open=is_open))
    found = classify(Registers(5 + count_step, 20_000 + fen_step), books)
    assert found is not None
    assert found.kind in (D.FOREIGN_PURCHASE, D.ROLLBACK, D.RESET)
    assert (found.ahead_count, found.ahead_fen) == (count_step, fen_step)


def finding(kind: DifferenceKind, count: int | None, fen: int | None) -> Finding:
    return Finding(kind, count, fen, "as found")


def test_two_that_mirror_each_other_are_a_wrong_meter() -> None:
    paired = pair_wrong_meters(
        {
            1: finding(D.FOREIGN_PURCHASE, 1, 5_000),
            2: finding(D.ROLLBACK, -1, -5_000),
            3: finding(D.FOREIGN_PURCHASE, 1, 7_000),
        }
    )
    assert [paired[meter].kind for meter in (1, 2, 3)] == [
        D.WRONG_METER,
        D.WRONG_METER,
        D.FOREIGN_PURCHASE,
    ]
    assert "meter number 2" in paired[1].detail


@pytest.mark.parametrize(
    "others",
    [
        {3: finding(D.FOREIGN_PURCHASE, 1, 5_000)},  # which of the two has it?
        {3: finding(D.ROLLBACK, -1, -5_000)},
    ],
)
def test_nobody_is_named_by_a_guess(others: dict[int, Finding]) -> None:
    found = {
        1: finding(D.FOREIGN_PURCHASE, 1, 5_000),
        2: finding(D.ROLLBACK, -1, -5_000),
    } | others
    assert pair_wrong_meters(found) == found


def test_what_only_half_mirrors_is_left_as_it_is() -> None:
    found = {
        1: finding(D.FOREIGN_PURCHASE, 1, 5_000),
        2: finding(D.ROLLBACK, -2, -5_000),
        4: finding(D.FOREIGN_PURCHASE, None, 900),
        5: finding(D.ROLLBACK, None, -900),
    }
    assert pair_wrong_meters(found) == found
