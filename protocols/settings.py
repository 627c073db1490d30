"""What can be set in a meter: one frozen class for each setting, checked when it is made.

A setting travels as JSON in an order's details: to_record() and from_record().
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeAlias

MONEY_FEN_MAX = 10**8  # a million yuan: far above any meter's account, far below its registers
PRICE_FEN_MAX = 10**5  # 1,000 yuan a kWh
DAY_SLOTS_MAX = 14  # spec acrel.md 2.5
DATE_ZONES_MAX = 4
DAY_TABLES_MAX = 4  # most meters have two
SWITCH_POINTS_MAX = 8  # spec acrel.md 2.6
RATE_MAX = 5  # sharp 1, peak 2, flat 3, valley 4, deep valley 5
MINUTES_OF_DAY = 24 * 60
LOAD_W_MAX = 0xFFFE  # a 16-bit register of 0.001 kW
RECOVER_STEP_S = 10
RECOVER_S_MAX = 255 * RECOVER_STEP_S  # one byte
TRIPS_MAX = 0xFFFE
METER_NUMBER_DIGITS = 12
A_LEAP_YEAR = 2000  # in which every date of a plan exists


class BadSetting(ValueError):
    """A setting no meter can have: one sentence that says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Price of each rate, fen per kWh."""

    sharp_fen: int
    peak_fen: int
    flat_fen: int
    valley_fen: int

    def __post_init__(self) -> None:
        for name in ("sharp_fen", "peak_fen", "flat_fen", "valley_fen"):
            _check_int(name, getattr(self, name), 0, PRICE_FEN_MAX)

    def fen(self) -> tuple[int, int, int, int]:
        """In the order of the registers."""
        return self.sharp_fen, self.peak_fen, self.flat_fen, self.valley_fen


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffSlot:
    """From this minute of the day on, this rate."""

    rate: int  # 1 sharp, 2 peak, 3 flat, 4 valley, 5 deep valley (eight-rate firmware)
    minute_of_day: int

    def __post_init__(self) -> None:
        _check_int("rate", self.rate, 1, RATE_MAX)
        _check_int("minute_of_day", self.minute_of_day, 0, MINUTES_OF_DAY - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayTable:
    """The tariff of one kind of day. In a cabinet it belongs to all circuits."""

    number: int  # 1 or 2
    slots: tuple[TariffSlot, ...]  # ascending

    def __post_init__(self) -> None:
        _check_int("number", self.number, 1, 2)
        _check_length("slots", self.slots, 1, DAY_SLOTS_MAX)
        _check_ascending("slots", [slot.minute_of_day for slot in self.slots])


@dataclass(frozen=True, slots=True, kw_only=True)
class DateZone:
    """From this date on, this day table."""

    month: int
    day: int
    table: int

    def __post_init__(self) -> None:
        _check_int("table", self.table, 1, DAY_TABLES_MAX)
        _check_int("month", self.month, 1, 12)
        _check_int("day", self.day, 1, 31)
        try:
            date(A_LEAP_YEAR, self.month, self.day)
        except ValueError as error:
            raise BadSetting(f"no year has a day {self.month:02}-{self.day:02}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class DatePlan:
    """Which day table holds in which part of the year. In a cabinet it belongs to all circuits."""

    zones: tuple[DateZone, ...]

    def __post_init__(self) -> None:
        _check_length("zones", self.zones, 1, DATE_ZONES_MAX)
        if len({(zone.month, zone.day) for zone in self.zones}) != len(self.zones):
            raise BadSetting("two zones begin on the same date; give each its own")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmAmounts:
    """Credit at which the meter prompts, and credit at which it trips for a while."""

    alarm_1_fen: int
    alarm_2_fen: int

    def __post_init__(self) -> None:
        _check_int("alarm_1_fen", self.alarm_1_fen, 0, MONEY_FEN_MAX)
        _check_int("alarm_2_fen", self.alarm_2_fen, 0, MONEY_FEN_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdraft:
    """How far credit may fall below zero before the meter trips."""

    overdraft_fen: int

    def __post_init__(self) -> None:
        _check_int("overdraft_fen", self.overdraft_fen, 0, MONEY_FEN_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccount:
    """Begin the prepaid account: credit, count and total at zero, the switch on.

    Only for a meter whose account is empty: ClearAccount empties it.
    """

    prices: Prices
    alarms: AlarmAmounts
    overdraft_fen: int = 0
    base_amount_fen: int = 0
    meter_number: str | None = None  # 12 digits to write into the meter, where it is new

    def __post_init__(self) -> None:
        if not isinstance(self.prices, Prices) or not isinstance(self.alarms, AlarmAmounts):
            raise BadSetting("an account is opened with prices and alarm amounts")
        _check_int("overdraft_fen", self.overdraft_fen, 0, MONEY_FEN_MAX)
        _check_int("base_amount_fen", self.base_amount_fen, 0, MONEY_FEN_MAX)
        if self.meter_number is not None:
            _check_meter_number(self.meter_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearAccount:
    """End the prepaid account: credit, count and total become zero, the switch goes off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepaidSwitch:
    """Whether the meter keeps its own account (on), or only counts energy (off)."""

    on: bool

    def __post_init__(self) -> None:
        _check_bool("on", self.on)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchPoint:
    """From this minute of the day on, supply on or off."""

    on: bool
    minute_of_day: int

    def __post_init__(self) -> None:
        _check_bool("on", self.on)
        _check_int("minute_of_day", self.minute_of_day, 0, MINUTES_OF_DAY - 1)
        if not self.on and not self.minute_of_day:
            raise BadSetting("off at 00:00 is how a meter writes an empty point; use 00:01")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeControl:
    """Hours of supply on rest days and on working days."""

    on: bool
    rest_days: tuple[int, ...] = ()  # ISO weekdays: Monday 1 to Sunday 7
    rest_points: tuple[SwitchPoint, ...] = ()  # ascending
    working_points: tuple[SwitchPoint, ...] = ()  # ascending

    def __post_init__(self) -> None:
        _check_bool("on", self.on)
        for day in self.rest_days:
            _check_int("rest_days", day, 1, 7)
        _check_ascending("rest_days", self.rest_days)
        for name in ("rest_points", "working_points"):
            points = getattr(self, name)
            _check_length(name, points, 1 if self.on else 0, SWITCH_POINTS_MAX)
            _check_ascending(name, [point.minute_of_day for point in points])


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadControl:
    """Trips on too much power, or on a sudden step of purely resistive load."""

    on: bool
    power_w_max: int
    power_step_w_max: int
    power_factor_permille: int  # a step at or above this factor counts as resistive
    recover_s: int  # in steps of 10 s
    trips_allowed: int

    def __post_init__(self) -> None:
        _check_bool("on", self.on)
        _check_int("power_w_max", self.power_w_max, 0, LOAD_W_MAX)
        _check_int("power_step_w_max", self.power_step_w_max, 0, LOAD_W_MAX)
        _check_int("power_factor_permille", self.power_factor_permille, 0, 1000)
        _check_int("recover_s", self.recover_s, 0, RECOVER_S_MAX)
        _check_int("trips_allowed", self.trips_allowed, 0, TRIPS_MAX)
        if self.recover_s % RECOVER_STEP_S:
            raise BadSetting(f"recover_s is {self.recover_s}; it goes in steps of {RECOVER_STEP_S}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetLoadTrips:
    """The count of load-control trips back to zero, which also ends a hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetClock:
    """The meter's dial to the site's time of the moment of writing."""


Setting: TypeAlias = (
    Prices
    | DayTable
    | DatePlan
    | AlarmAmounts
    | Overdraft
    | OpenAccount
    | ClearAccount
    | PrepaidSwitch
    | TimeControl
    | LoadControl
    | ResetLoadTrips
    | SetClock
)

# The names are stored in orders: never change one.
KINDS: Mapping[str, type[Setting]] = {
    "prices": Prices,
    "day_table": DayTable,
    "date_plan": DatePlan,
    "alarm_amounts": AlarmAmounts,
    "overdraft": Overdraft,
    "open_account": OpenAccount,
    "clear_account": ClearAccount,
    "prepaid_switch": PrepaidSwitch,
    "time_control": TimeControl,
    "load_control": LoadControl,
    "reset_load_trips": ResetLoadTrips,
    "clock": SetClock,
}
_NAMES = {kind: name for name, kind in KINDS.items()}
# Fields that hold classes of this file, or a list of something.
_ONE = {"prices": Prices, "alarms": AlarmAmounts}
_MANY: Mapping[str, Any] = {
    "slots": TariffSlot,
    "zones": DateZone,
    "rest_points": SwitchPoint,
    "working_points": SwitchPoint,
    "rest_days": None,
}


def to_record(setting: Setting) -> dict[str, Any]:
    """The setting as JSON; from_record() is the inverse."""
    return {"kind": _NAMES[type(setting)], **dataclasses.asdict(setting)}


def from_record(record: Mapping[str, Any]) -> Setting:
    """A setting from JSON, which may come from anybody. Raises BadSetting."""
    name = record.get("kind")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise BadSetting(f"no setting is called {name!r}; there are {', '.join(KINDS)}")
    setting: Setting = _build(kind, {key: value for key, value in record.items() if key != "kind"})
    return setting


def _build(kind: Any, record: object) -> Any:
    if not isinstance(record, Mapping):
        raise BadSetting(f"{kind.__name__} is written as an object with names, not {record!r}")
    known = {field.name for field in dataclasses.fields(kind)}
    required = {
        field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING
    }
    if unknown := record.keys() - known:
        raise BadSetting(f"{kind.__name__} has no {sorted(map(str, unknown))[0]}")
    if missing := required - record.keys():
        raise BadSetting(f"{kind.__name__} needs {sorted(missing)[0]}")
    return kind(**{name: _value(name, value) for name, value in record.items()})


def _value(name: str, value: object) -> object:
    if name in _ONE:
        return _build(_ONE[name], value)
    if name not in _MANY:
        return value
    if not isinstance(value, list | tuple):
        raise BadSetting(f"{name} is a list, not {value!r}")
    inside = _MANY[name]
    return tuple(value if inside is None else (_build(inside, one) for one in value))


def _check_int(name: str, value: object, low: int, high: int) -> None:
    # A bool is an int in Python, but no number of anything here.
    if type(value) is not int or not low <= value <= high:
        raise BadSetting(f"{name} is {value!r}; it is a whole number from {low} to {high}")


def _check_bool(name: str, value: object) -> None:
    if type(value) is not bool:
        raise BadSetting(f"{name} is {value!r}; it is true or false")


def _check_length(name: str, value: tuple[object, ...], low: int, high: int) -> None:
    if not low <= len(value) <= high:
        raise BadSetting(f"{name} has {len(value)} entries; from {low} to {high} are possible")


def _check_ascending(name: str, values: Iterable[int]) -> None:
    listed = list(values)
    if any(later <= earlier for earlier, later in itertools.pairwise(listed)):
        raise BadSetting(f"{name} must be in ascending order, each once")


def _check_meter_number(number: object) -> None:
    if (
        not isinstance(number, str)
        or len(number) != METER_NUMBER_DIGITS
        or not (number.isascii() and number.isdecimal())
    ):
        raise BadSetting(f"meter_number is {number!r}; it has {METER_NUMBER_DIGITS} digits")
