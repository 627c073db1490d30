"""Sales: numbered credits to meters, where the books of a meter's count end, and frozen meters."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from headend.domain.counts import Counted
from headend.domain.purchases import Sale, SaleState
from headend.store.database import Row, Transaction

_COLUMNS: Final = (
    "sale_id, meter_id, epoch, purchase_count, amount_fen, state, channel, copies_left, opened_at,"
    " closed_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Sales to this meter stop: it and the books tell different stories."""

    meter_id: int
    frozen_at: datetime
    reason: str


async def lock_meter(tx: Transaction, meter_id: int) -> str | None:
    """Orders to one meter are accepted one after the other; returns its type, None if unknown.

    A retired meter is unknown here: nothing is sold to it.
    """
    found: str | None = await tx.value(
        "SELECT meter_type FROM meter WHERE meter_id = %s AND retired_at IS NULL FOR NO KEY UPDATE",
        meter_id,
    )
    return found


async def lock_meters(tx: Transaction, meter_ids: Collection[int]) -> dict[int, str]:
    """`lock_meter` for many: the types of those that are known, by meter. In one order for all."""
    rows = await tx.rows(
        """
        SELECT meter_id, meter_type FROM meter WHERE meter_id = ANY(%s) AND retired_at IS NULL
        ORDER BY meter_id FOR NO KEY UPDATE""",
        list(meter_ids),
    )
    return dict(rows)


async def open_sale(
    tx: Transaction,
    *,
    sale_id: UUID,
    meter_id: int,
    purchase_count: int,
    amount_fen: int,
    channel: str,
    at: datetime,
) -> None:
    """Tie a count to an amount for ever. The database refuses a second open sale of the meter, and
    knows the epoch."""
    await tx.execute(
        """
        INSERT INTO sale (sale_id, meter_id, purchase_count, amount_fen, channel, opened_at)
        VALUES (%s, %s, %s, %s, %s, %s)""",
        sale_id,
        meter_id,
        purchase_count,
        amount_fen,
        channel,
        at,
    )


async def find(tx: Transaction, sale_id: UUID) -> Sale | None:
    """One sale."""
    row = await tx.row(f"SELECT {_COLUMNS} FROM sale WHERE sale_id = %s", sale_id)
    return _sale(row) if row else None


async def open_of_meter(tx: Transaction, meter_id: int) -> Sale | None:
    """The sale that may still land in this meter, if there is one."""
    row = await tx.row(
        f"SELECT {_COLUMNS} FROM sale WHERE meter_id = %s AND state = 'open'", meter_id
    )
    return _sale(row) if row else None


async def hold_open(tx: Transaction, meter_id: int) -> Sale | None:
    """The open sale of a meter, which nobody else ends before this transaction does.

    Its orders are locked before it, as whoever settles an order does: command, sale, card.
    """
    await tx.rows(
        """
        SELECT command_id FROM command WHERE meter_id = %s AND kind IN ('top_up', 'burn')
            AND state IN ('queued', 'claimed', 'sent', 'unknown', 'escalated')
        ORDER BY command_id FOR UPDATE""",
        meter_id,
    )
    row = await tx.row(
        f"SELECT {_COLUMNS} FROM sale WHERE meter_id = %s AND state = 'open' FOR UPDATE", meter_id
    )
    return _sale(row) if row else None


async def of_meter(tx: Transaction, meter_id: int, *, limit: int = 100) -> list[Sale]:
    """The sales of a meter, newest first."""
    rows = await tx.rows(
        f"SELECT {_COLUMNS} FROM sale WHERE meter_id = %s"
        " ORDER BY opened_at DESC, sale_id LIMIT %s",
        meter_id,
        limit,
    )
    return [_sale(row) for row in rows]


async def of_these_registers(tx: Transaction, meter_id: int, *, limit: int = 20) -> list[Sale]:
    """The sales of a meter since its registers last began anew, newest first.

    A count says nothing about another device, nor about registers that were put back to zero.
    """
    rows = await tx.rows(
        f"SELECT {_COLUMNS} FROM sale WHERE meter_id = %s AND epoch = meter_epoch(%s)"
        " ORDER BY opened_at DESC, sale_id LIMIT %s",
        meter_id,
        meter_id,
        limit,
    )
    return [_sale(row) for row in rows]


async def copy_leaves(tx: Transaction, sale_id: UUID) -> None:
    """One more write of this sale is about to leave."""
    await tx.execute("UPDATE sale SET copies_left = copies_left + 1 WHERE sale_id = %s", sale_id)


async def copy_refused(tx: Transaction, sale_id: UUID) -> None:
    """The meter said no to a copy and a look showed that nothing changed: it is dead."""
    await tx.execute(
        "UPDATE sale SET copies_refused = copies_refused + 1 WHERE sale_id = %s", sale_id
    )


async def close(tx: Transaction, sale_id: UUID, state: SaleState, at: datetime) -> None:
    """The sale landed, was reversed or was burned: what it is from now on."""
    await tx.execute(
        "UPDATE sale SET state = %s, closed_at = %s WHERE sale_id = %s", state.value, at, sale_id
    )


