"""What the virtual property consists of. Pure: from a seed to a plan, a site file and the truth.

Three buildings, nineteen lines of many kinds, some 280 meters. One line is dead on purpose and two
meters are wrong on purpose; the truth file says which, for whoever checks the head-end.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field, replace

from simulators.adf_cabinet import CabinetPlan, UserKind
from simulators.load import Profile

SITE = "demo"
TIME_ZONE = "Asia/Shanghai"
BUILDINGS = ("Plum Court", "Bamboo House", "Orchid Market")
ROOMS_PER_FLOOR = 12
DEAD_LINE = "market annex"
FEEDER_CT = 20
# A cable's few per mille, and somebody who taps it before the meters: more than the tenth at which
# the head-end speaks up.
FEEDER_LOST_PERMILLE = 130


class LineKind(enum.Enum):
    """How a line is reached."""

    SERIAL = "serial"
    TCP = "tcp"
    DTU = "dtu"
    ACREL_4G = "acrel_4g"
    ACREL_GATEWAY = "acrel_gateway"
    MODBUS_TCP = "modbus_tcp"
    MQTT = "mqtt"
    TERMINAL = "terminal"


class Gap(enum.Enum):
    """Why the head-end must not get a reading; the names are the head-end's."""

    LINE_DOWN = "line_down"
    METER_SILENT = "meter_silent"
    WRONG_METER = "wrong_meter"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterPlan:
    """One meter as the site file has it, and what is really there."""

    name: str
    type: str
    unit: int
    room: str | None
    number: str
    seed: int
    profile: Profile
    peak_w: int
    eight_rates: bool = False
    cabinet: str | None = None
    gap: Gap | None = None
    dark: bool = False  # its credit has run out: the relay is open
    cut: bool = False  # somebody cut it by force; it has credit
    measures: str | None = None  # the cabinet whose circuits it measures once more: a master

    @property
    def address(self) -> str:
        """The number it answers to, where it has no unit id."""
        return f"00{self.number}" if self.type.startswith("cjt188") else self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class CabinetPlace:
    """One cabinet as the site file has it; its users are meters of the line."""

    name: str
    type: str
    number: str
    plan: CabinetPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlan:
    """One line and everything on it."""

    name: str
    gateway: str
    kind: LineKind
    meters: tuple[MeterPlan, ...]
    cabinets: tuple[CabinetPlace, ...] = ()
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1
    payload: str = "raw"  # of an MQTT gateway
    port: int = 1  # of a gateway that has several
    dialect: str = ""  # of a DTU that frames its packets
    registration: str | None = None  # as in the site file
    on_every_packet: bool = False
    heartbeat: str | None = None
    heartbeat_s: int = 30
    is_other_slave: bool = False  # served by pymodbus
    is_dead: bool = False

    @property
    def speaks_645(self) -> bool:
        return self.meters[0].type.startswith("dlt645")

    @property
    def speaks_188(self) -> bool:
        """Water: with valves, without money."""
        return self.meters[0].type.startswith("cjt188")

    @property
    def road(self) -> str:
        """By which road its meters are reached."""
        if self.speaks_645 or self.speaks_188:
            return self.meters[0].type[:6]
        return self.dialect or self.kind.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    name: str
    building: str
    floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TownPlan:
    """The whole property."""

    seed: int
    rooms: tuple[Room, ...]
    lines: tuple[LinePlan, ...]


