"""The exact line for benchmarks: one process, one pseudo-terminal, every byte at its microsecond.

It spins before each byte, so it takes a whole core while it answers; pty485.py is the polite one.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any

from simulators import rtu
from simulators.pty485 import Pty
from simulators.wire import LineReport

if TYPE_CHECKING:
    from simulators.faults import Faults
    from simulators.line_command import LineWish
    from simulators.modbus_meter import Bus

# Sleeping is exact to about this; the rest is spun away.
SPIN_S = 0.0003
IDLE_WAIT_S = 0.2  # how often an idle line looks whether it should end
WARM_UP_POLLS = 3  # not counted: the first polls find cold caches


class PreciseLine:
    """Synchronous: receive a request, answer it on the dot, again."""

    def __init__(self, pty: Pty, bus: Bus, wish: LineWish, faults: Faults) -> None:
        self.report = LineReport(wish.timing.gap_s)
        self.late_s_max = 0.0
        self._pty, self._bus, self._faults = pty, bus, faults
        self._timing = wish.timing
        self._silent_since_s: float | None = None
        self._warm_up = WARM_UP_POLLS

    def turn(self) -> None:
        """One request and its answer, or some idle time."""
        data = self._read(IDLE_WAIT_S)
        if not data:
            return
        start_s = time.monotonic()
        frame, end_s = self._whole(data, start_s)
        self.report.request(start_s, self._silent_since_s)
        self._silent_since_s = end_s
        if not rtu.is_sealed(frame):
            self.report.counts["garbled_requests"] += 1
            return
        heard = self._faults.request_arrives(frame[0], start_s)
        answer = self._bus.answer(frame) if heard else None
        if answer is None:
            self.report.counts["unanswered"] += 1
            return
        at_s = end_s + self._timing.turnaround_s
        for delivery in self._faults.deliveries(answer):
            at_s = self._send(at_s + delivery.delay_s, delivery.data)
            self._silent_since_s = at_s
        if self._warm_up:
            self._warm_up -= 1
        else:
            self.report.exchange(start_s, at_s)

    def _read(self, timeout_s: float) -> bytes:
        ready, _, _ = select.select([self._pty.fd], [], [], max(timeout_s, 0.0))
        return self._pty.read() if ready else b""

    def _whole(self, data: bytes, start_s: float) -> tuple[bytes, float]:
        """Read on until the checksum holds or the wires were silent; gives the last byte's end."""
        char_s, gap_s = self._timing.char_s, self._timing.gap_s
        end_s = start_s + len(data) * char_s
        while True:
            whole = rtu.is_whole_request(data)
            left_s = (end_s if whole else end_s + gap_s) - time.monotonic()
            if left_s <= 0:
                return data, end_s
            more = self._read(left_s - SPIN_S)
            if more:
                end_s = max(end_s, time.monotonic()) + len(more) * char_s
                data += more

    def _send(self, start_s: float, answer: bytes) -> float:
        """Byte k is complete k+1 characters after the start; a byte of the master's meanwhile
        is a collision and spoils the rest."""
        collided = False
        for at, byte in enumerate(answer):
            _sleep_until(start_s + (at + 1) * self._timing.char_s)
            if not collided and self._read(0.0):
                collided = True
                self.report.counts["collisions"] += 1
            self._pty.write(bytes((byte ^ 0xFF if collided else byte,)))
        end_s = start_s + len(answer) * self._timing.char_s
        self.late_s_max = max(self.late_s_max, time.monotonic() - end_s)
        return end_s


def run_precise(wish: LineWish, bus: Bus) -> dict[str, Any]:
    """Serve until SIGTERM or SIGINT; gives the report. Raises OSError."""
    assert wish.pty is not None, "exact timing is for serial lines"
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: stop.append(number))
    with contextlib.suppress(OSError):  # a normal user may not ask for this
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    pty = Pty(wish.pty)
    try:
        line = PreciseLine(pty, bus, wish, wish.faults())
        while not stop:
            line.turn()
    finally:
        pty.close()
    return {**line.report.as_json(), "late_us_max": round(1e6 * line.late_s_max)}


def _sleep_until(due_s: float) -> None:
    left_s = due_s - time.monotonic() - SPIN_S
    if left_s > 0:
        time.sleep(left_s)
    while time.monotonic() < due_s:
        pass
