"""The second person: who approves is somebody else in flesh, not another account of who asks."""

from __future__ import annotations

from headend.domain.commands import Rejected, Why
from headend.domain.ledger import SECOND_PERSON_ABOVE_FEN
from headend.domain.money import yuan
from headend.store import people
from headend.store.database import Transaction


async def same_person(
    tx: Transaction, operator_id: int, approver_id: int | None
) -> Rejected | None:
    """The refusal when an approver is who asks, by whichever account; None when that is fine."""
    if approver_id is None or not await people.is_same_person(tx, operator_id, approver_id):
        return None
    return Rejected(Why.SAME_PERSON)


async def second_person(
    tx: Transaction, amount_fen: int, operator_id: int, approver_id: int | None
) -> Rejected | None:
    """The refusal when a second person is missing for this much money, or is the first one."""
    if amount_fen > SECOND_PERSON_ABOVE_FEN and approver_id is None:
        return Rejected(
            Why.SECOND_PERSON_NEEDED,
            f"{yuan(amount_fen)} yuan are more than {yuan(SECOND_PERSON_ABOVE_FEN)}",
        )
    return await same_person(tx, operator_id, approver_id)