@dataclass(slots=True)
class Planner:
    """Hands out rooms, numbers and loads in a fixed order."""

    seed: int
    rooms: list[Room] = field(default_factory=list)
    _random: random.Random = field(init=False)
    _rooms_in: dict[str, int] = field(default_factory=dict)
    _meters: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def room(self, building: int) -> str:
        name = BUILDINGS[building]
        taken = self._rooms_in.get(name, 0)
        self._rooms_in[name] = taken + 1
        floor, door = divmod(taken, ROOMS_PER_FLOOR)
        room = Room(
            name=f"{building + 1}-{floor + 1}{door + 1:02d}", building=name, floor=floor + 1
        )
        self.rooms.append(room)
        return room.name

    def number(self) -> str:
        """Meter numbers as makers give them: year, batch, then a running number."""
        self._meters += 1
        return f"2410{self._random.randrange(10):02d}{self._meters:06d}"

    def meter(
        self,
        type_name: str,
        unit: int,
        *,
        building: int,
        name: str | None = None,
        cabinet: str | None = None,
        three_phase: bool = False,
        eight_rates: bool = False,
        gap: Gap | None = None,
    ) -> MeterPlan:
        room = self.room(building)
        if building == 2:
            profile = Profile.SHOP
        else:
            profile = self._random.choice((Profile.HOUSEHOLD, Profile.HOUSEHOLD, Profile.OFFICE))
        low_w, high_w = (4_000, 12_000) if three_phase else (1_500, 5_000)
        return MeterPlan(
            name=name or f"M{room}",
            type=type_name,
            unit=unit,
            room=room,
            number=self.number(),
            seed=self._random.randrange(1 << 32),
            profile=profile,
            peak_w=self._random.randrange(low_w, high_w),
            eight_rates=eight_rates,
            cabinet=cabinet,
            gap=gap,
        )

    def row(
        self,
        type_name: str,
        units: range,
        *,
        building: int,
        three_phase: bool = False,
        gap: Gap | None = None,
    ) -> tuple[MeterPlan, ...]:
        return tuple(
            self.meter(type_name, unit, building=building, three_phase=three_phase, gap=gap)
            for unit in units
        )

    def cabinet(
        self, name: str, type_name: str, plan: CabinetPlan, *, building: int
    ) -> tuple[CabinetPlace, tuple[MeterPlan, ...]]:
        place = CabinetPlace(name=name, type=type_name, number=self.number(), plan=plan)
        users = tuple(
            self.meter(
                f"{type_name}_{kind.value}",
                unit,
                building=building,
                name=f"{name}-{number:02d}",
                cabinet=name,
                three_phase=kind is not UserKind.SINGLE_PHASE,
            )
            for number, (unit, kind) in enumerate(plan.users(), start=1)
        )
        return place, users


def plan_town(seed: int = 1, *, has_broker: bool = True) -> TownPlan:
    """The property of this seed. The shape is always the same; numbers and loads differ.
    `has_broker`: there is one for its MQTT gateways, else they are left out."""
    # The roads build on this plan's words.
    from simulators.town_roads import plan_roads

    planner = Planner(seed)
    lines = (
        _plum_riser(planner),
        _bamboo_riser(planner),
        _pump_room(planner),
        _market_hall(planner),
        _market_arcade(planner),
        _gate_house(planner),
        _car_park(planner),
        LinePlan(
            name=DEAD_LINE,
            gateway="annex converter",
            kind=LineKind.TCP,
            meters=planner.row("acrel_ddsy1352", range(1, 5), building=2, gap=Gap.LINE_DOWN),
            is_dead=True,
        ),
        *plan_roads(planner, has_broker=has_broker),
    )
    lines = tuple(_with_master(planner, _some_dark(line)) for line in lines)
    return TownPlan(seed=seed, rooms=tuple(planner.rooms), lines=lines)


def _with_master(planner: Planner, line: LinePlan) -> LinePlan:
    """The last cabinet of a line of cabinets has a master meter on its feeder, in no room."""
    if not line.cabinets:
        return line
    cabinet = line.cabinets[-1]
    master = MeterPlan(
        name=f"{cabinet.name} master",
        type="acrel_dtsy1352",
        unit=max(meter.unit for meter in line.meters) + 1,
        room=None,
        number=planner.number(),
        seed=planner.seed,
        profile=Profile.HOUSEHOLD,
        peak_w=0,  # its load is the cabinet's
        measures=cabinet.name,
    )
    return replace(line, meters=(*line.meters, master))


