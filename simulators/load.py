"""What a room draws: a daily curve, a weekday and a weekend, and noise from a seed.

Power is constant inside a slot of five minutes and depends only on the slot's number and the
seed. So the energy of any span is an exact sum of integers, however often one looks.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

# All times here are integers: milliseconds since 2000-01-01 00:00 on a right local clock.
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
SLOT_MS = 5 * MINUTE_MS  # short enough to look alive, long enough that a year is 105,120 sums

_SATURDAY = 5  # 2000-01-01 was one; Monday is 0
_MASK_64 = (1 << 64) - 1


class Profile(enum.Enum):
    """Who lives behind the meter."""

    HOUSEHOLD = "household"
    SHOP = "shop"
    OFFICE = "office"


# Per mille of the peak, one value for each hour of the day: working day, then rest day.
_CURVES: dict[Profile, tuple[tuple[int, ...], tuple[int, ...]]] = {
    Profile.HOUSEHOLD: (
        (90, 80, 75, 70, 70, 90, 260, 420, 300, 180, 170, 260,
         320, 220, 170, 170, 200, 380, 720, 900, 860, 700, 400, 180),
        (120, 100, 85, 80, 75, 80, 120, 240, 400, 420, 400, 520,
         560, 420, 360, 340, 360, 480, 760, 940, 900, 760, 500, 240),
    ),
    Profile.SHOP: (
        (120, 110, 110, 110, 110, 110, 130, 220, 420, 620, 720, 780,
         800, 780, 760, 760, 780, 840, 920, 940, 900, 720, 320, 160),
        (130, 120, 110, 110, 110, 110, 130, 220, 440, 700, 840, 900,
         920, 900, 880, 880, 900, 940, 980, 1000, 960, 800, 400, 180),
    ),
    Profile.OFFICE: (
        (80, 80, 80, 80, 80, 90, 140, 320, 720, 900, 920, 900,
         700, 820, 920, 920, 900, 800, 480, 300, 200, 140, 100, 90),
        (80, 80, 80, 80, 80, 80, 90, 110, 150, 180, 180, 180,
         160, 160, 170, 170, 160, 140, 120, 110, 100, 90, 80, 80),
    ),
}  # fmt: skip
assert all(len(day) == 24 for days in _CURVES.values() for day in days)
assert set(_CURVES) == set(Profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One connected load."""

    seed: int
    profile: Profile = Profile.HOUSEHOLD
    peak_w: int = 3_000  # where the curve says 1000; noise may go 40 % above
    power_factor_permille: int = 950
    phase_share_permille: tuple[int, int, int] = (1000, 0, 0)  # how power spreads over L1, L2, L3

    def __post_init__(self) -> None:
        assert sum(self.phase_share_permille) == 1000, "shares must add up to the whole"
        assert 0 < self.power_factor_permille <= 1000
        assert self.peak_w >= 0

    def watts(self, at_ms: int) -> int:
        """Demand at an instant, were the relay closed."""
        slot = at_ms // SLOT_MS
        day, in_day_ms = divmod(at_ms, DAY_MS)
        rest_day = (day + _SATURDAY) % 7 >= _SATURDAY
        curve_permille = _CURVES[self.profile][rest_day][in_day_ms // HOUR_MS]
        noise_permille = 600 + mixed(self.seed, slot) % 801  # 0.6 to 1.4
        return self.peak_w * curve_permille * noise_permille // 1_000_000


def mixed(seed: int, index: int) -> int:
    """A well mixed 64-bit number for (seed, index): the same on every machine, in any order."""
    x = (seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + 0x2545F4914F6CDD1D) & _MASK_64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return x ^ (x >> 31)
