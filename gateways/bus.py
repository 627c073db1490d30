"""The wire of a line: the link of the moment, the silence between frames, one exchange at a time.

Bytes are pushed up by the link and end the exchange at once: one future for each exchange and no
timer of its own. The bus keeps a single timer, which looks at the deadline when it fires and moves
on if it fired too early: on a healthy line that is once in a time-out, not once in an exchange.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from gateways.health import LineHealth
from gateways.link import ByteLink, LinkDown
from gateways.peer import Peer
from gateways.timing import LineTiming
from gateways.turns import Turns
from gateways.wiretap import Wiretap
from protocols.exchange import Answer, Effect, Garbled, Refusal, Reply, ReplyReader, Request
from protocols.modbus import forbid_factory_codes

log = logging.getLogger(__name__)

# A bus on which something talks without a pause is not waited for any longer than this.
BABBLE_S_MAX = 2.0


class _Attachment:
    """What one link calls. A link that was replaced talks to nobody."""

    __slots__ = ("_bus", "link")

    def __init__(self, bus: Bus, link: ByteLink) -> None:
        self._bus = bus
        self.link = link

    def bytes_received(self, data: bytes) -> None:
        if self._bus.attached is self:
            self._bus.hear(data)

    def link_lost(self, reason: str) -> None:
        if self._bus.attached is self:
            self._bus.let_go(reason)

    def write_taken(self) -> None:
        if self._bus.attached is self:
            self._bus.end_write()


class Bus:
    """Belongs to one Line, which sees to it that `exchange` never runs twice at a time."""

    def __init__(
        self,
        name: str,
        timing: LineTiming,
        health: LineHealth,
        wiretap: Wiretap,
        *,
        wall_s: Callable[[], float],
        turns: Turns,
    ) -> None:
        self.name = name
        self.timing = timing
        self.health = health
        self.wiretap = wiretap
        self._wall_s = wall_s
        self._loop = asyncio.get_running_loop()
        self.now = precise_clock(self._loop)

        self.attached: _Attachment | None = None
        self.up = asyncio.Event()
        self.down_reason: str | None = "not opened yet"
        self.down_since: datetime | None = datetime.fromtimestamp(wall_s(), UTC)

        # The exchange under way.
        self._reader: ReplyReader | None = None
        self._answered: asyncio.Future[Answer | None] | None = None
        self._is_write = False
        self._heard = False
        self._deadline_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0

        # The wire before the next one.
        self._gap_s = timing.silence_s + timing.turnaround_s
        self._last_byte_s = self.now()  # in either direction
        self._turns = turns  # whose hold is over all lines that share them
        self._is_held = False  # by this line
        self._late: tuple[Peer, ReplyReader] | None = None  # who was asked last without an answer

    # ---- the link -------------------------------------------------------------------------------

    def attach(self, link: ByteLink) -> None:
        """Speak over this link from now on. An older one is closed, whatever it carried is lost."""
        old = self.attached
        self.attached = attachment = _Attachment(self, link)
        self.health.links += 1
        if old is not None:
            self.health.last_fall_reason = f"{old.link.name} was replaced by {link.name}"
            self._cut_off(self.health.last_fall_reason)
            old.link.close()
        else:
            log.info("line %s is up: %s", self.name, link.name)
        self.down_reason = None
        self.down_since = None
        self.up.set()
        link.start(attachment)

    def detach(self, reason: str) -> None:
        """Close the link, if there is one. `reason` is what everybody who asks is told."""
        attached = self.attached
        self.let_go(reason)
        if attached is not None:
            attached.link.close()

    def let_go(self, reason: str) -> None:
        """The link is gone. Another reason while down replaces the first; each is logged once."""
        if self.attached is not None:
            self.down_since = datetime.fromtimestamp(self._wall_s(), UTC)
            self.health.last_fall_reason = reason
        if self.attached is not None or reason != self.down_reason:
            log.warning("line %s is down: %s", self.name, reason)
        self.attached = None
        self.down_reason = reason
        self.up.clear()
        self._cut_off(reason)

    def _cut_off(self, reason: str) -> None:
        answered = self._answered
        if answered is not None and not answered.done():
            answered.set_exception(LinkDown(reason))

    # ---- one exchange ---------------------------------------------------------------------------

    async def exchange(self, peer: Peer, request: Request) -> Answer | None:
        """Send one frame and wait for its answer. None: none came, or none that is good.

        Raises LinkDown; Garbled when the wire never falls quiet (nothing was sent then). A write
        is in `peer.writes` from just before its first byte leaves.
        """
        if self._gap_s or self._turns.hold_until_s:
            await self._clear()
        self._is_held = False
        attached = self.attached
        if attached is None:
            raise LinkDown(self.down_reason)
        frame = request.frame
        if not request.enciphered:
            forbid_factory_codes(frame)
        timing, health = self.timing, self.health
        sent_s = self.now()
        self._last_byte_s = off_wire_s = sent_s + len(frame) * timing.char_s
        reply_wire_s = request.reply_bytes_max * timing.char_s
        self._deadline_s = deadline_s = off_wire_s + timing.reply_timeout_s + reply_wire_s
        peer.quiet_until_s = off_wire_s + timing.reply_late_s_max + reply_wire_s
        if self._late is not None and self._late[0] is peer:
            self._late = None
        self._reader = reader = request.new_reader()
        answered: asyncio.Future[Answer | None] = self._loop.create_future()
        self._answered = answered
        self._heard = False
        self._is_write = request.effect is Effect.WRITE
        if self._is_write:
            peer.writes.append(frame)
        try:
            attached.link.write(frame)
            health.exchanges += 1
            health.bytes_out += len(frame)
            self.wiretap.record(self._wall_s(), True, frame)
            if self._timer is None or self._timer_at_s > deadline_s:
                self._arm(deadline_s)
            answer = await answered
        except BaseException:
            health.cut_off += 1
            if answered.cancelled():  # the meter does not know that nobody waits: let it finish
                self._turns.hold_until_s = deadline_s
                self._is_held = True
                self._late = (peer, reader)
            raise
        finally:
            self._reader = self._answered = None
        if answer is None:
            self._unanswered(peer, reader, sent_s)
        else:
            self._good(peer, answer, self._last_byte_s, sent_s)
        return answer

    async def _clear(self) -> None:
        """Keep the silence between two frames. Timers may fire early: look at the clock again."""
        turns = self._turns
        give_up_s = max(self.now(), turns.hold_until_s, self._last_byte_s + self._gap_s)
        give_up_s += BABBLE_S_MAX
        while True:
            now_s = self.now()
            clear_at_s = max(self._last_byte_s + self._gap_s, turns.hold_until_s)
            if now_s >= clear_at_s:
                turns.hold_until_s = 0.0
                return
            if now_s >= give_up_s:
                self.health.garbled += 1
                raise Garbled(f"line {self.name} is never quiet: something talks all the time")
            await asyncio.sleep(clear_at_s - now_s)

    def _good(self, peer: Peer, answer: Answer, heard_s: float, sent_s: float) -> None:
        at_s = self._wall_s()
        self.health.took(heard_s, heard_s - sent_s)
        self.health.answered(at_s, heard_s - sent_s)
        if isinstance(answer, Refusal):
            self.health.refusals += 1
        peer.quiet_until_s = 0.0
        peer.answers += 1
        peer.last_answer_at_s = at_s
        if peer.breaker.silences and (missed := peer.breaker.answered()):
            log.info("line %s: unit %s is back after %d tries", self.name, peer.name, missed)

    def _unanswered(self, peer: Peer, reader: ReplyReader, sent_s: float) -> None:
        now_s = self.now()
        self.health.took(now_s, now_s - sent_s)
        self.health.unanswered(heard=self._heard)
        peer.silences += 1
        peer.last_was_garbled = self._heard
        self._late = (peer, reader)
        if peer.breaker.unanswered(now_s):
            log.warning("line %s: unit %s went silent", self.name, peer.name)

    # ---- called by the loop ---------------------------------------------------------------------

    def hear(self, data: bytes) -> None:
        """Bytes from the link: the answer waited for, a late one, or noise."""
        self._last_byte_s = self.now()
        self.health.bytes_in += len(data)
        self.wiretap.record(self._wall_s(), False, data)
        was_late = self._late is not None and self._is_late_answer(*self._late, data)
        answered, reader = self._answered, self._reader
        if answered is None or reader is None or answered.done():
            if not was_late:
                self.health.stray_bytes += len(data)
            return
        try:
            reader.receive_data(data)
            answer = reader.next_event()
        except Exception as error:  # a fault of the codec must not take the link down
            answered.set_exception(error)
            return
        if answer is not None:
            answered.set_result(answer)
        elif not was_late:
            self._heard = True

    def end_write(self) -> None:
        """The box took the write under way and shows no answer: go on, there is nothing to wait
        for. A driver believes no answer to a write, an empty one least of all: it looks."""
        answered = self._answered
        if answered is not None and not answered.done() and self._is_write:
            answered.set_result(Reply(b""))

    def _is_late_answer(self, peer: Peer, reader: ReplyReader, data: bytes) -> bool:
        if self._last_byte_s > peer.quiet_until_s:
            self._late = None
            return False
        reader.receive_data(data)
        if reader.next_event() is None:
            return False
        self.health.late += 1
        self._late = None
        if self._is_held:
            self._is_held = False
            self._turns.hold_until_s = 0.0
        return True

    def _arm(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self._loop.call_later(max(0.0, at_s - self.now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        answered = self._answered
        if answered is None or answered.done():
            return
        # Both loops read their sockets before they look at their timers: after a busy moment of
        # this program, an answer that lies in the socket is found before its time is called over.
        if self.now() < self._deadline_s:
            self._arm(self._deadline_s)
        else:
            answered.set_result(None)


def precise_clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The loop's clock, but without the rounding to milliseconds of uvloop's, which is half of a
    3.5-character silence at 19200 baud. A simulated loop keeps its own time."""
    if type(loop).__module__.split(".")[0] == "uvloop":
        return time.monotonic
    return loop.time
