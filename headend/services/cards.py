"""Cards at the desk: sold, written, seen again. What else happens to them is in card_returns.py.

One sequence for card and remote (spec cards_keys.md B.6): an open sale may lie on a card and wait
on the line at once, always with its one count and its one amount; the first in wins. Order at the
desk: the sale and the card's number are committed, then the card is written, read back, and only
then called issued. What is unclear stays pending, and the next look at the card decides.

Each function belongs into one transaction of the caller's; none of them touches a reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid5

from headend.domain.card_issues import CardIssue, IssueState
from headend.domain.cards import CardKnown, CardNo, CardWhy, is_old, judge_card, lands
from headend.domain.clock import Clock
from headend.domain.commands import CommandState, Rejected, Why
from headend.domain.ledger import (
    AMOUNT_FEN_MAX,
    AMOUNT_FEN_MIN,
)
from headend.domain.money import yuan
from headend.domain.purchases import Sale, SaleState
from headend.services.card_sales import IN_FLIGHT, again, give, land
from headend.services.orders import Orders
from headend.services.persons import second_person
from headend.services.settling import Proof
from headend.store import accounts, cards, commands, ledger, sales
from headend.store.cards import NewIssue
from headend.store.database import Transaction
from protocols.card_desk import ANY_METER, CardSeen, Seal
from protocols.card_image import CardKind, CardRecord, WriteBack
from protocols.evidence import Verdict, judge
from protocols.exchange import Evidence
from protocols.security_unit import Channel, SecurityUnit, UnitRegister

CARD = "card"  # the channel of a sale that begins on a card
_COMES_WITH_A_SALE = frozenset({CardKind.OPENING, CardKind.PURCHASE, CardKind.MAKE_UP})


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSale:
    """Fifty yuan on this card."""

    issue_id: UUID  # made by who wants it
    meter_id: int
    serial: bytes
    amount_fen: int
    key_version: int
    operator_id: int
    reason: str = ""
    approver_id: int | None = None
    kind: CardKind = CardKind.PURCHASE


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look at a card told, and what followed from it."""

    meter_id: int | None  # None: a card of nobody's
    issue: CardIssue | None  # what it carries by the books
    no: CardNo | None  # why it is not written as it lies there
    is_old: bool = False  # it carries an earlier sale than the last one
    landed: Sale | None = None  # the sale it proved


