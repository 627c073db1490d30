"""Orders: accepted or refused, in the caller's transaction. Nothing is sent from here.

An accepted order is a row; with a top-up its sale, its number and its reserved money are made in
the same transaction, and the sender of its line is woken when that commits. A "no" is a value. The
id is made by whoever wants the order: the same id and the same order is one order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from headend.domain.clock import Clock
from headend.domain.commands import (
    RESETS_COUNTS,
    Accepted,
    CommandKind,
    CommandState,
    Rejected,
    Why,
)
from headend.domain.counts import Doubt, next_count
from headend.domain.ledger import AMOUNT_FEN_MAX, AMOUNT_FEN_MIN
from headend.domain.money import yuan
from headend.services.persons import same_person
from headend.services.switch_orders import SwitchOrder, reused, switch_many
from headend.store import (
    account_cases,
    accounts,
    commands,
    ledger,
    money_modes,
    sales,
    switches,
)
from headend.store.commands import NewCommand
from headend.store.database import Transaction
from protocols.meter_type import MeterType, Write
from protocols.settings import (
    AlarmAmounts,
    DatePlan,
    DayTable,
    LoadControl,
    Overdraft,
    Prices,
    ResetLoadTrips,
    SetClock,
    Setting,
    TimeControl,
    to_record,
)

__all__ = ["ConfigureOrder", "Orders", "SwitchOrder", "TopUpOrder"]

REMOTE = "remote"  # the channel of a sale that goes over the line

_WRITES: Mapping[type[Any], Write] = {
    Prices: Write.PRICES,
    DayTable: Write.DAY_TABLES,
    DatePlan: Write.DATE_PLAN,
    AlarmAmounts: Write.ALARMS,
    Overdraft: Write.OVERDRAFT,
    TimeControl: Write.TIME_CONTROL,
    LoadControl: Write.LOAD_CONTROL,
    ResetLoadTrips: Write.LOAD_CONTROL,
    SetClock: Write.CLOCK,
}  # everything else is the account


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUpOrder:
    """Put this much of the customer's money into the meter."""

    command_id: UUID
    meter_id: int
    amount_fen: int
    operator_id: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureOrder:
    """Write one setting into the meter."""

    command_id: UUID
    meter_id: int
    setting: Setting
    operator_id: int
    reason: str
    approver_id: int | None = None
    bulk_id: UUID | None = None


