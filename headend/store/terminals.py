"""Recharge terminals: caps, what they sold alone, what does not fit, and what was tapped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

from headend.domain.islands import SoldAs
from headend.store.database import Row, Transaction
from protocols.terminal_island import FIRST_MAC, Cap, IslandSale

_CAP: Final = (
    "cap_number, terminal, day, card_fen, total_fen, first_sequence, valid_until, key_version, mac,"
    " issued_at"
)
_SALE: Final = (
    "sequence, cap_number, sold_at, serial, meter_number, purchase_count, amount_fen, after_count,"
    " after_total_fen, mac, state, meter_id, taken_at"
)


@dataclass(frozen=True, slots=True)
class IssuedCap:
    """A cap with its seal."""

    cap: Cap
    mac: bytes
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class TakenSale:
    """A record as it was taken over."""

    sale: IslandSale
    state: str  # landed, known, waiting, clash
    meter_id: int | None
    taken_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingClash:
    """Something a person settles, or has settled."""

    clash_id: int
    terminal: str
    sequence: int
    code: str
    record: Mapping[str, Any]
    detail: str
    found_at: datetime
    settled_at: datetime | None
    settled_how: str | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCap:
    """A cap before it is sealed."""

    terminal: str
    day: date
    card_fen: int
    total_fen: int
    valid_until: datetime
    issued_by: int
    approved_by: int
    reason: str
    at: datetime


async def hold(tx: Transaction, terminal: str) -> None:
    """One transaction at a time takes over or numbers anything of this terminal."""
    await tx.value("SELECT pg_advisory_xact_lock(hashtext('terminal'), hashtext(%s))", terminal)


async def begin_cap(tx: Transaction, new: NewCap) -> tuple[int, int]:
    """Number a cap that is not sealed yet: its number, and where its sales are numbered from."""
    await hold(tx, new.terminal)
    last, _ = await end_of_log(tx, new.terminal)
    number = await tx.value(
        """
        INSERT INTO terminal_cap (terminal, day, card_fen, total_fen, first_sequence, valid_until,
            issued_at, issued_by, approved_by, reason)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING cap_number""",
        new.terminal,
        new.day,
        new.card_fen,
        new.total_fen,
        last + 1,
        new.valid_until,
        new.at,
        new.issued_by,
        new.approved_by,
        new.reason,
    )
    return number, last + 1


async def seal_cap(tx: Transaction, number: int, key_version: int, mac: bytes) -> None:
    """The key service has sealed it: it may go out."""
    await tx.execute(
        "UPDATE terminal_cap SET key_version = %s, mac = %s WHERE cap_number = %s AND mac IS NULL",
        key_version,
        mac,
        number,
    )


async def cap(tx: Transaction, terminal: str, number: int) -> IssuedCap | None:
    """A sealed cap of this terminal."""
    row = await tx.row(
        f"SELECT {_CAP} FROM terminal_cap"
        " WHERE terminal = %s AND cap_number = %s AND mac IS NOT NULL",
        terminal,
        number,
    )
    return _cap(row) if row else None


async def caps(tx: Transaction, terminal: str, *, limit: int = 20) -> list[IssuedCap]:
    """The sealed caps of a terminal, newest first."""
    rows = await tx.rows(
        f"SELECT {_CAP} FROM terminal_cap WHERE terminal = %s AND mac IS NOT NULL"
        " ORDER BY cap_number DESC LIMIT %s",
        terminal,
        limit,
    )
    return [_cap(row) for row in rows]


async def end_of_log(tx: Transaction, terminal: str) -> tuple[int, bytes]:
    """The last number taken over and its MAC; 0 and zeros: none yet."""
    row = await tx.row(
        "SELECT sequence, mac FROM island_sale WHERE terminal = %s ORDER BY sequence DESC LIMIT 1",
        terminal,
    )
    return (row[0], bytes(row[1])) if row else (0, FIRST_MAC)


async def taken(tx: Transaction, terminal: str, sequence: int) -> TakenSale | None:
    """One record, if it was taken over."""
    row = await tx.row(
        f"SELECT {_SALE} FROM island_sale WHERE terminal = %s AND sequence = %s",
        terminal,
        sequence,
    )
    return _taken(row) if row else None


async def taken_under(
    tx: Transaction, terminal: str, cap_number: int, serial: bytes
) -> tuple[int, int]:
    """What was taken over under a cap without a clash: to this card, and in all (fen)."""
    row = await tx.row(
        """
        SELECT coalesce(sum(amount_fen) FILTER (WHERE serial = %s), 0)::bigint,
            coalesce(sum(amount_fen), 0)::bigint
        FROM island_sale WHERE terminal = %s AND cap_number = %s AND state <> 'clash'""",
        serial,
        terminal,
        cap_number,
    )
    assert row is not None, "sums are always there"
    return int(row[0]), int(row[1])


async def sold_as(tx: Transaction, meter_id: int, count: int) -> tuple[UUID, SoldAs, str] | None:
    """What stands under a meter's count in its present epoch: sale, terms, state."""
    row = await tx.row(
        """
        SELECT sale_id, amount_fen, state,
            array(SELECT serial FROM card_issue WHERE card_issue.sale_id = sale.sale_id)
        FROM sale WHERE meter_id = %s AND purchase_count = %s AND epoch = meter_epoch(%s)
            AND state <> 'reversed'""",
        meter_id,
        count,
        meter_id,
    )
    if row is None:
        return None
    sale_id, amount_fen, state, serials = row
    terms = SoldAs(
        amount_fen=amount_fen,
        burned=state == "burned",
        serials=frozenset(bytes(one) for one in serials),
    )
    return sale_id, terms, state


