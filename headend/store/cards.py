"""Cards, what was issued on them, and what meters wrote back, as statements."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from headend.domain.card_issues import CardIssue, IssueState
from headend.store.attempts import as_record
from headend.store.database import Row, Transaction
from protocols.card_image import CardKind, WriteBack
from protocols.exchange import Evidence

_COLUMNS: Final = (
    "issue_number, issue_id, serial, kind, state, meter_id, sale_id, purchase_count, amount_fen,"
    " key_version, valid_until, details, issued_by, approved_by, reason, begun_at, changed_at, note"
)
_OUT: Final = "state IN ('pending', 'issued', 'clearing', 'lost')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One card of ours."""

    serial: bytes
    unit: str
    meter_id: int | None
    ended_at: datetime | None
    end_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIssue:
    """A card as it is about to be written."""

    issue_id: UUID
    serial: bytes
    kind: CardKind
    meter_id: int | None
    sale_id: UUID | None
    purchase_count: int | None
    amount_fen: int
    key_version: int
    issued_by: int
    reason: str
    at: datetime
    approved_by: int | None = None
    valid_until: datetime | None = None
    alarm_1_fen: int = 0
    alarm_2_fen: int = 0


async def add_card(
    tx: Transaction, serial: bytes, unit: str, *, made_by: int, at: datetime
) -> bool:
    """A card became ours; False when it was already."""
    touched = await tx.execute(
        "INSERT INTO card (serial, unit, made_at, made_by) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (serial) DO NOTHING",
        serial,
        unit,
        at,
        made_by,
    )
    return touched == 1


async def card(tx: Transaction, serial: bytes) -> Card | None:
    """One card."""
    row = await tx.row(
        "SELECT serial, unit, meter_id, ended_at, end_reason FROM card WHERE serial = %s", serial
    )
    return _card(row) if row else None


async def card_of_meter(tx: Transaction, meter_id: int) -> Card | None:
    """The card that was given for this meter and has not ended."""
    row = await tx.row(
        "SELECT serial, unit, meter_id, ended_at, end_reason FROM card"
        " WHERE meter_id = %s AND ended_at IS NULL",
        meter_id,
    )
    return _card(row) if row else None


async def give_card(tx: Transaction, serial: bytes, meter_id: int, at: datetime) -> bool:
    """Give a card of nobody's for a meter; False when it has ended or is somebody's."""
    touched = await tx.execute(
        "UPDATE card SET meter_id = %s, given_at = %s"
        " WHERE serial = %s AND meter_id IS NULL AND ended_at IS NULL",
        meter_id,
        at,
        serial,
    )
    return touched == 1


async def end_card(tx: Transaction, serial: bytes, reason: str, at: datetime) -> None:
    """The card is lost or worn out: it is never written again."""
    await tx.execute(
        "UPDATE card SET ended_at = %s, end_reason = %s WHERE serial = %s AND ended_at IS NULL",
        at,
        reason,
        serial,
    )


async def is_registered(tx: Transaction, meter_id: int, serial: bytes) -> bool:
    """Whether the meter takes purchases from this card, by the last word it wrote on it.

    Only a look tells: a card that was given has not been read yet, and a lost one that was found
    may have put itself back in the place of the next. A device that took another's place, with an
    epoch of its own, knows no card.
    """
    found = await tx.value(
        """
        SELECT reason IN ('done', 'already') FROM card_look
        WHERE meter_id = %(meter_id)s AND serial = %(serial)s
            AND reason IN ('done', 'already', 'wrong_card', 'wrong_customer', 'not_opened')
            AND at > coalesce((SELECT min(opened_at) FROM meter_opening
                WHERE meter_id = %(meter_id)s AND epoch = meter_epoch(%(meter_id)s)
                    AND epoch > 0), '-infinity')
        ORDER BY look_id DESC LIMIT 1""",
        named={"meter_id": meter_id, "serial": serial},
    )
    return bool(found)


async def knows_a_card(tx: Transaction, meter_id: int) -> bool:
    """Whether the meter has ever taken a card, in this life of its registers."""
    found: bool = await tx.value(
        """
        SELECT EXISTS (SELECT FROM card_look
            WHERE meter_id = %(meter_id)s AND reason IN ('done', 'already')
            AND at > coalesce((SELECT min(opened_at) FROM meter_opening
                WHERE meter_id = %(meter_id)s AND epoch = meter_epoch(%(meter_id)s)
                    AND epoch > 0), '-infinity'))""",
        named={"meter_id": meter_id},
    )
    return found


