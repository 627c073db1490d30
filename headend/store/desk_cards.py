"""Cards as the desk shows them: what a card carries, what was issued, how far it came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from headend.domain.card_issues import CardIssue
from headend.domain.purchases import SaleState
from headend.store import cards, sales
from headend.store.database import Transaction

ISSUES_MAX = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSteps:
    """The four stages of a sale on a card; None: not reached."""

    paid_at: datetime | None  # None: nothing was sold with this card
    written_at: datetime | None
    in_meter_at: datetime | None
    light_on_at: datetime | None
    sale_state: SaleState | None


async def carried(tx: Transaction, serial: bytes) -> CardIssue | None:
    """What a card carries by the books; holds nothing."""
    issue_id = await tx.value(
        "SELECT issue_id FROM card_issue WHERE serial = %s"
        " AND state IN ('pending', 'issued', 'clearing')",
        serial,
    )
    return None if issue_id is None else await cards.find(tx, issue_id)


async def issues_of_meter(tx: Transaction, meter_id: int) -> Sequence[CardIssue]:
    """The newest cards issued for a meter."""
    rows = await tx.rows(
        "SELECT issue_id FROM card_issue WHERE meter_id = %s ORDER BY issue_number DESC LIMIT %s",
        meter_id,
        ISSUES_MAX,
    )
    found = [await cards.find(tx, row[0]) for row in rows]
    return [issue for issue in found if issue is not None]


async def steps_of(tx: Transaction, issue: CardIssue) -> CardSteps:
    """How far the sale on this card has come.

    Light is on with the credit, unless the meter was cut: then with the restore that followed.
    """
    sale = None if issue.sale_id is None else await sales.find(tx, issue.sale_id)
    written_at = await tx.value(
        "SELECT min(at) FROM card_event WHERE issue_number = %s AND new_state = 'issued'",
        issue.issue_number,
    )
    in_meter_at = light_on_at = None
    if sale is not None and sale.state is SaleState.LANDED:
        in_meter_at = sale.closed_at
        row = await tx.row(
            "SELECT state, changed_at FROM command WHERE meter_id = %s AND kind = 'restore'"
            " AND ordered_at = %s AND reason = 'credit has arrived'",
            sale.meter_id,
            sale.closed_at,
        )
        light_on_at = in_meter_at if row is None else (row[1] if row[0] == "confirmed" else None)
    return CardSteps(
        paid_at=None if sale is None else sale.opened_at,
        written_at=written_at,
        in_meter_at=in_meter_at,
        light_on_at=light_on_at,
        sale_state=None if sale is None else sale.state,
    )
