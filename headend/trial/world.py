"""The property of a trial: meters of several types, good ones and naive ones, on three lines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from gateways.timing import LineTiming
from headend.domain.places import Site
from headend.domain.site_file import parse_site_file
from headend.trial.history import History
from headend.trial.link import CALM, RATE_MAX, Box, Weather
from protocols.meter_type import MeterType
from simulators.acrel_meter import DDSY1352, DTSY1352, Model, acrel_unit
from simulators.adf_cabinet import CabinetPlan, cabinet_units
from simulators.dial import Dial
from simulators.load import Load
from simulators.metering import Account, Applied, CountRule, Forced, Meter
from simulators.modbus_meter import Bus

# A converter of wires answers within two seconds or never; a box on a mobile network may park a
# request for half a minute. Both dial in here, since no socket exists on virtual time.
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
[[gateways]]
name = "G1"
kind = "dtu"
registration = "ascii:trial-1"
[[gateways]]
name = "G2"
kind = "dtu"
registration = "ascii:trial-2"
[[lines]]
name = "wired"
gateway = "G1"
reply_timeout_ms = 1000
reply_late_ms_max = 3000
[[lines]]
name = "mobile"
gateway = "G2"
reply_timeout_ms = 3000
reply_late_ms_max = 30000
[[meters]]
name = "W1"
line = "wired"
type = "acrel_ddsy1352"
unit = 1
[[meters]]
name = "W2"
line = "wired"
type = "acrel_dtsy1352"
unit = 2
[[meters]]
name = "M1"
line = "mobile"
type = "acrel_ddsy1352"
unit = 40
[[cabinets]]
name = "box"
line = "mobile"
type = "acrel_adf300l"
base_unit = 1
size = 12
three_phase_users = 1
single_phase_users = 1
options = { forced_open_state = 1 }
"""
BOX = CabinetPlan(base_unit=1, size=12, three_phase_users=1, single_phase_users=1)

# What the slower of the two lines promises: nothing is on its way for longer.
IN_FLIGHT_S_MAX = 30.0
_TIMINGS = {
    "wired": LineTiming(reply_timeout_s=1.0, reply_late_s_max=3.0),
    "mobile": LineTiming(reply_timeout_s=3.0, reply_late_s_max=IN_FLIGHT_S_MAX),
}
_MONDAY = datetime(2026, 3, 16, tzinfo=UTC)  # 8 in the morning in Shanghai
# Seeds begin on a working day between shortly before the hours in which cuts are allowed and
# shortly before their end, so that some days run out of them.
_START_MINUTES = (-10, 12 * 60 - 5)
_METER_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
SHANGHAI = timedelta(hours=8)


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
    """A meter that also remembers each change of its forced control."""

    forced_log: list[tuple[int, Forced]] = field(default_factory=list)  # (at_ms, what)

    def force(self, forced: Forced) -> None:
        before = self.forced
        # Named in full: the zero-argument form does not work in a dataclass with slots.
        Meter.force(self, forced)
        if forced is not before:
            self.forced_log.append((self.at_ms, forced))


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A purchase that came from elsewhere: a card, another head-end."""

    purchase_count: int
    amount_fen: int


@dataclass(slots=True)
class TrialMeter:
    """One meter with what a seed did to it behind the head-end's back."""

    name: str
    line: str
    meter: WatchedMeter
    foreign: list[Foreign] = field(default_factory=list)

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
            self.foreign.append(Foreign(purchase_count=count, amount_fen=amount_fen))


class World:
    """Everything outside the head-end."""

    def __init__(
        self,
        seed: int,
        history: History,
        *,
        only_writes_are_late: bool = False,
        much_is_parked: bool = False,
    ) -> None:
        self.seed = seed
        self.history = history
        self.chance = random.Random(f"{seed} world")
        day = _MONDAY + timedelta(days=self.chance.randrange(5))
        self.clock = TrialClock(day + timedelta(minutes=self.chance.randrange(*_START_MINUTES)))
        self.meters: dict[str, TrialMeter] = {}
        buses = {"wired": self._wired_bus(), "mobile": self._mobile_bus()}
        self.boxes = {
            name: self._box(name, bus, only_writes_are_late, much_is_parked)
            for name, bus in buses.items()
        }

    @property
    def faults(self) -> int:
        """How many the lines had so far."""
        return sum(sum(box.faults.values()) for box in self.boxes.values())

    def calm_down(self) -> None:
        """The bad day is over; what is in flight still lands."""
        for box in self.boxes.values():
            box.weather = CALM

    def _box(self, name: str, bus: Bus, only_writes_are_late: bool, much_is_parked: bool) -> Box:
        chance = random.Random(f"{self.seed} {name}")
        weather = Weather.drawn(chance)
        if much_is_parked:
            weather = replace(weather, parked=RATE_MAX)
        if only_writes_are_late:
            weather = replace(weather, late=0.0)
        return Box(
            name,
            bus,
            timing=_TIMINGS[name],
            weather=weather,
            chance=chance,
            say=self.history.say,
            parks_reads=not only_writes_are_late,
        )

    def _wired_bus(self) -> Bus:
        return Bus(
            {
                1: acrel_unit(DDSY1352, self._meter("W1", "wired", DDSY1352), 1),
                2: acrel_unit(DTSY1352, self._meter("W2", "wired", DTSY1352), 2),
            }
        )

    def _mobile_bus(self) -> Bus:
        bus = Bus({40: acrel_unit(DDSY1352, self._meter("M1", "mobile", DDSY1352), 40)})
        names = ("box-01", "box-02")
        meters = [
            self._meter(name, "mobile", model)
            for name, model in zip(names, (DTSY1352, DDSY1352), strict=True)
        ]
        bus.add(cabinet_units(BOX, meters, number="249900000001"))
        return bus

    def _meter(self, name: str, line: str, model: Model) -> WatchedMeter:
        chance = self.chance
        now_ms = self.clock.meter_ms()
        credit_fen = chance.choice((-500, 300, 20_000))
        total_fen = chance.randrange(50_000, 2_000_000)
        meter = WatchedMeter(
            number=f"2499{len(self.meters):08d}",
            load=Load(
                seed=chance.getrandbits(32),
                peak_w=800,
                phase_share_permille=(1000, 0, 0) if model.phases == 1 else (340, 330, 330),
            ),
            now_ms=self.clock.meter_ms,
            phases=model.phases,
            account=Account(alarm_1_fen=1000),
            dial=Dial(set_at_ms=now_ms, set_to_ms=now_ms, drift_ppm=chance.randrange(-30, 31)),
            count_rule=chance.choice(tuple(CountRule)),
            credited_fen=credit_fen,
            purchase_count=chance.randrange(0, 200),
            total_purchased_fen=total_fen,
            forced=Forced.OPEN if chance.random() < 0.3 else Forced.RELEASED,
        )
        self.meters[name] = TrialMeter(name, line, meter)
        return meter


def trial_site(meter_types: Mapping[str, MeterType]) -> Site:
    """The site file of the trial, read by the product's own reader."""
    return parse_site_file(SITE, "the trial's site", meter_types)


def instant_of(meter_ms: int) -> datetime:
    """The instant of a right meter clock's milliseconds."""
    return _METER_EPOCH + timedelta(milliseconds=meter_ms) - SHANGHAI
