"""The rules of the books: which operation may move money between which accounts, and who asks.

The same flows stand in the database (migration 0006, operation_flow); a test compares the two.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from headend.domain.ledger import (
    AMOUNT_FEN_MAX,
    AMOUNT_FEN_MIN,
    SECOND_PERSON_ABOVE_FEN,
    AccountKind,
    Operation,
    Transfer,
)
from headend.domain.money import yuan

K = AccountKind
_TAKERS: Final = (K.TILL, K.CHANNEL)
# (from, to) by operation. REVERSAL moves nothing: it lets a reserved top-up go.
FLOWS: Mapping[Operation, frozenset[tuple[AccountKind, AccountKind]]] = {
    Operation.PAYMENT: frozenset((taker, K.CUSTOMER) for taker in _TAKERS),
    Operation.TOP_UP: frozenset({(K.CUSTOMER, K.METER)}),
    Operation.REVERSAL: frozenset(),
    Operation.REFUND: frozenset((K.CUSTOMER, taker) for taker in _TAKERS),
    # What one meter was given by mistake becomes balance of whom it was meant for, and is sold to
    # their meter like any other money: only a top-up brings credit into a meter.
    Operation.MOVE: frozenset({(K.METER, K.CUSTOMER)}),
    Operation.CORRECTION: frozenset(
        pair
        for taker in _TAKERS
        for held in (K.CUSTOMER, K.METER)
        for pair in ((taker, held), (held, taker))
    )
    | {(K.CUSTOMER, K.ENERGY), (K.ENERGY, K.CUSTOMER)},
    Operation.FEE: frozenset({(K.CUSTOMER, K.FEE)}),
    Operation.CHARGE: frozenset({(K.CUSTOMER, K.ENERGY)}),
    Operation.CHARGE_BACK: frozenset({(K.ENERGY, K.CUSTOMER)}),
    # Credit changes hands without a purchase: at a closure, a transfer, a meter exchange.
    Operation.SETTLEMENT: frozenset({(K.METER, K.CUSTOMER), (K.CUSTOMER, K.METER)}),
    Operation.BORNE: frozenset({(K.PROPERTY, K.METER), (K.PROPERTY, K.CUSTOMER)}),
    Operation.REPAYMENT: frozenset({(K.CUSTOMER, K.DEBT)}),
}
assert set(FLOWS) == set(Operation)

# Tills and channels stand for the world outside and go below zero as they take money in; the
# property stands for itself. Nobody spends from the income from energy.
MAY_GO_BELOW_ZERO: Final = frozenset({*_TAKERS, K.ENERGY, K.PROPERTY})
# Every day's work; all others need a reason, and a second person above the limit.
EVERYDAY: Final = frozenset(
    {
        Operation.PAYMENT,
        Operation.TOP_UP,
        Operation.FEE,
        Operation.CHARGE,
        Operation.CHARGE_BACK,
        Operation.REPAYMENT,
    }
)


class BooksWhy(enum.Enum):
    """Why a named operation was not booked, in order of precedence; the values are stable codes."""

    NO_SUCH_ACCOUNT = "no-such-account"
    AMOUNT_OUT_OF_RANGE = "amount-out-of-range"
    WRONG_ACCOUNTS = "wrong-accounts"  # the operation never moves money between such two
    ACCOUNT_CLOSED = "account-closed"
    REASON_NEEDED = "reason-needed"
    SECOND_PERSON_NEEDED = "second-person-needed"
    SAME_PERSON = "same-person"
    SALE_OPEN = "sale-open"  # it may still land: nothing is said about this meter's money yet
    BALANCE_TOO_LOW = "balance-too-low"
    ID_REUSED = "id-reused"  # the id belongs to another transfer


@dataclass(frozen=True, slots=True)
class Booked:
    """The transfer stands; `repeated`: it already did (the same id twice is one transfer)."""

    transfer: Transfer
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class NotBooked:
    """Nothing was booked."""

    why: BooksWhy
    detail: str = ""  # facts for the sentence


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants it: an operator's number and the person behind it."""

    operator_id: int
    person: str


def may_not_ask(
    operation: Operation,
    amount_fen: int,
    reason: str,
    asked_by: Asker,
    approved_by: Asker | None,
) -> NotBooked | None:
    """What is missing around an operation: amount in range, reason, second person. None: nothing.

    Two accounts of one person are one person. An amount that is no whole number is out of range.
    """
    if type(amount_fen) is not int or not AMOUNT_FEN_MIN <= amount_fen <= AMOUNT_FEN_MAX:
        asked = yuan(amount_fen) if type(amount_fen) is int else repr(amount_fen)
        return NotBooked(
            BooksWhy.AMOUNT_OUT_OF_RANGE,
            f"{yuan(AMOUNT_FEN_MIN)} to {yuan(AMOUNT_FEN_MAX)} yuan, not {asked}",
        )
    if operation not in EVERYDAY:
        if not reason.strip():
            return NotBooked(BooksWhy.REASON_NEEDED, operation.value)
        if amount_fen > SECOND_PERSON_ABOVE_FEN and approved_by is None:
            return NotBooked(
                BooksWhy.SECOND_PERSON_NEEDED, f"above {yuan(SECOND_PERSON_ABOVE_FEN)} yuan"
            )
    if approved_by is not None and (
        approved_by.person == asked_by.person or approved_by.operator_id == asked_by.operator_id
    ):
        return NotBooked(BooksWhy.SAME_PERSON, asked_by.person)
    return None
