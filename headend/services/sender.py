"""Sends what waits: woken when an order commits, one command at a time for each line.

A line's task lives as long as there is something to do there. It carries out claimed commands and
settles unknown ones; meters whose old answers may still come are passed over, so that one silent
meter does not hold up its neighbours. A slow look besides finds what no notice told.

Recovery is one statement: claimed → queued, sent → unknown. It runs at start for every line, and
for one line whenever the database went away under its task, since then nobody knows which commits
arrived. While a line's task runs, no other task touches what is claimed or sent there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeVar

from headend.domain.clock import Clock
from headend.domain.commands import Command
from headend.domain.limits import HardLimits
from headend.services import restore_clock
from headend.services.decisions import Decisions
from headend.services.delivery import Delivery, LastCheck, no_open_sale
from headend.services.lines import LineAtWork, LineBook
from headend.services.patience import Pauses, for_ever
from headend.services.resolver import Resolver
from headend.services.rules import Rules
from headend.store import commands, queue
from headend.store.database import POOL_CONNECTIONS_MAX, Database, Transaction
from headend.store.errors import DatabaseAway, DiskFull, StoreError

__all__ = ["Rules", "Sender"]

log = logging.getLogger(__name__)
T = TypeVar("T")

# What no notice tells: a notice lost with its connection, a wait that ended, a deadline.
SLOW_LOOK_S = 2.0
AWAY_RETRY_S = 1.0  # how often an absent database is tried again
# A line that is down is waited for this long before its task ends; the slow look starts it anew.
LINE_PATIENCE_S = 30.0
# The pool has ten connections, and people want some of them.
TRANSACTIONS_MAX = 6
assert TRANSACTIONS_MAX < POOL_CONNECTIONS_MAX


class Sender:
    """One for each process. `start` it once the lines are loaded; `stop` ends it at any moment."""

    def __init__(
        self,
        database: Database,
        lines: LineBook,
        clock: Clock,
        *,
        limits: HardLimits | None = None,
        last_check: LastCheck = no_open_sale,
        rules: Rules | None = None,
        slow_look_s: float = SLOW_LOOK_S,
    ) -> None:
        rules = rules or Rules()
        self._slow_look_s = slow_look_s
        self._database = database
        self._lines = lines
        self._clock = clock
        self._turns = asyncio.Semaphore(TRANSACTIONS_MAX)
        self._delivery = Delivery(
            self._transaction,
            clock,
            limits=limits or HardLimits(),
            last_check=last_check,
            rules=rules,
        )
        self._resolver = Resolver(self._transaction, clock, self._delivery.chips)
        self._decisions = Decisions(clock)
        self._at_work: dict[int, asyncio.Task[None]] = {}
        self._news: dict[int, asyncio.Event] = {}  # by line
        self._look_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._away = False

    async def start(self) -> None:
        """Begin. What an earlier process left half done is taken up first."""
        self._tasks = [asyncio.create_task(self._run(), name="sender")]

    async def stop(self) -> None:
        """End now. What is on its way stays so in the database: the next start takes it up."""
        working = [*self._tasks, *self._at_work.values()]
        for task in working:
            task.cancel()
        for task in working:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        self._at_work.clear()

    def wake(self, line_id: int) -> None:
        """Something may wait on this line."""
        news = self._news.setdefault(line_id, asyncio.Event())
        news.set()
        if line_id in self._at_work:
            return
        task = asyncio.create_task(self._work(line_id), name=f"commands of line {line_id}")
        self._at_work[line_id] = task

        def ended(_: asyncio.Task[None]) -> None:
            if self._at_work.get(line_id) is task:
                del self._at_work[line_id]

        task.add_done_callback(ended)

    # ---- what waits where -----------------------------------------------------------------------

    async def _run(self) -> None:
        await self._patiently(self._recover)
        listening = for_ever("the ear of the sender", self._listen)
        self._tasks.append(asyncio.create_task(listening, name="sender listens"))
        while True:
            next_at = await self._patiently(self._look)
            wait_s = self._slow_look_s
            if next_at is not None:
                wait_s = min(wait_s, max(0.0, (next_at - self._clock.now()).total_seconds()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._look_now.wait()
            self._look_now.clear()

    async def _listen(self) -> None:
        async for line_id in self._database.listen(commands.COMMANDS):
            if line_id.isdecimal():
                self.wake(int(line_id))
            else:
                self._look_now.set()

    async def _look(self) -> datetime | None:
        """End what is overdue, wake the lines with something to do; when the next thing is due."""
        async with self._transaction() as tx:
            while await self._decisions.expire_due(tx):
                pass
            await self._resolver.escalate_stale(tx)
            now = self._clock.now()
            await restore_clock.tell(tx, now)
            lines, next_at = await queue.due_lines(tx, now)
        for line_id in lines:
            self.wake(line_id)
        return next_at

    async def _recover(self, line_ids: Collection[int] | None = None) -> None:
        in_flight_s = {
            at_work.known.line_id: self._delivery.in_flight_s(at_work.line)
            for at_work in self._lines.lines.values()
        }
        async with self._transaction() as tx:
            moved = await queue.recover(
                tx, self._clock.now(), line_ids=line_ids, in_flight_s=in_flight_s
            )
        if moved:
            log.warning("%d commands were interrupted and are taken up again", moved)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it, however long the database is away, and after a fault of this program too."""
        pauses = Pauses()
        while True:
            try:
                done = await work()
            except (DatabaseAway, DiskFull) as error:
                self._fell(error)
                await asyncio.sleep(AWAY_RETRY_S)
            except Exception:
                # Nothing would be sent, settled or expired any more, and nobody would be told.
                log.exception("the look for waiting commands met a fault")
                await asyncio.sleep(pauses.next_s())
            else:
                self._rose()
                return done

    # ---- one line -------------------------------------------------------------------------------

    async def _work(self, line_id: int) -> None:
        """Carry out whatever waits on one line; ends when nothing does."""
        is_sound, pauses = True, Pauses()
        while True:
            self._news[line_id].clear()
            try:
                if not is_sound:
                    await self._recover([line_id])
                    is_sound = True
                goes_on = await self._step(line_id)
            except DatabaseAway as error:
                self._fell(error)
                is_sound = False
                await asyncio.sleep(AWAY_RETRY_S)
            except Exception:
                # A fault of this program: what it had in hand is taken up again, ever more slowly.
                log.exception("the commands of line %d met a fault", line_id)
                is_sound = False
                await asyncio.sleep(pauses.next_s())
            else:
                self._rose()
                pauses.over()
                if not goes_on and not self._news[line_id].is_set():
                    return

    async def _step(self, line_id: int) -> bool:
        """Carry out or settle one command; False when nothing on this line can go now."""
        at_work = self._line(line_id)
        if at_work is None or not await at_work.wait_up(LINE_PATIENCE_S):
            return False
        line = at_work.line
        quiet_s = {m.known.meter_id: line.quiet_left_s(m.address) for m in at_work.meters}
        ready = [meter_id for meter_id, left_s in quiet_s.items() if not left_s]
        command: Command | None = None
        nap_s: float | None = None
        async with self._transaction() as tx:
            now = self._clock.now()
            unknown = await queue.due_unknown(tx, ready, now)
            if unknown is None:
                command = await queue.claim(
                    tx,
                    ready,
                    now,
                    not_kinds=self._delivery.full_kinds(),
                    in_flight_s_max=self._delivery.in_flight_s(line),
                )
                if command is None:
                    nap_s = await self._nap_s(tx, quiet_s, now)
        if unknown is not None:
            meter = self._lines.by_id[unknown.meter_id]
            await self._resolver.resolve(line, meter, unknown)
        elif command is not None:
            meter = self._lines.by_id[command.meter_id]
            await self._delivery.deliver(line, meter, command)
        elif nap_s is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(nap_s):
                    await self._news[line_id].wait()
        else:
            return False
        return True

    async def _nap_s(
        self, tx: Transaction, quiet_s: Mapping[int, float], now: datetime
    ) -> float | None:
        """How long until something can go on this line; None: longer than the slow look takes."""
        quiet = {meter_id: left_s for meter_id, left_s in quiet_s.items() if left_s}
        waits_s = []
        if quiet and await queue.are_wanted(tx, quiet, now):
            waits_s.append(min(quiet.values()))
        if (due := await queue.next_due(tx, quiet_s, now)) is not None:
            waits_s.append((due - now).total_seconds())
        nap_s = min(waits_s, default=SLOW_LOOK_S)
        return nap_s if nap_s < SLOW_LOOK_S else None

    def _line(self, line_id: int) -> LineAtWork | None:
        return next(
            (w for w in self._lines.lines.values() if w.known.line_id == line_id),
            None,
        )

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        """Not more at a time than leaves connections for everybody else."""
        async with self._turns, self._database.transaction() as tx:
            yield tx

    def _fell(self, error: StoreError) -> None:
        if not self._away:
            log.warning("commands wait: %s", error)
        self._away = True

    def _rose(self) -> None:
        if self._away:
            log.info("the database is back: commands go on")
        self._away = False
