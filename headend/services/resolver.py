"""Settles what is unknown by looking again, once nothing that was sent can still be in flight.

Applied: the command is confirmed and its money posted. Not applied: it goes out again with the
same count and amount, a few times. Witnesses that disagree: a person decides, with every look.
"""

from __future__ import annotations

from datetime import timedelta

from gateways.line import Line
from gateways.link import LinkDown
from headend.domain.clock import Clock
from headend.domain.commands import MONEY, Command, CommandKind, CommandState
from headend.services import settling
from headend.services.chips import Chips
from headend.services.conversations import Trace, look, stands_as_ordered
from headend.services.delivery import RETRY_WAIT, RETRY_WAIT_MAX
from headend.services.looks import MeterAtWork
from headend.services.settling import Proof
from headend.store import attempts, commands, queue, sales
from headend.store.database import Transact, Transaction
from protocols.evidence import Verdict, judge
from protocols.exchange import CodesRefused, Evidence, ProtocolError

S = CommandState

# So often a meter is asked to do what it answered to and did not do; then a person looks at it.
ATTEMPTS_MAX = 5
# A meter that tells nothing for so long will not tell by itself: somebody goes there.
SILENT_ESCALATES_AFTER = timedelta(hours=24)
STALE_BATCH = 100  # escalated in one transaction


class Resolver:
    """Looks at one unknown command at a time for each line."""

    def __init__(self, transaction: Transact, clock: Clock, chips: Chips) -> None:
        self._chips = chips
        self._transaction = transaction
        self._clock = clock

    async def resolve(self, line: Line, meter: MeterAtWork, command: Command) -> None:
        """Look once and settle, or look again later. Raises StoreError."""
        trace = Trace(self._clock, [])
        try:
            seen = await self._chips.converse(
                line, meter, command, trace.follow(look(meter, command, self._clock))
            )
        except CodesRefused as error:
            await self._give_up(command, str(error), trace)
            return
        except (ProtocolError, LinkDown) as error:
            async with self._transaction() as tx:
                await commands.look_later(
                    tx,
                    command.command_id,
                    self._clock.now(),
                    outcome=f"could not be looked at: {error}",
                    wait=RETRY_WAIT,
                    wait_max=RETRY_WAIT_MAX,
                )
            return
        async with self._transaction() as tx:
            held = await commands.find(tx, command.command_id, lock=True)
            if held is None or held.state is not S.UNKNOWN:
                return  # settled meanwhile
            after = seen if isinstance(seen, Evidence) else None
            proof = Proof(at=self._clock.now(), after=after, frames=trace.take())
            verdict = await self._judge(tx, held, seen)
            await self._settle(tx, held, verdict, proof)

    async def _give_up(self, command: Command, why: str, trace: Trace) -> None:
        """The chip that knows may not be asked any more: a person decides."""
        async with self._transaction() as tx:
            held = await commands.find(tx, command.command_id, lock=True)
            if held is not None and held.state is S.UNKNOWN:
                proof = Proof(at=self._clock.now(), frames=trace.take())
                await settling.escalate(tx, held, S.UNKNOWN, proof, why, freeze=True)

    async def _judge(self, tx: Transaction, command: Command, seen: Evidence | bool) -> Verdict:
        if isinstance(seen, bool):
            return Verdict.APPLIED if seen else Verdict.NOT_APPLIED
        if command.kind not in MONEY:
            stands = stands_as_ordered(command.kind, seen)
            return Verdict.APPLIED if stands else Verdict.NOT_APPLIED
        assert command.amount_fen is not None
        attempt = await attempts.newest(tx, command.command_id)
        assert attempt is not None, "what is unknown was sent"
        verdict = judge(attempt.before, seen, command.amount_fen)
        if verdict is Verdict.UNCLEAR and command.kind is CommandKind.BURN:
            # The credit that was to be burned may have landed: the next try finds it and says so.
            assert command.sale_id is not None
            sale = await sales.find(tx, command.sale_id)
            assert sale is not None
            if judge(attempt.before, seen, sale.amount_fen) is Verdict.APPLIED:
                return Verdict.NOT_APPLIED
        return verdict

    async def _settle(
        self, tx: Transaction, command: Command, verdict: Verdict, proof: Proof
    ) -> None:
        if verdict is Verdict.APPLIED:
            await settling.confirm(tx, command, S.UNKNOWN, proof, "proved by a later look")
        elif verdict is Verdict.UNCLEAR:
            await settling.escalate(
                tx,
                command,
                S.UNKNOWN,
                proof,
                "the meter's registers before and after do not fit this order: compare both looks",
                freeze=True,
            )
        elif command.attempts >= ATTEMPTS_MAX:
            await settling.escalate(
                tx,
                command,
                S.UNKNOWN,
                proof,
                f"sent {command.attempts} times, and the meter did not do it",
                freeze=False,
            )
        else:
            await attempts.end(
                tx,
                command.command_id,
                proof.at,
                "not_applied",
                after=proof.after,
                frames=proof.frames,
            )
            await commands.move(
                tx,
                command.command_id,
                S.UNKNOWN,
                S.QUEUED,
                proof.at,
                outcome="it did not arrive: it is sent again",
                not_before=proof.at,
            )

    async def escalate_stale(self, tx: Transaction) -> int:
        """Hand over to a person what no look could settle for long; returns how many."""
        now = self._clock.now()
        stale = await queue.stale_unknown(tx, now - SILENT_ESCALATES_AFTER, limit=STALE_BATCH)
        for command in stale:
            await settling.escalate(
                tx,
                command,
                S.UNKNOWN,
                Proof(at=now),
                f"sent, and the meter could not be looked at since: {command.outcome}",
                freeze=False,
            )
        return len(stale)
