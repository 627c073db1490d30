"""Settings of Acrel meters: what is written, and what the meter must show afterwards.

Two kinds of proof: values (prices, amounts, the account), and the bytes of one register block
(tables, time and load control). Both are looked at before the first write, too: a setting that
cannot be proved is not written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from protocols.acrel_write import Prepaid, steps_of
from protocols.exchange import (
    Conversation,
    Evidence,
    NotReady,
    Refused,
    Request,
    ask_reply,
)
from protocols.modbus import read_registers
from protocols.reading import Quantity, Values, meter_clock_s
from protocols.registers import REFUSED_FOR_GOOD
from protocols.settings import (
    AlarmAmounts,
    ClearAccount,
    DatePlan,
    DayTable,
    LoadControl,
    OpenAccount,
    Overdraft,
    PrepaidSwitch,
    Prices,
    ResetLoadTrips,
    TimeControl,
)

Q = Quantity

BlockSetting = DayTable | DatePlan | TimeControl | LoadControl | ResetLoadTrips
PrepaidSetting = Prices | AlarmAmounts | Overdraft | OpenAccount | ClearAccount | PrepaidSwitch

# A frame may wait in a DTU, and an answer on its way back; tariffs change at minutes.
CLOCK_OFF_S_MAX = 30


@dataclass(frozen=True, slots=True)
class Shown:
    """What a prepaid setting looks like in the meter, fen."""

    values: Values
    switch: bool | None = None  # None: not part of the setting


def shown(setting: PrepaidSetting) -> Shown:
    """What the meter must show. Remaining credit only where nothing can be used up meanwhile."""
    match setting:
        case Prices():
            return Shown(_prices(setting))
        case AlarmAmounts():
            return Shown(_alarms(setting))
        case Overdraft():
            return Shown({Q.OVERDRAFT: setting.overdraft_fen})
        case PrepaidSwitch():
            return Shown({}, switch=setting.on)
        case ClearAccount():
            zero = {Q.PURCHASE_COUNT: 0, Q.TOTAL_PURCHASED: 0, Q.REMAINING_CREDIT: 0}
            return Shown(zero, switch=False)
        case OpenAccount():
            values = _prices(setting.prices) | _alarms(setting.alarms)
            values |= {Q.PURCHASE_COUNT: 0, Q.TOTAL_PURCHASED: 0}
            values |= {Q.OVERDRAFT: setting.overdraft_fen, Q.BASE_AMOUNT: setting.base_amount_fen}
            return Shown(values, switch=True)


def prepaid_groups(setting: PrepaidSetting, step_fen: int) -> Prepaid:
    """The setting as groups of the masked write. Raises NotReady for amounts between steps."""

    def steps(amount_fen: int) -> int:
        return steps_of(amount_fen, step_fen, "an amount or a price")

    def prices(of: Prices) -> tuple[int, int, int, int]:
        sharp, peak, flat, valley = (steps(price) for price in of.fen())
        return sharp, peak, flat, valley

    match setting:
        case Prices():
            return Prepaid(prices=prices(setting))
        case AlarmAmounts():
            return Prepaid(alarms=(steps(setting.alarm_1_fen), steps(setting.alarm_2_fen)))
        case Overdraft():
            return Prepaid(overdraft=steps(setting.overdraft_fen))
        case PrepaidSwitch():
            return Prepaid(switch=setting.on)
        case ClearAccount():
            return Prepaid(switch=False, remaining=0, purchase_count=0, total_purchased=0)
        case OpenAccount():
            alarms = setting.alarms
            return Prepaid(
                switch=True,
                remaining=0,
                purchase_count=0,
                total_purchased=0,
                base_amount=steps(setting.base_amount_fen),
                alarms=(steps(alarms.alarm_1_fen), steps(alarms.alarm_2_fen)),
                prices=prices(setting.prices),
                overdraft=steps(setting.overdraft_fen),
                meter_number=setting.meter_number,
            )


def check_may_open(before: Evidence) -> None:
    """Raises NotReady unless the account is empty: opening would wipe out what was bought."""
    seen = (before.purchase_count, before.total_purchased_fen, before.remaining_credit_fen)
    if any(seen):
        raise NotReady(
            f"the meter's account is not empty (count {seen[0]}, purchased {seen[1]} fen, "
            f"credit {seen[2]} fen); clear it first"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A setting that is proved by one block of registers."""

    address: int
    count: int
    #: the writes, made from what the meter shows before: bytes nobody can name are kept
    requests: Callable[[bytes], tuple[Request, ...]]
    shows: Callable[[bytes], bool]


def read_block(unit: int, block: Block) -> Conversation[bytes]:
    """The block as it is. Raises NotReady where the meter has no such registers."""
    request = read_registers(unit, block.address, block.count)
    try:
        return (yield from ask_reply(request))
    except Refused as refused:
        if refused.code in REFUSED_FOR_GOOD:
            raise NotReady(
                f"the meter has no registers {block.address:#06x}+{block.count}, "
                f"so this setting could not be proved"
            ) from refused
        raise


def clock_agrees(values: Values, dial: datetime) -> bool:
    """Whether a meter's dial shows this time."""
    clock_s = values.get(Q.CLOCK)
    return clock_s is not None and abs(clock_s - meter_clock_s(dial)) <= CLOCK_OFF_S_MAX


def _prices(prices: Prices) -> Values:
    quantities = (Q.PRICE_SHARP, Q.PRICE_PEAK, Q.PRICE_FLAT, Q.PRICE_VALLEY)
    return dict(zip(quantities, prices.fen(), strict=True))


def _alarms(alarms: AlarmAmounts) -> Values:
    return {Q.ALARM_AMOUNT_1: alarms.alarm_1_fen, Q.ALARM_AMOUNT_2: alarms.alarm_2_fen}
