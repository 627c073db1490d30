"""Cards whose sale goes another way: moved to the line, replaced, taken back, burned.

A sale is reversed only when its one copy lies on the reader, unused, and is wiped there. With a
second copy in the world its count is burned: sent with amount 0, and the meter's registers say
which of the two arrived (spec cards_keys.md B.6, rule 5). Of a card that can be cloned nobody
knows whether a second copy is in the world, so its count is burned too, where the site says
nothing else (docs/decisions/0065-a-card-that-can-be-cloned-is-burned.md).
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid5

from headend.domain.card_issues import CardIssue, IssueState
from headend.domain.cards import CardNo, CardWhy
from headend.domain.clock import Clock
from headend.domain.commands import Accepted, CommandKind, CommandState, Rejected, Why
from headend.domain.ledger import Operation
from headend.domain.purchases import Sale, SaleState
from headend.services.card_sales import IN_FLIGHT, again, give
from headend.services.cards import CARD, CardDesk, CardSale
from headend.services.persons import second_person
from headend.store import attempts, cards, commands, ledger, sales
from headend.store.cards import Card, NewIssue
from headend.store.commands import NewCommand
from headend.store.database import Transaction
from protocols.card_desk import CardSeen
from protocols.card_image import CardKind, CardRecord
from protocols.card_media import can_be_cloned
from protocols.security_unit import SecurityUnit


class CardReturns:
    """Knows the desk and the time.

    `clones_are_taken_back`: a card that can be cloned is taken back by wiping it, as one that
    cannot; for a site whose meters no line reaches, where nothing can be burned.
    """

    def __init__(
        self, clock: Clock, desk: CardDesk, *, clones_are_taken_back: bool = False
    ) -> None:
        self._clock = clock
        self._desk = desk
        self._clones_are_taken_back = clones_are_taken_back

    def takes_back(self, unit: SecurityUnit) -> bool:
        """Whether a sale on this unit's cards is reversed by wiping its card; else it is burned."""
        return self._clones_are_taken_back or not can_be_cloned(unit.manifest.medium)

    async def move_to_remote(
        self, tx: Transaction, meter_id: int, *, operator_id: int, reason: str
    ) -> Accepted | Rejected:
        """Offer the open card sale on the line too: the same count, the same amount."""
        await sales.lock_meter(tx, meter_id)
        sale = await sales.hold_open(tx, meter_id)
        if sale is None or sale.channel != CARD:
            return Rejected(Why.NOT_NOW, "no sale of this meter waits on a card")
        command_id = uuid5(sale.sale_id, "remote")
        known = await commands.find(tx, command_id)
        if known is not None:
            return Accepted(known, repeated=True)
        if await _is_burning(tx, sale):
            return Rejected(Why.NOT_NOW, "its count is being burned")
        await commands.insert(
            tx,
            NewCommand(
                command_id=command_id,
                meter_id=meter_id,
                kind=CommandKind.TOP_UP,
                amount_fen=sale.amount_fen,
                purchase_count=sale.purchase_count,
                sale_id=sale.sale_id,
                ordered_by=operator_id,
                ordered_at=self._clock.now(),
                reason=reason,
            ),
        )
        given = await commands.find(tx, command_id)
        assert given is not None, "just inserted"
        return Accepted(given)

    async def replace(self, tx: Transaction, wish: CardSale) -> CardIssue | Rejected | CardNo:
        """A new card for a lost or broken one: the same count and amount as the last sale.

        `wish.amount_fen` is not used. The old card may still be found: whichever comes first
        credits, the other meets an equal count.
        """
        unit = await self._desk.unit_of(tx, wish.meter_id)
        if isinstance(unit, Rejected):
            return unit
        known = await cards.find(tx, wish.issue_id)
        if known is not None:
            return known
        if CardKind.REPLACEMENT not in unit.manifest.kinds or not wish.reason.strip():
            return Rejected(Why.NOT_NOW, "a replacement needs a reason and a unit that makes it")
        sale = await _last_carried(tx, wish.meter_id)
        if isinstance(sale, Sale):
            sale = await _not_to_be_offered(tx, sale) or sale
        if isinstance(sale, Rejected):
            return sale
        at = self._clock.now()
        no = await _change_cards(tx, wish, at)
        if no is not None:
            return no
        opens = sale.state is SaleState.OPEN and not await cards.knows_a_card(tx, wish.meter_id)
        return await cards.begin(
            tx,
            NewIssue(
                issue_id=wish.issue_id,
                serial=wish.serial,
                # A meter that was never opened takes nothing but an opening card.
                kind=CardKind.OPENING if opens else CardKind.REPLACEMENT,
                meter_id=wish.meter_id,
                sale_id=sale.sale_id,
                purchase_count=sale.purchase_count,
                amount_fen=sale.amount_fen,
                key_version=wish.key_version,
                issued_by=wish.operator_id,
                approved_by=wish.approver_id,
                reason=wish.reason,
                at=at,
            ),
        )

    async def report_loss(self, tx: Transaction, meter_id: int, *, reason: str) -> Card | Rejected:
        """The tenant's card is gone: it is never written again. A sale on it stays open, since
        whoever finds the card may still use it; it is reissued, moved to the line, or burned."""
        await sales.lock_meter(tx, meter_id)
        await sales.hold_open(tx, meter_id)
        card = await cards.card_of_meter(tx, meter_id)
        if card is None:
            return Rejected(Why.NOT_NOW, "no card of this meter is out")
        await cards.lose_card(tx, card.serial, reason, self._clock.now())
        return card

    async def begin_taking_back(self, tx: Transaction, seen: CardSeen) -> CardIssue | Rejected:
        """Before the only copy of a sale is wiped: it lies there, unused, and no other ever was."""
        card = await cards.card(tx, seen.serial)
        if card is not None and card.meter_id is not None:
            await sales.lock_meter(tx, card.meter_id)
            await sales.hold_open(tx, card.meter_id)
        issue = await cards.on_card(tx, seen.serial)
        if issue is None or issue.sale_id is None:
            return Rejected(Why.NOT_NOW, "this card carries no sale")
        sale = await sales.find(tx, issue.sale_id)
        assert sale is not None, "a card carries its sale"
        refused = await self._not_taken_back(tx, sale, issue, seen)
        if refused is not None:
            return refused
        if issue.state is not IssueState.CLEARING:
            await cards.move(tx, issue.issue_id, IssueState.CLEARING, self._clock.now())
        return await again(tx, issue.issue_id)

    async def _not_taken_back(
        self, tx: Transaction, sale: Sale, issue: CardIssue, seen: CardSeen
    ) -> Rejected | None:
        unit = await self._desk.unit_of(tx, sale.meter_id)
        if isinstance(unit, Rejected):
            return unit
        why = None
        if sale.state is not SaleState.OPEN:
            why = f"its sale is {sale.state.value}"
        elif not self.takes_back(unit):
            why = "a card of this kind can be cloned: burn its count instead"
        elif not await _is_only_copy(tx, sale):
            why = "more than one copy of this sale exists: burn its count instead"
        elif not _is_unused(seen, await self._desk.record_of(tx, issue)):
            why = "a meter has read this card: nothing is taken back"
        return None if why is None else Rejected(Why.NOT_NOW, why)

    async def taken_back(
        self,
        tx: Transaction,
        issue_id: UUID,
        seen: CardSeen,
        *,
        operator_id: int,
        reason: str,
        approver_id: int | None = None,
    ) -> CardIssue | Rejected:
        """The card was wiped and read back empty: the sale is reversed, its money free again."""
        known = await cards.find(tx, issue_id)
        assert known is not None
        assert known.meter_id is not None
        await sales.lock_meter(tx, known.meter_id)
        await sales.hold_open(tx, known.meter_id)
        issue = await cards.find(tx, issue_id, lock=True)
        assert issue is not None
        assert issue.sale_id is not None
        if issue.state is IssueState.WIPED:
            return issue
        if issue.state is not IssueState.CLEARING or seen.serial != issue.serial:
            return Rejected(Why.NOT_NOW, f"its card is {issue.state.value}")
        if seen.record is not None or seen.back_written:
            return Rejected(Why.NOT_NOW, "the card is not empty")
        refused = await second_person(tx, issue.amount_fen, operator_id, approver_id)
        if refused is not None:
            return refused
        at = self._clock.now()
        await cards.move(tx, issue_id, IssueState.WIPED, at, reason)
        reserved = await ledger.pending_of_sale(tx, issue.sale_id)
        assert reserved is not None, "an open sale has its money reserved"
        await sales.close(tx, issue.sale_id, SaleState.REVERSED, at)
        await ledger.void(
            tx,
            reserved.transfer_id,
            at=at,
            operation=Operation.REVERSAL,
            operator_id=operator_id,
            approver_id=approver_id,
            reason=reason,
        )
        return await again(tx, issue_id)

    async def burn(
        self,
        tx: Transaction,
        meter_id: int,
        *,
        operator_id: int,
        reason: str,
        approver_id: int | None = None,
    ) -> Accepted | Rejected:
        """Send the count of an open card sale with amount 0: the way to its money's return.

        A top-up that waits for the same sale is cancelled first; one in flight is waited for.
        """
        await sales.lock_meter(tx, meter_id)
        sale = await sales.hold_open(tx, meter_id)
        if sale is None or sale.channel != CARD:
            return Rejected(Why.NOT_NOW, "no sale of this meter waits on a card")
        refused = await second_person(tx, sale.amount_fen, operator_id, approver_id)
        if refused is not None:
            return refused
        at = self._clock.now()
        for command in await commands.listing(tx, meter_ids=[meter_id]):
            if command.sale_id != sale.sale_id:
                continue
            if command.kind is CommandKind.BURN and command.state is not CommandState.REFUSED:
                return Accepted(command, repeated=True)
            if command.state in IN_FLIGHT:
                return Rejected(Why.NOT_NOW, f"its top-up is {command.state.value}")
            if command.state is CommandState.QUEUED:
                await commands.move(
                    tx,
                    command.command_id,
                    CommandState.QUEUED,
                    CommandState.CANCELLED,
                    at,
                    outcome=reason,
                )
        burn_id = uuid5(sale.sale_id, "burn")
        await commands.insert(
            tx,
            NewCommand(
                command_id=burn_id,
                meter_id=meter_id,
                kind=CommandKind.BURN,
                amount_fen=0,
                purchase_count=sale.purchase_count,
                sale_id=sale.sale_id,
                ordered_by=operator_id,
                approved_by=approver_id,
                ordered_at=at,
                reason=reason,
            ),
        )
        given = await commands.find(tx, burn_id)
        assert given is not None, "just inserted"
        return Accepted(given)


