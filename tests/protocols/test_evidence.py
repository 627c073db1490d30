"""Did the money arrive? Every combination of witnesses."""

from __future__ import annotations

import pytest

from protocols.evidence import Verdict, judge
from protocols.exchange import Evidence

APPLIED, NOT_APPLIED, UNCLEAR = Verdict.APPLIED, Verdict.NOT_APPLIED, Verdict.UNCLEAR
BEFORE = Evidence(purchase_count=3, total_purchased_fen=700, remaining_credit_fen=100)


@pytest.mark.parametrize(
    ("count", "total_fen", "topped_up", "burned"),
    [
        (4, 5700, APPLIED, UNCLEAR),  # of a burn: a copy of the purchase landed instead
        (3, 700, NOT_APPLIED, NOT_APPLIED),
        (4, 700, UNCLEAR, APPLIED),
        (3, 5700, UNCLEAR, UNCLEAR),
        (4, 1400, UNCLEAR, UNCLEAR),  # another amount under this count
        (5, 5700, UNCLEAR, UNCLEAR),  # two purchases
        (2, 700, UNCLEAR, UNCLEAR),  # a roll-back
        (0, 0, UNCLEAR, UNCLEAR),  # an exchanged or cleared meter
        (4, None, APPLIED, UNCLEAR),  # a count alone does not tell a burn from a purchase
        (3, None, NOT_APPLIED, NOT_APPLIED),
        (None, 5700, APPLIED, UNCLEAR),
        (None, 700, NOT_APPLIED, UNCLEAR),
        (None, None, UNCLEAR, UNCLEAR),
    ],
)
def test_count_and_total_are_witnesses(
    count: int | None, total_fen: int | None, topped_up: Verdict, burned: Verdict
) -> None:
    for credit_fen in (None, 100, 5100):  # never asked: it moves while we look
        after = Evidence(count, total_fen, credit_fen)
        assert judge(BEFORE, after, 5000) is topped_up
        assert judge(BEFORE, after, 0) is burned
