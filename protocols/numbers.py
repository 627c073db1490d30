"""Numbers as meters write them: BCD, signed words, dials, and the patterns that mean "no value".

Strict on purpose. A nibble of 14 is not a digit and a month 13 is not a date: such a field has no
value, and a missing value is honest where a guessed one ends up on a bill.
"""

from __future__ import annotations

import enum
from datetime import datetime

CENTURY = 2000  # meters keep two digits of the year


class Kind(enum.Enum):
    """How one value lies in registers: big-endian, high word first (spec acrel.md 0).

    Words, signed, and the patterns that mean "not available". FF.. in a signed field is also the
    value -1, and a meter that cut at zero does stand at -0.01 yuan: whoever owns the map decides
    that case by its neighbours. The ends of a signed range are never true values of a meter.
    """

    U16 = (1, False, (b"\xff\xff",))
    I16 = (1, True, (b"\x7f\xff", b"\x80\x00"))
    U32 = (2, False, (b"\xff\xff\xff\xff",))
    I32 = (2, True, (b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00"))

    def __init__(self, words: int, signed: bool, not_available: tuple[bytes, ...]) -> None:
        self.words = words
        self.signed = signed
        self.not_available = not_available

    def decode(self, raw: bytes) -> int | None:
        """The value, or None where it is not available."""
        if raw in self.not_available:
            return None
        return int.from_bytes(raw, "big", signed=self.signed)


def bcd_digits(raw: bytes) -> str | None:
    """Packed BCD, high digit first, as text; None when a nibble is no digit."""
    digits = raw.hex()
    return digits if digits.isdecimal() else None


def dial_time(fields: bytes) -> datetime | None:
    """Binary year (0 to 99), month, day, hour, minute, second as naive time; None when no date."""
    year, month, day, hour, minute, second = fields
    if year > 99:
        return None
    try:
        return datetime(CENTURY + year, month, day, hour, minute, second)  # noqa: DTZ001  a dial
    except ValueError:
        return None


def weekday_agrees(dial: datetime, weekday: int) -> bool:
    """Whether a weekday byte fits the date in any numbering in use: Sunday as 0, 1 or 7."""
    days = dial.isoweekday()  # Monday 1 to Sunday 7
    return weekday in (days % 7, days % 7 + 1, days)