async def _change_cards(tx: Transaction, wish: CardSale, at: datetime) -> CardNo | None:
    """The tenant's card so far is lost, and the one on the reader is his; or why it cannot be."""
    fresh = await cards.card(tx, wish.serial)
    if fresh is None or fresh.ended_at is not None:
        return CardNo(CardWhy.NOT_ISSUED, "the new card is not in the books, or has ended")
    old = await cards.card_of_meter(tx, wish.meter_id)
    if old is not None and old.serial != wish.serial:
        await cards.lose_card(tx, old.serial, wish.reason, at)
    no = await give(tx, wish.serial, wish.meter_id, at)
    if no is not None:
        return no
    # The same card once more, for a meter that does not take it: what it carried is replaced.
    carried = await cards.on_card(tx, wish.serial)
    if carried is not None:
        await cards.move(tx, carried.issue_id, IssueState.USED, at, "replaced on the same card")
    return None


async def _last_carried(tx: Transaction, meter_id: int) -> Sale | Rejected:
    """The sale a replacement repeats: the open one, else the last that landed in these registers.
    One of a device that hangs there no more would be credited a second time."""
    await sales.hold_open(tx, meter_id)
    newest = [
        sale
        for sale in await sales.of_these_registers(tx, meter_id)
        if sale.state in (SaleState.OPEN, SaleState.LANDED)
    ]
    if not newest:
        return Rejected(Why.NOT_NOW, "nothing was sold to this meter yet: open its account")
    sale = max(newest, key=lambda one: one.purchase_count)
    if await _is_burning(tx, sale):
        return Rejected(Why.NOT_NOW, "its count is being burned")
    return sale


