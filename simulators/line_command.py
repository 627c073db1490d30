"""One line of meters, as a technician asks for it on the command line."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators.acrel_meter import DDSY1352, DTSY1352, Firmware, acrel_unit
from simulators.adf_cabinet import UNIT_MAX, CabinetPlan, UserKind, cabinet_units
from simulators.faults import FaultRates, Faults, fault_rates
from simulators.history import lived_meter
from simulators.load import Profile
from simulators.metering import Meter
from simulators.modbus_meter import Bus
from simulators.pty485 import PtyLine
from simulators.tcp_slave import InstantSlave, TcpLine
from simulators.town_clock import town_clock
from simulators.wire import WireTiming

_MODELS = {"ddsy": (DDSY1352, False), "ddsy8": (DDSY1352, True), "dtsy": (DTSY1352, False)}


class WrongWish(Exception):
    """The wish cannot be fulfilled; the text is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineWish:
    """A line to simulate. Exactly one of `pty` and `tcp` is set."""

    units: tuple[tuple[str, int], ...]  # type and unit id; for "adf" the box's base id
    pty: Path | None
    tcp: tuple[str, int] | None
    timing: WireTiming
    seed: int
    rates: FaultRates

    @classmethod
    def parse(
        cls,
        *,
        meters: list[str],
        pty: Path | None,
        tcp: str,
        baud: int,
        bits: int,
        turnaround_s: float,
        seed: int,
        faults: str,
    ) -> LineWish:
        """From the words of the command line. Raises WrongWish."""
        if (pty is None) == (not tcp):
            raise WrongWish("say where: either --pty PATH or --tcp HOST:PORT")
        host, _, port = tcp.rpartition(":")
        if tcp and not (host and port.isdigit()):
            raise WrongWish(f"--tcp must be HOST:PORT, not {tcp}")
        return cls(
            units=tuple(unit for text in meters for unit in _units(text)),
            pty=pty,
            tcp=(host, int(port)) if tcp else None,
            timing=WireTiming(baud=baud, bits_per_char=bits, turnaround_s=turnaround_s),
            seed=seed,
            rates=_rates(faults),
        )

    def bus(self) -> Bus:
        """The meters, each with a past of its own. Raises WrongWish when addresses clash."""
        bus = Bus()
        for kind, unit in self.units:
            wanted = self._box(unit) if kind == "adf" else self._single(kind, unit)
            clash = bus.units.keys() & wanted
            if clash:
                raise WrongWish(f"unit {min(clash)} is wanted twice")
            bus.add(wanted)
        return bus

    def faults(self) -> Faults:
        return Faults(seed=self.seed, rates=self.rates)

    def _single(self, kind: str, unit: int) -> dict[int, Any]:
        model, eight_rates = _MODELS[kind]
        meter = self._meter(unit, model.phases, eight_rates=eight_rates)
        return {unit: acrel_unit(model, meter, unit, Firmware(eight_rates=eight_rates))}

    def _box(self, unit: int) -> dict[int, Any]:
        try:
            plan = CabinetPlan(
                base_unit=unit, ct_users=1, three_phase_users=3, single_phase_users=24
            )
        except ValueError as error:
            raise WrongWish(str(error)) from error
        meters = [
            self._meter(user, 1 if user_kind is UserKind.SINGLE_PHASE else 3)
            for user, user_kind in plan.users()
        ]
        return dict(cabinet_units(plan, meters, number=f"2499{unit:08d}"))

    def _meter(self, unit: int, phases: int, *, eight_rates: bool = False) -> Meter:
        return lived_meter(
            number=f"2499{self.seed % 10_000:04d}{unit:04d}",
            seed=self.seed * 1000 + unit,
            profile=Profile.HOUSEHOLD,
            peak_w=3_000 * phases,
            phases=phases,
            eight_rates=eight_rates,
            now_ms=town_clock().now_ms,
        )


async def run_line(
    wish: LineWish,
    bus: Bus,
    wait: Callable[[], Coroutine[Any, Any, None]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Serve until `wait` returns; gives the line's report. Raises OSError."""
    line: PtyLine | TcpLine
    if wish.pty is not None:
        line = PtyLine(wish.pty, bus, timing=wish.timing, faults=wish.faults())
    else:
        assert wish.tcp is not None
        host, port = wish.tcp
        line = TcpLine(bus, host=host, port=port, timing=wish.timing, faults=wish.faults())
    await line.plug()
    if isinstance(line, TcpLine):
        say(f"{len(bus.units)} units on {line.host}:{line.port}")
    else:
        say(f"{len(bus.units)} units on {line.path}")
    try:
        await wait()
    finally:
        await line.unplug()
    return line.report.as_json()


async def run_instant(
    wish: LineWish,
    bus: Bus,
    wait: Callable[[], Coroutine[Any, Any, None]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Like run_line, without wires and their time. Raises OSError."""
    assert wish.tcp is not None
    served: Counter[str] = Counter()
    host, port = wish.tcp
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: InstantSlave(bus, served), host, port)
    say(f"{len(bus.units)} units on {host}:{server.sockets[0].getsockname()[1]}")
    try:
        await wait()
    finally:
        server.close()
    return dict(served)


def _rates(text: str) -> FaultRates:
    try:
        given = json.loads(text)
        if not isinstance(given, dict):
            raise ValueError("names and numbers belong in braces")
        return fault_rates({name: float(rate) for name, rate in given.items()})
    except (ValueError, TypeError) as error:
        raise WrongWish(f"--faults: {error}") from error


def _units(text: str) -> list[tuple[str, int]]:
    kind, _, spans = text.partition(":")
    if kind not in (*_MODELS, "adf"):
        raise WrongWish(f"no meter type is called {kind}; there are {', '.join(_MODELS)} and adf")
    out: list[tuple[str, int]] = []
    for span in spans.split(","):
        low, _, high = span.partition("-")
        if not low.isdigit() or (high and not high.isdigit()):
            raise WrongWish(f"units are written as 1-8 or 3,5, not {spans}")
        units = range(int(low), int(high or low) + 1)
        if not units or units[0] < 1 or units[-1] > UNIT_MAX:
            raise WrongWish(f"units go from 1 to {UNIT_MAX}, not {span}")
        out += [(kind, unit) for unit in units]
    return out
