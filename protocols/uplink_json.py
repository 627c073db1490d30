"""JSON as gateways push it: read within bounds, numbers kept exact, quantities as our integers."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NoReturn

from protocols.reading import Quantity

# A cabinet of 36 circuits with 40 points each is some 50 kB of JSON.
PAYLOAD_BYTES_MAX = 256 * 1024
SAMPLE_BYTES_MAX = 256  # of what was not understood in one payload
INTEGER_MAX = 2**63 - 1  # what storage holds

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Before the first of these gateways was built, or after the last of them has died: a broken clock.
YEAR_MIN, YEAR_MAX = 2000, 2099

_DECIMAL = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,9})?", re.ASCII)
_COMPACT = re.compile(r"[0-9]{14}", re.ASCII)


def read_object(payload: bytes) -> dict[str, object] | None:
    """The JSON object of a payload, its fractions as Decimal; None for anything else."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        return None
    try:
        found = json.loads(payload, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def inside(found: object, path: str) -> object | None:
    """What stands at a dotted path of keys; "" is the thing itself, None is nothing there."""
    for key in path.split(".") if path else ():
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return found


def decimal_of(found: object) -> Decimal | None:
    """A number, or a number written as a string; None for every other thing."""
    if isinstance(found, bool):
        return Decimal(int(found))
    if isinstance(found, int):
        return Decimal(found) if abs(found) <= INTEGER_MAX else None
    if isinstance(found, Decimal):
        return found if found.is_finite() and abs(found.adjusted()) < 19 else None
    if isinstance(found, str) and _DECIMAL.fullmatch(found):
        return Decimal(found)
    return None


def scaled(found: object, times: Decimal, quantity: Quantity) -> int | None:
    """A gateway's number in our unit; None where it is none, or does not fit.

    Money, counts and bits must come out whole: half a fen or half a relay is a wrong mapping.
    Measured quantities are rounded to the nearest unit.
    """
    number = decimal_of(found)
    if number is None:
        return None
    exact = number * times
    whole = exact.to_integral_value(ROUND_HALF_EVEN)
    if abs(whole) > INTEGER_MAX or (whole != exact and must_be_whole(quantity)):
        return None
    return int(whole)


def must_be_whole(quantity: Quantity) -> bool:
    """Whether a fraction of this quantity's unit is nonsense rather than precision."""
    return quantity.value.endswith(("_fen", "_count", "_bits", "_ratio"))


def instant_of(found: object, unit: timedelta) -> datetime | None:
    """Seconds or milliseconds since 1970 as an aware instant; None for what is none."""
    number = decimal_of(found)
    if number is None or number < 0:
        return None
    try:
        instant = EPOCH + int(number) * unit
    except OverflowError:
        return None
    return instant if YEAR_MIN <= instant.year <= YEAR_MAX else None


def dial_of(found: object) -> datetime | None:
    """yyyyMMddHHmmss on the gateway's own clock, naive; None for what is none."""
    if not isinstance(found, str) or not _COMPACT.fullmatch(found):
        return None
    try:
        dial = datetime.strptime(found, "%Y%m%d%H%M%S")  # noqa: DTZ007  a dial has no time zone
    except ValueError:
        return None
    return dial if YEAR_MIN <= dial.year <= YEAR_MAX else None


def sample_of(parts: list[str]) -> bytes:
    """What was not understood, in one short piece for the technician."""
    return "; ".join(parts).encode("utf-8", "replace")[:SAMPLE_BYTES_MAX]