async def _not_to_be_offered(tx: Transaction, sale: Sale) -> Rejected | None:
    """Why no new copy of an open sale is made. A sale that began on the line gets the evidence that
    one on a card has from its beginning: it may land before the line says anything."""
    if sale.state is not SaleState.OPEN:
        return None
    freeze = await sales.frozen(tx, sale.meter_id)
    if freeze is not None:
        return Rejected(Why.SALES_FROZEN, freeze.reason)
    if await attempts.before_sale(tx, sale.sale_id) is not None:
        return None
    before = await cards.evidence_at(tx, sale.meter_id, sale.purchase_count - 1)
    if before.total_purchased_fen is None:
        return Rejected(Why.COUNT_UNKNOWN)
    await cards.note_before(tx, sale.sale_id, before)
    return None


async def _is_burning(tx: Transaction, sale: Sale) -> bool:
    """No new copy of what is being burned: it could land first, or a second time."""
    return any(
        command.sale_id == sale.sale_id
        for command in await commands.listing(
            tx, meter_ids=[sale.meter_id], kinds=[CommandKind.BURN]
        )
    )


async def _is_only_copy(tx: Transaction, sale: Sale) -> bool:
    """Whether no other card, and nothing on the line, ever carried this sale."""
    return sale.copies_left == 1 and not any(
        command.sale_id == sale.sale_id
        for command in await commands.listing(tx, meter_ids=[sale.meter_id])
    )


def _is_unused(seen: CardSeen, record: CardRecord) -> bool:
    """Whether no meter has read the card since it was written."""
    return not seen.back_written and (seen.record is None or seen.record == record)