async def meter_number(tx: Transaction, meter_id: int) -> str | None:
    """The number on a meter's front; None where the site file has none."""
    number: str | None = await tx.value(
        "SELECT meter_number FROM meter WHERE meter_id = %s", meter_id
    )
    return number


async def note_before(tx: Transaction, sale_id: UUID, before: Evidence) -> None:
    """What the meter showed before the first copy of a sale that is put on a card; kept once."""
    await tx.execute(
        "INSERT INTO card_sale (sale_id, before) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        sale_id,
        json.dumps(as_record(before)),
    )


async def evidence_at(tx: Transaction, meter_id: int, purchase_count: int) -> Evidence:
    """What the meter shows at this count, by the newest look at it: a reading, an order's own look,
    or what it wrote on a card. The total stays out where nobody has seen it at this count."""
    total_fen = await tx.value(
        """
        SELECT fen FROM (
            SELECT total_purchased_fen AS fen, at FROM meter_last
            WHERE meter_id = %(meter_id)s AND purchase_count = %(count)s
            UNION ALL
            SELECT total_purchased_fen, at FROM card_look
            WHERE meter_id = %(meter_id)s AND purchase_count = %(count)s
            UNION ALL
            SELECT (after ->> 'total_purchased_fen')::bigint, ended_at FROM attempt
            WHERE meter_id = %(meter_id)s AND (after ->> 'purchase_count')::bigint = %(count)s
            UNION ALL
            SELECT (before ->> 'total_purchased_fen')::bigint, sent_at FROM attempt
            WHERE meter_id = %(meter_id)s AND (before ->> 'purchase_count')::bigint = %(count)s
        ) AS looks WHERE fen IS NOT NULL ORDER BY at DESC LIMIT 1""",
        named={"meter_id": meter_id, "count": purchase_count},
    )
    return Evidence(purchase_count=purchase_count, total_purchased_fen=total_fen)


