"""One half-duplex line: runs conversations, one exchange at a time, and keeps the two promises.

1. A write is sent once. Silence after it is reported, never repeated.
2. After silence a meter is left alone until no old answer of its own can arrive: answers carry an
   address but no number, so an old one would pass for the next. Its neighbours go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime
from typing import TypeVar

from gateways.bus import Bus
from gateways.health import LineHealth, LineSnapshot
from gateways.link import ByteLink, LinkDown
from gateways.peer import Peer
from gateways.timing import LineTiming
from gateways.turns import Priority, Turns
from gateways.wiretap import Wiretap
from protocols.exchange import (
    Answer,
    Conversation,
    Effect,
    Evidence,
    Garbled,
    Intent,
    KeyWork,
    ProtocolError,
    Refusal,
    Reply,
    Request,
    Silence,
)

log = logging.getLogger(__name__)
T = TypeVar("T")

# A command keeps its turn between two of its exchanges for at most this long: an intent is
# committed within milliseconds, and a database that hangs must not hold the wire.
COMMAND_KEEPS_S_MAX = 0.25

# A wait for a silent meter looks this often whether the link is gone or a command has come.
LOOK_AGAIN_S = 0.5


class Unsettled(Exception):
    """A write went out and the conversation did not end. Only a later look can tell."""


class Isolated(Silence):
    """The meter missed so many requests that polls leave it alone for a while. Nothing was sent.

    `garbled`: what came of the last request: damaged bytes, or nothing at all.
    """

    def __init__(self, message: str, *, garbled: bool) -> None:
        super().__init__(message)
        self.garbled = garbled


class BrokenRule(Exception):
    """Something was asked that is never sent. Always a fault in this program, not in the field."""


async def no_intent(before: Evidence) -> None:
    """The default of converse(): for conversations that only read."""
    raise BrokenRule("this conversation writes: give converse() a way to record the intent")


async def no_record(label: str) -> None:
    """The default of converse(): for meters without a chip that counts wrong codes."""


class Line:
    """One bus with its meters. Made inside a running event loop; links come and go."""

    def __init__(
        self,
        name: str,
        timing: LineTiming,
        *,
        wiretap: Wiretap | None = None,
        wall_s: Callable[[], float] = time.time,
        turns: Turns | None = None,
    ) -> None:
        """`turns`: those of the gateway, shared by its lines, where it carries one request at a
        time. None: this line has a wire of its own."""
        self.name = name
        self.timing = timing
        self.wiretap = Wiretap() if wiretap is None else wiretap
        self.health = LineHealth()
        self._turns = Turns() if turns is None else turns
        self._bus = Bus(name, timing, self.health, self.wiretap, wall_s=wall_s, turns=self._turns)
        self._now = self._bus.now
        self._kept_for: Peer | None = None  # a command between two of its exchanges
        self._keep_timer: asyncio.TimerHandle | None = None
        self._peers: dict[Hashable, Peer] = {}
        quiet_s = timing.start_quiet_s
        self._start_quiet_until_s = self._now() + (
            timing.reply_late_s_max if quiet_s is None else quiet_s
        )

    @property
    def is_up(self) -> bool:
        return self._bus.attached is not None

    @property
    def down_reason(self) -> str | None:
        """Why there is no link, as one clause for people; None when there is one."""
        return self._bus.down_reason

    @property
    def down_since(self) -> datetime | None:
        """Since when there is no link (UTC); None when there is one."""
        return self._bus.down_since

    async def wait_up(self) -> None:
        """Come back once the line has a link."""
        await self._bus.up.wait()

    def attach(self, link: ByteLink) -> None:
        """Speak over this link from now on. The newest wins: an older one is closed, and an
        exchange it had under way ends with LinkDown."""
        self._bus.attach(link)

    def detach(self, reason: str) -> None:
        """Close the link, if there is one. `reason` is what everybody who asks is told."""
        self._bus.detach(reason)

    def quiet_left_s(self, party: Hashable) -> float:
        """How long a request to this party would have to wait for an old answer; 0: not at all."""
        peer = self._peers.get(party)
        until_s = self._start_quiet_until_s if peer is None else peer.quiet_until_s
        return max(0.0, until_s - self._now())

    def forget(self, party: Hashable) -> None:
        """A party that was only a question: its silence is no meter's."""
        self._peers.pop(party, None)

    def snapshot(self) -> LineSnapshot:
        """The line and its meters as they are now."""
        attached, since, now_s = self._bus.attached, self.down_since, self._now()
        return self.health.snapshot(
            now_s,
            line=self.name,
            link=None if attached is None else attached.link.name,
            down_reason=self.down_reason,
            down_since_s=None if since is None else since.timestamp(),
            parties=tuple(peer.health(now_s) for peer in self._peers.values()),
        )

    async def converse(
        self,
        party: Hashable,
        conversation: Conversation[T],
        *,
        priority: Priority,
        record_intent: Callable[[Evidence], Awaitable[None]] = no_intent,
        record_wrong_code: Callable[[str], Awaitable[None]] = no_record,
        read_tries: int | None = None,
    ) -> T:
        """Talk to one meter until the conversation ends; exchanges with others may come between.

        `party` is whoever answers under one address: two parties must not share one.
        `read_tries=1` gives up a read at the first silence; otherwise a repeat waits until the old
        answer can no longer come. `record_wrong_code(label)` is awaited when a chip refused a code,
        before anything else is said to it.

        Raises Silence or Garbled (no answer), Isolated (a poll to a meter known to be silent),
        LinkDown (at once when there is no link), Unsettled (a write left, its effect is not known),
        or what the conversation raises. A cancellation after a write is counted as unsettled, and
        whoever recorded the intent must treat it so.
        """
        peer = self._peers.get(party)
        if peer is None:
            peer = self._peers[party] = Peer(party, self._start_quiet_until_s)
        try:
            self._admit(peer, priority)
            if not peer.turns.try_take():
                await peer.turns.wait(priority)
        except BaseException:
            conversation.close()
            raise
        if peer.writes:
            peer.writes = []
        try:
            self._admit(peer, priority)  # things may have changed while we waited
            tries = self.timing.read_tries if read_tries is None else read_tries
            records = (record_intent, record_wrong_code)
            return await self._run(peer, conversation, priority, records, tries)
        except asyncio.CancelledError:
            if peer.writes:
                self._unsettled(peer, "cancelled")
            raise
        except Exception as error:
            if peer.writes:
                raise self._unsettled(peer, str(error)) from error
            raise
        finally:
            conversation.close()
            if self._kept_for is peer:
                self._let_go()
            peer.turns.pass_on()

    def _admit(self, peer: Peer, priority: Priority) -> None:
        if self._bus.attached is None:
            raise LinkDown(self._bus.down_reason)
        breaker = peer.breaker
        if (
            breaker.open_until_s is not None
            and priority >= Priority.NIGHTLY
            and breaker.keeps_out(self._now())
        ):
            garbled = peer.last_was_garbled
            raise Isolated(
                f"unit {peer.name}: {'damaged answers' if garbled else 'no answer'} "
                f"{breaker.silences} times in a row, left alone for now",
                garbled=garbled,
            )

    async def _run(
        self,
        peer: Peer,
        conversation: Conversation[T],
        priority: Priority,
        records: tuple[Callable[[Evidence], Awaitable[None]], Callable[[str], Awaitable[None]]],
        read_tries: int,
    ) -> T:
        record_intent, record_wrong_code = records
        intended = False
        try:
            step = conversation.send(None)
            while True:
                if isinstance(step, Intent):
                    if intended:
                        raise BrokenRule("a second intent in one conversation")
                    await record_intent(step.before)
                    intended = True
                    step = conversation.send(None)
                    continue
                if isinstance(step, KeyWork):
                    done = await _aside(step)
                    step = (
                        conversation.send(done)
                        if isinstance(done, Reply)
                        else conversation.throw(done)
                    )
                    continue
                tries = read_tries if step.effect is Effect.READ else 1
                if step.effect is not Effect.READ:
                    _allow_write(step, intended, peer.writes)
                try:
                    answer = await self._exchange(peer, step, priority, tries)
                except Silence as silence:
                    if peer.writes:
                        raise  # not the driver's to explain away
                    step = conversation.throw(silence)
                else:
                    await _tell_wrong_code(step, answer, record_wrong_code)
                    step = conversation.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _unsettled(self, peer: Peer, why: str) -> Unsettled:
        self.health.unsettled += 1
        log.warning("line %s: a write to unit %s is unsettled: %s", self.name, peer.name, why)
        return Unsettled(f"line {self.name}, unit {peer.name}: a write left, then: {why}")

    async def _exchange(
        self, peer: Peer, request: Request, priority: Priority, tries: int
    ) -> Answer:
        """One request, repeated if it may be, until there is an answer."""
        turns = self._turns
        for again in range(tries):
            if peer.quiet_until_s and not await self._left_alone(peer, priority, again > 0):
                break
            if self._kept_for is peer:
                self._keep_ends()
            elif not turns.try_take():
                await turns.wait(priority)
            answer = None
            try:
                answer = await self._bus.exchange(peer, request)
            finally:
                if answer is not None and priority is Priority.COMMAND:
                    self._keep(peer)
                else:
                    turns.pass_on()
            if answer is not None:
                return answer
            if peer.breaker.is_open and priority >= Priority.NIGHTLY:
                break  # known to be silent: one try is enough to see that it still is
        if peer.last_was_garbled:
            raise Garbled(f"{request.label}: bytes came, but no good answer")
        raise Silence(f"{request.label}: no answer")

    # A command has several exchanges; with a poll between each two it would take twice as long. So
    # its turn is kept while it thinks: while it commits its intent, that is.

    def _keep(self, peer: Peer) -> None:
        self._kept_for = peer
        self._keep_timer = asyncio.get_running_loop().call_later(COMMAND_KEEPS_S_MAX, self._let_go)

    def _keep_ends(self) -> None:
        assert self._keep_timer is not None, "set with _kept_for"
        self._keep_timer.cancel()
        self._kept_for = self._keep_timer = None

    def _let_go(self) -> None:
        self._keep_ends()
        self._turns.pass_on()

    async def _left_alone(self, peer: Peer, priority: Priority, repeating: bool) -> bool:
        """Wait until no old answer of this meter can come. False: give up the repeat instead,
        because somebody more urgent wants this meter."""
        while (left_s := peer.quiet_until_s - self._now()) > 0:
            if self._kept_for is peer:
                self._let_go()
            if repeating and peer.turns.wanted_before(priority):
                return False
            await asyncio.sleep(min(left_s, LOOK_AGAIN_S))
            if self._bus.attached is None:
                raise LinkDown(self._bus.down_reason)
        return True


async def _aside(step: KeyWork) -> Reply | ProtocolError:
    """Let the key holder work in a thread of its own; the wire may be used by others meanwhile."""
    try:
        return Reply(await asyncio.to_thread(step.work))
    except ProtocolError as error:
        return error


async def _tell_wrong_code(
    request: Request, answer: Answer, record: Callable[[str], Awaitable[None]]
) -> None:
    if isinstance(answer, Refusal) and answer.code & request.wrong_code_bits:
        await record(request.label)


def _allow_write(request: Request, intended: bool, writes: list[bytes]) -> None:
    if not intended:
        raise BrokenRule(f"{request.label}: a write without a recorded intent")
    if request.frame in writes:
        raise BrokenRule(f"{request.label}: the same write twice in one conversation")