async def may_be_reversed(tx: Transaction, sale_id: UUID) -> bool:
    """Whether every copy that left is known to be dead; one that left none is."""
    found: bool = await tx.value(
        "SELECT state = 'open' AND copies_left = copies_refused FROM sale WHERE sale_id = %s",
        sale_id,
    )
    return found


async def agreed_count(tx: Transaction, meter_id: int) -> Counted | None:
    """Where the books of this epoch end: the last sale that used a count, or what a person agreed
    to later."""
    row = await tx.row(
        """
        SELECT count, at FROM (
            SELECT purchase_count AS count, closed_at AS at FROM sale
            WHERE meter_id = %(meter_id)s AND epoch = meter_epoch(%(meter_id)s)
                AND state IN ('landed', 'burned')
            UNION ALL
            SELECT count_agreed, thawed_at FROM sales_freeze
            WHERE meter_id = %(meter_id)s AND thawed_at IS NOT NULL
        ) AS known ORDER BY at DESC, count DESC LIMIT 1""",
        named={"meter_id": meter_id},
    )
    return Counted(*row) if row else None


async def seen_count(tx: Transaction, meter_id: int) -> Counted | None:
    """The count of the newest look at this meter, a reading or the evidence of an attempt."""
    row = await tx.row(
        """
        SELECT count, at FROM (
            SELECT purchase_count AS count, at FROM meter_last
            WHERE meter_id = %(meter_id)s AND purchase_count IS NOT NULL
            UNION ALL
            SELECT count, at FROM (
                SELECT coalesce((after ->> 'purchase_count')::bigint,
                        (before ->> 'purchase_count')::bigint) AS count,
                    CASE WHEN after ? 'purchase_count' THEN ended_at ELSE sent_at END AS at
                FROM attempt WHERE meter_id = %(meter_id)s ORDER BY sent_at DESC LIMIT 1
            ) AS attempted WHERE count IS NOT NULL
        ) AS looks ORDER BY at DESC LIMIT 1""",
        named={"meter_id": meter_id},
    )
    return Counted(*row) if row else None


async def freeze(tx: Transaction, meter_id: int, reason: str, at: datetime) -> bool:
    """Stop sales to a meter; False when they were stopped already, for an older reason."""
    touched = await tx.execute(
        "INSERT INTO sales_freeze (meter_id, frozen_at, reason) VALUES (%s, %s, %s)"
        " ON CONFLICT (meter_id) WHERE thawed_at IS NULL DO NOTHING",
        meter_id,
        at,
        reason,
    )
    return touched == 1


async def thaw(
    tx: Transaction,
    meter_id: int,
    *,
    operator_id: int,
    reason: str,
    count_agreed: int,
    at: datetime,
) -> bool:
    """A person has found out: sales go on after `count_agreed`.

    False when nothing had frozen them; the count is agreed all the same, since an order may have
    been refused for a doubt that no look of the sender has confirmed yet.
    """
    touched = await tx.execute(
        """
        UPDATE sales_freeze SET thawed_at = %s, thawed_by = %s, thaw_reason = %s, count_agreed = %s
        WHERE meter_id = %s AND thawed_at IS NULL""",
        at,
        operator_id,
        reason,
        count_agreed,
        meter_id,
    )
    if touched == 1:
        return True
    await tx.execute(
        """
        INSERT INTO sales_freeze (meter_id, frozen_at, reason, thawed_at, thawed_by, thaw_reason,
            count_agreed) VALUES (%s, %s, 'only the count was in doubt', %s, %s, %s, %s)""",
        meter_id,
        at,
        at,
        operator_id,
        reason,
        count_agreed,
    )
    return False


async def frozen(tx: Transaction, meter_id: int) -> Freeze | None:
    """Why sales to this meter stand still, if they do."""
    row = await tx.row(
        "SELECT meter_id, frozen_at, reason FROM sales_freeze"
        " WHERE meter_id = %s AND thawed_at IS NULL",
        meter_id,
    )
    return Freeze(meter_id=row[0], frozen_at=row[1], reason=row[2]) if row else None


async def all_frozen(tx: Transaction) -> list[Freeze]:
    """Every meter whose sales stand still, longest first."""
    rows = await tx.rows(
        "SELECT meter_id, frozen_at, reason FROM sales_freeze WHERE thawed_at IS NULL"
        " ORDER BY frozen_at, meter_id"
    )
    return [Freeze(meter_id=row[0], frozen_at=row[1], reason=row[2]) for row in rows]


def _sale(row: Row) -> Sale:
    sale_id, meter_id, epoch, purchase_count, amount_fen, state, channel, copies_left = row[:8]
    return Sale(
        sale_id=sale_id,
        meter_id=meter_id,
        epoch=epoch,
        purchase_count=purchase_count,
        amount_fen=amount_fen,
        state=SaleState(state),
        channel=channel,
        copies_left=copies_left,
        opened_at=row[8],
        closed_at=row[9],
    )
