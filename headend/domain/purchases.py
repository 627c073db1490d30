"""A sale: a numbered credit to one meter. One sequence for any channel (DESIGN: one sequence).

The meter's own purchase count is the only counter. A count is tied for ever to one amount and one
sale; at most one sale is open per meter. A sale no copy of which ever left may be reversed, and its
count is used again; every other is burned (same count, amount 0) before its money is given back.

A count means something within one life of the meter's registers, its epoch. An exchange or a
cleared account begins the next one, once a person has accepted it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


class SaleState(enum.Enum):
    """What became of a numbered credit."""

    OPEN = "open"  # may still land
    LANDED = "landed"  # proved from the meter
    REVERSED = "reversed"  # no copy ever left: its count is free again
    BURNED = "burned"  # the meter took the count with amount 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """One credit with its number."""

    sale_id: UUID
    meter_id: int
    epoch: int  # which life of the meter's registers; 0 is the first
    purchase_count: int  # 1 to 65535
    amount_fen: int
    state: SaleState
    channel: str  # "remote"; cards follow
    copies_left: int  # how many writes of it left this program
    opened_at: datetime
    closed_at: datetime | None
