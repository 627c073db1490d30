"""A piece of work around an account: opening, transfer, closure, meter exchange. Its steps.

A case goes forward only. Where it waits for the meter, the meter's own answer moves it on; where it
waits for a person, their form does. A step is done again as often as somebody asks: what it books
and orders has ids made of the id of the case.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5


class CaseKind(enum.Enum):
    """What the work is."""

    OPENING = "opening"  # 开户
    TRANSFER = "transfer"  # 过户
    CLOSURE = "closure"  # 销户
    EXCHANGE = "exchange"  # 换表


class Step(enum.Enum):
    """Where a case is."""

    CONFIRM = "confirm"  # looked at; a person says how it is settled
    NEW_METER = "new_meter"  # exchange: a person says what hangs there now
    LOOK = "look"  # the meter is looked at
    ORDERED = "ordered"  # an order to open or clear the meter's account is on its way
    SOLD = "sold"  # the credit is on its way into the meter
    DONE = "done"
    CANCELLED = "cancelled"


S = Step
# Which steps may follow, by kind. What is not here does not happen.
STEPS: Final[Mapping[CaseKind, Mapping[Step, frozenset[Step]]]] = {
    CaseKind.OPENING: {
        S.ORDERED: frozenset({S.LOOK, S.CANCELLED}),
        S.LOOK: frozenset({S.SOLD, S.DONE}),
        S.SOLD: frozenset({S.DONE}),
    },
    CaseKind.TRANSFER: {S.CONFIRM: frozenset({S.DONE, S.CANCELLED})},
    CaseKind.CLOSURE: {
        S.CONFIRM: frozenset({S.ORDERED, S.DONE, S.CANCELLED}),
        S.ORDERED: frozenset({S.CONFIRM, S.DONE}),
    },
    CaseKind.EXCHANGE: {
        S.NEW_METER: frozenset({S.LOOK, S.CANCELLED}),
        S.LOOK: frozenset({S.ORDERED, S.SOLD, S.DONE, S.NEW_METER}),
        S.ORDERED: frozenset({S.LOOK}),
        S.SOLD: frozenset({S.DONE}),
    },
}
assert set(STEPS) == set(CaseKind)
ENDED: Final = frozenset({S.DONE, S.CANCELLED})
# Steps at which the meter is waited for, and nobody has to do anything.
BY_ITSELF: Final = frozenset({S.LOOK, S.ORDERED, S.SOLD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One piece of work as stored."""

    case_id: UUID
    kind: CaseKind
    step: Step
    meter_id: int
    customer_id: int | None  # of a transfer: the tenant out
    to_customer_id: int | None  # of a transfer: the tenant in
    holds_sales: bool
    wish: Mapping[str, Any]  # as it was typed
    facts: Mapping[str, Any]  # looks, amounts, orders
    note: str  # why it does not go on
    operator_id: int
    approver_id: int | None
    reason: str
    began_at: datetime
    changed_at: datetime

    def id_of(self, what: str) -> UUID:
        """The id of something this case orders or books: the same however often it is tried."""
        return uuid5(self.case_id, what)


class CaseWhy(enum.Enum):
    """Why a case did not begin or go on; the values are codes of sentences."""

    NO_SUCH_CASE = "no-such-case"
    CASE_OPEN = "case-open"  # another one of this meter has not ended
    HAS_CUSTOMER = "meter-has-customer"
    HAS_NO_CUSTOMER = "meter-has-no-customer"
    OTHER_SITE = "customer-of-another-site"
    CUSTOMER_CLOSED = "customer-closed"
    NUMBER_TAKEN = "customer-number-taken"
    NO_SUCH_CUSTOMER = "no-such-customer"
    SALES_STAND_STILL = "case-needs-quiet-meter"  # a sale, an order or a freeze
    LOOK_NEEDED = "case-needs-a-look"  # the look is too old, or shows no credit
    NOT_AT_THIS_STEP = "case-not-at-this-step"
    CHANGED = "case-changed-meanwhile"  # what the page showed is no longer so
    IN_PLATFORM = "case-in-platform-mode"  # its money is in the platform, billed by the day
    CLASH = "meter-address-taken"
    ID_REUSED = "id-reused"


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing was booked, ordered or changed."""

    why: CaseWhy
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look at a meter, as a case keeps it. `estimated`: nobody could look; a person said so."""

    at: datetime
    credit_fen: int | None
    purchase_count: int | None
    total_purchased_fen: int | None
    energy_wh: int | None
    estimated: bool = False

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "at": self.at.isoformat(),
            "credit_fen": self.credit_fen,
            "purchase_count": self.purchase_count,
            "total_purchased_fen": self.total_purchased_fen,
            "energy_wh": self.energy_wh,
            "estimated": self.estimated,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Seen:
        """The inverse of record()."""
        return cls(**{**record, "at": datetime.fromisoformat(record["at"])})
