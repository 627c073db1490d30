"""A secret in shares: any `needed` of them give it back, fewer say nothing (Shamir over GF(256)).

For backups only. A root key is assembled from all components of a ceremony, never from shares
(spec cards_keys.md C.2). Why this is written here and not taken from a library: decision record
0042-shares.

A share as text: threshold, number, its bytes in hex and four bytes of SHA-256 over all of them, so
that a misspelt share is found before it is used: `2-1-…-….`
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# AES's field: x^8 + x^4 + x^3 + x + 1.
_POLYNOMIAL = 0x11B
SHARES_MAX = 16  # more than any company has officers
SECRET_BYTES_MAX = 64


class BadShare(ValueError):
    """These shares do not give a secret; the text shows none of their bytes."""


@dataclass(frozen=True, slots=True)
class Share:
    """One officer's part."""

    needed: int
    number: int  # 1 to SHARES_MAX
    part: bytes = field(repr=False)

    def text(self) -> str:
        """As it is written down."""
        body = f"{self.needed}-{self.number}-{self.part.hex()}"
        return f"{body}-{_check(body)}"


def share_of(text: str) -> Share:
    """A share from its text. Raises BadShare."""
    body, _, check = "".join(text.split()).lower().rpartition("-")
    fields = body.split("-")
    if len(fields) != 3 or _check(body) != check:
        raise BadShare("the share is misspelt: its check does not fit")
    try:
        needed, number, part = int(fields[0]), int(fields[1]), bytes.fromhex(fields[2])
    except ValueError:
        raise BadShare("the share is misspelt") from None
    if not (2 <= needed <= SHARES_MAX and 1 <= number <= SHARES_MAX and part):
        raise BadShare("the share is not one of ours")
    return Share(needed, number, part)


def _check(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:8]


def split(secret: bytes, needed: int, total: int, coefficients: bytes) -> list[Share]:
    """`total` shares of a secret, any `needed` of which give it back.

    `coefficients`: `(needed - 1) * len(secret)` bytes straight from a source fit for keys; used
    once. Raises ValueError.
    """
    if not 2 <= needed <= total <= SHARES_MAX or not 1 <= len(secret) <= SECRET_BYTES_MAX:
        raise ValueError(f"2 to {SHARES_MAX} shares of 1 to {SECRET_BYTES_MAX} bytes")
    if len(coefficients) != (needed - 1) * len(secret):
        raise ValueError("one coefficient for each byte and each degree")
    shares = []
    for number in range(1, total + 1):
        part = bytearray()
        for index, byte in enumerate(secret):
            degrees = coefficients[index * (needed - 1) : (index + 1) * (needed - 1)]
            value = 0
            for coefficient in reversed(degrees):
                value = times(value ^ coefficient, number)
            part.append(value ^ byte)
        shares.append(Share(needed, number, bytes(part)))
    return shares


def join(shares: Sequence[Share]) -> bytes:
    """The secret of these shares. Raises BadShare when they cannot give one.

    Shares of another secret give other bytes, not an error: whoever joins checks the secret by what
    it opens.
    """
    if not shares:
        raise BadShare("there is no share")
    needed, length = shares[0].needed, len(shares[0].part)
    if any((share.needed, len(share.part)) != (needed, length) for share in shares):
        raise BadShare("the shares are not of one secret")
    if len({share.number for share in shares}) != len(shares):
        raise BadShare("one share is there twice")
    if len(shares) < needed:
        raise BadShare(f"{needed} shares are needed, {len(shares)} are there")
    used = shares[:needed]
    weights = [_weight(share.number, [other.number for other in used]) for share in used]
    return bytes(
        _sum(times(share.part[index], weight) for share, weight in zip(used, weights, strict=True))
        for index in range(length)
    )


def _weight(number: int, numbers: Sequence[int]) -> int:
    """Lagrange at 0; in this field minus is plus, and plus is XOR."""
    weight = 1
    for other in numbers:
        if other != number:
            weight = times(weight, times(other, _inverse(other ^ number)))
    return weight


def _sum(values: Iterable[int]) -> int:
    total = 0
    for value in values:
        total ^= value
    return total


def times(a: int, b: int) -> int:
    """The product in GF(256). Runs over all bits whatever they are."""
    product = 0
    for bit in range(8):
        product ^= -((b >> bit) & 1) & a
        a = (a << 1) ^ (-(a >> 7) & _POLYNOMIAL)
    return product


def _inverse(a: int) -> int:
    """a to the 254th, which is 1/a."""
    result = 1
    for _ in range(254):
        result = times(result, a)
    return result
