"""What becomes of money over the counter: fee, debt share, and what goes into the meter. Pure.

Fee and debt share are taken when money is taken. What waits as balance has paid them already, so a
sale from balance takes nothing once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

# Of each payment at least a tenth becomes light, however much is owed.
SHARE_PERMILLE_MAX: Final = 900


@dataclass(frozen=True, slots=True)
class OpenDebt:
    """A debt with something left of it."""

    debt_id: UUID
    account_id: int
    left_fen: int
    share_permille: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for the next sale of one meter."""

    fee_fen: int = 0
    debts: tuple[OpenDebt, ...] = ()  # in the order in which they are paid back
    hoarding_limit_fen: int | None = None
    credit_fen: int | None = None  # in the meter, as it was seen last
    price_fen: int | None = None  # per kWh; None: not known, or not the same at every hour

    @property
    def owed_fen(self) -> int:
        """Everything that is left of all debts."""
        return sum(debt.left_fen for debt in self.debts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A payment taken apart; the parts sum to what was paid."""

    fee_fen: int
    repayments: tuple[tuple[OpenDebt, int], ...]
    credit_fen: int  # what goes into the meter; below 1 nothing can be sold

    @property
    def repaid_fen(self) -> int:
        """What goes to debts."""
        return sum(fen for _, fen in self.repayments)


def split(paid_fen: int, terms: Terms) -> Split:
    """Take a payment apart.

    The shares of all debts together, at most SHARE_PERMILLE_MAX, of what was paid, rounded down to
    the fen, go to the oldest debt first and never beyond what is owed. A debt without a share is
    left to be paid by hand.
    """
    assert paid_fen >= 0
    shared = [debt for debt in terms.debts if debt.share_permille]
    share_permille = min(SHARE_PERMILLE_MAX, sum(debt.share_permille for debt in shared))
    rest_fen = paid_fen * share_permille // 1000
    repayments = []
    for debt in shared:
        fen = min(debt.left_fen, rest_fen)
        rest_fen -= fen
        if fen:
            repayments.append((debt, fen))
    return Split(
        fee_fen=terms.fee_fen,
        repayments=tuple(repayments),
        credit_fen=paid_fen - terms.fee_fen - sum(fen for _, fen in repayments),
    )


def payment_for(credit_fen: int, terms: Terms) -> int:
    """The smallest payment that puts this much into the meter.

    Each fen more that is paid puts one or none more into the meter, so exactly this much is met.
    """
    assert credit_fen >= 1
    low, high = credit_fen, (credit_fen + terms.fee_fen) * 10 + 10
    while low < high:
        middle = (low + high) // 2
        if split(middle, terms).credit_fen >= credit_fen:
            high = middle
        else:
            low = middle + 1
    return low


def credit_of_energy_fen(energy_wh: int, price_fen: int) -> int:
    """What this much energy costs, rounded up to the fen: nobody gets less light than they asked
    for."""
    return -(-energy_wh * price_fen // 1000)


def over_the_limit_fen(credit_fen: int, terms: Terms) -> int:
    """By how much a sale goes beyond the hoarding limit; 0: it does not.

    Unseen credit counts as none: the meter itself may still refuse.
    """
    if terms.hoarding_limit_fen is None:
        return 0
    return max(0, (terms.credit_fen or 0) + credit_fen - terms.hoarding_limit_fen)
