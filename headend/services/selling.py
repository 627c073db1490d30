"""A sale over the counter: money taken and a top-up ordered, in one transaction or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid5

from headend.domain.books import NotBooked
from headend.domain.clock import Clock
from headend.domain.commands import Accepted, Rejected
from headend.services import books
from headend.services.books import Wish
from headend.services.orders import Orders, TopUpOrder
from headend.store import commands
from headend.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleWish:
    """Fifty yuan for room 101. The id is the caller's: the same id twice is one sale."""

    command_id: UUID
    meter_id: int
    amount_fen: int
    operator_id: int
    reason: str = ""
    #: the money waits as balance already (an earlier payment); False: it is taken now
    from_balance: bool = False


class _NotSold(Exception):
    """Rolls the payment back; carries why."""

    def __init__(self, why: Rejected | NotBooked) -> None:
        self.why = why


async def sell(
    database: Database, orders: Orders, clock: Clock, wish: SaleWish
) -> Accepted | Rejected | NotBooked:
    """Take the money and order the top-up. A "no" to either books and sends nothing."""
    try:
        async with database.transaction() as tx:
            known = await commands.find(tx, wish.command_id)
            if known is None and not wish.from_balance:
                paid = await books.payment(
                    tx,
                    Wish(
                        transfer_id=uuid5(wish.command_id, "payment"),
                        amount_fen=wish.amount_fen,
                        operator_id=wish.operator_id,
                        reason=wish.reason,
                    ),
                    clock,
                    meter_id=wish.meter_id,
                )
                if isinstance(paid, NotBooked):
                    raise _NotSold(paid)
            ordered = await orders.top_up(
                tx,
                TopUpOrder(
                    command_id=wish.command_id,
                    meter_id=wish.meter_id,
                    amount_fen=wish.amount_fen,
                    operator_id=wish.operator_id,
                    reason=wish.reason,
                ),
            )
            if isinstance(ordered, Rejected):
                raise _NotSold(ordered)
            return ordered
    except _NotSold as refused:
        return refused.why
