"""What must hold of cards, judged by own statements: one count one amount, no copy out for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

# Each query finds what must not be; its columns fill the sentence.
_NEVER: tuple[tuple[str, str], ...] = (
    (
        "{}: count {} was given out with {} different amounts",
        "SELECT meter.name, purchase_count, count(DISTINCT amount_fen) FROM ("
        " SELECT meter_id, sale_id, purchase_count, amount_fen FROM card_issue"
        " WHERE sale_id IS NOT NULL AND kind <> 'refund' UNION ALL"
        " SELECT meter_id, sale_id, purchase_count, amount_fen FROM command WHERE kind = 'top_up'"
        " UNION ALL SELECT meter_id, sale_id, purchase_count, amount_fen FROM sale"
        ") AS given JOIN meter USING (meter_id)"
        " GROUP BY meter.name, sale_id, purchase_count HAVING count(DISTINCT amount_fen) > 1",
    ),
    (
        "{}: its sale under count {} is still open",
        "SELECT meter.name, purchase_count FROM sale JOIN meter USING (meter_id)"
        " WHERE state = 'open'",
    ),
    (
        "{}: card number {} is {} though its sale is {}",
        "SELECT meter.name, issue_number, card_issue.state, sale.state FROM card_issue"
        " JOIN sale USING (sale_id) JOIN meter ON meter.meter_id = card_issue.meter_id"
        " WHERE card_issue.state IN ('pending', 'clearing', 'lost')"
        " AND sale.state IN ('landed', 'burned', 'reversed')"
        " AND card_issue.begun_at < sale.closed_at",
    ),
    (
        "{}: count {} was reversed though {} copies of it were in the world",
        "SELECT meter.name, purchase_count, copies_left FROM sale JOIN meter USING (meter_id)"
        " WHERE state = 'reversed' AND copies_left > 1 AND channel = 'card'",
    ),
)


def judge_cards(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """Every rule of the cards that does not hold at the end of a seed."""
    for sentence, query in _NEVER:
        for row in connection.execute(query.encode()).fetchall():
            yield sentence.format(*row)