def _plum_riser(planner: Planner) -> LinePlan:
    """A mixed 36-circuit box, a second one of single-phase users, and some meters of their own."""
    mixed_box, mixed_users = planner.cabinet(
        "plum box 1",
        "acrel_adf400l",
        CabinetPlan(base_unit=1, ct_users=1, three_phase_users=3, single_phase_users=24),
        building=0,
    )
    plain_box, plain_users = planner.cabinet(
        "plum box 2",
        "acrel_adf300l",
        CabinetPlan(base_unit=37, single_phase_users=36),
        building=0,
    )
    return LinePlan(
        name="plum riser",
        gateway="plum adapter",
        kind=LineKind.SERIAL,
        cabinets=(mixed_box, plain_box),
        meters=mixed_users
        + plain_users
        + planner.row("acrel_ddsy1352", range(101, 113), building=0),
    )


def _some_dark(line: LinePlan) -> LinePlan:
    """The third plain meter of a line has run out of credit, the fourth was cut.

    Not where somebody else's slave answers: it knows no money.
    """
    healthy = [m for m in line.meters if m.gap is None and m.cabinet is None]
    if line.is_dead or line.is_other_slave or len(healthy) < 4:
        return line
    meters = tuple(
        replace(m, dark=m is healthy[2] and not line.speaks_188, cut=m is healthy[3])
        for m in line.meters
    )
    return replace(line, meters=meters)


def _bamboo_riser(planner: Planner) -> LinePlan:
    """A long bus of single-phase meters; one of them is not there."""
    present = planner.row("acrel_ddsy1352", range(1, 60), building=1)
    absent = planner.row("acrel_ddsy1352", range(60, 61), building=1, gap=Gap.METER_SILENT)
    return LinePlan(
        name="bamboo riser",
        gateway="bamboo adapter",
        kind=LineKind.SERIAL,
        meters=present + absent,
    )


def _pump_room(planner: Planner) -> LinePlan:
    """Two stop bits, three-phase meters among the others."""
    return LinePlan(
        name="pump room",
        gateway="pump adapter",
        kind=LineKind.SERIAL,
        stop_bits=2,
        meters=planner.row("acrel_dtsy1352", range(1, 9), building=0, three_phase=True)
        + planner.row("acrel_ddsy1352", range(20, 36), building=1),
    )


def _market_hall(planner: Planner) -> LinePlan:
    """A converter; newer firmware among the meters, and one address answered by a stranger."""
    new = tuple(
        planner.meter("acrel_ddsy1352", unit, building=2, eight_rates=True) for unit in range(1, 11)
    )
    old = planner.row("acrel_ddsy1352", range(11, 40), building=2)
    wrong = planner.row("acrel_ddsy1352", range(40, 41), building=2, gap=Gap.WRONG_METER)
    return LinePlan(
        name="market hall",
        gateway="market converter",
        kind=LineKind.TCP,
        meters=new + old + wrong,
    )


def _market_arcade(planner: Planner) -> LinePlan:
    """Somebody else's slave."""
    return LinePlan(
        name="market arcade",
        gateway="arcade converter",
        kind=LineKind.TCP,
        is_other_slave=True,
        meters=planner.row("acrel_ddsy1352", range(1, 25), building=2),
    )


def _gate_house(planner: Planner) -> LinePlan:
    """A box that names itself once and beats in clear text."""
    return LinePlan(
        name="gate house",
        gateway="gate dtu",
        kind=LineKind.DTU,
        registration="ascii:GATE-DTU-01",
        heartbeat="ascii:ping",
        meters=planner.row("acrel_ddsy1352", range(1, 17), building=1),
    )


def _car_park(planner: Planner) -> LinePlan:
    """A box that puts its SIM card's number before every packet and beats in binary."""
    return LinePlan(
        name="car park",
        gateway="park dtu",
        kind=LineKind.DTU,
        registration="iccid:89860012345678901234",
        on_every_packet=True,
        heartbeat="hex:FE",
        meters=planner.row("acrel_dtsy1352", range(1, 5), building=2, three_phase=True)
        + planner.row("acrel_ddsy1352", range(5, 13), building=0),
    )
