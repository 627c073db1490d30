"""Cards whose holder may use them: parameter, preset, clear, check. Numbered, dated, logged.

Two persons in flesh for each that changes a meter (the database insists). A number is never given
twice, an end is at most a month away, and a meter obeys each number once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from headend.domain.card_issues import CardIssue, IssueState
from headend.domain.cards import TWO_PERSONS
from headend.domain.clock import Clock
from headend.domain.commands import Rejected, Why
from headend.domain.money import yuan
from headend.services.cards import CardDesk
from headend.services.persons import same_person
from headend.store import cards
from headend.store.cards import NewIssue
from headend.store.database import Transaction
from protocols.card_image import AMOUNT_FEN_MAX, BEARER_KINDS, CardKind

DAYS_MAX = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class BearerWish:
    """A card for one meter, or for every meter of the area (meter_id None)."""

    issue_id: UUID
    serial: bytes
    kind: CardKind
    key_version: int
    operator_id: int
    reason: str
    days: int
    approver_id: int | None = None
    meter_id: int | None = None
    amount_fen: int = 0  # of PRESET
    alarm_1_fen: int = 0  # of PARAMETER
    alarm_2_fen: int = 0


class CardBearers:
    """Issues and revokes them."""

    def __init__(self, clock: Clock, desk: CardDesk) -> None:
        self._clock = clock
        self._desk = desk

    async def issue(self, tx: Transaction, wish: BearerWish) -> CardIssue | Rejected:
        """Number one. The card itself is written after this, and called issued after that."""
        known = await cards.find(tx, wish.issue_id)
        if known is not None:
            return known
        refused = self._refused(wish) or await same_person(tx, wish.operator_id, wish.approver_id)
        if refused is not None:
            return refused
        card = await cards.card(tx, wish.serial)
        if card is None or card.ended_at is not None or card.meter_id is not None:
            return Rejected(
                Why.NOT_NOW, "the card is not in the books, has ended, or is a tenant's"
            )
        at = self._clock.now()
        return await cards.begin(
            tx,
            NewIssue(
                issue_id=wish.issue_id,
                serial=wish.serial,
                kind=wish.kind,
                meter_id=wish.meter_id,
                sale_id=None,
                purchase_count=None,
                amount_fen=wish.amount_fen,
                key_version=wish.key_version,
                issued_by=wish.operator_id,
                approved_by=wish.approver_id,
                reason=wish.reason,
                valid_until=at + timedelta(days=wish.days),
                alarm_1_fen=wish.alarm_1_fen,
                alarm_2_fen=wish.alarm_2_fen,
                at=at,
            ),
        )

    def _refused(self, wish: BearerWish) -> Rejected | None:
        if wish.kind not in BEARER_KINDS or not wish.reason.strip():
            return Rejected(Why.NOT_NOW, "a bearer card has such a kind, and a reason")
        if not 1 <= wish.days <= DAYS_MAX:
            return Rejected(Why.NOT_NOW, f"it is good for 1 to {DAYS_MAX} days")
        if wish.kind in TWO_PERSONS and wish.approver_id is None:
            return Rejected(Why.SECOND_PERSON_NEEDED, wish.kind.name.lower())
        return _amounts_refused(wish)

    async def revoke(self, tx: Transaction, issue_id: UUID, reason: str) -> CardIssue | Rejected:
        """The number is not to be accepted any more. Meters that cannot be told need a new key
        version; the books say so from here on, whatever a meter does."""
        issue = await cards.find(tx, issue_id, lock=True)
        if issue is None or issue.kind not in BEARER_KINDS:
            return Rejected(Why.NOT_NOW, "there is no such bearer card")
        if issue.state is not IssueState.ISSUED:
            return Rejected(Why.NOT_NOW, f"it is {issue.state.value}")
        await cards.move(tx, issue_id, IssueState.REVOKED, self._clock.now(), reason)
        found = await cards.find(tx, issue_id)
        assert found is not None
        return found


def _amounts_refused(wish: BearerWish) -> Rejected | None:
    if (wish.kind is CardKind.PRESET) != bool(wish.amount_fen):
        return Rejected(Why.AMOUNT_OUT_OF_RANGE, "a preset card carries an amount, no other")
    amounts = (wish.amount_fen, wish.alarm_1_fen, wish.alarm_2_fen)
    if not all(0 <= fen <= AMOUNT_FEN_MAX for fen in amounts):
        return Rejected(Why.AMOUNT_OUT_OF_RANGE, f"0 to {yuan(AMOUNT_FEN_MAX)} yuan")
    return None
