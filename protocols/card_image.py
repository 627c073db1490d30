"""What is on a card of ours, and its bytes. Layouts: docs/card-format.md. No secrets here.

Two records of 40 bytes and a MAC of 8 each: *down*, what the desk tells the meter, and *up*, what
the meter writes back. A record lies on a card in two copies, each with a commit of 8 bytes over
it, so that a write that was torn is as if it had not begun (spec cards_keys.md A.8).
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Callable
from dataclasses import dataclass

BODY_BYTES = 40
MAC_BYTES = 8
RECORD_BYTES = BODY_BYTES + MAC_BYTES
COMMIT_BYTES = 8
SERIAL_BYTES = 8
AMOUNT_AT = 24  # where the amount stands in a body: four bytes, the key service reads it there

_DOWN_MARK = 0x48
_UP_MARK = 0x57
_COMMIT_MARK = b"\xa5\x5a"
_U32_MAX = 0xFFFFFFFF
#: as many fen as a meter's display shows: 999,999.99 yuan
AMOUNT_FEN_MAX = 99_999_999


class CardKind(enum.Enum):
    """What a card does when a meter reads it (spec B.1). The value stands on the card."""

    OPENING = 1  # first purchase; the meter takes the customer and the card's serial
    PURCHASE = 2
    REPLACEMENT = 3  # the same amount and count once more; the meter takes the new serial
    MAKE_UP = 4  # after a meter exchange: the old meter's remaining credit
    REFUND = 5  # takes the last sale back: amount 0 under its count
    PARAMETER = 6  # alarm amounts
    PRESET = 7  # first credit before any account
    CLEAR = 8  # wipes the credit of a meter
    CHECK = 9  # the meter only writes back


#: credit under a count of the meter's sequence
MONEY_KINDS = frozenset(
    {
        CardKind.OPENING,
        CardKind.PURCHASE,
        CardKind.REPLACEMENT,
        CardKind.MAKE_UP,
        CardKind.REFUND,
    }
)
#: whoever holds one can use it: numbered, dated, logged, revocable, never on a card that is copied
#: with ease (spec B.1, A.1)
BEARER_KINDS = frozenset({CardKind.PARAMETER, CardKind.PRESET, CardKind.CLEAR, CardKind.CHECK})
assert set(CardKind) == MONEY_KINDS | BEARER_KINDS


class CardReason(enum.Enum):
    """What a meter said to a card; the value stands in the write-back (spec B.3)."""

    DONE = 0  # credited, or carried out
    ALREADY = 1  # this count was credited before
    OLD = 2  # a count before the meter's
    AHEAD = 3  # a count that leaves one out
    NOT_EMPTY = 4  # the next count on a card whose write-back was not cleared
    WRONG_METER = 5
    WRONG_CUSTOMER = 6
    WRONG_CARD = 7  # not the registered serial
    NOT_OPENED = 8  # an account is opened first
    BAD_MAC = 9
    BAD_FORMAT = 10
    TOO_MUCH = 11  # above the hoarding limit or what the meter can hold
    LOW_VOLTAGE = 12
    EXPIRED = 13
    UNKNOWN = 255  # a maker's code we have no word for


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRecord:
    """The down record of one card."""

    kind: CardKind
    key_version: int  # of the key that MACs it, 1 to 65535
    meter_number: str  # 12 digits; zeros on cards for any meter of an area
    customer_number: str  # 12 digits; zeros likewise
    serial: bytes  # eight bytes, the card's own
    issue_number: int  # of this card in the issuer's books, from 1
    amount_fen: int = 0
    purchase_count: int = 0  # of MONEY_KINDS: the meter's count once it is credited
    alarm_1_fen: int = 0  # of PARAMETER
    alarm_2_fen: int = 0
    valid_until_s: int = 0  # Unix time; 0: no end. Bearer cards always have one

    def __post_init__(self) -> None:
        """Raises ValueError: such a card is none."""
        for digits in (self.meter_number, self.customer_number):
            if len(digits) != 12 or not (digits.isascii() and digits.isdecimal()):
                raise ValueError("a meter number and a customer number are 12 digits")
        if len(self.serial) != SERIAL_BYTES or not 1 <= self.key_version <= 0xFFFF:
            raise ValueError("a serial has 8 bytes, a key version is 1 to 65535")
        amounts = (self.amount_fen, self.alarm_1_fen, self.alarm_2_fen)
        if not all(0 <= fen <= AMOUNT_FEN_MAX for fen in amounts):
            raise ValueError(f"an amount is 0 to {AMOUNT_FEN_MAX} fen")
        if not (0 <= self.valid_until_s <= _U32_MAX and 1 <= self.issue_number <= _U32_MAX):
            raise ValueError("an issue number is 1 to 2**32 - 1, an end a Unix time")
        problem = self._wrong()
        if problem:
            raise ValueError(problem)

    def _wrong(self) -> str | None:
        money = self.kind in MONEY_KINDS
        if money != (1 <= self.purchase_count <= 0xFFFE) or (not money and self.purchase_count):
            return "a card with credit has a purchase count, no other one has"
        carries = money or self.kind is CardKind.PRESET
        if self.amount_fen and (not carries or self.kind is CardKind.REFUND):
            return f"a {self.kind.name.lower()} card carries no amount"
        if carries and not self.amount_fen and self.kind is not CardKind.REFUND:
            return f"a {self.kind.name.lower()} card carries an amount"
        if (self.alarm_1_fen or self.alarm_2_fen) and self.kind is not CardKind.PARAMETER:
            return "only a parameter card carries alarm amounts"
        if (self.kind in BEARER_KINDS) != bool(self.valid_until_s):
            return "a bearer card has an end, a customer's card has none"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBack:
    """The up record: what a meter showed when it read the card. A witness, if its MAC is right."""

    key_version: int
    meter_number: str
    serial: bytes
    remaining_credit_fen: int  # below zero in overdraft
    total_purchased_fen: int
    purchase_count: int
    reason: CardReason
    illegal_cards: int  # refused for their MAC so far, 255 and more as 255
    written_at_s: int  # Unix time of the meter's clock


def body_of(record: CardRecord) -> bytes:
    """The 40 bytes under the MAC of a down record."""
    first, second = record.amount_fen, record.purchase_count
    if record.kind is CardKind.PARAMETER:
        first, second = record.alarm_1_fen, record.alarm_2_fen
    return (
        bytes((_DOWN_MARK, record.kind.value))
        + record.key_version.to_bytes(2, "big")
        + bytes.fromhex(record.meter_number)
        + bytes.fromhex(record.customer_number)
        + record.serial
        + first.to_bytes(4, "big")
        + second.to_bytes(4, "big")
        + record.issue_number.to_bytes(4, "big")
        + record.valid_until_s.to_bytes(4, "big")
    )


def record_of(body: bytes) -> CardRecord | None:
    """The down record of 40 bytes or more; None where they are none. The MAC is another matter."""
    if len(body) < BODY_BYTES or body[0] != _DOWN_MARK:
        return None
    try:
        kind = CardKind(body[1])
        parameter = kind is CardKind.PARAMETER
        first, second = _u32(body, AMOUNT_AT), _u32(body, AMOUNT_AT + 4)
        return CardRecord(
            kind=kind,
            key_version=int.from_bytes(body[2:4], "big"),
            meter_number=body[4:10].hex(),
            customer_number=body[10:16].hex(),
            serial=body[16:24],
            amount_fen=0 if parameter else first,
            purchase_count=0 if parameter else second,
            alarm_1_fen=first if parameter else 0,
            alarm_2_fen=second if parameter else 0,
            issue_number=_u32(body, 32),
            valid_until_s=_u32(body, 36),
        )
    except ValueError:
        return None


def up_body_of(back: WriteBack) -> bytes:
    """The 40 bytes under the MAC of an up record."""
    return (
        bytes((_UP_MARK, back.reason.value))
        + back.key_version.to_bytes(2, "big")
        + bytes.fromhex(back.meter_number)
        + back.serial
        + back.remaining_credit_fen.to_bytes(4, "big", signed=True)
        + back.total_purchased_fen.to_bytes(5, "big")
        + back.purchase_count.to_bytes(4, "big")
        + bytes((min(back.illegal_cards, 255),))
        + back.written_at_s.to_bytes(4, "big")
        + bytes(4)
    )


def write_back_of(body: bytes) -> WriteBack | None:
    """The up record of 40 bytes or more; None where they are none."""
    if len(body) < BODY_BYTES or body[0] != _UP_MARK:
        return None
    digits = body[4:10].hex()
    if not digits.isdecimal() or not int.from_bytes(body[2:4], "big"):
        return None
    return WriteBack(
        key_version=int.from_bytes(body[2:4], "big"),
        meter_number=digits,
        serial=body[10:18],
        remaining_credit_fen=int.from_bytes(body[18:22], "big", signed=True),
        total_purchased_fen=int.from_bytes(body[22:27], "big"),
        purchase_count=_u32(body, 27),
        reason=_reason(body[1]),
        illegal_cards=body[31],
        written_at_s=_u32(body, 32),
    )


@dataclass(frozen=True, slots=True)
class CardFormat:
    """How a maker writes the two bodies: 40 bytes each, before a MAC of 8."""

    body_of: Callable[[CardRecord], bytes]  # raises ValueError for what it cannot carry
    record_of: Callable[[bytes], CardRecord | None]
    write_back_of: Callable[[bytes], WriteBack | None]
    #: what the head-end writes at a terminal (protocols/card_note.py) may lie in the up zone
    has_notes: bool = False


STANDARD = CardFormat(body_of, record_of, write_back_of, has_notes=True)


def _reason(code: int) -> CardReason:
    try:
        return CardReason(code)
    except ValueError:
        return CardReason.UNKNOWN


def _u32(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 4], "big")


# --- two copies and their commits ---


@dataclass(frozen=True, slots=True)
class Copy:
    """One of the two copies as it lies on the card."""

    record: bytes  # RECORD_BYTES
    commit: bytes  # COMMIT_BYTES


@dataclass(frozen=True, slots=True)
class Zone:
    """A record and how to write the next one."""

    record: bytes | None  # None: nothing whole is there
    next_copy: int  # 0 or 1: the one that may be written over
    next_generation: int


def commit_of(record: bytes, generation: int) -> bytes:
    """The commit over a record: mark, generation, CRC-32 of both."""
    counted = generation.to_bytes(2, "big")
    return _COMMIT_MARK + counted + zlib.crc32(counted + record).to_bytes(4, "big")


def generation_of(copy: Copy) -> int | None:
    """The generation of a whole copy; None where it is not whole."""
    if len(copy.record) != RECORD_BYTES or copy.commit[:2] != _COMMIT_MARK:
        return None
    generation = int.from_bytes(copy.commit[2:4], "big")
    return generation if commit_of(copy.record, generation) == copy.commit else None


def zone_of(first: Copy, second: Copy) -> Zone:
    """The record that counts: the newer whole copy. Generations wrap after 65,535 writes."""
    a, b = generation_of(first), generation_of(second)
    if a is None and b is None:
        return Zone(None, 0, 1)
    if b is None or (a is not None and (a - b) & 0xFFFF < 0x8000):
        assert a is not None
        return Zone(first.record, 1, (a + 1) & 0xFFFF)
    return Zone(second.record, 0, (b + 1) & 0xFFFF)
