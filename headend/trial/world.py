"""The property of a trial: meters of several types, good ones and naive ones, on several roads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from gateways.timing import LineTiming
from headend.domain.places import Site
from headend.domain.reconciliation import DifferenceKind
from headend.domain.site_file import parse_site_file
from headend.trial.history import History
from headend.trial.link import CALM, RATE_MAX, Box, Weather
from headend.trial.network import network_here
from headend.trial.roads import ROADS, ROADS_OF_A_SEED, Road, number_of
from protocols.meter_type import MeterType
from simulators.acrel_meter import Model
from simulators.dial import Dial
from simulators.load import Load
from simulators.metering import Account, Applied, CountRule, Forced, Meter

SITE = """
[site]
name = "trial"
time_zone = "Asia/Shanghai"
night_opens = "23:55"
night_closes = "06:00"
[[buildings]]
name = "A"
[[rooms]]
name = "A-1"
building = "A"
""" + "".join(road.site for road in ROADS.values())

# What the slowest line promises: nothing is on its way for longer.
IN_FLIGHT_S_MAX = max(road.reply_late_ms_max for road in ROADS.values()) / 1000
_MONDAY = datetime(2026, 3, 16, tzinfo=UTC)  # 8 in the morning in Shanghai
# Seeds begin on a working day between shortly before the hours in which cuts are allowed and
# shortly before their end, so that some days run out of them.
_START_MINUTES = (-10, 12 * 60 - 5)
BULK_SHARE = 0.3  # of seeds in which a list of meters is cut at once
CARD_SHARE = 0.6  # of seeds in which tenants have cards
TRUSTING_SHARE = 0.3  # of sites that take back cards that can be cloned
_METER_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
SHANGHAI = timedelta(hours=8)
BEFORE_FEN = 5_000  # of the last purchase before a seed


class TrialClock:
    """The instant on virtual time."""

    def __init__(self, epoch: datetime) -> None:
        self.epoch = epoch
        self._loop = asyncio.get_running_loop()

    def now(self) -> datetime:
        return self.epoch + timedelta(seconds=self._loop.time())

    def meter_ms(self) -> int:
        """The same instant as a right meter's clock counts it."""
        return (self.now() - _METER_EPOCH + SHANGHAI) // timedelta(milliseconds=1)


