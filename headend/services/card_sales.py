"""Steps that every way of a card sale shares."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid5

from headend.domain.card_issues import CardIssue
from headend.domain.cards import CardNo, CardWhy
from headend.domain.commands import CommandState
from headend.domain.purchases import Sale, SaleState
from headend.services import settling
from headend.services.settling import Proof
from headend.store import cards, ledger, sales
from headend.store.database import Transaction

#: orders whose own proof is waited for
IN_FLIGHT = frozenset(
    {CommandState.CLAIMED, CommandState.SENT, CommandState.UNKNOWN, CommandState.ESCALATED}
)


async def land(tx: Transaction, sale: Sale, proof: Proof) -> None:
    """The sale is in the meter by another proof than an order's: its money is spent."""
    reserved = await ledger.pending_of_sale(tx, sale.sale_id)
    assert reserved is not None, "an open sale has its money reserved"
    await sales.close(tx, sale.sale_id, SaleState.LANDED, proof.at)
    await cards.sale_ended(tx, sale.sale_id, proof.at, "its meter has read it")
    await ledger.post(tx, reserved.transfer_id, at=proof.at)
    await settling.light_again(
        tx,
        sale.meter_id,
        proof,
        restore_id=uuid5(sale.sale_id, "restore"),
        ordered_by=reserved.operator_id,
        cause_id=None,
    )


async def give(tx: Transaction, serial: bytes, meter_id: int, at: datetime) -> CardNo | None:
    """The card is this meter's, or becomes it."""
    card = await cards.card(tx, serial)
    if card is None:
        return CardNo(CardWhy.NOT_ISSUED, "it is not in the books: make it ours first")
    if card.ended_at is not None:
        return CardNo(CardWhy.REVOKED, f"the card was ended: {card.end_reason}")
    if card.meter_id == meter_id:
        await cards.free_card(tx, serial, at)
        return None
    mine = await cards.card_of_meter(tx, meter_id)
    if mine is not None:
        return CardNo(CardWhy.NOT_ISSUED, f"this meter's card is {mine.serial.hex()}")
    if not await cards.give_card(tx, serial, meter_id, at):
        return CardNo(CardWhy.NOT_ISSUED, "it was given for another meter")
    return None


async def again(tx: Transaction, issue_id: UUID) -> CardIssue:
    """The issue as it is now."""
    issue = await cards.find(tx, issue_id)
    assert issue is not None
    return issue
