"""What a terminal sold alone, taken over into the books: in its sequence, once, clashes named.

A record books nothing by itself. It is a witness: what the meter showed after it, under the
terminal's MAC, is compared with what the meter showed before the sale, as every other look at a
card sale is (services/cards.py). Where the terminal could not see that, the meter is read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from headend.domain.alarms import AlarmKind
from headend.domain.clock import Clock
from headend.domain.islands import (
    NOT_OF_THE_LOG,
    Clash,
    IslandBooks,
    SoldAs,
    judge_island,
)
from headend.domain.money import yuan
from headend.domain.problems import Problem
from headend.domain.purchases import Sale, SaleState
from headend.services.cards import CardDesk
from headend.services.lines import LineBook
from headend.services.looks import Looked
from headend.services.nights import NightService
from headend.store import alarms, cards, sales, terminals
from headend.store.database import Database, Transaction
from protocols.exchange import Evidence
from protocols.reading import Quantity
from protocols.terminal_island import IslandSale, is_genuine, record_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of one reported record."""

    clash: Clash | None
    repeated: bool
    next_sequence: int  # the number that is wanted next


class IslandMerge:
    """Knows the books, the card desk, and how a meter is read now."""

    def __init__(
        self,
        database: Database,
        book: LineBook,
        desk: CardDesk,
        nights: NightService | None,
        clock: Clock,
    ) -> None:
        """`nights`: who reads a meter now; None: nobody, and the night decides."""
        self._database = database
        self._book = book
        self._desk = desk
        self._nights = nights
        self._clock = clock

    async def merge(self, gateway: str, terminal: str, key: bytes, sale: IslandSale) -> Merged:
        """Take one record over, or name what is wrong with it. One transaction; a repeat of what
        was taken over changes nothing."""
        async with self._database.transaction() as tx:
            await terminals.hold(tx, terminal)
            last, before = await terminals.end_of_log(tx, terminal)
            known = await terminals.taken(tx, terminal, sale.sequence)
            if known is not None and known.sale == sale:
                return Merged(None, repeated=True, next_sequence=last + 1)
            meter_id = self._meter_behind(gateway, sale.meter_number)
            if meter_id is not None:
                await sales.lock_meter(tx, meter_id)
                await sales.hold_open(tx, meter_id)
            books = await self._books(
                tx,
                terminal,
                sale,
                next_sequence=last + 1,
                genuine=is_genuine(key, before, sale),
                meter_id=meter_id,
            )
            clash = judge_island(sale, books)
            state = "clash"
            if clash is None:
                assert meter_id is not None, "judged before"
                clash, state = await self._witnessed(tx, sale, meter_id)
            if clash not in NOT_OF_THE_LOG:
                at = self._clock.now()
                await terminals.take(tx, terminal, sale, meter_id=meter_id, state=state, at=at)
                last = sale.sequence
            if clash is not None:
                await self._name(tx, terminal, sale, clash, meter_id)
        return Merged(clash, repeated=False, next_sequence=last + 1)

    def _meter_behind(self, gateway: str, number: str) -> int | None:
        lines = {
            name
            for name, at_work in self._book.lines.items()
            if at_work.known.gateway.name == gateway
        }
        return next(
            (
                meter_id
                for meter_id, meter in self._book.by_id.items()
                if meter.known.meter_number == number and meter.known.line in lines
            ),
            None,
        )

    async def _books(
        self,
        tx: Transaction,
        terminal: str,
        sale: IslandSale,
        *,
        next_sequence: int,
        genuine: bool,
        meter_id: int | None,
    ) -> IslandBooks:
        cap = await terminals.cap(tx, terminal, sale.cap)
        to_card, total = await terminals.taken_under(tx, terminal, sale.cap, sale.serial)
        sold: SoldAs | None = None
        if meter_id is not None:
            there = await terminals.sold_as(tx, meter_id, sale.purchase_count)
            sold = None if there is None else there[1]
        return IslandBooks(
            next_sequence=next_sequence,
            genuine=genuine,
            cap=None if cap is None else cap.cap,
            cap_issued_at_s=0 if cap is None else int(cap.issued_at.timestamp()),
            now_s=int(self._clock.now().timestamp()),
            to_card_fen=to_card,
            total_fen=total,
            meter_is_here=meter_id is not None,
            sold=sold,
        )

    async def _witnessed(
        self, tx: Transaction, sale: IslandSale, meter_id: int
    ) -> tuple[Clash | None, str]:
        """Land the sale by what the terminal saw, if that proves it; the record's state."""
        there = await terminals.sold_as(tx, meter_id, sale.purchase_count)
        assert there is not None, "judged before"
        sale_id, _, state = there
        if state == SaleState.LANDED.value:
            return None, "known"  # by a reading, or by its copy on the line: booked once
        after = Evidence(purchase_count=sale.after_count, total_purchased_fen=sale.after_total_fen)
        if None in (sale.after_count, sale.after_total_fen):
            return None, "waiting"
        held = await sales.find(tx, sale_id)
        assert held is not None, "just found"
        if await self._desk.land_if_proved(tx, held, after):
            return None, "landed"
        if await sales.frozen(tx, meter_id) is not None:
            return Clash.DIFFERS, "clash"
        return None, "waiting"  # an order of it is in flight, or nothing was seen before it

    async def _name(
        self,
        tx: Transaction,
        terminal: str,
        sale: IslandSale,
        clash: Clash,
        meter_id: int | None,
    ) -> None:
        at = self._clock.now()
        detail = (
            f"terminal {terminal}, record {sale.sequence}: {yuan(sale.amount_fen)} yuan under "
            f"{sale.purchase_count} to meter {sale.meter_number}"
        )
        await terminals.add_clash(
            tx,
            terminal,
            clash.value,
            record_of(sale),
            sequence=sale.sequence,
            detail=detail,
            at=at,
        )
        await alarms.raise_alarm(
            tx, AlarmKind.TERMINAL_CLASH, meter_id, f"{clash.value}: {detail}", at
        )
        log.warning("%s: %s", clash.value, detail)

    # ---- what waits for a look -------------------------------------------------------------------

    async def look_at_waiting(self) -> int:
        """Read the meters of records whose outcome nobody saw; how many are known now."""
        async with self._database.transaction() as tx:
            waiting = await terminals.waiting(tx)
        settled = 0
        for terminal, one in waiting:
            assert one.meter_id is not None, "only what passed every rule waits"
            after = await self._read(one.meter_id)
            async with self._database.transaction() as tx:
                settled += await self._settle(tx, terminal, one, after)
        return settled

    async def _read(self, meter_id: int) -> Evidence | None:
        meter = self._book.by_id.get(meter_id)
        if meter is None or self._nights is None:
            return None
        looked = await self._nights.read_now(meter)
        if not isinstance(looked, Looked):
            return None
        return Evidence(
            purchase_count=looked.values.get(Quantity.PURCHASE_COUNT),
            total_purchased_fen=looked.values.get(Quantity.TOTAL_PURCHASED),
        )

    async def _settle(
        self,
        tx: Transaction,
        terminal: str,
        one: terminals.TakenSale,
        after: Evidence | None,
    ) -> bool:
        assert one.meter_id is not None, "only what passed every rule waits"
        await terminals.hold(tx, terminal)
        now = await terminals.taken(tx, terminal, one.sale.sequence)
        if now is None or now.state != "waiting":
            return False  # another look was first
        await sales.lock_meter(tx, one.meter_id)
        await sales.hold_open(tx, one.meter_id)
        there = await terminals.sold_as(tx, one.meter_id, one.sale.purchase_count)
        if there is None or there[1].burned:
            await terminals.move(tx, terminal, one.sale.sequence, "clash")
            await self._name(tx, terminal, one.sale, Clash.COUNT_TAKEN, one.meter_id)
            return True
        sale_id, _, state = there
        if state == SaleState.LANDED.value:
            await terminals.move(tx, terminal, one.sale.sequence, "known")
            return True
        held = await sales.find(tx, sale_id)
        if held is None or after is None or after.purchase_count is None:
            return False
        return await self._judge(tx, terminal, one, held, after)

    async def _judge(
        self,
        tx: Transaction,
        terminal: str,
        one: terminals.TakenSale,
        held: Sale,
        after: Evidence,
    ) -> bool:
        """What the meter shows says it landed, says it did not, or says nothing yet (False)."""
        assert one.meter_id is not None, "only what passed every rule waits"
        if await self._desk.land_if_proved(tx, held, after):
            await terminals.move(tx, terminal, one.sale.sequence, "landed")
            return True
        before = await cards.before_of(tx, held.sale_id)
        seen_no = before is not None and before.purchase_count == after.purchase_count
        if seen_no or await sales.frozen(tx, one.meter_id) is not None:
            # The meter never took it, or tells another story: the sale stays open, a person looks.
            await terminals.move(tx, terminal, one.sale.sequence, "clash")
            await self._name(tx, terminal, one.sale, Clash.DIFFERS, one.meter_id)
            return True
        return False

    # ---- a person's word -------------------------------------------------------------------------

    async def settle(self, clash_id: int, *, book: bool, reason: str, by: int) -> None:
        """A person has found out: the sale is booked if its meter proves it, or the clash is put
        aside. Raises Problem."""
        async with self._database.transaction() as tx:
            clash = await terminals.clash(tx, clash_id)
        if clash is None or clash.settled_at is not None:
            raise Problem("no-such-clash", clash=clash_id)
        meter_id = None
        async with self._database.transaction() as tx:
            one = await terminals.taken(tx, clash.terminal, clash.sequence)
        # A record that never came into the log is not the one that has its number.
        if one is not None and one.sale.mac.hex() == clash.record["mac"]:
            meter_id = one.meter_id
        after = await self._read(meter_id) if book and meter_id is not None else None
        async with self._database.transaction() as tx:
            await terminals.hold(tx, clash.terminal)
            if book:
                if one is None or meter_id is None or not await self._booked(tx, one, after):
                    raise Problem("clash-not-proved", clash=clash_id)
                await terminals.move(tx, clash.terminal, clash.sequence, "landed")
            at = self._clock.now()
            how = "booked" if book else "dismissed"
            await terminals.settle_clash(tx, clash_id, how, reason, by=by, at=at)
            standing = await terminals.clashes(tx)
            numbers = {other.record["meter_number"] for other in standing}
            if clash.record["meter_number"] not in numbers:
                await alarms.clear_alarm(tx, AlarmKind.TERMINAL_CLASH, meter_id, at)

    async def _booked(
        self, tx: Transaction, one: terminals.TakenSale, after: Evidence | None
    ) -> bool:
        assert one.meter_id is not None, "asked before"
        await sales.lock_meter(tx, one.meter_id)
        await sales.hold_open(tx, one.meter_id)
        there = await terminals.sold_as(tx, one.meter_id, one.sale.purchase_count)
        if there is None or there[1].amount_fen != one.sale.amount_fen:
            return False
        if there[2] == SaleState.LANDED.value:
            return True
        held = await sales.find(tx, there[0])
        if held is None or held.state is not SaleState.OPEN or after is None:
            return False
        return await self._desk.land_if_proved(tx, held, after)
