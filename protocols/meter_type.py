"""The plug-in contract: one file in protocols/meters/ holding METER_TYPES, one or more of them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from protocols.evidence import Verdict
from protocols.exchange import Conversation, Evidence
from protocols.keys import KeyHolder, SiteKey
from protocols.reading import Quantity, Values
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
    SetClock,
    Setting,
    TimeControl,
)

# The count is a 16-bit register, and all ones mean "not available".
PURCHASE_COUNT_MAX = 0xFFFE


class Addressing(enum.Enum):
    """How meters of a type are told apart on their line."""

    UNIT = "unit"  # Modbus: a unit id, 1 to 247
    NUMBER = "number"  # DL/T 645, CJ/T 188: a number of decimal digits


@dataclass(frozen=True, slots=True)
class Address:
    """Where a meter answers on its line: a unit id, or a number; the other one stays empty."""

    unit: int = 0
    number: str = ""  # decimal digits, most significant first, as printed on the meter

    def __str__(self) -> str:
        return self.number or str(self.unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who answered. Fields a meter does not tell stay None."""

    type_code: int | None = None  # the maker's own number for the model (Acrel: 7, 5, 10)
    meter_number: str | None = None  # 12 digits, as printed on the front
    note: str = ""  # what else helps a technician: "36 circuits", "8 rates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Values the meter itself kept for an instant of its own dial."""

    dial: datetime  # naive: the meter's clock
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Recharge:
    """One entry of the meter's own list of purchases."""

    dial: datetime  # naive: the meter's clock
    purchase_count: int
    amount_fen: int
    remaining_credit_fen: int
    energy_wh: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp:
    """A purchase to be credited. Sent again, it carries the same count and the same amount."""

    purchase_count: int  # the meter's count once it is credited: the last one plus one
    amount_fen: int  # 0 burns the count: no other purchase can land under it any more
    #: 12 digits to compare before anything is written, by types that tell a number of their own
    meter_number: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.purchase_count <= PURCHASE_COUNT_MAX or self.amount_fen < 0:
            raise ValueError(
                f"a purchase of {self.amount_fen} fen under count {self.purchase_count} is none"
            )


class Supply(enum.Enum):
    """What can be ordered of a meter's relay."""

    TRIP = "trip"  # open it and hold it open
    CLOSE = "close"  # close it and hold it closed, whatever the credit
    RELEASE = "release"  # leave it to the meter's own controls


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyLook:
    """The relay as the meter shows it."""

    relay_closed_bits: int  # bits 0, 1, 2 = L1, L2, L3 carry current
    forced: bool  # held by forced control


@dataclass(frozen=True, slots=True, kw_only=True)
class SupplyOutcome:
    """What came of an order to the relay. The answer of the meter is not believed: `look` is."""

    held: bool  # the relay reads back as ordered
    look: SupplyLook
    refusal: int | None = None  # the meter's own code, when it said no


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUpOutcome:
    """Two looks around one purchase, and what they prove."""

    verdict: Verdict
    before: Evidence
    after: Evidence
    refusal: int | None = None  # the meter's own code, when it said no


class Write(enum.Enum):
    """What a meter type can be ordered to do, and can prove by reading back."""

    TOP_UP = "top_up"
    BURN = "burn"
    SWITCH = "switch"
    PRICES = "prices"
    DAY_TABLES = "day_tables"
    DATE_PLAN = "date_plan"
    ALARMS = "alarms"
    OVERDRAFT = "overdraft"
    ACCOUNT = "account"
    TIME_CONTROL = "time_control"
    LOAD_CONTROL = "load_control"
    CLOCK = "clock"


