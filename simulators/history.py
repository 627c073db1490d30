"""A meter with a past: it has metered for months and been bought for, before anybody looks."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

from simulators.dial import Dial, dial_datetime, dial_ms_of
from simulators.load import DAY_MS, Load, Profile
from simulators.metering import MONTHS_KEPT, W_MS_PER_WH, Account, Applied, Meter, MonthEnd
from simulators.tariff import COMMON_DAY, DEEP_VALLEY_DAY, Rate

# How a month's energy spreads over sharp, peak, flat, valley and deep valley, in per mille.
_SPREAD_PERMILLE = (110, 320, 370, 200, 0)
_SPREAD_8_RATES_PERMILLE = (110, 300, 340, 170, 80)
_CLOCK_WRONG_MS_MAX = 90_000  # most meters are within a minute and a half
_DRIFT_PPM_MAX = 30


def lived_meter(
    *,
    number: str,
    seed: int,
    profile: Profile,
    peak_w: int,
    phases: int,
    now_ms: Callable[[], int],
    eight_rates: bool = False,
) -> Meter:
    """A meter of this seed with a year of plausible months and purchases behind it."""
    chance = random.Random(seed)
    now = now_ms()
    load = Load(
        seed=seed,
        profile=profile,
        peak_w=peak_w,
        power_factor_permille=chance.randrange(880, 996),
        phase_share_permille=(1000, 0, 0) if phases == 1 else (360, 330, 310),
    )
    dial = Dial(
        set_at_ms=now,
        set_to_ms=now + chance.randrange(-_CLOCK_WRONG_MS_MAX, _CLOCK_WRONG_MS_MAX),
        drift_ppm=chance.randrange(-_DRIFT_PPM_MAX, _DRIFT_PPM_MAX + 1),
    )
    spread = _SPREAD_8_RATES_PERMILLE if eight_rates else _SPREAD_PERMILLE
    month_wh = peak_w * 24 * 30 * chance.randrange(250, 450) // 1000
    total_wh = month_wh * chance.randrange(14, 30)
    energy = [total_wh * permille // 1000 * W_MS_PER_WH for permille in spread]
    meter = Meter(
        number=number,
        load=load,
        now_ms=now_ms,
        phases=phases,
        account=Account(alarm_1_fen=2000, alarm_2_fen=0, base_amount_fen=0),
        day_table=DEEP_VALLEY_DAY if eight_rates else COMMON_DAY,
        dial=dial,
        energy_w_ms=energy,
        at_ms=now,
    )
    _past_months(meter, month_wh, spread)
    _past_purchases(meter, chance)
    return meter


def _past_months(meter: Meter, month_wh: int, spread: tuple[int, ...]) -> None:
    """Month ends counted back from the registers, so that they never exceed them."""
    first = dial_datetime(meter.dial.shows_ms(meter.at_ms)).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    ends: list[MonthEnd] = []
    for back in range(MONTHS_KEPT):
        spent_wh = month_wh * back + month_wh // 2
        left = tuple(
            energy - spent_wh * permille // 1000 * W_MS_PER_WH
            for energy, permille in zip(meter.energy_w_ms, spread, strict=True)
        )
        ends.append(MonthEnd(dial_ms=dial_ms_of(first), energy_w_ms=left))
        first = (first - timedelta(days=1)).replace(day=1)
    meter.month_ends.extend(reversed(ends))
    assert len(spread) == len(Rate)


def _past_purchases(meter: Meter, chance: random.Random) -> None:
    """The last purchases, and registers that agree with them."""
    count = chance.randrange(3, 40)
    amounts = [100 * chance.choice((50, 100, 100, 200)) for _ in range(count)]
    remaining = chance.randrange(5_000, 60_000)
    now_dial_ms = meter.dial.shows_ms(meter.at_ms)
    energy_w_ms = sum(meter.energy_w_ms)
    for number, amount in enumerate(amounts, start=1):
        days_back = 12 * (count - number) + 1
        meter.recharges.append(
            Applied(
                at_ms=meter.at_ms - days_back * DAY_MS,
                dial_ms=now_dial_ms - days_back * DAY_MS,
                purchase_count=number,
                amount_fen=amount,
                remaining_fen=amount + remaining // 4,
                energy_w_ms=energy_w_ms * (100 - count + number) // 100,
            )
        )
    meter.purchase_count = count
    meter.total_purchased_fen = max(sum(amounts), remaining)
    meter.credited_fen = remaining
