"""The plug-in contract: one file in protocols/meters/ holding METER_TYPES, one or more of them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from protocols.exchange import Conversation, Evidence
from protocols.reading import Quantity, Values


@dataclass(frozen=True, slots=True)
class Address:
    """Where a meter answers on its line: the Modbus unit id, 1 to 247."""

    unit: int

    def __str__(self) -> str:
        return str(self.unit)


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


class Keeps(enum.Enum):
    """What a meter type remembers by itself."""

    DAILY = "daily"  # midnight values
    MONTHLY = "monthly"  # month-end values
    RECHARGES = "recharges"  # its own list of purchases


Options = Mapping[str, str | int | bool]


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
    type_codes: frozenset[int] = frozenset()  # Identity.type_code values that mean this type
    option_help: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
