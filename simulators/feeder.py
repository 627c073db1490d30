"""A master meter: on the feeder of a cabinet, it meters once more what the circuits meter.

What it counts is never made up: each look brings the circuits up to now, and what their registers
moved on by, with what is lost or taken before them, is what this one moves on by. It stands behind
current transformers and counts on their secondary side, as masters do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simulators.dial import Dial
from simulators.load import Load
from simulators.metering import Account, Forced, Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederLoad(Load):
    """What flows through the feeder at an instant, as its meter sees it."""

    circuits: tuple[Meter, ...]
    lost_permille: int
    ct: int

    def watts(self, at_ms: int) -> int:
        """The demand of the circuits that are closed now, and what is lost before them."""
        drawn = sum(one.load.watts(at_ms) for one in self.circuits if one.relay_closed)
        return drawn * (1000 + self.lost_permille) // (1000 * self.ct)


@dataclass(slots=True, kw_only=True)
class FeederMeter(Meter):
    """A three-phase meter without money whose load is the cabinet behind it."""

    load: FeederLoad
    counted_w_ms: list[int]  # by rate: what the circuits showed when this one was last brought on

    def advance(self) -> None:
        """Bring the circuits and this meter up to now."""
        for circuit in self.load.circuits:
            circuit.advance()
        Meter.advance(self)
        shown = _shown(self.load.circuits)
        scale = 1000 + self.load.lost_permille
        for rate, (before, now) in enumerate(zip(self.counted_w_ms, shown, strict=True)):
            # Totals and not differences are divided: no fraction is ever lost.
            per = 1000 * self.load.ct
            self.energy_w_ms[rate] += now * scale // per - before * scale // per
        self.counted_w_ms = shown

    def _step(self, until_ms: int) -> None:
        """Dial and demand go on by the load; energy comes from the circuits alone."""
        kept = list(self.energy_w_ms)
        Meter._step(self, until_ms)
        self.energy_w_ms = kept


def feeder_meter(
    circuits: Sequence[Meter],
    *,
    number: str,
    seed: int,
    lost_permille: int,
    ct: int,
    now_ms: Callable[[], int],
) -> FeederMeter:
    """A master that has been there as long as its circuits, with the same share lost all along."""
    for circuit in circuits:
        circuit.advance()
    now, shown = now_ms(), _shown(circuits)
    return FeederMeter(
        number=number,
        load=FeederLoad(
            seed=seed,
            circuits=tuple(circuits),
            lost_permille=lost_permille,
            ct=ct,
            phase_share_permille=(360, 330, 310),
        ),
        now_ms=now_ms,
        phases=3,
        account=Account(prepaid=False),
        dial=Dial(set_at_ms=now, set_to_ms=now),
        energy_w_ms=[one * (1000 + lost_permille) // (1000 * ct) for one in shown],
        counted_w_ms=shown,
        forced=Forced.RELEASED,
        at_ms=now,
    )


def _shown(circuits: Sequence[Meter]) -> list[int]:
    return [sum(rates) for rates in zip(*(one.energy_w_ms for one in circuits), strict=True)]
