"""A meter that really meters: energy by tariff, credit that falls by price, a relay, a clock.

Everything is integers. Energy is kept in watt-milliseconds and money spent in fen times
watt-milliseconds, so no fraction is ever lost. The state advances lazily, on each look, from event
to event (a load slot ends, a tariff slot begins, credit runs out); one step of a month and a
million small ones give the same registers.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from simulators.dial import Dial, is_month_start
from simulators.load import DAY_MS, SLOT_MS, Load, mixed
from simulators.tariff import COMMON_DAY, DayTable, Rate

W_MS_PER_WH = 3_600_000
W_MS_PER_KWH = 1000 * W_MS_PER_WH
DAYS_KEPT = 62  # spec field_protocols.md A4: 0506iinn
MONTHS_KEPT = 12  # spec acrel.md 2.12: 1A00-1A0B
RECHARGES_KEPT = 20  # spec acrel.md 2.12: 1B00-1B13
FOREVER_MS = 1 << 62  # a hold that only an order ends
COUNT_MODULUS = 1 << 16  # the purchase count is a 16-bit register


class Forced(enum.Enum):
    """Forced control: outranks every other control (spec acrel.md 3.4)."""

    RELEASED = "released"
    CLOSED = "closed"
    OPEN = "open"


class CountRule(enum.Enum):
    """What the meter does with a purchase that repeats or skips a count.

    Not known for certain over Modbus (spec acrel.md 3.3), so both meters exist here.
    """

    NEXT_ONLY = "next_only"  # applied only when the count is the last one plus one
    ANY = "any"  # applied whatever the count says: a repeated frame credits twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The prepaid settings, as an order replaces them."""

    prepaid: bool = True
    prices_fen_per_kwh: tuple[int, int, int, int] = (98, 83, 62, 34)  # sharp, peak, flat, valley
    alarm_1_fen: int = 2000
    alarm_2_fen: int = 0  # 0: this alarm is off
    overdraft_fen: int = 0
    base_amount_fen: int = 0
    recover_s: int = 10  # after alarm 2 opened the relay; 0: stays open until a purchase

    def price_fen_per_kwh(self, rate: Rate) -> int:
        """The price of a rate; the fifth rate is billed as valley (four price registers)."""
        return self.prices_fen_per_kwh[min(rate, Rate.VALLEY) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLimit:
    """Load control (spec acrel.md 2.6)."""

    on: bool = False
    max_w: int = 13_200
    trips_allowed: int = 3  # after so many the relay stays open until the count is reset
    recover_s: int = 60
    # Kept and shown; this meter's loads know no sudden steps.
    step_w: int = 0
    power_factor_permille: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One purchase this meter really took: the witness of every test about money."""

    at_ms: int
    dial_ms: int
    purchase_count: int
    amount_fen: int
    remaining_fen: int
    energy_w_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthEnd:
    """Energy by rate as the dial passed into a new day or month."""

    dial_ms: int
    energy_w_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What one phase carries now."""

    voltage_dv: int = 0
    current_ca: int = 0  # 0.01 A
    power_w: int = 0
    reactive_var: int = 0
    power_factor_permille: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Everything a meter shows at one instant."""

    meter_number: str
    phases: tuple[Phase, Phase, Phase]
    energy_w_ms: tuple[int, ...]  # by Rate, 1 to 5, at index 0 to 4
    remaining_fen: int
    purchase_count: int
    total_purchased_fen: int
    account: Account
    load_limit: LoadLimit
    load_trips: int
    relay_closed: bool
    prepaid_open: bool
    load_open: bool
    forced: Forced
    dial_ms: int
    demand_w: int = 0
    demand_dial_ms: int = 0
    month_ends: tuple[MonthEnd, ...] = ()  # newest first
    recharges: tuple[Applied, ...] = ()  # newest first

    @property
    def total_w_ms(self) -> int:
        return sum(self.energy_w_ms)


@dataclass(slots=True, kw_only=True)
class Meter:
    """One metered way. `now_ms` is a right local clock: milliseconds since 2000-01-01 00:00."""

    number: str  # 12 digits
    load: Load
    now_ms: Callable[[], int]
    phases: int = 1
    account: Account = field(default_factory=Account)
    load_limit: LoadLimit = field(default_factory=LoadLimit)
    day_table: DayTable = COMMON_DAY
    dial: Dial = field(default_factory=Dial)
    count_rule: CountRule = CountRule.NEXT_ONLY

    energy_w_ms: list[int] = field(default_factory=lambda: [0] * len(Rate))
    credited_fen: int = 0  # everything ever credited, corrections included
    spent_fen_w_ms: int = 0
    purchase_count: int = 0
    total_purchased_fen: int = 0
    forced: Forced = Forced.RELEASED
    load_trips: int = 0
    load_open_until_ms: int = 0
    alarm_2_open_until_ms: int = 0
    alarm_2_passed: bool = False
    demand_w: int = 0
    demand_dial_ms: int = 0
    month_ends: deque[MonthEnd] = field(default_factory=lambda: deque(maxlen=MONTHS_KEPT))
    day_ends: deque[MonthEnd] = field(default_factory=lambda: deque(maxlen=DAYS_KEPT))
    recharges: deque[Applied] = field(default_factory=lambda: deque(maxlen=RECHARGES_KEPT))
    applied: list[Applied] = field(default_factory=list)
    at_ms: int = -1  # the instant the state is true for

    def __post_init__(self) -> None:
        assert len(self.number) == 12
        assert self.number.isdigit()
        assert self.phases in (1, 3)
        if self.at_ms < 0:
            self.at_ms = self.now_ms()

    # What it shows

    @property
    def remaining_fen(self) -> int:
        """Each whole fen of energy used takes one away; fractions are carried."""
        return self.credited_fen - self.spent_fen_w_ms // W_MS_PER_KWH

    @property
    def relay_closed(self) -> bool:
        """Whether supply passes, as the state was last brought on."""
        return self._relay_closed()

    def look(self) -> Look:
        """Advance to now and show everything."""
        self.advance()
        closed = self._relay_closed()
        return Look(
            meter_number=self.number,
            phases=self._phases(closed),
            energy_w_ms=tuple(self.energy_w_ms),
            remaining_fen=self.remaining_fen,
            purchase_count=self.purchase_count,
            total_purchased_fen=self.total_purchased_fen,
            account=self.account,
            load_limit=self.load_limit,
            load_trips=self.load_trips,
            relay_closed=closed,
            prepaid_open=self._prepaid_open(),
            load_open=self.at_ms < self.load_open_until_ms,
            forced=self.forced,
            dial_ms=self.dial.shows_ms(self.at_ms),
            demand_w=self.demand_w,
            demand_dial_ms=self.demand_dial_ms,
            month_ends=tuple(reversed(self.month_ends)),
            recharges=tuple(reversed(self.recharges)),
        )

    # What it is told

    def purchase(self, amount_fen: int, purchase_count: int) -> bool:
        """Credit an amount under its new count; False when the count rule refuses it."""
        assert amount_fen >= 0
        self.advance()
        expected = (self.purchase_count + 1) % COUNT_MODULUS
        if self.count_rule is CountRule.NEXT_ONLY and purchase_count != expected:
            return False
        self.purchase_count = purchase_count
        self.credited_fen += amount_fen
        self.total_purchased_fen += amount_fen
        entry = Applied(
            at_ms=self.at_ms,
            dial_ms=self.dial.shows_ms(self.at_ms),
            purchase_count=purchase_count,
            amount_fen=amount_fen,
            remaining_fen=self.remaining_fen,
            energy_w_ms=sum(self.energy_w_ms),
        )
        self.applied.append(entry)
        self.recharges.append(entry)
        self._settle()
        return True

    def force(self, forced: Forced) -> None:
        """Forced control; stays until released."""
        self.advance()
        self.forced = forced
        self._settle()

    def set_account(
        self,
        account: Account | None = None,
        *,
        remaining_fen: int | None = None,
        purchase_count: int | None = None,
        total_purchased_fen: int | None = None,
    ) -> None:
        """Replace settings and registers, as the settings order does (spec acrel.md 3.2)."""
        self.advance()
        if account is not None:
            self.account = account
        if remaining_fen is not None:
            self.spent_fen_w_ms %= W_MS_PER_KWH
            self.credited_fen = remaining_fen
        if purchase_count is not None:
            self.purchase_count = purchase_count % COUNT_MODULUS
        if total_purchased_fen is not None:
            self.total_purchased_fen = total_purchased_fen
        self._settle()

    def set_load_limit(self, load_limit: LoadLimit, *, trips: int | None = None) -> None:
        """Replace the load limit; a new trip count also ends a hold."""
        self.advance()
        self.load_limit = load_limit
        if trips is not None:
            self.load_trips = trips
            self.load_open_until_ms = 0
        self._settle()

    def set_clock(self, dial_ms: int) -> None:
        """Set the dial; it drifts on from there."""
        self.advance()
        self.dial = replace(self.dial, set_at_ms=self.at_ms, set_to_ms=dial_ms)

    def set_day_table(self, table: DayTable) -> None:
        """Other tariff hours from now on."""
        self.advance()
        self.day_table = table

    # How it lives

    def advance(self) -> None:
        """Bring the state up to now. Time never runs backwards: an earlier now changes nothing."""
        now = self.now_ms()
        self._settle()
        while self.at_ms < now:
            self._step(now)
            self._settle()

    def _step(self, until_ms: int) -> None:
        """Meter up to the next event, at most up to `until_ms`."""
        at, dial_ms = self.at_ms, self.dial.shows_ms(self.at_ms)
        rate = self.day_table.rate(dial_ms)
        end = min(until_ms, (at // SLOT_MS + 1) * SLOT_MS)
        end = min(end, self.dial.when_ms(self.day_table.next_change_ms(dial_ms)))
        for hold_ms in (self.load_open_until_ms, self.alarm_2_open_until_ms):
            if hold_ms > at:
                end = min(end, hold_ms)
        watts = self.load.watts(at) if self._relay_closed() else 0
        price = self.account.price_fen_per_kwh(rate) if self.account.prepaid else 0
        if watts and price:
            end = min(end, at + self._ms_to_next_threshold(watts * price))
        assert end > at, "an event that takes no time"
        self.energy_w_ms[rate - 1] += watts * (end - at)
        self.spent_fen_w_ms += watts * price * (end - at)
        if watts > self.demand_w:
            self.demand_w, self.demand_dial_ms = watts, dial_ms
        self.at_ms = end
        dial_then_ms = self.dial.shows_ms(end)
        if dial_then_ms // DAY_MS != dial_ms // DAY_MS:
            frozen = MonthEnd(dial_ms=dial_then_ms, energy_w_ms=tuple(self.energy_w_ms))
            self.day_ends.append(frozen)
            if is_month_start(dial_then_ms):
                self.month_ends.append(frozen)

    def _ms_to_next_threshold(self, fen_w: int) -> int:
        """Until credit, used up at this pace, next reaches alarm 2 or its end."""
        waits = [FOREVER_MS]
        for threshold_fen in (self.account.alarm_2_fen, -self.account.overdraft_fen):
            left = (self.credited_fen - threshold_fen) * W_MS_PER_KWH - self.spent_fen_w_ms
            if left > 0:
                waits.append(-(-left // fen_w))
        return min(waits)

    def _settle(self) -> None:
        """What the meter decides at this very instant. Deciding twice changes nothing."""
        account, remaining = self.account, self.remaining_fen
        if remaining > account.alarm_2_fen:
            self.alarm_2_passed, self.alarm_2_open_until_ms = False, 0
        elif account.prepaid and account.alarm_2_fen and not self.alarm_2_passed:
            self.alarm_2_passed = True
            hold_ms = account.recover_s * 1000
            self.alarm_2_open_until_ms = self.at_ms + hold_ms if hold_ms else FOREVER_MS
        limit = self.load_limit
        if limit.on and self._relay_closed() and self.load.watts(self.at_ms) > limit.max_w:
            if self.forced is Forced.CLOSED:
                return  # forced control outranks the load limit
            self.load_trips += 1
            last = self.load_trips >= limit.trips_allowed
            self.load_open_until_ms = FOREVER_MS if last else self.at_ms + limit.recover_s * 1000

    def _prepaid_open(self) -> bool:
        if not self.account.prepaid:
            return False
        if self.remaining_fen <= -self.account.overdraft_fen:
            return True
        return self.at_ms < self.alarm_2_open_until_ms

    def _relay_closed(self) -> bool:
        if self.forced is not Forced.RELEASED:
            return self.forced is Forced.CLOSED
        return not (self._prepaid_open() or self.at_ms < self.load_open_until_ms)

    def _phases(self, closed: bool) -> tuple[Phase, Phase, Phase]:
        watts = self.load.watts(self.at_ms) if closed else 0
        shares = self.load.phase_share_permille
        first, second, third = (self._phase(i, watts * shares[i] // 1000) for i in range(3))
        return first, second, third

    def _phase(self, index: int, watts: int) -> Phase:
        if index >= self.phases:
            return Phase()
        slot = self.at_ms // SLOT_MS
        voltage_dv = 2200 + mixed(self.load.seed + index + 1, slot) % 180  # 220.0 to 237.9 V
        if not watts:
            return Phase(voltage_dv=voltage_dv, power_factor_permille=1000)
        factor = self.load.power_factor_permille
        # Reactive power from P and PF without leaving the integers: sin = sqrt(1 - PF^2).
        sine_permille = _isqrt(1_000_000 - factor * factor)
        return Phase(
            voltage_dv=voltage_dv,
            current_ca=watts * 1_000_000 // (voltage_dv * factor),
            power_w=watts,
            reactive_var=watts * sine_permille // factor,
            power_factor_permille=factor,
        )


def _isqrt(value: int) -> int:
    root = 0
    while (root + 1) * (root + 1) <= value:
        root += 1
    return root
