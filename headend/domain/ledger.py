"""Money in the books: accounts, and immutable transfers between two of them.

A transfer moves a positive amount from one account to another, so all balances always sum to zero.
A pending transfer reserves; it is posted or voided at most once. Nothing is ever changed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


class AccountKind(enum.Enum):
    """What an account stands for."""

    TILL = "till"  # cash and transfers a cashier took
    CHANNEL = "channel"  # money taken elsewhere: a payment provider, a kiosk
    CUSTOMER = "customer"  # paid, not yet in a meter
    METER = "meter"  # credited to a meter; one for each meter
    CARD = "card"  # on a card that has not landed
    FEE = "fee"
    ENERGY = "energy"  # what was used by customers whose money is in the platform; one a site
    PROPERTY = "property"  # the property itself: what it bears
    DEBT = "debt"  # what was paid back of one debt


class Phase(enum.Enum):
    """What a transfer does to the books."""

    DIRECT = "direct"  # moves at once
    PENDING = "pending"  # reserves
    POST = "post"  # makes a pending one real
    VOID = "void"  # lets a pending one go


class Operation(enum.Enum):
    """Why money moves; each is a named business operation."""

    PAYMENT = "payment"  # till or channel → customer
    TOP_UP = "top_up"  # customer → meter
    REVERSAL = "reversal"  # a sale taken back before it landed
    REFUND = "refund"  # customer → till, after the sale was burned or reversed
    MOVE = "move"  # credited to the wrong meter: that meter → customer of the right one
    CORRECTION = "correction"  # by two persons, with a reason
    FEE = "fee"
    CHARGE = "charge"  # customer → energy: a day's consumption, where money is in the platform
    CHARGE_BACK = "charge_back"  # energy → customer: a day turned out to have cost less
    SETTLEMENT = "settlement"  # credit in a meter given back, or paid for by the next tenant
    BORNE = "borne"  # by the property: credit in a meter that the books never sold
    REPAYMENT = "repayment"  # customer → one of their debts


# Above this a named operation needs a second person (reversal, refund, move, correction).
SECOND_PERSON_ABOVE_FEN = 50_000
# One sale: 0.01 to 50,000 yuan. A meter holds 32 bits of fen; nobody sells that much by mistake.
AMOUNT_FEN_MIN = 1
AMOUNT_FEN_MAX = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One line of the books."""

    transfer_id: UUID  # made by who wants it
    phase: Phase
    operation: Operation
    debit: int  # account the money leaves
    credit: int  # account it arrives at
    amount_fen: int
    pending_id: UUID | None  # of POST and VOID
    command_id: UUID | None
    sale_id: UUID | None
    operator_id: int
    approver_id: int | None
    reason: str
    at: datetime
