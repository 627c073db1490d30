"""What one dead meter among 32 costs its line. On virtual time: an hour of wire in seconds."""

from __future__ import annotations

import asyncio

from bench._child import quiet
from bench._table import Row, report
from gateways.line import Line
from gateways.link import LinkUser
from gateways.timing import LineTiming
from gateways.turns import Priority
from protocols.exchange import Silence, ask_reply
from protocols.modbus import read_registers, seal
from simulators.clockloop import run

BAUD = 9600
UNITS = 32
DEAD = 17
WORDS = 60
TURNAROUND_S = 0.02
HOUR_S = 3600.0

LOSS_PCT_MAX = 2.0


class Wire:
    """A link whose meters answer exactly when the wire allows it."""

    name = "simulated wire"

    def __init__(self, char_s: float, dead: frozenset[int]) -> None:
        self._char_s = char_s
        self._dead = dead
        self._loop = asyncio.get_running_loop()
        self._user: LinkUser | None = None

    def start(self, user: LinkUser) -> None:
        self._user = user

    def write(self, data: bytes) -> None:
        assert self._user is not None
        if data[0] in self._dead:
            return
        answer = seal(bytes((data[0], data[1], 2 * WORDS)) + bytes(2 * WORDS))
        wire_s = (len(data) + len(answer)) * self._char_s
        self._loop.call_later(wire_s + TURNAROUND_S, self._user.bytes_received, answer)

    def close(self) -> None:
        """Nothing to close."""


async def poll(dead: frozenset[int], duration_s: float) -> float:
    """Ask all units in turn, as a night does; gives the answers a second."""
    timing = LineTiming.serial(baud=BAUD, start_quiet_s=0.0)
    line, loop = Line("bench", timing), asyncio.get_running_loop()
    line.attach(Wire(timing.char_s, dead))
    unit = 0
    while loop.time() < duration_s:
        unit = unit % UNITS + 1
        if line.quiet_left_s(unit):
            continue  # its old answer may still come: the others first
        try:
            await line.converse(
                unit,
                ask_reply(read_registers(unit, 0, WORDS)),
                priority=Priority.NIGHTLY,
                read_tries=1,
            )
        except Silence:
            assert unit in dead
    return line.health.answers / loop.time()


def measure(label: str, duration_s: float) -> Row:
    """The same stretch of time with and without the dead meter."""
    alive = run(poll(frozenset(), duration_s))
    with_dead = run(poll(frozenset({DEAD}), duration_s))
    return {
        "over": label,
        "all alive /s": round(alive, 3),
        "one dead /s": round(with_dead, 3),
        "loss %": round(100 * (1 - with_dead / alive), 2),
    }


def main() -> None:
    """The first minute pays for finding out; after that the meter is asked ever more rarely."""
    quiet()
    report(
        "dead_slave",
        f"{UNITS} meters at {BAUD} baud, one of them dead: polls a second of the line",
        [measure("the first minute", 60.0), measure("an hour", HOUR_S)],
        notes=[f"wanted over an hour: at most {LOSS_PCT_MAX} % lost"],
    )


if __name__ == "__main__":
    main()
