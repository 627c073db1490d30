"""One pair of wires with meters on it, on an asyncio loop: bytes in, answers out in their time.

Every byte costs its time on the wire, in both directions. The schedule of an exchange is absolute
(no drift inside it), but a loop wakes up when it can: for exact timing there is precise485.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from simulators import rtu
from simulators.faults import Faults

GAPS_KEPT = 10_000  # for the percentiles of a report; some MB at most
GAP_S_FAST = 0.00175  # above 19200 baud the silence is fixed (spec field_protocols.md E)
BAUD_FAST = 19_200
# A later answer leaves the wires free meanwhile and is no use of them: any master has given up.
LATE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WireTiming:
    """How long things take on the wires."""

    baud: int = 9600
    bits_per_char: int = 10  # 8N1; 11 for 8E1 or 8N2
    turnaround_s: float = 0.02  # from the end of a request to the start of its answer

    @property
    def char_s(self) -> float:
        return self.bits_per_char / self.baud

    @property
    def gap_s(self) -> float:
        """The silence that ends a frame: 3.5 characters."""
        return 3.5 * self.char_s if self.baud <= BAUD_FAST else GAP_S_FAST


@dataclass(slots=True)
class LineReport:
    """What happened on a line, and how well the wire was used."""

    gap_s_min: float
    counts: Counter[str] = field(default_factory=Counter)
    gaps_s: deque[float] = field(default_factory=lambda: deque(maxlen=GAPS_KEPT))
    polls: int = 0
    busy_s: float = 0.0
    first_start_s: float = 0.0
    last_end_s: float = 0.0

    def request(self, start_s: float, previous_end_s: float | None) -> None:
        """A request began; `previous_end_s` is when the wires last fell silent."""
        self.counts["requests"] += 1
        if previous_end_s is not None:
            gap_s = start_s - previous_end_s
            self.gaps_s.append(gap_s)
            if gap_s < self.gap_s_min:
                self.counts["gap_violations"] += 1

    def exchange(self, start_s: float, end_s: float) -> None:
        """A request was answered: the wires were busy from start to end."""
        if not self.polls:
            self.first_start_s = start_s
        self.polls += 1
        self.busy_s += end_s - start_s
        self.last_end_s = end_s

    def as_json(self) -> dict[str, float | int]:
        """wire_pct: of the rate the wires allow with exactly the required silence between."""
        span_s = self.last_end_s - self.first_start_s
        limit_s = self.busy_s + self.gap_s_min * max(self.polls - 1, 0)
        gaps = sorted(self.gaps_s)
        return {
            **self.counts,
            "polls": self.polls,
            "wire_pct": round(100 * limit_s / span_s, 2) if span_s else 0.0,
            "cycle_ms": round(1000 * span_s / (self.polls - 1), 3) if self.polls > 1 else 0.0,
            "gap_violations": self.counts["gap_violations"],
            "gap_ms_min": round(1000 * self.gap_s_min, 3),
            "gap_ms_p50": round(1000 * gaps[len(gaps) // 2], 3) if gaps else 0.0,
            "gap_ms_p99": round(1000 * gaps[len(gaps) * 99 // 100], 3) if gaps else 0.0,
        }


class Wires(Protocol):
    """Everything that answers on one pair of wires, whatever it speaks."""

    def is_whole(self, data: bytes) -> bool: ...
    def party(self, frame: bytes) -> int: ...
    def answer(self, frame: bytes) -> bytes | None: ...


class SlaveLine:
    """Meters on wires. `deliver` gets the bytes a master would see, when it would see them.

    `chunk_bytes` is how many bytes arrive at once: a UART's FIFO on a serial port, the whole
    answer behind a converter that packs. `frame_gap_s` is the silence after which an incomplete
    request is forgotten.
    """

    def __init__(
        self,
        bus: Wires,
        deliver: Callable[[bytes], None],
        *,
        timing: WireTiming | None = None,
        faults: Faults | None = None,
        chunk_bytes: int = rtu.FRAME_BYTES_MAX,
        frame_gap_s: float = 0.05,
    ) -> None:
        self.bus: Any = bus  # what else it is, whoever made it knows
        self.timing = timing or WireTiming()
        self.faults = faults or Faults(seed=0)
        self.report = LineReport(self.timing.gap_s)
        self._deliver = deliver
        self._chunk_bytes = chunk_bytes
        self._frame_gap_s = max(frame_gap_s, self.timing.gap_s)
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._request_start_s = 0.0
        self._request_end_s = 0.0
        self._silent_since_s: float | None = None
        self._busy_until_s = 0.0
        self._collided = False
        self._request_timer: asyncio.TimerHandle | None = None
        self._answer_timers: set[asyncio.TimerHandle] = set()

    def bytes_from_master(self, data: bytes) -> None:
        """Bytes as the master's adapter starts to put them on the wires."""
        now = self._loop.time()
        if now < self._busy_until_s:
            self.report.counts["collisions"] += 1
            self._collided = True  # half duplex: both are spoilt
            return
        if not self._buffer:
            self._request_start_s = self._request_end_s = now
            self.report.request(now, self._silent_since_s)
        self._request_end_s = max(self._request_end_s, now) + len(data) * self.timing.char_s
        self._buffer += data
        if self._request_timer is not None:
            self._request_timer.cancel()
        if self.bus.is_whole(bytes(self._buffer)):
            self._request_timer = self._loop.call_at(self._request_end_s, self._request_done)
        else:
            due_s = self._request_end_s + self._frame_gap_s
            self._request_timer = self._loop.call_at(due_s, self._forget)

    def stop(self) -> None:
        """Cut the wires: nothing more is delivered."""
        if self._request_timer is not None:
            self._request_timer.cancel()
        for timer in self._answer_timers:
            timer.cancel()
        self._answer_timers.clear()
        self._buffer.clear()
        self._busy_until_s = 0.0

    def _forget(self) -> None:
        self.report.counts["garbled_requests"] += 1
        self._silent_since_s = self._request_end_s
        self._buffer.clear()

    def _request_done(self) -> None:
        frame = bytes(self._buffer)
        self._buffer.clear()
        self._silent_since_s = self._request_end_s
        heard = self.faults.request_arrives(self.bus.party(frame), self._loop.time())
        answer = self.bus.answer(frame) if heard else None
        if answer is None:
            self.report.counts["unanswered"] += 1
            return
        due_s = self._request_end_s + self.timing.turnaround_s
        deliveries = self.faults.deliveries(answer)
        self._collided = False
        for delivery in deliveries:
            in_time = delivery.delay_s < LATE_S
            due_s = self._send(due_s + delivery.delay_s, delivery.data)
            if in_time:
                self._busy_until_s = self._silent_since_s = due_s
        if deliveries and deliveries[0].delay_s < LATE_S:
            self.report.exchange(self._request_start_s, due_s)

    def _send(self, start_s: float, answer: bytes) -> float:
        """Put an answer on the wires from `start_s` on; gives the end of its last byte."""
        end_s = start_s + len(answer) * self.timing.char_s
        for at in range(0, len(answer), self._chunk_bytes):
            chunk = answer[at : at + self._chunk_bytes]
            due_s = start_s + (at + len(chunk)) * self.timing.char_s
            self._deliver_at(due_s, chunk)
        return end_s

    def _deliver_at(self, due_s: float, chunk: bytes) -> None:
        def fire() -> None:
            self._answer_timers.discard(timer)
            self._deliver(bytes(b ^ 0xFF for b in chunk) if self._collided else chunk)

        timer = self._loop.call_at(due_s, fire)
        self._answer_timers.add(timer)
