"""One claimed command carried to its meter: looked at, sent once, looked at again, settled.

Before the intent is committed nothing has left, and the command goes back into the queue. After it
anything may have happened: what is not proved at once is unknown (services/resolver.py).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from gateways.line import Line, Unsettled
from gateways.link import LinkDown
from gateways.turns import Priority
from headend.domain.clock import Clock
from headend.domain.commands import SWITCHING, Command, CommandKind, CommandState
from headend.domain.limits import HardLimits, may_toggle_at
from headend.domain.money import yuan
from headend.services import settling
from headend.services.chips import Chips
from headend.services.conversations import Done, Trace, order
from headend.services.looks import MeterAtWork
from headend.services.rules import Rules
from headend.services.settling import Proof
from headend.store import attempts, commands, sales, switches
from headend.store.commands import Moved
from headend.store.database import Transact, Transaction
from headend.store.errors import StoreError
from protocols.evidence import Verdict, judge
from protocols.exchange import (
    Conversation,
    CountOutOfStep,
    Evidence,
    Intent,
    NotReady,
    ProtocolError,
    Request,
    WrongMeter,
    ask,
)
from protocols.registers import REFUSED_FOR_GOOD

log = logging.getLogger(__name__)
S = CommandState

# A meter that does not answer is tried again soon, since somebody may wait at the counter, and
# ever more rarely, since it costs its neighbours a time-out.
RETRY_WAIT = timedelta(seconds=1)
RETRY_WAIT_MAX = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Held:
    """Why an order is not sent now. `again_at` None: it is not sent at all."""

    reason: str
    again_at: datetime | None = None


# Asked in the transaction of the intent of each switching order, with what the meter shows now.
LastCheck: TypeAlias = Callable[[Transaction, Command, Evidence], Awaitable[Held | None]]


async def no_open_sale(tx: Transaction, command: Command, before: Evidence) -> Held | None:
    """The last check where no other is given: a meter with money on its way is not cut."""
    if command.kind is CommandKind.CUT:
        sale = await sales.open_of_meter(tx, command.meter_id)
        if sale is not None:
            return Held(f"{yuan(sale.amount_fen)} yuan are on their way into this meter")
    return None


class Stopped(Exception):
    """The intent was not recorded: the order is held."""

    def __init__(self, held: Held) -> None:
        super().__init__(held.reason)
        self.held = held


class Delivery:
    """Carries out one claimed command at a time for each line."""

    def __init__(
        self,
        transaction: Transact,
        clock: Clock,
        *,
        limits: HardLimits,
        last_check: LastCheck,
        rules: Rules,
    ) -> None:
        self.chips = Chips(transaction, clock)
        self._transaction = transaction
        self._clock = clock
        self._limits = limits
        self._last_check = last_check
        self._rules = rules
        #: kinds whose hard limit was met, and until when
        self.full_until: dict[CommandKind, datetime] = {}

    def in_flight_s(self, line: Line) -> float:
        """How long what left on this line may still do something."""
        given_s = self._rules.in_flight_s
        return line.timing.reply_late_s_max if given_s is None else given_s

    def full_kinds(self) -> list[CommandKind]:
        """Kinds that must wait now for their hard limit."""
        now = self._clock.now()
        return [kind for kind, until in self.full_until.items() if until > now]

    async def deliver(self, line: Line, meter: MeterAtWork, command: Command) -> None:
        """Carry out a claimed command to its end or to `unknown`. Raises StoreError."""
        errand = _Errand(self, line, meter, command)
        try:
            await errand.run()
        except Moved as moved:
            log.warning("%s; nothing more is done about it here", moved)

    async def intend(
        self, command: Command, began_at: datetime, before: Evidence, trace: Trace
    ) -> None:
        """Make it durable that this command is about to be written. Raises Stopped."""
        async with self._transaction() as tx:
            now = self._clock.now()
            if command.expires_at <= now:
                raise Stopped(Held("its deadline has passed", now))
            if command.kind in SWITCHING:
                held = await self._may_switch(tx, command, before, now)
                if held is not None:
                    raise Stopped(held)
            await attempts.begin(tx, command, began_at=began_at, at=now, before=before)
            await attempts.add_look(tx, command.command_id, now, {}, trace.take())
            if command.kind is CommandKind.TOP_UP:
                assert command.sale_id is not None
                await sales.copy_leaves(tx, command.sale_id)

    async def _may_switch(
        self, tx: Transaction, command: Command, before: Evidence, now: datetime
    ) -> Held | None:
        if self._rules.hard_limits:
            if self._limits.rates.get(command.kind):  # without a rate there is nothing to count
                await switches.one_at_a_time(tx)
            full = await switches.full_until(tx, command.kind, self._limits, now)
            if full is not None:
                self.full_until[command.kind] = full
                return Held(f"the limit of {command.kind.value} orders is reached", full)
            last = await switches.last_switch(tx, command.meter_id)
            free_at = may_toggle_at(command.kind, last, now, self._limits.toggle_gap)
            if free_at is not None:
                return Held("its relay was switched a short while ago", free_at)
        if not self._rules.last_check:
            return None
        return await self._last_check(tx, command, before)


class _Errand:
    """One command on its way."""

    def __init__(
        self, delivery: Delivery, line: Line, meter: MeterAtWork, command: Command
    ) -> None:
        self._delivery = delivery
        self._transaction = delivery._transaction
        self._clock = delivery._clock
        self._rules = delivery._rules
        self._line = line
        self._meter = meter
        self._command = command
        self._began_at = self._clock.now()
        self._trace = Trace(self._clock, [])
        self._intended = False
        self._before = Evidence()

    async def run(self) -> None:
        try:
            done = await self._converse(order(self._meter, self._command, self._clock))
        except Stopped as stopped:
            await self._held(stopped.held)
        except CountOutOfStep as error:
            await self._out_of_step(error)
        except Unsettled as unsettled:
            if not self._rules.one_write and self._trace.wrote is not None:
                await self._write_again(self._trace.wrote)
            await self._unknown(str(unsettled))
        except (StoreError, Moved):
            raise
        except Exception as error:
            if not isinstance(error, ProtocolError | LinkDown):
                log.exception("command %s: a fault of this program", self._command.command_id)
            await self._failed(error)
        else:
            await self._settle(done)

    async def _converse(self, conversation: Conversation[Done]) -> Done:
        return await self._delivery.chips.converse(
            self._line,
            self._meter,
            self._command,
            self._trace.follow(conversation),
            record_intent=self._record_intent,
        )

    async def _record_intent(self, before: Evidence) -> None:
        self._before = before
        if self._rules.intent_first:
            await self._delivery.intend(self._command, self._began_at, before, self._trace)
        self._intended = True

    # ---- before anything left -------------------------------------------------------------------

    async def _failed(self, error: Exception) -> None:
        if self._intended:
            await self._unknown(str(error))
            return
        async with self._transaction() as tx:
            now = self._clock.now()
            if self._can_never(error):
                proof = Proof(at=now, frames=self._trace.take())
                await settling.refuse(tx, self._command, S.CLAIMED, proof, str(error))
                return
            if isinstance(error, LinkDown):  # the sender waits for the line, not for a while
                await self._back(tx, now, str(error))
                return
            await commands.put_back(
                tx,
                self._command.command_id,
                now,
                outcome=str(error),
                wait=RETRY_WAIT,
                wait_max=RETRY_WAIT_MAX,
            )

    def _can_never(self, error: Exception) -> bool:
        """Whether trying again is of no use: the meter is not set up for this, or is another one.

        Only for orders no copy of which ever left; a burn always waits for its proof.
        """
        command = self._command
        return (
            isinstance(error, NotReady | WrongMeter)
            and command.attempts == 0
            and command.kind is not CommandKind.BURN
        )

    async def _held(self, held: Held) -> None:
        async with self._transaction() as tx:
            now = self._clock.now()
            if held.again_at is not None:
                await self._back(tx, held.again_at, held.reason)
            else:
                await settling.refuse(tx, self._command, S.CLAIMED, Proof(at=now), held.reason)

    async def _back(self, tx: Transaction, not_before: datetime, outcome: str) -> None:
        await commands.move(
            tx,
            self._command.command_id,
            S.CLAIMED,
            S.QUEUED,
            self._clock.now(),
            outcome=outcome,
            not_before=not_before,
        )

    async def _out_of_step(self, error: CountOutOfStep) -> None:
        if self._intended:  # a driver that looked twice: what it saw does not undo the write
            await self._unknown(str(error))
            return
        count = error.before.purchase_count
        if self._may_renumber() and count is not None:
            self._command = replace(self._command, purchase_count=count + 1)
            await self.run()
            return
        await self._explain(error.before)

    async def _explain(self, seen: Evidence) -> None:
        """The meter does not stand where this purchase follows.

        An earlier copy of the same sale may have landed after all: then count and total have moved
        by exactly this sale since before its first copy. Anything else came from elsewhere: a
        number is never given anew, sales to the meter stop, and a person looks.
        """
        command = self._command
        assert command.sale_id is not None
        assert command.purchase_count is not None
        async with self._transaction() as tx:
            proof = Proof(at=self._clock.now(), after=seen, frames=self._trace.take())
            base = await attempts.before_sale(tx, command.sale_id)
            sale = await sales.find(tx, command.sale_id)
            assert sale is not None
            landed = base is not None and judge(base, seen, sale.amount_fen) is Verdict.APPLIED
            if landed and command.kind is CommandKind.TOP_UP:
                # It is in the meter, and it was us: through SENT, as it truly was.
                await commands.move(tx, command.command_id, S.CLAIMED, S.SENT, proof.at)
                await settling.confirm(tx, command, S.SENT, proof, "an earlier try had arrived")
            elif landed:
                await settling.refuse_burn(
                    tx, command, S.CLAIMED, proof, "the credit had arrived under this count"
                )
            else:
                await settling.escalate(
                    tx,
                    command,
                    S.CLAIMED,
                    proof,
                    f"the meter shows purchase count {seen.purchase_count} where "
                    f"{command.purchase_count - 1} was expected: find the purchase that came "
                    "from elsewhere",
                    freeze=True,
                )

    # ---- after the intent -----------------------------------------------------------------------

    async def _settle(self, done: Done) -> None:
        await self._intend_late()
        if done.verdict is not Verdict.APPLIED and not self._is_refused(done):
            if not await self._burn_came_too_late(done):
                await self._unknown(f"the meter answered, its registers say {done.verdict.value}")
            return
        async with self._transaction() as tx:
            proof = Proof(at=self._clock.now(), after=done.after, frames=self._trace.take())
            if done.verdict is Verdict.APPLIED:
                await settling.confirm(tx, self._command, S.SENT, proof)
            else:
                said = f"the meter refused with code {done.refusal}, nothing has changed in it"
                await settling.refuse(tx, self._command, S.SENT, proof, said)

    def _is_refused(self, done: Done) -> bool:
        return (
            done.verdict is Verdict.NOT_APPLIED
            and done.refusal in REFUSED_FOR_GOOD
            and self._command.kind is not CommandKind.BURN  # its money waits for a proof
        )

    async def _burn_came_too_late(self, done: Done) -> bool:
        """Whether the credit that was to be burned landed between our look and our write."""
        command = self._command
        if command.kind is not CommandKind.BURN or done.after is None:
            return False
        assert command.sale_id is not None
        async with self._transaction() as tx:
            base = await attempts.before_sale(tx, command.sale_id)
            sale = await sales.find(tx, command.sale_id)
            assert sale is not None
            if base is None or judge(base, done.after, sale.amount_fen) is not Verdict.APPLIED:
                return False
            proof = Proof(at=self._clock.now(), after=done.after, frames=self._trace.take())
            said = "the credit had arrived under this count"
            await settling.refuse_burn(tx, command, S.SENT, proof, said)
        return True

    async def _unknown(self, why: str) -> None:
        await self._intend_late()
        line, delivery = self._line, self._delivery
        wait_s = max(delivery.in_flight_s(line), line.quiet_left_s(self._meter.address))
        if not self._rules.settle:
            wait_s = 0.0
        async with self._transaction() as tx:
            now = self._clock.now()
            await attempts.add_look(tx, self._command.command_id, now, {}, self._trace.take())
            await commands.move(
                tx,
                self._command.command_id,
                S.SENT,
                S.UNKNOWN,
                now,
                outcome=why,
                look_again_at=now + timedelta(seconds=wait_s),
            )

    # ---- what a trial may break -----------------------------------------------------------------

    def _may_renumber(self) -> bool:
        is_retry = self._command.attempts > 0
        return not self._rules.look_first or (is_retry and not self._rules.same_count_on_retry)

    async def _intend_late(self) -> None:
        if not self._rules.intent_first:
            await self._delivery.intend(self._command, self._began_at, self._before, self._trace)

    async def _write_again(self, write: Request) -> None:
        def once_more() -> Conversation[None]:
            yield Intent(self._before)
            yield from ask(write)

        async def recorded(before: Evidence) -> None:
            """The intent of the first time stands."""

        try:
            await self._line.converse(
                self._meter.address,
                self._trace.follow(once_more()),
                priority=Priority.COMMAND,
                record_intent=recorded,
            )
        except (ProtocolError, LinkDown, Unsettled) as error:
            log.debug("written again, in vain: %s", error)