@dataclass(slots=True, kw_only=True)
class WatchedMeter(Meter):
    """A meter that remembers each change of its forced control and each setting of its dial."""

    forced_log: list[tuple[int, Forced]] = field(default_factory=list)  # (at_ms, what)
    dial_log: list[tuple[int, int]] = field(default_factory=list)  # (at_ms, what it was set to)

    def force(self, forced: Forced) -> None:
        before = self.forced
        # Named in full: the zero-argument form does not work in a dataclass with slots.
        Meter.force(self, forced)
        if forced is not before:
            self.forced_log.append((self.at_ms, forced))

    def set_clock(self, dial_ms: int) -> None:
        Meter.set_clock(self, dial_ms)
        self.dial_log.append((self.at_ms, dial_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A purchase that came from elsewhere: a card, another head-end."""

    purchase_count: int
    amount_fen: int
    at_ms: int


@dataclass(slots=True)
class TrialMeter:
    """One meter with what a seed did to it behind the head-end's back."""

    name: str
    line: str
    meter: WatchedMeter
    foreign: list[Foreign] = field(default_factory=list)
    exchanged_at_ms: list[int] = field(default_factory=list)
    #: what it had been credited with when the seed began
    credited_fen_first: int = 0

    def __post_init__(self) -> None:
        self.credited_fen_first = self.meter.credited_fen

    def own_purchases(self) -> list[Applied]:
        """What this meter took from us, in order."""
        elsewhere = {(one.purchase_count, one.amount_fen) for one in self.foreign}
        return [
            taken
            for taken in self.meter.applied
            if (taken.purchase_count, taken.amount_fen) not in elsewhere
        ]

    def buy_elsewhere(self, amount_fen: int) -> None:
        """Somebody else sells: the next count, this amount."""
        self.meter.advance()
        count = self.meter.purchase_count + 1
        if self.meter.purchase(amount_fen, count):
            self.foreign.append(
                Foreign(purchase_count=count, amount_fen=amount_fen, at_ms=self.meter.at_ms)
            )

    def exchange(self, back_by: int, total_fen: int) -> None:
        """Another device takes its place, with the credit of the old one. Its counts have begun
        anew: somewhere below, so that they soon come to numbers that were used before."""
        meter = self.meter
        meter.set_account(
            purchase_count=max(0, meter.purchase_count - back_by), total_purchased_fen=total_fen
        )
        _remember_a_purchase(meter)
        self.exchanged_at_ms.append(meter.at_ms)


def _remember_a_purchase(meter: Meter) -> None:
    """A device has a record of what it was sold last, and none of what another was."""
    meter.recharges.clear()
    if meter.purchase_count:
        meter.recharges.append(
            Applied(
                at_ms=meter.at_ms,
                dial_ms=meter.dial.shows_ms(meter.at_ms),
                purchase_count=meter.purchase_count,
                amount_fen=min(BEFORE_FEN, meter.total_purchased_fen),
                remaining_fen=meter.remaining_fen,
                energy_w_ms=sum(meter.energy_w_ms),
            )
        )


class World:
    """Everything outside the head-end."""

    def __init__(
        self,
        seed: int,
        history: History,
        *,
        only_writes_are_late: bool = False,
        much_is_parked: bool = False,
        long_outages: bool = False,
        has_bulk: bool | None = None,
        has_cards: bool | None = None,
        clones_are_taken_back: bool | None = None,
        exchanges: bool = False,
    ) -> None:
        self.seed = seed
        self.long_outages = long_outages
        self.exchanges = exchanges
        drawn = random.Random(f"{seed} kind").random() < BULK_SHARE
        self.has_bulk = drawn if has_bulk is None else has_bulk
        drawn = random.Random(f"{seed} cards kind").random() < CARD_SHARE
        self.has_cards = drawn if has_cards is None else has_cards
        drawn = random.Random(f"{seed} clones kind").random() < TRUSTING_SHARE
        self.clones_are_taken_back = (
            drawn if clones_are_taken_back is None else clones_are_taken_back
        )
        self.history = history
        self.chance = random.Random(f"{seed} world")
        day = _MONDAY + timedelta(days=self.chance.randrange(5))
        self.clock = TrialClock(day + timedelta(minutes=self.chance.randrange(*_START_MINUTES)))
        self.meters: dict[str, TrialMeter] = {}
        #: what the head-end's comparisons named: when, which meter number, as what
        self.named: list[tuple[datetime, int, DifferenceKind]] = []
        drawn_roads = random.Random(f"{seed} roads").sample(list(ROADS.values()), ROADS_OF_A_SEED)
        self.network = network_here()
        self.boxes = {
            road.name: self._box(road, only_writes_are_late, much_is_parked) for road in drawn_roads
        }

    @property
    def faults(self) -> int:
        """How many the lines had so far."""
        return sum(sum(box.faults.values()) for box in self.boxes.values())

    def calm_down(self) -> None:
        """The bad day is over; what is in flight still lands."""
        for box in self.boxes.values():
            box.weather = CALM

    def lose_head_end(self) -> None:
        """The head-end died: its ports are closed, and nobody is spoken to."""
        self.network.lose_head_end()
        for box in self.boxes.values():
            box.lose_head_end()

    def _box(self, road: Road, only_writes_are_late: bool, much_is_parked: bool) -> Box:
        chance = random.Random(f"{self.seed} {road.name}")
        weather = Weather.drawn(chance)
        if much_is_parked:
            weather = replace(weather, parked=RATE_MAX)
        if only_writes_are_late:
            weather = replace(weather, late=0.0)

        def new_meter(name: str, model: Model) -> Meter:
            return self._meter(name, road, model)

        return Box(
            road,
            road.new_wires(new_meter),
            self.network,
            timing=LineTiming(
                reply_timeout_s=road.reply_timeout_ms / 1000,
                reply_late_s_max=road.reply_late_ms_max / 1000,
            ),
            weather=weather,
            chance=chance,
            say=self.history.say,
            parks_reads=not only_writes_are_late,
        )

    def _meter(self, name: str, road: Road, model: Model) -> WatchedMeter:
        chance = self.chance
        now_ms = self.clock.meter_ms()
        credit_fen = chance.choice((-500, 300, 20_000))
        total_fen = chance.randrange(50_000, 2_000_000)
        meter = WatchedMeter(
            number=number_of(name),
            load=Load(
                seed=chance.getrandbits(32),
                peak_w=800,
                phase_share_permille=(1000, 0, 0) if model.phases == 1 else (340, 330, 330),
            ),
            now_ms=self.clock.meter_ms,
            phases=model.phases,
            account=Account(alarm_1_fen=1000),
            dial=Dial(set_at_ms=now_ms, set_to_ms=now_ms, drift_ppm=chance.randrange(-30, 31)),
            # The security extension counts by its own rule: there is no naive chip.
            count_rule=chance.choice(tuple(CountRule)) if road.is_modbus else CountRule.NEXT_ONLY,
            credited_fen=credit_fen,
            purchase_count=chance.randrange(0, 200),
            total_purchased_fen=total_fen,
            forced=Forced.OPEN if chance.random() < 0.3 else Forced.RELEASED,
        )
        if not meter.purchase_count:
            meter.total_purchased_fen = 0  # of no purchase there is no total
        _remember_a_purchase(meter)
        self.meters[name] = TrialMeter(name, road.name, meter)
        return meter


def trial_site(meter_types: Mapping[str, MeterType]) -> Site:
    """The site file of the trial, read by the product's own reader."""
    return parse_site_file(SITE, "the trial's site", meter_types)


def instant_of(meter_ms: int) -> datetime:
    """The instant of a right meter clock's milliseconds."""
    return _METER_EPOCH + timedelta(milliseconds=meter_ms) - SHANGHAI
