from __future__ import annotations

from tests.headend.ledger.conftest import shop

__all__ = ["shop"]
