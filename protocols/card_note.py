"""What the head-end writes on a card at a terminal once its purchase is in the meter: a landing.

It lies where a meter writes back, and is never taken for a meter's word: another mark, another key.
The bytes: docs/card-format.md. The same landing is the same bytes each time.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.card_image import AMOUNT_FEN_MAX, BODY_BYTES, SERIAL_BYTES

_MARK = 0x54
_TOTAL_MAX = 0xFF_FFFF_FFFF
_U32_MAX = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingNote:
    """What a meter's registers showed over its line when a purchase had landed."""

    key_version: int  # of the key that MACs it, 1 to 65535
    meter_number: str  # 12 digits
    serial: bytes  # of the card it is written on
    amount_fen: int  # under the count
    total_purchased_fen: int  # by the meter, once the count was credited
    purchase_count: int
    landed_at_s: int  # Unix time of the head-end's clock

    def __post_init__(self) -> None:
        """Raises ValueError: such a note is none."""
        digits = self.meter_number
        if len(digits) != 12 or not (digits.isascii() and digits.isdecimal()):
            raise ValueError("a meter number is 12 digits")
        if len(self.serial) != SERIAL_BYTES or not 1 <= self.key_version <= 0xFFFF:
            raise ValueError("a serial has 8 bytes, a key version is 1 to 65535")
        if not (0 <= self.amount_fen <= AMOUNT_FEN_MAX and 1 <= self.purchase_count <= _U32_MAX):
            raise ValueError(f"an amount is 0 to {AMOUNT_FEN_MAX} fen, a count is from 1")
        if not (0 <= self.total_purchased_fen <= _TOTAL_MAX and 0 <= self.landed_at_s <= _U32_MAX):
            raise ValueError("a total has five bytes, a time four")


def note_body_of(note: LandingNote) -> bytes:
    """The 40 bytes under the MAC."""
    return (
        bytes((_MARK, 0))
        + note.key_version.to_bytes(2, "big")
        + bytes.fromhex(note.meter_number)
        + note.serial
        + note.amount_fen.to_bytes(4, "big")
        + note.total_purchased_fen.to_bytes(5, "big")
        + note.purchase_count.to_bytes(4, "big")
        + bytes(1)
        + note.landed_at_s.to_bytes(4, "big")
        + bytes(4)
    )


def note_of(body: bytes) -> LandingNote | None:
    """The note of 40 bytes or more; None where they are none. The MAC is another matter."""
    if len(body) < BODY_BYTES or body[0] != _MARK:
        return None
    try:
        return LandingNote(
            key_version=int.from_bytes(body[2:4], "big"),
            meter_number=body[4:10].hex(),
            serial=body[10:18],
            amount_fen=int.from_bytes(body[18:22], "big"),
            total_purchased_fen=int.from_bytes(body[22:27], "big"),
            purchase_count=int.from_bytes(body[27:31], "big"),
            landed_at_s=int.from_bytes(body[32:36], "big"),
        )
    except ValueError:
        return None
