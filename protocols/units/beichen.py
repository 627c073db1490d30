"""Beichen (a made-up maker): a format of its own on a plain memory card. Open.

Body: "BC", a letter for the kind, the key version; meter and customer number with the last digits
first; amount in four bytes, high byte first; count in three, low byte first; a zero; the serial;
issue number and end in four bytes each, low byte first. Purchases only: the card is copied with
ease. The key of this maker has its amount at byte 16 (`headend keys ceremony --amount-at 16`).
"""

from __future__ import annotations

from protocols.card_image import (
    BODY_BYTES,
    CardFormat,
    CardKind,
    CardReason,
    CardRecord,
    WriteBack,
)
from protocols.key_call import Purpose
from protocols.open_unit import OpenUnit
from protocols.security_unit import API_VERSION, Channel, Manifest

_LETTERS = {CardKind.OPENING: b"O", CardKind.PURCHASE: b"P", CardKind.REPLACEMENT: b"R"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
_COUNT_BYTES = 3


def _body_of(record: CardRecord) -> bytes:
    letter = _LETTERS.get(record.kind)
    if letter is None or record.key_version > 0xFF:
        raise ValueError(f"Beichen has no {record.kind.name.lower()} cards under such a key")
    return (
        b"BC"
        + letter
        + bytes((record.key_version,))
        + bytes.fromhex(record.meter_number)[::-1]
        + bytes.fromhex(record.customer_number)[::-1]
        + record.amount_fen.to_bytes(4, "big")
        + record.purchase_count.to_bytes(_COUNT_BYTES, "little")
        + b"\0"
        + record.serial
        + record.issue_number.to_bytes(4, "little")
        + record.valid_until_s.to_bytes(4, "little")
    )


def _record_of(body: bytes) -> CardRecord | None:
    if len(body) < BODY_BYTES or body[:2] != b"BC" or body[2:3] not in _KINDS or body[23]:
        return None
    try:
        return CardRecord(
            kind=_KINDS[body[2:3]],
            key_version=body[3],
            meter_number=body[4:10][::-1].hex(),
            customer_number=body[10:16][::-1].hex(),
            amount_fen=int.from_bytes(body[16:20], "big"),
            purchase_count=int.from_bytes(body[20:23], "little"),
            serial=body[24:32],
            issue_number=int.from_bytes(body[32:36], "little"),
            valid_until_s=int.from_bytes(body[36:40], "little"),
        )
    except ValueError:
        return None


def _write_back_of(body: bytes) -> WriteBack | None:
    """This maker's meters write back count and credit, and nothing else."""
    if len(body) < BODY_BYTES or body[:2] != b"bc" or not body[4:10][::-1].hex().isdecimal():
        return None
    count = int.from_bytes(body[20:23], "little")
    return WriteBack(
        key_version=max(body[3], 1),
        meter_number=body[4:10][::-1].hex(),
        serial=body[24:32],
        remaining_credit_fen=int.from_bytes(body[16:20], "big", signed=True),
        total_purchased_fen=int.from_bytes(body[10:15], "big"),
        purchase_count=count,
        reason=CardReason.DONE if body[2:3] == b"Y" else CardReason.UNKNOWN,
        illegal_cards=0,
        written_at_s=int.from_bytes(body[32:36], "little"),
    )


UNITS = (
    OpenUnit(
        Manifest(
            name="beichen",
            maker="Beichen",
            version="1",
            api_version=API_VERSION,
            type_codes=("beichen_*",),
            medium="memory_card",
            reader_family="acs",
            keys=frozenset({Purpose.RECHARGE, Purpose.WRITE_BACK}),
            channels=frozenset({Channel.CARD, Channel.REMOTE}),
            kinds=frozenset(_LETTERS),
        ),
        CardFormat(_body_of, _record_of, _write_back_of),
    ),
)
