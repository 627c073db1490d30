"""What a terminal may sell while nobody answers, and how it tells of it: caps and chained records.

A cap is sealed by the key service for one terminal and one day. A record of a sale is numbered for
the life of the terminal and carries a MAC over itself and the MAC before it, so that none can be
left out, changed or slipped in (docs/terminal-protocol.md).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protocols.terminal import BadBody

MAC_BYTES = 16  # of HMAC-SHA256, from the left
FIRST_MAC = bytes(MAC_BYTES)  # before the first record of a terminal
U32_MAX = 0xFFFF_FFFF
SERIAL_BYTES = 8
METER_DIGITS = 12
TOTAL_AT = 0  # in the body of a cap: the key service reads there how much money it is
_UNKNOWN = bytes((0xFF,)) * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A sealed permission to sell off-line, for one terminal and one day."""

    number: int  # of the list; a later one takes the place of an earlier one
    terminal: str  # its name, 1 to 40 letters
    day: str  # "2026-03-20", of the site
    card_fen: int  # at most this much to one card
    total_fen: int  # at most this much in all
    first_sequence: int  # its island sales are numbered from here, without a gap
    valid_until_s: int  # since 1970: nothing is sold under it from here on
    key_version: int


def cap_body(cap: Cap) -> bytes:
    """The bytes under the seal. The total comes first: the key service counts it by the day."""
    if not (1 <= len(cap.terminal) <= 40 and cap.terminal.isprintable() and len(cap.day) == 10):
        raise ValueError("a cap names a terminal and a day")
    numbers = (cap.total_fen, cap.card_fen, cap.first_sequence, cap.number, cap.valid_until_s)
    return (
        b"".join(number.to_bytes(4, "big") for number in numbers)
        + cap.key_version.to_bytes(2, "big")
        + cap.day.encode()
        + cap.terminal.encode()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IslandSale:
    """One card purchase the terminal brought into its meter alone."""

    sequence: int  # from 1, for the life of the terminal
    cap: int  # the number of the cap list it was sold under
    at_s: int  # since 1970, by the terminal's clock
    serial: bytes  # of the card
    meter_number: str
    purchase_count: int
    amount_fen: int
    # What the meter showed after it; None: the power went before that was read.
    after_count: int | None
    after_total_fen: int | None
    mac: bytes = b""


def log_key(secret: bytes) -> bytes:
    """The key of a terminal's log, made of its credential; never used for its login."""
    return hmac.digest(secret, b"terminal log", "sha256")


def login_mac(secret: bytes, side: bytes, name: str, ours: str, theirs: str) -> str:
    """The proof of one side over both nonces, as hex. Sides differ, so none can be played back."""
    text = b"\0".join((b"terminal login", side, name.encode(), ours.encode(), theirs.encode()))
    return hmac.new(secret, text, hashlib.sha256).hexdigest()


def sale_mac(key: bytes, before: bytes, sale: IslandSale) -> bytes:
    """The MAC of a record after the one whose MAC is `before`."""
    numbers = (sale.sequence, sale.cap, sale.at_s, sale.purchase_count, sale.amount_fen)
    seen = (sale.after_count, sale.after_total_fen)
    plain = (
        before
        + b"".join(number.to_bytes(4, "big") for number in numbers)
        + sale.serial
        + sale.meter_number.encode()
        + b"".join(_UNKNOWN if one is None else one.to_bytes(4, "big") for one in seen)
    )
    return hmac.digest(key, plain, "sha256")[:MAC_BYTES]


def is_genuine(key: bytes, before: bytes, sale: IslandSale) -> bool:
    """Whether this record follows that MAC."""
    return hmac.compare_digest(sale_mac(key, before, sale), sale.mac)


def sale_of(fields: Mapping[str, Any]) -> IslandSale:
    """The record a terminal reports. Raises BadBody, whatever the fields."""
    try:
        serial, mac = bytes.fromhex(fields["serial"]), bytes.fromhex(fields["mac"])
        sale = IslandSale(
            sequence=_u32(fields["sequence"]),
            cap=_u32(fields["cap"]),
            at_s=_u32(fields["at_s"]),
            serial=serial,
            meter_number=str(fields["meter_number"]),
            purchase_count=_u32(fields["purchase_count"]),
            amount_fen=_u32(fields["amount_fen"]),
            after_count=_maybe(fields["after_count"]),
            after_total_fen=_maybe(fields["after_total_fen"]),
            mac=mac,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadBody("a field of the record cannot be read") from error
    digits = sale.meter_number
    if len(serial) != SERIAL_BYTES or len(mac) != MAC_BYTES:
        raise BadBody("a serial has 8 bytes and a MAC 16")
    if not (digits.isascii() and digits.isdigit() and len(digits) == METER_DIGITS):
        raise BadBody("a meter number has 12 digits")
    return sale


def record_of(sale: IslandSale) -> dict[str, Any]:
    """The fields of a report; the inverse of sale_of()."""
    return {
        "sequence": sale.sequence,
        "cap": sale.cap,
        "at_s": sale.at_s,
        "serial": sale.serial.hex(),
        "meter_number": sale.meter_number,
        "purchase_count": sale.purchase_count,
        "amount_fen": sale.amount_fen,
        "after_count": sale.after_count,
        "after_total_fen": sale.after_total_fen,
        "mac": sale.mac.hex(),
    }


def _u32(value: object) -> int:
    if type(value) is not int or not 0 <= value <= U32_MAX:
        raise ValueError("no number of 32 bits")
    return value


def _maybe(value: object) -> int | None:
    # All ones stands for "not seen" under the MAC, so it is no value.
    if value is not None and _u32(value) == U32_MAX:
        raise ValueError("no number of 32 bits")
    return None if value is None else _u32(value)
