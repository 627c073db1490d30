"""Keys pass through drivers in a holder that shows nothing of them."""

from __future__ import annotations

from collections.abc import Callable

KEY_WORDS = 4  # of 16 bits: Acrel's frame cipher (spec acrel.md 3.6)


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
