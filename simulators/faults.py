"""Faults from a seed: probabilities with stated means, drawn in a fixed order, all counted.

The same seed and the same requests give the same bad day, so a failing run is a seed to keep.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRates:
    """How often each fault happens, for each request (0.0 to 1.0), and its mean length."""

    request_lost: float = 0.0
    answer_lost: float = 0.0
    bit_error: float = 0.0  # one flipped bit in the answer
    noise: float = 0.0  # 1 to 3 foreign bytes before the answer, as a driver switching on makes
    truncated: float = 0.0  # the answer ends early
    doubled: float = 0.0  # the answer comes twice
    late: float = 0.0  # the answer comes long after anybody waits
    late_s_mean: float = 3.0
    silence: float = 0.0  # the unit falls silent for a while
    silence_s_mean: float = 20.0
    reboot: float = 0.0  # the unit restarts: short silence, registers kept
    reboot_s_mean: float = 4.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            limit = float("inf") if f.name.endswith("_s_mean") else 1.0
            if not 0.0 <= value <= limit:
                raise ValueError(f"fault {f.name} must be between 0 and {limit:g}, not {value:g}")


NO_FAULTS = FaultRates()


def fault_rates(given: Mapping[str, float]) -> FaultRates:
    """Rates from names and numbers. Raises ValueError, one sentence, for an unknown name."""
    known = {f.name for f in fields(FaultRates)}
    for name in given:
        if name not in known:
            raise ValueError(f"no fault is called {name}; there are {', '.join(sorted(known))}")
    return FaultRates(**given)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Bytes to put on the wire so long after the answer was due."""

    delay_s: float
    data: bytes


@dataclass(slots=True)
class Faults:
    """Draws faults for one line. `calm` ends the bad day without losing the seed's place."""

    seed: int
    rates: FaultRates = NO_FAULTS
    calm: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    _random: random.Random = field(init=False)
    _silent_until_s: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def request_arrives(self, unit: int, now_s: float) -> bool:
        """Whether the meter hears this request at all."""
        if self.calm:
            return True
        if now_s < self._silent_until_s.get(unit, 0.0):
            return False
        for name, mean_s in (
            ("silence", self.rates.silence_s_mean),
            ("reboot", self.rates.reboot_s_mean),
        ):
            if self._hit(name, getattr(self.rates, name)):
                self._silent_until_s[unit] = now_s + self._random.expovariate(1 / mean_s)
                return False
        return not self._hit("request_lost", self.rates.request_lost)

    def deliveries(self, answer: bytes) -> list[Delivery]:
        """What becomes of an answer the meter gave."""
        rates = self.rates
        if self._hit("answer_lost", rates.answer_lost):
            return []
        delay_s = 0.0
        if self._hit("late", rates.late):
            delay_s = self._random.expovariate(1 / rates.late_s_mean)
        if self._hit("bit_error", rates.bit_error):
            at, bit = self._random.randrange(len(answer)), 1 << self._random.randrange(8)
            answer = answer[:at] + bytes((answer[at] ^ bit,)) + answer[at + 1 :]
        if self._hit("truncated", rates.truncated):
            answer = answer[: self._random.randrange(1, len(answer))]
        if self._hit("noise", rates.noise):
            answer = self._random.randbytes(self._random.randint(1, 3)) + answer
        out = [Delivery(delay_s, answer)]
        if self._hit("doubled", rates.doubled):
            out.append(Delivery(delay_s, answer))
        return out

    def _hit(self, name: str, probability: float) -> bool:
        if self.calm or not probability:
            return False
        hit = self._random.random() < probability
        self.counts[name] += hit
        return hit
