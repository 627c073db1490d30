"""Keys pass through drivers in a holder that shows nothing of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

KEY_WORDS = 4  # of 16 bits: Acrel's frame cipher (spec acrel.md 3.6)
CODES_REFUSED_MAX = 2  # by a chip that counts wrong ones and locks at three or later
SECRET_BYTES = 16  # of an Acrel gateway: key of AES-128 (spec acrel.md 4.2)


class SiteKey:
    """Where a site's key comes from. The key is fetched for each use and never kept, printed or
    pickled here."""

    __slots__ = ("_fetch",)

    def __init__(self, fetch: Callable[[], tuple[int, ...]]) -> None:
        """`fetch` gives four words of 16 bits, as the maker supplied them for the site."""
        self._fetch = fetch

    def words(self) -> tuple[int, int, int, int]:
        """The key, for the cipher alone. Raises ValueError, without the key in its text."""
        words = tuple(self._fetch())
        if len(words) != KEY_WORDS or not all(type(w) is int and 0 <= w <= 0xFFFF for w in words):
            raise ValueError("a site key is four words of 16 bits; import it again")
        first, second, third, fourth = words
        return first, second, third, fourth

    def __repr__(self) -> str:
        return "SiteKey(...)"

    def __reduce__(self) -> str:
        raise TypeError("a site key is not stored")


class GatewaySecret:
    """Where the secret of one gateway comes from: fetched at each login, never printed or pickled
    here."""

    __slots__ = ("_fetch",)

    def __init__(self, fetch: Callable[[], str]) -> None:
        """`fetch` gives the text set in the gateway, or raises ValueError with a reason that does
        not show it."""
        self._fetch = fetch

    def key(self) -> bytes:
        """The secret as a key. Raises ValueError, without the secret in its text."""
        key = self._fetch().encode()
        if len(key) != SECRET_BYTES:
            raise ValueError(f"the secret of a gateway is {SECRET_BYTES} bytes, not {len(key)}")
        return key

    def __repr__(self) -> str:
        return "GatewaySecret(...)"

    def __reduce__(self) -> str:
        raise TypeError("the secret of a gateway is not stored")


class KeyHolder(Protocol):
    """Whoever keeps the keys of meters with a security chip: a file, a PKCS#11 token, a maker's
    encryptor. Keys never pass through here; codes do.

    Each call may take its time and raises KeysAway, with one clause for people.
    """

    def authenticate(self, meter_number: str) -> bytes:
        """Begin a session with a chip: cipher (8 bytes) and the random number it is made of (8)."""
        ...

    def seal(self, meter_number: str, challenge: bytes, fields: tuple[bytes, ...]) -> bytes:
        """The codes of a purchase in this session: one over amount, count and customer (4 bytes),
        one over the customer alone (4). Fields are big-endian."""
        ...

    def open(self, meter_number: str, challenge: bytes, field: bytes, mac: bytes) -> bytes:
        """A field the chip has sealed, proved; KeysAway where its code is wrong."""
        ...


@runtime_checkable
class CountsCodes(Protocol):
    """A driver whose meter has a chip that counts wrong codes, and locks.

    `codes_refused` counts those since the last proved purchase. It belongs to the meter: whoever
    runs the driver sets it to what is on record before each conversation.
    """

    codes_refused: int