class CardDesk:
    """Knows the units, the orders and the time."""

    def __init__(self, clock: Clock, orders: Orders, units: UnitRegister) -> None:
        self._clock = clock
        self._orders = orders
        self._units = units

    async def unit_of(self, tx: Transaction, meter_id: int) -> SecurityUnit | Rejected:
        """The unit for this meter's cards; the meter is locked."""
        type_name = await sales.lock_meter(tx, meter_id)
        if type_name is None:
            return Rejected(Why.NO_SUCH_METER)
        unit = self._units.for_type(type_name)
        if unit is None or Channel.CARD not in unit.manifest.channels:
            return Rejected(
                Why.METER_HAS_NO_SUCH_WRITE, f"no security unit makes cards for {type_name}"
            )
        return unit

    # ---- selling ----------------------------------------------------------------------------

    async def sell(self, tx: Transaction, wish: CardSale) -> CardIssue | Rejected | CardNo:
        """Tie the next count to an amount and a card. The customer's account holds the money.

        The same id and wish again is the same issue.
        """
        unit = await self.unit_of(tx, wish.meter_id)
        if isinstance(unit, Rejected):
            return unit
        known = await cards.find(tx, wish.issue_id)
        if known is not None:
            same = (known.meter_id, known.amount_fen, known.serial) == (
                wish.meter_id,
                wish.amount_fen,
                wish.serial,
            )
            return known if same else Rejected(Why.ID_REUSED, str(wish.issue_id))
        refused = await self._may_sell(tx, unit, wish)
        if refused is not None:
            return refused
        return await self._sold(tx, unit, wish)

    async def _before(self, tx: Transaction, meter_id: int) -> Evidence | Rejected:
        """What the meter shows before its next sale, whole enough to prove one against it."""
        if await cards.meter_number(tx, meter_id) is None:
            return Rejected(Why.METER_HAS_NO_SUCH_WRITE, "the site file has no number for it")
        count = await self._orders.next_count(tx, meter_id)
        if isinstance(count, Rejected):
            return count
        before = await cards.evidence_at(tx, meter_id, count - 1)
        # A bare count would be all the proof there is, and anybody's purchase moves a count.
        known = before.total_purchased_fen is not None
        return before if known else Rejected(Why.COUNT_UNKNOWN)

    async def _kind(self, tx: Transaction, unit: SecurityUnit, wish: CardSale) -> CardKind:
        """A meter takes a purchase only from the card that it knows. Any other opens: it brings the
        same credit, and the meter takes the card as its tenant's."""
        opens = wish.kind is CardKind.PURCHASE and CardKind.OPENING in unit.manifest.kinds
        if opens and not await cards.is_registered(tx, wish.meter_id, wish.serial):
            return CardKind.OPENING
        return wish.kind

    async def _may_sell(
        self, tx: Transaction, unit: SecurityUnit, wish: CardSale
    ) -> Rejected | None:
        if wish.kind not in _COMES_WITH_A_SALE or wish.kind not in unit.manifest.kinds:
            return Rejected(
                Why.METER_HAS_NO_SUCH_WRITE,
                f"{unit.manifest.name} makes no {wish.kind.name.lower()} cards with a sale",
            )
        if not (
            type(wish.amount_fen) is int and AMOUNT_FEN_MIN <= wish.amount_fen <= AMOUNT_FEN_MAX
        ):
            return Rejected(Why.AMOUNT_OUT_OF_RANGE, f"{yuan(wish.amount_fen)} yuan")
        if wish.kind is CardKind.MAKE_UP:
            return await second_person(tx, wish.amount_fen, wish.operator_id, wish.approver_id)
        return None

    async def _sold(
        self, tx: Transaction, unit: SecurityUnit, wish: CardSale
    ) -> CardIssue | Rejected | CardNo:
        at = self._clock.now()
        customer = await accounts.customer_of_meter(tx, wish.meter_id, at)
        before = await self._before(tx, wish.meter_id)
        if customer.closed_at is not None:
            before = Rejected(Why.ACCOUNT_CLOSED)
        if isinstance(before, Rejected):
            return before
        assert before.purchase_count is not None
        count = before.purchase_count + 1
        no = await give(tx, wish.serial, wish.meter_id, at)
        if no is not None:
            return no
        kind = await self._kind(tx, unit, wish)
        held = await accounts.balance(tx, customer.account_id)
        if held.available_fen < wish.amount_fen:
            return Rejected(
                Why.NOT_PAID, f"{yuan(held.available_fen)} yuan of {yuan(wish.amount_fen)}"
            )
        sale_id = uuid5(wish.issue_id, "sale")
        await sales.open_sale(
            tx,
            sale_id=sale_id,
            meter_id=wish.meter_id,
            purchase_count=count,
            amount_fen=wish.amount_fen,
            channel=CARD,
            at=at,
        )
        await cards.note_before(tx, sale_id, before)
        await ledger.pending(
            tx,
            transfer_id=uuid5(wish.issue_id, "pending"),
            debit=customer.account_id,
            credit=(await accounts.account_of_meter(tx, wish.meter_id, at)).account_id,
            amount_fen=wish.amount_fen,
            operator_id=wish.operator_id,
            at=at,
            sale_id=sale_id,
            reason=wish.reason,
        )
        return await cards.begin(
            tx,
            NewIssue(
                issue_id=wish.issue_id,
                serial=wish.serial,
                kind=kind,
                meter_id=wish.meter_id,
                sale_id=sale_id,
                purchase_count=count,
                amount_fen=wish.amount_fen,
                key_version=wish.key_version,
                issued_by=wish.operator_id,
                approved_by=wish.approver_id,
                reason=wish.reason,
                at=at,
            ),
        )

    async def record_of(self, tx: Transaction, issue: CardIssue) -> CardRecord:
        """What is written on the card of this issue, the same each time."""
        meter_number, customer_number = ANY_METER, ANY_METER
        if issue.meter_id is not None:
            meter_number = await cards.meter_number(tx, issue.meter_id) or ANY_METER
            customer = await accounts.customer_of_meter(tx, issue.meter_id, issue.begun_at)
            customer_number = f"{customer.account_id:012d}"
        end = issue.valid_until
        return CardRecord(
            kind=issue.kind,
            key_version=issue.key_version,
            meter_number=meter_number,
            customer_number=customer_number,
            serial=issue.serial,
            issue_number=issue.issue_number,
            amount_fen=issue.amount_fen,
            purchase_count=issue.purchase_count or 0,
            alarm_1_fen=issue.alarm_1_fen,
            alarm_2_fen=issue.alarm_2_fen,
            valid_until_s=0 if end is None else int(end.timestamp()),
        )

    async def written(self, tx: Transaction, issue_id: UUID, seen: CardSeen) -> CardIssue | CardNo:
        """The card was written and read back: it is issued, if that is what lies on it."""
        issue = await cards.find(tx, issue_id, lock=True)
        assert issue is not None, "written after it was begun"
        if issue.state is not IssueState.PENDING:
            return issue
        if seen.record != await self.record_of(tx, issue) or seen.seal is not Seal.GOOD:
            return CardNo(CardWhy.BAD_SEAL, "what lies on it is not what was sold")
        await cards.move(tx, issue_id, IssueState.ISSUED, self._clock.now())
        return await again(tx, issue_id)

    # ---- seen again -------------------------------------------------------------------------

    async def look(self, tx: Transaction, seen: CardSeen) -> Looked:
        """Take in what lies on the reader: settle what was pending, land what it proves."""
        card = await cards.card(tx, seen.serial)
        if card is None:
            return Looked(
                meter_id=None, issue=None, no=CardNo(CardWhy.NOT_ISSUED, "it is not in the books")
            )
        if card.meter_id is None:
            return Looked(meter_id=None, issue=await cards.on_card(tx, seen.serial), no=None)
        await sales.lock_meter(tx, card.meter_id)
        await sales.hold_open(tx, card.meter_id)
        landed = await self._take_witness(tx, card.meter_id, seen)
        issue = await self._settle_issue(tx, seen)
        known = await self._known(tx, card.meter_id)
        no = judge_card(seen, known)
        if card.ended_at is not None:
            no = CardNo(CardWhy.REVOKED, f"the card was ended: {card.end_reason}")
        return Looked(
            meter_id=card.meter_id,
            issue=issue,
            no=no,
            is_old=is_old(seen, known),
            landed=landed,
        )

    async def _known(self, tx: Transaction, meter_id: int) -> CardKnown:
        at = self._clock.now()
        customer = await accounts.customer_of_meter(tx, meter_id, at)
        card = await cards.card_of_meter(tx, meter_id)
        newest = await sales.of_these_registers(tx, meter_id)
        counts = [sale.purchase_count for sale in newest if sale.state is not SaleState.REVERSED]
        return CardKnown(
            meter_number=await cards.meter_number(tx, meter_id) or ANY_METER,
            customer_number=f"{customer.account_id:012d}",
            serial=None if card is None else card.serial,
            purchase_count=max(counts, default=0),
        )

    async def _take_witness(self, tx: Transaction, meter_id: int, seen: CardSeen) -> Sale | None:
        told, number = seen.witness, await cards.meter_number(tx, meter_id)
        if told is None or told.meter_number != number:
            return None
        credit_fen = None
        if isinstance(told, WriteBack):
            # Kept as the meter's own word: only that says which card the meter takes.
            await cards.keep_look(tx, meter_id, seen.serial, told, self._clock.now())
            credit_fen = told.remaining_credit_fen
        sale = await sales.open_of_meter(tx, meter_id)
        if sale is None or not lands(seen, told.meter_number, sale.purchase_count):
            return None
        after = Evidence(
            purchase_count=told.purchase_count,
            total_purchased_fen=told.total_purchased_fen,
            remaining_credit_fen=credit_fen,
        )
        return sale if await self.land_if_proved(tx, sale, after) else None

    async def land_if_proved(self, tx: Transaction, sale: Sale, after: Evidence) -> bool:
        """End an open card sale by a look at its meter, if count and amount agree with it.

        An order in flight for the same sale is left to its own proof. A look that tells another
        story stops sales to the meter, and a person finds out.
        """
        held = await sales.hold_open(tx, sale.meter_id)
        if held is None or held.sale_id != sale.sale_id:
            return False  # it ended in this very moment
        before = await cards.before_of(tx, sale.sale_id)
        if before is None or before.purchase_count is None:
            return False  # it did not begin on a card, or the meter was never read before
        if after.purchase_count == before.purchase_count:
            return False
        waiting = [
            command
            for command in await commands.listing(tx, meter_ids=[sale.meter_id])
            if command.sale_id == sale.sale_id
        ]
        if any(command.state in IN_FLIGHT for command in waiting):
            return False
        at = self._clock.now()
        verdict = judge(before, after, sale.amount_fen)
        if verdict is not Verdict.APPLIED:
            reason = (
                f"the meter shows count {after.purchase_count} and total "
                f"{yuan(after.total_purchased_fen)} yuan, which is not {yuan(sale.amount_fen)} "
                f"yuan under {sale.purchase_count}"
            )
            await sales.freeze(tx, sale.meter_id, reason, at)
            return False
        for command in waiting:
            if command.state is CommandState.QUEUED:
                await commands.move(
                    tx,
                    command.command_id,
                    CommandState.QUEUED,
                    CommandState.CANCELLED,
                    at,
                    outcome="the card landed first",
                )
        await land(tx, sale, Proof(at=at, after=after))
        return True

    async def _settle_issue(self, tx: Transaction, seen: CardSeen) -> CardIssue | None:
        """What a pulled write or wipe came to, now that the card lies there again."""
        issue = await cards.on_card(tx, seen.serial)
        if issue is None:
            return None
        at = self._clock.now()
        there = seen.record == await self.record_of(tx, issue) and seen.seal is Seal.GOOD
        if issue.state is IssueState.PENDING and there:
            await cards.move(tx, issue.issue_id, IssueState.ISSUED, at, "found written")
        return await again(tx, issue.issue_id)
