"""A card on the reader against what the books say of it. Pure.

The books know the meter, the customer, the card that is registered and the count of the last sale.
What the meter wrote back is a witness, never more: it can say that a sale landed, and nothing it
says lowers what is known.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from headend.domain.roles import Permission
from protocols.card_desk import CardSeen, Seal
from protocols.card_image import CardKind


class CardWhy(enum.Enum):
    """Why a card is not used as it lies there, in order of precedence; values are stable codes."""

    BAD_SEAL = "card-bad-seal"
    REVOKED = "card-revoked"  # its key, or the card itself
    WRONG_METER = "card-wrong-meter"  # a meter exchange, or another tenant's card
    WRONG_CUSTOMER = "card-wrong-customer"
    NOT_ISSUED = "card-not-issued"  # not the card this customer was given: a copy, or an older one
    OLD_COUNT = "card-old-count"
    AHEAD = "card-count-ahead"  # the card has a sale that the books do not have


@dataclass(frozen=True, slots=True, kw_only=True)
class CardKnown:
    """What the books say of a meter's card."""

    meter_number: str
    customer_number: str
    serial: bytes | None  # of the card that is out; None: none is
    purchase_count: int  # of the last sale by any channel; 0: none yet


@dataclass(frozen=True, slots=True)
class CardNo:
    """The card is not used; `detail` has facts for the sentence."""

    why: CardWhy
    detail: str = ""


def judge_card(seen: CardSeen, known: CardKnown) -> CardNo | None:
    """What is wrong with a card of ours for this meter; None: nothing is."""
    record = seen.record
    if record is None:  # empty: nothing on it contradicts the books
        return _another(seen, known)
    checks = (
        (CardWhy.BAD_SEAL, seen.seal is Seal.BAD or record.serial != seen.serial, ""),
        (CardWhy.REVOKED, seen.seal is Seal.REVOKED, f"key version {record.key_version}"),
        (
            CardWhy.WRONG_METER,
            record.meter_number != known.meter_number,
            f"it is for meter {record.meter_number}",
        ),
        (
            CardWhy.WRONG_CUSTOMER,
            record.customer_number != known.customer_number,
            f"it is for customer {record.customer_number}",
        ),
    )
    for why, applies, detail in checks:
        if applies:
            return CardNo(why, detail)
    if (other := _another(seen, known)) is not None:
        return other
    if record.purchase_count > known.purchase_count:
        return CardNo(CardWhy.AHEAD, f"{record.purchase_count}, the books {known.purchase_count}")
    return None


def _another(seen: CardSeen, known: CardKnown) -> CardNo | None:
    if known.serial is not None and seen.serial != known.serial:
        return CardNo(CardWhy.NOT_ISSUED, f"this is card {seen.serial.hex()}")
    return None


def is_old(seen: CardSeen, known: CardKnown) -> bool:
    """The card carries an earlier sale than the last one, which then went another way."""
    return seen.record is not None and seen.record.purchase_count < known.purchase_count


def lands(seen: CardSeen, meter_number: str, purchase_count: int) -> bool:
    """The card proves that this count is in the meter: what lies sealed in its write-back zone,
    by this meter or for it at a terminal, says so.

    A bare count is proof only because a count is tied to one amount for ever (spec B.6, rule 4).
    """
    return seen.tells(meter_number, purchase_count)


#: who may issue a kind (spec B.1)
MAY_ISSUE: Mapping[CardKind, Permission] = {
    CardKind.OPENING: Permission.SELL,
    CardKind.PURCHASE: Permission.SELL,
    CardKind.REPLACEMENT: Permission.SELL,
    CardKind.MAKE_UP: Permission.SELL,
    CardKind.REFUND: Permission.TAKE_BACK,
    CardKind.PARAMETER: Permission.CONFIGURE,
    CardKind.PRESET: Permission.CONFIGURE,
    CardKind.CLEAR: Permission.CONFIGURE,
    CardKind.CHECK: Permission.READ_METER,
}
assert set(MAY_ISSUE) == set(CardKind)
#: a second person in flesh approves each of these
TWO_PERSONS = frozenset({CardKind.PARAMETER, CardKind.CLEAR, CardKind.PRESET})