async def take(
    tx: Transaction,
    terminal: str,
    sale: IslandSale,
    *,
    meter_id: int | None,
    state: str,
    at: datetime,
) -> None:
    """Take a record over into the log."""
    await tx.execute(
        """
        INSERT INTO island_sale (terminal, sequence, mac, cap_number, serial, meter_number,
            meter_id, purchase_count, amount_fen, after_count, after_total_fen, sold_at, taken_at,
            state)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        terminal,
        sale.sequence,
        sale.mac,
        sale.cap,
        sale.serial,
        sale.meter_number,
        meter_id,
        sale.purchase_count,
        sale.amount_fen,
        sale.after_count,
        sale.after_total_fen,
        datetime.fromtimestamp(sale.at_s, UTC),
        at,
        state,
    )


async def move(tx: Transaction, terminal: str, sequence: int, state: str) -> None:
    """What waited is known now, or a person has settled it."""
    await tx.execute(
        "UPDATE island_sale SET state = %s WHERE terminal = %s AND sequence = %s",
        state,
        terminal,
        sequence,
    )


async def waiting(tx: Transaction) -> list[tuple[str, TakenSale]]:
    """Records whose meter is to be looked at, oldest first."""
    rows = await tx.rows(
        f"SELECT {_SALE}, terminal FROM island_sale WHERE state = 'waiting'"
        " ORDER BY taken_at, sequence LIMIT 100"
    )
    return [(row[-1], _taken(row[:-1])) for row in rows]


async def log_of(tx: Transaction, terminal: str, *, limit: int = 20) -> list[TakenSale]:
    """The end of a terminal's log, newest first."""
    rows = await tx.rows(
        f"SELECT {_SALE} FROM island_sale WHERE terminal = %s ORDER BY sequence DESC LIMIT %s",
        terminal,
        limit,
    )
    return [_taken(row) for row in rows]


async def add_clash(
    tx: Transaction,
    terminal: str,
    code: str,
    record: Mapping[str, Any],
    *,
    sequence: int,
    detail: str,
    at: datetime,
) -> bool:
    """Keep it for a person; False when it is known already."""
    touched = await tx.execute(
        """
        INSERT INTO terminal_clash (terminal, sequence, code, record, detail, found_at)
        VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT ON CONSTRAINT a_clash_is_found_once
        DO NOTHING""",
        terminal,
        sequence,
        code,
        json.dumps(record),
        detail,
        at,
    )
    return touched == 1


_CLASH: Final = (
    "clash_id, terminal, sequence, code, record, detail, found_at, settled_at, settled_how, reason"
)


async def clashes(
    tx: Transaction, terminal: str | None = None, *, standing: bool = True
) -> list[StandingClash]:
    """Clashes, oldest first; `standing`: only those nobody has settled."""
    rows = await tx.rows(
        f"SELECT {_CLASH} FROM terminal_clash WHERE (%s::text IS NULL OR terminal = %s)"
        " AND (settled_at IS NULL OR NOT %s) ORDER BY clash_id LIMIT 500",
        terminal,
        terminal,
        standing,
    )
    return [_clash(row) for row in rows]


async def clash(tx: Transaction, clash_id: int) -> StandingClash | None:
    """One clash; nobody else settles it before this transaction ends."""
    row = await tx.row(
        f"SELECT {_CLASH} FROM terminal_clash WHERE clash_id = %s FOR UPDATE", clash_id
    )
    return _clash(row) if row else None


async def settle_clash(
    tx: Transaction, clash_id: int, how: str, reason: str, *, by: int, at: datetime
) -> None:
    """A person has found out."""
    await tx.execute(
        "UPDATE terminal_clash SET settled_at = %s, settled_by = %s, settled_how = %s, reason = %s"
        " WHERE clash_id = %s AND settled_at IS NULL",
        at,
        by,
        how,
        reason,
        clash_id,
    )


async def tap(tx: Transaction, tap_id: UUID) -> tuple[str, bytes, UUID] | None:
    """What a tap under this id was: terminal, card, command."""
    row = await tx.row(
        "SELECT terminal, serial, command_id FROM terminal_tap WHERE tap_id = %s", tap_id
    )
    return (row[0], bytes(row[1]), row[2]) if row else None


async def add_tap(
    tx: Transaction, tap_id: UUID, terminal: str, serial: bytes, *, command_id: UUID, at: datetime
) -> None:
    """A tap led to this command."""
    await tx.execute(
        "INSERT INTO terminal_tap (tap_id, terminal, serial, command_id, at)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (tap_id) DO NOTHING",
        tap_id,
        terminal,
        serial,
        command_id,
        at,
    )


def _cap(row: Row) -> IssuedCap:
    number, terminal, day, card_fen, total_fen, first, until, version, mac, issued_at = row
    made = Cap(
        number=number,
        terminal=terminal,
        day=day.isoformat(),
        card_fen=card_fen,
        total_fen=total_fen,
        first_sequence=first,
        valid_until_s=int(until.timestamp()),
        key_version=version,
    )
    return IssuedCap(made, bytes(mac), issued_at)


def _taken(row: Row) -> TakenSale:
    sequence, cap_number, sold_at, serial, meter_number, count, amount_fen = row[:7]
    after_count, after_total_fen, mac, state, meter_id, taken_at = row[7:]
    sale = IslandSale(
        sequence=sequence,
        cap=cap_number,
        at_s=int(sold_at.timestamp()),
        serial=bytes(serial),
        meter_number=meter_number,
        purchase_count=count,
        amount_fen=amount_fen,
        after_count=after_count,
        after_total_fen=after_total_fen,
        mac=bytes(mac),
    )
    return TakenSale(sale, state, meter_id, taken_at)


def _clash(row: Row) -> StandingClash:
    clash_id, terminal, sequence, code, record, detail, found_at, settled_at, how, reason = row
    return StandingClash(
        clash_id=clash_id,
        terminal=terminal,
        sequence=sequence,
        code=code,
        record=record,
        detail=detail,
        found_at=found_at,
        settled_at=settled_at,
        settled_how=how,
        reason=reason,
    )
