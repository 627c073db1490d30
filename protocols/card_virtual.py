"""A purchase without a card: a text for a keypad, a phone or a form. The same record, the same MAC.

The text is base 32 (Crockford's letters, which a pen cannot confuse) in groups of five, with four
letters of a check at the end, so that a misread letter is found where it is typed. It credits once:
the meter's count says so, as with a card.
"""

from __future__ import annotations

import zlib

from protocols.card_image import RECORD_BYTES

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS = {"O": "0", "I": "1", "L": "1"}
_BITS = RECORD_BYTES * 8
_RECORD_LETTERS = -(-_BITS // 5)
_CHECK_LETTERS = 4
TEXT_LETTERS = _RECORD_LETTERS + _CHECK_LETTERS


def text_of(record: bytes) -> str:
    """A sealed record as text. Raises ValueError unless it has 48 bytes."""
    if len(record) != RECORD_BYTES:
        raise ValueError(f"a sealed record has {RECORD_BYTES} bytes, not {len(record)}")
    letters = _letters(int.from_bytes(record, "big"), _RECORD_LETTERS) + _check(record)
    return "-".join(letters[at : at + 5] for at in range(0, len(letters), 5))


def record_of_text(text: str) -> bytes | None:
    """The sealed record of a text, however it is spaced; None where it was misread."""
    letters = "".join(
        _READ_AS.get(letter, letter) for letter in text.upper() if letter not in " -\t\r\n"
    )
    if len(letters) != TEXT_LETTERS or any(letter not in _LETTERS for letter in letters):
        return None
    number = 0
    for letter in letters[:_RECORD_LETTERS]:
        number = number * 32 + _LETTERS.index(letter)
    if number >> _BITS:
        return None
    record = number.to_bytes(RECORD_BYTES, "big")
    return record if _check(record) == letters[_RECORD_LETTERS:] else None


def _letters(number: int, count: int) -> str:
    letters = ""
    for _ in range(count):
        number, rest = divmod(number, 32)
        letters = _LETTERS[rest] + letters
    return letters


def _check(record: bytes) -> str:
    return _letters(zlib.crc32(record) & 0xFFFFF, _CHECK_LETTERS)
