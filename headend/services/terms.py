"""What holds for the next sale of a meter, gathered from the property's rules and the account."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from headend.domain.deductions import Terms
from headend.store import account_rules, customers, debts, desk_rooms
from headend.store.database import Transaction


class TermsWhy(enum.Enum):
    """Why a sale is against its terms; the values are codes of sentences."""

    EATEN_UP = "payment-eaten-up"  # fee and debt share leave nothing for the meter
    HOARDING = "hoarding-limit"
    CHANGED = "terms-changed"  # what was shown before the sale is no longer so


@dataclass(frozen=True, slots=True)
class AgainstTerms:
    """Nothing was booked and nothing will be sent."""

    why: TermsWhy
    detail: str = ""


async def terms_of(tx: Transaction, meter_id: int, now: datetime, *, whole: bool = False) -> Terms:
    """What the next sale to this meter pays, owes and may hold.

    `whole`: with what only a page shows, the credit without a limit and the price.
    """
    site_id = await customers.site_of_meter(tx, meter_id)
    if site_id is None:
        return Terms()
    rules = await account_rules.of_site(tx, site_id)
    customer = await customers.of_meter(tx, meter_id)
    seen = None
    if whole or rules.hoarding_limit_fen is not None:
        seen = await desk_rooms.of_meter(tx, None, now, meter_id)
    return Terms(
        fee_fen=rules.sale_fee_fen,
        debts=() if customer is None else await debts.open_of_customer(tx, customer.customer_id),
        hoarding_limit_fen=rules.hoarding_limit_fen,
        credit_fen=None if seen is None else seen.credit_fen,
        price_fen=await account_rules.proved_price_fen(tx, meter_id) if whole else None,
    )
