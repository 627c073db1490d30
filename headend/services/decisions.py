"""What people decide about orders that exist: take back, burn, judge, and sell again.

The same rules as for orders: everything in the caller's transaction, a "no" is a value. Above a
limit a decision about money is a second person's too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from headend.domain.clock import Clock
from headend.domain.commands import (
    MONEY,
    Accepted,
    Command,
    CommandKind,
    CommandState,
    Rejected,
    Why,
)
from headend.domain.purchases import Sale
from headend.services import settling
from headend.services.persons import second_person
from headend.services.settling import Decision, Proof
from headend.store import commands, queue, sales
from headend.store.database import Transaction

S = CommandState
TAKE_BACK_BATCH = 100  # expired commands ended in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a person says about an order that the evidence left open."""

    command_id: UUID
    #: of a top-up: the credit is in the meter. Of a burn: nothing is in the meter under its count.
    #: Of anything else: the meter did as ordered.
    carried_out: bool
    operator_id: int
    reason: str
    approver_id: int | None = None


class Decisions:
    """Ends orders by a person's word, or by the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def cancel(
        self,
        tx: Transaction,
        command_id: UUID,
        *,
        operator_id: int,
        reason: str,
        approver_id: int | None = None,
    ) -> Accepted | Rejected:
        """Take back an order that still waits.

        The money of a top-up goes back to the customer at once when no copy of it can land any
        more; otherwise its count is burned first, by an order given here.
        """
        command = await commands.find(tx, command_id, lock=True)
        if command is None:
            return Rejected(Why.NO_SUCH_COMMAND, str(command_id))
        if command.state is S.CANCELLED:
            return Accepted(command, repeated=True)
        if command.state is not S.QUEUED or command.kind is CommandKind.BURN:
            return Rejected(Why.NOT_NOW, _where(command))
        sale = await _sale_of(tx, command)
        refused = await _second_person(tx, sale, operator_id, approver_id)
        if refused is not None:
            return refused
        proof = self._by_person(operator_id, approver_id, reason)
        await commands.move(tx, command_id, S.QUEUED, S.CANCELLED, proof.at, outcome=reason)
        if command.kind is CommandKind.TOP_UP:
            await settling.take_back(tx, command, proof)
        return Accepted(await _again(tx, command_id))

    async def decide(self, tx: Transaction, verdict: Verdict) -> Accepted | Rejected:
        """End an escalated order by a person's word.

        A top-up that is said not to have arrived gives its money back only when no copy of it can
        land any more; otherwise its count is burned first. Sales that were frozen stay so: `thaw`.
        A release that did not happen is ordered anew: a debtor would stay forced on.
        """
        command = await commands.find(tx, verdict.command_id, lock=True)
        if command is None:
            return Rejected(Why.NO_SUCH_COMMAND, str(verdict.command_id))
        if command.state is not S.ESCALATED:
            return Rejected(Why.NOT_NOW, _where(command))
        sale = await _sale_of(tx, command)
        refused = await _second_person(tx, sale, verdict.operator_id, verdict.approver_id)
        if refused is not None:
            return refused
        proof = self._by_person(verdict.operator_id, verdict.approver_id, verdict.reason)
        said = f"decided: {verdict.reason}"
        if verdict.carried_out:
            await settling.confirm(tx, command, S.ESCALATED, proof, said)
        elif command.kind is CommandKind.BURN:
            await settling.refuse_burn(tx, command, S.ESCALATED, proof, said)
        else:
            await settling.refuse(tx, command, S.ESCALATED, proof, said)
        if command.kind is CommandKind.RELEASE and not verdict.carried_out:
            await settling.release_again(tx, command, proof)
        return Accepted(await _again(tx, command.command_id))

    async def burn(
        self,
        tx: Transaction,
        meter_id: int,
        *,
        operator_id: int,
        reason: str,
        approver_id: int | None = None,
    ) -> Accepted | Rejected:
        """End the open sale of a meter without crediting it: the way to its money's return.

        A sale that still waits is cancelled. One that ended without an answer is burned by the
        order that is given here or was given when it ended; this finds it.
        """
        await sales.lock_meter(tx, meter_id)
        sale = await sales.open_of_meter(tx, meter_id)
        if sale is None:
            return Rejected(Why.NOT_NOW, "no sale of this meter is open")
        for command in await commands.listing(tx, meter_ids=[meter_id], kinds=MONEY):
            if command.sale_id != sale.sale_id:
                continue
            if command.kind is CommandKind.BURN:
                return Accepted(command, repeated=True)
            return await self.cancel(
                tx,
                command.command_id,
                operator_id=operator_id,
                reason=reason,
                approver_id=approver_id,
            )
        return Rejected(Why.NOT_NOW, "its sale was given by no order")

    async def thaw(
        self, tx: Transaction, meter_id: int, *, operator_id: int, reason: str, count_agreed: int
    ) -> bool:
        """Sell to a frozen meter again. `count_agreed`: the count it shows now, found to be right.

        False when its sales were not frozen; the count is agreed all the same.
        """
        return await sales.thaw(
            tx,
            meter_id,
            operator_id=operator_id,
            reason=reason,
            count_agreed=count_agreed,
            at=self._clock.now(),
        )

    async def expire_due(self, tx: Transaction) -> int:
        """End what waited past its deadline; returns how many. Its money goes back as by cancel.

        A burn that could not be delivered is given anew: its money waits for it. So is a release
        that ends a restore: a debtor would stay forced on.
        """
        at = self._clock.now()
        due = await queue.expired(tx, at, limit=TAKE_BACK_BATCH)
        for command in due:
            await self._expire(tx, command, at)
        return len(due)

    async def _expire(self, tx: Transaction, command: Command, at: datetime) -> None:
        outcome = f"not delivered in time; {command.outcome}".removesuffix("; ")
        await commands.move(tx, command.command_id, S.QUEUED, S.EXPIRED, at, outcome=outcome)
        if command.kind in MONEY:
            await settling.take_back(tx, command, Proof(at=at))
        elif command.kind is CommandKind.RELEASE and command.cause_id is not None:
            await settling.release_again(tx, command, Proof(at=at))

    def _by_person(self, operator_id: int, approver_id: int | None, reason: str) -> Proof:
        decision = Decision(operator_id=operator_id, approver_id=approver_id, reason=reason)
        return Proof(at=self._clock.now(), decision=decision)


async def _sale_of(tx: Transaction, command: Command) -> Sale | None:
    return None if command.sale_id is None else await sales.find(tx, command.sale_id)


async def _second_person(
    tx: Transaction, sale: Sale | None, operator_id: int, approver_id: int | None
) -> Rejected | None:
    amount_fen = 0 if sale is None else sale.amount_fen
    return await second_person(tx, amount_fen, operator_id, approver_id)


async def _again(tx: Transaction, command_id: UUID) -> Command:
    command = await commands.find(tx, command_id)
    assert command is not None
    return command


def _where(command: Command) -> str:
    return f"{command.kind.value} is {command.state.value}"
