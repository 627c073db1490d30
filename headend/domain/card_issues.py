"""A card that was issued, under its number, and what became of it. The table below is the truth.

The same table stands in the database as a trigger (migration 0014); a test compares the two.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from protocols.card_image import CardKind


class IssueState(enum.Enum):
    """Where an issued card is."""

    PENDING = "pending"  # the count is reserved; a write may have left
    ISSUED = "issued"  # written, read back, handed out
    CLEARING = "clearing"  # it was seen unused, and is being wiped
    WIPED = "wiped"  # this copy is dead
    USED = "used"  # a meter has read it, or its sale ended another way
    LOST = "lost"  # it may still be found and used
    REVOKED = "revoked"  # a bearer card whose number or key is not accepted any more


S = IssueState
TRANSITIONS: Mapping[IssueState, frozenset[IssueState]] = {
    S.PENDING: frozenset({S.ISSUED, S.CLEARING, S.USED, S.LOST}),
    S.ISSUED: frozenset({S.CLEARING, S.USED, S.LOST, S.REVOKED}),
    S.CLEARING: frozenset({S.WIPED, S.USED, S.ISSUED, S.LOST}),
    S.LOST: frozenset({S.USED}),
    S.WIPED: frozenset(),
    S.USED: frozenset(),
    S.REVOKED: frozenset(),
}
assert set(TRANSITIONS) == set(IssueState)

#: cards that are out: whoever holds one may still use it
OUT = frozenset({S.PENDING, S.ISSUED, S.CLEARING, S.LOST})


@dataclass(frozen=True, slots=True, kw_only=True)
class CardIssue:
    """One issued card as stored."""

    issue_number: int
    issue_id: UUID
    serial: bytes
    kind: CardKind
    state: IssueState
    meter_id: int | None
    sale_id: UUID | None
    purchase_count: int | None
    amount_fen: int
    key_version: int
    valid_until: datetime | None
    alarm_1_fen: int
    alarm_2_fen: int
    issued_by: int
    approved_by: int | None
    reason: str
    begun_at: datetime
    changed_at: datetime
    note: str
