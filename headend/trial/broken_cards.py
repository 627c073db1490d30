"""The rules of card and line sharing one number, each taken out (spec cards_keys.md B.6).

Most are held by the product and by the database: both are broken, or nothing would be missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid5

from headend.domain.commands import Rejected, Why
from headend.domain.purchases import Sale, SaleState
from headend.services import card_returns
from headend.services import cards as card_desk
from headend.services.card_returns import CardReturns
from headend.services.orders import Orders
from headend.store import accounts, cards, ledger, sales
from headend.store.database import Transaction
from headend.trial.arrangement import Arrangement, Patch
from protocols.card_desk import CardSeen
from protocols.card_image import CardKind, CardRecord
from protocols.evidence import Verdict
from protocols.exchange import Evidence

_next_count, _last_carried = Orders.next_count, card_returns._last_carried


async def _nothing(*_: Any, **__: Any) -> None:
    """Nothing is open, whatever is."""


async def _yes(*_: Any, **__: Any) -> bool:
    return True


def _never(_medium: str) -> bool:
    return False


def _unused(_seen: CardSeen, _record: CardRecord) -> bool:
    return True


async def _after_the_last_given(self: Orders, tx: Transaction, meter_id: int) -> int | Rejected:
    """The card got 6, the line gets 7, and nobody waits for anybody."""
    proven = await _next_count(self, tx, meter_id)
    if isinstance(proven, Rejected):
        return proven
    given: int | None = await tx.value(
        "SELECT max(purchase_count) FROM sale WHERE meter_id = %s AND state = 'open'"
        " AND epoch = meter_epoch(%s)",
        meter_id,
        meter_id,
    )
    return max(proven, (given or 0) + 1)


async def _a_new_number(tx: Transaction, meter_id: int) -> Sale | Rejected:
    """Another card, another number: as if each card were a sale of its own."""
    last = await _last_carried(tx, meter_id)
    if isinstance(last, Rejected) or last.state is not SaleState.OPEN:
        return last
    return replace(last, purchase_count=last.purchase_count + 1)


def _count_is_enough(before: Evidence, after: Evidence, _amount_fen: int) -> Verdict:
    """A bare "count reached" is taken for proof."""
    reached = (after.purchase_count or 0) > (before.purchase_count or 0)
    return Verdict.APPLIED if reached else Verdict.NOT_APPLIED


async def _free_at_once(
    self: CardReturns,
    tx: Transaction,
    meter_id: int,
    *,
    operator_id: int,
    reason: str,
    approver_id: int | None = None,
) -> Rejected:
    """Whoever says that his card is lost has his money at once."""
    sale = await sales.hold_open(tx, meter_id)
    if sale is not None and sale.channel == "card":
        at = self._clock.now()
        reserved = await ledger.pending_of_sale(tx, sale.sale_id)
        assert reserved is not None
        await sales.close(tx, sale.sale_id, SaleState.REVERSED, at)
        await ledger.void(tx, reserved.transfer_id, at=at)
        await cards.sale_ended(tx, sale.sale_id, at, reason)
    return Rejected(Why.NOT_NOW, "given back already")


async def _sell_again(self: CardReturns, tx: Transaction, wish: card_desk.CardSale) -> Any:
    """A lost card is replaced by another sale of the same money: what was reserved is let go."""
    last = await _last_carried(tx, wish.meter_id)
    if isinstance(last, Rejected) or last.state is not SaleState.OPEN:
        return Rejected(Why.NOT_NOW, "nothing is open")
    await _free_at_once(self, tx, wish.meter_id, operator_id=wish.operator_id, reason=wish.reason)
    customer = await accounts.customer_of_meter(tx, wish.meter_id, self._clock.now())
    assert customer is not None
    old = await cards.card_of_meter(tx, wish.meter_id)
    if old is not None and old.serial != wish.serial:
        await cards.end_card(tx, old.serial, "lost", self._clock.now())
    again = replace(
        wish,
        issue_id=uuid5(wish.issue_id, "again"),
        amount_fen=last.amount_fen,
        kind=CardKind.PURCHASE,
    )
    return await self._desk.sell(tx, again)


def _cards(
    *patches: Patch, sql: tuple[str, ...] = (), clones_are_taken_back: bool | None = None
) -> Arrangement:
    return Arrangement(
        has_cards=True, clones_are_taken_back=clones_are_taken_back, patches=patches, sql=sql
    )


_COPIES = (
    "ALTER TABLE sale DROP CONSTRAINT a_card_sale_with_two_copies_is_burned,"
    " DROP CONSTRAINT a_sale_that_may_still_land_is_not_reversed"
)
_ONE_OPEN = "DROP INDEX a_meter_has_one_open_sale"
_ONE_COUNT = "DROP INDEX a_purchase_count_belongs_to_one_sale"

RULES: Mapping[str, Arrangement] = {
    # One sequence, and nobody waits: the sale on the line follows one that lies on a lost card.
    "card_blocks_the_line": _cards(
        Patch(sales, "open_of_meter", _nothing),
        Patch(Orders, "next_count", _after_the_last_given),
        sql=(_ONE_OPEN,),
    ),
    # Each channel takes the last proven count + 1 for itself.
    "card_and_line_share_one_count": _cards(
        Patch(sales, "open_of_meter", _nothing), sql=(_ONE_OPEN, _ONE_COUNT)
    ),
    # A replaced, or a moved, sale is reversed though another copy of it is in the world.
    "only_copy": _cards(
        Patch(card_returns, "_is_only_copy", _yes), sql=(_COPIES,), clones_are_taken_back=True
    ),
    # A card that a meter has read is taken back.
    "unused": _cards(Patch(card_returns, "_is_unused", _unused), clones_are_taken_back=True),
    # A card that can be cloned is taken back, and its clone is still in the world.
    "clones_are_burned": _cards(
        Patch(card_returns, "can_be_cloned", _never), clones_are_taken_back=False
    ),
    # A lost card's money is given back without its count being burned.
    "lost_is_burned": _cards(Patch(CardReturns, "burn", _free_at_once), sql=(_COPIES,)),
    # An order over the line is taken back while a card of the same sale is out.
    "burned_before_given_back": _cards(Patch(sales, "may_be_reversed", _yes), sql=(_COPIES,)),
    # Another card carries another number.
    "reissued_under_its_number": _cards(
        Patch(card_returns, "_last_carried", _a_new_number),
        sql=("DROP TRIGGER card_issue_begins ON card_issue",),
    ),
    # Another card carries another sale of the same money.
    "reissued_not_resold": _cards(
        Patch(CardReturns, "replace", _sell_again), sql=(_COPIES, _ONE_COUNT)
    ),
    # That the meter's count was reached says nothing of whose credit it was.
    "proof_ties_the_amount": _cards(Patch(card_desk, "judge", _count_is_enough)),
}