_WRITE_OF: Mapping[type[Setting], Write] = {
    Prices: Write.PRICES,
    DayTable: Write.DAY_TABLES,
    DatePlan: Write.DATE_PLAN,
    AlarmAmounts: Write.ALARMS,
    Overdraft: Write.OVERDRAFT,
    OpenAccount: Write.ACCOUNT,
    ClearAccount: Write.ACCOUNT,
    PrepaidSwitch: Write.ACCOUNT,
    TimeControl: Write.TIME_CONTROL,
    LoadControl: Write.LOAD_CONTROL,
    ResetLoadTrips: Write.LOAD_CONTROL,
    SetClock: Write.CLOCK,
}


def write_of(setting: Setting) -> Write:
    """What a meter type must be able to do for this setting."""
    return _WRITE_OF[type(setting)]


class Driver(Protocol):
    """What a meter can be asked. One driver per meter: it may remember what that meter refused.

    Each answer is a conversation, so each is testable with a list of bytes.
    """

    def read(self, at: Address, wanted: frozenset[Quantity]) -> Conversation[Values]:
        """The wanted quantities this meter has, in one consistent look.

        Raises WrongMeter when a type code says so, and any other ProtocolError.
        """
        ...

    def identify(self, at: Address) -> Conversation[Identity]:
        """Who answers here. Raises WrongMeter when it is certainly another meter type."""
        ...

    def evidence(self, at: Address) -> Conversation[Evidence]:
        """Purchase count, total purchased and remaining credit, freshly read."""
        ...

    def frozen(self, at: Address) -> Conversation[tuple[Frozen, ...]]:
        """Values the meter kept by itself (month ends, midnights), oldest first; maybe none."""
        ...

    def recharges(self, at: Address) -> Conversation[tuple[Recharge, ...]]:
        """The meter's own list of purchases, newest first; empty where it keeps none."""
        ...

    # Orders. Each looks first, yields one Intent before its first write, and looks again after it.
    # Before the Intent they raise NotReady or any other ProtocolError: nothing was written then.

    def top_up(self, at: Address, order: TopUp) -> Conversation[TopUpOutcome]:
        """Credit a purchase. One write; the registers decide, whatever the meter answers.

        Raises CountOutOfStep unless the meter stands at the count before the order's.
        """
        ...

    def supply(self, at: Address) -> Conversation[SupplyLook]:
        """The relay, freshly read."""
        ...

    def set_supply(self, at: Address, supply: Supply) -> Conversation[SupplyOutcome]:
        """Trip, close or release the relay. One write; the relay is read back."""
        ...

    def configure(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        """Write a setting; whether it reads back as written.

        `dial_now` gives the naive local time of the site, for the clock.
        """
        ...

    def holds(
        self, at: Address, setting: Setting, dial_now: Callable[[], datetime]
    ) -> Conversation[bool]:
        """Whether the meter shows this setting. Only reads."""
        ...


class Keeps(enum.Enum):
    """What a meter type remembers by itself."""

    DAILY = "daily"  # midnight values
    MONTHLY = "monthly"  # month-end values
    RECHARGES = "recharges"  # its own list of purchases


# From the site file; the program adds the site's key, which never stands in a file of ours.
Options = Mapping[str, str | int | bool | SiteKey | KeyHolder]


class BadOption(ValueError):
    """A driver option is unknown or out of range: one sentence that names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterType:
    """A meter type: what it can tell, what it keeps and how to talk to it."""

    name: str  # as written in site files: "acrel_ddsy1352"
    maker: str
    title: str  # for people: "Acrel DDSY1352, single-phase prepaid"
    phases: int  # 1 or 3
    quantities: frozenset[Quantity]
    new_driver: Callable[[Options], Driver]  # raises BadOption
    manual: str  # where the register map was taken from
    keeps: frozenset[Keeps] = frozenset()
    writes: frozenset[Write] = frozenset()
    type_codes: frozenset[int] = frozenset()  # Identity.type_code values that mean this type
    addressing: Addressing = Addressing.UNIT
    needs_key_holder: bool = False  # the program adds one as the option "key_holder"
    address_digits: int = 0  # of a number: 12 for DL/T 645, 14 for CJ/T 188
    option_help: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
