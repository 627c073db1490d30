"""The RS485 ports of an Acrel gateway: one request at a time, whatever its port.

Works off what it is asked in order, waits for each meter with patience, and labels whatever comes
from a port with the last thing it asked there: bytes do not tell to what request they belong.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial

from simulators.faults import Faults
from simulators.modbus_meter import Bus
from simulators.wire import SlaveLine, WireTiming

# Silence it leaves on the wires before it asks: 3.5 characters, and timers that fire early.
GAP_S = 0.005
_ASKED = re.compile(rb"(\d\d)(\d\d\d)\|([0-9a-f]+)")


class Ports:
    """`answer` gets "PPAAA|hex" for whatever the wires bring."""

    def __init__(
        self,
        buses: Mapping[int, Bus],
        answer: Callable[[bytes], None],
        *,
        patience_s: float,
        timing: WireTiming | None = None,
        faults: Mapping[int, Faults] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.lines = {
            number: SlaveLine(
                bus,
                partial(self.from_wires, number),
                timing=timing,
                faults=None if faults is None else faults.get(number),
            )
            for number, bus in buses.items()
        }
        self._answer = answer
        self._patience_s = patience_s
        # The first one is on the wires of its port, or about to be.
        self._asked: deque[tuple[int, bytes, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last_label: dict[int, bytes] = {}  # by port

    def ask(self, plain: bytes) -> None:
        """One request of the head-end, "PPAAA|hex"."""
        found = _ASKED.fullmatch(plain)
        if found is None or int(found[1]) not in self.lines:
            self.counts["misunderstood"] += 1
            return
        self.counts["asked"] += 1
        self._asked.append((int(found[1]), found[1] + found[2], bytes.fromhex(found[3].decode())))
        if len(self._asked) == 1:
            self._begin()
        else:
            self.counts["queued"] += 1

    def from_wires(self, number: int, data: bytes) -> None:
        """Bytes at a port."""
        label = self._last_label.get(number)
        if label is None:
            self.counts["noise"] += 1
            return
        self._answer(label + b"|" + data.hex().encode())
        if self._asked and self._asked[0][0] == number:
            self._next()

    def stop(self) -> None:
        """Power off."""
        self._asked.clear()
        self._next()
        for line in self.lines.values():
            line.stop()

    def _begin(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(GAP_S, self._put_on_wires)

    def _put_on_wires(self) -> None:
        number, label, frame = self._asked[0]
        self._last_label[number] = label
        self.lines[number].bytes_from_master(frame)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._patience_s, self._give_up)

    def _give_up(self) -> None:
        self.counts["unanswered"] += 1
        self._next()

    def _next(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._asked:
            self._asked.popleft()
        if self._asked:
            self._begin()
