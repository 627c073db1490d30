"""Settings that somebody wants in a meter, and what the simulated meter itself says of them."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import datetime

from headend.trial.world import TrialMeter, instant_of
from protocols.settings import AlarmAmounts, Overdraft, Prices, SetClock, Setting

# A dial is set with the second of the moment; what a setting still needs to arrive.
_DIAL_OFF_S_MAX = 61


def a_setting(chance: random.Random) -> Setting:
    """What a manager or a technician writes into a meter on some day."""
    kind = chance.randrange(4)
    if kind == 0:
        sharp, peak, flat, valley = (chance.randrange(10, 200) for _ in range(4))
        return Prices(sharp_fen=sharp, peak_fen=peak, flat_fen=flat, valley_fen=valley)
    if kind == 1:
        # The second alarm trips the relay for a while: another matter.
        return AlarmAmounts(alarm_1_fen=100 * chance.randrange(1, 60), alarm_2_fen=0)
    if kind == 2:
        return Overdraft(overdraft_fen=100 * chance.randrange(0, 30))
    return SetClock()


@dataclass(frozen=True, slots=True)
class Shown:
    """The settings of one meter, past every wire."""

    prices_fen: tuple[int, int, int, int]
    alarm_1_fen: int
    overdraft_fen: int
    #: when its dial was set, and how far from the right time
    dial_set: tuple[tuple[datetime, float], ...]

    @classmethod
    def of(cls, meter: TrialMeter) -> Shown:
        """What it holds now."""
        account = meter.meter.look().account
        return cls(
            prices_fen=account.prices_fen_per_kwh,
            alarm_1_fen=account.alarm_1_fen,
            overdraft_fen=account.overdraft_fen,
            dial_set=tuple(
                (instant_of(at_ms), abs(to_ms - at_ms) / 1000)
                for at_ms, to_ms in meter.meter.dial_log
            ),
        )

    def holds(self, setting: Setting, sent_at: datetime, ended_at: datetime) -> bool:
        """Whether it has what was ordered. Of a dial: whether it was right at some instant between
        the write and the end of its order; it may be disturbed at any other."""
        match setting:
            case Prices():
                return self.prices_fen == setting.fen()
            case AlarmAmounts():
                return self.alarm_1_fen == setting.alarm_1_fen
            case Overdraft():
                return self.overdraft_fen == setting.overdraft_fen
            case _:
                before = [0.0, *(off_s for at, off_s in self.dial_set if at < sent_at)]
                since = [off_s for at, off_s in self.dial_set if sent_at <= at <= ended_at]
                return min(before[-1], *since, math.inf) <= _DIAL_OFF_S_MAX
