"""A terminal that was alone comes back: each record of its log against the books. Pure.

Nothing it reports is dropped and nothing is guessed: a record that does not fit is a clash with its
name, which a person settles. What breaks the log itself (a gap, a change, a forged MAC) is not
taken into it; any other clash is, so that the records behind it are still heard.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from protocols.terminal_island import Cap, IslandSale

#: a terminal's clock may be this far off before its own times prove nothing
CLOCK_S_MAX = 600


class Clash(enum.Enum):
    """Why a reported sale is not taken as it is, in order of precedence; values are codes."""

    CHANGED = "island-changed"  # this number was reported before, as something else
    GAP = "island-gap"  # a number is missing before it: something was not reported yet
    FORGED = "island-forged"  # its MAC is not the terminal's, or does not follow the last
    NO_CAP = "island-no-cap"  # it names no cap list of this terminal that covers its number
    CAP_EXPIRED = "island-cap-expired"
    CLOCK = "island-clock"  # sold before its cap was issued, or later than now
    OVER_CARD = "island-over-card-cap"
    OVER_TOTAL = "island-over-total-cap"
    NO_METER = "island-no-meter"  # no meter of that number is behind this terminal
    NOT_SOLD = "island-not-sold"  # nobody sold that count
    COUNT_TAKEN = "island-count-taken"  # that count is another sale: by another channel meanwhile
    WRONG_CARD = "island-wrong-card"  # that sale was never put on this card
    DIFFERS = "island-meter-differs"  # what the meter showed is not this sale


#: these never become part of the log
NOT_OF_THE_LOG = frozenset({Clash.CHANGED, Clash.GAP, Clash.FORGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class SoldAs:
    """What the books say under a meter's count."""

    amount_fen: int
    burned: bool
    serials: frozenset[bytes]  # cards it was put on


@dataclass(frozen=True, slots=True, kw_only=True)
class IslandBooks:
    """What is known where a record is to be taken over."""

    next_sequence: int
    genuine: bool  # its MAC follows the last one taken
    cap: Cap | None  # the one it names, if it is this terminal's
    cap_issued_at_s: int
    now_s: int
    to_card_fen: int  # taken under this cap for this card before
    total_fen: int  # taken under this cap before
    meter_is_here: bool
    sold: SoldAs | None


def judge_island(sale: IslandSale, books: IslandBooks) -> Clash | None:
    """Why a record that was not reported before does not fit; None: it does."""
    if sale.sequence != books.next_sequence:
        return Clash.GAP if sale.sequence > books.next_sequence else Clash.CHANGED
    if not books.genuine:
        return Clash.FORGED
    return _cap_clash(sale, books) or _sale_clash(sale, books)


def _cap_clash(sale: IslandSale, books: IslandBooks) -> Clash | None:
    cap = books.cap
    if cap is None or sale.sequence < cap.first_sequence or sale.amount_fen <= 0:
        return Clash.NO_CAP
    checks = (
        (Clash.CAP_EXPIRED, sale.at_s >= cap.valid_until_s),
        (
            Clash.CLOCK,
            not books.cap_issued_at_s - CLOCK_S_MAX <= sale.at_s <= books.now_s + CLOCK_S_MAX,
        ),
        (Clash.OVER_CARD, books.to_card_fen + sale.amount_fen > cap.card_fen),
        (Clash.OVER_TOTAL, books.total_fen + sale.amount_fen > cap.total_fen),
    )
    return next((clash for clash, applies in checks if applies), None)


def _sale_clash(sale: IslandSale, books: IslandBooks) -> Clash | None:
    if not books.meter_is_here:
        return Clash.NO_METER
    sold = books.sold
    if sold is None:
        return Clash.NOT_SOLD
    if sold.burned or sold.amount_fen != sale.amount_fen:
        return Clash.COUNT_TAKEN
    return None if sale.serial in sold.serials else Clash.WRONG_CARD
