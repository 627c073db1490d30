"""Money in sentences: people think in yuan, programs in fen."""

from __future__ import annotations


def yuan(amount_fen: int | None) -> str:
    """An amount as sentences give it: 1250 is "12.50", -5 is "-0.05"; None is a dash."""
    if amount_fen is None:
        return "–"
    whole, rest = divmod(abs(amount_fen), 100)
    return f"{'-' if amount_fen < 0 else ''}{whole}.{rest:02}"
