"""What a property takes from a sale, allows in a meter and writes into one that is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from headend.store.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of one property; a property without any takes nothing and limits nothing."""

    opening_fee_fen: int = 0
    sale_fee_fen: int = 0
    hoarding_limit_fen: int | None = None  # None: none
    opening: Mapping[str, Any] | None = None  # the setting open_account; None: opened as it is
    since: datetime | None = None


async def of_site(tx: Transaction, site_id: int) -> Rules:
    """What holds now."""
    row = await tx.row(
        "SELECT opening_fee_fen, sale_fee_fen, hoarding_limit_fen, opening, since"
        " FROM account_rules WHERE site_id = %s ORDER BY rules_id DESC LIMIT 1",
        site_id,
    )
    if row is None:
        return Rules()
    return Rules(
        opening_fee_fen=row[0],
        sale_fee_fen=row[1],
        hoarding_limit_fen=row[2],
        opening=row[3],
        since=row[4],
    )


async def lock(tx: Transaction, site_id: int) -> None:
    """Nobody else sets the rules of this property before the transaction ends."""
    await tx.execute("SELECT FROM site WHERE site_id = %s FOR NO KEY UPDATE", site_id)


async def set_for_site(
    tx: Transaction, site_id: int, rules: Rules, *, by: int | None, at: datetime
) -> None:
    """From now on these; what held before stays on record."""
    await tx.execute(
        "INSERT INTO account_rules (site_id, since, set_by, opening_fee_fen, sale_fee_fen,"
        " hoarding_limit_fen, opening) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        site_id,
        at,
        by,
        rules.opening_fee_fen,
        rules.sale_fee_fen,
        rules.hoarding_limit_fen,
        None if rules.opening is None else Jsonb(dict(rules.opening)),
    )


async def proved_price_fen(tx: Transaction, meter_id: int) -> int | None:
    """Fen per kWh that a meter was proved to hold last, where it is the same at every hour."""
    record = await tx.value(
        """
        SELECT coalesce(details -> 'prices', details) FROM command
        WHERE meter_id = %s AND kind = 'configure' AND state = 'confirmed'
            AND details ->> 'kind' IN ('prices', 'open_account')
        ORDER BY changed_at DESC LIMIT 1""",
        meter_id,
    )
    if record is None:
        return None
    each = {record.get(f"{rate}_fen") for rate in ("sharp", "peak", "flat", "valley")}
    price = each.pop() if len(each) == 1 else None
    return price if isinstance(price, int) and price > 0 else None
