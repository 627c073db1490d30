"""What follows when a command ends: its sale, its money and the order that comes after it.

Each function belongs into one transaction with whatever proved the end; money moves there or not
at all. The ids of what follows are made of the id of what it follows from, so that a repeat meets
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from headend.domain.commands import RESETS_COUNTS, Command, CommandKind, CommandState
from headend.domain.ledger import Operation
from headend.domain.limits import TOGGLE_GAP, may_toggle_at
from headend.domain.purchases import SaleState
from headend.store import attempts, cards, commands, ledger, sales, switches
from headend.store.commands import NewCommand
from headend.store.database import Transaction
from protocols.exchange import Evidence

S = CommandState


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who decided what the evidence could not, and why."""

    operator_id: int
    approver_id: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the end of a command rests on."""

    at: datetime
    after: Evidence | None = None
    frames: Sequence[dict[str, Any]] = ()
    decision: Decision | None = None


async def confirm(
    tx: Transaction, command: Command, state: CommandState, proof: Proof, outcome: str = ""
) -> None:
    """The order was carried out: post its money, and give the order that follows from it.

    For a burn this means that nothing can land under its count any more, so its money goes back.
    """
    await _end_attempt(tx, command, proof, "applied")
    await commands.move(tx, command.command_id, state, S.CONFIRMED, proof.at, outcome=outcome)
    if command.kind is CommandKind.TOP_UP:
        await land(tx, command, proof)
        await _light_again(tx, command, proof)
    elif command.kind is CommandKind.BURN:
        await give_back(tx, command, SaleState.BURNED, proof)
    elif command.kind is CommandKind.RESTORE:
        await _release(tx, command, proof.at)
    elif command.details.get("kind") in RESETS_COUNTS:
        said = f"its registers were put back to zero ({command.details['kind']}): accept the meter"
        await sales.freeze(tx, command.meter_id, said, proof.at)
    elif command.kind is CommandKind.CUT and command.details.get("pulse"):
        await _end_pulse(tx, command, proof.at)


async def refuse(
    tx: Transaction, command: Command, state: CommandState, proof: Proof, outcome: str
) -> None:
    """The meter said no and a look showed that nothing changed, or it was never sent.

    A sale whose every copy is dead is reversed and its money given back. One that may still land is
    burned first.
    """
    await _end_attempt(tx, command, proof, "refused")
    await commands.move(tx, command.command_id, state, S.REFUSED, proof.at, outcome=outcome)
    if command.kind is CommandKind.TOP_UP:
        assert command.sale_id is not None
        if state is S.SENT:
            await sales.copy_refused(tx, command.sale_id)
        await take_back(tx, command, proof)


async def refuse_burn(
    tx: Transaction, command: Command, state: CommandState, proof: Proof, outcome: str
) -> None:
    """The credit had arrived under the count that was to be burned: the sale stands."""
    await _end_attempt(tx, command, proof, "not_applied")
    await commands.move(tx, command.command_id, state, S.REFUSED, proof.at, outcome=outcome)
    await land(tx, command, proof)
    await _light_again(tx, command, proof)


async def escalate(
    tx: Transaction,
    command: Command,
    state: CommandState,
    proof: Proof,
    outcome: str,
    *,
    freeze: bool,
) -> None:
    """A person decides. `freeze`: the meter and the books differ, so nothing more is sold to it."""
    await attempts.add_look(
        tx, command.command_id, proof.at, _look_record(proof.after), proof.frames
    )
    await commands.move(tx, command.command_id, state, S.ESCALATED, proof.at, outcome=outcome)
    if freeze:
        await sales.freeze(tx, command.meter_id, outcome, proof.at)


def _look_record(seen: Evidence | None) -> dict[str, Any]:
    return {} if seen is None else attempts.as_record(seen)


async def land(tx: Transaction, command: Command, proof: Proof) -> None:
    """The sale of this command is in the meter: its money is spent."""
    assert command.sale_id is not None
    await sales.close(tx, command.sale_id, SaleState.LANDED, proof.at)
    await cards.sale_ended(tx, command.sale_id, proof.at, "its sale landed another way")
    reserved = await ledger.pending_of_sale(tx, command.sale_id)
    assert reserved is not None, "an open sale has its money reserved"
    decision = proof.decision
    await ledger.post(
        tx,
        reserved.transfer_id,
        at=proof.at,
        operator_id=None if decision is None else decision.operator_id,
        approver_id=None if decision is None else decision.approver_id,
        reason="" if decision is None else decision.reason,
    )


async def give_back(tx: Transaction, command: Command, state: SaleState, proof: Proof) -> None:
    """The sale of this command will never land: its money stays with the customer."""
    assert command.sale_id is not None
    await sales.close(tx, command.sale_id, state, proof.at)
    await cards.sale_ended(tx, command.sale_id, proof.at, f"its sale was {state.value}")
    reserved = await ledger.pending_of_sale(tx, command.sale_id)
    assert reserved is not None, "an open sale has its money reserved"
    decision = proof.decision
    if decision is None:
        await ledger.void(tx, reserved.transfer_id, at=proof.at)
        return
    await ledger.void(
        tx,
        reserved.transfer_id,
        at=proof.at,
        operation=Operation.REVERSAL,
        operator_id=decision.operator_id,
        approver_id=decision.approver_id,
        reason=decision.reason,
    )


async def take_back(tx: Transaction, command: Command, proof: Proof) -> Command | None:
    """End the sale of a command that will not be sent any more.

    Reversed at once when no copy can land; else its count is burned first, and the burn is given
    here. Returns the burn.
    """
    assert command.sale_id is not None
    if await sales.may_be_reversed(tx, command.sale_id):
        await give_back(tx, command, SaleState.REVERSED, proof)
        return None
    by = command.ordered_by if proof.decision is None else proof.decision.operator_id
    burn_id = uuid5(command.command_id, "burn")
    await commands.insert(
        tx,
        NewCommand(
            command_id=burn_id,
            meter_id=command.meter_id,
            kind=CommandKind.BURN,
            amount_fen=0,
            purchase_count=command.purchase_count,
            sale_id=command.sale_id,
            ordered_by=by,
            ordered_at=proof.at,
            reason=f"a copy of this sale may still land: {command.reason}".removesuffix(": "),
            cause_id=command.command_id,
        ),
    )
    return await commands.find(tx, burn_id)


async def _light_again(tx: Transaction, command: Command, proof: Proof) -> None:
    await light_again(
        tx,
        command.meter_id,
        proof,
        restore_id=uuid5(command.command_id, "restore"),
        ordered_by=command.ordered_by,
        cause_id=command.command_id,
    )


async def light_again(
    tx: Transaction,
    meter_id: int,
    proof: Proof,
    *,
    restore_id: UUID,
    ordered_by: int,
    cause_id: UUID | None,
) -> None:
    """A meter that is cut and has credit again gets light: ordered with the money that pays it.

    A cut that still waits is taken back; it was ordered before the money came.
    """
    await cancel_queued(tx, meter_id, {CommandKind.CUT}, proof.at, "credit has arrived")
    after = proof.after or Evidence()
    if after.remaining_credit_fen is not None and after.remaining_credit_fen <= 0:
        return  # the meter would open its relay again at once
    dark = (
        await switches.is_dark(tx, meter_id)
        if after.relay_closed_bits is None
        else after.relay_closed_bits == 0
    )
    if not dark:
        return
    await commands.insert(
        tx,
        NewCommand(
            command_id=restore_id,
            meter_id=meter_id,
            kind=CommandKind.RESTORE,
            ordered_by=ordered_by,
            ordered_at=proof.at,
            reason="credit has arrived",
            not_before=may_toggle_at(
                CommandKind.RESTORE,
                await switches.last_switch(tx, meter_id),
                proof.at,
                TOGGLE_GAP,
            ),
            cause_id=cause_id,
        ),
    )


async def _release(tx: Transaction, command: Command, at: datetime) -> None:
    """A relay forced closed outranks the meter's own ledger: a debtor would stay on for ever.

    So each restore ends with a release, an order of its own with its own intent and its own look.
    """
    await commands.insert(
        tx,
        NewCommand(
            command_id=uuid5(command.command_id, "release"),
            meter_id=command.meter_id,
            kind=CommandKind.RELEASE,
            ordered_by=command.ordered_by,
            approved_by=command.approved_by,
            ordered_at=at,
            reason="the relay is closed: the meter's own ledger decides again",
            cause_id=command.command_id,
        ),
    )


async def release_again(tx: Transaction, command: Command, proof: Proof) -> None:
    """A release that was not carried out: the relay still stands as it was forced, so letting go of
    it is ordered anew, by whoever found out, or by who ordered it where nobody could deliver it."""
    decision = proof.decision
    await commands.insert(
        tx,
        NewCommand(
            command_id=uuid5(command.command_id, "release"),
            meter_id=command.meter_id,
            kind=CommandKind.RELEASE,
            ordered_by=command.ordered_by if decision is None else decision.operator_id,
            ordered_at=proof.at,
            reason="the relay was not let go of: once more",
            cause_id=command.command_id,
        ),
    )


async def _end_pulse(tx: Transaction, command: Command, at: datetime) -> None:
    """The test has opened its circuit, and is proved: light again, as soon as the relay may move.

    A circuit that carried nothing before the test gets no light from it: it is only let go of, or
    left as it was where it was held open before.
    """
    attempt = await attempts.newest(tx, command.command_id)
    was_dark = attempt is not None and attempt.before.relay_closed_bits == 0
    if was_dark and attempt is not None and attempt.before.forced:
        return
    await commands.insert(
        tx,
        NewCommand(
            command_id=uuid5(command.command_id, "restore"),
            meter_id=command.meter_id,
            kind=CommandKind.RELEASE if was_dark else CommandKind.RESTORE,
            ordered_by=command.ordered_by,
            ordered_at=at,
            reason=f"end of the pulse test: {command.reason}",
            not_before=may_toggle_at(
                CommandKind.RESTORE,
                await switches.last_switch(tx, command.meter_id),
                at,
                TOGGLE_GAP,
            ),
            cause_id=command.command_id,
        ),
    )


async def cancel_queued(
    tx: Transaction, meter_id: int, kinds: set[CommandKind], at: datetime, why: str
) -> list[UUID]:
    """Take back switching orders that still wait; a newer word replaces an older one."""
    cancelled = []
    for waiting in await switches.queued(tx, meter_id):
        if waiting.kind in kinds:
            await commands.move(tx, waiting.command_id, S.QUEUED, S.CANCELLED, at, outcome=why)
            cancelled.append(waiting.command_id)
    return cancelled


async def _end_attempt(tx: Transaction, command: Command, proof: Proof, outcome: str) -> None:
    await attempts.end(
        tx,
        command.command_id,
        proof.at,
        outcome if proof.decision is None else "decided",
        after=proof.after,
        frames=proof.frames,
    )