class Orders:
    """Takes orders. Knows what each meter type can do, and the time."""

    def __init__(self, clock: Clock, meter_types: Mapping[str, MeterType]) -> None:
        self._clock = clock
        self._meter_types = meter_types

    async def top_up(self, tx: Transaction, order: TopUpOrder) -> Accepted | Rejected:
        """Queue a top-up: its sale with the meter's next count, and its money reserved.

        The customer's account must hold the money already.
        """
        at = self._clock.now()
        refused = await self._admit(
            tx,
            order.command_id,
            order.meter_id,
            CommandKind.TOP_UP,
            write=Write.TOP_UP,
            amount_fen=order.amount_fen,
        )
        if refused is not None:
            return refused
        if not _is_sellable(order.amount_fen):
            return _out_of_range(order.amount_fen)
        customer = await accounts.customer_of_meter(tx, order.meter_id, at)
        if customer.closed_at is not None:
            return Rejected(Why.ACCOUNT_CLOSED)
        count = await self.next_count(tx, order.meter_id)
        if isinstance(count, Rejected):
            return count
        held = await accounts.balance(tx, customer.account_id)
        if held.available_fen < order.amount_fen:
            paid = f"{yuan(held.available_fen)} yuan of {yuan(order.amount_fen)}"
            return Rejected(Why.NOT_PAID, paid)
        sale_id = uuid5(order.command_id, "sale")
        await sales.open_sale(
            tx,
            sale_id=sale_id,
            meter_id=order.meter_id,
            purchase_count=count,
            amount_fen=order.amount_fen,
            channel=REMOTE,
            at=at,
        )
        dark = await switches.is_dark(tx, order.meter_id)
        accepted = await self._give(
            tx,
            NewCommand(
                command_id=order.command_id,
                meter_id=order.meter_id,
                kind=CommandKind.TOP_UP,
                amount_fen=order.amount_fen,
                purchase_count=count,
                sale_id=sale_id,
                details={"dark": True} if dark else {},
                ordered_by=order.operator_id,
                ordered_at=at,
                reason=order.reason,
            ),
        )
        await ledger.pending(
            tx,
            transfer_id=uuid5(order.command_id, "pending"),
            debit=customer.account_id,
            credit=(await accounts.account_of_meter(tx, order.meter_id, at)).account_id,
            amount_fen=order.amount_fen,
            operator_id=order.operator_id,
            at=at,
            command_id=order.command_id,
            sale_id=sale_id,
            reason=order.reason,
        )
        return accepted

    async def switch(self, tx: Transaction, order: SwitchOrder) -> Accepted | Rejected:
        """Queue one switching order (services/switch_orders.py)."""
        (answer,) = await self.switch_many(tx, [order])
        return answer

    async def switch_many(
        self, tx: Transaction, orders: Sequence[SwitchOrder]
    ) -> list[Accepted | Rejected]:
        """Queue switching orders of different meters; what became of each, in their order."""
        at = self._clock.now()
        return await switch_many(tx, orders, at=at, meter_types=self._meter_types)

    async def configure(self, tx: Transaction, order: ConfigureOrder) -> Accepted | Rejected:
        """Queue a setting; a bad one cannot be made (BadSetting)."""
        at = self._clock.now()
        write = _WRITES.get(type(order.setting), Write.ACCOUNT)
        details = to_record(order.setting)
        refused = await self._admit(
            tx,
            order.command_id,
            order.meter_id,
            CommandKind.CONFIGURE,
            write=write,
            details=details,
        )
        if refused is not None:
            return refused
        refused = await same_person(tx, order.operator_id, order.approver_id)
        if refused is not None:
            return refused
        if details["kind"] in RESETS_COUNTS:
            sale = await sales.open_of_meter(tx, order.meter_id)
            if sale is not None:
                return Rejected(
                    Why.SALE_OPEN, f"{yuan(sale.amount_fen)} yuan under {sale.purchase_count}"
                )
        return await self._give(
            tx,
            NewCommand(
                command_id=order.command_id,
                meter_id=order.meter_id,
                kind=CommandKind.CONFIGURE,
                details=details,
                ordered_by=order.operator_id,
                approved_by=order.approver_id,
                ordered_at=at,
                reason=order.reason,
                bulk_id=order.bulk_id,
            ),
        )

    async def _admit(
        self,
        tx: Transaction,
        command_id: UUID,
        meter_id: int,
        kind: CommandKind,
        *,
        write: Write,
        amount_fen: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Accepted | Rejected | None:
        """The order that has this id already, or why the meter cannot have one; None: go on."""
        type_name = await sales.lock_meter(tx, meter_id)
        there = await commands.find(tx, command_id)
        if there is not None:
            same = (there.meter_id, there.kind) == (meter_id, kind) and (
                amount_fen in (None, there.amount_fen)
                and (details is None or details == there.details)
            )
            return Accepted(there, repeated=True) if same else reused(command_id)
        if type_name is None:
            return Rejected(Why.NO_SUCH_METER)
        meter_type = self._meter_types.get(type_name)
        if meter_type is None or write not in meter_type.writes:
            return Rejected(Why.METER_HAS_NO_SUCH_WRITE, f"{type_name} has no {write.value}")
        return None

    async def _stopped(self, tx: Transaction, meter_id: int) -> Rejected | None:
        """Why nothing at all is sold to this meter now."""
        if await money_modes.is_platform(tx, meter_id):
            return Rejected(Why.PLATFORM_MONEY)
        case = await account_cases.open_of_meter(tx, meter_id)
        if case is not None and case.holds_sales:
            return Rejected(Why.SALES_FROZEN, f"work on its account goes on ({case.kind.value})")
        freeze = await sales.frozen(tx, meter_id)
        if freeze is not None:
            return Rejected(Why.SALES_FROZEN, freeze.reason)
        if await commands.is_open_setting(tx, meter_id, RESETS_COUNTS):
            return Rejected(Why.SALES_FROZEN, "its account is being opened or cleared")
        return None

    async def next_count(self, tx: Transaction, meter_id: int) -> int | Rejected:
        """The count of a new sale by any channel, or why there is none. The meter is locked."""
        stopped = await self._stopped(tx, meter_id)
        if stopped is not None:
            return stopped
        sale = await sales.open_of_meter(tx, meter_id)
        if sale is not None:
            return Rejected(
                Why.SALE_OPEN, f"{yuan(sale.amount_fen)} yuan under {sale.purchase_count}"
            )
        count = next_count(
            await sales.agreed_count(tx, meter_id), await sales.seen_count(tx, meter_id)
        )
        if isinstance(count, Doubt):
            return Rejected(Why.SALES_FROZEN, count.detail)
        return Rejected(Why.COUNT_UNKNOWN) if count is None else count

    async def _give(self, tx: Transaction, new: NewCommand) -> Accepted | Rejected:
        if not await commands.insert(tx, new):
            return reused(new.command_id)  # given for another meter in this very moment
        given = await commands.find(tx, new.command_id)
        assert given is not None, "just inserted"
        assert given.state is CommandState.QUEUED
        return Accepted(given)


def _is_sellable(amount_fen: object) -> bool:
    """A whole number of fen, within what one sale may be. A bool is no amount."""
    return type(amount_fen) is int and AMOUNT_FEN_MIN <= amount_fen <= AMOUNT_FEN_MAX


def _out_of_range(amount_fen: int) -> Rejected:
    least, most = yuan(AMOUNT_FEN_MIN), yuan(AMOUNT_FEN_MAX)
    detail = f"{yuan(amount_fen)} yuan is not between {least} and {most}"
    return Rejected(Why.AMOUNT_OUT_OF_RANGE, detail)