async def begin(tx: Transaction, new: NewIssue) -> CardIssue:
    """Number a card; from here on a copy of its sale may exist. The database checks the rest."""
    await tx.execute(
        """
        INSERT INTO card_issue (issue_id, serial, kind, meter_id, sale_id, purchase_count,
            amount_fen, key_version, valid_until, details, issued_by, approved_by, reason, begun_at,
            changed_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        new.issue_id,
        new.serial,
        new.kind.name.lower(),
        new.meter_id,
        new.sale_id,
        new.purchase_count,
        new.amount_fen,
        new.key_version,
        new.valid_until,
        json.dumps({"alarm_1_fen": new.alarm_1_fen, "alarm_2_fen": new.alarm_2_fen}),
        new.issued_by,
        new.approved_by,
        new.reason,
        new.at,
        new.at,
    )
    made = await find(tx, new.issue_id)
    assert made is not None, "just inserted"
    return made


async def find(tx: Transaction, issue_id: UUID, *, lock: bool = False) -> CardIssue | None:
    """One issue."""
    row = await tx.row(
        f"SELECT {_COLUMNS} FROM card_issue WHERE issue_id = %s" + (" FOR UPDATE" if lock else ""),
        issue_id,
    )
    return _issue(row) if row else None


async def on_card(tx: Transaction, serial: bytes) -> CardIssue | None:
    """What a card carries by the books; it stays so until the end of the transaction.

    Where it may carry a sale, the meter's open sale is held first (sales.hold_open).
    """
    row = await tx.row(
        f"SELECT {_COLUMNS} FROM card_issue WHERE serial = %s"
        " AND state IN ('pending', 'issued', 'clearing') FOR UPDATE",
        serial,
    )
    return _issue(row) if row else None


async def of_sale(tx: Transaction, sale_id: UUID) -> list[CardIssue]:
    """Every card a sale was put on, oldest first."""
    rows = await tx.rows(
        f"SELECT {_COLUMNS} FROM card_issue WHERE sale_id = %s ORDER BY issue_number", sale_id
    )
    return [_issue(row) for row in rows]


async def out(tx: Transaction, *, meter_id: int | None = None) -> list[CardIssue]:
    """Cards that are out, longest first."""
    rows = await tx.rows(
        f"SELECT {_COLUMNS} FROM card_issue WHERE {_OUT}"
        " AND (%s::integer IS NULL OR meter_id = %s) ORDER BY issue_number",
        meter_id,
        meter_id,
    )
    return [_issue(row) for row in rows]


async def move(
    tx: Transaction, issue_id: UUID, state: IssueState, at: datetime, note: str = ""
) -> None:
    """The issue comes into another state; the database refuses what is no transition."""
    await tx.execute(
        "UPDATE card_issue SET state = %s, changed_at = %s, note = %s WHERE issue_id = %s",
        state.value,
        at,
        note,
        issue_id,
    )


async def sale_ended(tx: Transaction, sale_id: UUID, at: datetime, note: str) -> None:
    """Nothing on any card of this sale can bring credit any more."""
    await tx.execute(
        f"UPDATE card_issue SET state = 'used', changed_at = %s, note = %s"
        f" WHERE sale_id = %s AND {_OUT}",
        at,
        note,
        sale_id,
    )


async def free_card(tx: Transaction, serial: bytes, at: datetime) -> None:
    """What the card carries is done with: it may be written over. Never an open sale's copy."""
    await tx.execute(
        """
        UPDATE card_issue SET state = 'used', changed_at = %s, note = 'written over'
        WHERE serial = %s AND state IN ('pending', 'issued') AND sale_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM sale WHERE sale.sale_id = card_issue.sale_id
                AND sale.state = 'open')""",
        at,
        serial,
    )


async def lose_card(tx: Transaction, serial: bytes, reason: str, at: datetime) -> None:
    """The card is lost: what it carries may still be found and used, and it is never written again.

    Where it may carry a sale, the meter's open sale is held first (sales.hold_open).
    """
    issue = await on_card(tx, serial)
    if issue is not None:
        await move(tx, issue.issue_id, IssueState.LOST, at, reason)
    await end_card(tx, serial, f"lost: {reason}", at)


async def keep_look(
    tx: Transaction, meter_id: int, serial: bytes, back: WriteBack, at: datetime
) -> None:
    """Keep what a meter wrote on a card; the same one again is the same look."""
    await tx.execute(
        """
        INSERT INTO card_look (at, serial, meter_id, purchase_count, total_purchased_fen,
            remaining_credit_fen, reason, written_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT ON CONSTRAINT a_write_back_is_kept_once DO NOTHING""",
        at,
        serial,
        meter_id,
        back.purchase_count,
        back.total_purchased_fen,
        back.remaining_credit_fen,
        back.reason.name.lower(),
        datetime.fromtimestamp(back.written_at_s, UTC),
    )


async def before_of(tx: Transaction, sale_id: UUID) -> Evidence | None:
    """What the meter showed before the first copy of a sale that is on a card; None of others."""
    row = await tx.row(
        "SELECT before ->> 'purchase_count', before ->> 'total_purchased_fen'"
        " FROM card_sale WHERE sale_id = %s",
        sale_id,
    )
    if row is None:
        return None
    count, fen = row
    return Evidence(None if count is None else int(count), None if fen is None else int(fen))


async def open_card_sales(tx: Transaction) -> list[tuple[UUID, int, datetime]]:
    """Open sales with a card out: sale, meter, when it was opened."""
    rows = await tx.rows(
        "SELECT sale_id, meter_id, opened_at FROM sale JOIN card_sale USING (sale_id)"
        " WHERE state = 'open' ORDER BY opened_at"
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def reading_after(tx: Transaction, meter_id: int, after: datetime) -> Evidence | None:
    """Count and total of the newest reading, if it was taken after this instant."""
    row = await tx.row(
        "SELECT purchase_count, total_purchased_fen FROM meter_last"
        " WHERE meter_id = %s AND at > %s AND purchase_count IS NOT NULL",
        meter_id,
        after,
    )
    return Evidence(*row) if row else None


def _card(row: Row) -> Card:
    serial, unit, meter_id, ended_at, end_reason = row
    return Card(
        serial=bytes(serial), unit=unit, meter_id=meter_id, ended_at=ended_at, end_reason=end_reason
    )


def _issue(row: Row) -> CardIssue:
    number, issue_id, serial, kind, state, meter_id, sale_id, count, amount_fen = row[:9]
    key_version, valid_until, details, issued_by, approved_by, reason = row[9:15]
    begun_at, changed_at, note = row[15:]
    return CardIssue(
        issue_number=number,
        issue_id=issue_id,
        serial=bytes(serial),
        kind=CardKind[kind.upper()],
        state=IssueState(state),
        meter_id=meter_id,
        sale_id=sale_id,
        purchase_count=count,
        amount_fen=amount_fen,
        key_version=key_version,
        valid_until=valid_until,
        alarm_1_fen=details.get("alarm_1_fen", 0),
        alarm_2_fen=details.get("alarm_2_fen", 0),
        issued_by=issued_by,
        approved_by=approved_by,
        reason=reason,
        begun_at=begun_at,
        changed_at=changed_at,
        note=note,
    )
