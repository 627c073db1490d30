"""What the meters said: stored once each, however often it is sent here.

The key is (meter, instant), so a batch whose commit was not heard is simply stored again. Rows go
in sorted by that key: unsorted writers deadlock with each other. The last reading of each meter is
kept by the same statement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from psycopg.types.json import Jsonb

from headend.store.database import Row, Transaction
from protocols.reading import Quantity as Q
from protocols.reading import Reading

# Settings that change by hand, under the same names in one jsonb column: rarely read.
IN_EXTRA: Final = frozenset(
    {
        Q.BASE_AMOUNT,
        Q.OVERDRAFT,
        Q.ALARM_AMOUNT_1,
        Q.ALARM_AMOUNT_2,
        Q.PRICE_SHARP,
        Q.PRICE_PEAK,
        Q.PRICE_FLAT,
        Q.PRICE_VALLEY,
        Q.LOAD_TRIPS,
        Q.PT_RATIO,
        Q.CT_RATIO,
    }
)
# Four bytes are enough where no ratio of 32-bit registers can land.
IN_INT4: Final = frozenset(
    {
        Q.VOLTAGE_L1,
        Q.VOLTAGE_L2,
        Q.VOLTAGE_L3,
        Q.POWER_FACTOR,
        Q.FREQUENCY,
        Q.RELAY_CLOSED,
        Q.ALARMS,
        Q.CONTROLS,
    }
)
COLUMNS: Final = tuple(q for q in Q if q not in IN_EXTRA)
_NAMES: Final = ("meter_id", "at", "received_at", "origin", *(q.value for q in COLUMNS), "extra")
_TYPES: Final = (
    "int4",
    "timestamptz",
    "timestamptz",
    "text",
    *("int4" if q in IN_INT4 else "int8" for q in COLUMNS),
    "jsonb",
)
_LIST: Final = ", ".join(_NAMES)

# Up to here one statement with an array for each column is faster than COPY by way of a temporary
# table (bench/readings.py).
SMALL_BATCH_ROWS_MAX = 20


def _store_from(source: str) -> str:
    """The idempotent statement: new rows, then the last reading of each meter, then how many.

    A reading dated in the future (a dial gone wrong) is kept as it came, but it may not pose as
    the last one for years: ten minutes is more than any honest clock of ours is ahead.
    """
    news = ", ".join(f"{name} = excluded.{name}" for name in _NAMES[1:])
    return f"""
        WITH fresh AS (
            INSERT INTO reading ({_LIST})
            SELECT {_LIST} FROM {source} ORDER BY meter_id, at
            ON CONFLICT (meter_id, at) DO NOTHING
            RETURNING {_LIST}
        ), last AS (
            INSERT INTO meter_last ({_LIST})
            SELECT DISTINCT ON (meter_id) {_LIST} FROM fresh
            WHERE at <= received_at + interval '10 minutes'
            ORDER BY meter_id, at DESC
            ON CONFLICT (meter_id) DO UPDATE SET {news}
            WHERE meter_last.at < excluded.at
        )
        SELECT count(*) FROM fresh"""


_STORE_SMALL: Final = _store_from(
    f"unnest({', '.join(f'%s::{kind}[]' for kind in _TYPES)}) AS incoming ({_LIST})"
)
_STORE_LARGE: Final = _store_from("incoming")


async def store_readings(tx: Transaction, readings: Sequence[Reading]) -> int:
    """Store what is not there yet; returns how many readings were new. Any order, any repeats."""
    if not readings:
        return 0
    rows = [_as_row(reading) for reading in readings]
    if len(rows) <= SMALL_BATCH_ROWS_MAX:
        new = await tx.value(_STORE_SMALL, *(list(column) for column in zip(*rows, strict=True)))
    else:
        await _copy(tx, rows)
        new = await tx.value(_STORE_LARGE)
    assert isinstance(new, int)
    return new


def _as_row(reading: Reading) -> tuple[Any, ...]:
    values = reading.values
    extra = {q.value: values[q] for q in values.keys() & IN_EXTRA}
    return (
        reading.meter_id,
        reading.at,
        reading.received_at,
        reading.origin.value,
        *map(values.get, COLUMNS),
        Jsonb(extra) if extra else None,
    )


async def _copy(tx: Transaction, rows: Iterable[Row]) -> None:
    # Made once for each connection and emptied by every commit.
    await tx.execute(
        "CREATE TEMP TABLE IF NOT EXISTS incoming (LIKE reading) ON COMMIT DELETE ROWS"
    )
    copy_sql = f"COPY incoming ({_LIST}) FROM STDIN (FORMAT BINARY)"
    async with tx.connection.cursor() as cursor, cursor.copy(copy_sql) as copy:
        copy.set_types(_TYPES)
        for row in rows:
            await copy.write_row(row)


async def last_readings(
    tx: Transaction, meter_ids: Collection[int] | None = None
) -> dict[int, dict[str, Any]]:
    """The newest reading of each meter as a JSON record: at, received_at, origin, values."""
    where = "" if meter_ids is None else " WHERE meter_id = ANY(%s)"
    parameters = () if meter_ids is None else (list(meter_ids),)
    rows = await tx.rows(f"SELECT {_LIST} FROM meter_last{where}", *parameters)
    return {row[0]: _as_record(row) for row in rows}


async def last_energies_wh(tx: Transaction) -> dict[int, int]:
    """The newest total energy of each meter, to notice a counter that fell."""
    rows = await tx.rows("SELECT meter_id, energy_wh FROM meter_last WHERE energy_wh IS NOT NULL")
    return {row[0]: row[1] for row in rows}


async def series(
    tx: Transaction, meter_id: int, since: datetime, until: datetime, *, limit: int
) -> list[dict[str, Any]]:
    """The readings of one meter with since <= at < until, oldest first, at most `limit`."""
    rows = await tx.rows(
        f"SELECT {_LIST} FROM reading WHERE meter_id = %s AND at >= %s AND at < %s "
        "ORDER BY at LIMIT %s",
        meter_id,
        since,
        until,
        limit,
    )
    return [_as_record(row) for row in rows]


def _as_record(row: Row) -> dict[str, Any]:
    _, at, received_at, origin, *values, extra = row
    named = zip(COLUMNS, values, strict=True)
    return {
        "at": at.isoformat(),
        "received_at": received_at.isoformat(),
        "origin": origin,
        "values": {q.value: value for q, value in named if value is not None} | (extra or {}),
    }


async def make_partitions(tx: Transaction, now: datetime) -> int:
    """Make the monthly partitions of this month and the next two; returns how many were new.

    Called at every start and every day. Nothing is lost when it is not: rows without a month go to
    the default partition and move along when their month is made. On TimescaleDB it does nothing.
    """
    if await tx.value(
        "SELECT NOT EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = 'reading'::regclass)"
    ):
        return 0
    made = 0
    for months in range(3):
        made += await tx.value(
            "SELECT make_reading_month((date_trunc('month', %s AT TIME ZONE 'UTC')"
            " + make_interval(months => %s))::date)::integer",
            now,
            months,
        )
    return made
