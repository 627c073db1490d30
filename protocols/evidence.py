"""Did the top-up happen? Pure judgement over two looks at the meter."""

from __future__ import annotations

import enum

from protocols.exchange import Evidence


class Verdict(enum.Enum):
    """What two looks at a meter say about one top-up."""

    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    UNCLEAR = "unclear"  # witnesses are missing or disagree: a person decides


def judge(before: Evidence, after: Evidence, amount_fen: int) -> Verdict:
    """Counts first, totals second, remaining credit never: it moves while we look.

    An amount of 0 burns the count. That the total stands still proves nothing then, and the count
    alone may have moved for a copy of the purchase that was to be burned: both must be known.
    """
    assert amount_fen >= 0
    votes = set()
    if before.purchase_count is not None and after.purchase_count is not None:
        votes.add(_vote(after.purchase_count - before.purchase_count, 1))
    if before.total_purchased_fen is not None and after.total_purchased_fen is not None:
        step_fen = after.total_purchased_fen - before.total_purchased_fen
        if amount_fen:
            votes.add(_vote(step_fen, amount_fen))
        elif step_fen:
            votes.add(Verdict.UNCLEAR)
    elif not amount_fen and votes == {Verdict.APPLIED}:
        return Verdict.UNCLEAR
    return votes.pop() if len(votes) == 1 else Verdict.UNCLEAR


def _vote(step: int, step_if_applied: int) -> Verdict:
    if step == step_if_applied:
        return Verdict.APPLIED
    return Verdict.NOT_APPLIED if step == 0 else Verdict.UNCLEAR
