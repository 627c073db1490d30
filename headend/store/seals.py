"""The chain over the books, as statements. The algorithm is domain/seals.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime
from typing import Final, LiteralString
from uuid import UUID

from headend.domain.seals import BEGINNING, BookedRow, DaySeal, Entry, instant
from headend.store.database import Row, Transaction

# One sealer at a time.
_SEAL_LOCK: Final = 0x6D65746572_7365
# Numbers are given before a transaction commits, so a lower one may appear after a higher one was
# sealed. A minute's look goes back this far; the day's seal looks at everything.
LOOK_BACK: Final = 10_000
# Rows in one look: some megabytes, and a second of work.
ROWS_MAX: Final = 20_000
# Rows fetched at once while the whole books are read.
FETCH_ROWS: Final = 2_000

_TRANSFER: LiteralString = """
    transfer_id, phase, operation, debit, credit, amount_fen, pending_id, command_id, sale_id,
    operator_id, approver_id, reason, at"""
_TRANSFER_KEYS: Final = tuple(_TRANSFER.replace(",", "").split())
_EVENT: LiteralString = "command_id, meter_id, kind, old_state, new_state, at, note, stored_at"
_EVENT_KEYS: Final = tuple(_EVENT.replace(",", "").split())


async def lock(tx: Transaction) -> None:
    """Be the only sealer until this transaction ends."""
    await tx.execute("SELECT pg_advisory_xact_lock(%s)", _SEAL_LOCK)


async def last_link(tx: Transaction) -> tuple[int, bytes]:
    """Position and chain value of the row sealed last; 0 and BEGINNING before the first."""
    row = await tx.row(
        "SELECT position, chain_sha256 FROM seal_entry ORDER BY position DESC LIMIT 1"
    )
    return (row[0], row[1]) if row else (0, BEGINNING)


async def unsealed(tx: Transaction, *, look_back: int | None = LOOK_BACK) -> list[BookedRow]:
    """At most ROWS_MAX rows that the chain does not cover yet, in the order to seal them.

    `look_back` None looks at all that was ever booked.
    """
    # By number and not by time: a resolution comes after its reservation, whatever clocks say.
    transfers = await _unsealed_of(tx, "transfer", look_back)
    events = await _unsealed_of(tx, "command_event", look_back)
    return (transfers + events)[:ROWS_MAX]


async def _unsealed_of(tx: Transaction, source: str, look_back: int | None) -> list[BookedRow]:
    query: LiteralString = (
        f"SELECT entry_no, {_TRANSFER} FROM transfer AS booked"
        if source == "transfer"
        else f"SELECT event_id, {_EVENT} FROM command_event AS booked"
    )
    number: LiteralString = "entry_no" if source == "transfer" else "event_id"
    rows = await tx.rows(
        f"""{query} WHERE {number} > %(after)s AND NOT EXISTS (
            SELECT FROM seal_entry
            WHERE source = %(source)s AND seal_entry.entry_no = booked.{number})
        ORDER BY {number} LIMIT %(limit)s""",
        named={
            "after": 0 if look_back is None else await _after(tx, source) - look_back,
            "source": source,
            "limit": ROWS_MAX,
        },
    )
    return [BookedRow(source, row[0], _entry(source, row), None, None) for row in rows]


async def _after(tx: Transaction, source: str) -> int:
    number: int | None = await tx.value(
        "SELECT max(entry_no) FROM seal_entry WHERE source = %s", source
    )
    return number or 0


async def append(tx: Transaction, links: Sequence[tuple[int, str, int, bytes]]) -> None:
    """Add (position, source, entry_no, chain value) of rows to the chain."""
    await tx.execute(
        "INSERT INTO seal_entry (position, source, entry_no, chain_sha256)"
        " SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bytea[])",
        *(list(column) for column in zip(*links, strict=True)),
    )


async def sealed_days(
    tx: Transaction, *, after: date = date.min, limit: int | None = None
) -> list[DaySeal]:
    """Every seal, oldest first; past a day, at most `limit`."""
    rows = await tx.rows(_SEALS + " WHERE day > %s ORDER BY day LIMIT %s", after, limit)
    return [_day_seal(row) for row in rows]


async def last_seal(tx: Transaction) -> DaySeal | None:
    """The newest seal."""
    row = await tx.row(_SEALS + " ORDER BY day DESC LIMIT 1")
    return _day_seal(row) if row else None


async def count_after(tx: Transaction, position: int) -> tuple[int, int]:
    """(transfers, events) chained after a position."""
    row = await tx.row(
        "SELECT count(*) FILTER (WHERE source = 'transfer'),"
        " count(*) FILTER (WHERE source = 'command_event')"
        " FROM seal_entry WHERE position > %s",
        position,
    )
    assert row is not None
    return row[0], row[1]


async def add_seal(tx: Transaction, seal: DaySeal) -> None:
    """Close a day. The database refuses a day that was closed before."""
    await tx.execute(
        "INSERT INTO day_seal (day, last_position, transfers, events, chain_sha256,"
        " previous_sha256, sealed_at, seal_sha256) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        seal.day,
        seal.last_position,
        seal.transfers,
        seal.events,
        seal.chain_sha256,
        seal.previous_sha256,
        seal.sealed_at,
        seal.seal_sha256,
    )


async def with_links(
    tx: Transaction, transfers: Sequence[int], events: Sequence[int]
) -> list[tuple[BookedRow, bytes | None]]:
    """Rows by their numbers, each with the chain value before it, in the order of the chain.

    Rows that no chain value covers yet come last.
    """
    found: list[tuple[BookedRow, bytes | None]] = []
    for source, numbers in (("transfer", transfers), ("command_event", events)):
        query: LiteralString = (
            f"SELECT position, chain_sha256, before, entry_no, {_TRANSFER} FROM transfer AS booked"
            if source == "transfer"
            else f"SELECT position, chain_sha256, before, event_id, {_EVENT}"
            " FROM command_event AS booked"
        )
        number: LiteralString = "entry_no" if source == "transfer" else "event_id"
        rows = await tx.rows(
            f"""{query} LEFT JOIN LATERAL (
                SELECT link.position, link.chain_sha256, before.chain_sha256 AS before
                FROM seal_entry AS link
                LEFT JOIN seal_entry AS before ON before.position = link.position - 1
                WHERE link.source = %s AND link.entry_no = booked.{number}
            ) AS linked ON true WHERE {number} = ANY(%s) ORDER BY {number}""",
            source,
            list(numbers),
        )
        for position, link, before, *entry in rows:
            row = BookedRow(source, entry[0], _entry(source, tuple(entry)), position, link)
            found.append((row, BEGINNING if position == 1 else before))
    return sorted(found, key=lambda one: (one[0].position is None, one[0].position or 0))


async def everything(tx: Transaction) -> AsyncIterator[BookedRow | DaySeal]:
    """The whole books in the order of verification: the chain with each seal where it closes, then
    what is not sealed yet. All of one moment; a few thousand rows in memory at a time.
    """
    await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    seals = await sealed_days(tx)
    async with tx.connection.cursor(name="books") as cursor:
        cursor.itersize = FETCH_ROWS
        await cursor.execute(
            f"""
            SELECT position, source, seal_entry.entry_no, chain_sha256, booked.entry_no, {_PREFIXED}
            FROM seal_entry
            LEFT JOIN transfer AS booked
                ON source = 'transfer' AND booked.entry_no = seal_entry.entry_no
            LEFT JOIN command_event AS event
                ON source = 'command_event' AND event.event_id = seal_entry.entry_no
            ORDER BY position"""
        )
        async for row in cursor:
            while seals and seals[0].last_position < row[0]:
                yield seals.pop(0)
            yield _chained(row)
    for seal in seals:
        yield seal
    async for late in _all_unsealed(tx):
        yield late


_PREFIXED: LiteralString = ", ".join(
    ["booked." + key for key in _TRANSFER.replace(",", "").split()]
    + ["event.event_id"]
    + ["event." + key for key in _EVENT.replace(",", "").split()]
)


async def _all_unsealed(tx: Transaction) -> AsyncIterator[BookedRow]:
    for source in ("transfer", "command_event"):
        query: LiteralString = (
            f"SELECT entry_no, {_TRANSFER} FROM transfer WHERE NOT EXISTS (SELECT FROM seal_entry"
            " WHERE source = 'transfer' AND seal_entry.entry_no = transfer.entry_no)"
            " ORDER BY entry_no"
            if source == "transfer"
            else f"SELECT event_id, {_EVENT} FROM command_event WHERE NOT EXISTS ("
            "SELECT FROM seal_entry WHERE source = 'command_event' AND entry_no = event_id)"
            " ORDER BY event_id"
        )
        async with tx.connection.cursor(name=f"unsealed_{source}") as cursor:
            cursor.itersize = FETCH_ROWS
            await cursor.execute(query)
            async for row in cursor:
                yield BookedRow(source, row[0], _entry(source, row), None, None)


def _chained(row: Row) -> BookedRow:
    position, source, entry_no, chain_sha256 = row[:4]
    width = 1 + len(_TRANSFER_KEYS)
    mine = row[4 : 4 + width] if source == "transfer" else row[4 + width :]
    entry = None if mine[0] is None else _entry(source, mine)
    return BookedRow(source, entry_no, entry, position, chain_sha256)


def _entry(source: str, row: Row) -> Entry:
    """A row as it is sealed: its number and columns as JSON values."""
    if source == "transfer":
        values = dict(zip(("entry_no", *_TRANSFER_KEYS), row, strict=True))
    else:
        values = dict(zip(("event_id", *_EVENT_KEYS), row, strict=True))
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: object) -> str | int | None:
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, UUID):
        return str(value)
    assert value is None or isinstance(value, str | int)
    return value


_SEALS: LiteralString = """
    SELECT day, last_position, transfers, events, chain_sha256, previous_sha256, sealed_at,
        seal_sha256
    FROM day_seal"""


def _day_seal(row: Row) -> DaySeal:
    day: date = row[0]
    return DaySeal(day, *row[1:])
