"""The life of a command. The whole truth about states is the table below.

The same table stands in the database as a trigger (migration 0005); tests/laws compare the two.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID


class CommandKind(enum.Enum):
    """What is ordered of one meter."""

    TOP_UP = "top_up"
    BURN = "burn"  # the same purchase count with amount 0: nothing may land under it any more
    CUT = "cut"  # open the relay and hold it open
    RESTORE = "restore"  # close the relay; in meter-ledger mode released again at the end
    RELEASE = "release"  # give the relay back to the meter's own controls
    CONFIGURE = "configure"  # prices, tables, alarm amounts, overdraft, account, clock


MONEY = frozenset({CommandKind.TOP_UP, CommandKind.BURN})
SWITCHING = frozenset({CommandKind.CUT, CommandKind.RESTORE, CommandKind.RELEASE})
# Settings, by their names in orders, that put a meter's purchase registers back to zero: its counts
# mean nothing any more until a person accepts what it shows (an epoch of domain/purchases.py).
RESETS_COUNTS = frozenset({"open_account", "clear_account"})


class CommandState(enum.Enum):
    """Where a command is. The first five are open, the rest final."""

    QUEUED = "queued"
    CLAIMED = "claimed"  # a worker holds it; nothing has been sent
    SENT = "sent"  # the intent is durable; anything may have happened
    UNKNOWN = "unknown"  # sent, no proof; waits until nothing can be in flight
    ESCALATED = "escalated"  # evidence contradicts itself; a person decides
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    EXPIRED = "expired"  # its deadline passed while queued
    CANCELLED = "cancelled"  # taken back while queued


S = CommandState
TRANSITIONS: Mapping[CommandState, frozenset[CommandState]] = {
    S.QUEUED: frozenset({S.CLAIMED, S.EXPIRED, S.CANCELLED}),
    S.CLAIMED: frozenset({S.QUEUED, S.SENT, S.REFUSED, S.ESCALATED}),  # nothing sent yet
    S.SENT: frozenset({S.CONFIRMED, S.REFUSED, S.UNKNOWN}),  # never back to queued
    S.UNKNOWN: frozenset({S.CONFIRMED, S.QUEUED, S.ESCALATED}),  # queued: proved not applied
    S.ESCALATED: frozenset({S.CONFIRMED, S.REFUSED}),  # a person, with a reason
    S.CONFIRMED: frozenset(),
    S.REFUSED: frozenset(),
    S.EXPIRED: frozenset(),
    S.CANCELLED: frozenset(),
}
assert set(TRANSITIONS) == set(CommandState)

FINAL = frozenset(state for state, after in TRANSITIONS.items() if not after)
# These hold the meter: no second command may be claimed for it.
IN_FLIGHT = frozenset({S.CLAIMED, S.SENT, S.UNKNOWN, S.ESCALATED})

# How long an order waits for its meter before it is dropped. Money waits for days, since it was
# paid; a cut that nobody could deliver by day must not fire at dawn.
EXPIRES_AFTER: Mapping[CommandKind, timedelta] = {
    CommandKind.TOP_UP: timedelta(days=7),
    CommandKind.BURN: timedelta(days=7),
    CommandKind.CUT: timedelta(hours=2),
    CommandKind.RESTORE: timedelta(days=2),
    CommandKind.RELEASE: timedelta(days=2),
    CommandKind.CONFIGURE: timedelta(days=1),
}
assert set(EXPIRES_AFTER) == set(CommandKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An order to one meter as stored."""

    command_id: UUID  # made by who wants it, kept over their retries
    meter_id: int
    kind: CommandKind
    state: CommandState
    #: fen; of TOP_UP above 0, of BURN 0, else None
    amount_fen: int | None
    #: the meter's next count this order is tied to; of TOP_UP and BURN, else None
    purchase_count: int | None
    sale_id: UUID | None
    #: of CONFIGURE: the setting as JSON (protocols/settings.py); of switching: {}
    details: Mapping[str, Any]
    ordered_by: int  # operator
    approved_by: int | None  # a second operator, where the order needed one
    reason: str
    ordered_at: datetime
    not_before: datetime
    expires_at: datetime
    look_again_at: datetime | None  # of UNKNOWN: when nothing can be in flight any more
    attempts: int
    outcome: str  # one sentence once it is final or escalated
    bulk_id: UUID | None
    cause_id: UUID | None = None  # the command this one follows from


class Why(enum.Enum):
    """Why an order was not accepted; the code of its problem is the value with dashes.

    In order of precedence: the first that applies is the one that is told.
    """

    NO_SUCH_METER = "no-such-meter"
    METER_HAS_NO_SUCH_WRITE = "meter-cannot"
    AMOUNT_OUT_OF_RANGE = "amount-out-of-range"
    PLATFORM_MONEY = "platform-money"  # its money is in the platform: nothing is put into the meter
    ACCOUNT_CLOSED = "account-closed"
    SALES_FROZEN = "sales-frozen"  # the meter is ahead of the ledger
    SALE_OPEN = "sale-open"  # one open sale per meter; the money waits as account balance
    COUNT_UNKNOWN = "count-unknown"  # the meter was never read
    LOCKED_OUT = "locked-out"  # somebody works on the circuit
    PROTECTED = "protected"
    TOGGLED_RECENTLY = "toggled-recently"  # no relay toggles twice in ten minutes
    SECOND_PERSON_NEEDED = "second-person-needed"
    SAME_PERSON = "same-person"  # who asks does not approve
    ID_REUSED = "id-reused"  # the id belongs to another order
    NOT_PAID = "not-paid"  # the customer's account has less than that to spend
    NO_SUCH_COMMAND = "no-such-command"
    NOT_NOW = "not-now"  # a command that has left cannot be cancelled, only an escalated is decided


@dataclass(frozen=True, slots=True)
class Accepted:
    """The order stands; `repeated`: it already did (the same id twice is one command)."""

    command: Command
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing was booked and nothing will be sent."""

    why: Why
    detail: str = ""  # facts for the sentence
