"""What the meters said: stored once each, however often it is sent here.

The key is (meter, instant), so a batch whose commit was not heard is simply stored again. Rows go
in sorted by that key: unsorted writers deadlock with each other. The last reading of each meter is
kept by the same statement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg.types.json import Jsonb

from headend.store.database import Row, Transaction
from protocols.reading import Origin, Reading
from protocols.reading import Quantity as Q

# Settings that change by hand, under the same names in one jsonb column: rarely read.
IN_EXTRA: Final = frozenset(
    {
        # Of few meters among many: a column of nulls each would be dearer.
        Q.VOLUME,
        Q.VOLUME_SETTLED,
        Q.HEAT,
        Q.HEAT_SETTLED,
        Q.HEAT_POWER,
        Q.FLOW,
        Q.SUPPLY_TEMPERATURE,
        Q.RETURN_TEMPERATURE,
        Q.HOURS,
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
# The columns of reading and of the temporary table, and their types.
NAMES: Final = ("meter_id", "at", "received_at", "origin", *(q.value for q in COLUMNS), "extra")
TYPES: Final = (
    "int4",
    "timestamptz",
    "timestamptz",
    "text",
    *("int4" if q in IN_INT4 else "int8" for q in COLUMNS),
    "jsonb",
)
_LIST: Final = ", ".join(NAMES)
# What boards and rules look at for every meter at once; kept beside the readings.
ON_BOARDS: Final = (
    Q.ENERGY,
    Q.REMAINING_CREDIT,
    Q.TOTAL_PURCHASED,
    Q.PURCHASE_COUNT,
    Q.POWER,
    Q.RELAY_CLOSED,
    Q.ALARMS,
    Q.CONTROLS,
)
LAST_NAMES: Final = ("meter_id", "at", "received_at", "origin", *(q.value for q in ON_BOARDS))

# How far an honest instant may lie after its arrival: two clocks that are not quite set.
AHEAD_MAX: Final = timedelta(minutes=10)

_NO_VALUES: Final = (None,) * (len(COLUMNS) + 1)
# By name, because hashing an Enum member runs Python code: a third of the time of a batch.
_PLACES: Final = {q.value: NAMES.index(q.value) for q in COLUMNS}

# Up to here one statement with an array for each column is faster than COPY by way of a temporary
# table (bench/readings.py).
SMALL_BATCH_ROWS_MAX = 10


def _store_from(incoming: str) -> str:
    """The idempotent statement over rows that come in the order of (meter, instant).

    The newest row of each meter becomes its last reading, and every row that is new is stored.
    Neither part sorts: rows are inserted in the order in which a table is scanned.
    """
    news = ", ".join(f"{name} = excluded.{name}" for name in LAST_NAMES[1:])
    last_list = ", ".join(LAST_NAMES)
    # A box that pushes energy only says nothing about the credit: an old credit under a new instant
    # would be a lie, and no credit at all would be forgetting what is known.
    tells_all = " AND ".join(
        f"(excluded.{q.value} IS NOT NULL OR meter_last.{q.value} IS NULL)" for q in ON_BOARDS
    )
    return f"""
        WITH {incoming} last AS (
            INSERT INTO meter_last ({last_list})
            SELECT {last_list} FROM incoming WHERE is_newest
            ON CONFLICT (meter_id) DO UPDATE SET {news}
            WHERE meter_last.at < excluded.at AND (excluded.origin <> 'pushed' OR ({tells_all}))
        )
        INSERT INTO reading ({_LIST})
        SELECT {_LIST} FROM incoming
        ON CONFLICT (meter_id, at) DO NOTHING"""


_ARRAYS: Final = ", ".join(f"%s::{kind}[]" for kind in (*TYPES, "bool"))
_STORE_SMALL: Final = _store_from(
    f"incoming AS MATERIALIZED (SELECT * FROM unnest({_ARRAYS}) AS incoming ({_LIST}, is_newest)),"
)
_STORE_LARGE: Final = _store_from("")  # from the temporary table of that name


async def store_readings(tx: Transaction, readings: Sequence[Reading]) -> int:
    """Store what is not there yet; returns how many readings were new. Any order, any repeats."""
    if not readings:
        return 0
    if len(readings) <= SMALL_BATCH_ROWS_MAX:
        columns = (list(column) for column in zip(*_rows_in_order(readings), strict=True))
        return await tx.execute(_STORE_SMALL, *columns)
    await copy_to_incoming(tx, readings)
    return await tx.execute(_STORE_LARGE)


def _rows_in_order(readings: Sequence[Reading]) -> Iterator[list[Any]]:
    """Rows by (meter, instant), each with whether it is the newest of its meter.

    A reading dated in the future (a dial gone wrong) is kept as it came, but it may not pose as
    the last one for years.
    """
    in_order = sorted(readings, key=_meter_and_instant)
    newest: dict[int, Reading] = {}
    for reading in in_order:
        if reading.at <= reading.received_at + AHEAD_MAX and not (
            reading.origin is Origin.PUSHED and _tells_less(reading, newest.get(reading.meter_id))
        ):
            newest[reading.meter_id] = reading
    # One by one, so that the server already takes the first while the last is being made.
    for reading in in_order:
        row = as_row(reading)
        is_newest = newest.get(reading.meter_id) is reading
        if is_newest:
            del newest[reading.meter_id]  # the same reading may come twice
        row.append(is_newest)
        yield row


def _tells_less(reading: Reading, than: Reading | None) -> bool:
    return than is not None and any(q in than.values and q not in reading.values for q in ON_BOARDS)


def _meter_and_instant(reading: Reading) -> tuple[int, datetime]:
    return reading.meter_id, reading.at


def as_row(reading: Reading) -> list[Any]:
    """The reading in the order of NAMES."""
    row: list[Any] = [reading.meter_id, reading.at, reading.received_at, reading.origin.value]
    row += _NO_VALUES
    extra: dict[str, int] = {}
    for quantity, value in reading.values.items():
        name = quantity.value
        place = _PLACES.get(name)
        if place is None:
            extra[name] = value
        else:
            row[place] = value
    if extra:
        row[-1] = Jsonb(extra)
    return row


async def copy_to_incoming(tx: Transaction, readings: Sequence[Reading]) -> None:
    """Readings into the temporary table `incoming`, in the order of (meter, instant)."""
    # Made once for each connection and emptied by every commit.
    await tx.execute(
        "CREATE TEMP TABLE IF NOT EXISTS incoming (LIKE reading, is_newest boolean)"
        " ON COMMIT DELETE ROWS"
    )
    copy_sql = f"COPY incoming ({_LIST}, is_newest) FROM STDIN (FORMAT BINARY)"
    async with tx.connection.cursor() as cursor, cursor.copy(copy_sql) as copy:
        copy.set_types((*TYPES, "bool"))
        for row in _rows_in_order(readings):
            await copy.write_row(row)


async def last_readings(
    tx: Transaction, meter_ids: Collection[int] | None = None
) -> dict[int, dict[str, Any]]:
    """The newest reading of each meter as a JSON record: at, received_at, origin, values.

    The values are those of ON_BOARDS; `series` has the whole readings.
    """
    where = "" if meter_ids is None else " WHERE meter_id = ANY(%s)"
    parameters = () if meter_ids is None else (list(meter_ids),)
    columns = ", ".join(LAST_NAMES)
    rows = await tx.rows(f"SELECT {columns} FROM meter_last{where}", *parameters)
    return {row[0]: _as_record(row, ON_BOARDS, None) for row in rows}


async def last_energies_wh(tx: Transaction) -> dict[int, int]:
    """The newest total energy of each meter, to notice a counter that fell.

    What a device counted that hangs there no more is no measure for the one that does.
    """
    rows = await tx.rows(
        """
        SELECT meter_id, energy_wh FROM meter_last AS last
        WHERE energy_wh IS NOT NULL AND NOT EXISTS (SELECT FROM meter_exchange AS exchanged
            WHERE exchanged.meter_id = last.meter_id AND exchanged.at >= last.at)"""
    )
    return {row[0]: row[1] for row in rows}


async def last_instant(tx: Transaction, meter_id: int) -> datetime | None:
    """The instant of the newest reading of one meter."""
    row = await tx.row("SELECT at FROM meter_last WHERE meter_id = %s", meter_id)
    return row[0] if row else None


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
    return [_as_record(row[:-1], COLUMNS, row[-1]) for row in rows]


async def around_orders(
    tx: Transaction, meter_id: int, since: datetime, until: datetime, *, near: timedelta, limit: int
) -> list[dict[str, Any]]:
    """The readings of nights, and all those this near an order, oldest first, at most `limit`."""
    rows = await tx.rows(
        f"""
        SELECT {_LIST} FROM reading
        WHERE meter_id = %(meter_id)s AND at >= %(since)s AND at < %(until)s AND (
            at IN (SELECT reading_at FROM night_cell WHERE night_cell.meter_id = %(meter_id)s)
            OR EXISTS (SELECT FROM command WHERE command.meter_id = %(meter_id)s
                AND reading.at >= ordered_at - %(near)s AND reading.at <= changed_at + %(near)s))
        ORDER BY at LIMIT %(limit)s""",
        named={"meter_id": meter_id, "since": since, "until": until, "near": near, "limit": limit},
    )
    return [_as_record(row[:-1], COLUMNS, row[-1]) for row in rows]


def _as_record(row: Row, quantities: Sequence[Q], extra: dict[str, int] | None) -> dict[str, Any]:
    _, at, received_at, origin, *values = row
    named = zip(quantities, values, strict=True)
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
